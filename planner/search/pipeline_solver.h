// Places a pipeline exactly.
//
// solve_latency() finds the least sum of unit times and hops. solve_bottleneck() finds the least
// time of the slowest device; hops overlap with computing there and are left out. solve_latency()
// is a dynamic program over (devices used, last device, units placed); solve_bottleneck() bisects
// the time and asks for each how far every set of devices can reach. Identical devices are used in
// index order, which loses nothing.
//
// The time is states x kinds x (kinds + 1) x units, where `states` is the product of (devices + 1)
// over all kinds of devices, and units times that if experts may stand aside. With more than
// kMaxStates states, devices are tried only in the order given. The result then says that it is not
// exact, and so it does if experts of more than two sorts (bytes, price) may stand aside of one
// run. Pure functions.
#pragma once

#include <cstddef>
#include <optional>

#include "planner/search/pipeline.h"

namespace berth {

// The best placement; nothing if none fits.
std::optional<PipelinePlan> solve_latency(const Pipeline& pipeline);
std::optional<PipelinePlan> solve_bottleneck(const Pipeline& pipeline);
// Whether any placement fits.
bool is_feasible(const Pipeline& pipeline);

}  // namespace berth
