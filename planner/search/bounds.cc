#include "planner/search/bounds.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "planner/search/pipeline_bound.h"
#include "planner/search/pipeline_solver.h"

namespace berth {
namespace {

// The share m of copies in the mixture, 0 to 1 (bounds.h), for the prompt and for a token.
struct Mixture {
  double prompt = 0;
  double token = 0;
};

// The GPUs that blocks in host RAM may stream to, one of each kind; the bound then takes each of
// them in turn and takes the stream buffers off its space. {kNone} if there are more than two
// kinds, or if experts may stand aside: then each block may stream to any GPU, and no buffers are
// taken off.
std::vector<std::uint32_t> streaming_gpus(const PlanInputs& inputs, bool experts_aside) {
  std::vector<std::uint32_t> kinds;
  for (const std::uint32_t gpu : inputs.time.streamers()) {
    if (!inputs.usable[gpu]) continue;
    const bool known = std::any_of(kinds.begin(), kinds.end(), [&](std::uint32_t other) {
      const Device& x = inputs.machine.devices[gpu];
      const Device& y = inputs.machine.devices[other];
      return inputs.spaces[gpu].bytes == inputs.spaces[other].bytes &&
             inputs.spaces[gpu].weight_bytes == inputs.spaces[other].weight_bytes &&
             x.memory_bandwidth == y.memory_bandwidth && x.flops == y.flops &&
             inputs.time.hop(inputs.time.host(), gpu).prefill ==
                 inputs.time.hop(inputs.time.host(), other).prefill;
    });
    if (!known) kinds.push_back(gpu);
  }
  // Experts stream to the GPU of their layer, whichever that is, and their buffers are small.
  if (experts_aside || kinds.size() > 2) return {kNone};
  return kinds;
}

// The least time of copying a unit to GPU `to`, or, if that is kNone, to any GPU.
Seconds least_copy(const PlanInputs& inputs, const Unit& unit, std::uint32_t to) {
  if (to != kNone) return inputs.time.transfer(unit, to, {});
  Seconds least{kNever, kNever};
  for (const std::uint32_t gpu : inputs.time.streamers()) {
    const Seconds copy = inputs.time.transfer(unit, gpu, {});
    least = {std::min(least.prefill, copy.prefill), std::min(least.token, copy.token)};
  }
  return least;
}

// The least time of computing a unit on GPU `on`, or, if that is kNone, on any GPU.
Seconds least_run(const PlanInputs& inputs, const Unit& unit, std::uint32_t on) {
  if (on != kNone) return inputs.time.piece(unit, on);
  Seconds least{kNever, kNever};
  for (const std::uint32_t gpu : inputs.time.streamers()) {
    const Seconds run = inputs.time.piece(unit, gpu);
    least = {std::min(least.prefill, run.prefill), std::min(least.token, run.token)};
  }
  return least;
}

// The size of the smallest buffer that a block can be streamed or read from the disk through.
std::uint64_t least_buffer(const PlanInputs& inputs) {
  std::uint64_t least = kUnlimited;
  for (const Unit& unit : inputs.chain.units) {
    if (unit.block) {
      least = std::min(least, buffer_bytes(unit, unit.dense_bytes, unit.expert_bytes));
    }
  }
  return least < kUnlimited ? least : 0;
}

// The fewest bytes that units on the disk take of the device they run on. `short_by`: the bytes
// that do not fit on all other devices together. If these are more than all units that are no
// blocks, some must be of blocks, and a block on the disk has its KV cache and two buffers where it
// runs.
std::uint64_t disk_overhead(const PlanInputs& inputs, double short_by) {
  double others = 0;
  double largest = 1;
  std::uint64_t cache = kUnlimited;
  for (const Unit& unit : inputs.chain.units) {
    if (!unit.block) {
      others += static_cast<double>(unit.weights);
      continue;
    }
    largest = std::max(largest, static_cast<double>(unit.weights));
    cache = std::min(cache, unit.kv_bytes);
  }
  if (short_by <= others || cache == kUnlimited) return 0;
  const auto blocks = static_cast<std::uint64_t>(std::ceil((short_by - others) / largest));
  return 2 * least_buffer(inputs) + blocks * cache;
}

bool alike(const PipelineUnit& a, const PipelineUnit& b) {
  return a.weights == b.weights && a.resident == b.resident && a.workspace == b.workspace &&
         a.fixed == b.fixed && a.experts == b.experts;
}

bool alike(const Freedom& a, const Freedom& b) {
  const auto same = [](const Share& x, const Share& y) {
    return x.dense == y.dense && x.experts == y.experts && x.attends == y.attends;
  };
  return a.loose.empty() && b.loose.empty() && a.experts == b.experts &&
         same(a.core_share, b.core_share) && same(a.experts_share, b.experts_share);
}

// The times of units and hops of which score_bound() makes its bound, for one way to stream and one
// mixture.
class Relaxation {
 public:
  Relaxation(const PlanInputs& inputs, const Judge& judge, const Streaming& streaming,
             const Mixture& mixture)
      : inputs_(inputs), judge_(judge), streaming_(streaming), mixture_(mixture) {}

  // The least seconds that a unit adds to the score, its copies mixed in.
  double score(std::uint32_t u, std::uint32_t home, std::uint32_t experts) const {
    const Unit& unit = inputs_.chain.units[u];
    Seconds run = judge_.seconds(u, home, experts);
    Seconds copy;
    if (unit.block && !judge_.freedom(u).loose.empty()) {
      run = Seconds{};  // tensors that overrides took from it may stream, too; rare, so bound by 0
    } else if (unit.block && (home == inputs_.time.host() || is_aside(home, experts))) {
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
    return inputs_.time.score({mixture_.prompt * copy.prefill + (1 - mixture_.prompt) * run.prefill,
                               mixture_.token * copy.token + (1 - mixture_.token) * run.token});
  }

  // The least seconds that a hop adds: none to or from the host if its blocks are streamed.
  double hop(std::uint32_t from, std::uint32_t to) const {
    const std::uint32_t host = inputs_.time.host();
    Seconds hop = inputs_.time.hop(from, to);
    const bool by_host = from == host || to == host;
    if (by_host && streaming_.prompt) hop.prefill = 0;
    if (by_host && streaming_.token) hop.token = 0;
    return inputs_.time.score(
        {(1 - mixture_.prompt) * hop.prefill, (1 - mixture_.token) * hop.token});
  }

 private:
  bool is_aside(std::uint32_t home, std::uint32_t experts) const {
    return experts == inputs_.time.host() && inputs_.is_gpu(home);
  }

  // The least times of computing and of copying a unit whose piece in host RAM is streamed.
  std::pair<Seconds, Seconds> stream(std::uint32_t u, std::uint32_t home,
                                     std::uint32_t experts) const {
    const Unit& unit = inputs_.chain.units[u];
    const Freedom& free = judge_.freedom(u);
    const std::uint32_t host = inputs_.time.host();
    if (is_aside(home, experts)) {
      return {judge_.seconds(u, home, home), inputs_.time.transfer(unit, home, free.experts_share)};
    }
    if (experts == host) {
      return {least_run(inputs_, unit, streaming_.gpu), least_copy(inputs_, unit, streaming_.gpu)};
    }
    Seconds run{kNever, kNever};  // the rest streams, the experts stand on another device
    Seconds copy{kNever, kNever};
    for (const std::uint32_t gpu : inputs_.time.streamers()) {
      const Seconds there = judge_.seconds(u, gpu, experts);
      const Seconds moved = inputs_.time.transfer(unit, gpu, free.core_share);
      run = {std::min(run.prefill, there.prefill), std::min(run.token, there.token)};
      copy = {std::min(copy.prefill, moved.prefill), std::min(copy.token, moved.token)};
    }
    return {run, copy};
  }

  const PlanInputs& inputs_;
  const Judge& judge_;
  const Streaming& streaming_;
  const Mixture& mixture_;
};

}  // namespace

double score_bound(const PlanInputs& inputs, const Judge& judge, const PipelineBuilder& builder,
                   const Tier& tier, const Candidate& known, double score) {
  Variant variant;
  variant.experts_aside = true;
  Pipeline pipeline = builder.build(tier, variant);
  const std::vector<std::uint32_t> devices = builder.devices(tier);
  const auto index = [&](std::uint32_t d) {
    return static_cast<std::uint32_t>(std::find(devices.begin(), devices.end(), d) -
                                      devices.begin());
  };
  const bool experts_aside = std::any_of(pipeline.units.begin(), pipeline.units.end(),
                                         [](const PipelineUnit& unit) { return unit.experts > 0; });
  const auto is_disk = [&](std::uint32_t d) {
    return inputs.machine.devices[devices[d]].kind == DeviceKind::kDisk;
  };
  // What a disk holds runs elsewhere, so that it takes weights alone, and any bytes of them.
  const auto fillable = [&](const Pipeline& of) {
    std::vector<double> out = bound_spaces(of);
    for (std::uint32_t d = 0; d < out.size(); ++d) {
      const PipelineDevice& at = of.devices[d];
      if (is_disk(d)) out[d] = static_cast<double>(std::min(at.space, at.weight_space));
    }
    return out;
  };
  const auto spaces = [&](std::uint32_t streamer) {
    Pipeline less = pipeline;
    const auto take = [&](std::uint32_t device, std::uint64_t bytes) {
      if (index(device) == devices.size()) return;  // the device is not in this tier
      std::uint64_t& space = less.devices[index(device)].space;
      space -= std::min(space, bytes);
    };
    if (streamer != kNone) take(streamer, 2 * least_buffer(inputs));
    const std::uint32_t runner = builder.disk_runner(tier);
    if (runner == kNone || experts_aside) return fillable(less);
    double short_by = 0;
    for (const PipelineUnit& unit : pipeline.units) short_by += static_cast<double>(unit.resident);
    const std::vector<double> all = fillable(less);
    for (std::uint32_t d = 0; d < devices.size(); ++d) {
      if (!is_disk(d)) short_by -= all[d];
    }
    take(runner, disk_overhead(inputs, short_by));
    return fillable(less);
  };
  const auto bound = [&](const Streaming& streaming, const Mixture& mixture, double upper) {
    const Relaxation relaxed(inputs, judge, streaming, mixture);
    Choices choices;
    choices.space = spaces(streaming.gpu);
    const auto options_of = [&](std::uint32_t u) {
      const PipelineUnit& unit = pipeline.units[u];
      std::vector<Choice> options;
      const auto add = [&](std::uint32_t d, std::uint32_t side, std::uint64_t experts) {
        const bool weights = counts_weights(pipeline.devices[d]) || is_disk(d);
        const std::uint64_t all = weights ? unit.weights : unit.resident;
        options.push_back({relaxed.score(u, devices[d], devices[experts > 0 ? side : d]) * 1e9, d,
                           side, static_cast<double>(all - experts), static_cast<double>(experts)});
      };
      for (std::uint32_t d = 0; d < devices.size(); ++d) {
        if (unit.fixed != kNone ? unit.fixed != d : !pipeline.devices[d].open) continue;
        add(d, d, 0);
        for (std::uint32_t side = 0; unit.experts > 0 && side < devices.size(); ++side) {
          if (side != d && pipeline.devices[side].open) add(d, side, unit.experts);
        }
      }
      return options;
    };
    std::vector<std::uint32_t> taken;
    for (std::uint32_t u = 0; u < pipeline.units.size(); ++u) {
      const bool again = u > 0 && cost_alike(inputs.chain.units[u], inputs.chain.units[u - 1]) &&
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
  if (!tier.host || inputs.time.streamers().empty()) return least;
  const std::vector<std::pair<Streaming, std::vector<Mixture>>> ways = {
      {{true, false, kNone}, {{1, 0}, {0.5, 0}, {0, 0}}},
      {{true, true, kNone}, {{1, 1}, {1, 0}, {0.5, 0.5}, {0, 0}}},
      {{false, true, kNone}, {{0, 1}, {0, 0}}}};
  for (auto [streaming, mixtures] : ways) {
    for (const std::uint32_t gpu : streaming_gpus(inputs, experts_aside)) {
      streaming.gpu = gpu;
      double most = 0;
      for (const Mixture& mixture : mixtures) {
        if (most >= least) break;  // this way to stream cannot lower the bound any more
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
