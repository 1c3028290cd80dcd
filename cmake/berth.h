// Berth as a library: everything that a program needs to plan, load and convert.
//
//   find_package(berth REQUIRED)
//   target_link_libraries(app PRIVATE berth::planner)   # open_model(), make_plan(): metadata only
//   target_link_libraries(app PRIVATE berth::loader)    # and load(), convert(): CUDA, no libtorch
//
// Start with open_model() (planner/model/model_tree.h), make_plan() (planner/placement/planner.h)
// and load() (runtime/stream/loader.h); their headers say what they promise. Errors are
// berth::Error; a model that does not fit is a value, Plan::shortfall. Library and program must
// come from one compiler: C++ values and exceptions cross. docs/library.md has the rest.
#pragma once

#include "planner/base/configs.h"
#include "planner/base/error.h"
#include "planner/checkpoint/checkpoint.h"
#include "planner/machine/machine.h"
#include "planner/machine/sizes.h"
#include "planner/model/tree/model_tree.h"
#include "planner/plan/plan.h"
#include "planner/planner.h"
#include "runtime/convert/convert.h"
#include "runtime/load/loader.h"

#ifdef BERTH_INSTALLED_CONFIGS  // from find_package(berth): where the architecture templates are
namespace berth::installed {
inline const bool knows_configs = (set_config_dir(BERTH_INSTALLED_CONFIGS), true);
}  // namespace berth::installed
#endif
