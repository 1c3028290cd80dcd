#include "planner/model/open/prediction.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <map>
#include <numeric>
#include <utility>

#include "planner/model/open/names_tree.h"
#include "planner/model/tree/tree_builder.h"

namespace berth {
namespace {

// Keys of config.json that count layers of multi-token prediction (DeepSeek-V3 and GLM-4.5; MiMo;
// Qwen3-Next and Qwen3.5; MiniMax-M2; Bailing; LongCat; Step 3.5).
constexpr std::array kCounts = {
    "num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers",
    "num_mtp_modules",          "mtp_num_layers", "num_nextn_layers",
};

// Modules that join a draft to the decoder: no other layer has them.
constexpr std::array<std::string_view, 6> kJoints = {"eh_proj",     "enorm",    "hnorm",
                                                     "shared_head", "e_h_proj", "nextn"};

// Attention by the name of what makes keys and values.
constexpr std::array<std::string_view, 8> kKeys = {
    "k_proj", "qkv_proj", "kv_a_proj_with_mqa", "query_key_value", "kv_b_proj", "wqkv",
    "qkv",    "Wqkv"};

// Whether `holds` is true of a part of a dotted name.
template <typename Holds>
bool any_part(std::string_view name, Holds holds) {
  for (std::size_t dot = name.find('.'); dot != name.npos; dot = name.find('.')) {
    if (holds(name.substr(0, dot))) return true;
    name.remove_prefix(dot + 1);
  }
  return holds(name);
}

std::string_view last_part(std::string_view name) { return name.substr(name.rfind('.') + 1); }

// "model.layers.61.eh_proj.weight": the list "model.layers" and the number 61.
struct Place {
  std::string_view list;
  std::uint64_t number = 0;
};

std::optional<Place> place_of(std::string_view name) {
  std::size_t from = 0;
  for (std::size_t dot = name.find('.'); dot != name.npos; dot = name.find('.', from)) {
    std::uint64_t number = 0;
    const char* const end = name.data() + dot;
    const auto [stop, error] = std::from_chars(name.data() + from, end, number);
    if (error == std::errc() && stop == end && from > 0) {
      return Place{name.substr(0, from - 1), number};
    }
    from = dot + 1;
  }
  return std::nullopt;
}

bool is_named(std::string_view name, const std::vector<std::string>& globs) {
  if (any_part(name, [](std::string_view p) { return p == "mtp" || p.starts_with("mtp_"); })) {
    return true;
  }
  return std::ranges::any_of(globs, [&](const std::string& glob) {
    return ::fnmatch(glob.c_str(), std::string(name).c_str(), 0) == 0;
  });
}

bool joins(std::string_view name) {
  return any_part(name, [](std::string_view part) {
    return std::ranges::find(kJoints, part) != kJoints.end();
  });
}

std::uint64_t counted(const ModelConfig* config) {
  if (config == nullptr) return 0;
  for (const char* key : kCounts) {
    const ModelConfig::Value* value = config->find(key);
    const auto* whole = value == nullptr ? nullptr : std::get_if<std::int64_t>(value);
    if (whole != nullptr && *whole > 0) return static_cast<std::uint64_t>(*whole);
  }
  return 0;
}

// Copies what `from` spells below `parent` of `to`, where that does not have it already.
class Graft {
 public:
  Graft(const ModelTree& from, ModelTree& to, std::span<const std::uint32_t> sources)
      : from_(from), to_(to), sources_(sources) {}

  void copy() {
    modules_.assign(from_.modules.size(), 0);
    for (ModuleId id = 1; id < from_.modules.size(); ++id) copy_module(id);
  }

  ModuleId at(ModuleId id) const { return modules_[id]; }

 private:
  void copy_module(ModuleId id) {
    const Module& module = from_.modules[id];
    const ModuleId parent = modules_[module.parent];
    const auto& siblings = to_.modules[parent].children;
    const auto known = std::ranges::find_if(
        siblings, [&](ModuleId child) { return to_.modules[child].name == module.name; });
    if (known != siblings.end()) {
      modules_[id] = *known;
    } else {
      modules_[id] = add_module(to_, parent, last_part(module.name), to_.names.add(module.cls));
      Module& added = to_.modules[modules_[id]];
      added.no_split = module.no_split;
      added.expert = module.expert;
      added.stage = 1;
    }
    for (const TensorId tensor : module.tensors) copy_tensor(from_.tensors[tensor], modules_[id]);
  }

  void copy_tensor(ModelTensor tensor, ModuleId module) {
    tensor.name = to_.names.add(tensor.name);
    tensor.module = module;
    if (tensor.source != kNone) tensor.source = sources_[tensor.source];
    add_tensor(to_, std::move(tensor));
  }

  const ModelTree& from_;
  ModelTree& to_;
  std::span<const std::uint32_t> sources_;  // by tensor of `from`'s checkpoint: that of `to`'s
  std::vector<ModuleId> modules_;           // by module of `from`
};

bool attends(const ModelTree& tree, ModuleId id) {
  const Module& module = tree.modules[id];
  return std::ranges::find(kKeys, last_part(module.name)) != kKeys.end() ||
         std::ranges::any_of(module.children, [&](ModuleId child) { return attends(tree, child); });
}

std::uint64_t experts_below(const ModelTree& tree, ModuleId id) {
  const Module& module = tree.modules[id];
  if (module.expert) return module.children.size();
  std::uint64_t most = 0;
  for (const ModuleId child : module.children) most = std::max(most, experts_below(tree, child));
  return most;
}

// A checkpoint of nothing but these tensors.
Checkpoint part_of(const Checkpoint& checkpoint, std::span<const std::uint32_t> tensors) {
  Checkpoint part;
  part.format = checkpoint.format;
  part.folder = checkpoint.folder;
  part.shards = checkpoint.shards;
  part.forms = checkpoint.forms;
  for (const std::uint32_t index : tensors) part.tensors.push_back(checkpoint.tensors[index]);
  return part;
}

}  // namespace

std::vector<std::uint32_t> prediction_tensors(const Checkpoint& checkpoint,
                                              const ModelConfig* config,
                                              const std::vector<std::string>& globs,
                                              std::span<const std::uint32_t> candidates,
                                              std::string_view layers, std::uint64_t count) {
  const std::uint64_t more = counted(config);
  std::vector<bool> found(candidates.size());
  // By layer beyond the last one: whether it is one of multi-token prediction.
  std::map<std::pair<std::string_view, std::uint64_t>, bool> beyond;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const std::string_view name = checkpoint.tensors[candidates[i]].name;
    found[i] = is_named(name, globs);
    const auto place = place_of(name);
    if (found[i] || !place || count == 0 || place->number < count) continue;
    if (!layers.empty() && place->list != layers) continue;
    const bool expected = !layers.empty() && place->number < count + more;
    bool& known = beyond[{place->list, place->number}];
    known = known || expected || joins(name);
  }
  std::vector<std::uint32_t> out;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const auto place = place_of(checkpoint.tensors[candidates[i]].name);
    const auto layer = place ? beyond.find({place->list, place->number}) : beyond.end();
    if (found[i] || (layer != beyond.end() && layer->second)) out.push_back(candidates[i]);
  }
  return out;
}

std::uint64_t stored_bytes(const Checkpoint& checkpoint, std::span<const std::uint32_t> tensors) {
  std::uint64_t bytes = 0;
  for (const std::uint32_t index : tensors) bytes += checkpoint.tensors[index].bytes();
  return bytes;
}

std::string prediction_note(std::uint64_t bytes, Prediction prediction) {
  constexpr double kGiga = 1e9;
  constexpr double kMega = 1e6;
  std::array<char, 32> size{};
  const auto whole = static_cast<double>(bytes);
  std::snprintf(size.data(), size.size(), whole >= kGiga ? "%.2f GB" : "%.2f MB",
                whole / (whole >= kGiga ? kGiga : kMega));
  const std::string what = std::string(size.data()) + " of multi-token-prediction weights are ";
  return what + (prediction == Prediction::kLoaded ? "loaded beside the model"
                                                   : "stored and not loaded (--mtp loads them)");
}

ModelTree build_from_names_alone(const Checkpoint& checkpoint, const ModelConfig* config,
                                 std::optional<DType> dtype) {
  const ModelConfig::Value* layers =
      config == nullptr ? nullptr : config->find("num_hidden_layers");
  const auto* count = layers == nullptr ? nullptr : std::get_if<std::int64_t>(layers);
  std::vector<std::uint32_t> all(checkpoint.tensors.size());
  std::iota(all.begin(), all.end(), 0);
  std::vector<std::uint32_t> predicted =
      prediction_tensors(checkpoint, config, {}, all, "",
                         count == nullptr || *count < 1 ? 0 : static_cast<std::uint64_t>(*count));
  if (predicted.empty() || predicted.size() == all.size()) {
    return build_from_names(checkpoint, config, dtype);
  }
  std::erase_if(all, [&](std::uint32_t i) { return std::ranges::binary_search(predicted, i); });
  ModelTree tree = build_from_names(part_of(checkpoint, all), config, dtype);
  for (ModelTensor& tensor : tree.tensors) {
    if (tensor.source != kNone) tensor.source = all[tensor.source];
  }
  tree.ignored_bytes += stored_bytes(checkpoint, predicted);
  tree.predicted = std::move(predicted);
  return tree;
}

void add_prediction(ModelTree& tree, const Checkpoint& checkpoint, const ModelConfig* config,
                    std::span<const std::uint32_t> tensors, std::optional<DType> dtype) {
  const ModelTree spelled = build_from_names(part_of(checkpoint, tensors), config, dtype);
  tree.predicts = true;
  Graft graft(spelled, tree, tensors);
  graft.copy();

  LayerFacts last;  // of the decoder's layers with keys and values
  std::uint64_t per_token = 0;
  for (const LayerFacts& layer : tree.facts.layers) {
    if (layer.kv_elements > 0 && !layer.shares_cache) last = layer;
    per_token = std::max(per_token, layer.experts_per_token);
  }
  for (ModuleId id = 1; id < spelled.modules.size(); ++id) {
    if (!spelled.modules[id].no_split) continue;
    LayerFacts layer;
    layer.module = graft.at(id);
    layer.prediction = true;
    if (attends(spelled, id)) {
      layer.kv_elements = last.kv_elements;
      layer.window = last.window;
    }
    layer.experts = experts_below(spelled, id);
    layer.experts_per_token = layer.experts == 0 ? 0 : std::min(per_token, layer.experts);
    tree.facts.layers.push_back(layer);
  }
}

}  // namespace berth
