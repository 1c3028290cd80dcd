// A module tree in depth-first order. Whatever is below a module is one range of that order.
#pragma once

#include <cstdint>
#include <vector>

#include "berth/model.h"

namespace berth {

// Visits children in the order of registration. Keeps no reference to the tree.
struct DepthFirst {
  std::vector<ModuleId> order;       // the modules in depth-first order
  std::vector<std::uint32_t> enter;  // by module: its index in `order`
  std::vector<std::uint32_t> leave;  // by module: one past the index of its last descendant
  // True if module ids count up in depth-first order and tensors are sorted by module. Then the
  // tensors below a module are one range of ids as well. This holds for every tree that was built
  // depth first.
  bool by_id = false;

  explicit DepthFirst(const ModelTree& tree);
};

// The tensors of a module and of all modules below it. Each module's own come before those of its
// children.
std::vector<TensorId> tensors_below(const ModelTree& tree, const DepthFirst& walk, ModuleId module);

}  // namespace berth
