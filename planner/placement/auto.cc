#include "planner/placement/auto.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "planner/placement/pipeline.h"

namespace berth {
namespace {

using Ids = std::vector<std::uint32_t>;

// The devices of a tier, the quickest first: the order in which equals fill up.
struct Tier {
  Ids devices;  // indices into Machine::devices
  bool host = false;
  bool disk = false;
};

std::vector<Tier> make_tiers(const Setting& setting) {
  Ids gpus, cpu, disk;
  for (std::uint32_t d = 0; d < setting.machine.devices.size(); ++d) {
    if (!setting.usable[d]) continue;
    const DeviceKind kind = setting.machine.devices[d].kind;
    (kind == DeviceKind::kCuda ? gpus : kind == DeviceKind::kCpu ? cpu : disk).push_back(d);
  }
  std::stable_sort(gpus.begin(), gpus.end(), [&](std::uint32_t a, std::uint32_t b) {
    const Device& x = setting.machine.devices[a];
    const Device& y = setting.machine.devices[b];
    return std::pair(x.memory_bandwidth, x.flops) > std::pair(y.memory_bandwidth, y.flops);
  });
  std::vector<Tier> tiers;
  if (!gpus.empty()) tiers.push_back({gpus, false, false});
  if (setting.request.never_offload) return tiers;
  Ids both = gpus;
  both.insert(both.end(), cpu.begin(), cpu.end());
  if (!cpu.empty()) tiers.push_back({both, true, false});
  both.insert(both.end(), disk.begin(), disk.end());
  if (!disk.empty()) tiers.push_back({both, !cpu.empty(), true});
  return tiers;
}

// What overrides settle before anything is chosen: whole units, and loose tensors of others.
struct Pins {
  Ids fixed;                         // by unit: device, or kNone
  std::vector<std::uint64_t> loose;  // by device: bytes of pinned parts of units that are not
  std::vector<std::uint64_t> gone;   // by unit: bytes that went with them
};

Pins make_pins(const Setting& setting) {
  const Chain& chain = setting.chain;
  Pins pins{Ids(chain.units.size(), kNone),
            std::vector<std::uint64_t>(setting.machine.devices.size(), 0),
            std::vector<std::uint64_t>(chain.units.size(), 0)};
  for (std::uint32_t u = 0; u < chain.units.size(); ++u) {
    const Unit& unit = chain.units[u];
    const bool whole = std::all_of(unit.tensors.begin(), unit.tensors.end(),
                                   [&](TensorId t) { return setting.pinned[t] != kNone; });
    if (whole && !unit.tensors.empty()) pins.fixed[u] = setting.pinned[unit.tensors[0]];
    for (TensorId t : unit.tensors) {
      const std::uint32_t device = setting.pinned[t];
      if (device == kNone || device == pins.fixed[u]) continue;
      if (setting.tree.tensors[t].tied_to != kNone) continue;  // counted with its first member
      pins.loose[device] += setting.tree.tensors[t].bytes();
      pins.gone[u] += setting.tree.tensors[t].bytes();
    }
  }
  for (const auto& group : chain.joined) {
    const auto pinned = std::find_if(group.begin(), group.end(),
                                     [&](std::uint32_t u) { return pins.fixed[u] != kNone; });
    if (pinned == group.end()) continue;
    for (std::uint32_t u : group) {
      if (pins.fixed[u] == kNone) pins.fixed[u] = pins.fixed[*pinned];
    }
  }
  return pins;
}

class Planner {
 public:
  Planner(const Setting& setting, bool bottleneck)
      : setting_(setting), bottleneck_(bottleneck), pins_(make_pins(setting)) {
    for (const auto& group : setting.chain.joined) {
      if (pins_.fixed[group[0]] == kNone) free_groups_.push_back(group);
    }
    for (const Unit& unit : setting.chain.units) {
      if (unit.block) slot_ = std::max(slot_, unit.weights);
    }
  }

  std::optional<AutoPlan> place(const Tier& tier);
  // The least room that, added to the tier's roomiest device, makes it fit.
  AutoPlan stretch(const Tier& tier);

 private:
  struct Choice {
    PipelinePlan plan;
    std::uint32_t stream = kNone;
  };
  // The tier's devices, then those of later tiers that pinned units stand on.
  Ids with_pinned(const Tier& tier) const;
  Pipeline build(const Tier& tier, std::uint32_t stream, bool slots) const;
  // Solves for every device that the groups of tied units could share.
  std::optional<PipelinePlan> solve(Pipeline pipeline) const;
  template <typename Try>
  void with_groups_at(Pipeline& pipeline, std::size_t group, Try attempt) const;
  double bound(const Tier& tier, double cost) const;
  AutoPlan finish(const Tier& tier, const Choice& choice) const;
  // The host's ledger under a placement with the plan's streaming.
  DeviceLedger host_row(const AutoPlan& plan, const Ids& tensor_device) const;

  const Setting& setting_;
  bool bottleneck_;
  Pins pins_;
  std::vector<Ids> free_groups_;
  std::uint64_t slot_ = 0;
  std::uint64_t host_short_ = 0;  // room of the host that units on disk turned out to need
  std::uint32_t stretched_ = kNone;
  std::uint64_t extra_ = 0;
};

double nanoseconds(double seconds) { return std::round(std::min(seconds, 4e6) * 1e9); }

std::uint64_t less(std::uint64_t a, std::uint64_t b) { return a > b ? a - b : 0; }

std::uint64_t used(const DeviceLedger& row) {
  return row.reserved + row.weights + row.kv_cache + row.workspace;
}

Ids Planner::with_pinned(const Tier& tier) const {
  Ids devices = tier.devices;
  for (std::uint32_t d = 0; d < setting_.machine.devices.size(); ++d) {
    const bool used = std::find(pins_.fixed.begin(), pins_.fixed.end(), d) != pins_.fixed.end();
    if (used && std::find(devices.begin(), devices.end(), d) == devices.end()) devices.push_back(d);
  }
  return devices;
}

Pipeline Planner::build(const Tier& tier, std::uint32_t stream, bool slots) const {
  const Chain& chain = setting_.chain;
  Pipeline out;
  const Ids devices = with_pinned(tier);
  for (std::uint32_t d : devices) {
    const Room& room = setting_.rooms[d];
    PipelineDevice device;
    std::uint64_t taken = pins_.loose[d];
    if (slots && d == stream) taken += 2 * slot_;
    if (tier.disk && setting_.machine.devices[d].kind == DeviceKind::kCpu) taken += host_short_;
    const std::uint64_t more = d == stretched_ ? extra_ : 0;
    device.room = less(room.bytes + more, taken);
    device.weight_room = less(room.weight_bytes + more, pins_.loose[d]);
    const bool chosen =
        std::find(tier.devices.begin(), tier.devices.end(), d) != tier.devices.end();
    device.open = chosen;
    out.devices.push_back(device);
  }
  for (std::uint32_t u = 0; u < chain.units.size(); ++u) {
    const Unit& unit = chain.units[u];
    PipelineUnit piece;
    piece.weights = less(unit.weights, pins_.gone[u]);
    piece.resident = piece.weights + unit.computed + unit.kv_bytes + unit.logits;
    piece.workspace = unit.activation;
    if (pins_.fixed[u] != kNone) {
      const auto at = std::find(devices.begin(), devices.end(), pins_.fixed[u]);
      piece.fixed = static_cast<std::uint32_t>(at - devices.begin());
    }
    out.units.push_back(piece);
    for (std::uint32_t d : devices) {
      out.time.push_back(nanoseconds(setting_.time.score(setting_.time.unit(unit, d, stream))));
    }
  }
  for (std::uint32_t a : devices) {
    for (std::uint32_t b : devices) {
      out.hop.push_back(a == b ? 0 : nanoseconds(setting_.time.score(setting_.time.hop(a, b))));
    }
  }
  return out;
}

template <typename Try>
void Planner::with_groups_at(Pipeline& pipeline, std::size_t group, Try attempt) const {
  if (group == free_groups_.size()) return attempt();
  // Many groups are rare; past two, the rest go with the first.
  const bool follow = group >= 2;
  const std::uint32_t leader = follow ? pipeline.units[free_groups_[0][0]].fixed : 0;
  for (std::uint32_t d = 0; d < pipeline.devices.size(); ++d) {
    if (follow && d != leader) continue;
    for (std::uint32_t u : free_groups_[group]) pipeline.units[u].fixed = d;
    with_groups_at(pipeline, group + 1, attempt);
  }
}

std::optional<PipelinePlan> Planner::solve(Pipeline pipeline) const {
  std::optional<PipelinePlan> best;
  with_groups_at(pipeline, 0, [&] {
    std::optional<PipelinePlan> plan =
        bottleneck_ ? solve_bottleneck(pipeline) : solve_latency(pipeline);
    if (plan && (!best || plan->cost < best->cost)) best = std::move(plan);
  });
  return best;
}

DeviceLedger Planner::host_row(const AutoPlan& plan, const Ids& tensor_device) const {
  const Ledger ledger = make_ledger(setting_.tree, setting_.machine, setting_.chain, setting_.rooms,
                                    setting_.time, tensor_device, plan.stream, plan.slot);
  return ledger.devices[setting_.device("cpu")];
}

std::optional<AutoPlan> Planner::place(const Tier& tier) {
  host_short_ = 0;
  for (int round = 0; round < 8; ++round) {
    const Pipeline resident = build(tier, kNone, false);
    std::optional<PipelinePlan> plan = solve(resident);
    std::uint32_t stream = kNone;
    const std::uint32_t streamer = setting_.time.best_streamer();
    if (tier.host && streamer != kNone && setting_.usable[streamer] && slot_ > 0) {
      std::optional<PipelinePlan> streamed = solve(build(tier, streamer, true));
      if (streamed && (!plan || streamed->cost < plan->cost)) {
        plan = std::move(streamed);
        stream = streamer;
      }
    }
    if (!plan) return std::nullopt;
    const Choice choice{*plan, stream};
    AutoPlan done = finish(tier, choice);
    // What units on disk keep on the host is known only now: solve again with that room gone.
    const std::uint32_t host = setting_.device("cpu");
    if (!tier.disk || host == kNone || host == stretched_) return done;
    const DeviceLedger all = host_row(done, done.tensor_device);
    if (all.over == 0) return done;
    Ids resident_only = done.tensor_device;
    for (std::uint32_t& device : resident_only) {
      if (device != kNone && setting_.machine.devices[device].kind == DeviceKind::kDisk) {
        device = kNone;
      }
    }
    const std::uint64_t for_disk = less(used(all), used(host_row(done, resident_only)));
    host_short_ = std::max(host_short_ + all.over, for_disk);
  }
  return std::nullopt;
}

AutoPlan Planner::finish(const Tier& tier, const Choice& choice) const {
  const Ids devices = with_pinned(tier);
  AutoPlan out;
  out.tensor_device = setting_.pinned;
  bool streamed = false;
  for (std::uint32_t u = 0; u < setting_.chain.units.size(); ++u) {
    const std::uint32_t device = devices[choice.plan.device[u]];
    streamed = streamed || setting_.machine.devices[device].kind == DeviceKind::kCpu;
    for (TensorId t : setting_.chain.units[u].tensors) {
      if (out.tensor_device[t] == kNone) out.tensor_device[t] = device;
    }
  }
  out.exact = choice.plan.exact;
  if (choice.stream != kNone && streamed) {
    out.stream = choice.stream;
    out.slot = slot_;
  }
  const double least = bound(tier, choice.plan.cost);
  if (choice.plan.cost > 0) {
    out.gap = std::max(0.0, (choice.plan.cost - least) / choice.plan.cost);
    if (out.gap < 1e-6) out.gap = 0;
  }
  return out;
}

double Planner::bound(const Tier& tier, double cost) const {
  const std::uint32_t streamer = tier.host ? setting_.time.best_streamer() : kNone;
  const Pipeline pipeline = build(tier, streamer, false);
  if (!bottleneck_) return latency_bound(pipeline, cost);
  // Sharing the work in proportion to speed, memory aside: for any weights w that sum to one, the
  // slowest device takes at least the sum over units of the least w x time.
  std::vector<double> weight(pipeline.devices.size(), 0);
  for (std::size_t d = 0; d < weight.size(); ++d) {
    double all = 0;
    for (std::size_t u = 0; u < pipeline.units.size(); ++u) all += pipeline.unit_time(u, d);
    weight[d] = all > 0 ? 1 / all : 0;
  }
  const double sum = std::accumulate(weight.begin(), weight.end(), 0.0);
  double least = 0;
  for (std::size_t u = 0; u < pipeline.units.size() && sum > 0; ++u) {
    double best = pipeline.unit_time(u, 0) * weight[0];
    for (std::size_t d = 1; d < weight.size(); ++d) {
      best = std::min(best, pipeline.unit_time(u, d) * weight[d]);
    }
    least += best / sum;
  }
  return least;
}

AutoPlan Planner::stretch(const Tier& tier) {
  stretched_ = *std::max_element(
      tier.devices.begin(), tier.devices.end(), [&](std::uint32_t a, std::uint32_t b) {
        const Room& x = setting_.rooms[a];
        const Room& y = setting_.rooms[b];
        return std::min(x.bytes, x.weight_bytes) < std::min(y.bytes, y.weight_bytes);
      });
  std::uint64_t low = 0;
  std::uint64_t high = 1ull << 20;
  const auto fits = [&](std::uint64_t extra) {
    extra_ = extra;
    Pipeline pipeline = build(tier, kNone, false);
    bool any = false;
    with_groups_at(pipeline, 0, [&] { any = any || is_feasible(pipeline); });
    return any;
  };
  while (!fits(high) && high < kUnlimited) {
    low = high;
    high *= 2;
  }
  while (high - low > 1) {
    const std::uint64_t middle = low + (high - low) / 2;
    (fits(middle) ? high : low) = middle;
  }
  extra_ = high;
  AutoPlan out;
  if (std::optional<AutoPlan> placed = place(tier)) {
    out = std::move(*placed);
  } else {  // pinned units alone are too much: everything else goes to the roomiest device
    out.tensor_device = setting_.pinned;
    for (std::uint32_t& device : out.tensor_device) {
      if (device == kNone) device = stretched_;
    }
  }
  out.fits = false;
  out.missing = high;
  out.roomiest = stretched_;
  return out;
}

}  // namespace

AutoPlan auto_place(const Setting& setting) {
  const std::vector<Tier> tiers = make_tiers(setting);
  Planner planner(setting, setting.request.policy == Policy::kThroughput);
  for (const Tier& tier : tiers) {
    if (std::optional<AutoPlan> plan = planner.place(tier)) return std::move(*plan);
  }
  if (!tiers.empty()) return planner.stretch(tiers.back());
  AutoPlan none;
  none.fits = false;
  none.tensor_device.assign(setting.tree.tensors.size(), kNone);
  for (const Unit& unit : setting.chain.units) none.missing += unit.weights + unit.kv_bytes;
  return none;
}

}  // namespace berth
