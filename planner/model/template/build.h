// Building a tree from a template: what a config and a model family say, before any checkpoint is
// looked at.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "berth/model.h"
#include "planner/checkpoint/name_table.h"
#include "planner/model/template/architecture.h"
#include "planner/model/tree/config.h"

namespace berth {

struct BuiltTree {
  ModelTree tree;
  std::vector<std::string> ignored;  // globs of stored names that the model does not use
  NameTable by_name{0};              // persistent tensors; filled by index_names()
};

// By number, for a NameTable of the tree's tensors.
struct TensorNames {
  const ModelTree& tree;
  std::string_view operator()(TensorId id) const { return tree.tensors[id].name; }
};

// Fills `by_name`, unless that was done before.
void index_names(BuiltTree& built);

// The tree that `architecture` spells for `config`, dtypes as the config says. `expected_tensors`
// is a hint that saves growing.
BuiltTree build_from_template(const Architecture& architecture, const ModelConfig& config,
                              std::optional<DType> dtype, std::size_t expected_tensors = 0);

}  // namespace berth
