// Makes a plan from the options: the steps that plan, load and run share.
#pragma once

#include "cli/options/options.h"
#include "cli/report/planned.h"

namespace berth {

// Whether quantised weights are turned into plain ones. --dequantize decides; where it is not
// given, only a run turns them.
Dequantize wants_plain(const Options& options);

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
