#include "runtime/load/untile.h"

#include <algorithm>
#include <cstring>

namespace berth {
namespace {

// Adds a piece, or makes the last one longer where it goes on in both places.
void add(std::vector<UntiledPiece>& pieces, const UntiledPiece& piece) {
  if (!pieces.empty()) {
    UntiledPiece& last = pieces.back();
    if (last.from + last.bytes == piece.from && last.at + last.bytes == piece.at) {
      last.bytes += piece.bytes;
      return;
    }
  }
  pieces.push_back(piece);
}

}  // namespace

std::vector<UntiledPiece> untile_in_place(const MatrixShape& shape, std::byte* stretch,
                                          std::uint64_t at, std::uint64_t bytes) {
  const std::uint64_t row_bytes = stored_row_bytes(shape.format, shape.columns);
  const std::uint64_t tile_bytes = kTileRows * row_bytes;
  const std::uint64_t tiled_bytes = shape.tiled_rows() * row_bytes;
  const std::uint64_t end = at + bytes;
  std::vector<UntiledPiece> pieces;
  std::vector<std::byte> rows;
  std::uint64_t begin = at;
  while (begin < std::min(end, tiled_bytes)) {
    // Entries of one tile are a tile of as many columns, because they stand side by side.
    const std::uint64_t tile = begin / tile_bytes * tile_bytes;
    const std::uint64_t count = std::min(end, tile + tile_bytes) - begin;
    const std::size_t columns =
        count / tile_entry_bytes(shape.format) * block_elements(shape.format);
    std::byte* const data = stretch + (begin - at);
    rows.resize(count);
    untile_stretch({shape.format, kTileRows, columns}, data, 0, count, rows.data());
    std::memcpy(data, rows.data(), count);
    const std::uint64_t of_row = count / kTileRows;
    for (std::uint64_t row = 0; row < kTileRows; ++row) {
      add(pieces,
          {begin - at + row * of_row, of_row, tile + row * row_bytes + (begin - tile) / kTileRows});
    }
    begin += count;
  }
  if (begin < end) add(pieces, {begin - at, end - begin, begin});  // the last rows
  return pieces;
}

}  // namespace berth
