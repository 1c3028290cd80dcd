// What somebody should know who gives a plan's device map to transformers.
#pragma once

#include <string>
#include <vector>

#include "berth/plan.h"

namespace berth {

// One line each:
//   - that the keys are the names of a checkpoint, where no template says how transformers calls
//     the modules
//   - modules that must not be split and that the map divides in a way that Accelerate accepts
//     (check_device_map) and a forward pass does not survive. Accelerate's hooks bring inputs to
//     each module and leave its output where it is, so a sum of outputs on two devices fails. What
//     is on the CPU or the disk it computes on one GPU, the first of the map's (dispatch_model)
//   - experts of one layer on several devices: transformers 5 keeps them in one module
// Source: accelerate 1.15, big_modeling.py and hooks.py; transformers 5.24.
std::vector<std::string> device_map_notes(const ModelTree& tree, const Plan& plan);

}  // namespace berth
