// Where the numbers of grouped formats and of MXFP4 lie in a tile (tiles.h has them in words), and
// where those of a stored weight are. Only this room includes it.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstring>

#include "cuda/group_tile.h"
#include "cuda/group_tiling_bits.h"
#include "runtime/kernels/tiles.h"

namespace berth {

static_assert(kGroupTileRows == kTileRows);
static_assert(cell_bytes(GroupCode::kU4) == kNibbleBytes);
static_assert(group_header_bytes(GroupCode::kU4) == kGroupScaleBytes + kTileRows);

constexpr std::size_t groups_of(std::size_t columns, std::size_t group) {
  return (columns + group - 1) / group;
}
constexpr std::size_t padded_columns(std::size_t columns) {
  return (columns + kColumnsOfFloats - 1) / kColumnsOfFloats * kColumnsOfFloats;
}

constexpr std::size_t columns_of_group(const GroupedForm& form) { return group_tile(form).group; }

// Where in a tile the entry of the group is that begins with `column`.
constexpr std::size_t group_entry(const GroupedForm& form, std::size_t column) {
  return entry_offset(group_tile(form), column);
}
// Where in a tile the elements of 32 columns of 4-bit codes begin, or of one column of FP8.
constexpr std::size_t elements_at(const GroupedForm& form, std::size_t column) {
  return elements_offset(group_tile(form), column);
}

inline void put_nibble(std::byte* nibbles, std::size_t row, std::size_t column, unsigned code) {
  nibbles[nibble_offset(row, column)] |= static_cast<std::byte>(code << nibble_shift_of(column));
}
inline unsigned nibble_at(const std::byte* nibbles, std::size_t row, std::size_t column) {
  return std::to_integer<unsigned>(nibbles[nibble_offset(row, column)]) >> nibble_shift_of(column) &
         15;
}

inline void put_float(std::byte* scales, std::size_t row, float value) {
  std::memcpy(scales + 4 * row, &value, sizeof value);
}
inline float float_at(const std::byte* scales, std::size_t row) {
  float value;
  std::memcpy(&value, scales + 4 * row, sizeof value);
  return value;
}

// Puts the scale of the row `row` of a tile, and its zero point, where the entry has them. Returns
// whether the format can say them.
inline bool put_scale(const GroupedForm& form, float scale, float zero, std::size_t row,
                      std::byte* entry) {
  if (form.format == MatrixFormat::kMxfp4) {
    entry[row] = static_cast<std::byte>(exponent_of(scale));
    return is_power_of_two(scale);
  }
  put_float(entry, row, form.format == MatrixFormat::kF8E4M3 ? kE4M3AsHalf * scale : scale);
  if (form.format != MatrixFormat::kU4) return true;
  if (!is_small_whole(zero)) return false;
  entry[kGroupScaleBytes + row] = static_cast<std::byte>(zero);
  return true;
}

}  // namespace berth
