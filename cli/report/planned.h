// What the reports are about: a model, the machine it is planned for, the plan.
#pragma once

#include <optional>
#include <string>

#include "berth/machine.h"
#include "berth/model.h"
#include "berth/plan.h"

namespace berth {

// A model, the machine it is planned for, the plan, and the request that the plan answers.
struct Planned {
  Model model;
  Machine machine;
  Plan plan;
  std::optional<Machine> probed = {};  // this machine, where it was looked at to make the plan
  Request request = {};  // what was asked of the planner; empty for a plan made earlier
  // The precision that the weights would have to be quantised to first; "" for those that are there
  std::string made_anew = {};
};

// "gpu 0", "cpu", "disk".
std::string device_label(const DeviceLedger& device);

// One sentence for a plan that does not fit: how much is missing, and on which device.
std::string shortfall_sentence(const Plan& plan);

// What is said of a plan that fits: "fits", or "fits by these estimates" where figures of its model
// are guessed.
std::string fits_words(const Plan& plan);

}  // namespace berth
