// One code, one value, one unit at a time: what a quantised weight means, written once for the
// reference, the vector loops and the GPU. Without branches where a loop of it is to run in vector
// registers. It is compiled for several instruction sets, of which no object may take another's
// code: hence the unnamed namespace in a header, which only files of this folder include.
//
// Sources: FP8 is the OCP 8-bit floating point specification (E4M3, E5M2) and the IEEE-like FNUZ
// variants of Graphcore and AMD; E2M1 is the OCP Microscaling (MX) specification 1.0.
#pragma once

#include <type_traits>

#include "cuda/cast_bits.h"
#include "cuda/dequant.h"

namespace berth {
namespace {

// Codes as types: `widen` gives the value of the lowest kBits of `code`.

// Bias 7, no infinity, NaN is all ones. Denormals are multiples of 2^-9.
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

// The upper half of an f16.
struct E5M2Code {
  static constexpr unsigned kBits = 8;
  BERTH_BOTH float widen(std::uint32_t code) {
    return f16_to_float(static_cast<std::uint16_t>((code & 0xFFu) << 8));
  }
};

// FNUZ: the bias is one more, there is no infinity and no -0, whose pattern is the only NaN.
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

// 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives.
struct F4Code {
  static constexpr unsigned kBits = 4;
  BERTH_BOTH float widen(std::uint32_t code) {
    const std::uint32_t magnitude = code & 7u;
    const std::uint32_t normal = (magnitude << 22) + (126u << 23);
    const std::uint32_t small = magnitude == 0u ? 0u : 0x3F000000u;
    return float_of((code & 8u) << 28 | (magnitude < 2u ? small : normal));
  }
};

// What only a table knows: widen() is not enough.
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

// To a narrower format and back, as the functions of cast_bits.h do it, without leaving 32 bits.
BERTH_BOTH float rounded_to_bf16(float value) {
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t kept = (bits + 0x7FFFu + ((bits >> 16) & 1u)) & 0xFFFF0000u;
  return float_of((bits & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FC00000u : kept);
}
BERTH_BOTH float rounded_to_f16(float value) {
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  const std::uint32_t normal = (magnitude + 0x0FFFu + ((magnitude >> 13) & 1u)) & ~0x1FFFu;
  // Adding 0.5 rounds at bit 2^-24, the denormals' last.
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

// The value of `code` at (row, column), before it is given its final format.
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

// Orders as types: `place` converts the unit number `unit`, whose bits are `packed`.

template <class Code, class To, bool high_first>
struct RowsOrder {
  static constexpr QuantOrder kOrder = high_first ? QuantOrder::kRowsHigh : QuantOrder::kRows;
  using Packed = std::uint8_t;
  BERTH_BOTH void place(const QuantLayout& layout, const QuantTables& tables, std::uint32_t packed,
                        std::uint64_t unit, typename To::Bits* to) {
    constexpr unsigned kValues = 8 / Code::kBits;
    for (unsigned i = 0; i < kValues; ++i) {
      const std::uint64_t value = unit * kValues + i;
      const std::uint64_t row = value / layout.row_values;
      const std::uint64_t column = value % layout.row_values;
      if (column >= layout.columns || row >= layout.rows) continue;  // padding
      const unsigned shift = Code::kBits * (high_first ? kValues - 1 - i : i);
      to[row * layout.columns + column] =
          To::narrow(dequantized<Code>(layout, tables, packed >> shift, row, column));
    }
  }
};

template <class Code, class To>
struct GptqOrder {
  static constexpr QuantOrder kOrder = QuantOrder::kGptq;
  using Packed = std::uint32_t;
  BERTH_BOTH void place(const QuantLayout& layout, const QuantTables& tables, std::uint32_t packed,
                        std::uint64_t unit, typename To::Bits* to) {
    constexpr unsigned kValues = 32 / Code::kBits;
    const std::uint64_t row = unit % layout.rows;
    const std::uint64_t before = unit / layout.rows * kValues;
    for (unsigned i = 0; i < kValues && before + i < layout.columns; ++i) {
      to[row * layout.columns + before + i] = To::narrow(
          dequantized<Code>(layout, tables, packed >> (Code::kBits * i), row, before + i));
    }
  }
};

template <class Code, class To>
struct AwqOrder {
  static constexpr QuantOrder kOrder = QuantOrder::kAwq;
  using Packed = std::uint32_t;
  // Row `i` of eight stands in these bits.
  BERTH_BOTH unsigned shift(unsigned i) { return (i & 1u) * 16 + (i >> 1) * 4; }
  BERTH_BOTH void place(const QuantLayout& layout, const QuantTables& tables, std::uint32_t packed,
                        std::uint64_t unit, typename To::Bits* to) {
    const std::uint64_t words = layout.rows / 8;
    const std::uint64_t column = unit / words;
    const std::uint64_t before = unit % words * 8;
    for (unsigned i = 0; i < 8; ++i) {
      to[(before + i) * layout.columns + column] =
          To::narrow(dequantized<Code>(layout, tables, packed >> shift(i), before + i, column));
    }
  }
};

template <class Code, class To>
struct ExpertsOrder {
  static constexpr QuantOrder kOrder = QuantOrder::kExperts;
  using Packed = std::uint8_t;
  BERTH_BOTH void place(const QuantLayout& layout, const QuantTables& tables, std::uint32_t packed,
                        std::uint64_t unit, typename To::Bits* to) {
    const std::uint64_t row = unit / (layout.columns / 2);
    const std::uint64_t column = unit % (layout.columns / 2) * 2;
    const std::uint64_t expert = row / layout.expert_rows;
    typename To::Bits* at = to + expert * layout.columns * layout.expert_rows +
                            column * layout.expert_rows + row % layout.expert_rows;
    at[0] = To::narrow(dequantized<Code>(layout, tables, packed, row, column));
    at[layout.expert_rows] =
        To::narrow(dequantized<Code>(layout, tables, packed >> 4, row, column + 1));
  }
};

// Calls visit.run<Code, Order, To>() for a layout's kinds; false where there is no such kernel.
template <class To, class Visit>
bool visit_kernel(const QuantLayout& layout, Visit&& visit) {
  switch (layout.order) {
    case QuantOrder::kRows:
      switch (layout.code) {
        case QuantCode::kF8E4M3:
          return visit.template run<E4M3Code, RowsOrder<E4M3Code, To, false>, To>();
        case QuantCode::kF8E5M2:
          return visit.template run<E5M2Code, RowsOrder<E5M2Code, To, false>, To>();
        case QuantCode::kF8E4M3FNUZ:
          return visit.template run<E4M3FnuzCode, RowsOrder<E4M3FnuzCode, To, false>, To>();
        case QuantCode::kF8E5M2FNUZ:
          return visit.template run<E5M2FnuzCode, RowsOrder<E5M2FnuzCode, To, false>, To>();
        case QuantCode::kI8:
          return visit.template run<I8Code, RowsOrder<I8Code, To, false>, To>();
        case QuantCode::kU8:
          return visit.template run<UnsignedCode<8>, RowsOrder<UnsignedCode<8>, To, false>, To>();
        case QuantCode::kU4:
          return visit.template run<UnsignedCode<4>, RowsOrder<UnsignedCode<4>, To, false>, To>();
        case QuantCode::kU2:
          return visit.template run<UnsignedCode<2>, RowsOrder<UnsignedCode<2>, To, false>, To>();
        case QuantCode::kF4:
          return visit.template run<F4Code, RowsOrder<F4Code, To, false>, To>();
        case QuantCode::kLookup4:
          return false;
      }
      return false;
    case QuantOrder::kRowsHigh:
      if (layout.code != QuantCode::kLookup4) return false;
      return visit.template run<Lookup4Code, RowsOrder<Lookup4Code, To, true>, To>();
    case QuantOrder::kGptq:
      switch (layout.code) {
        case QuantCode::kU8:
          return visit.template run<UnsignedCode<8>, GptqOrder<UnsignedCode<8>, To>, To>();
        case QuantCode::kU4:
          return visit.template run<UnsignedCode<4>, GptqOrder<UnsignedCode<4>, To>, To>();
        case QuantCode::kU2:
          return visit.template run<UnsignedCode<2>, GptqOrder<UnsignedCode<2>, To>, To>();
        default:
          return false;
      }
    case QuantOrder::kAwq:
      if (layout.code != QuantCode::kU4) return false;
      return visit.template run<UnsignedCode<4>, AwqOrder<UnsignedCode<4>, To>, To>();
    case QuantOrder::kExperts:
      if (layout.code != QuantCode::kF4) return false;
      return visit.template run<F4Code, ExpertsOrder<F4Code, To>, To>();
  }
  return false;
}
template <class Visit>
bool visit_kernel(const QuantLayout& layout, FloatFormat to_format, Visit&& visit) {
  switch (to_format) {
    case FloatFormat::kBF16:
      return visit_kernel<BF16Bits>(layout, visit);
    case FloatFormat::kF16:
      return visit_kernel<F16Bits>(layout, visit);
    case FloatFormat::kF32:
      return visit_kernel<F32Bits>(layout, visit);
    case FloatFormat::kF64:
      return visit_kernel<F64Bits>(layout, visit);
  }
  return false;
}

}  // namespace
}  // namespace berth
