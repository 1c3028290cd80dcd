// What would make a plan fit: tried, not guessed. Private to the sources of this folder.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "planner/cost/inputs.h"

namespace berth {

// make_plan() without suggestions. The planner stands above this space and hands it down.
using PlanOnce =
    std::function<Plan(const ModelTree& tree, const Machine& machine, const Request& request)>;

// Changes of the request, the machine or the checkpoint that would make it fit, the smallest of
// each sort: context, KV dtype, batch, weight dtype, offloading, the disk, more GPUs of a kind
// there is, another policy. Each was planned again, by `plan_once`, and fits.
std::vector<std::string> find_suggestions(const PlanInputs& inputs, const PlanOnce& plan_once);

// What stands in the way: a constraint of the request without which it would fit, else what the
// model needs beside what the devices have.
std::string find_cause(const PlanInputs& inputs);
// The same where the plan would fit after the load, but not while loading.
std::string load_cause(const PlanInputs& inputs, const LoadPeak& peak);

}  // namespace berth
