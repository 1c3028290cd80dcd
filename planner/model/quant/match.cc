#include "planner/model/quant/match.h"

#include <algorithm>
#include <array>
#include <utility>

#include "berth/error.h"
#include "planner/base/quote.h"
#include "planner/model/tree/dequantization.h"
#include "planner/model/tree/tree_builder.h"

namespace berth {
namespace {

bool is_cache_scale(std::string_view name) {
  constexpr std::array<std::string_view, 6> kNames = {"k_scale",  "v_scale",      "q_scale",
                                                      "kv_scale", "output_scale", "prob_scale"};
  return std::ranges::find(kNames, name) != kNames.end();
}

// AutoGPTQ once gave every layer a bias, full of zeros if the model has none. Readers ignore it.
bool is_idle_bias(const QuantScheme& scheme, std::string_view name) {
  return scheme.format == QuantFormat::kGptq && name == "bias";
}

}  // namespace

void QuantMatcher::add(TensorId weight, std::uint32_t index, std::string name) {
  entries_.push_back({weight, index, std::move(name)});
}

bool QuantMatcher::add_loose_scale(ModuleId module, std::uint32_t index, std::string_view name) {
  const TensorInfo& info = stored(index);
  // AWQ smooths some activations by scales that are stored with them.
  const bool smooths = tree_.modules[module].cls == "Activation" && name == "scales";
  const bool caches = is_cache_scale(name.substr(name.rfind('.') + 1));
  if (!caches && !(smooths && quantization_.present)) return false;
  if (info.shape.size() > 1) return false;
  if (smooths && quantization_.plain_dtype) {
    throw Error(position_of({kNone, index, ""}) +
                " divides activations: the model without quantisation has no such scales, so its "
                "weights cannot be dequantised");
  }
  additions_.push_back(tensor_of({kNone, index, std::string(name)}, module));
  return true;
}

std::vector<std::uint32_t> QuantMatcher::settle() {
  settled_.assign(tree_.tensors.size(), false);
  // The tensors of one weight need not stand together, because shards may be cut anywhere.
  std::ranges::stable_sort(entries_, {}, &Entry::weight);
  std::vector<std::uint32_t> unknown;
  for (auto first = entries_.begin(); first != entries_.end();) {
    const auto last = std::find_if(
        first, entries_.end(), [&](const Entry& entry) { return entry.weight != first->weight; });
    Group group = group_of(first, last);
    settled_[group.weight] = settle(group);
    if (!settled_[group.weight]) {
      std::transform(first, last, std::back_inserter(unknown),
                     [](const Entry& e) { return e.index; });
    }
    first = last;
  }
  require_scales();
  return unknown;
}

void QuantMatcher::finish() {
  if (!shares_.empty()) tree_.quantization = join_labels(shares_);
  if (quantization_.plain_dtype) {  // the plain tree has no use for scales of no weight
    for (const ModelTensor& tensor : additions_) {
      tree_.ignored_bytes += stored(tensor.source).bytes();
    }
    return;
  }
  if (replacements_.empty() && additions_.empty()) return;
  replace_tensors(tree_, std::move(replacements_), std::move(additions_));
}

std::string QuantMatcher::describe_missing(TensorId id) const {
  const ModelTensor& tensor = tree_.tensors[id];
  const Module& module = tree_.modules[tensor.module];
  const QuantScheme* scheme = scheme_of(quantization_, tree_, tensor);
  if (scheme == nullptr) return quote(tensor.name) + " " + shape_text(tensor.shape);
  const QuantPart first = quant_parts(*scheme, std::string(leaf_of(tensor.name)), tensor.shape,
                                      is_transposed(module))[0];
  return quote(join_names(module.name, first.name)) + " " + shape_text(first.shape);
}

std::string QuantMatcher::position_of(const Entry& entry) const {
  return checkpoint_.shards[stored(entry.index).shard].path.string() + ": tensor " +
         quote(stored(entry.index).name);
}

QuantMatcher::Group QuantMatcher::group_of(std::vector<Entry>::iterator first,
                                           std::vector<Entry>::iterator last) const {
  Group group{first->weight, {}, {}};
  const ModelTensor& weight = tree_.tensors[group.weight];
  group.entries.assign(first, last);
  if (weight.source != kNone) {
    group.entries.push_back({group.weight, weight.source, std::string(leaf_of(weight.name))});
  }
  for (const Entry& entry : group.entries) {
    const auto twin = std::ranges::find(group.parts, entry.name, &StoredPart::name);
    if (twin != group.parts.end()) {
      const Entry& other = group.entries[static_cast<std::size_t>(twin - group.parts.begin())];
      throw Error(position_of(entry) + " and tensor " + quote(stored(other.index).name) +
                  " are both " + quote(entry.name) + " of " + quote(weight.name));
    }
    group.parts.push_back({entry.name, stored(entry.index).dtype, stored(entry.index).shape});
  }
  return group;
}

// A plain weight of a layer whose keys or values the KV cache scales. Returns false for others.
bool QuantMatcher::settle_plain(const Group& group) {
  const ModelTensor& weight = tree_.tensors[group.weight];
  if (weight.source == kNone || !is_convertible(weight.stored)) return false;
  const auto scales = [&](const Entry& entry) {
    return entry.index == weight.source || is_cache_scale(entry.name);
  };
  if (!std::ranges::all_of(group.entries, scales)) return false;
  for (const Entry& entry : group.entries) {
    if (entry.index != weight.source) additions_.push_back(tensor_of(entry, weight.module));
  }
  return true;
}

// Finds the scheme of a weight's stored tensors. Returns false if they have no known form.
bool QuantMatcher::settle(Group& group) {
  if (settle_plain(group)) return true;
  const ModelTensor& weight = tree_.tensors[group.weight];
  const bool transposed = is_transposed(tree_.modules[weight.module]);
  std::string problem;
  for (const QuantScheme* scheme : schemes_for(group.weight)) {
    const std::vector<QuantPart>* parts = parts_of(*scheme, group.weight);
    if (parts == nullptr) continue;
    std::string wrong = bind(group, *scheme, *parts);
    if (wrong.empty()) {
      accept(group, *scheme, *parts);
      return true;
    }
    if (problem.empty()) problem = std::move(wrong);
  }
  const std::string leaf(leaf_of(weight.name));
  if (auto scheme = deduce_scheme(group.parts, leaf, weight.shape, transposed)) {
    // Names and shapes do not tell which kind of zero points these are, so the config's kind is
    // taken.
    scheme->zeros = quantization_.zeros;
    scheme->symmetric = quantization_.symmetric;
    if (!problem.empty() && config_decides(*scheme)) {
      throw Error(problem + " (quantization_config in " + config_.source() + ")");
    }
    const auto parts = quant_parts(*scheme, leaf, weight.shape, transposed);
    const std::string wrong = bind(group, *scheme, parts);
    if (wrong.empty()) {
      accept(group, *scheme, parts);
      return true;
    }
    if (quantization_.known || !quantization_.present) throw Error(wrong);
  }
  // Some parts of a weight are there, but not its values. This message says more than "unknown".
  if (!problem.empty() && weight.source == kNone && group.entries.size() > 1) throw Error(problem);
  // The config names a method that is not known here. A tensor under a weight's name is then taken
  // to be that weight.
  if (!quantization_.present || quantization_.known) return false;
  const bool plain = std::ranges::any_of(group.parts, [&](const StoredPart& part) {
    return part.name == leaf && is_convertible(part.dtype);
  });
  if (plain) return false;
  accept_unknown(group);
  return true;
}

// The schemes of the config, first the one that it has for this weight: shapes alone do not tell
// apart schemes that differ in what zero points mean.
std::vector<const QuantScheme*> QuantMatcher::schemes_for(TensorId weight) const {
  std::vector<const QuantScheme*> schemes;
  const QuantScheme* meant = scheme_of(quantization_, tree_, tree_.tensors[weight]);
  if (meant != nullptr) schemes.push_back(meant);
  for (const QuantRule& rule : quantization_.rules) {
    if (!rule.plain && &rule.scheme != meant) schemes.push_back(&rule.scheme);
  }
  return schemes;
}

// Null if the scheme is for weights with another number of dimensions.
const std::vector<QuantPart>* QuantMatcher::parts_of(const QuantScheme& scheme, TensorId id) {
  const ModelTensor& weight = tree_.tensors[id];
  const bool experts = scheme.format == QuantFormat::kMxfp4;
  if (weight.shape.size() != (experts ? 3u : 2u)) return nullptr;
  return &cache_.find(scheme, std::string(leaf_of(weight.name)), weight.shape,
                      is_transposed(tree_.modules[weight.module]));
}

// True if the config's sizes count where they differ from the stored ones: for a format whose group
// size only the config gives.
bool QuantMatcher::config_decides(const QuantScheme& stored) const {
  const auto grouped = [](const QuantScheme& scheme) {
    return scheme.format != QuantFormat::kScaled || scheme.grain >= ScaleGrain::kGroup;
  };
  const bool sized = stored.format == QuantFormat::kGptq || stored.format == QuantFormat::kAwq ||
                     stored.format == QuantFormat::kAwqGemv ||
                     stored.format == QuantFormat::kPacked || stored.format == QuantFormat::kScaled;
  return sized && grouped(stored) &&
         std::ranges::any_of(quantization_.rules, [&](const auto& rule) {
           return rule.scheme.format == stored.format && grouped(rule.scheme);
         });
}

// What is wrong with the group as a weight of `scheme`; "" if nothing is.
std::string QuantMatcher::bind(const Group& group, const QuantScheme& scheme,
                               const std::vector<QuantPart>& parts) const {
  const ModelTensor& weight = tree_.tensors[group.weight];
  const std::string what = "the " + scheme_label(scheme) + " weight " + quote(weight.name) + " " +
                           shape_text(weight.shape);
  for (const QuantPart& part : parts) {
    const auto found = std::ranges::find(group.parts, part.name, &StoredPart::name);
    if (found == group.parts.end()) {
      if (part.presence != Presence::kNeeded) continue;
      return checkpoint_.folder.string() + ": the checkpoint lacks tensor " +
             quote(join_names(tree_.modules[weight.module].name, part.name)) + " " +
             shape_text(part.shape) + ", a part of " + what;
    }
    const Entry& entry = group.entries[static_cast<std::size_t>(found - group.parts.begin())];
    if (!shape_fits(part, found->shape)) {
      return position_of(entry) + " has shape " + shape_text(found->shape) + ", " + what +
             " asks for " + shape_text(part.shape);
    }
    if (!dtype_fits(part, found->dtype)) {
      return position_of(entry) + " is " + std::string(dtype_name(found->dtype)) + ", " + what +
             " asks for " + std::string(dtype_name(part.dtype));
    }
  }
  for (const Entry& entry : group.entries) {
    const bool known = std::ranges::find(parts, entry.name, &QuantPart::name) != parts.end();
    if (!known && !is_cache_scale(entry.name) && !is_idle_bias(scheme, entry.name)) {
      return position_of(entry) + " is not a part of " + what;
    }
  }
  return "";
}

ModelTensor QuantMatcher::tensor_of(const Entry& entry, ModuleId module) const {
  const TensorInfo& info = stored(entry.index);
  ModelTensor tensor;
  tensor.name = tree_.names.join(tree_.modules[module].name, entry.name);
  tensor.stored = tensor.dtype = info.dtype;
  tensor.shape = info.shape;
  tensor.module = module;
  tensor.source = entry.index;
  tensor.rearranged = info.form != 0;
  tensor.values = 0;
  return tensor;
}

void QuantMatcher::accept(const Group& group, const QuantScheme& scheme,
                          const std::vector<QuantPart>& parts) {
  if (quantization_.plain_dtype) {
    return accept_plain(group, scheme, parts);
  }
  const ModuleId module = tree_.tensors[group.weight].module;
  Replacement replacement{group.weight, {}};
  for (const QuantPart& part : parts) {
    const auto entry = std::ranges::find(group.entries, part.name, &Entry::name);
    if (entry == group.entries.end()) continue;
    replacement.parts.push_back(tensor_of(*entry, module));
    replacement.parts.back().values = part.values;
  }
  for (const Entry& entry : group.entries) {
    if (std::ranges::find(parts, entry.name, &QuantPart::name) != parts.end()) continue;
    if (is_cache_scale(entry.name)) {
      replacement.parts.push_back(tensor_of(entry, module));
    } else if (is_idle_bias(scheme, entry.name)) {
      tree_.ignored_bytes += stored(entry.index).bytes();
    }
  }
  shares_[scheme_label(scheme)] += tree_.tensors[group.weight].elements();
  tree_.tensors[group.weight].source = replacement.parts[0].source;
  untie(group.weight);
  replacements_.push_back(std::move(replacement));
}

// The weight stays in the tree as the unquantised model has it, and remembers what it is made of.
void QuantMatcher::accept_plain(const Group& group, const QuantScheme& scheme,
                                const std::vector<QuantPart>& parts) {
  ModelTensor& weight = tree_.tensors[group.weight];
  const bool transposed = is_transposed(tree_.modules[weight.module]);
  const std::string problem = dequantization_problem(scheme, weight.shape, transposed);
  if (!problem.empty()) throw Error(position_of(group.entries[0]) + ": " + problem);
  if (!quantization_.undecodable.empty()) throw Error(quantization_.undecodable);
  const std::string leaf(leaf_of(weight.name));
  Dequantization made;
  made.scheme = add_scheme(tree_, scheme);
  made.parts.fill(kNone);
  for (const Entry& entry : group.entries) {
    const TensorInfo& info = stored(entry.index);
    require_in_order(checkpoint_, entry.index);
    if (entry.name == parts[0].name) {
      weight.source = entry.index;
      weight.stored = info.dtype;
      made.stored_bytes += info.bytes();
    } else if (const auto role = quant_role(scheme, leaf, entry.name)) {
      made.parts[static_cast<std::size_t>(*role)] = entry.index;
      made.stored_bytes += info.bytes();
      std::uint64_t elements = 1;
      for (const std::uint64_t size : info.shape) elements *= size;
      made.table_bytes += table_bytes(*role, info.bytes(), elements);
    } else {
      tree_.ignored_bytes += info.bytes();
    }
  }
  weight.dtype = made_dtype(quantization_, scheme, weight, made);
  weight.dequantization = static_cast<std::uint32_t>(quantized_weights(tree_).weights.size());
  quantized_weights(tree_).weights.push_back(made);
  shares_[scheme_label(scheme)] += weight.elements();
  untie(group.weight);
}

void QuantMatcher::accept_unknown(const Group& group) {
  ModelTensor& weight = tree_.tensors[group.weight];
  if (quantization_.plain_dtype) {
    throw Error(position_of(group.entries[0]) + ": weights of the method " +
                quote(quantization_.method) + " cannot be dequantised");
  }
  Replacement replacement{group.weight, {}};
  for (const Entry& entry : group.entries) {
    replacement.parts.push_back(tensor_of(entry, weight.module));
  }
  // The parameters are counted in the largest part.
  const auto largest = std::ranges::max_element(replacement.parts, {}, &ModelTensor::bytes);
  largest->values = weight.elements();
  shares_[quantization_.method.empty() ? "quantised" : quantization_.method] += weight.elements();
  weight.source = group.entries[0].index;
  untie(group.weight);
  replacements_.push_back(std::move(replacement));
}

// A head that is stored quantised is not a copy of the embedding.
void QuantMatcher::untie(TensorId id) {
  if (std::exchange(tree_.tensors[id].tied_to, kNone) == kNone) return;
  for (std::vector<TensorId>& group : tree_.ties) std::erase(group, id);
  std::erase_if(tree_.ties, [](const auto& group) { return group.size() < 2; });
}

// Values of 8 bits mean nothing without scales, so scales must be there if the config says so.
void QuantMatcher::require_scales() const {
  if (!quantization_.known) return;
  for (TensorId id = 0; id < tree_.tensors.size(); ++id) {
    const ModelTensor& tensor = tree_.tensors[id];
    if (tensor.source == kNone || settled_[id] || dtype_bits(tensor.stored) != 8) continue;
    const QuantScheme* scheme = scheme_of(quantization_, tree_, tensor);
    if (scheme == nullptr) continue;
    const Entry own{id, tensor.source, std::string(leaf_of(tensor.name))};
    const StoredPart part{own.name, tensor.stored, tensor.shape};
    const std::string wrong = bind(
        {id, {own}, {part}}, *scheme,
        quant_parts(*scheme, own.name, tensor.shape, is_transposed(tree_.modules[tensor.module])));
    if (!wrong.empty()) throw Error(wrong);
  }
}

}  // namespace berth
