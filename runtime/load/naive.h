// The plain way to load, measured for comparison.
#pragma once

#include <cstdint>

#include "berth/load.h"
#include "berth/model.h"

namespace berth {

// The plain way, for comparison: a built model, beside it the whole state dict, then a copy of one
// into the other; everything in anonymous host memory. Measures its own process: run it in a child.
struct NaiveReport {
  double seconds = 0;
  std::uint64_t host_peak_bytes = 0;  // anonymous + shared above the baseline
  HostMemory before;
  HostMemory after;
};
NaiveReport load_naively(const Model& model);

}  // namespace berth
