// The exact placement of a chain over devices: every unit on one device, every device used for at
// most one contiguous run, in any order, within every device's room.
//
// A unit may have a part (its experts) that can stand aside, off the devices' rooms, at a price: of
// a run that is too large for its device, the cheapest parts that make it fit go aside.
//
// latency: the least sum of unit times and hops between devices. bottleneck: the least time of the
// slowest device (hops overlap with computing and are left out). Both exact, by dynamic programming
// over (devices used, last device, units placed); identical devices are used in index order, which
// loses nothing. Cost: states x kinds x (kinds + 1) x units, where states is the product of (count
// + 1) over kinds of devices; x units once more where parts may stand aside. More than kMaxStates
// states: devices are used in the order given only, and the result says that it is not exact. So it
// does where parts of more than two kinds (bytes, price) may stand aside of one run.
//
// Times are whole numbers of nanoseconds held in doubles, so that sums are exact and ties are ties.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "planner/model/tree/model_tree.h"

namespace berth {

inline constexpr double kNever = std::numeric_limits<double>::infinity();

struct PipelineDevice {
  std::uint64_t room = 0;         // bytes for weights, KV cache and workspace
  std::uint64_t weight_room = 0;  // bytes for weights alone
  bool open = true;               // false: for fixed units only
};

struct PipelineUnit {
  std::uint64_t weights = 0;
  std::uint64_t resident = 0;   // weights, KV cache, logits
  std::uint64_t workspace = 0;  // the largest of a device's units counts, once
  std::uint32_t fixed = kNone;  // stands on this device whatever else happens there
  std::uint64_t part = 0;       // bytes of weights that may stand aside; 0 for fixed units
};

struct Pipeline {
  std::vector<PipelineDevice> devices;  // in order of preference
  std::vector<PipelineUnit> units;
  std::vector<double> time;  // [unit * devices + device], ns
  std::vector<double> hop;   // [from * devices + to], ns; 0 on the diagonal
  // What a unit on a device costs more with its part aside, as `time`; kNever: it cannot. Empty
  // where nothing may stand aside.
  std::vector<double> aside;
  std::uint64_t aside_room = 0;  // bytes that a device loses when any part of its run stands aside
  // Where parts aside stand, as indices into `devices`. Only the bound counts their room; who asks
  // the solvers sees to it that the room is there.
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
  std::vector<bool> aside;            // by unit: its part stands aside; empty: none does
  double cost = 0;                    // ns: the sum, or the slowest device's
  bool exact = true;
};

inline constexpr std::size_t kMaxStates = 4096;

// Nothing where no such placement fits.
std::optional<PipelinePlan> solve_latency(const Pipeline& pipeline);
std::optional<PipelinePlan> solve_bottleneck(const Pipeline& pipeline);
bool is_feasible(const Pipeline& pipeline);

// What a placement costs: all unit times and hops in order. Does not look at room.
double latency_of(const Pipeline& pipeline, const PipelinePlan& plan);
double slowest_of(const Pipeline& pipeline, const PipelinePlan& plan);

// No placement of units and parts, contiguous or not, costs less than this: a Lagrangian bound on
// the sum of times under each device's room, and the hops between as few devices as can hold the
// chain. `upper` is a cost known to be reachable; it only steers the search.
double latency_bound(const Pipeline& pipeline, double upper);

}  // namespace berth
