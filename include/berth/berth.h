// Berth as a library: everything that a program needs to plan, load and convert.
//
//   find_package(berth REQUIRED)
//   target_link_libraries(app PRIVATE berth::planner)   # open_model(), make_plan(): metadata only
//   target_link_libraries(app PRIVATE berth::loader)    # and load(), convert(): CUDA, no libtorch
//
// Start with open_model() and make_plan() (planner.h), then load() (loader.h); their headers say
// what they promise. Errors are berth::Error; a model that does not fit is a value,
// Plan::shortfall. Sizes are bytes, rates are bytes per second and times are seconds wherever a
// comment names no other unit. Compile program and library with the same compiler, because C++
// values and exceptions pass between them. docs/library.md says the rest.
#pragma once

#include "berth/checkpoint.h"
#include "berth/configs.h"
#include "berth/error.h"
#include "berth/load.h"
#include "berth/loader.h"
#include "berth/machine.h"
#include "berth/model.h"
#include "berth/plan.h"
#include "berth/planner.h"
#include "berth/tensor.h"

#ifdef BERTH_INSTALLED_CONFIGS  // set by find_package(berth): the data files of the installation
namespace berth::installed {
inline const bool knows_configs = (set_config_dir(BERTH_INSTALLED_CONFIGS), true);
}  // namespace berth::installed
#endif
