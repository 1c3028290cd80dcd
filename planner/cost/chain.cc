#include "planner/cost/chain.h"

#include <algorithm>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/connected_components.hpp>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>

#include "berth/error.h"
#include "planner/base/error_kinds.h"
#include "planner/base/quote.h"
#include "planner/base/saturating.h"
#include "planner/model/tree/depth_first.h"
#include "planner/plan/device_map.h"
#include "planner/plan/kv_cache.h"

namespace berth {
namespace {

// The dtype that holds most bytes of the parameters, so that small float32 norms do not count.
// `known`: the bytes of each tensor, or empty if they are not worked out yet.
DType main_weights(const ModelTree& tree, const std::vector<std::uint64_t>& known) {
  std::uint64_t bytes[256] = {};
  for (TensorId t = 0; t < tree.tensors.size(); ++t) {
    const ModelTensor& tensor = tree.tensors[t];
    if (tensor.buffer) continue;
    bytes[static_cast<unsigned>(tensor.dtype)] += known.empty() ? tensor.bytes() : known[t];
  }
  const auto* most = std::max_element(std::begin(bytes), std::end(bytes));
  return static_cast<DType>(most - std::begin(bytes));
}

// The dtype that a model computes in: that of its weights if it is a float, else bfloat16.
DType compute_dtype(DType weights) { return is_convertible(weights) ? weights : DType::kBF16; }

double elements_of(const ModelTensor& tensor) { return static_cast<double>(tensor.elements()); }

// Works out once what every later step asks about every tensor: its bytes, and whether it belongs
// to a routed expert.
void measure(const ModelTree& tree, Chain& chain) {
  std::vector<bool> below_expert(tree.modules.size(), false);
  for (ModuleId m = 0; m < tree.modules.size(); ++m) {  // parents come first
    const Module& module = tree.modules[m];
    below_expert[m] = module.expert || (module.parent != kNone && below_expert[module.parent]);
  }
  chain.bytes.reserve(tree.tensors.size());
  chain.expert.reserve(tree.tensors.size());
  for (const ModelTensor& tensor : tree.tensors) {
    chain.bytes.push_back(tensor.bytes());
    chain.expert.push_back(below_expert[tensor.module] ? 1 : 0);
  }
}

// The tensor whose storage `t` uses: the first of its tie group, or `t` itself.
TensorId storage_of(const ModelTree& tree, TensorId t) {
  const TensorId first = tree.tensors[t].tied_to;
  return first == kNone ? t : first;
}

// Fills Chain::joined and Chain::tied. Units are vertices of a graph; an edge joins units that
// share storage or that --no-split keeps together. A connected component with an edge of --no-split
// must share a device as a whole; any other one is a group of tied units.
void join_units(const ModelTree& tree, const std::vector<std::vector<std::uint32_t>>& kept,
                Chain& chain) {
  boost::adjacency_list<boost::vecS, boost::vecS, boost::undirectedS> graph(chain.units.size());
  for (TensorId t = 0; t < tree.tensors.size(); ++t) {
    if (tree.tensors[t].tied_to == kNone) continue;
    boost::add_edge(chain.unit_of[t], chain.unit_of[storage_of(tree, t)], graph);
  }
  std::vector<bool> must(chain.units.size(), false);
  for (const auto& group : kept) {
    for (std::size_t i = 1; i < group.size(); ++i) boost::add_edge(group[0], group[i], graph);
    if (group.size() > 1) must[group[0]] = true;
  }
  if (boost::num_edges(graph) == 0) return;
  std::vector<std::uint32_t> component(chain.units.size());
  const std::uint32_t count = boost::connected_components(graph, component.data());
  std::vector<std::vector<std::uint32_t>> groups(count);
  for (std::uint32_t u = 0; u < component.size(); ++u) groups[component[u]].push_back(u);
  for (auto& group : groups) {
    if (group.size() < 2) continue;
    const bool together = std::any_of(group.begin(), group.end(), [&](auto u) { return must[u]; });
    (together ? chain.joined : chain.tied).push_back(std::move(group));
  }
}

// Counts a matrix among the bytes of its format.
void count_format(const ModelTensor& tensor, std::uint64_t bytes, bool expert, Chain& chain,
                  Unit& unit) {
  const WeightFormat own{weight_format_name(timed_as(tensor.dtype)),
                         tensor.shape.back() > KernelRates::kNarrow};
  const auto known = std::ranges::find(chain.formats, own);
  const auto format = static_cast<std::uint32_t>(known - chain.formats.begin());
  if (known == chain.formats.end()) chain.formats.push_back(own);
  auto entry = std::ranges::find(unit.formats, format, &FormatBytes::format);
  if (entry == unit.formats.end()) entry = unit.formats.insert(entry, {format, 0, 0});
  (expert ? entry->experts : entry->dense) += bytes;
}

// Fills the byte and parameter counts of every unit, and its anchor. `counted`: by TensorId,
// whether a unit has counted that storage already; tied storage is in the first unit's `weights`
// and in the others' `tied`.
void weigh(const ModelTree& tree, const ModelFacts& facts, Chain& chain,
           std::vector<bool>& counted) {
  for (Unit& unit : chain.units) {
    const bool embedding = unit.module == facts.embedding;
    for (TensorId t : unit.tensors) {
      const ModelTensor& tensor = tree.tensors[t];
      const std::uint64_t bytes = chain.bytes[t];
      const bool expert = chain.expert[t] != 0;
      if (unit.anchor == kNone && !expert) unit.anchor = t;
      if (!tensor.persistent) {
        unit.computed += bytes;
        continue;
      }
      if (const TensorId storage = storage_of(tree, t); counted[storage]) {
        unit.tied += bytes;
      } else {
        counted[storage] = true;
        unit.weights += bytes;
        if (expert) unit.experts += bytes;
      }
      if (tensor.buffer) continue;
      if (embedding) {
        if (!tensor.shape.empty() && tensor.shape[0] > 0) {
          unit.row_bytes += bytes / tensor.shape[0];
        }
        continue;
      }
      if (tensor.shape.size() > 1) count_format(tensor, bytes, expert, chain, unit);
      if (expert) {
        unit.expert_bytes += bytes;
        unit.expert_elements += elements_of(tensor);
      } else {
        unit.dense_bytes += bytes;
        unit.elements += elements_of(tensor);
      }
    }
    if (unit.experts == unit.weights) unit.experts = 0;  // there is no rest to stand apart from
    if (unit.anchor == kNone && !unit.tensors.empty()) unit.anchor = unit.tensors[0];
  }
}

// True if one group of modules (by `group_of`) holds both experts and other tensors of the unit.
bool group_spans_pieces(const ModelTree& tree, const Chain& chain, const Unit& unit,
                        const std::vector<std::uint32_t>& group_of) {
  std::map<std::uint32_t, std::pair<bool, bool>> held;  // experts, others
  for (TensorId t : unit.tensors) {
    const std::uint32_t group = group_of[tree.tensors[t].module];
    if (group == kNone) continue;
    auto& [experts, others] = held[group];
    (chain.expert[t] != 0 ? experts : others) = true;
  }
  return std::any_of(held.begin(), held.end(),
                     [](const auto& entry) { return entry.second.first && entry.second.second; });
}

// The units below each module that a glob matches, by name or by class, one group a module. Such
// units also become one piece. Throws Error for a glob that matches nothing.
std::vector<std::vector<std::uint32_t>> keep_together(const ModelTree& tree,
                                                      const std::vector<std::string>& globs,
                                                      Chain& chain) {
  std::vector<std::vector<std::uint32_t>> groups;
  if (globs.empty()) return groups;
  std::vector<std::uint32_t> group_of(tree.modules.size(), kNone);
  std::vector<bool> used(globs.size(), false);
  for (ModuleId m = 1; m < tree.modules.size(); ++m) {  // parents come first
    const Module& module = tree.modules[m];
    group_of[m] = group_of[module.parent];
    for (std::size_t i = 0; i < globs.size(); ++i) {
      if (!glob_matches(globs[i], module.name) && !glob_matches(globs[i], module.cls)) continue;
      used[i] = true;
      if (group_of[m] != kNone) continue;
      group_of[m] = static_cast<std::uint32_t>(groups.size());
      groups.emplace_back();
    }
  }
  for (std::size_t i = 0; i < globs.size(); ++i) {
    if (!used[i]) {
      throw NoSuchName("no_split: " + quote(globs[i]) + " matches no module and no class of " +
                       tree.name);
    }
  }
  for (std::uint32_t u = 0; u < chain.units.size(); ++u) {
    Unit& unit = chain.units[u];
    if (group_of[unit.module] != kNone) groups[group_of[unit.module]].push_back(u);
    // So does a unit within which such a module holds both experts and other tensors.
    if (group_of[unit.module] != kNone || group_spans_pieces(tree, chain, unit, group_of))
      unit.experts = 0;
  }
  return groups;
}

}  // namespace

Workload fill_workload(const ModelTree& tree, const Workload& asked) {
  Workload workload = asked;
  const std::uint64_t most = tree.facts.max_positions;
  if (workload.context == 0)
    workload.context = most == 0 ? 4096 : std::min<std::uint64_t>(4096, most);
  workload.batch = std::max<std::uint64_t>(workload.batch, 1);
  workload.prompt_tokens = std::clamp<std::uint64_t>(workload.prompt_tokens, 1, workload.context);
  workload.kv_dtype_asked = workload.kv_dtype.has_value();
  if (!workload.kv_dtype) {
    const DType dtype = compute_dtype(main_weights(tree, {}));
    workload.kv_dtype = dtype_bits(dtype) <= 16 ? dtype : DType::kF16;
  }
  require_whole_blocks(tree, *workload.kv_dtype);
  return workload;
}

std::uint64_t activation_workspace(const ModelFacts& facts, const Workload& workload,
                                   std::uint64_t activation_bytes) {
  const std::uint64_t tokens = times(workload.batch, workload.prompt_tokens);
  const std::uint64_t wide = plus(times(4, facts.hidden), times(3, facts.intermediate));
  const std::uint64_t tile = std::min<std::uint64_t>(workload.prompt_tokens, 512);
  const std::uint64_t scores = times(times(tokens, tile), times(facts.heads, 4));
  return plus(times(times(tokens, wide), activation_bytes), scores);
}

std::uint64_t logits_workspace(const ModelFacts& facts, const Workload& workload,
                               std::uint64_t activation_bytes) {
  return times(times(workload.batch, facts.vocabulary), activation_bytes + 4);
}

bool is_expert_tensor(const ModelTree& tree, TensorId tensor) {
  for (ModuleId m = tree.tensors[tensor].module; m != kNone; m = tree.modules[m].parent) {
    if (tree.modules[m].expert) return true;
  }
  return false;
}

bool cost_alike(const Unit& a, const Unit& b) {
  const auto figures = [](const Unit& u) {
    return std::tie(u.formats, u.products, u.expert_products, u.weights, u.tied, u.experts,
                    u.computed, u.kv_bytes, u.kv_position, u.kv_window, u.kv_constant, u.activation,
                    u.logits, u.dense_bytes, u.expert_bytes, u.row_bytes, u.elements,
                    u.expert_elements, u.routed_prompt, u.routed_token, u.experts_fraction,
                    u.expert_count, u.attention_width, u.block, u.head, u.prompt_only);
  };
  return a.tensors.empty() == b.tensors.empty() && figures(a) == figures(b);
}

std::uint64_t buffer_bytes(const Unit& unit, std::uint64_t dense, std::uint64_t experts) {
  return std::max(dense, (experts + unit.expert_count - 1) / unit.expert_count);
}

Chain make_chain(const ModelTree& tree, const Workload& workload,
                 const std::vector<std::string>& no_split) {
  const ModelFacts& facts = tree.facts;
  Chain chain;
  chain.known = !facts.layers.empty() && facts.hidden > 0;
  chain.hidden = chain.known ? static_cast<double>(facts.hidden) : 0;
  chain.unit_of.assign(tree.tensors.size(), kNone);
  measure(tree, chain);
  const DType weights = main_weights(tree, chain.bytes);
  chain.activation_bytes = dtype_bits(compute_dtype(weights)) / 8;
  chain.weight_dtype = torch_dtype_name(weights);

  const DepthFirst walk(tree);
  std::vector<std::uint32_t> unit_of_module(tree.modules.size(), kNone);
  for (ModuleId module : execution_units(tree)) {
    Unit unit;
    unit.module = module;
    const Module& at = tree.modules[module];
    if (at.no_split || at.children.empty()) {
      unit.tensors = tensors_below(tree, walk, module);
    } else {
      unit.tensors = at.tensors;
    }
    const auto id = static_cast<std::uint32_t>(chain.units.size());
    unit_of_module[module] = id;
    for (TensorId t : unit.tensors) chain.unit_of[t] = id;
    unit.activation = times(times(workload.batch, workload.prompt_tokens),
                            times(2 * facts.hidden, chain.activation_bytes));
    unit.prompt_only = at.prompt_only;
    if (at.prompt_only && at.no_split) {
      unit.activation = activation_workspace(facts, workload, chain.activation_bytes);
    }
    chain.units.push_back(std::move(unit));
  }
  std::vector<bool> counted(tree.tensors.size(), false);
  weigh(tree, facts, chain, counted);
  for (Unit& unit : chain.units) unit.products = unit.formats.empty() ? 0 : 1;
  if (workload.kv_dtype) {
    const DTypeBlock block = dtype_block(*workload.kv_dtype);
    chain.kv_element = static_cast<double>(block.bytes) / block.elements;
  }

  // Where some layers keep keys and values, or states, those without keys and values don't attend.
  const bool nothing_kept = std::ranges::none_of(facts.layers, [](const LayerFacts& layer) {
    return layer.kv_elements > 0 || layer.state_bytes > 0;
  });
  for (const LayerFacts& layer : facts.layers) {
    const std::uint32_t id = layer.module == kNone ? kNone : unit_of_module[layer.module];
    chain.layer_unit.push_back(id);
    if (id == kNone) continue;
    Unit& unit = chain.units[id];
    unit.block = true;
    // Query, key and value; what attention gives; gate and up, or a router; down.
    unit.products = unit.expert_bytes > 0 ? 3 : 4;
    unit.expert_products = unit.expert_bytes > 0 ? 2 : 0;
    const LayerCache cache = layer_cache(layer, workload);
    unit.kv_bytes = cache.kept_bytes;
    unit.kv_window = cache.positions;
    unit.kv_position = cache.positions > 0 ? cache.position_bytes / cache.positions : 0;
    unit.kv_constant = cache.constant_bytes;
    unit.activation = activation_workspace(facts, workload, chain.activation_bytes);
    if (layer.kv_elements > 0 || nothing_kept) {
      unit.attention_width = static_cast<double>(facts.hidden);
    }
    unit.expert_count = std::max<std::uint64_t>(1, layer.experts);
    const std::uint64_t active =
        std::clamp<std::uint64_t>(layer.experts_per_token, 1, unit.expert_count);
    unit.experts_fraction = static_cast<double>(active) / static_cast<double>(unit.expert_count);
    // An expert goes unread only if none of the tokens picks it; each picks by itself.
    const auto batch = static_cast<double>(workload.batch);
    const double unused = 1 - unit.experts_fraction;
    unit.routed_token = 1 - std::pow(unused, batch);
    unit.routed_prompt = 1 - std::pow(unused, batch * static_cast<double>(workload.prompt_tokens));
  }
  if (facts.head != kNone && unit_of_module[facts.head] != kNone) {
    Unit& head = chain.units[unit_of_module[facts.head]];
    head.head = true;
    head.logits = logits_workspace(facts, workload, chain.activation_bytes);
  }
  join_units(tree, keep_together(tree, no_split, chain), chain);
  return chain;
}

}  // namespace berth
