// The loops of attention, compiled once for each instruction set: see product_loops.h.
#include <math.h>

#include "runtime/kernels/attention.h"
#include "runtime/kernels/attention_job.h"
#include "runtime/kernels/vector_math.h"
#include "runtime/kernels/vector_ops.h"

namespace berth {
namespace {

// Not std::min and std::max: they would be compiled for this instruction set, and the linker could
// choose them for the whole program.
BERTH_INLINE std::size_t least(std::size_t a, std::size_t b) { return a < b ? a : b; }
BERTH_INLINE std::size_t greatest(std::size_t a, std::size_t b) { return a < b ? b : a; }

// Sixteen elements of a cached vector.
BERTH_INLINE Floats cached(CacheFormat format, const std::byte* from, std::size_t at) {
  switch (format) {
    case CacheFormat::kF32:
      return load<Floats>(from + 4 * at);
    case CacheFormat::kF16:
      return halves(from + 2 * at);
    case CacheFormat::kBF16: {
      using SixteenWords = std::uint16_t __attribute__((vector_size(32)));
      const auto words = load<SixteenWords>(from + 2 * at);
      return reinterpret_cast<Floats>(__builtin_convertvector(words, Ints) << 16);
    }
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

// What one query makes of the keys begin to end of a block, which are rows of `space`.
struct Row {
  const float* query;
  float* sums;
  float& most;
  float& total;
};

void add_keys(const Row& row, const AttentionSettings& settings, const AttentionSpace& space,
              std::size_t key_dim, std::size_t value_dim, std::size_t value_stride,
              std::size_t begin, std::size_t end) {
  float scores[kKeysAtOnce];
  for (float& score : scores) score = -__builtin_inff();
  float most = row.most;
  for (std::size_t k = begin; k < end; ++k) {
    const float* key = space.keys + k * key_dim;
    Floats sums{};
    for (std::size_t i = 0; i < key_dim; i += kLanes) {
      sums = fma(load<Floats>(row.query + i), load<Floats>(key + i), sums);
    }
    float score = sum_of(sums) * settings.scale;
    if (settings.softcap > 0) score = settings.softcap * ::tanhf(score / settings.softcap);
    scores[k] = score;
    most = score > most || __builtin_isnan(score) ? score : most;  // a NaN stays
  }
  const float rescale = __builtin_isinf(row.most) ? 0 : ::expf(row.most - most);
  Floats weights[kKeysAtOnce / kLanes];
  Floats total{};
  for (std::size_t i = 0; i < kKeysAtOnce / kLanes; ++i) {
    weights[i] = exp_of(load<Floats>(scores + i * kLanes) - most);
    total += weights[i];
  }
  row.most = most;
  row.total = row.total * rescale + sum_of(total);
  float weight[kKeysAtOnce];
  std::memcpy(weight, weights, sizeof weight);
  for (std::size_t i = 0; i < value_dim; i += kLanes) {
    Floats sums = load<Floats>(row.sums + i) * rescale;
    for (std::size_t k = begin; k < end; ++k) {
      sums = fma(broadcast(weight[k]), load<Floats>(space.values + k * value_stride + i), sums);
    }
    std::memcpy(row.sums + i, &sums, sizeof sums);
  }
}

}  // namespace

void BERTH_LOOPS(attention)(const AttentionJob& job, const AttentionSpace& space) {
  const CacheView& cache = job.cache;
  const AttentionSettings& settings = job.settings;
  const std::size_t heads = job.heads;
  const std::size_t rows = job.count * heads;
  const std::size_t key_dim = padded_to_lanes(cache.key_dim);
  const std::size_t value_dim = padded_to_lanes(cache.value_dim);
  const bool own_values = cache.values != nullptr;
  const std::size_t value_stride = own_values ? value_dim : key_dim;
  for (std::size_t row = 0; row < rows; ++row) {
    const std::size_t head = job.head + row % heads;
    const float* query =
        job.queries + (job.begin + row / heads) * job.query_stride + head * cache.key_dim;
    for (std::size_t i = 0; i < key_dim; ++i) {
      space.queries[row * key_dim + i] = i < cache.key_dim ? query[i] : 0;
    }
    for (std::size_t i = 0; i < value_dim; ++i) space.sums[row * value_dim + i] = 0;
    const bool sink = settings.sinks != nullptr;
    space.most[row] = sink ? settings.sinks[head] : -__builtin_inff();
    space.total[row] = sink ? 1 : 0;
  }
  const auto first_seen = [&](std::size_t position) {
    return settings.window > 0 && position + 1 > settings.window ? position + 1 - settings.window
                                                                 : std::size_t{0};
  };
  const std::size_t key_bytes = cache_vector_bytes(cache.format, cache.key_dim);
  const std::size_t value_bytes = cache_vector_bytes(cache.format, cache.value_dim);
  const std::size_t low = first_seen(job.first + job.begin);
  const std::size_t last = job.first + job.begin + job.count - 1;
  for (std::size_t block = low / kKeysAtOnce * kKeysAtOnce; block <= last; block += kKeysAtOnce) {
    const std::size_t end = least(block + kKeysAtOnce, last + 1);
    for (std::size_t p = greatest(block, low); p < end; ++p) {
      const bool fresh = p >= cache.fresh_first;
      const std::size_t place =
          (fresh ? p - cache.fresh_first : p % cache.capacity) * cache.kv_heads + job.kv_head;
      load_cached(cache.format, (fresh ? cache.fresh_keys : cache.keys) + place * key_bytes,
                  cache.key_dim, space.keys + (p - block) * key_dim);
      if (!own_values) continue;
      load_cached(cache.format, (fresh ? cache.fresh_values : cache.values) + place * value_bytes,
                  cache.value_dim, space.values + (p - block) * value_dim);
    }
    for (std::size_t row = 0; row < rows; ++row) {
      const std::size_t position = job.first + job.begin + row / heads;
      const std::size_t from = greatest(block, first_seen(position));
      const std::size_t to = least(end, position + 1);
      if (from >= to) continue;
      add_keys({space.queries + row * key_dim, space.sums + row * value_dim, space.most[row],
                space.total[row]},
               settings, space, key_dim, value_dim, value_stride, from - block, to - block);
    }
  }
  for (std::size_t row = 0; row < rows; ++row) {
    const std::size_t place = (job.begin + row / heads) * settings.heads + job.head + row % heads;
    float* out = job.out + place * cache.value_dim;
    const float* sums = space.sums + row * value_dim;
    for (std::size_t i = 0; i < cache.value_dim; ++i) out[i] = sums[i] / space.total[row];
  }
}

}  // namespace berth
