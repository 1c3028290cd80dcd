// Makes a plan from the options: the steps that plan, load and run share.
#pragma once

#include <optional>
#include <string>

#include "cli/options/options.h"
#include "cli/report/planned.h"

namespace berth {

// Whether quantised weights are turned into plain ones. --dequantize decides; where it is not
// given, only a run turns them, and that only where it cannot compute with them as they are stored.
Dequantize wants_plain(const Options& options);

// What a plan of a model is made from besides its tree.
struct PlanningTask {
  Machine machine;  // with defaults, and notes on what is assumed of it
  Request request;
  std::optional<Machine> probed;  // this machine, where it was looked at
};

// The steps of open_planned(), for those who plan one model for many machines. open_to_plan()
// opens the model in the dtype that is asked for, and makes its tree anew for a precision that
// weights would have to be quantised to; ask_for() finds out the rest. Throw Error.
Model open_to_plan(const Options& options);
PlanningTask ask_for(const Options& options, const Model& model);

// What quantised weights are, for messages: "GPTQ 4-bit".
std::string stored_name(const ModelTree& tree);

// Whether --mtp asks for the layers of multi-token prediction.
Prediction wants_prediction(const Options& options);

// Opens the model and plans it. No weight byte is read; CUDA and libtorch stay unloaded.
// The machine is the one that --machine names. Without it, --max-memory describes the machine by
// its budgets. With neither, this machine is probed, and its calibration gives the speeds. Where
// --plan names a plan made earlier, that plan is used after a check that it is for this model.
// Throws Error.
Planned make_planned(const Options& options);

// Like make_planned(), but fills only model, machine and request and makes no plan. Do not call it
// with --plan.
Planned open_planned(const Options& options);

// Makes the plan that open_planned() left out.
void plan_opened(Planned& planned);

}  // namespace berth
