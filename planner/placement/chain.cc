#include "planner/placement/chain.h"

#include <algorithm>
#include <limits>

namespace berth {
namespace {

constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();

// Products of what users ask for saturate instead of wrapping: far too much stays far too much.
std::uint64_t times(std::uint64_t a, std::uint64_t b) {
  return a != 0 && b > kMost / a ? kMost : a * b;
}
std::uint64_t plus(std::uint64_t a, std::uint64_t b) { return a > kMost - b ? kMost : a + b; }

DType widest_weights(const ModelTree& tree) {
  // The dtype that holds most bytes decides; small float32 norms do not.
  std::uint64_t bytes[256] = {};
  for (const ModelTensor& tensor : tree.tensors) {
    if (!tensor.buffer) bytes[static_cast<unsigned>(tensor.dtype)] += tensor.bytes();
  }
  const auto* most = std::max_element(std::begin(bytes), std::end(bytes));
  return static_cast<DType>(most - std::begin(bytes));
}

// The dtype that a model computes in: its own where it is a float, else 16-bit.
DType compute_dtype(const ModelTree& tree) {
  const DType weights = widest_weights(tree);
  return is_convertible(weights) ? weights : DType::kBF16;
}

double elements_of(const ModelTensor& tensor) { return static_cast<double>(tensor.elements()); }

bool is_expert(const ModelTree& tree, ModuleId module) {
  for (; module != kNone; module = tree.modules[module].parent) {
    if (tree.modules[module].expert) return true;
  }
  return false;
}

void gather(const ModelTree& tree, ModuleId module, std::vector<TensorId>& tensors) {
  const Module& at = tree.modules[module];
  tensors.insert(tensors.end(), at.tensors.begin(), at.tensors.end());
  for (ModuleId child : at.children) gather(tree, child, tensors);
}

// Storage that a tensor shares: the first member of its tie group.
TensorId storage_of(const ModelTree& tree, TensorId t) {
  const TensorId first = tree.tensors[t].tied_to;
  return first == kNone ? t : first;
}

void join_tied_units(const ModelTree& tree, Chain& chain) {
  std::vector<std::uint32_t> root(chain.units.size());
  for (std::uint32_t u = 0; u < root.size(); ++u) root[u] = u;
  const auto find = [&](std::uint32_t u) {
    while (root[u] != u) u = root[u] = root[root[u]];
    return u;
  };
  for (TensorId t = 0; t < tree.tensors.size(); ++t) {
    const std::uint32_t a = find(chain.unit_of[t]);
    const std::uint32_t b = find(chain.unit_of[storage_of(tree, t)]);
    root[std::max(a, b)] = std::min(a, b);
  }
  std::vector<std::vector<std::uint32_t>> groups(root.size());
  for (std::uint32_t u = 0; u < root.size(); ++u) groups[find(u)].push_back(u);
  for (auto& group : groups) {
    if (group.size() > 1) chain.joined.push_back(std::move(group));
  }
}

void weigh(const ModelTree& tree, const ModelFacts& facts, Chain& chain,
           std::vector<bool>& counted) {
  for (Unit& unit : chain.units) {
    const bool embedding = unit.module == facts.embedding;
    for (TensorId t : unit.tensors) {
      const ModelTensor& tensor = tree.tensors[t];
      const std::uint64_t bytes = tensor.bytes();
      if (!tensor.persistent) {
        unit.computed += bytes;
        continue;
      }
      if (const TensorId storage = storage_of(tree, t); !counted[storage]) {
        counted[storage] = true;
        unit.weights += bytes;
      }
      if (tensor.buffer) continue;
      if (embedding) {
        if (!tensor.shape.empty() && tensor.shape[0] > 0) {
          unit.row_bytes += bytes / tensor.shape[0];
        }
      } else if (is_expert(tree, tensor.module)) {
        unit.expert_bytes += bytes;
        unit.expert_elements += elements_of(tensor);
      } else {
        unit.dense_bytes += bytes;
        unit.elements += elements_of(tensor);
      }
    }
  }
}

}  // namespace

Workload fill_workload(const ModelTree& tree, const Workload& asked) {
  Workload workload = asked;
  const std::uint64_t most = tree.facts.max_positions;
  if (workload.context == 0)
    workload.context = most == 0 ? 4096 : std::min<std::uint64_t>(4096, most);
  workload.batch = std::max<std::uint64_t>(workload.batch, 1);
  workload.prompt_tokens = std::clamp<std::uint64_t>(workload.prompt_tokens, 1, workload.context);
  if (!workload.kv_dtype) {
    const DType dtype = compute_dtype(tree);
    workload.kv_dtype = dtype_bits(dtype) <= 16 ? dtype : DType::kF16;
  }
  return workload;
}

std::uint64_t kv_cache_bytes(const LayerFacts& layer, const Workload& workload) {
  std::uint64_t positions = workload.context;
  if (layer.window > 0) positions = std::min(positions, layer.window);
  const std::uint64_t elements = times(times(layer.kv_elements, positions), workload.batch);
  const std::uint64_t bits = dtype_bits(workload.kv_dtype.value_or(DType::kF16));
  return elements > kMost / 64 ? kMost : (elements * bits + 7) / 8;
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

Chain make_chain(const ModelTree& tree, const Workload& workload) {
  const ModelFacts& facts = tree.facts;
  Chain chain;
  chain.known = !facts.layers.empty() && facts.hidden > 0;
  chain.activation_bytes = dtype_bits(compute_dtype(tree)) / 8;
  chain.unit_of.assign(tree.tensors.size(), kNone);

  std::vector<std::uint32_t> unit_of_module(tree.modules.size(), kNone);
  for (ModuleId module : execution_units(tree)) {
    Unit unit;
    unit.module = module;
    const Module& at = tree.modules[module];
    if (at.no_split || at.children.empty()) {
      gather(tree, module, unit.tensors);
    } else {
      unit.tensors = at.tensors;
    }
    const auto id = static_cast<std::uint32_t>(chain.units.size());
    unit_of_module[module] = id;
    for (TensorId t : unit.tensors) chain.unit_of[t] = id;
    unit.activation = times(times(workload.batch, workload.prompt_tokens),
                            times(2 * facts.hidden, chain.activation_bytes));
    chain.units.push_back(std::move(unit));
  }
  std::vector<bool> counted(tree.tensors.size(), false);
  weigh(tree, facts, chain, counted);

  for (const LayerFacts& layer : facts.layers) {
    const std::uint32_t id = layer.module == kNone ? kNone : unit_of_module[layer.module];
    chain.layer_unit.push_back(id);
    if (id == kNone) continue;
    Unit& unit = chain.units[id];
    unit.block = true;
    unit.kv_bytes = kv_cache_bytes(layer, workload);
    const std::uint64_t positions =
        layer.window > 0 ? std::min(layer.window, workload.context) : workload.context;
    unit.kv_window = positions;
    unit.kv_position = positions > 0 ? unit.kv_bytes / positions : 0;
    unit.activation = activation_workspace(facts, workload, chain.activation_bytes);
    unit.attention_width = static_cast<double>(facts.hidden);
    unit.experts_fraction = layer.experts > 0 ? static_cast<double>(layer.experts_per_token) /
                                                    static_cast<double>(layer.experts)
                                              : 1;
  }
  if (facts.head != kNone && unit_of_module[facts.head] != kNone) {
    chain.units[unit_of_module[facts.head]].logits =
        logits_workspace(facts, workload, chain.activation_bytes);
  }
  join_tied_units(tree, chain);
  return chain;
}

}  // namespace berth
