// plan --compare: every policy on the same model, machine and request, side by side.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/report/planned.h"
#include "planner/base/json_writer.h"

namespace berth {

struct ComparedPlan {
  std::string name;          // "auto", "balanced", ..., "device map"
  std::optional<Plan> plan;  // absent if the policy gives none
  std::string error;         // why it gives none
};

// Makes a plan by each policy, and one more by the device map if the request has one. The plan that
// `planned` already holds is not used.
std::vector<ComparedPlan> compare_policies(const Planned& planned);

// Bytes of weights that are on no GPU.
std::uint64_t spilled_bytes(const Plan& plan);

// Tables without borders, sizes in GiB, and one line that names the winner.
std::string comparison_report(const std::vector<ComparedPlan>& rows);
// The winner is the plan that fits with the least score; the line says by how much it beats what
// Accelerate's device_map="auto" gives. Ends in a newline.
std::string winner_line(const std::vector<ComparedPlan>& rows);
void write_policies(JsonWriter& json, const std::vector<ComparedPlan>& rows);  // member `compare`

}  // namespace berth
