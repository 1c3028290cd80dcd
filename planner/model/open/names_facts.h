// The facts of a model without a template: what its config and the tensors of its blocks tell.
#pragma once

#include <optional>
#include <vector>

#include "berth/model.h"
#include "planner/model/tree/config.h"

namespace berth {

// Fills ModelTree::facts of a tree of names, marks what runs for the prompt alone and the routed
// experts, and adds to ModelTree::guesses a sentence for each thing that neither the config nor the
// tensors tell. Where that could cost memory, the larger figure is taken.
// - `lists`: the outermost numbered lists of blocks. `config` may be null.
// - `dtype`: what --dtype asks for.
// Throws Error naming the key if the config contradicts itself.
void fill_named_facts(ModelTree& tree, const std::vector<ModuleId>& lists,
                      const ModelConfig* config, std::optional<DType> dtype);

// The roles that the last component of a module's name tells.
bool is_embedding_name(std::string_view name);
bool is_head_name(std::string_view name);

}  // namespace berth
