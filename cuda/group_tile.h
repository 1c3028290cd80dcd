// Where numbers lie in tiles of quantised weights that are stored in several tensors: codes, scales
// and zero points (GPTQ, AWQ, compressed-tensors, FP8, MXFP4). Host memory and GPUs have them in
// the same tiles; runtime/kernels/tiles.h says in words what is in one. Compiled for both.
//
// 16 rows are a tile, which is a sequence of entries, one for each group of columns: the scales of
// the rows, zero points where the format has them, then cells of 32 columns. In a cell of 4-bit
// codes, words of four neighbouring elements stand side by side for all rows: the low nibbles of
// their bytes hold columns 0 to 15, the high ones columns 16 to 31. In a cell of FP8 the bytes of
// all rows of a column are followed by those of the next column.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/cast_bits.h"

namespace berth {

enum class GroupCode : std::uint8_t {
  kU4,      // a scale (f32) and a zero point (a byte) for each row of a group
  kF8E4M3,  // a scale (f32), times 256: codes are read as f16 of a 256th of their value
  kF8E5M2,  // a scale (f32)
  kMxfp4,   // an exponent (E8M0, a byte)
};

// A format of tiles. `group`: columns that share a scale; 32 for MXFP4.
struct GroupTile {
  GroupCode code = GroupCode::kU4;
  std::size_t group = 0;
};

constexpr std::size_t kGroupTileRows = 16;
constexpr std::size_t kCellColumns = 32;
constexpr float kE4M3AsHalf = 256;

BERTH_BOTH constexpr bool is_float_code(GroupCode code) {
  return code == GroupCode::kF8E4M3 || code == GroupCode::kF8E5M2;
}
// How many bytes of an entry stand before its cells.
BERTH_BOTH constexpr std::size_t group_header_bytes(GroupCode code) {
  return code == GroupCode::kMxfp4 ? kGroupTileRows
                                   : kGroupTileRows * (code == GroupCode::kU4 ? 5 : 4);
}
BERTH_BOTH constexpr std::size_t cell_bytes(GroupCode code) {
  return kGroupTileRows * kCellColumns / (is_float_code(code) ? 1 : 2);
}
// Where in a tile the entry of the group is that begins with `column`.
BERTH_BOTH constexpr std::size_t entry_offset(const GroupTile& tile, std::size_t column) {
  return column / tile.group * group_header_bytes(tile.code) +
         column * cell_bytes(tile.code) / kCellColumns;
}
// Where in a tile the cell of a column begins; of FP8, the column itself.
BERTH_BOTH constexpr std::size_t elements_offset(const GroupTile& tile, std::size_t column) {
  const std::size_t before = is_float_code(tile.code)
                                 ? column * kGroupTileRows
                                 : column / kCellColumns * cell_bytes(tile.code);
  return (column / tile.group + 1) * group_header_bytes(tile.code) + before;
}

// Where the byte with the nibble of an element is in a cell, and how far it is shifted.
BERTH_BOTH constexpr std::size_t nibble_offset(std::size_t row, std::size_t column) {
  return column % 16 / 4 * (4 * kGroupTileRows) + 4 * row + column % 4;
}
BERTH_BOTH constexpr unsigned nibble_shift_of(std::size_t column) {
  return column % kCellColumns < 16 ? 0 : 4;
}

// NaN of E4M3, whose bits as an f16 mean a number: the scale of its group says it.
BERTH_BOTH constexpr bool is_e4m3_nan(unsigned code) { return (code & 0x7Fu) == 0x7Fu; }

// Whether a zero point is one that a byte holds.
BERTH_BOTH bool is_small_whole(float zero) {
  return zero >= 0 && zero <= 255 && static_cast<float>(static_cast<int>(zero)) == zero;
}
// Whether a scale is one that an exponent of MXFP4 says, and that exponent. Infinity is its NaN.
BERTH_BOTH bool is_power_of_two(float value) {
  const std::uint32_t bits = bits_of(value);
  return value != value || bits == 0x00400000u || (bits >> 31 == 0 && bits << 9 == 0 && bits != 0);
}
BERTH_BOTH std::uint8_t exponent_of(float power) {
  return static_cast<std::uint8_t>(power != power ? 255u : bits_of(power) >> 23);
}

}  // namespace berth
