#include "planner/placement/shortfall.h"

#include <algorithm>

#include "planner/placement/reasons.h"

namespace berth {
namespace {

// True where the placement is ours to choose.
bool is_own(const Request& request) {
  return !request.device_map &&
         (request.policy == Policy::kAuto || request.policy == Policy::kThroughput);
}

bool would_fit(const ModelTree& tree, const Machine& machine, const Request& request) {
  return plan_once(tree, machine, request).fits();
}

// The largest context, in steps of 256 positions, that fits; 0 where none does.
std::uint64_t fitting_context(const Setting& setting) {
  Request request = setting.request;
  const auto fits = [&](std::uint64_t steps) {
    request.workload.context = steps * 256;
    request.workload.prompt_tokens =
        std::min(setting.workload.prompt_tokens, request.workload.context);
    return would_fit(setting.tree, setting.machine, request);
  };
  std::uint64_t low = 0;
  std::uint64_t high = setting.workload.context / 256 + 1;
  while (high - low > 1) {
    const std::uint64_t middle = low + (high - low) / 2;
    if (middle * 256 < setting.workload.context && fits(middle)) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low * 256;
}

std::optional<ModelTree> in_16_bits(const ModelTree& tree) {
  ModelTree narrow = tree;
  bool any = false;
  for (ModelTensor& tensor : narrow.tensors) {
    if (!is_convertible(tensor.dtype) || dtype_bits(tensor.dtype) <= 16 || tensor.buffer) continue;
    tensor.dtype = DType::kBF16;
    any = true;
  }
  if (!any) return std::nullopt;
  return narrow;
}

const Device* largest_gpu(const Machine& machine) {
  const Device* largest = nullptr;
  for (const Device& device : machine.devices) {
    if (device.kind != DeviceKind::kCuda) continue;
    if (largest == nullptr || device.capacity > largest->capacity) largest = &device;
  }
  return largest;
}

// The least number of further GPUs like the largest, up to eight, or 0.
int more_gpus(const Setting& setting, const Device& like) {
  Machine machine = setting.machine;
  Request request = setting.request;
  int number = 0;
  for (const Device& device : machine.devices) {
    if (device.kind == DeviceKind::kCuda) ++number;
  }
  for (int more = 1; more <= 8; ++more) {
    Device device = like;
    while (machine.find(std::to_string(number)) != nullptr) ++number;
    device.name = std::to_string(number);
    for (const Link& link : std::vector<Link>(machine.links)) {
      if (link.from == like.name && link.to == "cpu") {
        machine.links.push_back({device.name, "cpu", link.bandwidth, link.latency});
      }
      if (link.to == like.name && link.from == "cpu") {
        machine.links.push_back({"cpu", device.name, link.bandwidth, link.latency});
      }
    }
    const auto after = std::find_if(machine.devices.begin(), machine.devices.end(),
                                    [](const Device& d) { return d.kind != DeviceKind::kCuda; });
    machine.devices.insert(after, device);
    if (request.max_memory) {
      for (const Budget& budget : std::vector<Budget>(*request.max_memory)) {
        if (budget.device == like.name) request.max_memory->push_back({device.name, budget.bytes});
      }
    }
    if (would_fit(setting.tree, machine, request)) return more;
  }
  return 0;
}

void suggest_workload(const Setting& setting, std::vector<std::string>& out) {
  if (const std::uint64_t context = fitting_context(setting); context > 0) {
    std::string words = "--context " + std::to_string(context);
    if (context < setting.workload.prompt_tokens) {
      words += " --prompt-tokens " + std::to_string(context);
    }
    out.push_back(words + " (now " + std::to_string(setting.workload.context) + ")");
  }
  if (setting.workload.batch > 1) {
    Request request = setting.request;
    std::uint64_t low = 0;
    std::uint64_t high = setting.workload.batch;
    while (high - low > 1) {
      const std::uint64_t middle = low + (high - low) / 2;
      request.workload.batch = middle;
      (would_fit(setting.tree, setting.machine, request) ? low : high) = middle;
    }
    if (low > 0) {
      out.push_back("--batch " + std::to_string(low) + " (now " +
                    std::to_string(setting.workload.batch) + ")");
    }
  }
}

void suggest_devices(const Setting& setting, std::vector<std::string>& out) {
  const bool own =
      setting.request.policy == Policy::kAuto || setting.request.policy == Policy::kThroughput;
  if (setting.request.never_offload) {
    Request request = setting.request;
    request.never_offload = false;
    if (would_fit(setting.tree, setting.machine, request)) {
      out.push_back(
          "without --never-offload, layers that the gpus have no room for go to the cpu "
          "or the disk");
    }
  }
  if (!setting.request.excluded.empty()) {
    Request request = setting.request;
    request.excluded.clear();
    if (would_fit(setting.tree, setting.machine, request)) out.push_back("exclude no device");
  }
  if (own && !setting.request.never_offload && setting.machine.find("disk") == nullptr) {
    Machine machine = setting.machine;
    Device disk;
    disk.name = "disk";
    disk.kind = DeviceKind::kDisk;
    disk.capacity = disk.total = 1ull << 50;
    machine.devices.push_back(disk);
    if (would_fit(setting.tree, machine, setting.request)) {
      out.push_back("allow the disk: give the machine a device 'disk'");
    }
  }
  const Device* gpu = largest_gpu(setting.machine);
  if (!own || gpu == nullptr) return;
  if (const int more = more_gpus(setting, *gpu); more > 0) {
    out.push_back(std::to_string(more) + " more GPU" + (more > 1 ? "s" : "") + " like gpu " +
                  gpu->name + " (" + gib(gpu->capacity) + ")");
  }
}

}  // namespace

std::vector<std::string> find_suggestions(const Setting& setting) {
  std::vector<std::string> out;
  suggest_workload(setting, out);
  if (const std::optional<ModelTree> narrow = in_16_bits(setting.tree)) {
    if (would_fit(*narrow, setting.machine, setting.request)) {
      out.push_back("--dtype bfloat16: half the weights of float32");
    }
  }
  suggest_devices(setting, out);
  if (!is_own(setting.request)) {
    Request request = setting.request;
    request.policy = Policy::kAuto;
    request.device_map.reset();
    if (would_fit(setting.tree, setting.machine, request)) {
      out.push_back("--policy auto: it counts KV cache and workspace, and fits");
    }
  }
  return out;
}

}  // namespace berth
