// For a plan that does not fit: what stands in the way, and what would make it fit. Every
// suggestion was planned, so that none is a guess.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "planner/cost/inputs.h"

namespace berth {

// make_plan() without suggestions. The planner includes this room, not the other way round, so it
// hands the function down.
using PlanOnce =
    std::function<Plan(const ModelTree& tree, const Machine& machine, const Request& request)>;

// Changes of the request, the machine or the checkpoint that would make the model fit: a shorter
// context, a narrower KV dtype, a smaller batch, narrower weights, offloading, more host RAM, the
// disk, more GPUs like one that is there, another policy. Of each kind the smallest change that was
// found. Each was planned by `plan_once` and fits.
std::vector<std::string> find_suggestions(const PlanInputs& inputs, const PlanOnce& plan_once);

// What stands in the way, in words: a constraint of the request without which the model would fit,
// or else what the model needs and what the devices have. "" for policies that are not ours.
std::string find_cause(const PlanInputs& inputs);
// The same for a plan that fits once it is loaded, but not while it loads.
std::string load_cause(const PlanInputs& inputs, const LoadPeak& peak);

}  // namespace berth
