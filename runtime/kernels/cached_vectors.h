// How the loops of attention read the vectors of a cache. As vector_ops.h, this is compiled once
// for each instruction set.
#pragma once

#include "runtime/kernels/attention.h"
#include "runtime/kernels/attention_job.h"
#include "runtime/kernels/vector_ops.h"

namespace berth {
namespace {

// Sixteen elements of a cached vector.
BERTH_INLINE Floats cached(CacheFormat format, const std::byte* from, std::size_t at) {
  switch (format) {
    case CacheFormat::kF32:
      return load<Floats>(from + 4 * at);
    case CacheFormat::kF16:
      return halves(from + 2 * at);
    case CacheFormat::kBF16:
      return bf16_floats(from + 2 * at);
    case CacheFormat::kQ8_0: {
      const std::byte* block = from + at / 32 * 34;
      std::uint16_t scale;
      std::memcpy(&scale, block, sizeof scale);
      const auto* const bytes = reinterpret_cast<const std::int8_t*>(block + 2 + at % 32);
      return f16_to_float(scale) * signed_bytes(bytes);
    }
    default:
      break;
  }
  float values[kLanes];
  load_elements(format, from + at, kLanes, values);
  return load<Floats>(values);
}

// A whole cached vector, filled up with zeros.
void load_cached(CacheFormat format, const std::byte* from, std::size_t dim, float* to) {
  std::size_t i = 0;
  for (; i + kLanes <= dim; i += kLanes) {
    const Floats part = cached(format, from, i);
    std::memcpy(to + i, &part, sizeof part);
  }
  if (i == dim) return;
  // Only formats of single elements have such vectors.
  load_elements(format, from + cache_vector_bytes(format, i), dim - i, to + i);
  for (std::size_t j = dim; j < padded_to_lanes(dim); ++j) to[j] = 0;
}

// Which vector of a cache is that of a position.
BERTH_INLINE std::size_t place_of(const CacheView& cache, std::size_t kv_head,
                                  std::size_t position) {
  const std::size_t at = position >= cache.fresh_first ? position - cache.fresh_first
                         : position < cache.capacity   ? position
                                                       : position % cache.capacity;
  return at * cache.kv_heads + kv_head;
}

BERTH_INLINE void fetch(const std::byte* from, std::size_t bytes) {
  for (std::size_t line = 0; line < bytes; line += 64) __builtin_prefetch(from + line);
}

// How many positions earlier the vectors of the first block are fetched: of a short cache there is
// no other block, and they lie too far apart for a processor to fetch them by itself.
constexpr std::size_t kSoon = 8;

}  // namespace
}  // namespace berth
