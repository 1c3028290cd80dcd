#include "planner/placement/accelerate_tree.h"

#include <map>

namespace berth::accelerate {
namespace {

// The float dtype that holds most bytes of the parameters.
DType main_float(const ModelTree& tree) {
  std::map<DType, std::uint64_t> bytes;
  for (const ModelTensor& tensor : tree.tensors) {
    if (!tensor.buffer && is_convertible(tensor.dtype)) bytes[tensor.dtype] += tensor.bytes();
  }
  DType main = DType::kF32;
  std::uint64_t most = 0;
  for (const auto& [dtype, sum] : bytes) {
    if (sum > most) {
      most = sum;
      main = dtype;
    }
  }
  return main;
}

// Buffers that are computed at load (rotary frequencies) count in the dtype of the weights:
// Accelerate measures a model that was cast as a whole.
std::uint64_t counted_bytes(const ModelTensor& tensor, DType floats) {
  if (tensor.persistent || !is_convertible(tensor.dtype)) return tensor.bytes();
  return tensor_bytes(floats, tensor.shape).value_or(tensor.bytes());
}

}  // namespace

Sizes::Sizes(const ModelTree& model_tree)
    : tree(model_tree),
      modules(static_cast<std::uint32_t>(model_tree.modules.size())),
      enter(modules, 0),
      leave(modules, 0),
      size(modules + model_tree.tensors.size(), 0),
      first_seen(modules, kNone) {
  std::vector<std::pair<ModuleId, std::size_t>> stack{{0, 0}};
  order.push_back(0);
  while (!stack.empty()) {
    auto& [module, next] = stack.back();
    const auto& children = tree.modules[module].children;
    if (next == children.size()) {
      leave[module] = static_cast<std::uint32_t>(order.size());
      stack.pop_back();
      continue;
    }
    const ModuleId child = children[next++];
    enter[child] = static_cast<std::uint32_t>(order.size());
    order.push_back(child);
    stack.emplace_back(child, 0);
  }

  std::vector<std::uint32_t> group(tree.tensors.size(), kNone);
  for (const auto& members : tree.ties) {
    std::vector<TensorId> parameters;
    for (TensorId t : members) {
      if (!tree.tensors[t].buffer) parameters.push_back(t);
    }
    if (parameters.size() < 2) continue;
    for (TensorId t : parameters) group[t] = static_cast<std::uint32_t>(ties.size());
    std::sort(parameters.begin(), parameters.end(),
              [&](TensorId a, TensorId b) { return tree.tensors[a].name < tree.tensors[b].name; });
    ties.push_back(std::move(parameters));
  }

  const DType floats = main_float(tree);
  std::vector<bool> counted(ties.size(), false);
  std::uint32_t rank = 0;
  for (const bool buffers : {false, true}) {
    for (ModuleId module : order) {
      for (TensorId t : tree.modules[module].tensors) {
        const ModelTensor& tensor = tree.tensors[t];
        if (tensor.buffer != buffers) continue;
        if (group[t] != kNone) {
          if (counted[group[t]]) continue;
          counted[group[t]] = true;
        }
        const Eighths bytes = to_eighths(counted_bytes(tensor, floats));
        size[modules + t] = tensor.dtype == DType::kBool ? bytes / 8 : bytes;
        size[module] += size[modules + t];
        first_seen[module] = std::min(first_seen[module], rank++);
      }
    }
  }
  for (auto at = order.rbegin(); at != order.rend(); ++at) {
    const ModuleId parent = tree.modules[*at].parent;
    if (parent == kNone) continue;
    size[parent] += size[*at];
    first_seen[parent] = std::min(first_seen[parent], first_seen[*at]);
  }
}

}  // namespace berth::accelerate
