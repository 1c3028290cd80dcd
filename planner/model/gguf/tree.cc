#include "planner/model/gguf/tree.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string_view>
#include <utility>
#include <vector>

#include "berth/error.h"
#include "planner/base/quote.h"
#include "planner/model/gguf/layer_tensors.h"
#include "planner/model/tree/dotted_names.h"
#include "planner/model/tree/tree_builder.h"

namespace berth {
namespace {

// When the modules at the top run, by their names, or by how these begin if that is more than three
// letters. What is not here runs with the layers if it holds a list of modules, else after them.
struct TopRank {
  std::string_view begin;
  int rank;
  bool prompt_only = false;
};
constexpr int kLayersRank = 40;
constexpr int kAfterRank = 50;
constexpr TopRank kTop[] = {
    {"token_embd", 0},
    {"token_types", 1},
    {"position_embd", 1},
    {"per_layer_", 1},
    {"altup_proj", 1},
    {"rope_f", 1},
    {"v", 10, true},
    {"a", 10, true},
    {"resampler", 11, true},
    {"mm", 12, true},
    {"enc", 20, true},
    {"dec", kLayersRank},
    {"blk", kLayersRank},
    {"altup_unembd_proj", 51},
    {"output_norm", 52},
    {"output", 60},
    {"cls", 60},
    {"dense_", 60},
};

const TopRank* top_rank(std::string_view name) {
  const auto* const found = std::ranges::find_if(kTop, [&](const TopRank& top) {
    return name == top.begin || (top.begin.size() > 3 && name.starts_with(top.begin));
  });
  return found == std::end(kTop) ? nullptr : found;
}

class TreeOfNames {
 public:
  TreeOfNames(const Checkpoint& checkpoint, const GgufLayers& layers, std::optional<DType> dtype)
      : checkpoint_(checkpoint),
        layers_(layers),
        wanted_(dtype),
        beside_layers_(layers.list == "blk" || layers.list == "dec.blk") {}

  ModelTree build() {
    tree_.facts = layers_.facts;
    for (std::uint32_t i = 0; i < checkpoint_.tensors.size(); ++i) {
      if (is_prediction(checkpoint_.tensors[i])) {
        tree_.ignored_bytes += checkpoint_.tensors[i].bytes();
      } else {
        names_.insert(checkpoint_.tensors[i].name, i);
      }
    }
    names_.settle(DottedNames::Order::kInserted);
    emit(0, kNone, "", /*in_block=*/false, /*prompt_only=*/false);
    if (layers_.language_model) settle_head();
    settle_layers();
    return std::move(tree_);
  }

 private:
  // Of a layer after those of the decoder.
  bool is_prediction(const TensorInfo& tensor) const {
    if (layers_.prediction_layers == 0) return false;
    const GgufPlace place = gguf_place(tensor.name);
    return place.list == layers_.list && place.layer >= layers_.facts.layers.size();
  }

  int rank(std::string_view name, std::uint32_t node) const {
    if (const TopRank* top = top_rank(name)) return top->rank;
    return names_.node(node).holds_list ? kLayersRank : kAfterRank;
  }

  void emit(std::uint32_t at, ModuleId parent, std::string_view name, bool in_block,
            bool prompt_only) {
    const NameNode& node = names_.node(at);
    const ModuleId id = add_module(tree_, parent, name, class_of(node, name));
    Module& module = tree_.modules[id];
    module.prompt_only = prompt_only;
    if (parent != kNone) {
      const Module& above = tree_.modules[parent];
      module.expert = above.expert || is_gguf_experts(name) || (in_block && node.list);
      if (!in_block && above.cls == "ModuleList" && !node.children.empty()) {
        module.no_split = true;
        module.cls = "Block";
        in_block = true;
      }
    }
    for (const std::uint32_t index : node.tensors) emit_tensor(index, id);
    auto order = node.children;
    if (parent == kNone) {
      std::ranges::stable_sort(order, {},
                               [&](const auto& entry) { return rank(entry.first, entry.second); });
    }
    for (const auto& [child_name, child] : order) {
      const TopRank* const top = parent == kNone ? top_rank(child_name) : nullptr;
      const bool tower = top != nullptr && top->prompt_only && beside_layers_;
      emit(child, id, child_name, in_block, prompt_only || tower);
    }
  }

  Name class_of(const NameNode& node, std::string_view name) const {
    if (node.list) return "ModuleList";
    if (!node.children.empty() || node.tensors.empty()) return "Module";
    if (name.ends_with("_embd") || name == "token_types") return "Embedding";
    const bool matrix = std::ranges::any_of(node.tensors, [&](std::uint32_t index) {
      return checkpoint_.tensors[index].shape.size() == 2;
    });
    return matrix ? "Linear" : "Module";
  }

  TensorId emit_tensor(std::uint32_t index, ModuleId module, std::string_view name = {}) {
    const TensorInfo& info = checkpoint_.tensors[index];
    ModelTensor tensor;
    tensor.name = tree_.names.add(name.empty() ? std::string_view(info.name) : name);
    tensor.shape = info.shape;
    tensor.module = module;
    adopt_stored(tensor, checkpoint_, index, wanted_);
    return add_tensor(tree_, std::move(tensor));
  }

  ModuleId find(std::string_view name) const {
    const Module* module = tree_.find_module(name);
    return module == nullptr ? kNone : static_cast<ModuleId>(module - tree_.modules.data());
  }

  // The output projection, or one that is tied to the embedding where the file has none.
  void settle_head() {
    tree_.facts.embedding = find("token_embd");
    tree_.facts.head = find("output");
    if (tree_.facts.head != kNone || tree_.facts.embedding == kNone) return;
    const std::vector<TensorId>& embedding = tree_.modules[tree_.facts.embedding].tensors;
    const auto weight = std::ranges::find_if(
        embedding, [&](TensorId t) { return tree_.tensors[t].name == "token_embd.weight"; });
    if (weight == embedding.end()) return;
    const TensorId first = *weight;
    tree_.facts.head = add_module(tree_, 0, "output", "Linear");
    tie(tree_,
        {first, emit_tensor(tree_.tensors[first].source, tree_.facts.head, "output.weight")});
  }

  void settle_layers() {
    std::vector<LayerFacts>& layers = tree_.facts.layers;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      layers[i].module = find(layers_.list + "." + std::to_string(i));
    }
    if (!layers.empty()) return;
    // No list of the format's own: the longest of the others.
    for (ModuleId id = 0; id < tree_.modules.size(); ++id) {
      const Module& module = tree_.modules[id];
      if (module.cls != "ModuleList" || module.children.size() <= layers.size()) continue;
      if (!tree_.modules[module.children[0]].no_split) continue;
      layers.clear();
      for (const ModuleId block : module.children) layers.push_back({.module = block});
    }
  }

  const Checkpoint& checkpoint_;
  const GgufLayers& layers_;
  std::optional<DType> wanted_;
  bool beside_layers_;  // towers and encoders stand beside a decoder, and are not all there is
  DottedNames names_;
  ModelTree tree_;
};

}  // namespace

ModelTree gguf_tree(const Checkpoint& checkpoint, const std::string& architecture,
                    const GgufLayers& layers, std::optional<DType> dtype) {
  ModelTree tree = TreeOfNames(checkpoint, layers, dtype).build();
  tree.model_type = architecture;
  tree.notes = layers.notes;
  tree.guesses = layers.notes;  // they say what had to be guessed
  return tree;
}

}  // namespace berth
