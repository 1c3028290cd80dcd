// A module tree in depth-first order: what is below a module is one range of positions.
#pragma once

#include <cstdint>
#include <vector>

#include "berth/model.h"

namespace berth {

// Children in registration order. Holds nothing of the tree.
struct DepthFirst {
  std::vector<ModuleId> order;       // modules by position
  std::vector<std::uint32_t> enter;  // by module: its position
  std::vector<std::uint32_t> leave;  // by module: one past its last descendant
  // Ids are positions, and tensors stand by module: then the tensors below a module are one range
  // of ids, too. So it is in every tree that was built depth first.
  bool by_id = false;

  explicit DepthFirst(const ModelTree& tree);
};

// The tensors of a module and of all below it, each module's own before those of its children.
std::vector<TensorId> tensors_below(const ModelTree& tree, const DepthFirst& walk, ModuleId module);

}  // namespace berth
