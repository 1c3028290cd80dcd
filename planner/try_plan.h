// make_plan() for whoever tries many requests and asks of each whether it fits.
#pragma once

#include "berth/plan.h"

namespace berth {

// The plan that make_plan() in berth/planner.h makes, without looking for the cause and for
// suggestions if it does not fit. Throws Error for what make_plan() does.
Plan try_plan(const ModelTree& tree, const Machine& machine, const Request& request);

}  // namespace berth
