// Products with matrices in GGUF's block formats that lie in a GPU's memory as they are stored.
//
// y[p][r] = sum over c of W[r][c] x[p][c], p a position. Activations become numbers of 24 bits
// first, with a scale for each 32 of them; they err by 6e-8 of the largest of these, as float32
// does. W is exact, and so are sums of a block's integers. The result of a position is the same
// bits whatever is computed beside it, because every output is summed in one order.
//
// Matrices stay in the file's layout, and no copy is made of them: the bytes of a plan are the
// bytes of the file, a load needs no second pass, and bytes that were checked stay as they were.
// Blocks of 18 to 34 bytes are therefore only aligned to two; lanes read them as 16-bit words.
// Eight blocks that a warp reads together are neighbours, so memory still gives whole sectors, each
// once. Tiles that 16-byte loads could read would save instructions, not bytes; whether that would
// be quicker has not been measured.
//
// Every function on the device has an emulation on the host, which runs the same code for one lane
// after another and gives the same bits (but for those of a NaN). Tests compare it with the
// formula. Nothing here waits for the device or allocates, so all of it can be captured in a CUDA
// graph. Stateless; safe for use from many threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/block_format.h"
#include "cuda/cast.h"

namespace berth {

// A matrix [rows, columns], row by row, each row whole blocks.
struct PackedMatrix {
  BlockFormat format = BlockFormat::kQ8_0;
  std::size_t rows = 0;
  std::size_t columns = 0;     // a multiple of the format's elements in a block
  const void* data = nullptr;  // at a multiple of 16 bytes
};

// Activations [positions, columns] or products [positions, rows] in one of the float formats, row
// by row, aligned for their elements.
struct PackedInput {
  const void* data = nullptr;
  FloatFormat format = FloatFormat::kF32;
  std::size_t positions = 0;
};
struct PackedOutput {
  void* data = nullptr;
  FloatFormat format = FloatFormat::kF32;
};

// So many positions are computed for one reading of the matrix; more take several readings.
inline constexpr std::size_t kPackedPositions = 8;

// Bytes of workspace that a product needs, at a multiple of 8 bytes: for x in 24 bits.
std::size_t packed_workspace_bytes(std::size_t positions, std::size_t columns);

// Enqueues y on `stream`. All pointers are to memory of the device that is selected. Throws Error
// where a launch is refused, or the matrix is not made of whole blocks at an aligned address.
void multiply_packed_on_device(const PackedMatrix& matrix, const PackedInput& x, void* workspace,
                               const PackedOutput& y, CudaStreamHandle stream);
// The same in host memory.
void multiply_packed_emulated(const PackedMatrix& matrix, const PackedInput& x, void* workspace,
                              const PackedOutput& y);

// Rows of a matrix as floats, such as those of an embedding: to[i] = W[ids[i]], [count, columns].
// Every id must be the number of a row. `ids` too are in the device's memory.
void dequantize_rows_on_device(const PackedMatrix& matrix, const std::int64_t* ids,
                               std::size_t count, const PackedOutput& to, CudaStreamHandle stream);
void dequantize_rows_emulated(const PackedMatrix& matrix, const std::int64_t* ids,
                              std::size_t count, const PackedOutput& to);

// Whether the GPU with this number can run the kernels that this build has; false where there is no
// such GPU. Makes a context on it.
bool has_packed_kernels(int device);

}  // namespace berth
