#include "planner/model/tree/depth_first.h"

#include <algorithm>
#include <numeric>

namespace berth {
namespace {

// True if module ids count up in depth-first order: each module then comes right after its parent,
// or after the last descendant of the sibling before it.
bool modules_by_id(const ModelTree& tree) {
  for (ModuleId m = 1; m < tree.modules.size(); ++m) {
    ModuleId open = m - 1;
    while (open != kNone && open != tree.modules[m].parent) open = tree.modules[open].parent;
    if (open == kNone) return false;
  }
  return true;
}

// Walks the tree whatever the order of its ids.
void walk(const ModelTree& tree, DepthFirst& out) {
  std::vector<std::pair<ModuleId, std::size_t>> stack{{0, 0}};
  out.order.push_back(0);
  while (!stack.empty()) {
    auto& [module, next] = stack.back();
    const auto& children = tree.modules[module].children;
    if (next == children.size()) {
      out.leave[module] = static_cast<std::uint32_t>(out.order.size());
      stack.pop_back();
      continue;
    }
    const ModuleId child = children[next++];
    out.enter[child] = static_cast<std::uint32_t>(out.order.size());
    out.order.push_back(child);
    stack.emplace_back(child, 0);
  }
}

}  // namespace

DepthFirst::DepthFirst(const ModelTree& tree)
    : enter(tree.modules.size(), 0), leave(tree.modules.size(), 0) {
  const auto count = static_cast<std::uint32_t>(tree.modules.size());
  if (count == 0) return;
  order.reserve(count);
  if (!modules_by_id(tree)) {
    walk(tree, *this);
    return;
  }
  order.resize(count);
  std::iota(order.begin(), order.end(), 0u);
  enter = order;
  for (ModuleId m = count; m-- > 0;) {
    leave[m] = std::max(leave[m], m + 1);
    if (const ModuleId parent = tree.modules[m].parent; parent != kNone) {
      leave[parent] = std::max(leave[parent], leave[m]);
    }
  }
  by_id = std::ranges::is_sorted(tree.tensors, {}, &ModelTensor::module);
}

std::vector<TensorId> tensors_below(const ModelTree& tree, const DepthFirst& walk,
                                    ModuleId module) {
  std::vector<TensorId> tensors;
  if (walk.by_id) {
    const auto first = std::ranges::lower_bound(tree.tensors, module, {}, &ModelTensor::module);
    const auto last =
        std::ranges::lower_bound(tree.tensors, walk.leave[module], {}, &ModelTensor::module);
    tensors.resize(static_cast<std::size_t>(last - first));
    std::iota(tensors.begin(), tensors.end(), static_cast<TensorId>(first - tree.tensors.begin()));
    return tensors;
  }
  for (std::uint32_t at = walk.enter[module]; at < walk.leave[module]; ++at) {
    const auto& own = tree.modules[walk.order[at]].tensors;
    tensors.insert(tensors.end(), own.begin(), own.end());
  }
  return tensors;
}

}  // namespace berth
