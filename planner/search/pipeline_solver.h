// The exact placement of a pipeline.
//
// latency: the least sum of unit times and hops between devices. bottleneck: the least time of the
// slowest device (hops overlap with computing and are left out). Both exact, by dynamic programming
// over (devices used, last device, units placed); identical devices are used in index order, which
// loses nothing. Cost: states x kinds x (kinds + 1) x units, where states is the product of (count
// + 1) over kinds of devices; x units once more where experts may stand aside. More than kMaxStates
// states: devices are used in the order given only, and the result says that it is not exact. So it
// does where experts of more than two kinds (bytes, price) may stand aside of one run.
#pragma once

#include <cstddef>
#include <optional>

#include "planner/search/pipeline.h"

namespace berth {

// Nothing where no such placement fits.
std::optional<PipelinePlan> solve_latency(const Pipeline& pipeline);
std::optional<PipelinePlan> solve_bottleneck(const Pipeline& pipeline);
bool is_feasible(const Pipeline& pipeline);

}  // namespace berth
