// The loops of attention, compiled once for each instruction set: see product_loops.h.
#include <math.h>

#include "runtime/kernels/cached_vectors.h"
#include "runtime/kernels/vector_math.h"

namespace berth {
namespace {

// Not std::min and std::max: they would be compiled for this instruction set, and the linker could
// choose them for the whole program.
BERTH_INLINE std::size_t least(std::size_t a, std::size_t b) { return a < b ? a : b; }
BERTH_INLINE std::size_t greatest(std::size_t a, std::size_t b) { return a < b ? b : a; }

// 0, 1, 2 and so on.
BERTH_INLINE Ints numbers() { return Ints{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}; }

// The keys of a block that a query sees: `begin` to `end`.
struct Range {
  std::size_t begin;
  std::size_t end;
};

// What one query has made of the keys so far.
struct Row {
  const float* query;
  float* sums;
  float* most;
  float* total;
};

// Sums of a row that are added to at the same time: one alone would wait for its own last addition.
constexpr std::size_t kSumsAtOnce = 4;

// The products of the rows' queries with 16 keys, lane by lane, from key `first` on. Instead of
// keys that are not seen, the nearest that is.
template <std::size_t kRows>
BERTH_INLINE void multiply_keys(const Row (&rows)[kRows], const float* keys, std::size_t key_dim,
                                std::size_t first, const Range& seen,
                                Floats (&products)[kRows][kLanes]) {
  for (std::size_t k = 0; k < kLanes; k += kSumsAtOnce) {
    const float* key[kSumsAtOnce];
    Floats sums[kRows][kSumsAtOnce] = {};
#pragma GCC unroll 4
    for (std::size_t s = 0; s < kSumsAtOnce; ++s) {
      key[s] = keys + least(greatest(first + k + s, seen.begin), seen.end - 1) * key_dim;
    }
    for (std::size_t i = 0; i < key_dim; i += kLanes) {
      Floats part[kRows];
#pragma GCC unroll 2
      for (std::size_t r = 0; r < kRows; ++r) part[r] = load<Floats>(rows[r].query + i);
#pragma GCC unroll 4
      for (std::size_t s = 0; s < kSumsAtOnce; ++s) {
        const Floats own = in_register(load<Floats>(key[s] + i));
#pragma GCC unroll 2
        for (std::size_t r = 0; r < kRows; ++r) sums[r][s] = fma(part[r], own, sums[r][s]);
      }
    }
#pragma GCC unroll 2
    for (std::size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (std::size_t s = 0; s < kSumsAtOnce; ++s) products[r][k + s] = sums[r][s];
    }
  }
}

// Of each pair the greater, or what is NaN.
BERTH_INLINE Floats greater(Floats a, Floats b) { return b > a || b != b ? b : a; }

BERTH_INLINE float greatest_lane(Floats lanes) {
  float values[kLanes];
  std::memcpy(values, &lanes, sizeof values);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) {
      const float other = values[i + half];
      if (other > values[i] || __builtin_isnan(other)) values[i] = other;
    }
  }
  return values[0];
}

BERTH_INLINE Floats capped(Floats scores, float cap) {
  float values[kLanes];
  std::memcpy(values, &scores, sizeof values);
  for (float& value : values) value = cap * ::tanhf(value / cap);
  return load<Floats>(values);
}

// Adds weight x value, key by key, to `kCount` registers of each row's sums, from element `at` on.
template <std::size_t kCount, std::size_t kRows>
BERTH_INLINE void add_values(const Row (&rows)[kRows], const float (&rescale)[kRows],
                             const float (&weights)[kRows][kKeysAtOnce], const float* values,
                             std::size_t stride, const Range& seen, std::size_t at) {
  Floats sums[kRows][kCount];
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t s = 0; s < kCount; ++s) {
      sums[r][s] = load<Floats>(rows[r].sums + at + s * kLanes) * rescale[r];
    }
  }
  for (std::size_t k = seen.begin; k < seen.end; ++k) {
    Floats weight[kRows];
#pragma GCC unroll 2
    for (std::size_t r = 0; r < kRows; ++r) weight[r] = broadcast(weights[r][k]);
#pragma GCC unroll 4
    for (std::size_t s = 0; s < kCount; ++s) {
      const Floats value = in_register(load<Floats>(values + k * stride + at + s * kLanes));
#pragma GCC unroll 2
      for (std::size_t r = 0; r < kRows; ++r) sums[r][s] = fma(weight[r], value, sums[r][s]);
    }
  }
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t s = 0; s < kCount; ++s) store(sums[r][s], rows[r].sums + at + s * kLanes);
  }
}

constexpr std::size_t kKeyParts = kKeysAtOnce / kLanes;

// Makes weights of the scores of a block. Returns what multiplies the sums so far.
BERTH_INLINE float weigh(const Row& row, const Floats (&scores)[kKeyParts],
                         float (&weights)[kKeysAtOnce]) {
  Floats lanes = broadcast(*row.most);
  for (const Floats& part : scores) lanes = greater(lanes, part);
  const float most = greatest_lane(lanes);
  const float rescale = __builtin_isinf(*row.most) ? 0 : ::expf(*row.most - most);
  Floats total{};
  for (std::size_t part = 0; part < kKeyParts; ++part) {
    const Floats some = exp_of(scores[part] - most);
    store(some, weights + part * kLanes);
    total += some;
  }
  *row.most = most;
  *row.total = *row.total * rescale + sum_of(total);
  return rescale;
}

// What the keys of a block are to rows that see the same of them.
template <std::size_t kRows>
void add_keys(const Row (&rows)[kRows], const AttentionSettings& settings,
              const AttentionSpace& space, std::size_t key_dim, std::size_t value_dim,
              std::size_t value_stride, const Range& seen) {
  Floats scores[kRows][kKeyParts];
  for (std::size_t part = 0; part < kKeyParts; ++part) {
    const std::size_t first = part * kLanes;
    const bool some = first < seen.end && first + kLanes > seen.begin;
    Floats products[kRows][kLanes];
    if (some) multiply_keys<kRows>(rows, space.keys, key_dim, first, seen, products);
    const Ints key = numbers() + static_cast<std::int32_t>(first);
    const Ints inside = (key >= static_cast<std::int32_t>(seen.begin)) &
                        (key < static_cast<std::int32_t>(seen.end));
    for (std::size_t r = 0; r < kRows; ++r) {
      scores[r][part] = broadcast(-__builtin_inff());
      if (!some) continue;
      Floats found = sums_of(products[r]) * settings.scale;
      if (settings.softcap > 0) found = capped(found, settings.softcap);
      scores[r][part] = inside ? found : scores[r][part];
    }
  }
  float weights[kRows][kKeysAtOnce];
  float rescale[kRows];
  for (std::size_t r = 0; r < kRows; ++r) rescale[r] = weigh(rows[r], scores[r], weights[r]);
  std::size_t i = 0;
  for (; i + kSumsAtOnce * kLanes <= value_dim; i += kSumsAtOnce * kLanes) {
    add_values<kSumsAtOnce, kRows>(rows, rescale, weights, space.values, value_stride, seen, i);
  }
  for (; i < value_dim; i += kLanes) {
    add_values<1, kRows>(rows, rescale, weights, space.values, value_stride, seen, i);
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
  const auto key_at = [&](std::size_t position) {
    return (position >= cache.fresh_first ? cache.fresh_keys : cache.keys) +
           place_of(cache, job.kv_head, position) * key_bytes;
  };
  const auto value_at = [&](std::size_t position) {
    return (position >= cache.fresh_first ? cache.fresh_values : cache.values) +
           place_of(cache, job.kv_head, position) * value_bytes;
  };
  const std::size_t low = first_seen(job.first + job.begin);
  const std::size_t last = job.first + job.begin + job.count - 1;
  for (std::size_t block = low / kKeysAtOnce * kKeysAtOnce; block <= last; block += kKeysAtOnce) {
    const std::size_t end = least(block + kKeysAtOnce, last + 1);
    for (std::size_t p = greatest(block, low); p < end; ++p) {
      // What is needed next comes from memory while this block is computed with.
      const std::size_t next = least(p + kKeysAtOnce, last);
      fetch(key_at(next), key_bytes);
      if (block <= low) fetch(key_at(least(p + kSoon, last)), key_bytes);
      load_cached(cache.format, key_at(p), cache.key_dim, space.keys + (p - block) * key_dim);
      if (!own_values) continue;
      fetch(value_at(next), value_bytes);
      if (block <= low) fetch(value_at(least(p + kSoon, last)), value_bytes);
      load_cached(cache.format, value_at(p), cache.value_dim,
                  space.values + (p - block) * value_dim);
    }
    const auto seen_by = [&](std::size_t row) -> Range {
      const std::size_t position = job.first + job.begin + row / heads;
      const std::size_t after = greatest(block, least(end, position + 1));
      return {greatest(block, first_seen(position)) - block, after - block};
    };
    const auto state = [&](std::size_t row) -> Row {
      return {space.queries + row * key_dim, space.sums + row * value_dim, space.most + row,
              space.total + row};
    };
    for (std::size_t row = 0; row < rows;) {
      const Range seen = seen_by(row);
      const Range next = row + 1 < rows ? seen_by(row + 1) : Range{};
      const bool two = row + 1 < rows && next.begin == seen.begin && next.end == seen.end;
      if (seen.begin < seen.end && two) {
        add_keys<2>({state(row), state(row + 1)}, settings, space, key_dim, value_dim, value_stride,
                    seen);
      } else if (seen.begin < seen.end) {
        add_keys<1>({state(row)}, settings, space, key_dim, value_dim, value_stride, seen);
      }
      row += two ? 2 : 1;
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
