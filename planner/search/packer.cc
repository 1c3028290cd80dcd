#include "planner/search/packer.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "planner/search/items.h"
#include "planner/search/packing.h"
#include "planner/search/packing_order.h"

namespace berth {
namespace {

constexpr double kPiecesTakeMore = 1.02;

// a - b, or 0 if b is more.
std::uint64_t less(std::uint64_t a, std::uint64_t b) { return a > b ? a - b : 0; }

class Packer {
 public:
  Packer(const PlanInputs& inputs, const Judge& judge, const PipelineBuilder& builder,
         const Tier& tier)
      : inputs_(inputs),
        judge_(judge),
        tier_(tier),
        devices_(builder.devices(tier)),
        settled_(settled_homes(inputs, judge)),
        runner_(builder.disk_runner(tier)) {
    settled_candidate_.home = settled_candidate_.experts = settled_;
    base_ = judge.usage(settled_candidate_);
  }

  // Whether there is no need to search: the sums do not fit.
  bool too_much() const;
  // From now on looks only for packings that take less than so many seconds.
  void stay_below(double seconds) { below_ = seconds * 1e9; }
  PackedPlan run(PackGoal goal, bool bottleneck, std::uint64_t steps);

 private:
  Packing packing(const Items& items) const;
  // The best packing of these items, or, if `bottleneck`, the one whose slowest bin takes the least
  // time.
  Packed solve(const Packing& packing, PackGoal goal, bool bottleneck, std::uint64_t& steps) const;
  Candidate candidate(const Items& items,
                      const std::vector<std::vector<std::uint32_t>>& counts) const;
  void place_experts(const Items& items, std::vector<std::vector<std::uint32_t>> left,
                     Candidate& out) const;
  double hop(std::uint32_t from, std::uint32_t to) const {
    return from == to ? 0 : nanoseconds(inputs_.time.score(inputs_.time.hop(from, to)));
  }

  const PlanInputs& inputs_;
  const Judge& judge_;
  const Tier& tier_;
  std::vector<std::uint32_t> devices_;  // the tier's, then those that overrides put units on
  std::vector<std::uint32_t> settled_;  // by unit: its device, if it may not move
  std::uint32_t runner_;
  Candidate settled_candidate_;
  Judge::Usage base_;                                       // of the units that may not move
  double below_ = std::numeric_limits<double>::infinity();  // ns
};

bool Packer::too_much() const {
  const auto over = [&](std::uint32_t d) { return judge_.over(base_, d) > 0; };
  if (std::any_of(devices_.begin(), devices_.end(), over)) return true;
  double bytes = 0;
  double weights = 0;
  for (std::uint32_t u = 0; u < settled_.size(); ++u) {
    if (settled_[u] != kNone) continue;
    const Unit& unit = inputs_.chain.units[u];
    const Freedom& free = judge_.freedom(u);
    weights += static_cast<double>(free.core + free.experts);
    bytes += static_cast<double>(free.computed + unit.kv_bytes + unit.logits);
  }
  bytes += weights;
  for (const std::uint32_t d : tier_.devices) {
    const Space& space = judge_.space(d);
    bytes -= static_cast<double>(less(space.bytes, base_.total[d]));
    weights -= static_cast<double>(less(space.weight_bytes, base_.weights[d]));
  }
  return bytes > 0 || weights > 0;
}

Packing Packer::packing(const Items& items) const {
  Packing out;
  out.kinds = items.kinds;
  out.hop = std::numeric_limits<double>::infinity();
  for (std::uint32_t b = 0; b < tier_.devices.size(); ++b) {
    const std::uint32_t d = tier_.devices[b];
    const Space& space = judge_.space(d);
    PackBin bin;
    bin.space = space.bytes;
    bin.weight_space = space.weight_bytes;
    bin.held = base_.total[d] - base_.activation[d];
    bin.held_weights = base_.weights[d];
    bin.activation = base_.activation[d];
    bin.disk = inputs_.time.runs_on(d) != d;
    if (d == runner_) out.runner = b;
    for (std::uint32_t u = 0; u < settled_.size(); ++u) {
      if (settled_[u] == d) {
        bin.time += nanoseconds(inputs_.time.score(judge_.seconds(u, d, d)));
      }
    }
    for (const std::uint32_t other : tier_.devices) {
      if (other != d) out.hop = std::min(out.hop, hop(other, d));
    }
    out.bins.push_back(bin);
  }
  if (out.bins.size() < 2) out.hop = 0;
  out.apart = 2 * out.hop;
  if (runner_ != kNone) out.buffer = base_.buffer[runner_];
  // Pieces apart can take a little more together than the whole unit is priced.
  const bool apart = std::any_of(out.kinds.begin(), out.kinds.end(),
                                 [](const PackKind& kind) { return kind.half != 0; });
  out.most_total = apart ? below_ * kPiecesTakeMore : below_;
  for (const PackBin& bin : out.bins) out.most_total -= bin.time;
  return out;
}

Packed Packer::solve(const Packing& given, PackGoal goal, bool bottleneck,
                     std::uint64_t& steps) const {
  Packing limited = given;
  Packed best = pack(limited, goal, steps);
  if (bottleneck) best.others.clear();
  if (!bottleneck || goal == PackGoal::kAny || !best.found()) return best;
  const auto slowest = [&](const Packed& packed) {
    double most = 0;
    for (std::size_t b = 0; b < packed.counts.size(); ++b) {
      double time = given.bins[b].time;
      for (std::size_t k = 0; k < given.kinds.size(); ++k) {
        time += packed.counts[b][k] * given.kinds[k].time[b];
      }
      most = std::max(most, time);
    }
    return most;
  };
  double low = 0;
  double high = slowest(best);
  for (int round = 0; round < 30 && high - low > high * 1e-6 && steps > 0; ++round) {
    limited.most_time = low + (high - low) / 2;
    Packed other = pack(limited, PackGoal::kAny, steps);
    if (!other.found()) {
      low = limited.most_time;
      best.complete = best.complete && other.complete;
      continue;
    }
    high = slowest(other);
    other.complete = best.complete;
    best = std::move(other);
  }
  best.time = high;
  return best;
}

// Experts go where their layer is, as far as the packing has room for experts there; the others go
// where they take the least time.
void Packer::place_experts(const Items& items, std::vector<std::vector<std::uint32_t>> left,
                           Candidate& out) const {
  std::vector<const Item*> others;
  for (const Item& item : items.items) {
    if (item.part != ItemPart::kExperts) continue;
    const auto at = std::find(tier_.devices.begin(), tier_.devices.end(), out.home[item.units[0]]);
    const auto bin = static_cast<std::size_t>(at - tier_.devices.begin());
    if (bin == left.size() || left[bin][item.kind] == 0) {
      others.push_back(&item);
      continue;
    }
    --left[bin][item.kind];
    out.experts[item.units[0]] = tier_.devices[bin];
  }
  for (const Item* item : others) {
    const std::uint32_t u = item->units[0];
    double least = std::numeric_limits<double>::infinity();
    std::size_t best = left.size();
    for (std::size_t b = 0; b < left.size(); ++b) {
      if (left[b][item->kind] == 0) continue;
      const double seconds = inputs_.time.score(judge_.seconds(u, out.home[u], tier_.devices[b]));
      if (best < left.size() && seconds >= least) continue;
      least = seconds;
      best = b;
    }
    --left[best][item->kind];
    out.experts[u] = tier_.devices[best];
  }
}

Candidate Packer::candidate(const Items& items,
                            const std::vector<std::vector<std::uint32_t>>& counts) const {
  std::vector<std::vector<std::uint32_t>> left = counts;
  std::vector<std::uint32_t> kind(settled_.size(), kNone);
  std::vector<std::uint32_t> fixed(settled_.size(), kNone);  // positions in devices_
  for (const Item& item : items.items) {
    if (item.part == ItemPart::kExperts) continue;
    if (item.units.size() == 1) {
      kind[item.units[0]] = item.kind;
      continue;
    }
    std::uint32_t bin = 0;  // the only one that has it
    while (left[bin][item.kind] == 0) ++bin;
    left[bin][item.kind] = 0;
    for (const std::uint32_t u : item.units) fixed[u] = bin;
  }
  PackedChain chain;
  std::vector<std::uint32_t> units;  // by position of the chain
  for (std::uint32_t u = 0; u < settled_.size(); ++u) {
    if (settled_[u] != kNone) {
      fixed[u] = static_cast<std::uint32_t>(
          std::find(devices_.begin(), devices_.end(), settled_[u]) - devices_.begin());
    }
    if (inputs_.chain.units[u].tensors.empty()) continue;
    units.push_back(u);
    chain.kinds.push_back(kind[u]);
    chain.fixed.push_back(fixed[u]);
  }
  chain.counts = left;
  for (auto& of_bin : chain.counts) {
    for (const Item& item : items.items) {
      if (item.part == ItemPart::kExperts) of_bin[item.kind] = 0;
    }
  }
  chain.counts.resize(devices_.size(), std::vector<std::uint32_t>(items.kinds.size(), 0));
  for (const std::uint32_t from : devices_) {
    // A hop that costs nothing is still one more run for the reader of a plan.
    for (const std::uint32_t to : devices_) chain.hop.push_back(hop(from, to) + (from != to));
  }
  const std::vector<std::uint32_t> order = order_packed(chain);
  Candidate out;
  out.home.assign(settled_.size(), devices_[0]);
  for (std::size_t at = 0; at < units.size(); ++at) out.home[units[at]] = devices_[order[at]];
  for (std::uint32_t u = 0; u < settled_.size(); ++u) {  // units without tensors go along
    if (inputs_.chain.units[u].tensors.empty() && u > 0) out.home[u] = out.home[u - 1];
  }
  out.experts = out.home;
  place_experts(items, left, out);
  return out;
}

PackedPlan Packer::run(PackGoal goal, bool bottleneck, std::uint64_t steps) {
  PackedPlan out;
  const std::vector<Together> ways = ways_to_share(inputs_, settled_, out.complete);
  bool experts = false;
  for (std::uint32_t u = 0; u < settled_.size(); ++u) {
    experts = experts || (settled_[u] == kNone && judge_.freedom(u).experts > 0);
  }
  double least = std::numeric_limits<double>::infinity();
  std::size_t searches = ways.size() * (experts ? 2 : 1);  // to come
  for (const bool pieces : {false, true}) {
    if (pieces && !experts) break;
    for (const Together& way : ways) {
      const Items items = make_items(inputs_, judge_, way, settled_, tier_.devices, pieces);
      // Every search gets an even share of the steps that are left.
      std::uint64_t share = steps / searches--;
      steps -= share;
      const Packed packed = solve(packing(items), goal, bottleneck, share);
      steps += share;
      out.complete = out.complete && packed.complete;
      if (!packed.found()) continue;
      std::vector<std::vector<std::vector<std::uint32_t>>> answers = packed.others;
      answers.push_back(packed.counts);
      for (const auto& counts : answers) {
        Candidate found = candidate(items, counts);
        const std::optional<Pricing::Priced> priced = judge_.price(found);
        out.complete = out.complete && priced;
        if (!priced) continue;
        const double cost = bottleneck ? packed.time : priced->score;
        if (cost >= least) continue;
        least = cost;
        out.best = std::move(found);
        if (goal == PackGoal::kAny) return out;
      }
    }
  }
  return out;
}

}  // namespace

PackedPlan pack_tier(const PlanInputs& inputs, const Judge& judge, const PipelineBuilder& builder,
                     const Tier& tier, bool bottleneck) {
  Packer packer(inputs, judge, builder, tier);
  if (packer.too_much()) return {};
  PackedPlan any = packer.run(PackGoal::kAny, bottleneck, kPackStepsToFit);
  if (!any.best && !any.complete) any = packer.run(PackGoal::kAny, bottleneck, kPackSteps);
  if (!any.best) return any;
  PackedPlan best = packer.run(PackGoal::kLeastTime, bottleneck, kPackSteps);
  return best.best ? best : any;
}

PackedPlan pack_better(const PlanInputs& inputs, const Judge& judge, const PipelineBuilder& builder,
                       const Tier& tier, double known) {
  Packer packer(inputs, judge, builder, tier);
  if (packer.too_much()) return {};
  packer.stay_below(known);
  return packer.run(PackGoal::kLeastTime, false, kPackStepsToImprove);
}

PackedPlan pack_any(const PlanInputs& inputs, const Judge& judge, const PipelineBuilder& builder,
                    const Tier& tier) {
  Packer packer(inputs, judge, builder, tier);
  if (packer.too_much()) return {};
  return packer.run(PackGoal::kAny, false, kPackStepsToFit);
}

}  // namespace berth
