// Runs the kernels of packed_kernels.h on a GPU.
#include "cuda/check.h"
#include "cuda/packed_kernels.h"

namespace berth {
namespace {

// Runs a kernel on a stream.
struct OnStream {
  cudaStream_t stream;

  template <class... Parameters, class... Arguments>
  void operator()(unsigned groups, void (*kernel)(Parameters...), Arguments... arguments) const {
    kernel<<<groups, kThreads, 0, stream>>>(arguments...);
    BERTH_CUDA_CHECK(cudaGetLastError(), "launching a kernel for packed weights");
  }
};

}  // namespace

void multiply_packed_on_device(const PackedMatrix& matrix, const PackedInput& x, void* workspace,
                               const PackedOutput& y, CudaStreamHandle stream) {
  run_products(matrix, x, workspace, y, OnStream{static_cast<cudaStream_t>(stream)});
}

void dequantize_rows_on_device(const PackedMatrix& matrix, const std::int64_t* ids,
                               std::size_t count, const PackedOutput& to, CudaStreamHandle stream) {
  run_rows(matrix, ids, count, to, OnStream{static_cast<cudaStream_t>(stream)});
}

bool has_packed_kernels(int device) {
  int before = 0;
  if (cudaGetDevice(&before) != cudaSuccess || cudaSetDevice(device) != cudaSuccess) {
    cudaGetLastError();
    return false;
  }
  cudaFuncAttributes attributes{};
  const bool found = cudaFuncGetAttributes(&attributes, activation_kernel) == cudaSuccess;
  cudaGetLastError();
  cudaSetDevice(before);
  return found;
}

}  // namespace berth
