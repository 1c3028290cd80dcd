#include "planner/search/packing_order.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <set>
#include <utility>

namespace berth {
namespace {

constexpr std::size_t kMostWays = 64;
constexpr std::size_t kWork = 40'000;  // ways that are looked at in all, about

// A way to come as far as some position.
struct Way {
  double cost = 0;                  // ns of hops
  double pending = 0;               // ns of hops to all bins that are yet to take items
  std::uint32_t bin = kNone;        // of the last position
  std::vector<std::uint32_t> left;  // [bin * kinds + kind]: items that it is yet to take
  std::vector<std::uint32_t> all;   // by bin: the sum of those
};

// How a way may go on.
struct Step {
  std::uint32_t before = 0;  // the way's index
  std::uint32_t bin = kNone;
  double cost = 0;
  double least = 0;  // with the hops that are still to come at the least
};

class Beam {
 public:
  explicit Beam(const PackedChain& chain)
      : chain_(chain),
        bins_(chain.counts.size()),
        kinds_(bins_ == 0 ? 0 : chain.counts[0].size()),
        arrival_(bins_, std::numeric_limits<double>::infinity()) {
    for (std::size_t from = 0; from < bins_; ++from) {
      for (std::size_t to = 0; to < bins_; ++to) {
        if (from != to) arrival_[to] = std::min(arrival_[to], chain.hop[from * bins_ + to]);
      }
    }
    const std::size_t each = std::max<std::size_t>(1, chain.kinds.size() * bins_);
    width_ = std::clamp<std::size_t>(kWork / each, 4, kMostWays);
  }

  std::vector<std::uint32_t> run() {
    Way start;
    for (std::size_t b = 0; b < bins_; ++b) {
      const auto& counts = chain_.counts[b];
      start.left.insert(start.left.end(), counts.begin(), counts.end());
      start.all.push_back(std::accumulate(counts.begin(), counts.end(), 0u));
      if (start.all[b] > 0) start.pending += arrival_[b];
    }
    std::vector<Way> ways{std::move(start)};
    std::vector<std::vector<Step>> trail;
    for (std::size_t at = 0; at < chain_.kinds.size(); ++at) {
      trail.push_back(best_steps(ways, at));
      std::vector<Way> next;
      for (const Step& step : trail.back()) next.push_back(go(ways[step.before], step, at));
      ways = std::move(next);
    }
    std::vector<std::uint32_t> out(chain_.kinds.size(), kNone);
    std::uint32_t index = 0;
    for (std::size_t at = out.size(); at-- > 0;) {
      out[at] = trail[at][index].bin;
      index = trail[at][index].before;
    }
    return out;
  }

 private:
  bool may(const Way& way, std::uint32_t bin, std::size_t at) const {
    const std::uint32_t kind = chain_.kinds[at];
    return kind == kNone ? chain_.fixed[at] == bin : way.left[bin * kinds_ + kind] > 0;
  }

  // The best ways to go on to position `at`, no two of which come to the same.
  std::vector<Step> best_steps(const std::vector<Way>& ways, std::size_t at) const {
    std::vector<Step> steps;
    for (std::uint32_t i = 0; i < ways.size(); ++i) {
      const Way& way = ways[i];
      for (std::size_t turn = 0; turn < bins_; ++turn) {  // of equals, the one without a hop first
        const std::size_t first = way.bin == kNone ? 0 : way.bin;
        const auto bin = static_cast<std::uint32_t>((first + turn) % bins_);
        if (!may(way, bin, at)) continue;
        Step step{i, bin, way.cost, 0};
        if (way.bin != kNone) step.cost += chain_.hop[way.bin * bins_ + bin];
        step.least = step.cost + way.pending - (way.all[bin] > 0 ? arrival_[bin] : 0);
        steps.push_back(step);
      }
    }
    std::stable_sort(steps.begin(), steps.end(),
                     [](const Step& a, const Step& b) { return a.least < b.least; });
    std::vector<Step> best;
    std::set<std::pair<std::uint32_t, std::vector<std::uint32_t>>> known;
    for (const Step& step : steps) {
      if (best.size() == width_) break;
      std::vector<std::uint32_t> left = ways[step.before].left;
      if (chain_.kinds[at] != kNone) --left[step.bin * kinds_ + chain_.kinds[at]];
      if (known.emplace(step.bin, std::move(left)).second) best.push_back(step);
    }
    return best;
  }

  Way go(const Way& from, const Step& step, std::size_t at) const {
    Way to = from;
    to.cost = step.cost;
    to.bin = step.bin;
    if (chain_.kinds[at] == kNone) return to;
    --to.left[step.bin * kinds_ + chain_.kinds[at]];
    if (--to.all[step.bin] == 0) to.pending -= arrival_[step.bin];
    return to;
  }

  const PackedChain& chain_;
  std::size_t bins_;
  std::size_t kinds_;
  std::size_t width_ = kMostWays;
  std::vector<double> arrival_;  // by bin: ns of the quickest hop to it
};

}  // namespace

std::vector<std::uint32_t> order_packed(const PackedChain& chain) { return Beam(chain).run(); }

}  // namespace berth
