#include "planner/explain/shortfall.h"

#include <algorithm>
#include <utility>

#include "planner/explain/reasons.h"
#include "planner/machine/sizes.h"
#include "planner/plan/device_map.h"
#include "planner/plan/policies.h"
#include "planner/search/auto.h"

namespace berth {
namespace {

// The machine without the disk that PlanInputs added for Accelerate's policies. Our own policies
// use a disk only if the machine or a budget names it.
Machine without_implied_disk(const PlanInputs& inputs) {
  Machine machine = inputs.machine;
  const std::uint32_t disk = inputs.device("disk");
  const auto& budgets = inputs.request.max_memory;
  const bool stated = budgets && std::any_of(budgets->begin(), budgets->end(),
                                             [](const Budget& b) { return b.device == "disk"; });
  if (disk != kNone && inputs.spaces[disk].budget_only && !stated) {
    machine.devices.erase(machine.devices.begin() + disk);
  }
  return machine;
}

// True if a policy of ours finds a plan that fits. Cheap: it does not look for the best one.
bool own_would_fit(const ModelTree& tree, const Machine& machine, const Request& request) {
  const PlanInputs inputs(tree, machine, request);
  if (auto_fits(inputs)) return true;
  if (!inputs.may_change_runner()) return false;
  Request other = request;
  other.disk_runner = other_than(inputs.time.disk_runner());
  return auto_fits(PlanInputs(tree, machine, other));
}

// Collects suggestions. Each is planned before it is added.
class Suggestions {
 public:
  Suggestions(const PlanInputs& inputs, const PlanOnce& plan_once)
      : inputs_(inputs), plan_once_(plan_once) {}

  // Whether this would fit; cheaper than a whole plan for policies of our own.
  bool would_fit(const ModelTree& tree, const Machine& machine, const Request& request) const {
    return is_own(request) ? own_would_fit(tree, machine, request)
                           : plan_once_(tree, machine, request).fits();
  }

  // Adds the suggestion if a plan with it fits; whether it did.
  bool add(std::string words, const ModelTree& tree, const Machine& machine,
           const Request& request) {
    if (!plan_once_(tree, machine, request).fits()) return false;
    words_.push_back(std::move(words));
    return true;
  }
  bool add(std::string words, const Request& request) {
    return add(std::move(words), inputs_.tree, inputs_.machine, request);
  }
  std::vector<std::string> take() { return std::move(words_); }

 private:
  const PlanInputs& inputs_;
  const PlanOnce& plan_once_;
  std::vector<std::string> words_;
};

// The largest context below the one asked for, in steps of 256 positions, that fits; 0 if none
// does.
std::uint64_t fitting_context(const PlanInputs& inputs, const Suggestions& out) {
  Request request = inputs.request;
  const auto fits = [&](std::uint64_t steps) {
    request.workload.context = steps * 256;
    request.workload.prompt_tokens =
        std::min(inputs.workload.prompt_tokens, request.workload.context);
    return out.would_fit(inputs.tree, inputs.machine, request);
  };
  std::uint64_t low = 0;
  std::uint64_t high = inputs.workload.context / 256 + 1;
  while (high - low > 1) {
    const std::uint64_t middle = low + (high - low) / 2;
    if (middle * 256 < inputs.workload.context && fits(middle)) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low * 256;
}

// The model with its wider weights in bfloat16; nothing if it has no wider ones.
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

// The model with the matrices of its blocks quantised to `dtype`. Scales are made up for by more
// rows: one sixteenth more for 4-bit weights and one thirty-second more for 8-bit ones, which is
// enough for groups of 128 with 16-bit scales and zero points. Nothing if no block holds a matrix
// of floats.
std::optional<ModelTree> quantised(const PlanInputs& inputs, DType dtype) {
  ModelTree narrow = inputs.tree;
  bool any = false;
  for (const Unit& unit : inputs.chain.units) {
    if (!unit.block) continue;
    for (TensorId t : unit.tensors) {
      ModelTensor& tensor = narrow.tensors[t];
      if (!is_convertible(tensor.dtype) || tensor.shape.size() < 2 || tensor.buffer) continue;
      tensor.dtype = tensor.stored = dtype;
      tensor.shape[0] += (tensor.shape[0] + 15) / (dtype_bits(dtype) == 4 ? 16 : 32) + 1;
      if (tensor.shape[0] % 2 == 1) ++tensor.shape[0];
      any = true;
    }
  }
  if (!any) return std::nullopt;
  return narrow;
}

// Adds one more GPU like `like`, with the same links to the host and the same budget.
void add_gpu(const Device& like, Machine& machine, Request& request) {
  int number = 0;
  while (machine.find(std::to_string(number)) != nullptr) ++number;
  Device device = like;
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
                                  [](const Device& d) { return !is_gpu(d.kind); });
  machine.devices.insert(after, device);
  if (!request.max_memory) return;
  for (const Budget& budget : std::vector<Budget>(*request.max_memory)) {
    if (budget.device == like.name) request.max_memory->push_back({device.name, budget.bytes});
  }
}

void suggest_workload(const PlanInputs& inputs, Suggestions& out) {
  if (const std::uint64_t context = fitting_context(inputs, out); context > 0) {
    Request request = inputs.request;
    request.workload.context = context;
    std::string words = "--context " + std::to_string(context);
    if (context < inputs.workload.prompt_tokens) {
      words += " --prompt-tokens " + std::to_string(context);
      request.workload.prompt_tokens = context;
    }
    out.add(words + " (now " + std::to_string(inputs.workload.context) + ")", request);
  }
  if (inputs.workload.kv_dtype && dtype_bits(*inputs.workload.kv_dtype) > 8) {
    Request request = inputs.request;
    request.workload.kv_dtype = DType::kF8E4M3;
    if (out.would_fit(inputs.tree, inputs.machine, request)) {
      const bool wide = dtype_bits(*inputs.workload.kv_dtype) > 16;
      out.add(std::string("--kv-dtype float8_e4m3fn: ") + (wide ? "a quarter of" : "half") +
                  " the KV cache",
              request);
    }
  }
  if (inputs.workload.batch > 1) {
    Request request = inputs.request;
    std::uint64_t low = 0;
    std::uint64_t high = inputs.workload.batch;
    while (high - low > 1) {
      const std::uint64_t middle = low + (high - low) / 2;
      request.workload.batch = middle;
      (out.would_fit(inputs.tree, inputs.machine, request) ? low : high) = middle;
    }
    request.workload.batch = low;
    if (low > 0) {
      out.add(
          "--batch " + std::to_string(low) + " (now " + std::to_string(inputs.workload.batch) + ")",
          request);
    }
  }
}

void suggest_weights(const PlanInputs& inputs, Suggestions& out) {
  const auto attempt = [&](const std::optional<ModelTree>& narrow, const std::string& words) {
    return narrow && out.would_fit(*narrow, inputs.machine, inputs.request) &&
           out.add(words + format_size(narrow->bytes()), *narrow, inputs.machine, inputs.request);
  };
  if (attempt(in_16_bits(inputs.tree), "--dtype bfloat16: half the weights of float32, ")) return;
  if (attempt(quantised(inputs, DType::kI8),
              "an 8-bit checkpoint of the model (int8 or FP8, scales included): about ")) {
    return;
  }
  attempt(quantised(inputs, DType::kF4),
          "a 4-bit checkpoint of the model (GPTQ, AWQ or MXFP4, scales included): about ");
}

// Suggests to drop the first override without which it fits, or else all of them.
void suggest_overrides(const PlanInputs& inputs, Suggestions& out) {
  const std::vector<Override>& overrides = inputs.request.overrides;
  if (overrides.empty() || !is_own(inputs.request)) return;
  for (std::size_t i = 0; i < overrides.size(); ++i) {
    Request request = inputs.request;
    request.overrides.erase(request.overrides.begin() + static_cast<std::ptrdiff_t>(i));
    if (!out.would_fit(inputs.tree, inputs.machine, request)) continue;
    out.add("without the override " + overrides[i].match + "=" + overrides[i].device, request);
    return;
  }
  Request request = inputs.request;
  request.overrides.clear();
  if (overrides.size() > 1 && out.would_fit(inputs.tree, inputs.machine, request)) {
    out.add("without the overrides", request);
  }
}

// Suggests how much more host RAM would be enough, in whole GiB.
void suggest_host(const PlanInputs& inputs, Suggestions& out) {
  const std::uint32_t host = inputs.time.host();
  if (host == kNone || inputs.request.never_offload || !is_own(inputs.request)) return;
  const auto fits = [&](std::uint64_t more, Machine& machine, Request& request) {
    machine = inputs.machine;
    request = inputs.request;
    machine.devices[host].capacity += more << 30;
    machine.devices[host].total += more << 30;
    if (request.max_memory) {
      for (Budget& budget : *request.max_memory) {
        if (normal_device_name(budget.device) == "cpu") budget.bytes += more << 30;
      }
    }
    return out.would_fit(inputs.tree, machine, request);
  };
  Machine machine;
  Request request;
  std::uint64_t low = 0;
  std::uint64_t high = (inputs.tree.bytes() >> 29) + 2;  // twice the weights
  if (!fits(high, machine, request)) return;
  while (high - low > 1) {
    const std::uint64_t middle = low + (high - low) / 2;
    (fits(middle, machine, request) ? high : low) = middle;
  }
  fits(high, machine, request);
  out.add(std::to_string(high) + " GiB more host RAM", inputs.tree, machine, request);
}

void suggest_devices(const PlanInputs& inputs, Suggestions& out) {
  if (inputs.request.never_offload) {
    Request request = inputs.request;
    request.never_offload = false;
    if (out.would_fit(inputs.tree, inputs.machine, request)) {
      out.add(
          "without --never-offload, layers that the gpus have no space for go to the cpu or the "
          "disk",
          request);
    }
  }
  suggest_overrides(inputs, out);
  suggest_host(inputs, out);
  if (!inputs.request.excluded.empty()) {
    Request request = inputs.request;
    request.excluded.clear();
    if (out.would_fit(inputs.tree, inputs.machine, request)) out.add("exclude no device", request);
  }
  if (!is_own(inputs.request)) return;
  if (!inputs.request.never_offload && inputs.machine.find("disk") == nullptr) {
    Machine machine = inputs.machine;
    Device disk;
    disk.name = "disk";
    disk.kind = DeviceKind::kDisk;
    disk.capacity = disk.total = 1ull << 50;
    machine.devices.push_back(disk);
    if (out.would_fit(inputs.tree, machine, inputs.request)) {
      out.add("allow the disk: give the machine a device 'disk'", inputs.tree, machine,
              inputs.request);
    }
  }
  std::vector<Device> kinds;
  for (const Device& device : inputs.machine.devices) {
    const bool known = std::any_of(kinds.begin(), kinds.end(), [&](const Device& kind) {
      return kind.capacity == device.capacity && kind.memory_bandwidth == device.memory_bandwidth;
    });
    if (is_gpu(device.kind) && !known) kinds.push_back(device);
  }
  for (const Device& kind : kinds) {
    Machine machine = inputs.machine;
    Request request = inputs.request;
    for (int more = 1; more <= 8; ++more) {
      add_gpu(kind, machine, request);
      if (!out.would_fit(inputs.tree, machine, request)) continue;
      out.add(std::to_string(more) + " more GPU" + (more > 1 ? "s" : "") + " like gpu " +
                  kind.name + " (" + format_size(kind.capacity) + ")",
              inputs.tree, machine, request);
      break;
    }
  }
}

}  // namespace

std::vector<std::string> find_suggestions(const PlanInputs& inputs, const PlanOnce& plan_once) {
  Suggestions out(inputs, plan_once);
  if (inputs.request.cpu_memory != CpuMemory::kMmap) {
    Request request = inputs.request;
    request.cpu_memory = CpuMemory::kMmap;
    out.add("--cpu-memory mmap: weights in host RAM are mapped, not copied", request);
  }
  suggest_workload(inputs, out);
  suggest_weights(inputs, out);
  suggest_devices(inputs, out);
  if (!is_own(inputs.request)) {
    Request request = inputs.request;
    request.policy = Policy::kAuto;
    request.device_map.reset();
    const Machine machine = without_implied_disk(inputs);
    if (out.would_fit(inputs.tree, machine, request)) {
      out.add("--policy auto: it counts KV cache and workspace, and fits", inputs.tree, machine,
              request);
    }
  }
  return out.take();
}

std::string find_cause(const PlanInputs& inputs) {
  if (!is_own(inputs.request)) return "";
  const auto fits_without = [&](const auto& lift) {
    Request request = inputs.request;
    lift(request);
    return own_would_fit(inputs.tree, inputs.machine, request);
  };
  const Request& asked = inputs.request;
  if (asked.never_offload) {
    for (const Override& override_ : asked.overrides) {
      const std::uint32_t device = inputs.device(override_.device);
      if (device == kNone || inputs.is_gpu(device)) continue;
      return "--never-offload, and the override " + override_.match + "=" + override_.device +
             ", which puts weights off the GPUs";
    }
  }
  if (asked.never_offload && fits_without([](Request& r) { r.never_offload = false; })) {
    return "--never-offload: the GPUs alone do not have the space";
  }
  if (!asked.overrides.empty() && fits_without([](Request& r) { r.overrides.clear(); })) {
    return "the overrides: what they put on a device does not fit there with the rest";
  }
  if (!asked.no_split.empty() && fits_without([](Request& r) { r.no_split.clear(); })) {
    return "--no-split: what it keeps together fits on no device";
  }
  if (!asked.excluded.empty() && fits_without([](Request& r) { r.excluded.clear(); })) {
    return "the excluded devices: without them there is too little space";
  }
  std::uint64_t need = 0;
  std::uint64_t cache = 0;
  for (const Unit& unit : inputs.chain.units) {
    need += unit.weights + unit.computed + unit.logits;
    cache += unit.kv_bytes;
  }
  std::uint64_t have = 0;
  for (std::uint32_t d = 0; d < inputs.spaces.size(); ++d) {
    if (!inputs.usable[d]) continue;
    if (asked.never_offload && !inputs.is_gpu(d)) continue;
    have += std::min({inputs.spaces[d].bytes, inputs.spaces[d].weight_bytes, kUnlimited / 64});
  }
  return "memory: weights of " + format_size(need) + " and a KV cache of " + format_size(cache) +
         ", besides workspaces, do not fit into the " + format_size(have) +
         " of all devices that may be used";
}

std::string load_cause(const PlanInputs& inputs, const LoadPeak& peak) {
  std::uint64_t host = 0;  // of all NUMA nodes
  for (std::uint32_t d = 0; d < inputs.spaces.size(); ++d) {
    if (inputs.machine.devices[d].kind == DeviceKind::kCpu) host += inputs.spaces[d].bytes;
  }
  return "the load peak: loading takes " + format_size(peak.host_bytes) +
         " of host RAM, which has " + format_size(host);
}

}  // namespace berth
