#include "planner/explain/reasons.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "planner/machine/sizes.h"

namespace berth {
namespace {

// A run: units [first, last] of one device.
struct Run {
  std::uint32_t first = 0;
  std::uint32_t last = 0;
  std::uint32_t device = kNone;
};

std::vector<Run> find_runs(const PlanInputs& inputs,
                           const std::vector<std::uint32_t>& tensor_device) {
  std::vector<Run> runs;
  for (std::uint32_t u = 0; u < inputs.chain.units.size(); ++u) {
    const Unit& unit = inputs.chain.units[u];
    if (unit.tensors.empty()) continue;
    const std::uint32_t device = tensor_device[unit.anchor];
    if (!runs.empty() && runs.back().device == device) {
      runs.back().last = u;
    } else {
      runs.push_back({u, u, device});
    }
  }
  return runs;
}

std::string ordinal(std::size_t n) {
  static constexpr const char* kWords[] = {"fastest", "second fastest", "third fastest",
                                           "fourth fastest"};
  return n < 4 ? kWords[n] : std::to_string(n + 1) + "th fastest";
}

// "the only gpu", "one of 8 equally fast gpus", "second fastest gpu" or "one of the fastest gpus".
std::string rank(const PlanInputs& inputs, std::uint32_t device) {
  std::size_t faster = 0;
  std::size_t equal = 0;
  std::size_t gpus = 0;
  const double own = inputs.machine.devices[device].memory_bandwidth;
  for (std::uint32_t d = 0; d < inputs.machine.devices.size(); ++d) {
    if (!inputs.is_gpu(d) || !inputs.usable[d]) continue;
    ++gpus;
    const double rate = inputs.machine.devices[d].memory_bandwidth;
    if (rate > own) ++faster;
    if (rate == own) ++equal;
  }
  if (gpus == 1) return "the only gpu";
  if (equal == gpus) return "one of " + std::to_string(gpus) + " equally fast gpus";
  return (equal > 1 ? "one of the " : "") + ordinal(faster) + (equal > 1 ? " gpus" : " gpu");
}

std::uint64_t resident(const Unit& unit) { return unit.weights + unit.kv_bytes + unit.logits; }

// How much would still fit on the device, whose next unit would be `next`: "one more layer would
// need 1.20 GiB more", "space for 2 more", or what is free if the chain ends here.
std::string margin(const PlanInputs& inputs, const DeviceLedger& row, const Space& space,
                   std::uint32_t next) {
  const std::vector<Unit>& units = inputs.chain.units;
  std::uint64_t free = row.free;
  if (space.weight_bytes < kUnlimited) {
    free = std::min(free, space.weight_bytes > row.weights ? space.weight_bytes - row.weights : 0);
  }
  std::uint64_t need = 0;
  std::uint32_t fit = 0;
  while (next < units.size() && need + resident(units[next]) <= free) {
    need += resident(units[next++]);
    ++fit;
  }
  if (next >= units.size()) return format_size(free) + " to spare";
  if (fit > 0) return "space for " + std::to_string(fit) + " more";
  return "one more layer would need " + format_size(resident(units[next]) - free) + " more";
}

// Why a run is not on a GPU: what the GPU that came nearest lacks.
std::string spill_reason(const PlanInputs& inputs, const Ledger& ledger, const Run& run) {
  // `nearest` is the GPU that lacks the least for the run's first layer.
  std::uint32_t layer = run.first;
  while (layer < run.last && !inputs.chain.units[layer].block) ++layer;
  std::uint64_t least = kUnlimited;
  std::uint32_t nearest = kNone;
  for (std::uint32_t d = 0; d < ledger.devices.size(); ++d) {
    if (!inputs.is_gpu(d) || !inputs.usable[d]) continue;
    const std::uint64_t need = resident(inputs.chain.units[layer]);
    const std::uint64_t lack = need > ledger.devices[d].free ? need - ledger.devices[d].free : 0;
    if (lack < least) {
      least = lack;
      nearest = d;
    }
  }
  if (nearest == kNone) return inputs.is_gpu(run.device) ? "" : "there is no gpu to use";
  std::uint64_t bytes = 0;
  for (std::uint32_t u = run.first; u <= run.last; ++u) bytes += resident(inputs.chain.units[u]);
  std::string out = "the gpus are full: ";
  if (least > 0) {
    out += "one more layer would need " + format_size(least) + " more on " + inputs.label(nearest) +
           ", ";
  }
  return out + "all of these " + format_size(bytes);
}

// "; streamed to gpu 0 for the prompt, computed by the cpu for each token", or "; the cpu computes
// them".
std::string how_it_runs(const PlanInputs& inputs, const Streaming& streaming, std::uint32_t gpu) {
  if (!streaming.any() || gpu == kNone) return "; the cpu computes them";
  const std::string where = "; streamed to " + inputs.label(gpu);
  if (streaming.prompt && streaming.token) return where;
  return where + (streaming.prompt ? " for the prompt, computed by the cpu for each token"
                                   : " for each token, computed by the cpu for the prompt");
}

std::string run_reason(const PlanInputs& inputs, const Ledger& ledger, const Streaming& streaming,
                       const Run& run, const std::set<std::uint32_t>& used) {
  const DeviceKind kind = inputs.machine.devices[run.device].kind;
  const bool embedding =
      run.first == run.last && inputs.chain.units[run.first].module == inputs.tree.facts.embedding;
  if (kind == DeviceKind::kDisk) {
    return "neither gpu nor host RAM has space; read from the checkpoint when needed";
  }
  if (kind == DeviceKind::kCpu) {
    if (embedding && used.size() > 1) {
      return "a token reads one row of it: in host RAM it costs next to nothing, and the gpu has " +
             format_size(resident(inputs.chain.units[run.first])) + " more for layers";
    }
    const bool blocks = inputs.chain.units[run.last].block || inputs.chain.units[run.first].block;
    // Of several NUMA nodes, only the first streams.
    const std::uint32_t gpu = run.device == inputs.time.host() ? streaming.gpu : kNone;
    return spill_reason(inputs, ledger, run) + (blocks ? how_it_runs(inputs, streaming, gpu) : "");
  }
  if (used.size() == 1) {
    return rank(inputs, run.device) + "; holds the whole model, " +
           format_size(ledger.devices[run.device].free) + " to spare";
  }
  return rank(inputs, run.device) + "; " +
         margin(inputs, ledger.devices[run.device], inputs.spaces[run.device], run.last + 1);
}

std::string experts_reason(const PlanInputs& inputs, const Unit& unit, std::uint32_t home,
                           std::uint32_t device, const Streaming& streaming) {
  const long percent = std::lround(unit.experts_fraction * 100);
  std::string out = "a token reads " + (percent > 0 ? std::to_string(percent) : "under 1") +
                    " % of the experts: the gpus keep what every token reads";
  if (inputs.machine.devices[device].kind == DeviceKind::kDisk) {
    return out + "; host RAM is full, so they are read from the checkpoint";
  }
  return out + how_it_runs(inputs, streaming, device == inputs.time.host() ? home : kNone);
}

}  // namespace

Reasons auto_reasons(const PlanInputs& inputs, const std::vector<std::uint32_t>& tensor_device,
                     const Ledger& ledger, const Streaming& streaming, bool packed) {
  const Chain& chain = inputs.chain;
  Reasons reasons;
  reasons.units.resize(chain.units.size());
  reasons.experts.resize(chain.units.size());
  const std::vector<Run> runs = find_runs(inputs, tensor_device);
  std::set<std::uint32_t> used;
  used.insert(tensor_device.begin(), tensor_device.end());
  std::vector<std::size_t> runs_on(inputs.machine.devices.size(), 0);
  for (const Run& run : runs) ++runs_on[run.device];
  for (const Run& run : runs) {
    std::string words = run_reason(inputs, ledger, streaming, run, used);
    if (packed && inputs.is_gpu(run.device) && runs_on[run.device] > 1) {
      words += "; in " + std::to_string(runs_on[run.device]) +
               " runs, as one for each device does not fit";
    }
    for (std::uint32_t u = run.first; u <= run.last; ++u) reasons.units[u] = words;
  }
  for (const auto& group : chain.tied) {
    const std::string partner(inputs.tree.modules[chain.units[group[0]].module].name);
    const std::uint32_t with = tensor_device[chain.units[group[0]].anchor];
    for (std::size_t i = 1; i < group.size() && used.size() > 1; ++i) {
      reasons.units[group[i]] = tensor_device[chain.units[group[i]].anchor] == with
                                    ? "tied to " + partner + ", stored once, so on its device"
                                    : "tied to " + partner + "; a copy of " +
                                          format_size(chain.units[group[i]].tied) +
                                          " here saves a hop for each token";
    }
  }
  for (std::uint32_t u = 0; u < chain.units.size(); ++u) {
    const Unit& unit = chain.units[u];
    for (TensorId t : unit.tensors) {
      const std::uint32_t home = tensor_device[unit.anchor];
      if (tensor_device[t] == home || chain.expert[t] == 0) continue;
      reasons.experts[u] = experts_reason(inputs, unit, home, tensor_device[t], streaming);
      break;
    }
  }
  return reasons;
}

}  // namespace berth
