// Berth's own policies: `auto` looks for the placement with the least time for the workload,
// `throughput` for the one whose slowest device takes the least time. Both count all of the ledger:
// weights, KV cache and workspace.
//
// Devices are tried in tiers: the GPUs, those of the highest priority first; all GPUs and the CPU;
// these and the disk. A tier is searched only if nothing fits in the tiers before it, so that a
// model that fits on the GPUs is never spilled. In a tier the following are tried, and the one with
// the best price (pricing.h) wins:
// - the exact contiguous pipeline (pipeline.h), with experts aside if not all of them fit;
// - the same with stream buffers kept on a GPU, for the prompt alone and for tokens, too;
// - the same with the input embedding on the host;
// - tied units together on each device in turn, or on different devices, each with its copy;
// - layers that stream spread among those that stand on the GPU, at several spacings (spread.h);
// - if none of these fits, packings in any order, contiguous or not (packer.h);
// - if the chain is short, every placement there is, by branch and bound (exhaustive.h).
// A lower bound over all placements (bounds.h) says how far from optimal the winner can be. All
// functions are pure and deterministic.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "planner/cost/inputs.h"

namespace berth {

struct AutoPlan {
  std::vector<std::uint32_t> tensor_device;  // by TensorId; kNone only if no device may be used
  // (cost - lower bound) / cost; 0: proven optimal; nothing: nothing is known.
  std::optional<double> gap;
  bool exact = true;    // every order of devices was tried, or the placement is proven optimal
  bool packed = false;  // no contiguous runs fit: layers are packed in another order
  // A search for packings stopped at its limit: a tier that was passed over may hold the model all
  // the same, or, if it does not fit, less may be missing.
  bool stopped = false;
  bool fits = true;
  // If it does not fit: the fewest bytes of memory that, added to one device, would make it fit (to
  // all devices if one is not enough), and the bytes by which overrides alone fill devices beyond
  // their space. The placement is the one with that much more memory.
  std::uint64_t missing = 0;
};

// Places the model of `inputs` by its request's policy, which must be kAuto or kThroughput.
AutoPlan auto_place(const PlanInputs& inputs);

// Whether auto_place() would find a plan that fits, without looking for the best one.
bool auto_fits(const PlanInputs& inputs);

}  // namespace berth
