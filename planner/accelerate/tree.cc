#include "planner/accelerate/tree.h"

#include <iterator>

namespace berth::accelerate {
namespace {

// The float dtype that most bytes of the parameters are in; float32 if there are no floats.
DType main_float(const ModelTree& tree) {
  constexpr DType kFloats[] = {DType::kF16, DType::kBF16, DType::kF32, DType::kF64};
  std::uint64_t bytes[std::size(kFloats)] = {};
  for (const ModelTensor& tensor : tree.tensors) {
    if (tensor.buffer) continue;
    for (std::size_t i = 0; i < std::size(kFloats); ++i) {
      if (tensor.dtype == kFloats[i]) bytes[i] += tensor.bytes();
    }
  }
  const std::uint64_t* most = std::ranges::max_element(bytes);  // the first of equals
  return *most == 0 ? DType::kF32 : kFloats[most - bytes];
}

// The bytes of a tensor as Accelerate counts them. Buffers that are computed at load (rotary
// frequencies) count in the dtype of the weights, because Accelerate measures a model that was cast
// as a whole.
std::uint64_t counted_bytes(const ModelTensor& tensor, DType floats) {
  if (tensor.persistent || !is_convertible(tensor.dtype)) return tensor.bytes();
  return tensor_bytes(floats, tensor.shape).value_or(tensor.bytes());
}

}  // namespace

Sizes::Sizes(const ModelTree& model_tree)
    : DepthFirst(model_tree),
      tree(model_tree),
      modules(static_cast<std::uint32_t>(model_tree.modules.size())),
      size(modules + model_tree.tensors.size(), 0),
      first_seen(modules, kNone) {
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
  const auto count = [&](TensorId t) {
    const ModelTensor& tensor = tree.tensors[t];
    if (group[t] != kNone) {
      if (counted[group[t]]) return;
      counted[group[t]] = true;
    }
    const Eighths bytes = to_eighths(counted_bytes(tensor, floats));
    size[modules + t] = tensor.dtype == DType::kBool ? bytes / 8 : bytes;
    size[tensor.module] += size[modules + t];
    first_seen[tensor.module] = std::min(first_seen[tensor.module], rank++);
  };
  // Accelerate meets all parameters first, then all buffers.
  std::vector<TensorId> buffers;
  for (const TensorId t : tensors_below(tree, *this, 0)) {
    if (tree.tensors[t].buffer) {
      buffers.push_back(t);
    } else {
      count(t);
    }
  }
  for (const TensorId t : buffers) count(t);
  for (auto at = order.rbegin(); at != order.rend(); ++at) {
    const ModuleId parent = tree.modules[*at].parent;
    if (parent == kNone) continue;
    size[parent] += size[*at];
    first_seen[parent] = std::min(first_seen[parent], first_seen[*at]);
  }
}

}  // namespace berth::accelerate
