// Conversions of one element: from the bits of each format to f32, and back. They have no branches,
// so that a compiler can run a loop over them in vector registers. They are compiled for the device
// and, several times, for the host's instruction sets, which is why they are static.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define BERTH_BOTH static __host__ __device__ inline
#else
#define BERTH_BOTH static inline
#endif

namespace berth {

BERTH_BOTH std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

BERTH_BOTH float float_of(std::uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

BERTH_BOTH float bf16_to_float(std::uint16_t bits) {
  return float_of(static_cast<std::uint32_t>(bits) << 16);
}

// Adds 0x7FFF, and one more where the bits that are kept are odd: that carries into them exactly
// when rounding to nearest, ties to even, rounds up.
BERTH_BOTH std::uint16_t float_to_bf16(float value) {
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  return static_cast<std::uint16_t>(nan ? 0x7FC0u : rounded);
}

// A normal number's fields move up by 13 bits, and 112 is added to its exponent because f32 has
// another bias; for infinity and NaN it is 112 more. A denormal is its integer times 2^-24, which
// f32 holds exactly.
BERTH_BOTH float f16_to_float(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000u) << 16;
  const std::uint32_t magnitude = half & 0x7FFFu;
  const std::uint32_t normal = (magnitude << 13) + (112u << 23);
  const std::uint32_t special =
      (magnitude << 13) + (224u << 23) + ((magnitude > 0x7C00u && magnitude < 0x7E00u) << 22);
  const std::uint32_t denormal =
      bits_of(static_cast<float>(static_cast<std::int32_t>(magnitude)) * 5.9604644775390625e-8f);
  const std::uint32_t finite = magnitude < 0x400u ? denormal : normal;
  return float_of(sign | (magnitude >= 0x7C00u ? special : finite));
}

// Results below 2^-14 are denormal. Adding 0.5 to them makes f32's addition round at 2^-24, which
// is their last bit.
BERTH_BOTH std::uint16_t float_to_f16(float value) {
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  const std::uint32_t normal =
      (magnitude - (112u << 23) + 0x0FFFu + ((magnitude >> 13) & 1u)) >> 13;
  const std::uint32_t denormal = bits_of(float_of(magnitude) + 0.5f) - 0x3F000000u;
  const std::uint32_t nan = 0x7E00u | ((magnitude >> 13) & 0x3FFu);
  std::uint32_t result = magnitude < 0x38800000u ? denormal : normal;
  result = magnitude >= 0x47800000u ? 0x7C00u : result;
  result = magnitude > 0x7F800000u ? nan : result;
  return static_cast<std::uint16_t>(sign | result);
}

// The processor's conversion keeps the payload of a NaN. A GPU's does not, so there it is done by
// hand.
BERTH_BOTH float f64_to_float(std::uint64_t bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
#ifdef __CUDA_ARCH__
  if ((bits & 0x7FFFFFFFFFFFFFFFull) > 0x7FF0000000000000ull) {
    const std::uint32_t sign = static_cast<std::uint32_t>(bits >> 32) & 0x80000000u;
    return float_of(sign | 0x7FC00000u | (static_cast<std::uint32_t>(bits >> 29) & 0x3FFFFFu));
  }
#endif
  return static_cast<float>(value);
}

BERTH_BOTH std::uint64_t float_to_f64(float value) {
#ifdef __CUDA_ARCH__
  const std::uint32_t narrow = bits_of(value);
  if ((narrow & 0x7FFFFFFFu) > 0x7F800000u) {
    const std::uint64_t sign = static_cast<std::uint64_t>(narrow & 0x80000000u) << 32;
    const std::uint64_t payload = static_cast<std::uint64_t>(narrow & 0x3FFFFFu) << 29;
    return sign | 0x7FF8000000000000ull | payload;
  }
#endif
  const double wide = value;
  std::uint64_t bits;
  memcpy(&bits, &wide, sizeof bits);
  return bits;
}

// The formats as types, for loops that are templates over the formats of source and result.
struct BF16Bits {
  using Bits = std::uint16_t;
  BERTH_BOTH float widen(Bits bits) { return bf16_to_float(bits); }
  BERTH_BOTH Bits narrow(float value) { return float_to_bf16(value); }
};
struct F16Bits {
  using Bits = std::uint16_t;
  BERTH_BOTH float widen(Bits bits) { return f16_to_float(bits); }
  BERTH_BOTH Bits narrow(float value) { return float_to_f16(value); }
};
struct F32Bits {
  using Bits = std::uint32_t;
  BERTH_BOTH float widen(Bits bits) { return float_of(bits); }
  BERTH_BOTH Bits narrow(float value) { return bits_of(value); }
};
struct F64Bits {
  using Bits = std::uint64_t;
  BERTH_BOTH float widen(Bits bits) { return f64_to_float(bits); }
  BERTH_BOTH Bits narrow(float value) { return float_to_f64(value); }
};

}  // namespace berth
