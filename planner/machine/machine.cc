#include "berth/machine.h"

#include <algorithm>

#include "planner/machine/gpus.h"

namespace berth {
namespace {

void fill_rates(Device& device) {
  const auto fill = [](double& rate, double value) {
    if (rate <= 0) rate = value;
  };
  switch (device.kind) {
    case DeviceKind::kCuda:
    case DeviceKind::kOther: {
      const GpuFigures* known = find_gpu(device.description);
      fill(device.memory_bandwidth, known ? known->memory_bandwidth : 1e12);
      fill(device.flops, known ? known->flops : 150e12);
      break;
    }
    case DeviceKind::kCpu:
      fill(device.memory_bandwidth, 50e9);
      fill(device.flops, 1e12);
      break;
    case DeviceKind::kDisk:
      fill(device.memory_bandwidth, 2e9);
      device.flops = 0;
      break;
  }
}

Link default_link(const Device& device) {
  if (device.kind == DeviceKind::kDisk) return {{}, {}, device.memory_bandwidth, 100e-6};
  const GpuFigures* known = find_gpu(device.description);
  return {{}, {}, pcie_bandwidth(known ? known->pcie_generation : 4, 16), 10e-6};
}

// Between two NUMA nodes of which nothing but their speeds is known.
Link node_link(const Device& a, const Device& b) {
  return {{}, {}, std::min(a.memory_bandwidth, b.memory_bandwidth) / 2, 200e-9};
}

// Adds a link from -> to unless there is one: like its reverse, or else like `fallback`.
void add_link(Machine& machine, const std::string& from, const std::string& to,
              const Link& fallback) {
  if (machine.find_link(from, to)) return;
  const Link* reverse = machine.find_link(to, from);
  const Link& like = reverse ? *reverse : fallback;
  machine.links.push_back({from, to, like.bandwidth, like.latency});
}

}  // namespace

std::string_view device_kind_name(DeviceKind kind) {
  switch (kind) {
    case DeviceKind::kCuda:
      return "cuda";
    case DeviceKind::kOther:
      return "other";
    case DeviceKind::kCpu:
      return "cpu";
    case DeviceKind::kDisk:
      return "disk";
  }
  return "";
}

const Device* Machine::find(std::string_view name) const {
  const auto found = std::find_if(devices.begin(), devices.end(),
                                  [&](const Device& device) { return device.name == name; });
  return found == devices.end() ? nullptr : &*found;
}

const Link* Machine::find_link(std::string_view from, std::string_view to) const {
  const auto found = std::find_if(links.begin(), links.end(), [&](const Link& link) {
    return link.from == from && link.to == to;
  });
  return found == links.end() ? nullptr : &*found;
}

std::uint64_t Machine::host_capacity() const {
  std::uint64_t bytes = 0;
  for (const Device& device : devices) {
    if (device.kind == DeviceKind::kCpu) bytes += device.capacity;
  }
  return bytes;
}

void fill_defaults(Machine& machine) {
  for (Device& device : machine.devices) fill_rates(device);
  // A link that a file gives one way works the other way, too.
  const std::vector<Link> given = machine.links;
  for (const Link& link : given) add_link(machine, link.to, link.from, link);
  const Device* const host = machine.find("cpu");
  if (!host) return;
  for (const Device& device : machine.devices) {
    if (&device == host) continue;
    const Link fallback =
        device.kind == DeviceKind::kCpu ? node_link(*host, device) : default_link(device);
    add_link(machine, "cpu", device.name, fallback);
    add_link(machine, device.name, "cpu", fallback);
  }
}

}  // namespace berth
