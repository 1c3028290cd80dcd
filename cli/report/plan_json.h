// A plan as JSON with the keys that docs/guide.md promises, for scripts and for --plan.
#pragma once

#include <string>

#include "cli/report/compare.h"
#include "cli/report/planned.h"
#include "planner/base/json_writer.h"

namespace berth {

// Writes the plan's members into an object that is open: load adds its own after them.
void write_plan(JsonWriter& json, const Planned& planned);

// The whole document, with the member `compare` where there are rows to compare.
std::string plan_json(const Planned& planned, const std::vector<ComparedPlan>& rows = {});

}  // namespace berth
