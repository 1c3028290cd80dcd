// The planner: opening a model by its metadata, and deciding where every tensor of it will live.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "berth/machine.h"
#include "berth/model.h"
#include "berth/plan.h"

namespace berth {

// Opens MODEL: a checkpoint folder, a file of weights, a config.json, or a tree JSON.
// A folder without config.json is an Error unless `allow_fallback`: the names then spell the tree.
Model open_model(const std::filesystem::path& path, std::optional<DType> dtype,
                 Dequantize dequantize = Dequantize::kNo);

// Places `tree` on `machine` as `request` asks. Same input, same plan.
// With --max-memory and no machine, pass the Machine that budget_machine() makes of the budgets.
// Throws Error for a request that makes no sense: an unknown device in a map or an override, a
// device map that names no module of this model or leaves tensors uncovered.
Plan make_plan(const ModelTree& tree, const Machine& machine, const Request& request);

// Checks a plan, perhaps made elsewhere or earlier, against what is free on `now`: an empty string
// where it still fits, else one sentence naming device and shortfall. Devices that `now` lacks are
// skipped when `emulate`, and named as absent otherwise.
std::string recheck(const Plan& plan, const Machine& now, bool emulate);

}  // namespace berth
