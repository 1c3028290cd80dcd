// Everything that a plan is made from, worked out once. Private to the sources of this folder.
#pragma once

#include <string>
#include <vector>

#include "planner/cost/chain.h"
#include "planner/cost/memory.h"
#include "planner/cost/time.h"

namespace berth {

// `tree` is kept by reference. Throws Error for a request that makes no sense (planner.h).
struct PlanInputs {
  PlanInputs(const ModelTree& model_tree, const Machine& on, const Request& asked);
  PlanInputs(const PlanInputs&) = delete;
  PlanInputs& operator=(const PlanInputs&) = delete;

  const ModelTree& tree;
  Request request;
  Machine machine;  // with defaults, and with devices known from --max-memory alone
  Workload workload;
  Chain chain;
  std::vector<Space> spaces;  // by device
  std::vector<bool> usable;   // by device: not excluded
  TimeModel time;
  std::vector<int> level;                // by device: its priority
  std::vector<std::uint32_t> pinned;     // by tensor: the device an override names, or kNone
  std::vector<std::uint32_t> pinned_by;  // by tensor: index of that override

  // Whether another could compute what stands on a disk than does, and the request leaves it open.
  bool may_change_runner() const;
  std::uint32_t device(std::string_view name) const;  // kNone where there is none
  bool is_gpu(std::uint32_t d) const { return machine.devices[d].kind == DeviceKind::kCuda; }
  std::string label(std::uint32_t d) const;  // "gpu 0", "cpu"
};

}  // namespace berth
