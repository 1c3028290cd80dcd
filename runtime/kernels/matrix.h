// Weight matrices in the forms that the products of this room compute on.
//
// A matrix is [rows, columns], and each of its rows makes one output. It lies in memory in one of
// two ways:
//
// - as stored: row by row, as safetensors and GGUF files have it;
// - tiled: 16 rows at a time, so that one vector register holds the same few elements of all of
//   them. A format with blocks keeps its numbers: tiling moves bits and changes none, and takes no
//   more memory. Each block of 16 rows begins with their scales, followed by their minima where the
//   format has them, and then by the elements, four of a row beside four of the next.
//
// Formats with blocks are computed on as tiles, plain ones as stored. Rows of a format with blocks
// that are not tiled yet, such as those of a file that is mapped, are tiled each time they are
// used, which takes several times as long.
//
// Grouped formats are of weights that are stored in several tensors, such as codes, scales and zero
// points. They exist as tiles only, the last one filled up with zeros: group_tiles.h makes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "berth/tensor.h"
#include "runtime/kernels/matrix_format.h"
#include "runtime/kernels/team.h"

namespace berth {

/// The format that the products have for an element type; nothing where they have none.
std::optional<MatrixFormat> matrix_format(DType dtype);

/// Matrix::group of an element type: 0 but for grouped formats.
std::size_t group_columns(DType dtype);

/// How many elements of a row are stored together: 1, 32 or 256. Columns must be a multiple of it.
/// Not for grouped formats, which no file has; nor are the next two functions.
std::size_t block_elements(MatrixFormat format);

/// Bytes of one row as it is stored.
std::size_t stored_row_bytes(MatrixFormat format, std::size_t columns);

/// Makes one tile of up to 16 rows: `rows` of them as stored, one after another. What is missing to
/// 16 becomes zero. `tile` has 16 x stored_row_bytes() bytes; the two must not overlap.
void make_tile(MatrixFormat format, const std::byte* stored, std::size_t rows, std::size_t columns,
               std::byte* tile);

/// A matrix that somebody else owns.
struct Matrix {
  MatrixFormat format = MatrixFormat::kF32;
  std::size_t rows = 0;
  std::size_t columns = 0;
  const std::byte* data = nullptr;
  std::size_t tiled_rows = 0;  // the first rows, a multiple of 16; the others are as stored
  std::size_t group = 0;       // columns that share a scale, in grouped formats
};

/// Bytes of 16 rows. `group`: as a Matrix has it.
std::size_t tile_bytes(MatrixFormat format, std::size_t columns, std::size_t group);

/// Tiles all whole groups of 16 rows of a matrix in place; `matrix.data` points to memory that may
/// be written. Does nothing for plain formats and for rows that are tiled.
void tile_in_place(Matrix& matrix, ThreadTeam& team);

/// A matrix that is tiled piece by piece while it is read.
struct MatrixShape {
  MatrixFormat format = MatrixFormat::kF32;
  std::size_t rows = 0;
  std::size_t columns = 0;

  /// How many of the rows become tiles: all whole groups of 16, in formats that have tiles.
  std::size_t tiled_rows() const { return is_tiled(format) ? rows / kTileRows * kTileRows : 0; }
};

/// Puts the bytes [at, at + bytes) of a stored matrix, whole blocks, where the same matrix has them
/// when it is tiled: `matrix` has as many bytes as the stored one. No byte of a tile belongs to two
/// rows or to two blocks, so several threads may do this for different stretches of one matrix.
void tile_stretch(const MatrixShape& shape, const std::byte* stored, std::size_t at,
                  std::size_t bytes, std::byte* matrix);

/// Bytes of one entry of a tile, which holds the same block of all its rows. A tile is a sequence
/// of such entries, one for each block of a row, and no entry is ever cut.
std::size_t tile_entry_bytes(MatrixFormat format);

/// The opposite of tile_stretch(): puts the bytes [at, at + bytes) of a tiled matrix, whole entries
/// or the rows after the last tile, where the same matrix has them when it is stored row by row.
/// Several threads may do this for different stretches of one matrix.
void untile_stretch(const MatrixShape& shape, const std::byte* tiled, std::size_t at,
                    std::size_t bytes, std::byte* matrix);

/// One row in float32: `out` has `columns` elements.
void read_row(const Matrix& matrix, std::size_t row, float* out);

}  // namespace berth
