// The casts against an independent reference, which follows the definitions of the formats and
// computes in double, for every 16-bit pattern and for random and awkward f32 and f64 values.
#include "cuda/cast.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace berth {
namespace {

// A binary format by the rules of IEEE 754: `bits` bits wide, of which `fraction` are the fraction.
struct Format {
  FloatFormat id;
  const char* name;
  int bits;
  int fraction;
  int bias() const { return (1 << (bits - fraction - 2)) - 1; }
  std::uint64_t exponent_mask() const { return (1ull << (bits - fraction - 1)) - 1; }
};
constexpr Format kFormats[] = {{FloatFormat::kBF16, "bf16", 16, 7},
                               {FloatFormat::kF16, "f16", 16, 10},
                               {FloatFormat::kF32, "f32", 32, 23},
                               {FloatFormat::kF64, "f64", 64, 52}};

bool is_nan(const Format& format, std::uint64_t bits) {
  const std::uint64_t magnitude = bits & ((1ull << (format.bits - 1)) - 1);
  return magnitude > format.exponent_mask() << format.fraction;
}

// The value of a pattern that is not a NaN. It is exact, because a double holds every value of
// these formats.
double value_of(const Format& format, std::uint64_t bits) {
  const bool negative = bits >> (format.bits - 1) & 1;
  const auto exponent = static_cast<int>(bits >> format.fraction & format.exponent_mask());
  const std::uint64_t fraction = bits & ((1ull << format.fraction) - 1);
  double value;
  if (static_cast<std::uint64_t>(exponent) == format.exponent_mask()) {
    value = std::numeric_limits<double>::infinity();
  } else if (exponent == 0) {
    value = std::ldexp(static_cast<double>(fraction), 1 - format.bias() - format.fraction);
  } else {
    value = std::ldexp(static_cast<double>(fraction | 1ull << format.fraction),
                       exponent - format.bias() - format.fraction);
  }
  return negative ? -value : value;
}

// The pattern that is nearest to `value`, ties to even: nearbyint() rounds like that by default.
std::uint64_t nearest_pattern(const Format& format, double value) {
  const std::uint64_t sign = std::signbit(value) ? 1ull << (format.bits - 1) : 0;
  const double magnitude = std::fabs(value);
  const std::uint64_t infinity = format.exponent_mask() << format.fraction;
  if (std::isinf(magnitude)) return sign | infinity;
  if (magnitude == 0) return sign;
  int exponent = std::max(std::ilogb(magnitude), 1 - format.bias());
  const double units = std::nearbyint(std::ldexp(magnitude, format.fraction - exponent));
  // A carry out of the fraction moves into the exponent by itself; so does one into infinity.
  const auto steps = static_cast<std::uint64_t>(units);
  const std::uint64_t hidden = 1ull << format.fraction;
  const std::uint64_t biased = static_cast<std::uint64_t>(exponent + format.bias() - 1);
  return sign | std::min((biased << format.fraction) + steps, infinity + 0 * hidden);
}

// A cast through f32, as torch does it.
std::uint64_t expected(const Format& from, const Format& to, std::uint64_t bits) {
  const Format& single = kFormats[2];
  if (is_nan(from, bits)) {
    if (to.id == FloatFormat::kBF16) return 0x7FC0;
    const std::uint64_t sign = (bits >> (from.bits - 1) & 1) << (to.bits - 1);
    std::uint64_t fraction = bits & ((1ull << from.fraction) - 1);
    // Leading fraction bits are kept, through the 23 of f32; the first is set: a quiet NaN.
    fraction =
        from.fraction > 23 ? fraction >> (from.fraction - 23) : fraction << (23 - from.fraction);
    fraction = to.fraction < 23 ? fraction >> (23 - to.fraction) : fraction << (to.fraction - 23);
    // bf16 widens by appending zeros, so there a signalling NaN stays one.
    const bool quiet = !(from.id == FloatFormat::kBF16 && to.id == FloatFormat::kF32);
    if (quiet) fraction |= 1ull << (to.fraction - 1);
    return sign | to.exponent_mask() << to.fraction | fraction;
  }
  const double through = value_of(single, nearest_pattern(single, value_of(from, bits)));
  return nearest_pattern(to, through);
}

void store(std::vector<unsigned char>& bytes, std::size_t at, int bits, std::uint64_t pattern) {
  std::memcpy(bytes.data() + at, &pattern, static_cast<std::size_t>(bits / 8));
}

std::uint64_t fetch(const std::vector<unsigned char>& bytes, std::size_t at, int bits) {
  std::uint64_t pattern = 0;
  std::memcpy(&pattern, bytes.data() + at, static_cast<std::size_t>(bits / 8));
  return pattern;
}

// Every pattern of a 16-bit format; for wider formats awkward patterns, and random ones of every
// exponent.
std::vector<std::uint64_t> patterns(const Format& format) {
  std::vector<std::uint64_t> result;
  if (format.bits == 16) {
    for (std::uint64_t bits = 0; bits < 65536; ++bits) result.push_back(bits);
    return result;
  }
  std::mt19937_64 random(11);
  const std::uint64_t mask = format.bits == 64 ? ~0ull : 0xFFFF'FFFFull;
  for (int i = 0; i < 100'000; ++i) result.push_back(random() & mask);
  // All values of both 16-bit formats, the points halfway between them, and their neighbours.
  for (const Format& narrow : {kFormats[0], kFormats[1]}) {
    for (std::uint64_t bits = 0; bits < 65536; ++bits) {
      if (is_nan(narrow, bits) || is_nan(narrow, bits + 1)) continue;
      const double value = value_of(narrow, bits);
      const double next = value_of(narrow, bits + 1);
      const double middle = std::isinf(next) ? value : value + (next - value) / 2;
      const std::uint64_t exact = nearest_pattern(format, middle);
      for (const std::uint64_t near : {exact - 1, exact, exact + 1}) result.push_back(near & mask);
    }
  }
  return result;
}

using CastFunction = void (*)(const void*, FloatFormat, void*, FloatFormat, std::size_t);

void compare_with_definition(CastFunction cast) {
  for (const Format& from : kFormats) {
    const std::vector<std::uint64_t> inputs = patterns(from);
    const std::size_t from_bytes = float_bytes(from.id);
    // One byte off alignment, as bytes from a shard may be.
    std::vector<unsigned char> source(1 + inputs.size() * from_bytes);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      store(source, 1 + i * from_bytes, from.bits, inputs[i]);
    }
    for (const Format& to : kFormats) {
      if (from.id == to.id) continue;
      std::vector<unsigned char> target(inputs.size() * float_bytes(to.id));
      cast(source.data() + 1, from.id, target.data(), to.id, inputs.size());
      for (std::size_t i = 0; i < inputs.size(); ++i) {
        ASSERT_EQ(fetch(target, i * float_bytes(to.id), to.bits), expected(from, to, inputs[i]))
            << from.name << " to " << to.name << " of 0x" << std::hex << inputs[i];
      }
    }
  }
}

TEST(Cast, ReferenceMatchesTheFormatsDefinition) { compare_with_definition(cast_reference); }
TEST(Cast, FastPathMatchesTheFormatsDefinition) { compare_with_definition(cast_on_host); }

TEST(Cast, WorksForEveryShortLength) {
  std::vector<std::uint16_t> source(70, 0x3F80);  // bf16: 1.0
  for (std::size_t count = 0; count < source.size(); ++count) {
    std::vector<float> target(count + 1, -1.0f);
    cast_on_host(source.data(), FloatFormat::kBF16, target.data(), FloatFormat::kF32, count);
    for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(target[i], 1.0f);
    ASSERT_EQ(target[count], -1.0f);
  }
}

TEST(Cast, SameFormatCopies) {
  const std::vector<float> source = {1.0f, -0.0f, 3.5f};
  std::vector<float> target(3);
  cast_on_host(source.data(), FloatFormat::kF32, target.data(), FloatFormat::kF32, 3);
  EXPECT_EQ(target, source);
}

}  // namespace
}  // namespace berth
