#include "planner/plan/budget.h"

#include <algorithm>
#include <charconv>
#include <system_error>

#include "berth/error.h"
#include "planner/base/quote.h"

namespace berth {

bool names_host(std::string_view device) { return device == "cpu" || device.starts_with("cpu:"); }

bool names_gpu(const std::string& device) { return !names_host(device) && device != "disk"; }

std::uint32_t gpu_number(const std::string& device) {
  std::uint32_t number = 0;
  const auto [end, code] = std::from_chars(device.data(), device.data() + device.size(), number);
  if (code != std::errc() || end != device.data() + device.size()) {
    throw Error("max_memory: " + quote(device) +
                " is not a device (GPUs are numbers; then there are cpu and disk)");
  }
  return number;
}

std::vector<Budget> accelerate_order(const std::vector<Budget>& budgets) {
  std::vector<Budget> out;
  for (const Budget& budget : budgets) {
    for (const Budget& other : out) {
      if (other.device == budget.device) {
        throw Error("max_memory: device " + quote(budget.device) + " is given twice");
      }
    }
    if (names_gpu(budget.device)) gpu_number(budget.device);
    if (budget.device != "disk") out.push_back(budget);
  }
  std::stable_sort(out.begin(), out.end(), [](const Budget& a, const Budget& b) {
    if (!names_gpu(a.device) && !names_gpu(b.device)) return a.device < b.device;
    if (!names_gpu(a.device) || !names_gpu(b.device)) return names_gpu(a.device);
    return gpu_number(a.device) < gpu_number(b.device);
  });
  out.push_back({"disk", std::numeric_limits<std::uint64_t>::max()});
  return out;
}

Machine budget_machine(const std::vector<Budget>& budgets) {
  Machine machine;
  machine.source = kBudgetSource;
  for (const Budget& budget : accelerate_order(budgets)) {
    Device device;
    device.name = budget.device;
    device.kind = names_host(budget.device) ? DeviceKind::kCpu
                  : budget.device == "disk" ? DeviceKind::kDisk
                                            : DeviceKind::kCuda;
    device.capacity = device.total = std::min(budget.bytes, kUnlimited);
    if (device.kind == DeviceKind::kDisk) {
      for (const Budget& given : budgets) {
        if (given.device == "disk") device.capacity = device.total = given.bytes;
      }
    }
    machine.devices.push_back(device);
  }
  fill_defaults(machine);
  return machine;
}

}  // namespace berth
