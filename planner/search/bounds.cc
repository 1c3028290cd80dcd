#include "planner/search/bounds.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "planner/search/pipeline_bound.h"

namespace berth {
namespace {

// How much of a walk's bound is its copies, 0 to 1, for the prompt and for a token.
struct Mixture {
  double prompt = 0;
  double token = 0;
};

// The GPUs that host blocks may stream to, as far as they matter to the bound: each in turn where
// there are few kinds of them, and its slots are gone from its room; else any of them, without.
std::vector<std::uint32_t> streaming_gpus(const Setting& setting, bool parts) {
  std::vector<std::uint32_t> kinds;
  for (const std::uint32_t gpu : setting.time.streamers()) {
    if (!setting.usable[gpu]) continue;
    const bool known = std::any_of(kinds.begin(), kinds.end(), [&](std::uint32_t other) {
      const Device& x = setting.machine.devices[gpu];
      const Device& y = setting.machine.devices[other];
      return setting.rooms[gpu].bytes == setting.rooms[other].bytes &&
             setting.rooms[gpu].weight_bytes == setting.rooms[other].weight_bytes &&
             x.memory_bandwidth == y.memory_bandwidth && x.flops == y.flops &&
             setting.time.hop(setting.time.host(), gpu).prefill ==
                 setting.time.hop(setting.time.host(), other).prefill;
    });
    if (!known) kinds.push_back(gpu);
  }
  // Experts stream to the GPU of their layer, whichever that is, and their slots are small.
  if (parts || kinds.size() > 2) return {kNone};
  return kinds;
}

// The least that copying to the streaming GPU takes, or to any where that is open.
Seconds least_copy(const Setting& setting, const Unit& unit, std::uint32_t to) {
  if (to != kNone) return setting.time.transfer(unit, to, {});
  Seconds least{kNever, kNever};
  for (const std::uint32_t gpu : setting.time.streamers()) {
    const Seconds copy = setting.time.transfer(unit, gpu, {});
    least = {std::min(least.prefill, copy.prefill), std::min(least.token, copy.token)};
  }
  return least;
}

Seconds least_run(const Setting& setting, const Unit& unit, std::uint32_t on) {
  if (on != kNone) return setting.time.piece(unit, on);
  Seconds least{kNever, kNever};
  for (const std::uint32_t gpu : setting.time.streamers()) {
    const Seconds run = setting.time.piece(unit, gpu);
    least = {std::min(least.prefill, run.prefill), std::min(least.token, run.token)};
  }
  return least;
}

std::uint64_t least_slot(const Setting& setting) {
  std::uint64_t least = kUnlimited;
  for (const Unit& unit : setting.chain.units) {
    if (unit.block) {
      least = std::min(least, slot_bytes(unit, unit.dense_bytes, unit.expert_bytes));
    }
  }
  return least < kUnlimited ? least : 0;
}

// Bytes that units on the disk take where they run, at the least: where more stands on the disk
// than embeddings and the like, it is blocks, which keep their KV cache and two slots there.
// `short_by`: what all other devices together lack.
std::uint64_t disk_overhead(const Setting& setting, double short_by) {
  double others = 0;
  double largest = 1;
  std::uint64_t cache = kUnlimited;
  for (const Unit& unit : setting.chain.units) {
    if (!unit.block) {
      others += static_cast<double>(unit.weights);
      continue;
    }
    largest = std::max(largest, static_cast<double>(unit.weights));
    cache = std::min(cache, unit.kv_bytes);
  }
  if (short_by <= others || cache == kUnlimited) return 0;
  const auto blocks = static_cast<std::uint64_t>(std::ceil((short_by - others) / largest));
  return 2 * least_slot(setting) + blocks * cache;
}

bool alike(const PipelineUnit& a, const PipelineUnit& b) {
  return a.weights == b.weights && a.resident == b.resident && a.workspace == b.workspace &&
         a.fixed == b.fixed && a.part == b.part;
}

bool alike(const Freedom& a, const Freedom& b) {
  const auto same = [](const Share& x, const Share& y) {
    return x.dense == y.dense && x.experts == y.experts && x.attends == y.attends;
  };
  return a.loose.empty() && b.loose.empty() && a.part == b.part &&
         same(a.core_share, b.core_share) && same(a.part_share, b.part_share);
}

class Relaxation {
 public:
  Relaxation(const Setting& setting, const Judge& judge, const Streaming& streaming,
             const Mixture& mixture)
      : setting_(setting), judge_(judge), streaming_(streaming), mixture_(mixture) {}

  // Seconds of a unit, its share of the copies mixed in.
  double score(std::uint32_t u, std::uint32_t home, std::uint32_t experts) const {
    const Unit& unit = setting_.chain.units[u];
    Seconds run = judge_.seconds(u, home, experts);
    Seconds copy;
    if (unit.block && !judge_.freedom(u).loose.empty()) {
      run = Seconds{};  // rare: parts torn from a unit may stream, too
    } else if (unit.block && (home == setting_.time.host() || is_aside(home, experts))) {
      const auto [streamed, copied] = stream(u, home, experts);
      if (streaming_.prompt) {
        run.prefill = streamed.prefill;
        copy.prefill = copied.prefill;
      }
      if (streaming_.token) {
        run.token = streamed.token;
        copy.token = copied.token;
      }
    }
    return setting_.time.score(
        {mixture_.prompt * copy.prefill + (1 - mixture_.prompt) * run.prefill,
         mixture_.token * copy.token + (1 - mixture_.token) * run.token});
  }

  double hop(std::uint32_t from, std::uint32_t to) const {
    const std::uint32_t host = setting_.time.host();
    Seconds hop = setting_.time.hop(from, to);
    const bool by_host = from == host || to == host;
    if (by_host && streaming_.prompt) hop.prefill = 0;
    if (by_host && streaming_.token) hop.token = 0;
    return setting_.time.score(
        {(1 - mixture_.prompt) * hop.prefill, (1 - mixture_.token) * hop.token});
  }

 private:
  bool is_aside(std::uint32_t home, std::uint32_t experts) const {
    return experts == setting_.time.host() && setting_.is_gpu(home);
  }

  // What a unit with a piece in host RAM takes if that streams: computing, and copying.
  std::pair<Seconds, Seconds> stream(std::uint32_t u, std::uint32_t home,
                                     std::uint32_t experts) const {
    const Unit& unit = setting_.chain.units[u];
    const Freedom& free = judge_.freedom(u);
    const std::uint32_t host = setting_.time.host();
    if (is_aside(home, experts)) {
      return {judge_.seconds(u, home, home), setting_.time.transfer(unit, home, free.part_share)};
    }
    if (experts == host) {
      return {least_run(setting_, unit, streaming_.gpu),
              least_copy(setting_, unit, streaming_.gpu)};
    }
    Seconds run{kNever, kNever};  // its experts are elsewhere
    Seconds copy{kNever, kNever};
    for (const std::uint32_t gpu : setting_.time.streamers()) {
      const Seconds there = judge_.seconds(u, gpu, experts);
      const Seconds moved = setting_.time.transfer(unit, gpu, free.core_share);
      run = {std::min(run.prefill, there.prefill), std::min(run.token, there.token)};
      copy = {std::min(copy.prefill, moved.prefill), std::min(copy.token, moved.token)};
    }
    return {run, copy};
  }

  const Setting& setting_;
  const Judge& judge_;
  const Streaming& streaming_;
  const Mixture& mixture_;
};

}  // namespace

double score_bound(const Setting& setting, const Judge& judge, const PipelineBuilder& builder,
                   const Tier& tier, const Candidate& known, double score) {
  Variant variant;
  variant.parts = true;
  Pipeline pipeline = builder.build(tier, variant);
  const std::vector<std::uint32_t> devices = builder.devices(tier);
  const auto index = [&](std::uint32_t d) {
    return static_cast<std::uint32_t>(std::find(devices.begin(), devices.end(), d) -
                                      devices.begin());
  };
  const bool parts = std::any_of(pipeline.units.begin(), pipeline.units.end(),
                                 [](const PipelineUnit& unit) { return unit.part > 0; });
  const auto rooms = [&](std::uint32_t streamer) {
    Pipeline less = pipeline;
    const auto take = [&](std::uint32_t device, std::uint64_t bytes) {
      if (index(device) == devices.size()) return;  // it holds nothing of this tier
      std::uint64_t& room = less.devices[index(device)].room;
      room -= std::min(room, bytes);
    };
    if (streamer != kNone) take(streamer, 2 * least_slot(setting));
    const std::uint32_t runner = builder.disk_runner(tier);
    if (runner == kNone || parts) return bound_rooms(less);
    double short_by = 0;
    for (const PipelineUnit& unit : pipeline.units) short_by += static_cast<double>(unit.resident);
    const std::vector<double> all = bound_rooms(less);
    for (std::size_t d = 0; d < devices.size(); ++d) {
      if (setting.machine.devices[devices[d]].kind != DeviceKind::kDisk) short_by -= all[d];
    }
    take(runner, disk_overhead(setting, short_by));
    return bound_rooms(less);
  };
  const auto bound = [&](const Streaming& streaming, const Mixture& mixture, double upper) {
    const Relaxation relaxed(setting, judge, streaming, mixture);
    Choices choices;
    choices.room = rooms(streaming.gpu);
    const auto options_of = [&](std::uint32_t u) {
      const PipelineUnit& unit = pipeline.units[u];
      std::vector<Choice> options;
      const auto add = [&](std::uint32_t d, std::uint32_t side, std::uint64_t part) {
        const bool weights = counts_weights(pipeline.devices[d]);
        const std::uint64_t all = weights ? unit.weights : unit.resident;
        options.push_back({relaxed.score(u, devices[d], devices[part > 0 ? side : d]) * 1e9, d,
                           side, static_cast<double>(all - part), static_cast<double>(part)});
      };
      for (std::uint32_t d = 0; d < devices.size(); ++d) {
        if (unit.fixed != kNone ? unit.fixed != d : !pipeline.devices[d].open) continue;
        add(d, d, 0);
        for (std::uint32_t side = 0; unit.part > 0 && side < devices.size(); ++side) {
          const bool with_gpu = setting.is_gpu(devices[d]) || setting.is_gpu(devices[side]);
          if (side != d && with_gpu && pipeline.devices[side].open) add(d, side, unit.part);
        }
      }
      return options;
    };
    std::vector<std::uint32_t> taken;
    for (std::uint32_t u = 0; u < pipeline.units.size(); ++u) {
      const bool again = u > 0 && cost_alike(setting.chain.units[u], setting.chain.units[u - 1]) &&
                         alike(pipeline.units[u], pipeline.units[u - 1]) &&
                         alike(judge.freedom(u), judge.freedom(u - 1));
      choices.units.push_back(again ? choices.units[u - 1] : options_of(u));
      const std::vector<Choice>& options = choices.units.back();
      const auto at = std::ranges::find_if(options, [&](const Choice& option) {
        return devices[option.home] == known.home[u] && devices[option.side] == known.experts[u];
      });
      taken.push_back(at == options.end() ? 0 : static_cast<std::uint32_t>(at - options.begin()));
    }
    for (std::size_t a = 0; a < devices.size(); ++a) {
      for (std::size_t b = 0; b < devices.size(); ++b) {
        pipeline.hop[a * devices.size() + b] =
            a == b ? 0 : relaxed.hop(devices[a], devices[b]) * 1e9;
      }
    }
    choices.hops = hop_bound(pipeline);
    return price_bound(choices, upper * 1e9, taken) / 1e9;
  };
  double least = bound({}, {}, score);
  if (!tier.host || setting.time.streamers().empty()) return least;
  const std::vector<std::pair<Streaming, std::vector<Mixture>>> ways = {
      {{true, false, kNone}, {{1, 0}, {0.5, 0}, {0, 0}}},
      {{true, true, kNone}, {{1, 1}, {1, 0}, {0.5, 0.5}, {0, 0}}},
      {{false, true, kNone}, {{0, 1}, {0, 0}}}};
  for (auto [streaming, mixtures] : ways) {
    for (const std::uint32_t gpu : streaming_gpus(setting, parts)) {
      streaming.gpu = gpu;
      double most = 0;
      for (const Mixture& mixture : mixtures) {
        if (most >= least) break;  // streaming so is no better than what is bounded already
        most = std::max(most, bound(streaming, mixture, least));
      }
      least = std::min(least, most);
    }
  }
  return least;
}

double slowest_bound(const Pipeline& pipeline) {
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

}  // namespace berth
