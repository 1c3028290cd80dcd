// Loading as load and run do it: check what is free, open the library, show progress, load.
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <string_view>

#include "berth/load.h"
#include "cli/planning.h"

namespace berth {

// Throws Error for a model that has no weights, a config.json alone: `named` as the command line
// has it, it cannot be `done` ("loaded").
void require_weights(const Model& model, const std::filesystem::path& named, std::string_view done);

// Throws Error where the plan no longer fits what is free, a device is not here (without
// --emulate), or loading fails or is cancelled; nothing half-loaded survives. Draws a progress bar
// on stderr where that is a terminal. The plan must fit.
std::unique_ptr<LoadedModel> load_by_plan(const Options& options, const Planned& planned,
                                          const std::atomic<bool>* cancel);

}  // namespace berth
