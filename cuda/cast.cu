// Casts in device memory. What limits it is the bandwidth of that memory: in each step of a
// grid-stride loop a thread converts one element, and neighbouring threads convert neighbouring
// elements, so loads and stores coalesce.
#include "cuda/cast.h"
#include "cuda/cast_bits.h"
#include "cuda/check.h"

namespace berth {
namespace {

template <class From, class To>
__global__ void cast_kernel(const typename From::Bits* from, typename To::Bits* to,
                            std::size_t count) {
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (; i < count; i += stride) to[i] = To::narrow(From::widen(from[i]));
}

template <class From, class To>
void launch(const void* from, void* to, std::size_t count, cudaStream_t stream) {
  constexpr std::size_t kThreads = 256;
  constexpr std::size_t kMostBlocks = 4096;  // enough to fill any GPU; threads loop over the rest
  const std::size_t wanted = (count + kThreads - 1) / kThreads;
  const auto blocks = static_cast<unsigned>(wanted < kMostBlocks ? wanted : kMostBlocks);
  cast_kernel<From, To><<<blocks, kThreads, 0, stream>>>(
      static_cast<const typename From::Bits*>(from), static_cast<typename To::Bits*>(to), count);
  BERTH_CUDA_CHECK(cudaGetLastError(), "launching a cast");
}

template <class From>
void cast_from(const void* from, void* to, FloatFormat to_format, std::size_t count,
               cudaStream_t stream) {
  switch (to_format) {
    case FloatFormat::kBF16:
      return launch<From, BF16Bits>(from, to, count, stream);
    case FloatFormat::kF16:
      return launch<From, F16Bits>(from, to, count, stream);
    case FloatFormat::kF32:
      return launch<From, F32Bits>(from, to, count, stream);
    case FloatFormat::kF64:
      return launch<From, F64Bits>(from, to, count, stream);
  }
}

}  // namespace

void cast_on_device(const void* from, FloatFormat from_format, void* to, FloatFormat to_format,
                    std::size_t count, CudaStreamHandle handle) {
  if (count == 0) return;
  auto* stream = static_cast<cudaStream_t>(handle);
  switch (from_format) {
    case FloatFormat::kBF16:
      return cast_from<BF16Bits>(from, to, to_format, count, stream);
    case FloatFormat::kF16:
      return cast_from<F16Bits>(from, to, to_format, count, stream);
    case FloatFormat::kF32:
      return cast_from<F32Bits>(from, to, to_format, count, stream);
    case FloatFormat::kF64:
      return cast_from<F64Bits>(from, to, to_format, count, stream);
  }
}

}  // namespace berth
