// Converts one unit of packed values: says where each value goes, and finds the code, order and
// format that a layout asks for. Like dequant_codes.h it is compiled for several instruction sets,
// so it has an unnamed namespace.
#pragma once

#include "cuda/dequant_codes.h"

namespace berth {
namespace {

// Orders as types: convert() writes the values of the unit with number `unit`, whose bits are
// `packed`, to where they belong in the result that begins at `to`.

template <class Code, class To, bool high_first>
struct RowsOrder {
  static constexpr QuantOrder kOrder = high_first ? QuantOrder::kRowsHigh : QuantOrder::kRows;
  using Packed = std::uint8_t;
  BERTH_BOTH void convert(const QuantLayout& layout, const QuantTables& tables,
                          std::uint32_t packed, std::uint64_t unit, typename To::Bits* to) {
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
  BERTH_BOTH void convert(const QuantLayout& layout, const QuantTables& tables,
                          std::uint32_t packed, std::uint64_t unit, typename To::Bits* to) {
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
  // How far the bits of row `i` of eight are shifted.
  BERTH_BOTH unsigned shift(unsigned i) { return (i & 1u) * 16 + (i >> 1) * 4; }
  BERTH_BOTH void convert(const QuantLayout& layout, const QuantTables& tables,
                          std::uint32_t packed, std::uint64_t unit, typename To::Bits* to) {
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
  BERTH_BOTH void convert(const QuantLayout& layout, const QuantTables& tables,
                          std::uint32_t packed, std::uint64_t unit, typename To::Bits* to) {
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

// Calls visit.run<Code, Order, To>() with the types that a layout asks for. Returns false where
// there is no kernel for them.
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
