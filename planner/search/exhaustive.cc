#include "planner/search/exhaustive.h"

#include <algorithm>

namespace berth {
namespace {

constexpr std::size_t kMaxSteps = 60'000;
constexpr std::size_t kMaxPriced = 7'000;  // 8 units on 3 devices: 6,561

// One way to place a unit, and the least that it costs: as if it streamed and all its copies were
// hidden behind computing.
struct Option {
  std::uint32_t home = kNone;
  std::uint32_t experts = kNone;
  double least = 0;  // seconds
};

// Places unit after unit, the cheapest option first, and turns back when the least that the rest
// costs, or the space that the rest needs, rules out anything better.
class Branching {
 public:
  Branching(const PlanInputs& inputs, const Judge& judge, const PipelineBuilder& builder,
            const Tier& tier, double known)
      : inputs_(inputs), judge_(judge), known_(known) {
    const std::size_t units = inputs.chain.units.size();
    for (std::uint32_t u = 0; u < units; ++u) options_.push_back(options(u, tier));
    rest_.assign(units + 1, 0);
    for (std::size_t u = units; u-- > 0;) {
      double least = kNever;
      for (const Option& option : options_[u]) least = std::min(least, option.least);
      rest_[u] = rest_[u + 1] + least;
    }
    leader_.assign(units, kNone);
    for (const auto& group : inputs.chain.joined) {
      for (const std::uint32_t u : group) leader_[u] = group[0];
    }
    bytes_after_.assign(units + 1, 0);
    for (std::uint32_t u = static_cast<std::uint32_t>(units); u-- > 0;) {
      bytes_after_[u] = bytes_after_[u + 1] + resident(u) + judge.freedom(u).experts;
    }
    for (const std::uint32_t d : builder.devices(tier)) open_.push_back(d);
    used_.assign(inputs.machine.devices.size(), 0);
    units_on_.assign(used_.size(), 0);
    named_.assign(used_.size(), false);
    for (std::uint32_t u = 0; u < units; ++u) {
      if (judge.freedom(u).fixed != kNone) named_[judge.freedom(u).fixed] = true;
    }
    activation_.assign(used_.size(), 0);
    weights_.assign(used_.size(), 0);
    current_.home.assign(units, kNone);
    current_.experts.assign(units, kNone);
    for (std::uint32_t d = 0; d < used_.size(); ++d) used_[d] = weights_[d] = judge.loose(d);
  }

  Exhausted run() {
    visit(0, 0);
    return {best_, steps_ < kMaxSteps && priced_ < kMaxPriced};
  }

 private:
  std::vector<Option> options(std::uint32_t u, const Tier& tier) const {
    std::vector<Option> out;
    const Freedom& free = judge_.freedom(u);
    std::vector<std::uint32_t> homes = tier.devices;
    if (free.fixed != kNone) homes = {free.fixed};
    for (const std::uint32_t home : homes) {
      out.push_back({home, home, least(u, home, home)});
      if (free.experts == 0) continue;
      for (const std::uint32_t side : tier.devices) {
        if (side == home) continue;
        out.push_back({home, side, least(u, home, side)});
      }
    }
    std::stable_sort(out.begin(), out.end(),
                     [](const Option& a, const Option& b) { return a.least < b.least; });
    return out;
  }

  // Option::least.
  double least(std::uint32_t u, std::uint32_t home, std::uint32_t experts) const {
    Seconds seconds = judge_.seconds(u, home, experts);
    const std::uint32_t host = inputs_.time.host();
    const auto at_best = [&](const Seconds& other) {
      seconds.prefill = std::min(seconds.prefill, other.prefill);
      seconds.token = std::min(seconds.token, other.token);
    };
    if (home == host) {
      for (const std::uint32_t gpu : inputs_.time.streamers()) {
        at_best(experts == home ? inputs_.time.piece(inputs_.chain.units[u], gpu)
                                : judge_.seconds(u, gpu, experts));
      }
    } else if (experts == host) {
      at_best(judge_.seconds(u, home, home));
    }
    return inputs_.time.score(seconds);
  }

  // The least that the hop to unit `u` costs. A hop from or to the host may cost nothing, because
  // layers in host RAM may be streamed to the GPU of their neighbours.
  double hop(std::uint32_t u, std::uint32_t home) const {
    for (std::uint32_t before = u; before-- > 0;) {
      if (inputs_.chain.units[before].tensors.empty()) continue;
      const std::uint32_t from = current_.home[before];
      const std::uint32_t host = inputs_.time.host();
      if (from == home) return 0;
      if ((from == host || home == host) && !inputs_.time.streamers().empty()) return 0;
      return inputs_.time.score(inputs_.time.hop(from, home));
    }
    return 0;
  }

  void visit(std::uint32_t u, double so_far) {
    if (++steps_ >= kMaxSteps || priced_ >= kMaxPriced) return;
    if (u == options_.size()) return leaf();
    for (const Option& option : options_[u]) {
      if (so_far + option.least + rest_[u + 1] >= known_ * (1 - 1e-12)) break;
      if (leader_[u] != kNone && leader_[u] != u && option.home != current_.home[leader_[u]]) {
        continue;
      }
      const double cost = so_far + option.least +
                          (inputs_.chain.units[u].tensors.empty() ? 0 : hop(u, option.home));
      if (cost + rest_[u + 1] >= known_ * (1 - 1e-12) || !put(u, option)) continue;
      current_.home[u] = option.home;
      current_.experts[u] = option.experts;
      visit(u + 1, cost);
      take(u, option);
    }
  }

  std::uint64_t resident(std::uint32_t u) const {
    const Unit& unit = inputs_.chain.units[u];
    return judge_.freedom(u).core + judge_.freedom(u).computed + unit.kv_bytes + unit.logits;
  }

  std::uint64_t space(std::uint32_t d) const {
    return std::min(judge_.space(d).bytes, kUnlimited / 64);
  }

  // Adds the least that the unit takes of its devices. If that is too much, or leaves too little
  // for the units to come, adds nothing and returns false.
  bool put(std::uint32_t u, const Option& option) {
    add(u, option, true);
    bool good = true;
    for (const std::uint32_t d : {option.home, option.experts}) {
      good = good && used_[d] + activation_[d] <= space(d) &&
             weights_[d] <= judge_.space(d).weight_bytes;
    }
    std::uint64_t left = 0;
    for (const std::uint32_t d : open_) {
      const std::uint64_t used = used_[d] + activation_[d];
      left += space(d) > used ? space(d) - used : 0;
    }
    if (good && left >= bytes_after_[u + 1]) return true;
    add(u, option, false);
    return false;
  }
  void take(std::uint32_t u, const Option& option) { add(u, option, false); }

  // True if `d` has no units yet and an earlier device is like it in all that counts and has none,
  // either: only the first of such devices is tried.
  bool is_repeated(std::uint32_t d) const {
    if (units_on_[d] > 0) return false;
    for (const std::uint32_t other : open_) {
      if (other == d) return false;
      if (units_on_[other] == 0 && is_same(other, d)) return true;
    }
    return false;
  }
  bool is_same(std::uint32_t a, std::uint32_t b) const {
    const Device& x = inputs_.machine.devices[a];
    const Device& y = inputs_.machine.devices[b];
    if (!is_gpu(x.kind) || !is_gpu(y.kind)) return false;
    if (named_[a] || named_[b]) return false;
    const Space& p = judge_.space(a);
    const Space& q = judge_.space(b);
    if (p.bytes != q.bytes || p.weight_bytes != q.weight_bytes || judge_.loose(a) > 0 ||
        judge_.loose(b) > 0 || x.memory_bandwidth != y.memory_bandwidth || x.flops != y.flops ||
        x.matvec != y.matvec || x.kernels != y.kernels) {
      return false;
    }
    for (std::uint32_t d = 0; d < used_.size(); ++d) {
      if (d == a || d == b) continue;
      const Seconds from_a = inputs_.time.hop(a, d), from_b = inputs_.time.hop(b, d);
      const Seconds to_a = inputs_.time.hop(d, a), to_b = inputs_.time.hop(d, b);
      if (from_a.prefill != from_b.prefill || to_a.prefill != to_b.prefill ||
          from_a.token != from_b.token || to_a.token != to_b.token) {
        return false;
      }
    }
    return true;
  }
  // Adds what the unit takes to the sums of its devices, or, if not `on`, takes it off again.
  void add(std::uint32_t u, const Option& option, bool on) {
    const Freedom& free = judge_.freedom(u);
    const auto change = [on](std::uint64_t& sum, std::uint64_t by) {
      sum = on ? sum + by : sum - by;
    };
    change(used_[inputs_.time.runs_on(option.home)], resident(u) - free.core);
    change(used_[option.home], free.core);
    change(weights_[option.home], free.core);
    change(used_[option.experts], free.experts);
    change(weights_[option.experts], free.experts);
    units_on_[option.home] += on ? 1 : -1;
    units_on_[option.experts] += on ? 1 : -1;
    const std::uint32_t runner = inputs_.time.runs_on(option.home);
    if (on) {
      before_.push_back(activation_[runner]);
      activation_[runner] = std::max(activation_[runner], inputs_.chain.units[u].activation);
    } else {
      activation_[runner] = before_.back();
      before_.pop_back();
    }
  }

  void leaf() {
    ++priced_;
    const auto priced = judge_.price(current_);
    if (!priced || priced->score >= known_ * (1 - 1e-12)) return;
    known_ = priced->score;
    best_ = current_;
  }

  const PlanInputs& inputs_;
  const Judge& judge_;
  double known_;
  std::vector<std::vector<Option>> options_;
  std::vector<double> rest_;           // by unit: the least seconds that it and those after it take
  std::vector<std::uint32_t> leader_;  // by unit: the first it must share a device with, or kNone
  std::vector<std::uint64_t> used_, weights_;  // by device: bytes so far, and those of weights
  std::vector<std::uint64_t> activation_;      // by device: bytes
  std::vector<std::uint64_t> before_;          // activations to go back to, the newest last
  std::vector<std::uint64_t> bytes_after_;     // by unit: bytes that it and those after it take
  std::vector<std::uint32_t> open_;            // the devices that may be used
  std::vector<int> units_on_;                  // by device: how many units stand there
  std::vector<bool> named_;                    // by device: overrides put units there
  Candidate current_;
  std::optional<Candidate> best_;
  std::size_t steps_ = 0;
  std::size_t priced_ = 0;
};

bool is_short(const PlanInputs& inputs, const Judge& judge) {
  std::size_t free = 0;
  for (std::uint32_t u = 0; u < inputs.chain.units.size(); ++u) {
    if (judge.freedom(u).fixed == kNone) ++free;
  }
  return free <= kExhaustiveUnits;
}

}  // namespace

Exhausted exhaust(const PlanInputs& inputs, const Judge& judge, const PipelineBuilder& builder,
                  const Tier& tier, double known) {
  if (!is_short(inputs, judge)) return {};
  return Branching(inputs, judge, builder, tier, known).run();
}

}  // namespace berth
