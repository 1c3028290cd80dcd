// What would make a plan fit: tried, not guessed. Private to the sources of this room.
#pragma once

#include <string>
#include <vector>

#include "planner/placement/setting.h"

namespace berth {

// Changes of the request or the machine that would make it fit, the smallest of each sort: context,
// KV dtype, weight dtype, batch, offloading, one more GPU of the largest kind, another policy. Each
// was planned again and fits.
std::vector<std::string> find_suggestions(const Setting& setting);

// make_plan() without suggestions.
Plan plan_once(const ModelTree& tree, const Machine& machine, const Request& request);

}  // namespace berth
