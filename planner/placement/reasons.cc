#include "planner/placement/reasons.h"

#include <algorithm>
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

std::vector<Run> find_runs(const Setting& setting, const AutoPlan& plan) {
  std::vector<Run> runs;
  for (std::uint32_t u = 0; u < setting.chain.units.size(); ++u) {
    const Unit& unit = setting.chain.units[u];
    if (unit.tensors.empty()) continue;
    const std::uint32_t device = plan.tensor_device[unit.tensors[0]];
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

// "fastest gpu", "second fastest gpu", or, where all are alike, "gpu 1 of 8 alike".
std::string rank(const Setting& setting, std::uint32_t device) {
  std::size_t faster = 0;
  std::size_t equal = 0;
  std::size_t gpus = 0;
  const double own = setting.machine.devices[device].memory_bandwidth;
  for (std::uint32_t d = 0; d < setting.machine.devices.size(); ++d) {
    if (!setting.is_gpu(d) || !setting.usable[d]) continue;
    ++gpus;
    const double rate = setting.machine.devices[d].memory_bandwidth;
    if (rate > own) ++faster;
    if (rate == own) ++equal;
  }
  if (gpus == 1) return "the only gpu";
  if (equal == gpus) return "one of " + std::to_string(gpus) + " equally fast gpus";
  return (equal > 1 ? "one of the " : "") + ordinal(faster) + (equal > 1 ? " gpus" : " gpu");
}

std::uint64_t resident(const Unit& unit) { return unit.weights + unit.kv_bytes + unit.logits; }

// "3 more layers would need 1.2 GiB more", or "room for 2 more layers".
std::string margin(const Setting& setting, const DeviceLedger& row, const Room& room,
                   std::uint32_t next) {
  const std::vector<Unit>& units = setting.chain.units;
  std::uint64_t free = row.free;
  if (room.weight_bytes < kUnlimited) {
    free = std::min(free, room.weight_bytes > row.weights ? room.weight_bytes - row.weights : 0);
  }
  std::uint64_t need = 0;
  std::uint32_t fit = 0;
  while (next < units.size() && need + resident(units[next]) <= free) {
    need += resident(units[next++]);
    ++fit;
  }
  if (next >= units.size()) return "room to spare: " + gib(free);
  if (fit > 0) return "room for " + std::to_string(fit) + " more";
  return "one more layer would need " + gib(resident(units[next]) - free) + " more";
}

std::string spill_reason(const Setting& setting, const Ledger& ledger, const Run& run) {
  // The GPU that came nearest to taking the run's first unit.
  std::uint64_t least = kUnlimited;
  std::uint32_t nearest = kNone;
  for (std::uint32_t d = 0; d < ledger.devices.size(); ++d) {
    if (!setting.is_gpu(d) || !setting.usable[d]) continue;
    const std::uint64_t need = resident(setting.chain.units[run.first]);
    const std::uint64_t lack = need > ledger.devices[d].free ? need - ledger.devices[d].free : 0;
    if (lack < least) {
      least = lack;
      nearest = d;
    }
  }
  if (nearest == kNone) return setting.is_gpu(run.device) ? "" : "there is no gpu to use";
  std::uint64_t bytes = 0;
  for (std::uint32_t u = run.first; u <= run.last; ++u) bytes += resident(setting.chain.units[u]);
  std::string out = "the gpus are full: ";
  if (least > 0) {
    out += "one more layer would need " + gib(least) + " more on " + setting.label(nearest) + ", ";
  }
  return out + "all of these " + gib(bytes);
}

std::string run_reason(const Setting& setting, const AutoPlan& plan, const Ledger& ledger,
                       const Run& run, const std::set<std::uint32_t>& used) {
  const DeviceKind kind = setting.machine.devices[run.device].kind;
  if (kind == DeviceKind::kDisk) {
    return "neither gpu nor host RAM has room; read from the checkpoint when needed";
  }
  if (kind == DeviceKind::kCpu) {
    std::string out = spill_reason(setting, ledger, run);
    if (plan.stream != kNone)
      out += "; the prompt streams them through " + setting.label(plan.stream);
    return out;
  }
  if (used.size() == 1) {
    return rank(setting, run.device) + "; holds the whole model, " +
           gib(ledger.devices[run.device].free) + " to spare";
  }
  return rank(setting, run.device) + "; " +
         margin(setting, ledger.devices[run.device], setting.rooms[run.device], run.last + 1);
}

}  // namespace

std::string gib(std::uint64_t bytes) { return format_size(bytes); }

std::vector<std::string> auto_reasons(const Setting& setting, const AutoPlan& plan,
                                      const Ledger& ledger) {
  const Chain& chain = setting.chain;
  std::vector<std::string> reasons(chain.units.size());
  const std::vector<Run> runs = find_runs(setting, plan);
  std::set<std::uint32_t> used;
  for (const Run& run : runs) used.insert(run.device);
  for (const Run& run : runs) {
    const std::string words = run_reason(setting, plan, ledger, run, used);
    for (std::uint32_t u = run.first; u <= run.last; ++u) reasons[u] = words;
  }
  for (const auto& group : chain.joined) {
    for (std::size_t i = 1; i < group.size(); ++i) {
      const std::string& partner = setting.tree.modules[chain.units[group[0]].module].name;
      std::string& words = reasons[group[i]];
      if (used.size() > 1) words = "tied to " + partner + ", stored once, so on its device";
    }
  }
  for (std::uint32_t u = 0; u < chain.units.size(); ++u) {
    for (TensorId t : chain.units[u].tensors) {
      if (setting.pinned_by[t] == kNone) continue;
      reasons[u] = "override '" + setting.request.overrides[setting.pinned_by[t]].match + "'";
      break;
    }
  }
  return reasons;
}

}  // namespace berth
