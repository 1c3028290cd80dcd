// A plan made earlier (`plan --json`, `plan --save`), read back and taken over for a model.
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
  Plan plan;                         // without placement and tensor_device
  std::vector<std::string> modules;  // of the placement, with
  std::vector<std::string> reasons;  // the reason of each
};

// Throws Error naming the file and the member that is missing or wrong, and both versions where the
// file was saved as another version of plans (kPlanVersion).
PlanFile read_plan_file(const std::filesystem::path& file);
PlanFile parse_plan_file(std::string_view json, const std::string& source);

// The plan for `tree`, every tensor where the file says. Settings that only concern loading
// (cpu_memory, staging) override the file's. Throws Error where the file was made for another model
// or its ledger does not hold for this one.
Plan adopt_plan(const PlanFile& file, const ModelTree& tree, const Settings& settings);

}  // namespace berth
