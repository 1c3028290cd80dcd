// Everything that a plan is made from, worked out once: the chain, the devices with their space,
// the times, and what the request says about tensors.
#pragma once

#include <string>
#include <vector>

#include "planner/cost/chain.h"
#include "planner/cost/memory.h"
#include "planner/cost/time.h"

namespace berth {

// Keeps a reference to the tree, which must outlive it. The constructor throws Error for a request
// that makes no sense (make_plan() in berth/planner.h says which). Const methods may be called by
// several threads.
struct PlanInputs {
  PlanInputs(const ModelTree& model_tree, const Machine& on, const Request& asked);
  PlanInputs(const PlanInputs&) = delete;
  PlanInputs& operator=(const PlanInputs&) = delete;

  const ModelTree& tree;
  Request request;
  Machine machine;  // with defaults, and with devices that only --max-memory names
  Workload workload;
  Chain chain;
  std::vector<Space> spaces;  // by device
  std::vector<bool> usable;   // by device: not excluded
  TimeModel time;
  std::vector<int> level;                // by device: its priority, see berth/plan.h
  std::vector<std::uint32_t> pinned;     // by tensor: the device an override names, or kNone
  std::vector<std::uint32_t> pinned_by;  // by tensor: index of that override

  // Whether the planner may choose who computes what stands on the disk: both the CPU and a GPU
  // could, and the request does not say.
  bool may_change_runner() const;
  std::uint32_t device(std::string_view name) const;  // its index; kNone if there is none
  bool is_gpu(std::uint32_t d) const { return berth::is_gpu(machine.devices[d].kind); }
  std::string label(std::uint32_t d) const;  // "gpu 0", "cpu"
};

}  // namespace berth
