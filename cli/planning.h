// From options to a plan: the steps that plan, load and run share.
#pragma once

#include "cli/options/options.h"
#include "cli/report/planned.h"

namespace berth {

// Whether quantised weights are to become plain ones: as --dequantize says, else only for a run.
Dequantize wants_plain(const Options& options);

// Opens the model and plans it. No weight byte is read; CUDA and libtorch stay unloaded.
// The machine is --machine; else, with --max-memory, what the budgets say; else this one, probed,
// at the speeds of its calibration. Where --plan names a plan made earlier, that one is taken over
// after checking that it is for this model. Throws Error.
Planned make_planned(const Options& options);

// The same without the plan itself: model, machine and request. Not for --plan.
Planned open_planned(const Options& options);

}  // namespace berth
