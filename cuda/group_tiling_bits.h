// Puts one unit of packed values where tiles have them (group_tile.h): codes, and the scales and
// zero points of groups that begin in the unit. Compiled for the device and for the host, whose
// loop over units (group_tiling_cpu.cc) gives the same bits.
//
// A byte of a tile may hold codes of two units, so codes are added to words that were zero by an
// atomic operation. No two units write the same scale, but where a code is a NaN of E4M3 its unit
// makes NaN of the group's scale, before or after another unit has put that scale.
#pragma once

#include "cuda/dequant.h"
#include "cuda/group_tile.h"

namespace berth {

// The number of the scale, and of the zero point, of an element.
BERTH_BOTH std::size_t scale_index(const QuantLayout& layout, std::size_t row, std::size_t column) {
  return row / layout.block_rows * layout.row_step +
         column / layout.group_columns * layout.group_step;
}
BERTH_BOTH float scale_of(const QuantLayout& layout, const QuantTables& tables, std::size_t row,
                          std::size_t column) {
  const float scale =
      tables.scales == nullptr ? 1 : tables.scales[scale_index(layout, row, column)];
  return scale * layout.factor;
}
BERTH_BOTH float zero_of(const QuantLayout& layout, const QuantTables& tables, std::size_t row,
                         std::size_t column) {
  return tables.zeros == nullptr ? layout.zero : tables.zeros[scale_index(layout, row, column)];
}

// What a unit needs to know of its weight. `tiles`: of all rows, at a multiple of 4 bytes.
struct TilingJob {
  QuantLayout layout;
  QuantTables tables;
  GroupTile tile;
  std::size_t tile_bytes;
  unsigned char* tiles;
};

#ifdef __CUDA_ARCH__
BERTH_BOTH void add_bits(unsigned char* word, std::uint32_t bits) {
  atomicOr(reinterpret_cast<unsigned*>(word), bits);
}
// Writes a word that is zero; one that is not stays.
BERTH_BOTH void put_first(unsigned char* word, std::uint32_t bits) {
  atomicCAS(reinterpret_cast<unsigned*>(word), 0u, bits);
}
BERTH_BOTH void put_always(unsigned char* word, std::uint32_t bits) {
  atomicExch(reinterpret_cast<unsigned*>(word), bits);
}
#else
BERTH_BOTH void put_always(unsigned char* word, std::uint32_t bits) {
  memcpy(word, &bits, sizeof bits);
}
BERTH_BOTH void add_bits(unsigned char* word, std::uint32_t bits) {
  std::uint32_t before;
  memcpy(&before, word, sizeof before);
  put_always(word, before | bits);
}
BERTH_BOTH void put_first(unsigned char* word, std::uint32_t bits) {
  std::uint32_t before;
  memcpy(&before, word, sizeof before);
  if (before == 0) put_always(word, bits);
}
#endif

BERTH_BOTH unsigned char* tile_of_row(const TilingJob& job, std::size_t row) {
  return job.tiles + row / kGroupTileRows * job.tile_bytes;
}

// Puts the scale of a row, and its zero point, if a group begins with `column`.
BERTH_BOTH void put_group_scale(const TilingJob& job, std::size_t row, std::size_t column) {
  if (column % job.tile.group != 0) return;
  unsigned char* entry = tile_of_row(job, row) + entry_offset(job.tile, column);
  const std::size_t r = row % kGroupTileRows;
  const float scale = scale_of(job.layout, job.tables, row, column);
  switch (job.tile.code) {
    case GroupCode::kMxfp4:
      entry[r] = exponent_of(scale);
      return;
    case GroupCode::kU4:
      put_always(entry + 4 * r, bits_of(scale));
      entry[4 * kGroupTileRows + r] =
          static_cast<unsigned char>(zero_of(job.layout, job.tables, row, column));
      return;
    case GroupCode::kF8E4M3:
      put_first(entry + 4 * r, bits_of(kE4M3AsHalf * scale));
      return;
    case GroupCode::kF8E5M2:
      put_always(entry + 4 * r, bits_of(scale));
      return;
  }
}

// Adds the codes of up to four neighbouring columns of a row, a byte each, to their word. `column`
// is that of the first byte, a multiple of four.
BERTH_BOTH void add_codes(const TilingJob& job, std::size_t row, std::size_t column,
                          std::uint32_t codes) {
  unsigned char* cell = tile_of_row(job, row) + elements_offset(job.tile, column);
  add_bits(cell + nibble_offset(row % kGroupTileRows, column), codes << nibble_shift_of(column));
}

// The nibbles of 16 bits, a byte each.
BERTH_BOTH std::uint32_t as_bytes(std::uint32_t half) {
  half = (half | half << 8) & 0x00FF00FFu;
  return (half | half << 4) & 0x0F0F0F0Fu;
}

// A code of FP8 at (row, column).
BERTH_BOTH void put_float_code(const TilingJob& job, std::size_t row, std::size_t column,
                               std::uint32_t code) {
  unsigned char* tile = tile_of_row(job, row);
  const std::size_t r = row % kGroupTileRows;
  tile[elements_offset(job.tile, column) + r] = static_cast<unsigned char>(code);
  put_group_scale(job, row, column);
  if (job.tile.code == GroupCode::kF8E4M3 && is_e4m3_nan(code)) {
    const std::size_t begin = column / job.tile.group * job.tile.group;
    put_always(tile + entry_offset(job.tile, begin) + 4 * r, 0x7FC00000u);
  }
}

// Puts the unit with number `unit`, whose bits are `packed`, where tiles have it.
BERTH_BOTH void tile_unit(const TilingJob& job, std::uint32_t packed, std::uint64_t unit) {
  const QuantLayout& layout = job.layout;
  if (layout.order == QuantOrder::kGptq) {
    const std::size_t row = unit % layout.rows;
    const std::size_t column = unit / layout.rows * 8;
    add_codes(job, row, column, as_bytes(packed & 0xFFFFu));
    add_codes(job, row, column + 4, as_bytes(packed >> 16));
    put_group_scale(job, row, column);
    return;
  }
  if (layout.order == QuantOrder::kAwq) {
    const std::size_t column = unit / (layout.rows / 8);
    const std::size_t first = unit % (layout.rows / 8) * 8;
    for (unsigned i = 0; i < 8; ++i) {
      const std::uint32_t code = packed >> ((i & 1u) * 16 + (i >> 1) * 4) & 15u;
      add_codes(job, first + i, column / 4 * 4, code << column % 4 * 8);
      put_group_scale(job, first + i, column);
    }
    return;
  }
  const bool floats = is_float_code(job.tile.code);
  const std::size_t values =
      layout.order == QuantOrder::kExperts ? layout.columns : layout.row_values;
  const std::size_t value = unit * (floats ? 1 : 2);
  const std::size_t row = value / values, column = value % values;
  if (column >= layout.columns || row >= layout.rows) return;  // padding
  if (floats) {
    put_float_code(job, row, column, packed);
    return;
  }
  const std::uint32_t codes = (packed & 15u) | (packed & 0xF0u) << 4;
  add_codes(job, row, column / 4 * 4, codes << column % 4 * 8);
  put_group_scale(job, row, column);
}

}  // namespace berth
