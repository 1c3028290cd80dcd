// The placement of a chain of units as a problem of numbers alone: every unit goes on one device,
// and every device holds at most one contiguous run of units, in any order of devices, within its
// space. pipeline_solver.h solves it; pipeline_bound.h says how good any placement can be at best.
//
// A unit may have experts that can stand aside. They then take nothing of their device's space and
// cost more time. If a run is too large for its device, the experts go aside that make it fit at
// the lowest price.
//
// Times are whole numbers of nanoseconds, held in doubles: sums are exact, and equal costs compare
// as equal.
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
  bool open = true;                // false: only units that are fixed there may use it
};

struct PipelineUnit {
  std::uint64_t weights = 0;    // bytes
  std::uint64_t resident = 0;   // bytes of weights, KV cache, logits and computed buffers
  std::uint64_t workspace = 0;  // bytes; of all units on a device only the largest counts
  std::uint32_t fixed = kNone;  // the device it must stand on; it belongs to no run then
  std::uint64_t experts = 0;    // bytes of weights that may stand aside; 0 for fixed units
};

struct Pipeline {
  std::vector<PipelineDevice> devices;  // in order of preference
  std::vector<PipelineUnit> units;
  std::vector<double> time;  // [unit * devices + device], ns
  std::vector<double> hop;   // [from * devices + to], ns; 0 on the diagonal
  // How much more time a unit takes on a device with its experts aside, indexed like `time`;
  // kNever: they cannot stand aside there. Empty if no experts may.
  std::vector<double> aside;
  // Bytes that a device loses if any experts of its run stand aside: for stream buffers.
  std::uint64_t aside_space = 0;
  // The sides, as indices into `devices`: where experts aside stand. Only the bound counts the
  // space that they take there. The solvers do not: their caller must check that it is there.
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
  std::vector<bool> aside;            // by unit: its experts stand aside; empty: none do
  double cost = 0;                    // ns: the sum, or the time of the slowest device
  bool exact = true;                  // no placement of this problem costs less
};

// If there are more states than this (pipeline_solver.h), the solvers try devices only in the order
// given.
inline constexpr std::size_t kMaxStates = 4096;

// What a placement costs, in ns: the sum of all unit times and hops, and the time of the slowest
// device. Neither checks whether the placement fits.
double latency_of(const Pipeline& pipeline, const PipelinePlan& plan);
double slowest_of(const Pipeline& pipeline, const PipelinePlan& plan);

}  // namespace berth
