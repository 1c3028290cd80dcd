// The policies of our own: `auto` (least time for the workload) and `throughput` (the least time of
// the slowest device), within the whole ledger.
//
// Devices are taken in tiers: GPUs, those of the highest priority first; all GPUs and the CPU;
// those and the disk. A later tier is looked at only where nothing fits in the one before, so that
// what fits on GPUs is never spilled. In a tier these are tried, and the best by pricing.h wins:
// - the exact contiguous pipeline (pipeline.h), with experts aside of the layers that need it;
// - the same with buffers for streaming, for the prompt alone and for tokens too;
// - the same with the input embedding on the host;
// - tied units on one device, on each in turn, or apart, each with its copy;
// - layers that stream spread among those that stand on the GPU, at several spacings (spread.h);
// - where the chain is short, every placement whatever, by branch and bound (exhaustive.h).
// How far from optimal the winner can be is told by a bound over all placements (bounds.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "planner/cost/inputs.h"

namespace berth {

struct AutoPlan {
  std::vector<std::uint32_t> tensor_device;
  double gap = 0;     // (cost - lower bound) / cost
  bool exact = true;  // the pipeline tried every order of devices
  bool fits = true;
  // Where it does not fit: the least memory that would make it fit, added to one device (beside
  // what overrides fill beyond their spaces); the placement is the one with that much more.
  std::uint64_t missing = 0;
};

AutoPlan auto_place(const PlanInputs& inputs);

// Whether auto_place() would find a plan that fits, without looking for the best one.
bool auto_fits(const PlanInputs& inputs);

}  // namespace berth
