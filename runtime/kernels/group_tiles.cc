#include "runtime/kernels/group_tiles.h"

#include <algorithm>
#include <limits>

#include "runtime/kernels/group_layout.h"

namespace berth {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// The code at a place of the matrix: dequant_orders.h has the orders.
unsigned code_at(const QuantLayout& layout, const std::byte* packed, std::size_t row,
                 std::size_t column) {
  std::uint32_t word = 0;
  switch (layout.order) {
    case QuantOrder::kGptq:
      std::memcpy(&word, packed + 4 * (column / 8 * layout.rows + row), 4);
      return word >> 4 * (column % 8) & 15;
    case QuantOrder::kAwq:
      std::memcpy(&word, packed + 4 * (column * (layout.rows / 8) + row / 8), 4);
      return word >> ((row & 1) * 16 + row % 8 / 2 * 4) & 15;
    default:
      break;
  }
  const std::size_t values =
      layout.order == QuantOrder::kExperts ? layout.columns : layout.row_values;
  const std::size_t value = row * values + column;
  if (code_bits(layout.code) == 8) return std::to_integer<unsigned>(packed[value]);
  return std::to_integer<unsigned>(packed[value / 2]) >> 4 * (value % 2) & 15;
}

// True if `test` holds for the first column of each group of each row.
template <class Test>
bool for_all_groups(const QuantLayout& layout, const Test& test) {
  for (std::size_t row = 0; row < layout.rows; row += layout.block_rows) {
    for (std::size_t column = 0; column < layout.columns; column += layout.group_columns) {
      if (!test(row, column)) return false;
    }
  }
  return true;
}

float e4m3_to_float(unsigned code) {
  if (is_e4m3_nan(code)) return kNaN;
  return f16_to_float(static_cast<std::uint16_t>((code & 0x80) << 8 | (code & 0x7F) << 7));
}

}  // namespace

std::optional<GroupedForm> grouped_form(DType dtype) {
  switch (dtype) {
    case DType::kMXFP4:
      return GroupedForm{MatrixFormat::kMxfp4, 0};
    case DType::kU4G32:
    case DType::kU4G64:
    case DType::kU4G128:
      return GroupedForm{MatrixFormat::kU4, dtype_block(dtype).elements};
    case DType::kF8E4M3G32:
    case DType::kF8E4M3G64:
    case DType::kF8E4M3G128:
      return GroupedForm{MatrixFormat::kF8E4M3, dtype_block(dtype).elements};
    case DType::kF8E5M2G32:
    case DType::kF8E5M2G64:
    case DType::kF8E5M2G128:
      return GroupedForm{MatrixFormat::kF8E5M2, dtype_block(dtype).elements};
    default:
      return std::nullopt;
  }
}

std::optional<GroupedForm> grouped_form(const QuantLayout& layout, const QuantTables& tables) {
  if (tables.groups != nullptr || layout.columns == 0) return std::nullopt;
  const std::size_t group = std::min(layout.group_columns, layout.columns);
  const bool one_group = group == layout.columns;
  switch (layout.code) {
    case QuantCode::kF8E4M3:
    case QuantCode::kF8E5M2:
      if (layout.order != QuantOrder::kRows || tables.zeros != nullptr || layout.zero != 0 ||
          (group % kColumnsOfFloats != 0 && !one_group)) {
        return std::nullopt;
      }
      return GroupedForm{
          layout.code == QuantCode::kF8E4M3 ? MatrixFormat::kF8E4M3 : MatrixFormat::kF8E5M2,
          padded_columns(group)};
    case QuantCode::kU4:
      if (layout.order == QuantOrder::kRowsHigh || group % 32 != 0 || layout.columns % 32 != 0 ||
          !says_all({MatrixFormat::kU4, group}, layout, tables)) {
        return std::nullopt;
      }
      return GroupedForm{MatrixFormat::kU4, group};
    case QuantCode::kF4:
      if (group != 32 || layout.columns % 32 != 0 || tables.zeros != nullptr || layout.zero != 0 ||
          !says_all({MatrixFormat::kMxfp4, 0}, layout, tables)) {
        return std::nullopt;
      }
      return GroupedForm{MatrixFormat::kMxfp4, 0};
    default:
      return std::nullopt;
  }
}

bool says_all(const GroupedForm& form, const QuantLayout& layout, const QuantTables& tables) {
  return for_all_groups(layout, [&](std::size_t row, std::size_t column) {
    if (form.format == MatrixFormat::kU4) {
      return is_small_whole(zero_of(layout, tables, row, column));
    }
    return form.format != MatrixFormat::kMxfp4 ||
           is_power_of_two(scale_of(layout, tables, row, column));
  });
}

std::size_t grouped_tile_bytes(MatrixFormat format, std::size_t columns, std::size_t group) {
  if (format == MatrixFormat::kMxfp4) return columns / 32 * tile_shape(format).bytes;
  const std::size_t groups = groups_of(columns, group);
  if (format == MatrixFormat::kU4) {
    return groups * (kGroupScaleBytes + kTileRows) + columns / 32 * kNibbleBytes;
  }
  return groups * kGroupScaleBytes + padded_columns(columns) * kTileRows;
}

void make_grouped_tile(const QuantLayout& layout, const QuantTables& tables,
                       const std::byte* packed, std::size_t first_row, const GroupedForm& form,
                       std::byte* tile) {
  std::memset(tile, 0, grouped_tile_bytes(form.format, layout.columns, form.group));
  const std::size_t group = columns_of_group(form);
  const std::size_t rows = std::min<std::size_t>(kTileRows, layout.rows - first_row);
  for (std::size_t r = 0; r < rows; ++r) {
    const std::size_t row = first_row + r;
    for (std::size_t column = 0; column < layout.columns; ++column) {
      std::byte* const entry = tile + group_entry(form, column / group * group);
      if (column % group == 0) {
        put_scale(form, scale_of(layout, tables, row, column), zero_of(layout, tables, row, column),
                  r, entry);
      }
      const unsigned code = code_at(layout, packed, row, column);
      std::byte* const elements = tile + elements_at(form, column);
      if (!takes_floats(form.format)) {
        put_nibble(elements, r, column, code);
        continue;
      }
      elements[r] = static_cast<std::byte>(code);
      if (form.format == MatrixFormat::kF8E4M3 && is_e4m3_nan(code)) put_float(entry, r, kNaN);
    }
  }
}

void read_grouped_row(const GroupedForm& form, std::size_t columns, const std::byte* tile,
                      std::size_t row, float* out) {
  for (std::size_t column = 0; column < columns; ++column) {
    const std::byte* const entry = tile + group_entry(form, column / form.group * form.group);
    const std::byte* const elements = tile + elements_at(form, column);
    if (form.format == MatrixFormat::kU4) {
      const int zero = std::to_integer<int>(entry[kGroupScaleBytes + row]);
      const int code = static_cast<int>(nibble_at(elements, row, column));
      out[column] = static_cast<float>(code - zero) * float_at(entry, row);
      continue;
    }
    const auto code = std::to_integer<unsigned>(elements[row]);
    out[column] =
        float_at(entry, row) * (form.format == MatrixFormat::kF8E4M3
                                    ? e4m3_to_float(code)
                                    : f16_to_float(static_cast<std::uint16_t>(code << 8)));
  }
}

}  // namespace berth
