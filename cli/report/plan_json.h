// A plan as JSON with the keys that docs/guide.md promises, for scripts and for --plan.
#pragma once

#include <cstdint>
#include <string>

#include "cli/report/compare.h"
#include "cli/report/planned.h"
#include "planner/base/json_writer.h"

namespace berth {

// What a plan's JSON says as `plan_version`, its first member. It grows by one whenever a plan that
// was saved before can no longer be followed as it was meant: when a member that --plan reads is
// added, renamed or removed, or means something else. A member that is only for scripts to read may
// be added without.
inline constexpr std::uint64_t kPlanVersion = 1;

void write_model(JsonWriter& json, const ModelTree& tree);  // member `model`
// Member `guessed`: what the figures of the model, and so the verdict, rest on; nothing where
// nothing was guessed.
void write_guesses(JsonWriter& json, const ModelTree& tree);

// Writes the plan's members into an object that is open: load adds its own after them.
void write_plan(JsonWriter& json, const Planned& planned);

// The whole document, with the member `compare` where there are rows to compare.
std::string plan_json(const Planned& planned, const std::vector<ComparedPlan>& rows = {});

}  // namespace berth
