// Builds a tree from a checkpoint's tensor names, for models without a template. Every dot of a
// name stands for a module, and the modules are put into the order in which language models run.

#include "planner/model/open/names_tree.h"

#include <algorithm>

#include "planner/base/digits.h"
#include "planner/model/open/names_facts.h"
#include "planner/model/quant/quantization.h"
#include "planner/model/tree/dotted_names.h"
#include "planner/model/tree/tree_builder.h"

namespace berth {
namespace {

bool contains_any(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::ranges::any_of(words,
                             [&](std::string_view word) { return text.find(word) != text.npos; });
}

class NamesTree {
 public:
  NamesTree(const Checkpoint& checkpoint, const ModelConfig* config, std::optional<DType> dtype)
      : checkpoint_(checkpoint), config_(config), wanted_(dtype) {}

  ModelTree build() {
    for (std::uint32_t i = 0; i < checkpoint_.tensors.size(); ++i) {
      names_.insert(checkpoint_.tensors[i].name, i);
    }
    names_.settle(DottedNames::Order::kNatural);
    emit(0, kNone, "", false);
    fill_named_facts(tree_, lists_, config_, wanted_);
    return std::move(tree_);
  }

 private:
  // Embeddings come first, then what holds the layers, then norms and everything else, then heads.
  int rank(std::string_view name, std::uint32_t node) const {
    if (is_head_name(name)) return 3;
    if (is_embedding_name(name)) return 0;
    return names_.node(node).holds_list ? 1 : 2;
  }

  void emit(std::uint32_t at, ModuleId parent, std::string_view name, bool in_block) {
    const NameNode& node = names_.node(at);
    const ModuleId id = add_module(tree_, parent, name, class_of(node, name));
    if (parent != kNone) mark(id, name, node, in_block);
    in_block = in_block || tree_.modules[id].no_split;
    for (const std::uint32_t index : node.tensors) emit_tensor(index, id);

    auto order = node.children;
    if (!in_block && !node.list) {
      std::ranges::stable_sort(order, {},
                               [&](const auto& entry) { return rank(entry.first, entry.second); });
    }
    for (const auto& [child_name, child] : order) emit(child, id, child_name, in_block);
    if (node.list && !in_block) note_list(id);
  }

  void mark(ModuleId id, std::string_view name, const NameNode& node, bool in_block) {
    Module& module = tree_.modules[id];
    const Module& parent = tree_.modules[module.parent];
    // The items of an outermost list are the blocks. A leaf is not marked, because it cannot be
    // split anyway.
    const bool listed = parent.cls == "ModuleList" && is_number(name);
    if (listed && !in_block && !node.children.empty()) {
      module.no_split = true;
      module.cls = "Block";
    }
  }

  Name class_of(const NameNode& node, std::string_view name) const {
    if (node.list) return "ModuleList";
    if (!node.children.empty() || node.tensors.empty()) return "Module";
    if (is_embedding_name(name)) return "Embedding";
    const bool matrix = std::ranges::any_of(node.tensors, [&](std::uint32_t index) {
      return checkpoint_.tensors[index].shape.size() == 2;
    });
    return matrix ? "Linear" : "Module";
  }

  void emit_tensor(std::uint32_t index, ModuleId module) {
    const TensorInfo& info = checkpoint_.tensors[index];
    ModelTensor tensor;
    tensor.name = tree_.names.add(info.name);
    tensor.shape = info.shape;
    tensor.module = module;
    tensor.buffer = contains_any(info.name, {"running_mean", "running_var", "num_batches_tracked"});
    adopt_stored(tensor, checkpoint_, index, wanted_);
    add_tensor(tree_, std::move(tensor));
  }

  // An outermost list of blocks. One of leaves alone, such as a small network, is none.
  void note_list(ModuleId id) {
    const std::vector<ModuleId>& blocks = tree_.modules[id].children;
    if (tree_.modules[blocks[0]].no_split) lists_.push_back(id);
  }

  const Checkpoint& checkpoint_;
  const ModelConfig* config_;
  std::optional<DType> wanted_;
  DottedNames names_;
  std::vector<ModuleId> lists_;  // the outermost lists of blocks
  ModelTree tree_;
};

}  // namespace

ModelTree build_from_names(const Checkpoint& checkpoint, const ModelConfig* config,
                           std::optional<DType> dtype) {
  ModelTree tree = NamesTree(checkpoint, config, dtype).build();
  if (config != nullptr) tree.model_type = config->model_type();
  mark_quantized_names(tree, config);
  for (const std::string& guess : tree.guesses) tree.notes.push_back("guessed: " + guess);
  return tree;
}

}  // namespace berth
