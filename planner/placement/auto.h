// The policies of our own: `auto` (least time for the workload) and `throughput` (the least time of
// the slowest device), within the whole ledger.
//
// Devices are taken in tiers: GPUs; GPUs and the CPU; those and the disk. A later tier is looked at
// only where nothing fits in the one before, so that what fits on GPUs is never spilled. In a tier
// the placement is exact among contiguous pipelines (pipeline.h). Units that share tied storage
// stay together on whichever device makes the best whole; pinned units stay where they are pinned.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "planner/placement/setting.h"

namespace berth {

struct AutoPlan {
  std::vector<std::uint32_t> tensor_device;
  std::uint32_t stream = kNone;  // the GPU that streams units of the host, if that is quicker
  std::uint64_t slot = 0;        // bytes of a streaming slot there
  double gap = 0;                // (cost - lower bound) / cost
  bool exact = true;
  bool fits = true;
  // Where it does not fit: the least memory that would make it fit, added to device `roomiest`; the
  // placement is the one with that much more.
  std::uint64_t missing = 0;
  std::uint32_t roomiest = kNone;
};

AutoPlan auto_place(const Setting& setting);

}  // namespace berth
