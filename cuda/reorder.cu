// Reorders in device memory: in each step of a grid-stride loop over the stored bytes, a thread
// moves one word. Loads always coalesce; stores do where whole rows move, but not where a matrix is
// transposed.
#include "cuda/check.h"
#include "cuda/reorder.h"

namespace berth {
namespace {

template <typename Word>
__global__ void reorder_kernel(const Word* from, std::size_t at, std::size_t count,
                               std::size_t rows, std::size_t columns, std::size_t unit, Word* to) {
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (; i < count; i += stride) {
    const std::size_t word = at + i;
    const std::size_t stored = word / unit;
    const std::size_t group = stored / (rows * columns) * (rows * columns);
    const std::size_t row = stored % (rows * columns) / columns;
    const std::size_t column = stored % columns;
    to[(group + column * rows + row) * unit + word % unit] = from[i];
  }
}

template <typename Word>
void launch(const void* from, std::size_t at, std::size_t bytes, const Reorder& order, void* to,
            cudaStream_t stream) {
  constexpr std::size_t kThreads = 256;
  constexpr std::size_t kMostGroups = 4096;
  const std::size_t count = bytes / sizeof(Word);
  const std::size_t wanted = (count + kThreads - 1) / kThreads;
  const auto groups = static_cast<unsigned>(wanted < kMostGroups ? wanted : kMostGroups);
  reorder_kernel<Word><<<groups, kThreads, 0, stream>>>(
      static_cast<const Word*>(from), at / sizeof(Word), count, order.rows, order.columns,
      order.unit / sizeof(Word), static_cast<Word*>(to));
  BERTH_CUDA_CHECK(cudaGetLastError(), "launching a reordering");
}

}  // namespace

void reorder_on_device(const void* from, std::size_t at, std::size_t bytes, const Reorder& order,
                       void* to, CudaStreamHandle handle) {
  if (bytes == 0) return;
  auto* stream = static_cast<cudaStream_t>(handle);
  const std::size_t steps = reinterpret_cast<std::uintptr_t>(from) |
                            reinterpret_cast<std::uintptr_t>(to) | at | bytes | order.unit;
  if (steps % 8 == 0) return launch<std::uint64_t>(from, at, bytes, order, to, stream);
  if (steps % 4 == 0) return launch<std::uint32_t>(from, at, bytes, order, to, stream);
  if (steps % 2 == 0) return launch<std::uint16_t>(from, at, bytes, order, to, stream);
  launch<std::uint8_t>(from, at, bytes, order, to, stream);
}

}  // namespace berth
