#include "runtime/kernels/group_tiles.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "cuda/cast_bits.h"
#include "runtime/kernels/block_tiles.h"
#include "runtime/kernels/tiles.h"

namespace berth {
namespace {

constexpr float kE4M3AsHalf = 256;  // E4M3's bits are an f16 of a value that is so much smaller

std::size_t scale_index(const QuantLayout& layout, std::size_t row, std::size_t column) {
  return row / layout.block_rows * layout.row_step +
         column / layout.group_columns * layout.group_step;
}

float scale_of(const QuantLayout& layout, const QuantTables& tables, std::size_t row,
               std::size_t column) {
  const float scale =
      tables.scales == nullptr ? 1 : tables.scales[scale_index(layout, row, column)];
  return scale * layout.factor;
}

float zero_of(const QuantLayout& layout, const QuantTables& tables, std::size_t row,
              std::size_t column) {
  return tables.zeros == nullptr ? layout.zero : tables.zeros[scale_index(layout, row, column)];
}

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

bool is_power_of_two(float value) {
  const std::uint32_t bits = bits_of(value);
  return std::isnan(value) || bits == 0x00400000 ||
         (bits >> 31 == 0 && bits << 9 == 0 && bits != 0 && std::isfinite(value));
}

std::byte exponent_of(float power) {
  return std::isnan(power) ? std::byte{255} : static_cast<std::byte>(bits_of(power) >> 23);
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

bool is_small_whole(float zero) { return zero >= 0 && zero <= 255 && std::floor(zero) == zero; }

std::size_t groups_of(std::size_t columns, std::size_t group) {
  return (columns + group - 1) / group;
}
std::size_t padded_columns(std::size_t columns) {
  return (columns + kColumnsOfFloats - 1) / kColumnsOfFloats * kColumnsOfFloats;
}

void put_float(std::byte* scales, std::size_t row, float value) {
  std::memcpy(scales + 4 * row, &value, sizeof value);
}
float float_at(const std::byte* scales, std::size_t row) {
  float value;
  std::memcpy(&value, scales + 4 * row, sizeof value);
  return value;
}

// Where the nibble of an element is among those of 32 columns, and how far it is shifted.
std::size_t nibble_byte(std::size_t row, std::size_t column) {
  return column % 16 / 4 * kGroupBytes + 4 * row + column % 4;
}
unsigned nibble_shift(std::size_t column) { return column % 32 < 16 ? 0 : 4; }

void put_nibble(std::byte* nibbles, std::size_t row, std::size_t column, unsigned code) {
  nibbles[nibble_byte(row, column)] |= static_cast<std::byte>(code << nibble_shift(column));
}
unsigned nibble_at(const std::byte* nibbles, std::size_t row, std::size_t column) {
  return std::to_integer<unsigned>(nibbles[nibble_byte(row, column)]) >> nibble_shift(column) & 15;
}

// The entry of the group that begins with `column`, a multiple of `group`.
std::size_t u4_entry(std::size_t column, std::size_t group) {
  return column / group * (kGroupScaleBytes + kTileRows) + column / 32 * kNibbleBytes;
}
std::size_t float_entry(std::size_t column, std::size_t group) {
  return kGroupScaleBytes + column / group * kGroupScaleBytes + column * kTileRows;
}

float e4m3_to_float(unsigned code) {
  if ((code & 0x7F) == 0x7F) return std::numeric_limits<float>::quiet_NaN();
  return f16_to_float(static_cast<std::uint16_t>((code & 0x80) << 8 | (code & 0x7F) << 7));
}

}  // namespace

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
          !for_all_groups(layout, [&](std::size_t row, std::size_t column) {
            return is_small_whole(zero_of(layout, tables, row, column));
          })) {
        return std::nullopt;
      }
      return GroupedForm{MatrixFormat::kU4, group};
    case QuantCode::kF4:
      if (group != 32 || layout.columns % 32 != 0 || tables.zeros != nullptr || layout.zero != 0 ||
          !for_all_groups(layout, [&](std::size_t row, std::size_t column) {
            return is_power_of_two(scale_of(layout, tables, row, column));
          })) {
        return std::nullopt;
      }
      return GroupedForm{MatrixFormat::kMxfp4, 0};
    default:
      return std::nullopt;
  }
}

std::size_t grouped_tile_bytes(MatrixFormat format, std::size_t columns, std::size_t group) {
  if (format == MatrixFormat::kMxfp4) return columns / 32 * tile_shape(format).bytes;
  const std::size_t groups = groups_of(columns, group);
  if (format == MatrixFormat::kU4) {
    return groups * (kGroupScaleBytes + kTileRows) + columns / 32 * kNibbleBytes;
  }
  return (groups + 1) * kGroupScaleBytes + padded_columns(columns) * kTileRows;
}

void make_grouped_tile(const QuantLayout& layout, const QuantTables& tables,
                       const std::byte* packed, std::size_t first_row, const GroupedForm& form,
                       std::byte* tile) {
  std::memset(tile, 0, grouped_tile_bytes(form.format, layout.columns, form.group));
  const std::size_t rows = std::min<std::size_t>(kTileRows, layout.rows - first_row);
  for (std::size_t r = 0; r < rows; ++r) {
    const std::size_t row = first_row + r;
    for (std::size_t column = 0; column < layout.columns; ++column) {
      const unsigned code = code_at(layout, packed, row, column);
      if (form.format == MatrixFormat::kMxfp4) {
        std::byte* const entry = tile + column / 32 * tile_shape(form.format).bytes;
        if (column % 32 == 0) entry[r] = exponent_of(scale_of(layout, tables, row, column));
        put_nibble(entry + kTileRows, r, column, code);
        continue;
      }
      const std::size_t begin = column / form.group * form.group;
      if (form.format == MatrixFormat::kU4) {
        std::byte* const entry = tile + u4_entry(begin, form.group);
        if (column == begin) {
          put_float(entry, r, scale_of(layout, tables, row, column));
          entry[kGroupScaleBytes + r] =
              static_cast<std::byte>(zero_of(layout, tables, row, column));
        }
        put_nibble(entry + kGroupScaleBytes + kTileRows + (column - begin) / 32 * kNibbleBytes, r,
                   column, code);
        continue;
      }
      std::byte* const entry = tile + float_entry(begin, form.group);
      const bool e4m3 = form.format == MatrixFormat::kF8E4M3;
      if (column == begin) {
        const float scale = scale_of(layout, tables, row, column);
        put_float(entry, r, e4m3 ? kE4M3AsHalf * scale : scale);
      }
      entry[kGroupScaleBytes + (column - begin) * kTileRows + r] = static_cast<std::byte>(code);
      if (e4m3 && (code & 0x7F) == 0x7F) put_float(tile, r, e4m3_to_float(code));
    }
  }
}

void read_grouped_row(const GroupedForm& form, std::size_t columns, const std::byte* tile,
                      std::size_t row, float* out) {
  const std::size_t group = form.group;
  for (std::size_t column = 0; column < columns; ++column) {
    const std::size_t begin = column / group * group;
    if (form.format == MatrixFormat::kU4) {
      const std::byte* const entry = tile + u4_entry(begin, group);
      const int zero = std::to_integer<int>(entry[kGroupScaleBytes + row]);
      const std::byte* const nibbles =
          entry + kGroupScaleBytes + kTileRows + (column - begin) / 32 * kNibbleBytes;
      const int code = static_cast<int>(nibble_at(nibbles, row, column));
      out[column] = static_cast<float>(code - zero) * float_at(entry, row);
      continue;
    }
    const std::byte* const entry = tile + float_entry(begin, group);
    const auto code =
        std::to_integer<unsigned>(entry[kGroupScaleBytes + (column - begin) * kTileRows + row]);
    out[column] =
        float_at(entry, row) * (form.format == MatrixFormat::kF8E4M3
                                    ? e4m3_to_float(code)
                                    : f16_to_float(static_cast<std::uint16_t>(code << 8)));
  }
}

}  // namespace berth
