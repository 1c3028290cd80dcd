// Builds a tree from a template: what a config and a model family say, before any checkpoint is
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
#include "planner/model/template/default_sizes.h"
#include "planner/model/tree/config.h"

namespace berth {

struct BuiltTree {
  ModelTree tree;
  std::vector<std::string> ignored;    // globs of stored names that the model does not use
  std::vector<std::string> predicted;  // globs of those of multi-token prediction
  NameTable by_name{0};                // the persistent tensors; index_names() fills it
  Fallbacks fallbacks;                 // what its expressions had for absent keys
};

// Gives a NameTable the name of a tensor by its number.
struct TensorNames {
  const ModelTree& tree;
  std::string_view operator()(TensorId id) const { return tree.tensors[id].name; }
};

// Fills `by_name`, unless that has been done already.
void index_names(BuiltTree& built);

// Builds the tree that `architecture` describes for `config`, with the config's dtypes.
// `expected_tensors` is a hint: how many tensors to allocate space for at once. Throws Error if the
// config lacks a value or holds an impossible one.
BuiltTree build_from_template(const Architecture& architecture, const ModelConfig& config,
                              std::optional<DType> dtype, std::size_t expected_tensors = 0);

}  // namespace berth
