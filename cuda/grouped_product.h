// Products with matrices of quantised weights that were stored in several tensors, which lie in a
// GPU's memory in tiles (group_tile.h): the same bytes that host memory would have.
//
// y[p][r] = sum over c of W[r][c] x[p][c], p a position. Beside 4-bit codes activations become
// numbers of 24 bits, as beside GGUF's blocks (packed_product.h), and sums of 32 columns of
// integers are exact; beside FP8 they are f32. The result of a position is the same bits whatever
// is computed beside it, because every output is summed in one order.
//
// Every function on the device has an emulation on the host, which runs the same code for one lane
// after another and gives the same bits (but for those of a NaN). Tests compare it with the formula
// and with the kernels of host memory. Nothing here waits for the device or allocates. Stateless;
// safe for use from many threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/cast.h"
#include "cuda/group_tile.h"
#include "cuda/packed_product.h"

namespace berth {

// A matrix [rows, columns] in tiles, the last one whole, too. `tile.group` is 32, 64 or 128, and
// divides the columns.
struct GroupedMatrix {
  GroupTile tile;
  std::size_t rows = 0;
  std::size_t columns = 0;
  const void* data = nullptr;  // at a multiple of 16 bytes
};

// Bytes of workspace that a product needs, at a multiple of 8 bytes: for x as the kernels take it.
std::size_t grouped_workspace_bytes(const GroupedMatrix& matrix, std::size_t positions);

// Enqueues y on `stream`. All pointers are to memory of the device that is selected. Throws Error
// where a launch is refused, or the matrix is not what GroupedMatrix says.
void multiply_grouped_on_device(const GroupedMatrix& matrix, const PackedInput& x, void* workspace,
                                const PackedOutput& y, CudaStreamHandle stream);
// The same in host memory.
void multiply_grouped_emulated(const GroupedMatrix& matrix, const PackedInput& x, void* workspace,
                               const PackedOutput& y);

// Rows of a matrix: `count` of them, those that `ids` name, or if that is null, `first` and those
// that follow.
struct RowChoice {
  const std::int64_t* ids = nullptr;  // in the memory of whoever computes; numbers of rows
  std::size_t first = 0;
  std::size_t count = 0;
};
// These rows as floats, [count, columns].
void grouped_rows_on_device(const GroupedMatrix& matrix, const RowChoice& rows,
                            const PackedOutput& to, CudaStreamHandle stream);
void grouped_rows_emulated(const GroupedMatrix& matrix, const RowChoice& rows,
                           const PackedOutput& to);

}  // namespace berth
