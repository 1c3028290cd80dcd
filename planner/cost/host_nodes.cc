#include "planner/cost/host_nodes.h"

#include <algorithm>

#include "planner/base/saturating.h"

namespace berth {
namespace {

struct Node {
  std::uint32_t device = kNone;
  std::uint64_t bytes = 0;    // that are taken of its space, without activations
  std::uint64_t weights = 0;  // among them
  std::uint64_t activation = 0;
};

// What the tensors of a unit that go to the host take there.
struct Load {
  bool any = false;
  std::uint64_t weights = 0;
  std::uint64_t rest = 0;  // KV cache, logits, buffers that no checkpoint stores
  std::uint64_t activation = 0;
};

Load load_of(const ModelTree& tree, const Chain& chain, const Unit& unit,
             const std::vector<bool>& on_host) {
  Load load;
  for (const TensorId t : unit.tensors) {
    if (!on_host[t]) continue;
    load.any = true;
    if (!tree.tensors[t].persistent) {
      load.rest += chain.bytes[t];
    } else if (tree.tensors[t].tied_to == kNone) {
      load.weights += chain.bytes[t];
    }
  }
  if (!load.any) return load;
  load.activation = unit.activation;
  if (on_host[unit.anchor]) load.rest = plus(load.rest, plus(unit.kv_bytes, unit.logits));
  return load;
}

bool fits(const Node& node, const Load& load, const Space& space) {
  const std::uint64_t activation = std::max(node.activation, load.activation);
  return plus(plus(node.bytes, load.weights), plus(load.rest, activation)) <= space.bytes &&
         plus(node.weights, load.weights) <= space.weight_bytes;
}

}  // namespace

std::vector<std::uint32_t> host_nodes(const Machine& machine, const std::vector<bool>& usable) {
  std::vector<std::uint32_t> nodes;
  for (std::uint32_t d = 0; d < machine.devices.size(); ++d) {
    if (usable[d] && machine.devices[d].kind == DeviceKind::kCpu) nodes.push_back(d);
  }
  return nodes;
}

void fill_nodes(const ModelTree& tree, const Machine& machine, const Chain& chain,
                const std::vector<Space>& spaces, const std::vector<bool>& usable,
                const std::vector<bool>& on_host, std::vector<std::uint32_t>& tensor_device) {
  std::vector<Node> nodes;
  for (const std::uint32_t d : host_nodes(machine, usable)) nodes.push_back({d, 0, 0, 0});
  if (nodes.size() < 2) return;
  for (TensorId t = 0; t < tensor_device.size(); ++t) {
    for (Node& node : nodes) {
      if (on_host[t] || tensor_device[t] != node.device) continue;
      node.bytes += chain.bytes[t];
      if (tree.tensors[t].persistent) node.weights += chain.bytes[t];
    }
  }
  std::size_t at = 0;
  for (const Unit& unit : chain.units) {
    const Load load = load_of(tree, chain, unit, on_host);
    if (!load.any) continue;
    std::size_t next = at;
    while (next < nodes.size() && !fits(nodes[next], load, spaces[nodes[next].device])) ++next;
    if (next < nodes.size()) at = next;
    Node& node = nodes[at];
    node.bytes = plus(node.bytes, plus(load.weights, load.rest));
    node.weights = plus(node.weights, load.weights);
    node.activation = std::max(node.activation, load.activation);
    for (const TensorId t : unit.tensors) {
      if (on_host[t]) tensor_device[t] = node.device;
    }
  }
}

}  // namespace berth
