// recheck(): checks an existing plan against what is free on a machine now.
#include <algorithm>

#include "berth/planner.h"
#include "planner/cost/memory.h"
#include "planner/machine/sizes.h"

namespace berth {

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
  const Device* host = now.find("cpu");
  if (host == nullptr) return trouble;
  std::uint64_t need = emulated;
  for (const DeviceLedger& row : plan.devices) {
    if (row.kind != DeviceKind::kCpu) continue;
    // Mapped weights are not counted: they are pages of files, which the kernel drops when memory
    // runs short. Weights that cannot be mapped are part of the load peak, which is checked below.
    if (plan.cpu_memory != CpuMemory::kMmap) need += row.weights;
    need += row.kv_cache + row.workspace;
  }
  compare("the host", std::max(need, plan.load_peak.host_bytes + emulated), *host);
  return trouble;
}

}  // namespace berth
