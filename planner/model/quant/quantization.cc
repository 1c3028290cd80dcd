#include "planner/model/quant/quantization.h"

#include <algorithm>
#include <functional>
#include <map>
#include <utility>

#include "berth/error.h"
#include "planner/base/join.h"
#include "planner/base/quote.h"
#include "planner/model/tree/dequantization.h"
#include "planner/model/tree/tree_builder.h"

namespace berth {
namespace {

bool in_block(const ModelTree& tree, ModuleId id) {
  for (; id != kNone; id = tree.modules[id].parent) {
    if (tree.modules[id].no_split) return true;
  }
  return false;
}

std::uint64_t inputs_of(const ModelTensor& weight, bool transposed) {
  return weight.shape[transposed ? 0 : 1];
}

// AutoGPTQ and AutoAWQ pack only whole words. They leave out layers that do not fill them, such as
// the one-row gates of shared experts.
bool fills_words(const QuantScheme& scheme, const ModelTensor& weight, bool transposed) {
  const std::uint64_t out = weight.shape[transposed ? 1 : 0];
  if (scheme.format == QuantFormat::kAwq) return out % 8 == 0;
  if (scheme.format != QuantFormat::kGptq) return true;
  return out % 32 == 0 && inputs_of(weight, transposed) % 32 == 0;
}

// AutoAWQ also leaves out layers whose inputs are not whole groups. AutoGPTQ's last group may be
// short.
bool fills_groups(const QuantScheme& scheme, const ModelTensor& weight, bool transposed) {
  return scheme.format != QuantFormat::kAwq || scheme.group == 0 ||
         inputs_of(weight, transposed) % scheme.group == 0;
}

// The scheme that the config has for a weight, whether it fits the weight or not.
const QuantScheme* scheme_meant(const Quantization& quantization, const ModelTree& tree,
                                const ModelTensor& tensor) {
  if (tensor.buffer || !tensor.persistent || tensor.tied_to != kNone) return nullptr;
  const Module& module = tree.modules[tensor.module];
  const bool experts = tensor.shape.size() == 3 && module.expert;
  const bool matrix = tensor.shape.size() == 2 && leaf_of(tensor.name) == "weight";
  const bool linear =
      matrix && (module.cls.ends_with("Linear") || (quantization.conv1d && is_transposed(module)));
  const bool embedding = matrix && module.cls == "Embedding";
  if (!experts && !linear && !embedding) return nullptr;
  if (quantization.skips_head && tensor.module == tree.facts.head) return nullptr;
  if (quantization.blocks_only && !in_block(tree, tensor.module)) return nullptr;
  if (quantization.skipped.match(module.name)) return nullptr;
  for (const QuantRule& rule : quantization.rules) {
    if (experts != (rule.scheme.format == QuantFormat::kMxfp4)) continue;
    const bool fits = experts || (linear && rule.linears) || (embedding && rule.embeddings) ||
                      (linear && rule.targets.match(module.name));
    if (fits) return rule.plain ? nullptr : &rule.scheme;
  }
  return nullptr;
}

// Remembers the weights that stay plain because they do not fill what the config's scheme packs.
class LeftPlain {
 public:
  LeftPlain(const ModelTree& tree, const Quantization& quantization, const ModelConfig& config)
      : tree_(tree), quantization_(quantization), config_(config) {}

  void look_at(const ModelTensor& tensor) {
    const QuantScheme* scheme = scheme_meant(quantization_, tree_, tensor);
    if (scheme == nullptr) return;
    const bool transposed = is_transposed(tree_.modules[tensor.module]);
    if (!fills_words(*scheme, tensor, transposed)) {
      if (words_.empty()) {
        words_ = quote(tensor.name) + " " + shape_text(tensor.shape) +
                 " does not fill the words of " + scheme_label(*scheme);
      }
    } else if (!fills_groups(*scheme, tensor, transposed)) {
      if (ungrouped_++ > 0) return;
      groups_ = ": " + std::to_string(scheme->group) + " does not divide the " +
                std::to_string(inputs_of(tensor, transposed)) + " inputs of " + quote(tensor.name);
    }
  }

  // Throws Error if nothing was left to quantise.
  void require_some(bool quantised) const {
    if (quantised || (groups_.empty() && words_.empty())) return;
    throw Error((groups_.empty() ? config_.position_of("quantization_config") + ": " + words_
                                 : config_.position_of(group_key()) + groups_) +
                ", and no weight could be quantised");
  }

  // "" if all groups are whole. A gate of one row is not worth a line, because every tool leaves it
  // out.
  std::string note() const {
    if (ungrouped_ == 0) return "";
    return group_key() + groups_ + ": " + std::to_string(ungrouped_) +
           (ungrouped_ == 1 ? " such weight is" : " such weights are") + " planned as plain floats";
  }

 private:
  std::string group_key() const {
    const bool older = config_.has("quantization_config.q_group_size");
    return std::string("quantization_config.") + (older ? "q_group_size" : "group_size");
  }

  const ModelTree& tree_;
  const Quantization& quantization_;
  const ModelConfig& config_;
  std::string words_;   // what is wrong with the first weight that does not fill words
  std::string groups_;  // the same for groups
  std::uint64_t ungrouped_ = 0;
};

// Throws Error if sizes cannot be told from the config.
void require_sizes(const Quantization& quantization, const ModelConfig& config) {
  const std::string at = config.source() + ": quantization_config";
  const std::string advice = "; name the checkpoint itself to plan what it stores";
  if (!quantization.known) {
    throw Error(at + ": " +
                (quantization.method.empty()
                     ? "it names no quant_method, so the sizes are not known"
                     : "quant_method " + quote(quantization.method) +
                           " with these settings is not one that Berth knows the sizes of") +
                advice);
  }
  if (!quantization.missing.empty()) {
    throw Error(config.position_of("quantization_config." + quantization.missing) + ": is missing" +
                advice);
  }
}

// The tensors that a config promises for one weight.
std::vector<ModelTensor> promised(ModelTree& tree, const ModelTensor& weight,
                                  const std::vector<QuantPart>& parts) {
  std::vector<ModelTensor> out;
  for (const QuantPart& part : parts) {
    if (part.presence == Presence::kPossible) continue;
    ModelTensor& tensor = out.emplace_back();
    tensor.name = tree.names.join(tree.modules[weight.module].name, part.name);
    tensor.stored = tensor.dtype = part.dtype;
    tensor.shape = part.shape;
    tensor.module = weight.module;
    tensor.values = part.values;
  }
  return out;
}

// Makes the weight one of made_dtype(), which is made from what a config promises to be
// stored.
void dequantize_promised(ModelTree& tree, ModelTensor& weight, const QuantScheme& scheme,
                         const std::vector<QuantPart>& parts, const Quantization& quantization) {
  const std::string problem =
      dequantization_problem(scheme, weight.shape, is_transposed(tree.modules[weight.module]));
  if (!problem.empty()) throw Error("tensor " + quote(weight.name) + ": " + problem);
  if (!quantization.undecodable.empty()) throw Error(quantization.undecodable);
  Dequantization made;
  made.scheme = add_scheme(tree, scheme);
  made.parts.fill(kNone);
  const std::string leaf(leaf_of(weight.name));
  for (const QuantPart& part : parts) {
    const auto role = quant_role(scheme, leaf, part.name);
    if (part.presence == Presence::kPossible || (part.values == 0 && !role)) continue;
    const std::uint64_t bytes = tensor_bytes(part.dtype, part.shape).value_or(0);
    made.stored_bytes += bytes;
    if (!role) continue;
    std::uint64_t elements = 1;
    for (const std::uint64_t size : part.shape) elements *= size;
    made.table_bytes += table_bytes(*role, bytes, elements);
  }
  weight.stored = parts[0].dtype;
  weight.dtype = made_dtype(quantization, scheme, weight, made);
  weight.dequantization = static_cast<std::uint32_t>(quantized_weights(tree).weights.size());
  quantized_weights(tree).weights.push_back(made);
}

// Rebuilds the tensors of a tree around replacements.
class Rebuild {
 public:
  Rebuild(ModelTree& tree, std::vector<Replacement> replacements)
      : tree_(tree), replacements_(std::move(replacements)), first_(tree.tensors.size(), kNone) {
    replaced_by_.assign(tree.tensors.size(), kNone);
    for (std::uint32_t i = 0; i < replacements_.size(); ++i) {
      replaced_by_[replacements_[i].weight] = i;
    }
  }

  void run(std::vector<ModelTensor> additions) {
    std::size_t count = tree_.tensors.size() + additions.size();
    for (const Replacement& replacement : replacements_) count += replacement.parts.size();
    if (count > kMaxTensors) throw Error("more than " + std::to_string(kMaxTensors) + " tensors");
    tensors_.reserve(count);
    for (TensorId id = 0; id < tree_.tensors.size(); ++id) move(id);
    for (Module& module : tree_.modules) renumber(module);
    tie_again();
    tree_.tensors = std::move(tensors_);
    for (ModelTensor& tensor : additions) add_tensor(tree_, std::move(tensor));
  }

 private:
  // What replaces a tensor, or the tensor that it is tied to; kNone if nothing does.
  std::uint32_t replacement_of(TensorId id) const {
    const TensorId storage = tree_.tensors[id].tied_to == kNone ? id : tree_.tensors[id].tied_to;
    return replaced_by_[storage];
  }

  void move(TensorId id) {
    first_[id] = static_cast<TensorId>(tensors_.size());
    const std::uint32_t by = replacement_of(id);
    ModelTensor& old = tree_.tensors[id];
    if (by == kNone) {
      tensors_.push_back(std::move(old));
      return;
    }
    for (const ModelTensor& part : replacements_[by].parts) {
      ModelTensor& tensor = tensors_.emplace_back(part);
      if (replacements_[by].weight == id) continue;
      const std::size_t home = tree_.modules[replacements_[by].module()].name.size();
      tensor.name = tree_.names.join(tree_.modules[old.module].name, part.name.substr(home + 1));
      tensor.module = old.module;
      tensor.source = kNone;
    }
  }

  std::size_t count_of(TensorId id) const {
    const std::uint32_t by = replacement_of(id);
    return by == kNone ? 1 : replacements_[by].parts.size();
  }

  void renumber(Module& module) const {
    std::vector<TensorId> ids;
    ids.reserve(module.tensors.size());
    for (const TensorId id : module.tensors) {
      for (std::size_t i = 0; i < count_of(id); ++i) {
        ids.push_back(first_[id] + static_cast<TensorId>(i));
      }
    }
    module.tensors = std::move(ids);
  }

  void tie_again() {
    std::vector<std::vector<TensorId>> ties;
    for (const std::vector<TensorId>& group : tree_.ties) {
      for (std::size_t part = 0; part < count_of(group[0]); ++part) {
        std::vector<TensorId>& ids = ties.emplace_back();
        for (const TensorId id : group) ids.push_back(first_[id] + static_cast<TensorId>(part));
        for (std::size_t i = 1; i < ids.size(); ++i) tensors_[ids[i]].tied_to = ids[0];
      }
    }
    tree_.ties = std::move(ties);
  }

  ModelTree& tree_;
  std::vector<Replacement> replacements_;
  std::vector<std::uint32_t> replaced_by_;  // by old id: index into replacements_
  std::vector<TensorId> first_;             // by old id: the first of its new tensors
  std::vector<ModelTensor> tensors_;
};

}  // namespace

std::string_view leaf_of(std::string_view name) { return name.substr(name.rfind('.') + 1); }

const std::vector<QuantPart>& QuantPartsCache::find(const QuantScheme& scheme,
                                                    const std::string& leaf,
                                                    const TensorShape& shape, bool transposed) {
  const auto [known, added] =
      known_.try_emplace({&scheme, leaf, shape, transposed}, std::vector<QuantPart>());
  if (added) known->second = quant_parts(scheme, leaf, shape, transposed);
  return known->second;
}

std::string join_labels(const LabelShares& shares) {
  std::vector<std::pair<std::string, std::uint64_t>> order(shares.begin(), shares.end());
  std::ranges::stable_sort(order, std::greater(), [](const auto& entry) { return entry.second; });
  return join(order, " + ", [](const auto& entry) { return entry.first; });
}

bool is_transposed(const Module& module) { return module.cls == "Conv1D"; }

const QuantScheme* scheme_of(const Quantization& quantization, const ModelTree& tree,
                             const ModelTensor& tensor) {
  const QuantScheme* scheme = scheme_meant(quantization, tree, tensor);
  if (scheme == nullptr) return nullptr;
  const bool transposed = is_transposed(tree.modules[tensor.module]);
  const bool fits =
      fills_words(*scheme, tensor, transposed) && fills_groups(*scheme, tensor, transposed);
  return fits ? scheme : nullptr;
}

DType made_dtype(const Quantization& quantization, const QuantScheme& scheme,
                 const ModelTensor& weight, const Dequantization& made) {
  const bool shuffled = scheme.format == QuantFormat::kGptq && !quantization.in_order &&
                        made.part(QuantRole::kOrder) != kNone;
  std::optional<DType> grouped;
  if (quantization.grouped && !shuffled) {
    grouped = grouped_dtype(scheme, weight.stored, weight.shape);
  }
  return grouped.value_or(*quantization.plain_dtype);
}

void quantize_tree(ModelTree& tree, const Quantization& quantization, const ModelConfig& config,
                   std::optional<DType> dtype) {
  if (!quantization.present) return;
  require_sizes(quantization, config);
  LeftPlain plain(tree, quantization, config);
  QuantPartsCache cache;
  LabelShares shares;
  std::vector<Replacement> replacements;
  for (TensorId id = 0; id < tree.tensors.size(); ++id) {
    ModelTensor& tensor = tree.tensors[id];
    if (const QuantScheme* scheme = scheme_of(quantization, tree, tensor)) {
      const auto& parts = cache.find(*scheme, std::string(leaf_of(tensor.name)), tensor.shape,
                                     is_transposed(tree.modules[tensor.module]));
      shares[scheme_label(*scheme)] += tensor.elements();
      if (quantization.plain_dtype) {
        dequantize_promised(tree, tensor, *scheme, parts, quantization);
      } else {
        replacements.push_back({id, promised(tree, tensor, parts)});
      }
      continue;
    }
    plain.look_at(tensor);
    const auto fixed = quantization.dtypes.find(leaf_of(tensor.name));
    if (fixed == quantization.dtypes.end()) continue;
    tensor.stored = fixed->second;
    tensor.dtype = memory_dtype(tensor.stored, dtype);
  }
  plain.require_some(!shares.empty());
  if (std::string note = plain.note(); !note.empty()) tree.notes.push_back(std::move(note));
  tree.quantization = join_labels(shares);
  if (quantization.plain_dtype) follow_ties(tree);
  if (!replacements.empty()) replace_tensors(tree, std::move(replacements), {});
}

void replace_tensors(ModelTree& tree, std::vector<Replacement> replacements,
                     std::vector<ModelTensor> additions) {
  Rebuild(tree, std::move(replacements)).run(std::move(additions));
}

}  // namespace berth
