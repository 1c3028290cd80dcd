// Module trees written compactly, for the tests of the planner.
//
// A node is [name, class, parameters, buffers, children], a tensor [name, dtype, shape]; a child
// named "3..17" stands for fifteen equal children. Same for the keys of device maps.
#pragma once

#include <simdjson.h>

#include <string>
#include <utility>
#include <vector>

#include "berth/plan.h"

namespace berth {

struct CompactCase {
  std::string name;
  Policy policy = Policy::kAuto;
  std::vector<Budget> max_memory;
  std::vector<Budget> balanced_memory;
  DeviceMap device_map;
};

struct CompactModel {
  ModelTree tree;
  std::vector<CompactCase> cases;
};

std::vector<CompactModel> read_compact_models(const std::string& file);

// Adds a module (and, by name, tensors) to a tree built by hand.
ModuleId add_module(ModelTree& tree, ModuleId parent, const std::string& name,
                    const std::string& cls, bool no_split = false);
TensorId add_tensor(ModelTree& tree, ModuleId module, const std::string& name, DType dtype,
                    Shape shape, bool buffer = false);
TensorId tensor_id(const ModelTree& tree, const std::string& name);
void tie_tensors(ModelTree& tree, const std::vector<std::string>& names);

}  // namespace berth
