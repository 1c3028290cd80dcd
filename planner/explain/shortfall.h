// What would make a plan fit: tried, not guessed. Private to the sources of this room.
#pragma once

#include <string>
#include <vector>

#include "planner/cost/setting.h"

namespace berth {

// Changes of the request, the machine or the checkpoint that would make it fit, the smallest of
// each sort: context, KV dtype, batch, weight dtype, offloading, the disk, more GPUs of a kind
// there is, another policy. Each was planned again and fits.
std::vector<std::string> find_suggestions(const Setting& setting);

// What stands in the way: a constraint of the request without which it would fit, else what the
// model needs beside what the devices have.
std::string find_cause(const Setting& setting);
// The same where the plan would fit after the load, but not while loading.
std::string load_cause(const Setting& setting, const LoadPeak& peak);

// make_plan() without suggestions.
Plan plan_once(const ModelTree& tree, const Machine& machine, const Request& request);

}  // namespace berth
