// Loads a model for load and run: checks the free memory, opens the loader's library, shows the
// progress, and loads.
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <string_view>

#include "berth/load.h"
#include "cli/planning.h"

namespace berth {

// Throws Error for a model that has no weights, only a config.json. The message calls the model
// `named`, as the command line does, and says that it cannot be `done` ("loaded").
void require_weights(const Model& model, const std::filesystem::path& named, std::string_view done);

// Loads the model by its plan, which must fit. Draws a progress bar on stderr if that is a
// terminal. Throws Error when the plan no longer fits the free memory, when this machine lacks a
// device of the plan (without --emulate), or when loading fails or is cancelled; nothing
// half-loaded stays.
std::unique_ptr<LoadedModel> load_by_plan(const Options& options, const Planned& planned,
                                          const std::atomic<bool>* cancel);

}  // namespace berth
