#include "cli/report/dot.h"

#include <fmt/format.h>

#include <array>
#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/graphviz.hpp>
#include <map>
#include <set>
#include <sstream>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/report/pieces.h"
#include "planner/machine/sizes.h"

namespace berth {
namespace {

enum class EdgeKind { kFlow, kHop, kTied };

struct Edge {
  EdgeKind kind = EdgeKind::kFlow;
};

// Bidirectional only because GCC warns about how Boost walks the edges of a directed graph.
using Graph = boost::adjacency_list<boost::vecS, boost::vecS, boost::bidirectionalS,
                                    const PlacedPiece*, Edge>;

// Fill colours of GPUs in turn (greens and blues); the CPU and the disk have their own.
std::string colour_of(const DeviceLedger& device, std::size_t index) {
  static constexpr std::array<const char*, 8> kGpus{"#8dd3c7", "#80b1d3", "#b3de69", "#bc80bd",
                                                    "#ccebc5", "#a6cee3", "#b2df8a", "#cab2d6"};
  if (device.kind == DeviceKind::kCpu) return "#fdb462";
  if (device.kind == DeviceKind::kDisk) return "#d9d9d9";
  return kGpus[index % kGpus.size()];
}

// Escapes `text` to stand inside the quotes of a DOT string.
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
                      ModuleId module, std::size_t none) {
  for (; module != kNone; module = tree.modules[module].parent) {
    const auto found = placed.find(module);
    if (found != placed.end()) return found->second;
  }
  return none;
}

void add_ties(const ModelTree& tree, const std::vector<PlacedPiece>& pieces, Graph& graph) {
  std::map<ModuleId, std::size_t> placed;
  for (std::size_t i = 0; i < pieces.size(); ++i) placed.emplace(pieces[i].module, i);
  std::set<std::pair<std::size_t, std::size_t>> joined;
  for (const std::vector<TensorId>& group : tree.ties) {
    for (std::size_t i = 1; i < group.size(); ++i) {
      const std::size_t a = placed_of(tree, placed, tree.tensors[group[0]].module, pieces.size());
      const std::size_t b = placed_of(tree, placed, tree.tensors[group[i]].module, pieces.size());
      if (a == b || a == pieces.size() || b == pieces.size()) continue;
      if (joined.emplace(a, b).second) boost::add_edge(a, b, Edge{EdgeKind::kTied}, graph);
    }
  }
}

// Activations go from piece to piece. From the experts of a block they come back to the block.
Graph module_graph(const ModelTree& tree, const std::vector<PlacedPiece>& pieces) {
  Graph graph;
  for (const PlacedPiece& piece : pieces) boost::add_vertex(&piece, graph);
  const auto connect = [&](std::size_t from, std::size_t to) {
    const bool hop = pieces[from].device != pieces[to].device;
    boost::add_edge(from, to, Edge{hop ? EdgeKind::kHop : EdgeKind::kFlow}, graph);
  };
  std::map<ModuleId, std::size_t> rest;
  std::size_t before = pieces.size();
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (std::string_view(pieces[i].piece) == "experts") continue;
    if (before != pieces.size()) connect(before, i);
    before = i;
    rest[pieces[i].module] = i;
  }
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (std::string_view(pieces[i].piece) != "experts") continue;
    connect(rest.at(pieces[i].module), i);
    connect(i, rest.at(pieces[i].module));
  }
  add_ties(tree, pieces, graph);
  return graph;
}

}  // namespace

std::string plan_dot(const Planned& planned) {
  const std::vector<PlacedPiece> pieces = plan_pieces(planned.model.tree, planned.plan);
  const Graph graph = module_graph(planned.model.tree, pieces);
  const auto write_node = [&](std::ostream& out, Graph::vertex_descriptor node) {
    const PlacedPiece& placed = *graph[node];
    const DeviceLedger& device = planned.plan.devices[placed.device];
    std::string name(planned.model.tree.modules[placed.module].name);
    if (*placed.piece != '\0') name += std::string(" ") + placed.piece;
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
