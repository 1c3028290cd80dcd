// Turns a failed CUDA call into Error. For the files of this folder that see CUDA's headers.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "berth/error.h"

namespace berth {

// `doing` completes "CUDA failed while ..."; the runtime's sticky last error is cleared.
inline void cuda_check(cudaError_t status, const std::string& doing) {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  throw Error("CUDA failed while " + doing + ": " + cudaGetErrorString(status) + " (" +
              cudaGetErrorName(status) + ")");
}

}  // namespace berth

#define BERTH_CUDA_CHECK(call, doing) ::berth::cuda_check((call), (doing))
