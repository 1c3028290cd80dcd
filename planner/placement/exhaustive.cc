#include "planner/placement/exhaustive.h"

#include <algorithm>

namespace berth {
namespace {

constexpr std::size_t kMaxSteps = 400'000;
constexpr std::size_t kMaxPriced = 20'000;

// One way to place a unit, and what it costs at the least: streamed, and its copies all hidden.
struct Option {
  std::uint32_t home = kNone;
  std::uint32_t experts = kNone;
  double least = 0;  // seconds
};

class Branching {
 public:
  Branching(const Setting& setting, const Judge& judge, const PipelineBuilder& builder,
            const Tier& tier, double known)
      : setting_(setting), judge_(judge), known_(known) {
    const std::size_t units = setting.chain.units.size();
    for (std::uint32_t u = 0; u < units; ++u) options_.push_back(options(u, builder, tier));
    rest_.assign(units + 1, 0);
    for (std::size_t u = units; u-- > 0;) {
      double least = kNever;
      for (const Option& option : options_[u]) least = std::min(least, option.least);
      rest_[u] = rest_[u + 1] + least;
    }
    leader_.assign(units, kNone);
    for (const auto& group : setting.chain.joined) {
      for (const std::uint32_t u : group) leader_[u] = group[0];
    }
    used_.assign(setting.machine.devices.size(), 0);
    weights_.assign(used_.size(), 0);
    current_.home.assign(units, kNone);
    current_.experts.assign(units, kNone);
    for (std::uint32_t d = 0; d < used_.size(); ++d) used_[d] = weights_[d] = judge.loose(d);
  }

  Exhausted run() {
    visit(0, 0);
    return {best_, steps_ < kMaxSteps && priced_ < kMaxPriced};
  }

  std::optional<Candidate> first() {
    first_only_ = true;
    visit(0, 0);
    return best_;
  }

 private:
  std::vector<Option> options(std::uint32_t u, const PipelineBuilder& builder,
                              const Tier& tier) const {
    std::vector<Option> out;
    const Freedom& free = judge_.freedom(u);
    std::vector<std::uint32_t> homes = tier.devices;
    if (free.fixed != kNone) homes = {free.fixed};
    for (const std::uint32_t home : homes) {
      out.push_back({home, home, least(u, home, home)});
      if (free.part == 0 || !setting_.is_gpu(home)) continue;
      for (const std::uint32_t side : builder.sides(tier)) {
        out.push_back({home, side, least(u, home, side)});
      }
    }
    std::stable_sort(out.begin(), out.end(),
                     [](const Option& a, const Option& b) { return a.least < b.least; });
    return out;
  }

  double least(std::uint32_t u, std::uint32_t home, std::uint32_t experts) const {
    Seconds seconds = judge_.seconds(u, home, experts);
    const std::uint32_t host = setting_.time.host();
    const auto at_best = [&](const Seconds& other) {
      seconds.prefill = std::min(seconds.prefill, other.prefill);
      seconds.token = std::min(seconds.token, other.token);
    };
    if (home == host) {
      for (const std::uint32_t gpu : setting_.time.streamers()) {
        at_best(setting_.time.piece(setting_.chain.units[u], gpu));
      }
    } else if (experts == host) {
      at_best(judge_.seconds(u, home, home));
    }
    return setting_.time.score(seconds);
  }

  // What the hop to this unit costs at the least; one from or to the host may be none at all, where
  // the host's layers are streamed.
  double hop(std::uint32_t u, std::uint32_t home) const {
    for (std::uint32_t before = u; before-- > 0;) {
      if (setting_.chain.units[before].tensors.empty()) continue;
      const std::uint32_t from = current_.home[before];
      const std::uint32_t host = setting_.time.host();
      if (from == home) return 0;
      if ((from == host || home == host) && !setting_.time.streamers().empty()) return 0;
      return setting_.time.score(setting_.time.hop(from, home));
    }
    return 0;
  }

  void visit(std::uint32_t u, double so_far) {
    if (++steps_ >= kMaxSteps || priced_ >= kMaxPriced || (first_only_ && best_)) return;
    if (u == options_.size()) return leaf();
    for (const Option& option : options_[u]) {
      if (so_far + option.least + rest_[u + 1] >= known_ * (1 - 1e-12)) break;
      if (leader_[u] != kNone && leader_[u] != u && option.home != current_.home[leader_[u]]) {
        continue;
      }
      const double cost = so_far + option.least +
                          (setting_.chain.units[u].tensors.empty() ? 0 : hop(u, option.home));
      if (cost + rest_[u + 1] >= known_ * (1 - 1e-12) || !put(u, option)) continue;
      current_.home[u] = option.home;
      current_.experts[u] = option.experts;
      visit(u + 1, cost);
      take(u, option);
    }
  }

  std::uint64_t resident(std::uint32_t u) const {
    const Unit& unit = setting_.chain.units[u];
    return judge_.freedom(u).core + judge_.freedom(u).computed + unit.kv_bytes + unit.logits;
  }

  // Adds what the unit takes at the least; false, and nothing added, where that is too much.
  bool put(std::uint32_t u, const Option& option) {
    add(u, option, true);
    for (const std::uint32_t d : {option.home, option.experts}) {
      if (used_[d] <= judge_.room(d).bytes && weights_[d] <= judge_.room(d).weight_bytes) continue;
      add(u, option, false);
      return false;
    }
    return true;
  }
  void take(std::uint32_t u, const Option& option) { add(u, option, false); }
  void add(std::uint32_t u, const Option& option, bool on) {
    const Freedom& free = judge_.freedom(u);
    const auto change = [on](std::uint64_t& sum, std::uint64_t by) {
      sum = on ? sum + by : sum - by;
    };
    change(used_[setting_.time.runs_on(option.home)], resident(u) - free.core);
    change(used_[option.home], free.core);
    change(weights_[option.home], free.core);
    change(used_[option.experts], free.part);
    change(weights_[option.experts], free.part);
  }

  void leaf() {
    if (first_only_) {
      if (judge_.fits(current_)) best_ = current_;
      return;
    }
    ++priced_;
    const auto priced = judge_.price(current_);
    if (!priced || priced->score >= known_ * (1 - 1e-12)) return;
    known_ = priced->score;
    best_ = current_;
  }

  const Setting& setting_;
  const Judge& judge_;
  double known_;
  bool first_only_ = false;
  std::vector<std::vector<Option>> options_;
  std::vector<double> rest_;  // by unit: the least that it and those after it cost
  std::vector<std::uint32_t> leader_;
  std::vector<std::uint64_t> used_, weights_;  // by device
  Candidate current_;
  std::optional<Candidate> best_;
  std::size_t steps_ = 0;
  std::size_t priced_ = 0;
};

bool is_short(const Setting& setting, const Judge& judge) {
  std::size_t free = 0;
  for (std::uint32_t u = 0; u < setting.chain.units.size(); ++u) {
    if (judge.freedom(u).fixed == kNone) ++free;
  }
  return free <= kExhaustiveUnits;
}

}  // namespace

Exhausted exhaust(const Setting& setting, const Judge& judge, const PipelineBuilder& builder,
                  const Tier& tier, double known) {
  if (!is_short(setting, judge)) return {};
  return Branching(setting, judge, builder, tier, known).run();
}

std::optional<Candidate> any_that_fits(const Setting& setting, const Judge& judge,
                                       const PipelineBuilder& builder, const Tier& tier) {
  if (!is_short(setting, judge)) return std::nullopt;
  return Branching(setting, judge, builder, tier, kNever).first();
}

}  // namespace berth
