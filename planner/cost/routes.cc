#include "planner/cost/routes.h"

#include <boost/graph/adjacency_list.hpp>
#include <boost/graph/dijkstra_shortest_paths.hpp>
#include <cstdint>
#include <limits>

namespace berth {
namespace {

using Graph = boost::adjacency_list<boost::vecS, boost::vecS, boost::directedS, boost::no_property,
                                    boost::property<boost::edge_weight_t, double>>;

constexpr double kDefaultLatency = 10e-6;   // seconds
constexpr double kDefaultBandwidth = 20e9;  // bytes a second

}  // namespace

std::vector<double> route_seconds(const Machine& machine, double bytes) {
  const std::size_t devices = machine.devices.size();
  std::size_t host = devices;                // a vertex of its own if the machine describes no cpu
  for (std::size_t d = devices; d-- > 0;) {  // the first, of several NUMA nodes
    if (machine.devices[d].kind == DeviceKind::kCpu) host = d;
  }
  const auto vertex = [&](const std::string& name) {
    for (std::size_t d = 0; d < devices; ++d) {
      if (machine.devices[d].name == name) {
        return machine.devices[d].kind == DeviceKind::kDisk ? host : d;
      }
    }
    return devices + 1;
  };
  Graph graph(devices + 1);
  std::vector<bool> linked(devices, false);
  for (const Link& link : machine.links) {
    const std::size_t from = vertex(link.from);
    const std::size_t to = vertex(link.to);
    if (from > devices || to > devices || from == to || link.bandwidth <= 0) continue;
    boost::add_edge(from, to, link.latency + bytes / link.bandwidth, graph);
    if (from == host || to == host) linked[from == host ? to : from] = true;
  }
  for (std::size_t d = 0; d < devices; ++d) {
    if (!is_gpu(machine.devices[d].kind) || linked[d]) continue;
    const double seconds = kDefaultLatency + bytes / kDefaultBandwidth;
    boost::add_edge(d, host, seconds, graph);
    boost::add_edge(host, d, seconds, graph);
  }

  std::vector<double> out(devices * devices, 0);
  std::vector<double> distance(devices + 1);
  for (std::size_t from = 0; from < devices; ++from) {
    const std::size_t source = vertex(machine.devices[from].name);
    boost::dijkstra_shortest_paths(graph, source, boost::distance_map(distance.data()));
    for (std::size_t to = 0; to < devices; ++to) {
      out[from * devices + to] = distance[vertex(machine.devices[to].name)];
    }
  }
  return out;
}

}  // namespace berth
