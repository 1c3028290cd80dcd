#include "planner/model/tree/tree_builder.h"

#include <utility>

#include "berth/error.h"
#include "planner/base/quote.h"

namespace berth {

std::string join_names(std::string_view parent, std::string_view child) {
  if (parent.empty()) return std::string(child);
  std::string name;
  name.reserve(parent.size() + 1 + child.size());
  return name.append(parent).append(1, '.').append(child);
}

ModuleId add_module(ModelTree& tree, ModuleId parent, std::string_view name, Name cls) {
  if (tree.modules.size() >= kMaxModules) {
    throw Error("more than " + std::to_string(kMaxModules) + " modules");
  }
  const auto id = static_cast<ModuleId>(tree.modules.size());
  Module& module = tree.modules.emplace_back();
  module.cls = cls;
  module.parent = parent;
  if (parent != kNone) {
    module.name = tree.names.join(tree.modules[parent].name, name);
    tree.modules[parent].children.push_back(id);
  }
  return id;
}

TensorId add_tensor(ModelTree& tree, ModelTensor tensor) {
  if (tree.tensors.size() >= kMaxTensors) {
    throw Error("more than " + std::to_string(kMaxTensors) + " tensors");
  }
  // Checks the size in the widest dtype, so that no conversion can overflow later.
  const auto widest = tensor_bytes(DType::kF64, tensor.shape);
  if (!widest || *widest > (std::uint64_t{1} << 62)) {
    throw Error("tensor " + quote(tensor.name) + ": its size overflows");
  }
  const auto id = static_cast<TensorId>(tree.tensors.size());
  tree.modules[tensor.module].tensors.push_back(id);
  tree.tensors.push_back(std::move(tensor));
  return id;
}

void tie(ModelTree& tree, std::vector<TensorId> group) {
  for (std::size_t i = 1; i < group.size(); ++i) tree.tensors[group[i]].tied_to = group[0];
  tree.ties.push_back(std::move(group));
}

DType memory_dtype(DType stored, std::optional<DType> wanted) {
  return wanted && (is_convertible(stored) || is_block_format(stored)) ? *wanted : stored;
}

void adopt_stored(ModelTensor& tensor, const Checkpoint& checkpoint, std::uint32_t index,
                  std::optional<DType> wanted) {
  const TensorInfo& info = checkpoint.tensors[index];
  const StoredForm* form = checkpoint.form_of(info);
  const bool cut = form != nullptr && form->reorders() && is_block_format(info.dtype) &&
                   form->run() % dtype_block(info.dtype).elements != 0;
  tensor.source = index;
  tensor.stored = info.dtype;
  tensor.dtype = memory_dtype(info.dtype, cut && !wanted ? DType::kF16 : wanted);
  tensor.tiled = form != nullptr && form->tiled;
  tensor.rearranged = form != nullptr && !tensor.tiled;
  if (tensor.dtype == info.dtype || can_convert(info.dtype, tensor.dtype)) return;
  throw Error(checkpoint.shards[info.shard].path.string() + ": tensor " + quote(tensor.name) +
              " is stored as " + std::string(dtype_name(info.dtype)) +
              ", which no kernel turns into " + std::string(torch_dtype_name(tensor.dtype)) +
              ": it can be planned, loaded and checked as it is stored, not computed with");
}

std::string shape_text(std::span<const std::uint64_t> shape) {
  std::string out = "[";
  for (const std::uint64_t size : shape) {
    if (out.size() > 1) out += ", ";
    out += std::to_string(size);
  }
  return out += ']';
}

}  // namespace berth
