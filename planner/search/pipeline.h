// A chain of units to be placed over devices, as numbers: every unit on one device, every device
// used for at most one contiguous run, in any order, within every device's space.
// pipeline_solver.h places it, pipeline_bound.h says how good a placement can be at best.
//
// A unit may have experts that can stand aside, off the devices' spaces, at a price:
// of a run that is too large for its device, the cheapest experts that make it fit go aside.
//
// Times are whole numbers of nanoseconds held in doubles, so that sums are exact and ties are ties.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "berth/model.h"

namespace berth {

inline constexpr double kNever = std::numeric_limits<double>::infinity();

struct PipelineDevice {
  std::uint64_t space = 0;         // bytes for weights, KV cache and workspace
  std::uint64_t weight_space = 0;  // bytes for weights alone
  bool open = true;                // false: for fixed units only
};

struct PipelineUnit {
  std::uint64_t weights = 0;
  std::uint64_t resident = 0;   // weights, KV cache, logits
  std::uint64_t workspace = 0;  // the largest of a device's units counts, once
  std::uint32_t fixed = kNone;  // stands on this device whatever else happens there
  std::uint64_t experts = 0;    // bytes of weights that may stand aside; 0 for fixed units
};

struct Pipeline {
  std::vector<PipelineDevice> devices;  // in order of preference
  std::vector<PipelineUnit> units;
  std::vector<double> time;  // [unit * devices + device], ns
  std::vector<double> hop;   // [from * devices + to], ns; 0 on the diagonal
  // What a unit on a device costs more with its experts aside, as `time`; kNever: it cannot. Empty
  // where nothing may stand aside.
  std::vector<double> aside;
  std::uint64_t aside_space =
      0;  // bytes that a device loses when any experts of its run stand aside
  // Where experts aside stand, as indices into `devices`. Only the bound counts their space; who
  // asks the solvers sees to it that the space is there.
  std::vector<std::uint32_t> aside_devices;

  double aside_time(std::size_t unit, std::size_t device) const {
    if (aside.empty()) return kNever;
    return aside[unit * devices.size() + device];
  }
  double unit_time(std::size_t unit, std::size_t device) const {
    return time[unit * devices.size() + device];
  }
  double hop_time(std::size_t from, std::size_t to) const {
    return hop[from * devices.size() + to];
  }
};

struct PipelinePlan {
  std::vector<std::uint32_t> device;  // by unit
  std::vector<bool> aside;            // by unit: its experts stand aside; empty: none does
  double cost = 0;                    // ns: the sum, or the slowest device's
  bool exact = true;
};

// More states than this, and the solvers use devices in the order given only.
inline constexpr std::size_t kMaxStates = 4096;

// What a placement costs: all unit times and hops in order. Does not look at space.
double latency_of(const Pipeline& pipeline, const PipelinePlan& plan);
double slowest_of(const Pipeline& pipeline, const PipelinePlan& plan);

}  // namespace berth
