// recheck(): checks an existing plan against what is free on a machine now.
#include <algorithm>

#include "berth/planner.h"
#include "planner/cost/memory.h"
#include "planner/machine/sizes.h"

namespace berth {
namespace {

// The bytes that a plan takes of a row of host RAM. Mapped weights are not counted: they are pages
// of files, which the kernel drops when memory runs short. Weights that cannot be mapped are part
// of the load peak.
std::uint64_t host_need(const Plan& plan, const DeviceLedger& row) {
  return (plan.cpu_memory == CpuMemory::kMmap ? 0 : row.weights) + row.kv_cache + row.workspace;
}

// Checks the host as a whole, and each NUMA node by itself where it has several. `emulated`: bytes
// of GPUs that are rehearsed in host memory.
template <typename Compare, typename Say>
void check_host(const Plan& plan, const Machine& now, bool emulate, std::uint64_t emulated,
                const Compare& compare, const Say& say) {
  if (now.find("cpu") == nullptr) return;
  std::uint64_t need = emulated;
  for (const DeviceLedger& row : plan.devices) {
    if (row.kind != DeviceKind::kCpu) continue;
    need += host_need(plan, row);
    const Device* const node = now.find(row.name);
    if (node == nullptr && row.weights + row.kv_cache + row.workspace > 0 && !emulate) {
      say("the plan uses " + row.name +
          ", a NUMA node that this machine does not have (--emulate " +
          "rehearses it on those that it has)");
    } else if (node != nullptr && !plan.node_map.empty() && !emulate) {
      compare(row.name, host_need(plan, row), *node);
    }
  }
  Device whole;
  for (const Device& device : now.devices) {
    if (device.kind != DeviceKind::kCpu) continue;
    whole.capacity += device.capacity;
    whole.reserve += std::min(device.reserve, device.capacity);
  }
  compare("the host", std::max(need, plan.load_peak.host_bytes + emulated), whole);
}

}  // namespace

std::string recheck(const Plan& plan, const Machine& now, bool emulate) {
  std::uint64_t emulated = 0;
  std::string trouble;
  const auto say = [&](const std::string& words) {
    if (trouble.empty()) trouble = words;
  };
  const auto compare = [&](const std::string& label, std::uint64_t need, const Device& device) {
    const std::uint64_t have =
        device.capacity > device.reserve ? device.capacity - device.reserve : 0;
    if (need <= have) return;
    say("the plan no longer fits: " + label + " has " + format_size(have) +
        " free, the plan needs " + format_size(need) + ": " + format_size(need - have) +
        " short; free memory there or plan again");
  };
  for (const DeviceLedger& row : plan.devices) {
    const bool used = row.weights + row.kv_cache + row.workspace > 0;
    if (!used || !is_gpu(row.kind)) continue;
    const Device* device = now.find(row.name);
    if (device != nullptr && device->kind == row.kind) {
      compare("gpu " + row.name, kCudaContext + row.weights + row.kv_cache + row.workspace,
              *device);
    } else if (emulate) {
      emulated += row.weights + row.kv_cache + row.workspace;
    } else if (row.kind == DeviceKind::kOther) {
      say("the plan uses gpu " + row.name + ", which is of kind other: Berth plans for it, but " +
          "loads to CUDA GPUs, host RAM and the disk only (--emulate rehearses it in host memory)");
    } else {
      say("the plan uses gpu " + row.name + ", which this machine does not have (--emulate " +
          "rehearses it in host memory)");
    }
  }
  check_host(plan, now, emulate, emulated, compare, say);
  return trouble;
}

}  // namespace berth
