// Runs the kernels of grouped_kernels.h on a GPU.
#include "cuda/check.h"
#include "cuda/grouped_kernels.h"

namespace berth {
namespace {

// Runs a kernel on a stream.
struct OnStream {
  cudaStream_t stream;

  template <class... Parameters, class... Arguments>
  void operator()(unsigned groups, unsigned threads, void (*kernel)(Parameters...),
                  Arguments... arguments) const {
    kernel<<<groups, threads, 0, stream>>>(arguments...);
    BERTH_CUDA_CHECK(cudaGetLastError(), "launching a kernel for weights in tiles");
  }
};

}  // namespace

void multiply_grouped_on_device(const GroupedMatrix& matrix, const PackedInput& x, void* workspace,
                                const PackedOutput& y, CudaStreamHandle stream) {
  run_grouped(matrix, x, workspace, y, OnStream{static_cast<cudaStream_t>(stream)});
}

void grouped_rows_on_device(const GroupedMatrix& matrix, const RowChoice& rows,
                            const PackedOutput& to, CudaStreamHandle stream) {
  run_grouped_rows(matrix, rows, to, OnStream{static_cast<cudaStream_t>(stream)});
}

}  // namespace berth
