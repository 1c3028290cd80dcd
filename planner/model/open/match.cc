// Joins a tree with a checkpoint: compares stored names, dtypes and shapes with what the config
// asks for.

#include "planner/model/open/match.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <utility>

#include "berth/error.h"
#include "planner/base/quote.h"
#include "planner/checkpoint/name_table.h"
#include "planner/model/open/prediction.h"
#include "planner/model/open/ties.h"
#include "planner/model/quant/match.h"
#include "planner/model/tree/tree_builder.h"

namespace berth {

namespace {

// Writes ", and 12 more" after a list of `count` that names only one.
std::string and_more(std::size_t count) {
  return count > 1 ? ", and " + std::to_string(count - 1) + " more" : "";
}

class Matcher {
 public:
  Matcher(BuiltTree& built, const Architecture& architecture, const ModelConfig& config,
          const Quantization& quantization, const Checkpoint& checkpoint,
          std::optional<DType> dtype)
      : tree_(built.tree),
        ignored_(built.ignored),
        predicted_(built.predicted),
        architecture_(architecture),
        config_(config),
        checkpoint_(checkpoint),
        wanted_(dtype),
        quantized_(built.tree, quantization, config, checkpoint),
        names_{built.tree},
        by_name_(built.by_name) {}

  void run() {
    place_all();
    settle_unplaced();
    settle_quantized();
    settle_ties(tree_, checkpoint_, wanted_, config_.source());
    report();
    quantized_.finish();
  }

 private:
  const TensorInfo& stored(std::uint32_t index) const { return checkpoint_.tensors[index]; }
  std::string shard_of(std::uint32_t index) const {
    return checkpoint_.shards[stored(index).shard].path.string();
  }

  // NameTable and the tree must use the same number for "none".
  static_assert(NameTable::kAbsent == kNone);
  TensorId find(std::string_view name) const { return by_name_.find(name, names_); }

  // The files and the tree have different orders, so each look-up misses the caches three times:
  // for the table, for the tensor, and for its name. Looking up a batch at once lets these misses
  // overlap.
  void place_all() {
    constexpr std::uint32_t kBatch = 16;
    const auto count = static_cast<std::uint32_t>(checkpoint_.tensors.size());
    std::array<NameTable::Probe, kBatch> probes;
    std::array<TensorId, kBatch> guesses;
    for (std::uint32_t first = 0; first < count; first += kBatch) {
      const std::uint32_t batch = std::min(kBatch, count - first);
      for (std::uint32_t i = 0; i < batch; ++i) probes[i] = by_name_.probe(stored(first + i).name);
      for (std::uint32_t i = 0; i < batch; ++i) {
        guesses[i] = by_name_.guess(probes[i]);
        if (guesses[i] != kNone) __builtin_prefetch(&tree_.tensors[guesses[i]]);
      }
      for (std::uint32_t i = 0; i < batch; ++i) {
        if (guesses[i] != kNone) __builtin_prefetch(tree_.tensors[guesses[i]].name.data());
      }
      for (std::uint32_t i = 0; i < batch; ++i) {
        const TensorId id = by_name_.find(stored(first + i).name, probes[i], names_);
        place(first + i, id != kNone ? id : find_renamed(stored(first + i).name));
      }
    }
  }

  // The tensor that a stored name means. Tries the name as it is, then renamed, then with each
  // prefix before it or taken from it.
  TensorId find_variant(const std::string& name) const {
    const TensorId id = find(name);
    return id != kNone ? id : find_renamed(name);
  }

  // The same, if the name as it is has been tried.
  TensorId find_renamed(const std::string& name) const {
    std::string renamed = name;
    bool changed = false;
    for (const auto& [from, to, at_start] : architecture_.renames) {
      const std::size_t at = renamed.find(from);
      if (at == renamed.npos || (at_start && at != 0)) continue;
      renamed.replace(at, from.size(), to);
      changed = true;
    }
    const TensorId as_it_is = changed ? find(renamed) : kNone;
    if (as_it_is != kNone) return as_it_is;
    for (const std::string& prefix : architecture_.prefixes) {
      if (const TensorId id = find(prefix + renamed); id != kNone) return id;
    }
    for (const std::string& prefix : architecture_.extra_prefixes) {
      if (!renamed.starts_with(prefix)) continue;
      if (const TensorId id = find(renamed.substr(prefix.size())); id != kNone) return id;
    }
    return kNone;
  }

  bool is_ignored(const std::string& name) const {
    return std::ranges::any_of(ignored_, [&](const std::string& glob) {
      return ::fnmatch(glob.c_str(), name.c_str(), 0) == 0;
    });
  }

  void place(std::uint32_t index, TensorId id) {
    const TensorInfo& info = stored(index);
    if (id == kNone) {
      unplaced_.push_back(index);
      return;
    }
    ModelTensor& tensor = tree_.tensors[id];
    if (tensor.source != kNone) {
      throw Error(shard_of(index) + ": tensors " + quote(stored(tensor.source).name) + " and " +
                  quote(info.name) + " are both " + quote(tensor.name) + " of the model");
    }
    if (tensor.shape != info.shape) {
      if (tensor.shape.size() < 2) fail_shape(tensor, index);
      odd_.push_back({id, index});
      return;
    }
    adopt(tensor, index);
  }

  // The stored name of the list of decoder layers, by one of the tensors that are in it; "" where
  // none was found.
  std::string_view stored_layers() const {
    for (const LayerFacts& layer : tree_.facts.layers) {
      const Module& module = tree_.modules[layer.module];
      const std::string_view number =
          std::string_view(module.name).substr(module.name.rfind('.') + 1);
      const std::string inside = "." + std::string(number) + ".";
      for (const TensorId id : first_tensors_below(layer.module)) {
        if (tree_.tensors[id].source == kNone) continue;
        const std::string_view name = stored(tree_.tensors[id].source).name;
        const std::size_t at = name.find(inside);
        if (at != name.npos) return name.substr(0, at);
      }
    }
    return "";
  }

  // The tensors of the first module below `module` that has any.
  const std::vector<TensorId>& first_tensors_below(ModuleId module) const {
    const Module* at = &tree_.modules[module];
    while (at->tensors.empty() && !at->children.empty()) at = &tree_.modules[at->children[0]];
    return at->tensors;
  }

  // Sorts what the tree has no tensor for: for multi-token prediction, ignored, or not known.
  void settle_unplaced() {
    if (unplaced_.empty()) return;
    tree_.predicted = prediction_tensors(checkpoint_, &config_, predicted_, unplaced_,
                                         stored_layers(), tree_.facts.layers.size());
    tree_.ignored_bytes += stored_bytes(checkpoint_, tree_.predicted);
    for (const std::uint32_t index : unplaced_) {
      if (std::ranges::binary_search(tree_.predicted, index)) continue;
      if (is_ignored(stored(index).name)) {
        tree_.ignored_bytes += stored(index).bytes();
      } else {
        surplus_.push_back(index);
      }
    }
  }

  [[noreturn]] void fail_shape(const ModelTensor& tensor, std::uint32_t index) const {
    throw Error(shard_of(index) + ": tensor " + quote(stored(index).name) + " has shape " +
                shape_text(stored(index).shape) + ", " + config_.source() + " asks for " +
                shape_text(tensor.shape));
  }

  struct Owner {
    TensorId weight = kNone;
    std::string name;  // name of the stored tensor in the weight's module
  };

  // The weight matrix that a stored tensor belongs to, if the tree does not have the tensor itself:
  // "m.scales" and "m.weight.absmax" belong to m.weight, "m.gate_up_proj_blocks" to m.gate_up_proj.
  Owner owner_of(const std::string& name) const {
    constexpr int kDeepest = 3;
    std::size_t cut = name.size();
    for (int depth = 0; depth < kDeepest && (cut = name.rfind('.', cut - 1)) != name.npos;
         ++depth) {
      if (cut == 0) break;
      const std::string front = name.substr(0, cut);
      if (const TensorId id = find_matrix(front + ".weight"); id != kNone) {
        return {id, name.substr(cut + 1)};
      }
      if (const TensorId id = find_matrix(front); id != kNone) {
        return {id, std::string(leaf_of(tree_.tensors[id].name)) + name.substr(cut)};
      }
    }
    const std::size_t bar = name.rfind('_');
    if (bar == name.npos) return {};
    const TensorId id = find_matrix(name.substr(0, bar));
    if (id == kNone) return {};
    return {id, std::string(leaf_of(tree_.tensors[id].name)) + name.substr(bar)};
  }

  TensorId find_matrix(const std::string& name) const {
    const TensorId id = find_variant(name);
    return id != kNone && tree_.tensors[id].shape.size() >= 2 ? id : kNone;
  }

  // A scale of the KV cache stands below the module that it is for, or below one that some writers
  // fuse of several ("self_attn.qkv_proj.k_scale") and the tree does not have: then it is taken to
  // belong to the module above.
  bool is_loose_scale(std::uint32_t index) {
    const std::string& name = stored(index).name;
    if (!name.ends_with("scale") && !name.ends_with("scales")) return false;
    std::size_t dot = name.rfind('.');
    for (int above = 0; above < 2 && dot != name.npos && dot > 0; ++above) {
      if (const Module* module = tree_.find_module(name.substr(0, dot))) {
        return quantized_.add_loose_scale(static_cast<ModuleId>(module - tree_.modules.data()),
                                          index, std::string_view(name).substr(dot + 1));
      }
      dot = name.rfind('.', dot - 1);
    }
    return false;
  }

  // Stored tensors that the plain tree does not have may be parts of quantised weights.
  void settle_quantized() {
    for (const auto& [id, index] : odd_) {
      quantized_.add(id, index, std::string(leaf_of(tree_.tensors[id].name)));
    }
    std::erase_if(surplus_, [&](std::uint32_t index) {
      Owner owner = owner_of(stored(index).name);
      if (owner.weight == kNone) return is_loose_scale(index);
      quantized_.add(owner.weight, index, std::move(owner.name));
      return true;
    });
    for (const std::uint32_t index : quantized_.settle()) {
      const auto odd = std::ranges::find(odd_, index, &Odd::index);
      if (odd != odd_.end()) fail_shape(tree_.tensors[odd->id], index);
      (is_plain_bias(index) ? surplus_ : unknown_).push_back(index);
    }
    std::ranges::sort(surplus_);
    std::ranges::sort(unknown_);
  }

  // A bias beside a plain weight of a layer that has none.
  bool is_plain_bias(std::uint32_t index) const {
    const std::string& name = stored(index).name;
    if (!name.ends_with(".bias")) return false;
    const TensorId weight = owner_of(name).weight;
    return tree_.tensors[weight].source != kNone && is_convertible(tree_.tensors[weight].stored);
  }

  void adopt(ModelTensor& tensor, std::uint32_t index) const {
    adopt_stored(tensor, checkpoint_, index, wanted_);
  }

  void report() {
    std::size_t missing = 0;
    TensorId first = kNone;
    bool towers_alone = true;
    std::multiset<std::string> by_place;  // of the missing: the name within a layer
    for (TensorId id = 0; id < tree_.tensors.size(); ++id) {
      const ModelTensor& tensor = tree_.tensors[id];
      if (!tensor.persistent || tensor.tied_to != kNone || tensor.source != kNone) continue;
      if (missing++ == 0) first = id;
      towers_alone = towers_alone && tree_.modules[tensor.module].prompt_only;
      by_place.insert(place_in_layer(id));
    }
    const std::string unknown = listed(unknown_.empty() ? surplus_ : unknown_);
    if (missing > 0) {
      const std::string what = checkpoint_.folder.string() + ": the checkpoint lacks tensor " +
                               quantized_.describe_missing(first) + and_more(missing) + ", which " +
                               config_.source() + " asks for" +
                               (unknown.empty() ? "" : "; it holds unknown " + unknown);
      if (towers_alone || missing_in_every_layer(by_place)) throw OtherVariant(what);
      throw Error(what);
    }
    // What belongs to a weight may change what it means, so it must be known.
    if (!unknown_.empty()) {
      throw Error(shard_of(unknown_[0]) + ": " + unknown + ": not part of the " +
                  architecture_.model_type + " model that " + config_.source() + " describes");
    }
    if (surplus_.empty()) return;
    for (const std::uint32_t index : surplus_) tree_.ignored_bytes += stored(index).bytes();
    tree_.notes.push_back("the checkpoint holds " + unknown + ", not part of the " +
                          architecture_.model_type +
                          " model that config.json describes: left out, as transformers does");
  }

  // "self_attn.q_norm.weight" of a tensor of a decoder layer; "" of any other.
  std::string place_in_layer(TensorId id) const {
    ModuleId at = tree_.tensors[id].module;
    const auto is_layer = [&](ModuleId module) {
      return std::ranges::find(tree_.facts.layers, module, &LayerFacts::module) !=
             tree_.facts.layers.end();
    };
    while (at != kNone && !is_layer(at)) at = tree_.modules[at].parent;
    if (at == kNone) return "";
    return std::string(tree_.tensors[id].name.substr(tree_.modules[at].name.size() + 1));
  }

  bool missing_in_every_layer(const std::multiset<std::string>& by_place) const {
    const std::size_t layers = tree_.facts.layers.size();
    return layers > 1 && !by_place.contains("") &&
           std::ranges::all_of(
               by_place, [&](const std::string& place) { return by_place.count(place) == layers; });
  }

  std::string listed(const std::vector<std::uint32_t>& indices) const {
    if (indices.empty()) return "";
    const TensorInfo& first = stored(indices[0]);
    return "tensor " + quote(first.name) + " " + shape_text(first.shape) + and_more(indices.size());
  }

  struct Odd {  // stored under a tensor's name, but in another shape
    TensorId id;
    std::uint32_t index;
  };

  ModelTree& tree_;
  const std::vector<std::string>& ignored_;
  const std::vector<std::string>& predicted_;
  const Architecture& architecture_;
  const ModelConfig& config_;
  const Checkpoint& checkpoint_;
  std::optional<DType> wanted_;
  QuantMatcher quantized_;
  std::vector<Odd> odd_;
  TensorNames names_;
  const NameTable& by_name_;             // the persistent tensors of the tree
  std::vector<std::uint32_t> unplaced_;  // stored tensors that found no tensor of the tree
  std::vector<std::uint32_t> surplus_;   // stored tensors that the model does not have
  std::vector<std::uint32_t> unknown_;   // those of them that belong to a weight of the model
};

}  // namespace

void match_checkpoint(BuiltTree& built, const Architecture& architecture, const ModelConfig& config,
                      const Quantization& quantization, const Checkpoint& checkpoint,
                      std::optional<DType> dtype) {
  index_names(built);
  Matcher(built, architecture, config, quantization, checkpoint, dtype).run();
}

}  // namespace berth
