// Reads device memory as fast as it can: in each turn a thread loads 64 bytes as four loads of 16,
// next to those of its neighbours, so that enough loads are in flight to keep the memory busy.
#include "cuda/check.h"
#include "cuda/read_words.h"

namespace berth {
namespace {

constexpr unsigned kThreads = 512;
constexpr unsigned kBlocks = 2048;  // enough to fill any GPU; each thread loops over the rest

__device__ std::uint32_t fold(uint4 word) { return word.x ^ word.y ^ word.z ^ word.w; }

__global__ void xor_words_kernel(const uint4* data, std::size_t count, std::uint32_t* result) {
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  std::uint32_t word = 0;
  for (; i + 3 * stride < count; i += 4 * stride) {
    const uint4 a = data[i];
    const uint4 b = data[i + stride];
    const uint4 c = data[i + 2 * stride];
    const uint4 d = data[i + 3 * stride];
    word ^= fold(a) ^ fold(b) ^ fold(c) ^ fold(d);
  }
  for (; i < count; i += stride) word ^= fold(data[i]);
  for (int lane = 16; lane > 0; lane /= 2) word ^= __shfl_xor_sync(0xffffffffu, word, lane);
  if (threadIdx.x % 32 == 0) atomicXor(result, word);
}

}  // namespace

void xor_words_on_device(const void* data, std::size_t bytes, std::uint32_t* result,
                         CudaStreamHandle stream) {
  xor_words_kernel<<<kBlocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      static_cast<const uint4*>(data), bytes / sizeof(uint4), result);
  BERTH_CUDA_CHECK(cudaGetLastError(), "launching a read of device memory");
}

}  // namespace berth
