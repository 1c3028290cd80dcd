// Where the numbers of grouped formats and of MXFP4 lie in a tile (tiles.h has them in words), and
// where those of a stored weight are. Only this room includes it.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>

#include "cuda/cast_bits.h"
#include "cuda/dequant.h"
#include "runtime/kernels/tiles.h"

namespace berth {

inline constexpr float kE4M3AsHalf = 256;  // E4M3's bits are an f16 of a value so much smaller

constexpr std::size_t groups_of(std::size_t columns, std::size_t group) {
  return (columns + group - 1) / group;
}
constexpr std::size_t padded_columns(std::size_t columns) {
  return (columns + kColumnsOfFloats - 1) / kColumnsOfFloats * kColumnsOfFloats;
}

// Where in a tile the entry of the group is that begins with `column`.
constexpr std::size_t group_entry(const GroupedForm& form, std::size_t column) {
  switch (form.format) {
    case MatrixFormat::kMxfp4:
      return column / 32 * (kTileRows + kNibbleBytes);
    case MatrixFormat::kU4:
      return column / form.group * (kGroupScaleBytes + kTileRows) + column / 32 * kNibbleBytes;
    default:
      return column / form.group * kGroupScaleBytes + column * kTileRows;
  }
}
// How many bytes of an entry stand before its elements.
constexpr std::size_t scale_bytes(MatrixFormat format) {
  return format == MatrixFormat::kMxfp4 ? kTileRows
         : format == MatrixFormat::kU4  ? kGroupScaleBytes + kTileRows
                                        : kGroupScaleBytes;
}
constexpr std::size_t columns_of_group(const GroupedForm& form) {
  return form.format == MatrixFormat::kMxfp4 ? 32 : form.group;
}
// Where in a tile the elements of 32 columns of 4-bit codes begin, or of one column of FP8.
constexpr std::size_t elements_at(const GroupedForm& form, std::size_t column) {
  const std::size_t begin = column / columns_of_group(form) * columns_of_group(form);
  const std::size_t entry = group_entry(form, begin) + scale_bytes(form.format);
  return takes_floats(form.format) ? entry + (column - begin) * kTileRows
                                   : entry + (column - begin) / 32 * kNibbleBytes;
}

// Where the nibble of an element is among those of 32 columns, and how far it is shifted.
constexpr std::size_t nibble_byte(std::size_t row, std::size_t column) {
  return column % 16 / 4 * kGroupBytes + 4 * row + column % 4;
}
constexpr unsigned nibble_shift(std::size_t column) { return column % 32 < 16 ? 0 : 4; }

inline void put_nibble(std::byte* nibbles, std::size_t row, std::size_t column, unsigned code) {
  nibbles[nibble_byte(row, column)] |= static_cast<std::byte>(code << nibble_shift(column));
}
inline unsigned nibble_at(const std::byte* nibbles, std::size_t row, std::size_t column) {
  return std::to_integer<unsigned>(nibbles[nibble_byte(row, column)]) >> nibble_shift(column) & 15;
}

inline void put_float(std::byte* scales, std::size_t row, float value) {
  std::memcpy(scales + 4 * row, &value, sizeof value);
}
inline float float_at(const std::byte* scales, std::size_t row) {
  float value;
  std::memcpy(&value, scales + 4 * row, sizeof value);
  return value;
}

// The number of the scale, and of the zero point, of an element.
inline std::size_t scale_index(const QuantLayout& layout, std::size_t row, std::size_t column) {
  return row / layout.block_rows * layout.row_step +
         column / layout.group_columns * layout.group_step;
}
inline float scale_of(const QuantLayout& layout, const QuantTables& tables, std::size_t row,
                      std::size_t column) {
  const float scale =
      tables.scales == nullptr ? 1 : tables.scales[scale_index(layout, row, column)];
  return scale * layout.factor;
}
inline float zero_of(const QuantLayout& layout, const QuantTables& tables, std::size_t row,
                     std::size_t column) {
  return tables.zeros == nullptr ? layout.zero : tables.zeros[scale_index(layout, row, column)];
}

// Whether a zero point is one that a byte holds.
inline bool is_small_whole(float zero) {
  return zero >= 0 && zero <= 255 && std::floor(zero) == zero;
}
// Whether a scale is one that an exponent of MXFP4 says. Infinity is its NaN.
inline bool is_power_of_two(float value) {
  const std::uint32_t bits = bits_of(value);
  return std::isnan(value) || bits == 0x00400000 ||
         (bits >> 31 == 0 && bits << 9 == 0 && bits != 0);
}
inline std::byte exponent_of(float power) {
  return std::isnan(power) ? std::byte{255} : static_cast<std::byte>(bits_of(power) >> 23);
}

// Puts the scale of the row `row` of a tile, and its zero point, where the entry has them. Returns
// whether the format can say them.
inline bool put_scale(const GroupedForm& form, float scale, float zero, std::size_t row,
                      std::byte* entry) {
  if (form.format == MatrixFormat::kMxfp4) {
    entry[row] = exponent_of(scale);
    return is_power_of_two(scale);
  }
  put_float(entry, row, form.format == MatrixFormat::kF8E4M3 ? kE4M3AsHalf * scale : scale);
  if (form.format != MatrixFormat::kU4) return true;
  if (!is_small_whole(zero)) return false;
  entry[kGroupScaleBytes + row] = static_cast<std::byte>(zero);
  return true;
}

// NaN of E4M3, whose bits as an f16 mean a number: the scale of its group says it.
constexpr bool is_e4m3_nan(unsigned code) { return (code & 0x7F) == 0x7F; }

}  // namespace berth
