#include "runtime/kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "cuda/cast_bits.h"
#include "runtime/kernels/attention_job.h"

namespace berth {
namespace {

constexpr std::size_t kQ8Elements = 32;
constexpr std::size_t kQ8Bytes = 34;
constexpr std::size_t kQueriesAtOnce = 32;
constexpr std::size_t kHeadsAtOnce = 16;
constexpr std::size_t kFewHeads = 4;  // fewer share too little of the work of reading keys

template <class Bits>
void put(std::byte* to, std::size_t i, Bits bits) {
  std::memcpy(to + i * sizeof bits, &bits, sizeof bits);
}
template <class Bits>
Bits get(const std::byte* from, std::size_t i) {
  Bits bits;
  std::memcpy(&bits, from + i * sizeof bits, sizeof bits);
  return bits;
}

// ggml's quantize_row_q8_0_ref: the largest of 32 becomes 127. Where one of them is NaN or
// infinite, the scale is NaN, and so are all 32: integers could not say it.
void store_q8_0(std::span<const float> values, std::byte* to) {
  for (std::size_t b = 0; b < values.size() / kQ8Elements; ++b, to += kQ8Bytes) {
    const float* from = values.data() + b * kQ8Elements;
    float most = 0;
    bool finite = true;
    for (std::size_t i = 0; i < kQ8Elements; ++i) {
      most = std::max(most, std::fabs(from[i]));
      finite = finite && std::isfinite(from[i]);
    }
    if (!finite) {
      put(to, 0, float_to_f16(std::numeric_limits<float>::quiet_NaN()));
      std::fill_n(to + 2, kQ8Elements, std::byte{0});
      continue;
    }
    const float scale = most / 127;
    const float inverse = scale > 0 ? 1 / scale : 0;
    put(to, 0, float_to_f16(scale));
    for (std::size_t i = 0; i < kQ8Elements; ++i) {
      to[2 + i] = static_cast<std::byte>(static_cast<std::int8_t>(std::round(from[i] * inverse)));
    }
  }
}

void load_q8_0(const std::byte* from, std::span<float> values) {
  for (std::size_t b = 0; b < values.size() / kQ8Elements; ++b, from += kQ8Bytes) {
    const float scale = f16_to_float(get<std::uint16_t>(from, 0));
    for (std::size_t i = 0; i < kQ8Elements; ++i) {
      values[b * kQ8Elements + i] = scale * static_cast<float>(get<std::int8_t>(from + 2, i));
    }
  }
}

// FP8 of the OCP's 8-bit specification. E4M3 has 3 bits of mantissa and a bias of 7, and no
// infinity: its largest number is 448. E5M2 has 2 and 15: 57,344.
struct F8Kind {
  int mantissa;
  int bias;
  float most;
  std::uint8_t nan;
};
constexpr F8Kind kE4M3{3, 7, 448, 0x7F};
constexpr F8Kind kE5M2{2, 15, 57344, 0x7E};

std::uint8_t float_to_f8(float value, const F8Kind& kind) {
  const std::uint8_t sign = std::signbit(value) ? 0x80 : 0;
  if (std::isnan(value)) return sign | kind.nan;
  const float magnitude = std::min(std::fabs(value), kind.most);
  // In units of the last bit: those of the exponent, but no smaller than a denormal's.
  const int exponent = magnitude > 0 ? std::max(std::ilogb(magnitude), 1 - kind.bias) : 0;
  if (magnitude == 0) return sign;
  const auto units =
      static_cast<int>(std::nearbyintf(std::ldexp(magnitude, kind.mantissa - exponent)));
  // A mantissa that was rounded up to the next power carries into the exponent by itself.
  const int biased = exponent + kind.bias - 1;
  return static_cast<std::uint8_t>(sign | ((biased << kind.mantissa) + units));
}

float f8_to_float(std::uint8_t bits, const F8Kind& kind) {
  const int fields = bits & 0x7F;
  const int exponent = fields >> kind.mantissa;
  const int mantissa = fields & ((1 << kind.mantissa) - 1);
  const bool e5m2 = kind.mantissa == 2;
  float value;
  if (e5m2 && exponent == 31) {
    value = mantissa == 0 ? std::numeric_limits<float>::infinity()
                          : std::numeric_limits<float>::quiet_NaN();
  } else if (!e5m2 && fields == 0x7F) {
    value = std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == 0) {
    value = std::ldexp(static_cast<float>(mantissa), 1 - kind.bias - kind.mantissa);
  } else {
    value = std::ldexp(static_cast<float>(mantissa + (1 << kind.mantissa)),
                       exponent - kind.bias - kind.mantissa);
  }
  return (bits & 0x80) != 0 ? -value : value;
}

// Every F8 number, for loading.
struct F8Table {
  explicit F8Table(const F8Kind& kind) {
    for (int i = 0; i < 256; ++i) value[i] = f8_to_float(static_cast<std::uint8_t>(i), kind);
  }
  float value[256];
};

const F8Table& f8_table(CacheFormat format) {
  static const F8Table e4m3(kE4M3);
  static const F8Table e5m2(kE5M2);
  return format == CacheFormat::kF8E4M3 ? e4m3 : e5m2;
}

float capped(float score, const AttentionSettings& settings) {
  score *= settings.scale;
  return settings.softcap > 0 ? settings.softcap * std::tanh(score / settings.softcap) : score;
}

std::size_t first_seen(const AttentionSettings& settings, std::size_t position) {
  return settings.window > 0 && position + 1 > settings.window ? position + 1 - settings.window : 0;
}

}  // namespace

std::optional<CacheFormat> cache_format(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return CacheFormat::kF32;
    case DType::kF16:
      return CacheFormat::kF16;
    case DType::kBF16:
      return CacheFormat::kBF16;
    case DType::kQ8_0:
      return CacheFormat::kQ8_0;
    case DType::kF8E4M3:
      return CacheFormat::kF8E4M3;
    case DType::kF8E5M2:
      return CacheFormat::kF8E5M2;
    default:
      return std::nullopt;
  }
}

std::size_t cache_vector_bytes(CacheFormat format, std::size_t head_dim) {
  switch (format) {
    case CacheFormat::kF32:
      return 4 * head_dim;
    case CacheFormat::kF16:
    case CacheFormat::kBF16:
      return 2 * head_dim;
    case CacheFormat::kQ8_0:
      return head_dim / kQ8Elements * kQ8Bytes;
    case CacheFormat::kF8E4M3:
    case CacheFormat::kF8E5M2:
      break;
  }
  return head_dim;
}

void store_vector(CacheFormat format, std::span<const float> values, std::byte* to) {
  switch (format) {
    case CacheFormat::kF32:
      std::memcpy(to, values.data(), values.size_bytes());
      return;
    case CacheFormat::kF16:
      for (std::size_t i = 0; i < values.size(); ++i) put(to, i, float_to_f16(values[i]));
      return;
    case CacheFormat::kBF16:
      for (std::size_t i = 0; i < values.size(); ++i) put(to, i, float_to_bf16(values[i]));
      return;
    case CacheFormat::kQ8_0:
      store_q8_0(values, to);
      return;
    case CacheFormat::kF8E4M3:
    case CacheFormat::kF8E5M2: {
      const F8Kind& kind = format == CacheFormat::kF8E4M3 ? kE4M3 : kE5M2;
      for (std::size_t i = 0; i < values.size(); ++i) put(to, i, float_to_f8(values[i], kind));
      return;
    }
  }
}

void load_vector(CacheFormat format, const std::byte* from, std::span<float> values) {
  switch (format) {
    case CacheFormat::kF32:
      std::memcpy(values.data(), from, values.size_bytes());
      return;
    case CacheFormat::kF16:
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = f16_to_float(get<std::uint16_t>(from, i));
      }
      return;
    case CacheFormat::kBF16:
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = bf16_to_float(get<std::uint16_t>(from, i));
      }
      return;
    case CacheFormat::kQ8_0:
      load_q8_0(from, values);
      return;
    case CacheFormat::kF8E4M3:
    case CacheFormat::kF8E5M2: {
      const F8Table& table = f8_table(format);
      for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = table.value[get<std::uint8_t>(from, i)];
      }
      return;
    }
  }
}

void load_elements(CacheFormat format, const std::byte* from, std::size_t count, float* values) {
  load_vector(format, from, std::span(values, count));
}

void attend(const CacheView& cache, const AttentionSettings& settings, std::size_t first,
            std::size_t count, const float* queries, std::size_t query_stride, float* out,
            std::vector<float>& space, ThreadTeam& team, const InstructionSet& set) {
  // A piece of work is some neighbouring queries and some heads that share a KV head: no more heads
  // than the threads need to have something to do each, or than a cache holds.
  const std::size_t runs = (count + kQueriesAtOnce - 1) / kQueriesAtOnce;
  const std::size_t group = settings.heads / cache.kv_heads;
  std::size_t heads = std::min(group, kHeadsAtOnce);
  while (heads > kFewHeads && runs * cache.kv_heads * (group / heads) < team.size()) heads /= 2;
  const std::size_t parts = (group + heads - 1) / heads;
  const std::size_t jobs = runs * cache.kv_heads * parts;
  const std::size_t rows = std::min(kQueriesAtOnce, count) * heads;
  const bool own_values = cache.values != nullptr;
  const std::size_t key_dim = padded_to_lanes(cache.key_dim);
  const std::size_t value_dim = padded_to_lanes(cache.value_dim);
  const std::size_t each = kKeysAtOnce * (key_dim + (own_values ? value_dim : 0)) +
                           rows * (key_dim + value_dim) + 2 * rows;
  space.resize(each * team.size());
  team.run(jobs, [&](std::size_t job, std::size_t thread) {
    float* at = space.data() + each * thread;
    const auto take = [&](std::size_t count_of) { return std::exchange(at, at + count_of); };
    AttentionSpace own;
    own.keys = take(kKeysAtOnce * key_dim);
    own.values = own_values ? take(kKeysAtOnce * value_dim) : own.keys;
    own.queries = take(rows * key_dim);
    own.sums = take(rows * value_dim);
    own.most = take(rows);
    own.total = take(rows);
    // From the last queries on: they see most, so what is left at the end is short.
    const std::size_t run = runs - 1 - job / (cache.kv_heads * parts);
    const std::size_t begin = run * kQueriesAtOnce;
    const std::size_t kv_head = job / parts % cache.kv_heads;
    const std::size_t head = job % parts * heads;
    set.attention(
        {cache, settings, first, begin, std::min(kQueriesAtOnce, count - begin), kv_head,
         kv_head * group + head, std::min(heads, group - head), queries, query_stride, out},
        own);
  });
}

void attend_reference(const CacheView& cache, const AttentionSettings& settings, std::size_t first,
                      std::size_t count, const float* queries, float* out) {
  const std::size_t group = settings.heads / cache.kv_heads;
  std::vector<float> vector(std::max(cache.key_dim, cache.value_dim));
  for (std::size_t q = 0; q < count; ++q) {
    for (std::size_t head = 0; head < settings.heads; ++head) {
      const float* query = queries + (q * settings.heads + head) * cache.key_dim;
      float* result = out + (q * settings.heads + head) * cache.value_dim;
      const std::size_t begin = first_seen(settings, first + q);
      std::vector<double> weights;
      double most = settings.sinks != nullptr ? settings.sinks[head]
                                              : -std::numeric_limits<double>::infinity();
      for (std::size_t p = begin; p <= first + q; ++p) {
        load_vector(cache.format, cache.key(p, head / group),
                    std::span(vector).first(cache.key_dim));
        double score = 0;
        for (std::size_t i = 0; i < cache.key_dim; ++i) {
          score += static_cast<double>(query[i]) * vector[i];
        }
        weights.push_back(capped(static_cast<float>(score), settings));
        most = std::max(most, weights.back());
      }
      double total = settings.sinks != nullptr ? std::exp(settings.sinks[head] - most) : 0;
      for (double& weight : weights) total += weight = std::exp(weight - most);
      std::vector<double> sums(cache.value_dim, 0);
      for (std::size_t p = begin; p <= first + q; ++p) {
        load_vector(cache.format, cache.value(p, head / group),
                    std::span(vector).first(cache.value_dim));
        for (std::size_t i = 0; i < cache.value_dim; ++i) {
          sums[i] += weights[p - begin] / total * vector[i];
        }
      }
      for (std::size_t i = 0; i < cache.value_dim; ++i) result[i] = static_cast<float>(sums[i]);
    }
  }
}

}  // namespace berth
