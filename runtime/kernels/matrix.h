// Weight matrices in the forms that the products of this room compute on.
//
// A matrix is [rows, columns], and each of its rows makes one output. It lies in memory in one of
// two ways:
//
// - as stored: row by row, as safetensors and GGUF files have it;
// - tiled: 16 rows at a time, so that one vector register holds the same few elements of all of
//   them. A format with blocks keeps its numbers: tiling moves bits and changes none. Each block
//   of 16 rows begins with their scales, followed by their minima where the format has them, and
//   then by the elements, four of a row beside four of the next.
//
// Formats with blocks are computed on as tiles, plain ones as stored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "berth/tensor.h"
#include "runtime/kernels/matrix_format.h"

namespace berth {

/// The format that the products have for an element type; nothing where they have none.
std::optional<MatrixFormat> matrix_format(DType dtype);

/// How many elements of a row are stored together: 1, 32 or 256. Columns must be a multiple of it.
std::size_t block_elements(MatrixFormat format);

/// Bytes of one row as it is stored.
std::size_t stored_row_bytes(MatrixFormat format, std::size_t columns);

/// Bytes of 16 rows as a tile. Where it is not 16 times stored_row_bytes() (Q4_K, Q5_K), the 6-bit
/// scales take a byte each.
std::size_t tile_bytes(MatrixFormat format, std::size_t columns);

/// Bytes of a whole matrix in the form that is computed on. The last tile is filled up with rows of
/// zeros.
std::size_t matrix_bytes(MatrixFormat format, std::size_t rows, std::size_t columns);

/// Makes one tile of up to 16 rows: `rows` of them as stored, one after another. What is missing to
/// 16 becomes zero. `tile` has tile_bytes(format, columns) bytes; the two must not overlap.
void make_tile(MatrixFormat format, const std::byte* stored, std::size_t rows, std::size_t columns,
               std::byte* tile);

/// A matrix that somebody else owns, in the form that is computed on.
struct Matrix {
  MatrixFormat format = MatrixFormat::kF32;
  std::size_t rows = 0;
  std::size_t columns = 0;
  const std::byte* data = nullptr;
};

}  // namespace berth
