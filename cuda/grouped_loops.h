// What the device's kernels of grouped_product.h and their emulation share beside the lanes' work.
#pragma once

#include <string>

#include "cuda/grouped_bits.h"
#include "cuda/grouped_product.h"
#include "cuda/packed_loops.h"

namespace berth {

// Throws Error where a matrix is not what GroupedMatrix says: a fault of the caller.
inline void require_whole_groups(const GroupedMatrix& matrix) {
  const std::size_t group = matrix.tile.group;
  const bool known = group == 32 || group == 64 || group == 128;
  if (!known || matrix.columns == 0 || matrix.columns % group != 0) {
    throw Error("internal error: " + std::to_string(matrix.columns) +
                " columns are no whole groups of " + std::to_string(group));
  }
  if (reinterpret_cast<std::uintptr_t>(matrix.data) % 16 != 0) {
    throw Error("internal error: a matrix in tiles is not aligned to 16 bytes");
  }
}

// Where the number `i` of the elements of some rows is. All columns of a cell are followed by those
// of the next row, and 16 rows by the next cell, so that neighbouring elements share what is read.
struct RowElement {
  std::size_t row;  // of those that are wanted
  std::size_t column;
};
BERTH_BOTH RowElement row_element(std::size_t i, std::size_t cells) {
  const std::size_t cell = i / (kGroupTileRows * kCellColumns);
  return {cell / cells * kGroupTileRows + i / kCellColumns % kGroupTileRows,
          cell % cells * kCellColumns + i % kCellColumns};
}
// How many numbers there are, also of rows that fill up the last 16.
BERTH_BOTH std::size_t row_elements(std::size_t count, std::size_t columns) {
  return (count + kGroupTileRows - 1) / kGroupTileRows * kGroupTileRows * columns;
}
BERTH_BOTH std::size_t chosen_row(const RowChoice& rows, std::size_t i) {
  return rows.ids != nullptr ? static_cast<std::size_t>(rows.ids[i]) : rows.first + i;
}

template <GroupCode kCode>
BERTH_BOTH float element_of(const Byte* matrix, const GroupedSizes& sizes, std::size_t row,
                            std::size_t column) {
  const std::size_t cell = column / kCellColumns;
  const Byte* entry = entry_of(matrix + row / kGroupTileRows * sizes.tile_bytes, sizes, cell);
  return TileLanes<kCode>::element(entry, cell_of(entry, sizes, kCode, cell), row % kGroupTileRows,
                                   column);
}

}  // namespace berth
