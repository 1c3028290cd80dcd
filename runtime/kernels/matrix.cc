#include "runtime/kernels/matrix.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "cuda/cast.h"
#include "runtime/kernels/block_tiles.h"
#include "runtime/kernels/group_tiles.h"
#include "runtime/kernels/tiles.h"

namespace berth {
namespace {

constexpr DType kTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ8_0,
                            DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                            DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kMXFP4};

FloatFormat float_format(MatrixFormat format) {
  return format == MatrixFormat::kF32   ? FloatFormat::kF32
         : format == MatrixFormat::kF16 ? FloatFormat::kF16
                                        : FloatFormat::kBF16;
}

DTypeBlock stored_block(MatrixFormat format) {
  return dtype_block(kTypes[static_cast<std::size_t>(format)]);
}

}  // namespace

std::optional<MatrixFormat> matrix_format(DType dtype) {
  if (is_grouped_format(dtype)) return grouped_form(dtype)->format;
  const auto* const found = std::find(std::begin(kTypes), std::end(kTypes), dtype);
  if (found == std::end(kTypes)) return std::nullopt;
  return static_cast<MatrixFormat>(found - std::begin(kTypes));
}

std::size_t group_columns(DType dtype) {
  return is_grouped_format(dtype) ? dtype_block(dtype).elements : 0;
}

std::size_t block_elements(MatrixFormat format) { return stored_block(format).elements; }

std::size_t stored_row_bytes(MatrixFormat format, std::size_t columns) {
  const DTypeBlock block = stored_block(format);
  return columns / block.elements * block.bytes;
}

std::size_t tile_bytes(MatrixFormat format, std::size_t columns, std::size_t group) {
  return is_grouped(format) ? grouped_tile_bytes(format, columns, group)
                            : kTileRows * stored_row_bytes(format, columns);
}

std::size_t tile_entry_bytes(MatrixFormat format) { return kTileRows * stored_block(format).bytes; }

void make_tile(MatrixFormat format, const std::byte* stored, std::size_t rows, std::size_t columns,
               std::byte* tile) {
  const TileShape shape = tile_shape(format);
  const std::size_t block_bytes = stored_block(format).bytes;
  const std::size_t row_bytes = stored_row_bytes(format, columns);
  if (rows < kTileRows) std::memset(tile, 0, kTileRows * row_bytes);
  for (std::size_t block = 0; block < columns / shape.unit; ++block) {
    std::byte* const entry = tile + block * shape.bytes;
    for (std::size_t row = 0; row < rows; ++row) {
      const std::byte* from = stored + row * row_bytes + block * block_bytes;
      move_block(format, from, row, entry);
    }
  }
}

void tile_in_place(Matrix& matrix, ThreadTeam& team) {
  if (!is_tiled(matrix.format)) return;
  const std::size_t bytes = kTileRows * stored_row_bytes(matrix.format, matrix.columns);
  const std::size_t first = matrix.tiled_rows / kTileRows;
  const std::size_t tiles = matrix.rows / kTileRows - first;
  auto* const data = const_cast<std::byte*>(matrix.data) + first * bytes;
  const std::size_t parts = team.parts(tiles, 1);
  team.run(parts, [&](std::size_t part, std::size_t) {
    std::vector<std::byte> stored(bytes);
    for (std::size_t t = tiles * part / parts; t < tiles * (part + 1) / parts; ++t) {
      std::memcpy(stored.data(), data + t * bytes, bytes);
      make_tile(matrix.format, stored.data(), kTileRows, matrix.columns, data + t * bytes);
    }
  });
  matrix.tiled_rows = matrix.rows / kTileRows * kTileRows;
}

namespace {

// Rows that are in no tile are the same in both forms. Copies what of the stretch [at, at + bytes)
// is theirs, and returns how many bytes stand before it.
std::size_t copy_last_rows(const MatrixShape& shape, const std::byte* from, std::size_t at,
                           std::size_t bytes, std::byte* matrix) {
  const std::size_t tiled = shape.tiled_rows() * stored_row_bytes(shape.format, shape.columns);
  const std::size_t before = std::min(bytes, tiled - std::min(at, tiled));
  std::memcpy(matrix + at + before, from + before, bytes - before);
  return before;
}

}  // namespace

void tile_stretch(const MatrixShape& shape, const std::byte* stored, std::size_t at,
                  std::size_t bytes, std::byte* matrix) {
  const std::size_t row_bytes = stored_row_bytes(shape.format, shape.columns);
  bytes = copy_last_rows(shape, stored, at, bytes, matrix);
  const TileShape tile = tile_shape(shape.format);
  const std::size_t block_bytes = stored_block(shape.format).bytes;
  const std::size_t blocks = row_bytes / block_bytes;
  const std::size_t first = at / block_bytes;
  std::size_t row = first / blocks;
  std::size_t block = first % blocks;
  for (std::size_t done = 0; done < bytes; done += block_bytes) {
    std::byte* const own = matrix + row / kTileRows * kTileRows * row_bytes + block * tile.bytes;
    move_block(shape.format, stored + done, row % kTileRows, own);
    if (++block == blocks) {
      block = 0;
      ++row;
    }
  }
}

void untile_stretch(const MatrixShape& shape, const std::byte* tiled, std::size_t at,
                    std::size_t bytes, std::byte* matrix) {
  const std::size_t row_bytes = stored_row_bytes(shape.format, shape.columns);
  bytes = copy_last_rows(shape, tiled, at, bytes, matrix);
  const std::size_t block_bytes = stored_block(shape.format).bytes;
  const std::size_t entry_bytes = tile_entry_bytes(shape.format);
  const std::size_t entries = row_bytes / block_bytes;  // of a tile
  std::size_t tile = at / entry_bytes / entries;
  std::size_t entry = at / entry_bytes % entries;
  for (std::size_t done = 0; done < bytes; done += entry_bytes) {
    std::byte* const own = matrix + tile * kTileRows * row_bytes + entry * block_bytes;
    for (std::size_t row = 0; row < kTileRows; ++row) {
      unmove_block(shape.format, tiled + done, row, own + row * row_bytes);
    }
    if (++entry == entries) {
      entry = 0;
      ++tile;
    }
  }
}

void read_row(const Matrix& matrix, std::size_t row, float* out) {
  if (is_grouped(matrix.format)) {
    const std::size_t bytes = tile_bytes(matrix.format, matrix.columns, matrix.group);
    read_grouped_row({matrix.format, matrix.group}, matrix.columns,
                     matrix.data + row / kTileRows * bytes, row % kTileRows, out);
    return;
  }
  const std::size_t row_bytes = stored_row_bytes(matrix.format, matrix.columns);
  if (!is_tiled(matrix.format)) {
    cast_on_host(matrix.data + row * row_bytes, float_format(matrix.format), out, FloatFormat::kF32,
                 matrix.columns);
    return;
  }
  const TileShape shape = tile_shape(matrix.format);
  const std::size_t block_bytes = stored_block(matrix.format).bytes;
  const std::byte* const tile = matrix.data + row / kTileRows * kTileRows * row_bytes;
  for (std::size_t b = 0; b < matrix.columns / shape.unit; ++b) {
    float* const to = out + b * shape.unit;
    if (row < matrix.tiled_rows) {
      read_entry(matrix.format, tile + b * shape.bytes, row % kTileRows, to);
    } else {
      read_block(matrix.format, matrix.data + row * row_bytes + b * block_bytes, to);
    }
  }
}

}  // namespace berth
