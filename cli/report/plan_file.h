// Reads a plan that was saved earlier (`plan --json`, `plan --save`), and applies it to a model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "berth/model.h"
#include "berth/plan.h"
#include "cli/options/settings.h"

namespace berth {

struct PlanFile {
  std::string source;
  std::string model_name;
  std::uint64_t parameters = 0;
  std::uint64_t bytes = 0;
  std::uint64_t tensors = 0;
  std::optional<DType> dtype;        // what --dtype was; nullopt: auto
  bool dequantize = false;           // quantised weights were planned as plain ones
  bool mtp = false;                  // layers of multi-token prediction were planned, too
  Plan plan;                         // without placement and tensor_device
  std::vector<std::string> modules;  // that are placed
  std::vector<std::string> reasons;  // why each of `modules` is where it is
};

// Throws Error naming the file and the member that is missing or wrong. If the file was saved as
// another version of plans (kPlanVersion), the Error names both versions.
PlanFile read_plan_file(const std::filesystem::path& file);
PlanFile parse_plan_file(std::string_view json, const std::string& source);

// The plan for `tree` that puts every tensor where the file says. Settings that only concern
// loading (cpu_memory, staging) override the file's. Throws Error if the file was made for another
// model, or if its bytes by device are not those of this model.
Plan adopt_plan(const PlanFile& file, const ModelTree& tree, const Settings& settings);

}  // namespace berth
