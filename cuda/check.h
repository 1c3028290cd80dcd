// Turns a failed CUDA call into an Error. For those files of this folder that include CUDA's
// headers.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "berth/error.h"

namespace berth {

// Throws Error where `status` is a failure. `doing` completes the message "CUDA failed while ...".
// Also clears the last error that CUDA's runtime remembers, so that no later call reports it again.
inline void cuda_check(cudaError_t status, const std::string& doing) {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  throw Error("CUDA failed while " + doing + ": " + cudaGetErrorString(status) + " (" +
              cudaGetErrorName(status) + ")");
}

}  // namespace berth

#define BERTH_CUDA_CHECK(call, doing) ::berth::cuda_check((call), (doing))
