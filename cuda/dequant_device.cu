// Converts quantised weights to floats in device memory. What limits it is the bandwidth of that
// memory, and long before it the link that the packed bytes come over. In each step of a
// grid-stride loop a thread converts one unit. Neighbouring threads read neighbouring units; where
// their values belong far apart, the cache gathers what they write.
#include "cuda/check.h"
#include "cuda/dequant_orders.h"

namespace berth {
namespace {

template <class Order, class To>
__global__ void dequantize_kernel(QuantLayout layout, QuantTables tables,
                                  const typename Order::Packed* from, std::uint64_t first,
                                  std::uint64_t count, typename To::Bits* to) {
  const std::uint64_t stride = static_cast<std::uint64_t>(gridDim.x) * blockDim.x;
  std::uint64_t i = static_cast<std::uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  for (; i < count; i += stride) Order::convert(layout, tables, from[i], first + i, to);
}

struct Launch {
  const QuantLayout& layout;
  const QuantTables& tables;
  const void* from;
  std::uint64_t first;  // units
  std::uint64_t count;
  void* to;
  cudaStream_t stream;

  template <class Code, class Order, class To>
  bool run() const {
    constexpr std::uint64_t kThreads = 256;
    constexpr std::uint64_t kMostBlocks = 4096;  // enough to fill any GPU; threads loop over more
    const std::uint64_t wanted = (count + kThreads - 1) / kThreads;
    const auto blocks = static_cast<unsigned>(wanted < kMostBlocks ? wanted : kMostBlocks);
    dequantize_kernel<Order, To><<<blocks, kThreads, 0, stream>>>(
        layout, tables, static_cast<const typename Order::Packed*>(from), first, count,
        static_cast<typename To::Bits*>(to));
    BERTH_CUDA_CHECK(cudaGetLastError(), "launching a dequantisation");
    return true;
  }
};

}  // namespace

void dequantize_on_device(const QuantLayout& layout, const QuantTables& tables, const void* from,
                          std::uint64_t first, std::uint64_t bytes, void* to, FloatFormat to_format,
                          CudaStreamHandle handle) {
  const std::uint64_t unit = unit_bytes(layout.order);
  if (bytes < unit) return;
  const Launch launch{
      layout, tables, from, first / unit, bytes / unit, to, static_cast<cudaStream_t>(handle)};
  if (!visit_kernel(layout, to_format, launch)) {
    throw Error("there is no kernel for this layout of quantised weights");
  }
}

}  // namespace berth
