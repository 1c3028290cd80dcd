// The plain way to load a model, measured so that it can be compared with load().
#pragma once

#include <cstdint>

#include "berth/load.h"
#include "berth/model.h"

namespace berth {

struct NaiveReport {
  double seconds = 0;
  std::uint64_t host_peak_bytes = 0;  // anonymous + shared above the baseline
  HostMemory before;
  HostMemory after;
};

// Builds the whole model, reads the whole state dict beside it, then copies the second into the
// first; all in anonymous host memory. Measures the process that it runs in, so run it in a child
// process. Throws Error where the model has no weights or a file cannot be read.
NaiveReport load_naively(const Model& model);

}  // namespace berth
