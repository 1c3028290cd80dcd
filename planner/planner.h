// The planner: where every tensor of a model will live, computed from metadata alone.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "planner/plan/plan.h"

namespace berth {

// Places `tree` on `machine` as `request` asks. Same input, same plan.
// With --max-memory and no machine, pass the Machine that budget_machine() makes of the budgets.
// Throws Error for a request that makes no sense: an unknown device in a map or an override, a
// device map that names no module of this model or leaves tensors uncovered.
Plan make_plan(const ModelTree& tree, const Machine& machine, const Request& request);

// A machine known only from --max-memory: each device has that much room and default speeds;
// `disk` is always there.
Machine budget_machine(const std::vector<Budget>& budgets);

// Hugging Face device_map JSON: {"model.embed_tokens": 0, "lm_head": "cpu"}.
DeviceMap parse_device_map(std::string_view json, const std::string& source);
DeviceMap read_device_map(const std::filesystem::path& file);
std::string device_map_json(const DeviceMap& map);  // GPUs as numbers, others as strings

// The device of the tensor or module `name`: the longest key that is the name, or a dotted prefix
// of it, or a regular expression matching it; "" matches all. Null where nothing covers it.
const std::string* lookup(const DeviceMap& map, std::string_view name);

// Checks a plan, perhaps made elsewhere or earlier, against what is free on `now`: an empty string
// where it still fits, else one sentence naming device and shortfall. Devices that `now` lacks are
// skipped when `emulate`, and named as absent otherwise.
std::string recheck(const Plan& plan, const Machine& now, bool emulate);

}  // namespace berth
