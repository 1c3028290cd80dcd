#include "planner/machine/nodes.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>

#include "planner/base/join.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

constexpr int kNear = 10;               // the distance of a node to itself (ACPI's SLIT)
constexpr int kUnknownDistance = 20;    // what the kernel says where firmware gives none
constexpr double kLocalLatency = 1e-7;  // seconds
constexpr double kGpuLatency = 10e-6;
constexpr int kMostNodes = 4096;

// What `text` begins with, if that is a whole number.
std::optional<int> leading_number(std::string_view text) {
  int number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number < 0) return std::nullopt;
  return number;
}

std::string first_line(const fs::path& file) {
  std::ifstream stream(file);
  std::string line;
  std::getline(stream, line);
  return line;
}

// "0-3,8" as numbers. What makes no sense is left out.
std::set<int> number_list(const std::string& text) {
  std::set<int> numbers;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    const std::size_t dash = part.find('-');
    const auto low = leading_number(part);
    const auto high =
        dash == std::string::npos ? low : leading_number(std::string_view(part).substr(dash + 1));
    if (!low || !high) continue;
    for (int n = *low; n <= std::min(*high, *low + (1 << 16)); ++n) numbers.insert(n);
  }
  return numbers;
}

// The list after `key` in proc/self/status; nothing where it is not there.
std::optional<std::set<int>> allowed(const fs::path& root, std::string_view key) {
  std::ifstream stream(root / "proc/self/status");
  for (std::string line; std::getline(stream, line);) {
    if (!line.starts_with(key)) continue;
    const std::size_t value = line.find_first_not_of(" \t", key.size());
    if (value == std::string::npos) return std::nullopt;
    return number_list(line.substr(value));
  }
  return std::nullopt;
}

// Fills what a node's meminfo says: lines like "Node 1 MemTotal:  65536 kB".
void read_meminfo(const fs::path& file, NumaNode& node) {
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    std::istringstream words(line);
    std::string word, key;
    int id = 0;
    std::uint64_t kilobytes = 0;
    if (!(words >> word >> id >> key >> kilobytes)) continue;
    const std::uint64_t bytes = std::min(kilobytes, std::uint64_t{1} << 44) << 10;
    if (key == "MemTotal:") node.total = bytes;
    if (key == "MemFree:" || key == "Active(file):" || key == "Inactive(file):" ||
        key == "SReclaimable:")
      node.available += bytes;
  }
  node.available = std::min(node.available, node.total);
}

std::vector<int> online_nodes(const fs::path& folder) {
  std::vector<int> ids;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    const auto number =
        leading_number(std::string_view(name).substr(std::min<std::size_t>(4, name.size())));
    if (name.starts_with("node") && number && "node" + std::to_string(*number) == name &&
        *number < kMostNodes)
      ids.push_back(*number);
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

int distance(const NumaNode& from, int to) {
  const auto found = from.distances.find(to);
  return found == from.distances.end() || found->second < kNear ? kUnknownDistance : found->second;
}

}  // namespace

std::vector<NumaNode> read_nodes(const fs::path& root) {
  const fs::path folder = root / "sys/devices/system/node";
  const std::vector<int> ids = online_nodes(folder);
  const auto mems = allowed(root, "Mems_allowed_list:");
  const auto cpus = allowed(root, "Cpus_allowed_list:");
  std::vector<NumaNode> nodes;
  for (const int id : ids) {
    const fs::path at = folder / ("node" + std::to_string(id));
    NumaNode node;
    node.id = id;
    read_meminfo(at / "meminfo", node);
    for (const int cpu : number_list(first_line(at / "cpulist"))) {
      ++node.processors;
      if (!cpus || cpus->count(cpu) > 0) ++node.usable;
    }
    node.allowed = !mems || mems->count(id) > 0;
    const auto megabytes = leading_number(first_line(at / "access0/initiators/read_bandwidth"));
    node.read_bandwidth = 1e6 * megabytes.value_or(0);
    std::istringstream row(first_line(at / "distance"));  // one figure for each online node
    for (const int other : ids) {
      if (int value = 0; row >> value) node.distances[other] = value;
    }
    nodes.push_back(std::move(node));
  }
  return nodes;
}

int node_of_pci(const std::string& address, const fs::path& sysfs) {
  std::string name = address;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  // NVML writes the domain with eight digits, sysfs with four.
  if (name.size() == 16 && name.starts_with("0000")) name.erase(0, 4);
  int node = -1;
  std::ifstream file(sysfs / "bus/pci/devices" / name / "numa_node");
  return file >> node && node >= 0 ? node : -1;
}

namespace {

// Host RAM as the kernel has it, without asking on which nodes it is.
Device whole_host(const HostLimits& memory, const CpuReport& cpu) {
  Device device;
  device.name = "cpu";
  device.kind = DeviceKind::kCpu;
  device.capacity = memory.available;
  device.total = memory.total;
  device.memory_bandwidth = cpu.memory_bandwidth;
  device.flops = cpu.flops;
  device.description = cpu.model;
  device.probed = true;
  return device;
}

std::string list(const std::vector<int>& ids) {
  return (ids.size() > 1 ? "nodes " : "node ") +
         join(ids, ", ", [](int id) { return std::to_string(id); });
}

// The GPU whose memory the node is; null if it is none's.
const GpuNode* gpu_of(const NumaNode& node, const std::vector<GpuNode>& gpus) {
  constexpr double kAlike = 0.04;           // the driver and the kernel each keep a little
  if (node.processors > 0) return nullptr;  // whatever the driver says
  for (const GpuNode& gpu : gpus) {
    if (gpu.own == node.id) return &gpu;
  }
  for (const GpuNode& gpu : gpus) {
    const auto total = static_cast<double>(gpu.total);
    if (gpu.own < 0 && std::abs(static_cast<double>(node.total) - total) <= kAlike * total)
      return &gpu;
  }
  return nullptr;
}

// The nodes that are host RAM which this process may use, those with processors first. Notes why
// the others are not.
std::vector<const NumaNode*> host_nodes(const std::vector<NumaNode>& nodes,
                                        const std::vector<GpuNode>& gpus,
                                        std::vector<std::string>& notes) {
  std::vector<const NumaNode*> kept;
  std::vector<int> forbidden;
  for (const NumaNode& node : nodes) {
    if (node.total == 0) continue;
    if (const GpuNode* gpu = gpu_of(node, gpus)) {
      notes.push_back("NUMA node " + std::to_string(node.id) + " is the memory of gpu " +
                      gpu->name + ", and no host RAM");
    } else if (!node.allowed) {
      forbidden.push_back(node.id);
    } else {
      kept.push_back(&node);
    }
  }
  if (!forbidden.empty()) {
    notes.push_back("the memory of NUMA " + list(forbidden) +
                    " is not counted: the cpuset of this process leaves it out");
  }
  std::stable_sort(kept.begin(), kept.end(), [](const NumaNode* a, const NumaNode* b) {
    return (a->usable > 0) > (b->usable > 0);
  });
  return kept;
}

// The most that the processors of one node read, in bytes/s.
double most_of_a_node(const std::vector<NumaNode>& all, const CpuReport& cpu) {
  const auto with_processors = std::count_if(
      all.begin(), all.end(), [](const NumaNode& node) { return node.processors > 0; });
  return kSocketBandwidth * cpu.sockets / std::max(1.0, static_cast<double>(with_processors));
}

// Sets the speeds of the devices, which are `nodes`. If the processors that may be used are all
// elsewhere, every node is taken to have as many.
void set_speeds(const std::vector<NumaNode>& all, const std::vector<const NumaNode*>& nodes,
                const CpuReport& cpu, std::vector<Device>& devices) {
  double usable = 0;
  for (const NumaNode* node : nodes) usable += node->usable;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const double share =
        usable > 0 ? nodes[i]->usable / usable : 1 / static_cast<double>(nodes.size());
    devices[i].bare = share <= 0;
    devices[i].flops = cpu.flops * share;
    devices[i].memory_bandwidth =
        std::min(kCoreBandwidth * cpu.cores * share, most_of_a_node(all, cpu));
  }
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (!devices[i].bare) continue;
    // The processors of the nearest node compute on it. The first node is never bare.
    std::size_t near = 0;
    const auto far = [&](std::size_t j) { return distance(*nodes[i], nodes[j]->id); };
    for (std::size_t j = 1; j < nodes.size(); ++j) {
      if (!devices[j].bare && far(j) < far(near)) near = j;
    }
    devices[i].flops = devices[near].flops;
    devices[i].memory_bandwidth = nodes[i]->read_bandwidth > 0
                                      ? nodes[i]->read_bandwidth
                                      : devices[near].memory_bandwidth * kNear / far(near);
  }
}

// The index of the device that is `node`; of the first one where there is none.
std::size_t device_at(const std::vector<const NumaNode*>& nodes, int node) {
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i]->id == node) return i;
  }
  return 0;
}

void add_links(const std::vector<const NumaNode*>& nodes, const std::vector<GpuNode>& gpus,
               HostDevices& host) {
  const auto add = [&](const std::string& a, const std::string& b, double rate, double latency) {
    host.links.push_back({a, b, rate, latency});
    host.links.push_back({b, a, rate, latency});
  };
  // What crosses from one node to another.
  const auto crossing = [&](std::size_t a, std::size_t b) {
    const double slower =
        std::min(host.devices[a].memory_bandwidth, host.devices[b].memory_bandwidth);
    return slower * kNear / distance(*nodes[a], nodes[b]->id);
  };
  for (std::size_t a = 0; a < nodes.size(); ++a) {
    for (std::size_t b = a + 1; b < nodes.size(); ++b) {
      add(host.devices[a].name, host.devices[b].name, crossing(a, b),
          kLocalLatency * distance(*nodes[a], nodes[b]->id) / kNear);
    }
  }
  for (const GpuNode& gpu : gpus) {
    if (gpu.bandwidth <= 0) continue;
    const std::size_t near = device_at(nodes, gpu.near);
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      const double rate =
          gpu.near < 0 || i == near ? gpu.bandwidth : std::min(gpu.bandwidth, crossing(near, i));
      add(host.devices[i].name, gpu.name, rate, kGpuLatency);
    }
  }
}

}  // namespace

HostDevices divide_host(const std::vector<NumaNode>& all, const HostLimits& memory,
                        const CpuReport& cpu, const std::vector<GpuNode>& gpus) {
  HostDevices host;
  std::vector<const NumaNode*> nodes = host_nodes(all, gpus, host.notes);
  const auto with_memory =
      std::count_if(all.begin(), all.end(), [](const NumaNode& node) { return node.total > 0; });
  if (with_memory < 2 || nodes.empty()) {
    host.devices.push_back(whole_host(memory, cpu));
    return host;
  }
  std::uint64_t left = memory.available;
  for (auto node = nodes.begin(); node != nodes.end();) {
    Device device = whole_host(memory, cpu);
    device.node = (*node)->id;
    device.total = std::min(memory.total, (*node)->total);
    device.capacity = std::min(left, (*node)->available);
    left -= device.capacity;
    if (device.capacity == 0 && !host.devices.empty()) {
      node = nodes.erase(node);
      continue;
    }
    host.devices.push_back(std::move(device));
    ++node;
  }
  if (nodes.size() == 1) {
    host.devices[0].memory_bandwidth = std::min(cpu.memory_bandwidth, most_of_a_node(all, cpu));
    return host;
  }
  set_speeds(all, nodes, cpu, host.devices);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    Device& device = host.devices[i];
    if (i > 0) device.name += ":" + std::to_string(i);
    device.description += (device.description.empty() ? "NUMA node " : ", NUMA node ") +
                          std::to_string(device.node) + (device.bare ? " (memory alone)" : "");
  }
  add_links(nodes, gpus, host);
  return host;
}

}  // namespace berth
