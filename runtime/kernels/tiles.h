// How the tiles of each format lie in memory, and in files: whoever changes that raises
// kTilesVersion (planner/checkpoint/tile_layout.h). Only this room includes it.
//
// A tile of a format with blocks of 32 (or 256) elements is one entry for each 32 (or 256) columns:
// scales (f16), minima (f16, where the format has them), scales of scales (of 256 elements: 12
// bytes of 6-bit numbers, or 16 of 8 bits), elements. Rows vary fastest where each row has a
// number.
//
// Elements come as words: four neighbouring elements of a row, a byte each. A group is the same
// word of all 16 rows, 64 bytes. Where an element takes 4 bits, two groups share 64 bytes: the low
// nibbles hold word j, the high ones word j + 4 of the same 32 elements. Fifth bits of 32 elements
// are 64 bytes: bit j belongs to word j. Upper two bits of Q6_K are 128 bytes for 32 elements: bits
// 2 (j % 4) and the next of half j / 4 belong to word j.
//
// MXFP4 has an exponent of 8 bits for each row instead of a scale. Its elements are codes; those of
// a tile shape mean twice the value of a code, plus the bias.
//
// Grouped formats have an entry for each group of columns, all of which but the last are of one
// size: scales (f32) of the rows, zero points (a byte) where the format has them, elements. Codes
// of 4 bits lie as those of Q4_0. FP8 has the rows' bytes of a column, then those of the next, and
// is filled up with zeros to a multiple of 4 columns; where a row has a NaN of E4M3, whose code
// means a number as an f16, the scale of the group is NaN. GPUs have tiles of these and of MXFP4,
// too, so where their numbers lie is written in cuda/group_tile.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/kernels/matrix_format.h"

namespace berth {

inline constexpr std::size_t kGroupBytes = 4 * kTileRows;
inline constexpr std::size_t kNibbleBytes = 4 * kGroupBytes;     // of 32 elements of 16 rows
inline constexpr std::size_t kFifthBitBytes = kGroupBytes;       // likewise
inline constexpr std::size_t kUpperBitsBytes = 2 * kGroupBytes;  // likewise
inline constexpr std::size_t kHalfBytes = 2 * kTileRows;         // an f16 for each row

// What an element of a tile is: scale x (q - bias) - or scale x q + minimum. `unit` columns share
// an entry; `scaled` neighbouring elements share a scale.
struct TileShape {
  std::size_t unit;
  std::size_t scaled;
  std::size_t bytes;  // of an entry
  int bias;
  bool has_minimum;
};

inline constexpr std::size_t kGroupScaleBytes = 4 * kTileRows;  // an f32 for each row
inline constexpr std::size_t kColumnsOfFloats = 4;              // that FP8 is filled up to

// Twice the value of each code of E2M1, plus 12 (OCP Microscaling formats, 1.0).
constexpr std::uint8_t kE2M1Codes[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

constexpr TileShape tile_shape(MatrixFormat format) {
  switch (format) {
    case MatrixFormat::kQ8_0:
      return {32, 32, kHalfBytes + 8 * kGroupBytes, 128, false};
    case MatrixFormat::kQ4_0:
      return {32, 32, kHalfBytes + kNibbleBytes, 8, false};
    case MatrixFormat::kQ4_1:
      return {32, 32, 2 * kHalfBytes + kNibbleBytes, 0, true};
    case MatrixFormat::kQ5_0:
      return {32, 32, kHalfBytes + kNibbleBytes + kFifthBitBytes, 16, false};
    case MatrixFormat::kQ5_1:
      return {32, 32, 2 * kHalfBytes + kNibbleBytes + kFifthBitBytes, 0, true};
    case MatrixFormat::kQ4_K:
      return {256, 32, 2 * kHalfBytes + 12 * kTileRows + 8 * kNibbleBytes, 0, true};
    case MatrixFormat::kQ5_K:
      return {256, 32, 2 * kHalfBytes + 12 * kTileRows + 8 * (kNibbleBytes + kFifthBitBytes), 0,
              true};
    case MatrixFormat::kQ6_K:
      return {256, 16, kHalfBytes + 16 * kTileRows + 8 * (kNibbleBytes + kUpperBitsBytes), 32,
              false};
    case MatrixFormat::kMxfp4:
      return {32, 32, kTileRows + kNibbleBytes, 12, false};
    case MatrixFormat::kU4:
      return {32, 32, 0, 0, false};
    default:
      return {1, 1, 0, 0, false};
  }
}

}  // namespace berth
