// From options to a plan: the steps that plan, load and run share.
#pragma once

#include "cli/options/options.h"
#include "planner/planner.h"

namespace berth {

// A model, the machine it is planned for, the plan, and what it answers.
struct Planned {
  Model model;
  Machine machine;
  Plan plan;
  Request request = {};  // what was asked of the planner; not of a plan that was made earlier
};

// Whether quantised weights are to become plain ones: as --dequantize says, else only for a run.
Dequantize wants_plain(const Options& options);

// Opens the model and plans it. No weight byte is read; CUDA and libtorch stay unloaded.
// The machine is --machine; else, with --max-memory, what the budgets say; else this one, probed,
// at the speeds of its calibration. Where --plan names a plan made earlier, that one is taken over
// after checking that it is for this model. Throws Error.
Planned make_planned(const Options& options);

// The same without the plan itself: model, machine and request. Not for --plan.
Planned open_planned(const Options& options);

// "gpu 0", "cpu", "disk".
std::string device_label(const DeviceLedger& device);

// One sentence for a plan that does not fit: how much is missing, and on which device.
std::string shortfall_sentence(const Plan& plan);

}  // namespace berth
