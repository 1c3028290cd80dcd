// Makes tiles in device memory. What limits it is the link that the packed bytes come over. In each
// step of a grid-stride loop a thread puts one unit where it belongs.
#include "cuda/check.h"
#include "cuda/group_tiling_checks.h"

namespace berth {
namespace {

template <class Packed>
__global__ void tiling_kernel(TilingJob job, const Packed* from, std::uint64_t first,
                              std::uint64_t count) {
  const std::uint64_t stride = static_cast<std::uint64_t>(gridDim.x) * blockDim.x;
  std::uint64_t i = static_cast<std::uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (; i < count; i += stride) tile_unit(job, from[i], first + i);
}

template <class Packed>
void launch(const TilingJob& job, const void* from, std::uint64_t first, std::uint64_t bytes,
            cudaStream_t stream) {
  constexpr std::uint64_t kThreads = 256;
  constexpr std::uint64_t kMostBlocks = 4096;  // enough to fill any GPU; threads loop over more
  const std::uint64_t count = bytes / sizeof(Packed);
  const std::uint64_t wanted = (count + kThreads - 1) / kThreads;
  const auto blocks = static_cast<unsigned>(wanted < kMostBlocks ? wanted : kMostBlocks);
  tiling_kernel<<<blocks, kThreads, 0, stream>>>(job, static_cast<const Packed*>(from),
                                                 first / sizeof(Packed), count);
  BERTH_CUDA_CHECK(cudaGetLastError(), "launching the tiling of a weight");
}

}  // namespace

void tile_packed_on_device(const QuantLayout& layout, const QuantTables& tables,
                           const GroupTile& tile, const void* from, std::uint64_t first,
                           std::uint64_t bytes, void* tiles, CudaStreamHandle handle) {
  const TilingJob job = tiling_job(layout, tables, tile, tiles);
  const std::size_t unit = unit_bytes(layout.order);
  if (bytes < unit) return;
  auto* stream = static_cast<cudaStream_t>(handle);
  unit == 4 ? launch<std::uint32_t>(job, from, first, bytes, stream)
            : launch<std::uint8_t>(job, from, first, bytes, stream);
}

}  // namespace berth
