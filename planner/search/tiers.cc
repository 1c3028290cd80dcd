#include "planner/search/tiers.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "planner/search/pipeline_bound.h"
#include "planner/search/pipeline_solver.h"

namespace berth {
namespace {

// a - b, or 0 if b is more.
std::uint64_t less(std::uint64_t a, std::uint64_t b) { return a > b ? a - b : 0; }

template <typename T>
bool contains(const std::vector<T>& all, const T& one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

}  // namespace

double nanoseconds(double seconds) { return std::round(std::min(seconds, 4e6) * 1e9); }

std::vector<Tier> make_tiers(const PlanInputs& inputs) {
  std::vector<std::uint32_t> gpus, cpu, disk;
  for (std::uint32_t d = 0; d < inputs.machine.devices.size(); ++d) {
    if (!inputs.usable[d]) continue;
    const DeviceKind kind = inputs.machine.devices[d].kind;
    (is_gpu(kind) ? gpus : kind == DeviceKind::kCpu ? cpu : disk).push_back(d);
  }
  std::stable_sort(gpus.begin(), gpus.end(), [&](std::uint32_t a, std::uint32_t b) {
    const Device& x = inputs.machine.devices[a];
    const Device& y = inputs.machine.devices[b];
    return std::tuple(inputs.level[a], x.memory_bandwidth, x.flops) >
           std::tuple(inputs.level[b], y.memory_bandwidth, y.flops);
  });
  std::vector<Tier> tiers;
  for (std::size_t i = 0; i < gpus.size(); ++i) {  // one tier for each level of priority
    if (i + 1 < gpus.size() && inputs.level[gpus[i]] == inputs.level[gpus[i + 1]]) continue;
    const auto end = gpus.begin() + static_cast<std::ptrdiff_t>(i) + 1;
    tiers.push_back({{gpus.begin(), end}, false, false});
  }
  if (inputs.request.never_offload) return tiers;
  std::vector<std::uint32_t> all = gpus;
  all.insert(all.end(), cpu.begin(), cpu.end());
  if (!cpu.empty()) tiers.push_back({all, true, false});
  all.insert(all.end(), disk.begin(), disk.end());
  if (!disk.empty()) tiers.push_back({all, !cpu.empty(), true});
  return tiers;
}

std::vector<std::uint32_t> PipelineBuilder::devices(const Tier& tier) const {
  std::vector<std::uint32_t> out = tier.devices;
  const auto add = [&](std::uint32_t d) {
    if (d != kNone && !contains(out, d)) out.push_back(d);
  };
  for (std::uint32_t u = 0; u < inputs_.chain.units.size(); ++u) add(judge_.freedom(u).fixed);
  return out;
}

std::vector<std::uint32_t> PipelineBuilder::sides(const Tier& tier) const {
  std::vector<std::uint32_t> out;
  for (const DeviceKind kind : {DeviceKind::kCpu, DeviceKind::kDisk}) {
    for (const std::uint32_t d : tier.devices) {
      if (inputs_.machine.devices[d].kind == kind) out.push_back(d);
    }
  }
  return out;
}

std::uint32_t PipelineBuilder::disk_runner(const Tier& tier) const {
  for (const std::uint32_t d : tier.devices) {
    if (inputs_.machine.devices[d].kind == DeviceKind::kDisk) return inputs_.time.runs_on(d);
  }
  return kNone;
}

std::uint64_t PipelineBuilder::block_buffer() const {
  std::uint64_t most = 0;
  for (const Unit& unit : inputs_.chain.units) {
    if (unit.block) most = std::max(most, buffer_bytes(unit, unit.dense_bytes, unit.expert_bytes));
  }
  return most;
}

std::uint64_t PipelineBuilder::expert_buffer() const {
  std::uint64_t most = 0;
  for (const Unit& unit : inputs_.chain.units) {
    if (unit.block) most = std::max(most, buffer_bytes(unit, 0, unit.expert_bytes));
  }
  return most;
}

double PipelineBuilder::score(std::uint32_t u, std::uint32_t home, std::uint32_t experts,
                              const Streaming& streaming) const {
  const Unit& unit = inputs_.chain.units[u];
  const TimeModel& time = inputs_.time;
  Seconds seconds = judge_.seconds(u, home, experts);
  const std::uint32_t host = time.host();
  if (!unit.block || !streaming.any()) return time.score(seconds);
  // What streams is taken to need the longer of copying and computing (for routed experts and a
  // token, both). The walk of pricing.h, which decides in the end, finds more overlap.
  if (home == host && streaming.gpu != kNone) {
    const Seconds copy = time.transfer(unit, streaming.gpu, {});
    const Seconds run = time.piece(unit, streaming.gpu, {});
    const bool routed = unit.expert_bytes > 0;
    if (streaming.prompt) seconds.prefill = std::max(copy.prefill, run.prefill);
    if (streaming.token) {
      seconds.token = routed ? copy.token + run.token : std::max(copy.token, run.token);
    }
  } else if (experts == host && home != host && inputs_.is_gpu(home)) {
    const Freedom& free = judge_.freedom(u);
    const Seconds copy = time.transfer(unit, home, free.experts_share);
    const Seconds whole = judge_.seconds(u, home, home);
    if (streaming.prompt) seconds.prefill = std::max(copy.prefill, whole.prefill);
    if (streaming.token) seconds.token = copy.token + whole.token;
  }
  return time.score(seconds);
}

double PipelineBuilder::hop_score(std::uint32_t from, std::uint32_t to,
                                  const Streaming& streaming) const {
  const std::uint32_t host = inputs_.time.host();
  const auto runner = [&](std::uint32_t d, bool streams) {
    return d == host && streams && streaming.gpu != kNone ? streaming.gpu : d;
  };
  const Seconds prompt =
      inputs_.time.hop(runner(from, streaming.prompt), runner(to, streaming.prompt));
  const Seconds token =
      inputs_.time.hop(runner(from, streaming.token), runner(to, streaming.token));
  return inputs_.time.score({prompt.prefill, token.token});
}

Pipeline PipelineBuilder::build(const Tier& tier, const Variant& variant) const {
  const Chain& chain = inputs_.chain;
  const std::uint32_t host = inputs_.time.host();
  const std::vector<std::uint32_t> devices = this->devices(tier);
  const std::vector<std::uint32_t> sides = this->sides(tier);
  const std::uint32_t runner = disk_runner(tier);
  Pipeline out;
  for (std::uint32_t d : devices) {
    const Space& space = judge_.space(d);
    std::uint64_t taken = judge_.loose(d);
    if (variant.streaming.any() && d == variant.streaming.gpu) taken += 2 * block_buffer();
    if (d == runner) taken += variant.host_short;
    out.devices.push_back({less(space.bytes, taken), less(space.weight_bytes, judge_.loose(d)),
                           contains(tier.devices, d)});
  }
  const auto index = [&](std::uint32_t d) {
    return static_cast<std::uint32_t>(std::find(devices.begin(), devices.end(), d) -
                                      devices.begin());
  };
  if (variant.experts_aside && variant.streaming.any()) out.aside_space = 2 * expert_buffer();
  if (variant.experts_aside) {
    for (const std::uint32_t d : sides) out.aside_devices.push_back(index(d));
  }
  const double price = variant.host_price;
  for (std::uint32_t u = 0; u < chain.units.size(); ++u) {
    const Unit& unit = chain.units[u];
    const Freedom& free = judge_.freedom(u);
    PipelineUnit placed;
    placed.weights = free.core + free.experts + (variant.copies ? unit.tied : 0);
    placed.resident = placed.weights + free.computed + unit.kv_bytes + unit.logits;
    placed.workspace = unit.activation;
    if (free.fixed != kNone) placed.fixed = index(free.fixed);
    if (variant.embedding_on_host && unit.module == inputs_.tree.facts.embedding) {
      placed.fixed = index(host);
    }
    if (variant.experts_aside && placed.fixed == kNone) placed.experts = free.experts;
    for (std::uint32_t d : devices) {
      double time = nanoseconds(score(u, d, d, variant.streaming));
      if (d == host) time += std::round(price * static_cast<double>(placed.resident));
      out.time.push_back(time);
      if (!variant.experts_aside) continue;
      double aside = kNever;
      for (const std::uint32_t side : sides) {
        if (placed.experts == 0 || !inputs_.is_gpu(d)) break;
        double more = nanoseconds(score(u, d, side, variant.streaming)) - time;
        if (side == host) more += std::round(price * static_cast<double>(placed.experts));
        aside = std::min(aside, std::max(0.0, more));
      }
      out.aside.push_back(aside);
    }
    out.units.push_back(placed);
  }
  for (std::uint32_t a : devices) {
    for (std::uint32_t b : devices) {
      out.hop.push_back(a == b ? 0 : nanoseconds(hop_score(a, b, variant.streaming)));
    }
  }
  return out;
}

Candidate PipelineBuilder::candidate(const Tier& tier, const Variant& variant,
                                     const PipelinePlan& plan) const {
  const std::vector<std::uint32_t> devices = this->devices(tier);
  const std::vector<std::uint32_t> sides = this->sides(tier);
  Candidate out;
  for (const std::uint32_t d : plan.device) out.home.push_back(devices[d]);
  out.experts = out.home;
  if (plan.aside.empty() || sides.empty()) return out;
  // One side after the other takes what it has space for, the host first; the last takes the rest.
  for (std::size_t u = 0; u < plan.aside.size(); ++u) {
    if (plan.aside[u]) out.experts[u] = sides.back();
  }
  for (std::size_t s = 0; s + 1 < sides.size(); ++s) {
    const std::uint32_t side = sides[s];
    const Space& space = judge_.space(side);
    const Judge::Usage usage = judge_.usage(out);
    const std::uint64_t kept = s == 0 ? variant.host_short : 0;
    std::uint64_t free = less(space.bytes, usage.total[side] + kept);
    free = std::min(free, less(space.weight_bytes, usage.weights[side]));
    for (std::uint32_t u = 0; u < plan.aside.size(); ++u) {
      const std::uint64_t experts = judge_.freedom(u).experts;
      const bool waits = plan.aside[u] && out.experts[u] == sides.back();
      if (!waits || experts > free) continue;
      out.experts[u] = side;
      free -= experts;
    }
  }
  return out;
}

}  // namespace berth
