#include "planner/machine/probe.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <thread>
#include <utility>
#include <vector>

#include "planner/machine/cgroup.h"
#include "planner/machine/gpus.h"
#include "planner/machine/host.h"
#include "planner/machine/nodes.h"
#include "planner/machine/nvml.h"
#include "planner/machine/sizes.h"
#include "planner/machine/visible.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

constexpr double kReached = 0.8;  // the share of a link's nominal rate that large copies reach

std::optional<std::string> environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? std::optional<std::string>(value) : std::nullopt;
}

unsigned allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
    return static_cast<unsigned>(CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

// The rate of PCIe between this GPU and the host, in bytes/s; 0 if the driver says too little.
double host_bandwidth(const GpuReport& gpu) {
  int generation = gpu.pcie_generation;
  if (generation == 0) {
    const GpuFigures* figures = find_gpu(gpu.name);
    generation = figures ? figures->pcie_generation : 0;
  }
  return pcie_bandwidth(generation, gpu.pcie_lanes ? gpu.pcie_lanes : 16);
}

// A usable GPU, which keeps its ordinal, and its index in the driver's report.
struct FoundGpu {
  std::string name;
  std::size_t index;
};

std::vector<FoundGpu> add_gpus(const Surroundings& around, NvmlReport& report, Machine& machine) {
  machine.notes = std::move(report.notes);
  const std::vector<std::size_t> shown =
      visible_gpus(report.gpus, around.visible_devices, around.device_order, machine.notes);
  std::vector<FoundGpu> found;
  for (std::size_t ordinal = 0; ordinal < shown.size(); ++ordinal) {
    const GpuReport& gpu = report.gpus[shown[ordinal]];
    if (!gpu.usable) continue;
    Device device;
    device.name = std::to_string(ordinal);
    device.kind = DeviceKind::kCuda;
    device.capacity = gpu.free;
    device.total = gpu.total;
    device.description = gpu.name;
    device.uuid = gpu.uuid;
    device.pci_bus_id = gpu.pci_bus_id;
    device.probed = true;
    found.push_back({device.name, shown[ordinal]});
    machine.devices.push_back(std::move(device));
  }
  return found;
}

// Links of the GPUs among each other and, unless those of NUMA nodes say more, to the host.
void add_gpu_links(const std::vector<FoundGpu>& found, const NvmlReport& report, bool to_host,
                   Machine& machine) {
  for (const auto& [name, index] : found) {
    if (const double rate = host_bandwidth(report.gpus[index]); to_host && rate > 0) {
      machine.links.push_back({"cpu", name, rate, 10e-6});
      machine.links.push_back({name, "cpu", rate, 10e-6});
    }
    for (const auto& [peer_name, peer] : found) {
      if (peer == index) continue;
      if (const double rate = report.nvlink[index][peer]; rate > 0)
        machine.links.push_back({name, peer_name, kReached * rate, 3e-6});
      else if (const double pcie =
                   std::min(host_bandwidth(report.gpus[index]), host_bandwidth(report.gpus[peer]));
               report.peer[index][peer] && pcie > 0)
        machine.links.push_back({name, peer_name, pcie, 8e-6});
    }
  }
}

// Where the GPUs stand: all that the driver reports, because those that are hidden from CUDA have
// their memory all the same.
std::vector<GpuNode> gpu_nodes(const Surroundings& around, const std::vector<FoundGpu>& found,
                               const NvmlReport& report) {
  std::vector<GpuNode> gpus;
  for (std::size_t index = 0; index < report.gpus.size(); ++index) {
    const GpuReport& gpu = report.gpus[index];
    GpuNode node;
    node.name = gpu.pci_bus_id;
    node.near = node_of_pci(gpu.pci_bus_id, around.root / "sys");
    node.own = gpu.numa_node;
    node.total = gpu.total;
    for (const FoundGpu& one : found) {
      if (one.index != index) continue;
      node.name = one.name;
      node.bandwidth = host_bandwidth(gpu);
    }
    gpus.push_back(std::move(node));
  }
  return gpus;
}

HostDevices find_host(const Surroundings& around, const std::vector<GpuNode>& gpus,
                      Machine& machine) {
  HostLimits memory = read_host_memory(around.root);
  if (memory.total == 0 && around.kernel_memory) {
    memory = around.kernel_memory();
    machine.notes.push_back(
        "no /proc/meminfo: the host's free memory is what sysinfo(2) says, which leaves out the "
        "page cache, and limits of control groups are unknown");
  }
  if (memory.total == 0) machine.notes.push_back("the host's memory is unknown: no /proc/meminfo");
  if (!memory.limited_by.empty())
    machine.notes.push_back("host memory is limited by a control group: " +
                            format_size(memory.available) + " left under " + memory.limited_by);
  return divide_host(read_nodes(around.root), memory, read_cpu(around.threads, around.root), gpus);
}

void add_disk(const Surroundings& around, Machine& machine) {
  Device device;
  device.name = "disk";
  device.kind = DeviceKind::kDisk;
  device.probed = true;
  if (const auto disk = read_disk(around.folder)) {
    device.capacity = disk->free;
    device.total = disk->total;
    device.description = disk->path.string();
  } else {
    machine.notes.push_back("the disk of " + around.folder.string() + " does not tell its size");
  }
  machine.devices.push_back(std::move(device));
}

}  // namespace

unsigned usable_cpus() {
  const unsigned allowed = allowed_cpus();
  const double quota = read_cpu_quota();
  if (quota <= 0 || quota >= allowed) return allowed;
  return std::max(1u, static_cast<unsigned>(std::ceil(quota)));
}

Surroundings real_surroundings(const fs::path& folder) {
  Surroundings around;
  around.folder = folder;
  around.kernel_memory = kernel_memory;
  around.threads = usable_cpus();
  around.visible_devices = environment("CUDA_VISIBLE_DEVICES");
  around.device_order = environment("CUDA_DEVICE_ORDER");
  return around;
}

Machine probe(const Surroundings& around) {
  Machine machine;
  machine.source = "this machine";
  NvmlReport report = read_nvml(around.nvml);
  const std::vector<FoundGpu> found = add_gpus(around, report, machine);
  HostDevices host = find_host(around, gpu_nodes(around, found, report), machine);
  add_gpu_links(found, report, host.links.empty(), machine);
  for (Device& device : host.devices) machine.devices.push_back(std::move(device));
  machine.links.insert(machine.links.end(), host.links.begin(), host.links.end());
  machine.notes.insert(machine.notes.end(), host.notes.begin(), host.notes.end());
  add_disk(around, machine);
  return machine;
}

Machine probe_machine(const fs::path& folder) { return probe(real_surroundings(folder)); }

}  // namespace berth
