// Converts blocks in device memory. What limits it is the bandwidth of that memory: in each step of
// a grid-stride loop a thread makes one element, so stores coalesce, and the few bytes of a block
// come out of the cache.
#include "cuda/block_bits.h"
#include "cuda/block_format.h"
#include "cuda/check.h"

namespace berth {
namespace {

template <class Block, class To>
__global__ void block_kernel(const Byte* from, typename To::Bits* to, std::size_t count) {
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (; i < count; i += stride) {
    const Byte* block = from + i / Block::kElements * Block::kBytes;
    to[i] = To::narrow(Block::element(block, static_cast<int>(i % Block::kElements)));
  }
}

template <class Block, class To>
void launch(const void* from, void* to, std::size_t blocks, cudaStream_t stream) {
  constexpr std::size_t kThreads = 256;
  constexpr std::size_t kMostGroups = 4096;  // enough to fill any GPU; threads loop over the rest
  const std::size_t count = blocks * Block::kElements;
  const std::size_t wanted = (count + kThreads - 1) / kThreads;
  const auto groups = static_cast<unsigned>(wanted < kMostGroups ? wanted : kMostGroups);
  block_kernel<Block, To><<<groups, kThreads, 0, stream>>>(
      static_cast<const Byte*>(from), static_cast<typename To::Bits*>(to), count);
  BERTH_CUDA_CHECK(cudaGetLastError(), "launching a dequantisation");
}

template <class Block>
void block_to(const void* from, void* to, FloatFormat to_format, std::size_t blocks,
              cudaStream_t stream) {
  switch (to_format) {
    case FloatFormat::kBF16:
      return launch<Block, BF16Bits>(from, to, blocks, stream);
    case FloatFormat::kF16:
      return launch<Block, F16Bits>(from, to, blocks, stream);
    case FloatFormat::kF32:
      return launch<Block, F32Bits>(from, to, blocks, stream);
    case FloatFormat::kF64:
      return launch<Block, F64Bits>(from, to, blocks, stream);
  }
}

}  // namespace

void dequantize_on_device(const void* from, BlockFormat format, void* to, FloatFormat to_format,
                          std::size_t blocks, CudaStreamHandle handle) {
  if (blocks == 0) return;
  auto* stream = static_cast<cudaStream_t>(handle);
  switch (format) {
    case BlockFormat::kQ4_0:
      return block_to<Q4_0Block>(from, to, to_format, blocks, stream);
    case BlockFormat::kQ4_1:
      return block_to<Q4_1Block>(from, to, to_format, blocks, stream);
    case BlockFormat::kQ5_0:
      return block_to<Q5_0Block>(from, to, to_format, blocks, stream);
    case BlockFormat::kQ5_1:
      return block_to<Q5_1Block>(from, to, to_format, blocks, stream);
    case BlockFormat::kQ8_0:
      return block_to<Q8_0Block>(from, to, to_format, blocks, stream);
    case BlockFormat::kQ4_K:
      return block_to<Q4_KBlock>(from, to, to_format, blocks, stream);
    case BlockFormat::kQ5_K:
      return block_to<Q5_KBlock>(from, to, to_format, blocks, stream);
    case BlockFormat::kQ6_K:
      return block_to<Q6_KBlock>(from, to, to_format, blocks, stream);
  }
}

}  // namespace berth
