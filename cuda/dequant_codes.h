// The value of one code of a quantised weight, written once for the reference, the vector loops and
// the GPU. Where a loop over a function is to run in vector registers, the function has no
// branches. This header is compiled for several instruction sets, and the linker must not mix their
// code; so it has an unnamed namespace, and only files of this folder include it.
//
// Sources: FP8 is the OCP 8-bit floating point specification (E4M3, E5M2) and the IEEE-like FNUZ
// variants of Graphcore and AMD; E2M1 is the OCP Microscaling (MX) specification 1.0.
#pragma once

#include <type_traits>

#include "cuda/cast_bits.h"
#include "cuda/dequant.h"

namespace berth {
namespace {

// Codes as types: widen() returns the value of the lowest kBits bits of `code`.

// Its bias is 7. It has no infinity, and NaN is all ones. Denormals are multiples of 2^-9.
struct E4M3Code {
  static constexpr unsigned kBits = 8;
  BERTH_BOTH float widen(std::uint32_t code) {
    const std::uint32_t magnitude = code & 0x7Fu;
    const std::uint32_t normal = (magnitude << 20) + (120u << 23);
    const std::uint32_t denormal =
        bits_of(static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0.001953125f);
    std::uint32_t bits = magnitude < 8u ? denormal : normal;
    bits = magnitude == 0x7Fu ? 0x7FF00000u : bits;
    return float_of((code & 0x80u) << 24 | bits);
  }
};

// It is the upper half of an f16.
struct E5M2Code {
  static constexpr unsigned kBits = 8;
  BERTH_BOTH float widen(std::uint32_t code) {
    return f16_to_float(static_cast<std::uint16_t>((code & 0xFFu) << 8));
  }
};

// FNUZ formats: the bias is greater by one. There is no infinity, and no -0, whose bits are the
// only NaN.
struct E4M3FnuzCode {
  static constexpr unsigned kBits = 8;
  BERTH_BOTH float widen(std::uint32_t code) {
    const std::uint32_t magnitude = code & 0x7Fu;
    const std::uint32_t normal = (magnitude << 20) + (119u << 23);
    const std::uint32_t denormal =
        bits_of(static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0.0009765625f);
    std::uint32_t bits = (code & 0x80u) << 24 | (magnitude < 8u ? denormal : normal);
    bits = (code & 0xFFu) == 0x80u ? 0x7FC00000u : bits;
    return float_of(bits);
  }
};
struct E5M2FnuzCode {
  static constexpr unsigned kBits = 8;
  BERTH_BOTH float widen(std::uint32_t code) {
    const std::uint32_t magnitude = code & 0x7Fu;
    const std::uint32_t normal = (magnitude << 21) + (111u << 23);
    const std::uint32_t denormal =
        bits_of(static_cast<float>(static_cast<std::int32_t>(magnitude)) * 7.62939453125e-6f);
    std::uint32_t bits = (code & 0x80u) << 24 | (magnitude < 4u ? denormal : normal);
    bits = (code & 0xFFu) == 0x80u ? 0x7FC00000u : bits;
    return float_of(bits);
  }
};

struct I8Code {
  static constexpr unsigned kBits = 8;
  BERTH_BOTH float widen(std::uint32_t code) {
    return static_cast<float>(static_cast<std::int32_t>(code << 24) >> 24);
  }
};
template <unsigned bits>
struct UnsignedCode {
  static constexpr unsigned kBits = bits;
  BERTH_BOTH float widen(std::uint32_t code) {
    return static_cast<float>(static_cast<std::int32_t>(code & ((1u << bits) - 1u)));
  }
};

// Its values are 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives.
struct F4Code {
  static constexpr unsigned kBits = 4;
  BERTH_BOTH float widen(std::uint32_t code) {
    const std::uint32_t magnitude = code & 7u;
    const std::uint32_t normal = (magnitude << 22) + (126u << 23);
    const std::uint32_t small = magnitude == 0u ? 0u : 0x3F000000u;
    return float_of((code & 8u) << 28 | (magnitude < 2u ? small : normal));
  }
};

// A code whose value is in a table, so it has no widen().
struct Lookup4Code {
  static constexpr unsigned kBits = 4;
};

template <class Code>
BERTH_BOTH float code_value(const QuantTables& tables, std::uint32_t code) {
  if constexpr (std::is_same_v<Code, Lookup4Code>) {
    return tables.lookup[code & 15u];
  } else {
    return Code::widen(code);
  }
}

// Round to a narrower format and back to f32, like the functions of cast_bits.h, but without
// leaving 32-bit registers.
BERTH_BOTH float rounded_to_bf16(float value) {
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t kept = (bits + 0x7FFFu + ((bits >> 16) & 1u)) & 0xFFFF0000u;
  return float_of((bits & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FC00000u : kept);
}
BERTH_BOTH float rounded_to_f16(float value) {
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  const std::uint32_t normal = (magnitude + 0x0FFFu + ((magnitude >> 13) & 1u)) & ~0x1FFFu;
  // Adding 0.5 rounds at 2^-24, which is the last bit of denormals.
  const std::uint32_t denormal = bits_of((float_of(magnitude) + 0.5f) - 0.5f);
  std::uint32_t result = magnitude < 0x38800000u ? denormal : normal;
  result = normal >= 0x47800000u ? 0x7F800000u : result;
  result = magnitude > 0x7F800000u ? (magnitude | 0x00400000u) & ~0x1FFFu : result;
  return float_of((bits & 0x80000000u) | result);
}
BERTH_BOTH float rounded(float value, FloatFormat arithmetic) {
  if (arithmetic == FloatFormat::kBF16) return rounded_to_bf16(value);
  if (arithmetic == FloatFormat::kF16) return rounded_to_f16(value);
  return value;
}

// The value of `code` at (row, column), before it is cast to the format that was asked for.
template <class Code>
BERTH_BOTH float dequantized(const QuantLayout& layout, const QuantTables& tables,
                             std::uint32_t code, std::uint64_t row, std::uint64_t column) {
  const float value = code_value<Code>(tables, code);
  if (tables.scales == nullptr) return value;
  const std::uint64_t group =
      tables.groups != nullptr ? tables.groups[column] : column / layout.group_columns;
  const std::uint64_t at = row / layout.block_rows * layout.row_step + group * layout.group_step;
  const float zero = tables.zeros != nullptr ? tables.zeros[at] : layout.zero;
  return rounded((value - zero) * tables.scales[at] * layout.factor, layout.arithmetic);
}

}  // namespace
}  // namespace berth
