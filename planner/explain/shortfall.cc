#include "planner/explain/shortfall.h"

#include <algorithm>
#include <utility>

#include "planner/search/auto.h"
#include "planner/plan/device_map.h"
#include "planner/explain/reasons.h"

namespace berth {
namespace {

// True where the placement is ours to choose.
bool is_own(const Request& request) {
  return !request.device_map &&
         (request.policy == Policy::kAuto || request.policy == Policy::kThroughput);
}

// The machine as it was given: Accelerate's policies always have a disk, ours only a stated one.
Machine without_implied_disk(const Setting& setting) {
  Machine machine = setting.machine;
  const std::uint32_t disk = setting.device("disk");
  const auto& budgets = setting.request.max_memory;
  const bool stated = budgets && std::any_of(budgets->begin(), budgets->end(),
                                             [](const Budget& b) { return b.device == "disk"; });
  if (disk != kNone && setting.rooms[disk].budget_only && !stated) {
    machine.devices.erase(machine.devices.begin() + disk);
  }
  return machine;
}

// For a policy of ours without looking for the best plan; what comes of it is planned before it is
// suggested.
bool would_fit(const ModelTree& tree, const Machine& machine, const Request& request) {
  if (is_own(request)) {
    const Setting setting(tree, machine, request);
    if (auto_fits(setting)) return true;
    if (!setting.may_change_runner()) return false;
    Request other = request;
    other.disk_runner = other_than(setting.time.disk_runner());
    return auto_fits(Setting(tree, machine, other));
  }
  return plan_once(tree, machine, request).fits();
}

// The suggestions so far; each is planned before it is taken in.
class Suggestions {
 public:
  explicit Suggestions(const Setting& setting) : setting_(setting) {}

  bool add(std::string words, const ModelTree& tree, const Machine& machine,
           const Request& request) {
    if (!plan_once(tree, machine, request).fits()) return false;
    words_.push_back(std::move(words));
    return true;
  }
  bool add(std::string words, const Request& request) {
    return add(std::move(words), setting_.tree, setting_.machine, request);
  }
  std::vector<std::string> take() { return std::move(words_); }

 private:
  const Setting& setting_;
  std::vector<std::string> words_;
};

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

// The model with the matrices of its blocks quantised to `dtype`, scales included: one sixteenth of
// 4-bit weights and one thirty-second of 8-bit ones more, which covers groups of 128 with 16-bit
// scales and zero points. Nothing where no block holds 16- or 32-bit matrices.
std::optional<ModelTree> quantised(const Setting& setting, DType dtype) {
  ModelTree narrow = setting.tree;
  bool any = false;
  for (const Unit& unit : setting.chain.units) {
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

// A GPU like `like` more, with its links to the host and its budget.
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
                                  [](const Device& d) { return d.kind != DeviceKind::kCuda; });
  machine.devices.insert(after, device);
  if (!request.max_memory) return;
  for (const Budget& budget : std::vector<Budget>(*request.max_memory)) {
    if (budget.device == like.name) request.max_memory->push_back({device.name, budget.bytes});
  }
}

void suggest_workload(const Setting& setting, Suggestions& out) {
  if (const std::uint64_t context = fitting_context(setting); context > 0) {
    Request request = setting.request;
    request.workload.context = context;
    std::string words = "--context " + std::to_string(context);
    if (context < setting.workload.prompt_tokens) {
      words += " --prompt-tokens " + std::to_string(context);
      request.workload.prompt_tokens = context;
    }
    out.add(words + " (now " + std::to_string(setting.workload.context) + ")", request);
  }
  if (setting.workload.kv_dtype && dtype_bits(*setting.workload.kv_dtype) > 8) {
    Request request = setting.request;
    request.workload.kv_dtype = DType::kF8E4M3;
    if (would_fit(setting.tree, setting.machine, request)) {
      const bool wide = dtype_bits(*setting.workload.kv_dtype) > 16;
      out.add(std::string("--kv-dtype float8_e4m3fn: ") + (wide ? "a quarter of" : "half") +
                  " the KV cache",
              request);
    }
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
    request.workload.batch = low;
    if (low > 0) {
      out.add("--batch " + std::to_string(low) + " (now " + std::to_string(setting.workload.batch) +
                  ")",
              request);
    }
  }
}

void suggest_weights(const Setting& setting, Suggestions& out) {
  const auto attempt = [&](const std::optional<ModelTree>& narrow, const std::string& words) {
    return narrow && would_fit(*narrow, setting.machine, setting.request) &&
           out.add(words + gib(narrow->bytes()), *narrow, setting.machine, setting.request);
  };
  if (attempt(in_16_bits(setting.tree), "--dtype bfloat16: half the weights of float32, ")) return;
  if (attempt(quantised(setting, DType::kI8),
              "an 8-bit checkpoint of the model (int8 or FP8, scales included): about ")) {
    return;
  }
  attempt(quantised(setting, DType::kF4),
          "a 4-bit checkpoint of the model (GPTQ, AWQ or MXFP4, scales included): about ");
}

// The first override without which it fits, else all of them.
void suggest_overrides(const Setting& setting, Suggestions& out) {
  const std::vector<Override>& overrides = setting.request.overrides;
  if (overrides.empty() || !is_own(setting.request)) return;
  for (std::size_t i = 0; i < overrides.size(); ++i) {
    Request request = setting.request;
    request.overrides.erase(request.overrides.begin() + static_cast<std::ptrdiff_t>(i));
    if (!would_fit(setting.tree, setting.machine, request)) continue;
    out.add("without the override " + overrides[i].match + "=" + overrides[i].device, request);
    return;
  }
  Request request = setting.request;
  request.overrides.clear();
  if (overrides.size() > 1 && would_fit(setting.tree, setting.machine, request)) {
    out.add("without the overrides", request);
  }
}

// How much more RAM of the host would do, in whole GiB.
void suggest_host(const Setting& setting, Suggestions& out) {
  const std::uint32_t host = setting.time.host();
  if (host == kNone || setting.request.never_offload || !is_own(setting.request)) return;
  const auto fits = [&](std::uint64_t more, Machine& machine, Request& request) {
    machine = setting.machine;
    request = setting.request;
    machine.devices[host].capacity += more << 30;
    machine.devices[host].total += more << 30;
    if (request.max_memory) {
      for (Budget& budget : *request.max_memory) {
        if (normal_device_name(budget.device) == "cpu") budget.bytes += more << 30;
      }
    }
    return would_fit(setting.tree, machine, request);
  };
  Machine machine;
  Request request;
  std::uint64_t low = 0;
  std::uint64_t high = (setting.tree.bytes() >> 29) + 2;  // twice the weights
  if (!fits(high, machine, request)) return;
  while (high - low > 1) {
    const std::uint64_t middle = low + (high - low) / 2;
    (fits(middle, machine, request) ? high : low) = middle;
  }
  fits(high, machine, request);
  out.add(std::to_string(high) + " GiB more host RAM", setting.tree, machine, request);
}

void suggest_devices(const Setting& setting, Suggestions& out) {
  if (setting.request.never_offload) {
    Request request = setting.request;
    request.never_offload = false;
    if (would_fit(setting.tree, setting.machine, request)) {
      out.add(
          "without --never-offload, layers that the gpus have no room for go to the cpu or the "
          "disk",
          request);
    }
  }
  suggest_overrides(setting, out);
  suggest_host(setting, out);
  if (!setting.request.excluded.empty()) {
    Request request = setting.request;
    request.excluded.clear();
    if (would_fit(setting.tree, setting.machine, request)) out.add("exclude no device", request);
  }
  if (!is_own(setting.request)) return;
  if (!setting.request.never_offload && setting.machine.find("disk") == nullptr) {
    Machine machine = setting.machine;
    Device disk;
    disk.name = "disk";
    disk.kind = DeviceKind::kDisk;
    disk.capacity = disk.total = 1ull << 50;
    machine.devices.push_back(disk);
    if (would_fit(setting.tree, machine, setting.request)) {
      out.add("allow the disk: give the machine a device 'disk'", setting.tree, machine,
              setting.request);
    }
  }
  std::vector<Device> kinds;
  for (const Device& device : setting.machine.devices) {
    const bool known = std::any_of(kinds.begin(), kinds.end(), [&](const Device& kind) {
      return kind.capacity == device.capacity && kind.memory_bandwidth == device.memory_bandwidth;
    });
    if (device.kind == DeviceKind::kCuda && !known) kinds.push_back(device);
  }
  for (const Device& kind : kinds) {
    Machine machine = setting.machine;
    Request request = setting.request;
    for (int more = 1; more <= 8; ++more) {
      add_gpu(kind, machine, request);
      if (!would_fit(setting.tree, machine, request)) continue;
      out.add(std::to_string(more) + " more GPU" + (more > 1 ? "s" : "") + " like gpu " +
                  kind.name + " (" + gib(kind.capacity) + ")",
              setting.tree, machine, request);
      break;
    }
  }
}

}  // namespace

std::vector<std::string> find_suggestions(const Setting& setting) {
  Suggestions out(setting);
  if (setting.request.cpu_memory != CpuMemory::kMmap) {
    Request request = setting.request;
    request.cpu_memory = CpuMemory::kMmap;
    out.add("--cpu-memory mmap: weights in host RAM are mapped, not copied", request);
  }
  suggest_workload(setting, out);
  suggest_weights(setting, out);
  suggest_devices(setting, out);
  if (!is_own(setting.request)) {
    Request request = setting.request;
    request.policy = Policy::kAuto;
    request.device_map.reset();
    const Machine machine = without_implied_disk(setting);
    if (would_fit(setting.tree, machine, request)) {
      out.add("--policy auto: it counts KV cache and workspace, and fits", setting.tree, machine,
              request);
    }
  }
  return out.take();
}

std::string find_cause(const Setting& setting) {
  if (!is_own(setting.request)) return "";
  const auto fits_without = [&](const auto& lift) {
    Request request = setting.request;
    lift(request);
    return would_fit(setting.tree, setting.machine, request);
  };
  const Request& asked = setting.request;
  if (asked.never_offload) {
    for (const Override& override_ : asked.overrides) {
      const std::uint32_t device = setting.device(override_.device);
      if (device == kNone || setting.is_gpu(device)) continue;
      return "--never-offload, and the override " + override_.match + "=" + override_.device +
             ", which puts weights off the GPUs";
    }
  }
  if (asked.never_offload && fits_without([](Request& r) { r.never_offload = false; })) {
    return "--never-offload: the GPUs alone have not the room";
  }
  if (!asked.overrides.empty() && fits_without([](Request& r) { r.overrides.clear(); })) {
    return "the overrides: what they put on a device does not fit there with the rest";
  }
  if (!asked.no_split.empty() && fits_without([](Request& r) { r.no_split.clear(); })) {
    return "--no-split: what it keeps together fits on no device";
  }
  if (!asked.excluded.empty() && fits_without([](Request& r) { r.excluded.clear(); })) {
    return "the excluded devices: without them there is too little room";
  }
  std::uint64_t need = 0;
  std::uint64_t cache = 0;
  for (const Unit& unit : setting.chain.units) {
    need += unit.weights + unit.computed + unit.logits;
    cache += unit.kv_bytes;
  }
  std::uint64_t have = 0;
  for (std::uint32_t d = 0; d < setting.rooms.size(); ++d) {
    if (!setting.usable[d]) continue;
    if (asked.never_offload && !setting.is_gpu(d)) continue;
    have += std::min({setting.rooms[d].bytes, setting.rooms[d].weight_bytes, kUnlimited / 64});
  }
  return "memory: weights of " + gib(need) + " and a KV cache of " + gib(cache) +
         ", beside workspaces, for " + gib(have) + " on all devices that may be used";
}

std::string load_cause(const Setting& setting, const LoadPeak& peak) {
  return "the load peak: loading takes " + gib(peak.host_bytes) + " of host RAM, which has " +
         gib(setting.rooms[setting.device("cpu")].bytes);
}

}  // namespace berth
