// Takes matrices out of tiles while their bytes pass, for whoever wants them row by row: GPUs,
// conversions, dequantisation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "runtime/kernels/matrix.h"

namespace berth {

// Bytes that stand together in the stretch and in the matrix as it is stored row by row.
struct UntiledPiece {
  std::uint64_t from = 0;  // offset in the stretch
  std::uint64_t bytes = 0;
  std::uint64_t at = 0;  // offset in the matrix
};

// Takes the bytes [at, at + bytes) of a tiled matrix out of tiles, in place: `stretch` has them,
// and afterwards the same blocks in another order. They are whole entries of tiles, or rows after
// the last tile. Returns what is where then, in the order of the stretch. Takes as much memory as a
// tile for a while. Safe for use from many threads on different stretches.
std::vector<UntiledPiece> untile_in_place(const MatrixShape& shape, std::byte* stretch,
                                          std::uint64_t at, std::uint64_t bytes);

}  // namespace berth
