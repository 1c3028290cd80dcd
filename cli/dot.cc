#include "cli/dot.h"

#include <fmt/format.h>

#include <array>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/graphviz.hpp>
#include <map>
#include <set>
#include <sstream>
#include <utility>
#include <vector>

#include "planner/machine/sizes.h"

namespace berth {
namespace {

enum class EdgeKind { kFlow, kHop, kTied };

struct Edge {
  EdgeKind kind = EdgeKind::kFlow;
};

// Bidirectional only because its edge list is walked without the tricks that GCC warns about.
using Graph = boost::adjacency_list<boost::vecS, boost::vecS, boost::bidirectionalS,
                                    const ModulePlacement*, Edge>;

// Fill colours of GPUs in turn (greens and blues); the CPU and the disk have their own.
std::string colour_of(const DeviceLedger& device, std::size_t index) {
  static constexpr std::array<const char*, 8> kGpus{"#8dd3c7", "#80b1d3", "#b3de69", "#bc80bd",
                                                    "#ccebc5", "#a6cee3", "#b2df8a", "#cab2d6"};
  if (device.kind == DeviceKind::kCpu) return "#fdb462";
  if (device.kind == DeviceKind::kDisk) return "#d9d9d9";
  return kGpus[index % kGpus.size()];
}

// `text` as it stands inside the quotes of a DOT string.
std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

// The placed module that a tensor belongs to: its own module or the nearest placed ancestor.
std::size_t placed_of(const ModelTree& tree, const std::map<ModuleId, std::size_t>& placed,
                      ModuleId module) {
  for (; module != kNone; module = tree.modules[module].parent) {
    const auto found = placed.find(module);
    if (found != placed.end()) return found->second;
  }
  return placed.size();
}

void add_ties(const ModelTree& tree, const Plan& plan, Graph& graph) {
  std::map<ModuleId, std::size_t> placed;
  for (std::size_t i = 0; i < plan.placement.size(); ++i) placed[plan.placement[i].module] = i;
  std::set<std::pair<std::size_t, std::size_t>> joined;
  for (const std::vector<TensorId>& group : tree.ties) {
    for (std::size_t i = 1; i < group.size(); ++i) {
      const std::size_t a = placed_of(tree, placed, tree.tensors[group[0]].module);
      const std::size_t b = placed_of(tree, placed, tree.tensors[group[i]].module);
      if (a == b || a == placed.size() || b == placed.size()) continue;
      if (joined.emplace(a, b).second) boost::add_edge(a, b, Edge{EdgeKind::kTied}, graph);
    }
  }
}

Graph module_graph(const Planned& planned) {
  Graph graph;
  const std::vector<ModulePlacement>& placement = planned.plan.placement;
  for (const ModulePlacement& placed : placement) boost::add_vertex(&placed, graph);
  for (std::size_t i = 1; i < placement.size(); ++i) {
    const bool hop = placement[i].device != placement[i - 1].device;
    boost::add_edge(i - 1, i, Edge{hop ? EdgeKind::kHop : EdgeKind::kFlow}, graph);
  }
  add_ties(planned.model.tree, planned.plan, graph);
  return graph;
}

}  // namespace

std::string plan_dot(const Planned& planned) {
  const Graph graph = module_graph(planned);
  const auto write_node = [&](std::ostream& out, Graph::vertex_descriptor node) {
    const ModulePlacement& placed = *graph[node];
    const DeviceLedger& device = planned.plan.devices[placed.device];
    const std::string& name = planned.model.tree.modules[placed.module].name;
    out << fmt::format("[label=\"{}\\n{}\\n{}\", fillcolor=\"{}\"]",
                       escaped(name.empty() ? planned.model.tree.name : name),
                       format_size(placed.bytes), device_label(device),
                       colour_of(device, placed.device));
  };
  const auto write_edge = [&](std::ostream& out, Graph::edge_descriptor edge) {
    switch (graph[edge].kind) {
      case EdgeKind::kFlow:
        return;
      case EdgeKind::kHop:
        out << "[label=\"hop\", style=bold, color=\"#e31a1c\"]";
        return;
      case EdgeKind::kTied:
        out << "[label=\"tied\", style=dashed, dir=none, constraint=false]";
    }
  };
  const auto write_head = [&](std::ostream& out) {
    out << "label=\"" << escaped(planned.model.tree.name) << "\";\n"
        << "rankdir=TB;\n"
        << "node [shape=box, style=filled, fontname=\"sans-serif\"];\n";
  };
  std::ostringstream out;
  boost::write_graphviz(out, graph, write_node, write_edge, write_head);
  return out.str() + "\n";
}

}  // namespace berth
