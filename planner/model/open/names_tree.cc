// Builds a tree from a checkpoint's tensor names, for models without a template. Every dot of a
// name stands for a module, and the modules are put into the order in which language models run.

#include "planner/model/open/names_tree.h"

#include <algorithm>
#include <map>

#include "berth/error.h"
#include "planner/model/open/names_facts.h"
#include "planner/model/quant/quantization.h"
#include "planner/model/tree/tree_builder.h"

namespace berth {
namespace {

bool is_number(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

// Compares numbers inside names by their value: "layer.2" comes before "layer.10".
struct NaturalLess {
  bool operator()(std::string_view a, std::string_view b) const {
    while (!a.empty() && !b.empty()) {
      const auto digits_a = std::min(a.find_first_not_of("0123456789"), a.size());
      const auto digits_b = std::min(b.find_first_not_of("0123456789"), b.size());
      if (digits_a != 0 && digits_b != 0) {
        const std::string_view x = value_part(a.substr(0, digits_a));
        const std::string_view y = value_part(b.substr(0, digits_b));
        if (x.size() != y.size()) return x.size() < y.size();
        if (x != y) return x < y;
        if (digits_a != digits_b) return digits_a < digits_b;
        a.remove_prefix(digits_a);
        b.remove_prefix(digits_b);
      } else {
        if (a[0] != b[0]) return a[0] < b[0];
        a.remove_prefix(1);
        b.remove_prefix(1);
      }
    }
    return a.size() < b.size();
  }

 private:
  static std::string_view value_part(std::string_view digits) {
    const auto first = std::min(digits.find_first_not_of('0'), digits.size() - 1);
    return digits.substr(first);
  }
};

struct Node {
  std::map<std::string, std::uint32_t, NaturalLess> children;
  std::vector<std::uint32_t> tensors;  // indices into the checkpoint
  bool list = false;                   // the names of all children are numbers
  bool holds_list = false;             // the node or one below it is a list
};

bool contains_any(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::ranges::any_of(words,
                             [&](std::string_view word) { return text.find(word) != text.npos; });
}

class NamesTree {
 public:
  NamesTree(const Checkpoint& checkpoint, const ModelConfig* config, std::optional<DType> dtype)
      : checkpoint_(checkpoint), config_(config), wanted_(dtype), nodes_(1) {}

  ModelTree build() {
    for (std::uint32_t i = 0; i < checkpoint_.tensors.size(); ++i) insert(i);
    classify(0);
    emit(0, kNone, "", false);
    fill_named_facts(tree_, lists_, config_, wanted_);
    return std::move(tree_);
  }

 private:
  void insert(std::uint32_t index) {
    std::string_view rest = checkpoint_.tensors[index].name;
    std::uint32_t node = 0;
    for (auto dot = rest.find('.'); dot != rest.npos; dot = rest.find('.')) {
      if (nodes_.size() > kMaxModules) {
        throw Error("more than " + std::to_string(kMaxModules) + " modules in tensor names");
      }
      const auto fresh = static_cast<std::uint32_t>(nodes_.size());
      const auto [child, added] = nodes_[node].children.emplace(rest.substr(0, dot), fresh);
      node = child->second;
      if (added) nodes_.emplace_back();
      rest.remove_prefix(dot + 1);
    }
    nodes_[node].tensors.push_back(index);
  }

  void classify(std::uint32_t at) {
    bool list = !nodes_[at].children.empty();
    bool holds = false;
    for (const auto& [name, child] : nodes_[at].children) {
      classify(child);
      list = list && is_number(name);
      holds = holds || nodes_[child].holds_list;
    }
    nodes_[at].list = list;
    nodes_[at].holds_list = list || holds;
  }

  // Embeddings come first, then what holds the layers, then norms and everything else, then heads.
  int rank(const std::string& name, std::uint32_t node) const {
    if (is_head_name(name)) return 3;
    if (is_embedding_name(name)) return 0;
    return nodes_[node].holds_list ? 1 : 2;
  }

  void emit(std::uint32_t at, ModuleId parent, const std::string& name, bool in_block) {
    const Node& node = nodes_[at];
    const ModuleId id = add_module(tree_, parent, name, class_of(node, name));
    if (parent != kNone) mark(id, name, node, in_block);
    in_block = in_block || tree_.modules[id].no_split;
    for (const std::uint32_t index : node.tensors) emit_tensor(index, id);

    std::vector<std::pair<const std::string*, std::uint32_t>> order;
    for (const auto& [child_name, child] : node.children) order.emplace_back(&child_name, child);
    if (!in_block && !node.list) {
      std::ranges::stable_sort(order, {},
                               [&](const auto& entry) { return rank(*entry.first, entry.second); });
    }
    for (const auto& [child_name, child] : order) emit(child, id, *child_name, in_block);
    if (node.list && !in_block) note_list(id);
  }

  void mark(ModuleId id, const std::string& name, const Node& node, bool in_block) {
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

  Name class_of(const Node& node, const std::string& name) const {
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
  std::vector<Node> nodes_;
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
