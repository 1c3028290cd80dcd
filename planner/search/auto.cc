#include "planner/search/auto.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "planner/search/bounds.h"
#include "planner/search/exhaustive.h"
#include "planner/search/packer.h"
#include "planner/search/pipeline_bound.h"
#include "planner/search/pipeline_solver.h"
#include "planner/search/spread.h"
#include "planner/search/tiers.h"

namespace berth {
namespace {

// A gain of less than this share of the cost is not worth a further search: estimates are not
// nearly that exact.
constexpr double kNotWorthIt = 1e-3;
// Contiguous runs that may be this far from the best are compared with a packing in any order.
constexpr double kWorthPacking = 0.01;

// A placement that fits, and how good it is.
struct Found {
  Candidate candidate;
  Pricing::Priced priced;
  double cost = 0;  // what the policy minimises: seconds of the score, or of the slowest device
  bool exact = true;
  bool packed = false;
};

// One search, for one set of inputs. bottleneck_ tells `throughput` from `auto`.
class Search {
 public:
  explicit Search(const PlanInputs& inputs)
      : inputs_(inputs),
        bottleneck_(inputs.request.policy == Policy::kThroughput),
        judge_(inputs),
        builder_(inputs, judge_) {}

  // The best placement on the tier's devices; nothing if none fits.
  std::optional<AutoPlan> place(const Tier& tier);
  // Whether any placement on them fits.
  bool fits(const Tier& tier);
  // For a model that fits on no tier: finds the least memory that would make it fit, and the
  // placement with that much more. See AutoPlan::missing.
  AutoPlan stretch(const std::vector<Tier>& tiers);

 private:
  // The variants of the tier's pipeline that are tried. Those that stream are left out if streaming
  // is quicker for no block.
  std::vector<Variant> variants(const Tier& tier) const;
  bool may_stand_aside(const Tier& tier) const;  // experts of some unit
  bool may_move_embedding(const Tier& tier) const;
  std::vector<Streaming> streamings(const Tier& tier) const;

  // Solves the tier's pipeline in one variant; `best` becomes the placement if it is better.
  void attempt(const Tier& tier, Variant variant, std::optional<Found>& best);
  void leave_space(const Tier& tier, Variant variant, PipelinePlan plan, std::uint64_t over,
                   std::optional<Found>& best);
  std::uint64_t taken(const Tier& tier, const PipelinePlan& plan, std::uint32_t device) const;
  void ration_host(const Tier& tier, Variant variant, std::optional<Found>& best);
  // Whether the plan fits by the judge. If it does and is better than `best`, it becomes that.
  bool keep_if_better(const Tier& tier, const Variant& variant, const PipelinePlan& plan,
                      std::optional<Found>& best);
  std::optional<PipelinePlan> solve(const Tier& tier, const Variant& variant) const;
  std::optional<PipelinePlan> solve_groups(Pipeline& pipeline,
                                           const std::vector<std::vector<std::uint32_t>>& groups,
                                           std::size_t next) const;
  // A packing (packer.h), and what it costs.
  Found packed(Candidate candidate) const;
  double slowest(const Candidate& candidate) const;
  // Spreads what streams.
  void respace(Found& found) const;
  // Spreads what streams and, if the chain is short, tries every placement. `proven`: whether the
  // result is then known to be the best.
  void improve(const Tier& tier, Found& found, bool& proven);
  // The answer, with its gap to the lower bound.
  AutoPlan finish(const Tier& tier, const Found& found, bool proven) const;
  std::vector<std::uint64_t> pinned_excess() const;
  std::vector<std::uint32_t> growable(const Tier& tier,
                                      const std::vector<std::uint64_t>& excess) const;

  const PlanInputs& inputs_;
  bool bottleneck_;
  Judge judge_;
  PipelineBuilder builder_;
  bool stopped_ = false;  // a search for packings that fit stopped at its limit
};

bool Search::may_stand_aside(const Tier& tier) const {
  if (builder_.sides(tier).empty()) return false;
  for (std::uint32_t u = 0; u < inputs_.chain.units.size(); ++u) {
    if (judge_.freedom(u).experts > 0) return true;
  }
  return false;
}

bool Search::may_move_embedding(const Tier& tier) const {
  if (!tier.host) return false;
  for (std::uint32_t u = 0; u < inputs_.chain.units.size(); ++u) {
    if (inputs_.chain.units[u].module != inputs_.tree.facts.embedding) continue;
    const bool joined = std::any_of(
        inputs_.chain.joined.begin(), inputs_.chain.joined.end(),
        [&](const auto& group) { return std::find(group.begin(), group.end(), u) != group.end(); });
    return !joined && judge_.freedom(u).fixed == kNone;
  }
  return false;
}

std::vector<Streaming> Search::streamings(const Tier& tier) const {
  std::vector<Streaming> out{{}};
  const std::uint32_t host = inputs_.time.host();
  if (!tier.host || bottleneck_) return out;
  const auto& all = inputs_.time.streamers();
  const auto gpu = std::find_if(all.begin(), all.end(), [&](auto d) { return inputs_.usable[d]; });
  if (gpu == all.end()) return out;
  bool prompt = false;
  bool token = false;
  for (const Unit& unit : inputs_.chain.units) {
    if (!unit.block) continue;
    const Seconds copy = inputs_.time.transfer(unit, *gpu, {});
    const Seconds there = inputs_.time.piece(unit, *gpu);
    const Seconds here = inputs_.time.piece(unit, host);
    prompt = prompt || std::max(copy.prefill, there.prefill) < here.prefill;
    token = token || std::max(copy.token, there.token) < here.token;
  }
  if (prompt) out.push_back({true, false, *gpu});
  if (token) out.push_back({true, true, *gpu});
  return out;
}

std::vector<Variant> Search::variants(const Tier& tier) const {
  std::vector<Variant> out;
  for (const Streaming& streaming : streamings(tier)) {
    for (const bool on_host : {false, true}) {
      if (on_host && !may_move_embedding(tier)) continue;
      Variant variant;
      variant.streaming = streaming;
      variant.experts_aside = may_stand_aside(tier);
      variant.embedding_on_host = on_host;
      out.push_back(variant);
    }
  }
  return out;
}

// The best plan with each group of units on one device: tries every device for the group `next` and
// goes on to the groups after it. More than two groups are rare; all from the third on go where the
// first goes.
std::optional<PipelinePlan> Search::solve_groups(
    Pipeline& pipeline, const std::vector<std::vector<std::uint32_t>>& groups,
    std::size_t next) const {
  if (next == groups.size()) {
    return bottleneck_ ? solve_bottleneck(pipeline) : solve_latency(pipeline);
  }
  std::optional<PipelinePlan> best;
  const std::uint32_t was = pipeline.units[groups[next][0]].fixed;
  for (std::uint32_t d = 0; d < pipeline.devices.size(); ++d) {
    if (next >= 2 && d != pipeline.units[groups[0][0]].fixed) continue;
    if (was != kNone && d != was) continue;
    if (!pipeline.devices[d].open && was == kNone) continue;
    std::vector<std::uint32_t> before;
    for (const std::uint32_t u : groups[next]) {
      before.push_back(pipeline.units[u].fixed);
      pipeline.units[u].fixed = d;
      pipeline.units[u].experts = 0;
    }
    std::optional<PipelinePlan> plan = solve_groups(pipeline, groups, next + 1);
    for (std::size_t i = 0; i < before.size(); ++i)
      pipeline.units[groups[next][i]].fixed = before[i];
    if (plan && (!best || plan->cost < best->cost)) best = std::move(plan);
  }
  return best;
}

// Solves the tier's pipeline with its joined and tied units. If only the first unit of each tied
// group weighs anything, no solution with the right weights can cost less; this one is the answer
// if it puts every group on one device. If not, each group is put on every device in turn, and also
// placed freely, each unit with a copy of the weight; the cheaper one wins.
std::optional<PipelinePlan> Search::solve(const Tier& tier, const Variant& variant) const {
  const auto& joined = inputs_.chain.joined;
  std::vector<std::vector<std::uint32_t>> tied;
  for (const auto& group : inputs_.chain.tied) {
    if (judge_.freedom(group[0]).fixed == kNone) tied.push_back(group);
  }
  Variant apart = variant;
  apart.copies = true;
  if (!tied.empty() && variant.embedding_on_host) {
    Pipeline pipeline = builder_.build(tier, apart);
    return solve_groups(pipeline, joined, 0);
  }
  Pipeline relaxed = builder_.build(tier, variant);
  std::optional<PipelinePlan> best = solve_groups(relaxed, joined, 0);
  if (!best || tied.empty()) return best;
  const bool together = std::all_of(tied.begin(), tied.end(), [&](const auto& group) {
    return std::all_of(group.begin(), group.end(),
                       [&](auto u) { return best->device[u] == best->device[group[0]]; });
  });
  if (together) return best;
  const double least = best->cost;
  std::vector<std::vector<std::uint32_t>> groups = joined;
  groups.insert(groups.end(), tied.begin(), tied.end());
  best = solve_groups(relaxed, groups, 0);
  if (best && best->cost <= least) return best;
  Pipeline copies = builder_.build(tier, apart);
  std::optional<PipelinePlan> other = solve_groups(copies, joined, 0);
  return other && (!best || other->cost < best->cost) ? other : best;
}

bool Search::keep_if_better(const Tier& tier, const Variant& variant, const PipelinePlan& plan,
                            std::optional<Found>& best) {
  Found found;
  found.candidate = builder_.candidate(tier, variant, plan);
  std::optional<Pricing::Priced> priced = judge_.price(found.candidate);
  if (!priced) return false;
  found.priced = std::move(*priced);
  found.cost = bottleneck_ ? plan.cost * 1e-9 : found.priced.score;
  found.exact = plan.exact;
  if (!best || found.cost < best->cost * (1 - 1e-12)) best = std::move(found);
  return true;
}

void Search::attempt(const Tier& tier, Variant variant, std::optional<Found>& best) {
  const std::uint32_t host = inputs_.time.host();
  if (bottleneck_ && variant.experts_aside) {
    // The pipeline does not count the time that the host takes for experts aside, so they stand
    // aside only if nothing fits otherwise.
    variant.experts_aside = false;
    attempt(tier, variant, best);
    if (best) return;
    variant.experts_aside = true;
  }
  const std::uint32_t runner = builder_.disk_runner(tier);
  const std::optional<PipelinePlan> plan = solve(tier, variant);
  if (!plan || keep_if_better(tier, variant, *plan, best)) return;
  const Judge::Usage usage = judge_.usage(builder_.candidate(tier, variant, *plan));
  if (runner != kNone) {
    leave_space(tier, variant, *plan, judge_.over(usage, runner), best);
  } else if (host != kNone && judge_.over(usage, host) > 0 && !plan->aside.empty()) {
    ration_host(tier, variant, best);
  }
}

// The most bytes that a plan's units can take of a device: every tied weight is counted as a copy.
std::uint64_t Search::taken(const Tier& tier, const PipelinePlan& plan,
                            std::uint32_t device) const {
  const std::vector<std::uint32_t> devices = builder_.devices(tier);
  std::uint64_t bytes = 0;
  std::uint64_t workspace = 0;
  for (std::uint32_t u = 0; u < plan.device.size(); ++u) {
    if (devices[plan.device[u]] != device) continue;
    const Unit& unit = inputs_.chain.units[u];
    const Freedom& free = judge_.freedom(u);
    bytes += free.core + free.experts + free.computed + unit.tied + unit.kv_bytes + unit.logits;
    workspace = std::max(workspace, unit.activation);
  }
  return bytes + workspace;
}

// What units on the disk need where they run (KV cache, buffers) is known only once the pipeline is
// solved. This finds the least space to leave free for it, by doubling and bisection, and tries the
// plans on the way. `plan`: the solution that left none; `over`: the bytes that it lacked.
//
// Leaving more space free only takes placements away. The best one therefore stays the best for as
// long as it fits, and need not be looked for again; and costs only rise with the space that is
// left free. A placement for which the space was not enough is thus a lower bound on all that do
// fit, and the search ends once that bound is no better than what is known.
void Search::leave_space(const Tier& tier, Variant variant, PipelinePlan plan, std::uint64_t over,
                         std::optional<Found>& best) {
  const std::uint32_t runner = builder_.disk_runner(tier);
  const std::uint64_t all =
      judge_.space(runner).bytes - std::min(judge_.space(runner).bytes, judge_.loose(runner));
  struct Known {
    std::uint64_t from, to;  // the plan is the best if this many bytes are left free
    PipelinePlan plan;
  };
  std::vector<Known> solved;
  std::uint64_t low = 0;  // leaving this many bytes free is not enough
  const auto remember = [&](std::uint64_t bytes, PipelinePlan found) {
    const std::uint64_t used = taken(tier, found, runner);
    const std::uint64_t most = used == 0 ? kUnlimited : all - std::min(all, used);
    solved.push_back({bytes, std::max(bytes, most), std::move(found)});
  };
  double least = plan.cost * 1e-9;  // seconds; no placement that fits costs less
  remember(0, std::move(plan));
  const auto hopeless = [&] { return best && least >= best->cost * (1 - kNotWorthIt); };
  const auto attempt_with = [&](std::uint64_t bytes) {
    variant.host_short = bytes;
    auto known = std::find_if(solved.begin(), solved.end(), [&](const Known& one) {
      return one.from <= bytes && bytes <= one.to;
    });
    if (known == solved.end()) {
      std::optional<PipelinePlan> found = solve(tier, variant);
      if (!found) return false;
      remember(bytes, *std::move(found));
      known = solved.end() - 1;
    }
    if (keep_if_better(tier, variant, known->plan, best)) return true;
    least = std::max(least, known->plan.cost * 1e-9);
    low = std::max(low, known->to);
    return false;
  };
  low = solved[0].to;
  if (over == 0 || hopeless()) return;
  std::uint64_t high = over;
  while (!attempt_with(high)) {
    high = std::max(high, low) * 2;
    if (high > judge_.space(runner).bytes * 2 || hopeless()) return;
  }
  for (int round = 0; round < 3 && low + 1 < high && !hopeless(); ++round) {
    const std::uint64_t middle = low + (high - low) / 2;
    if (attempt_with(middle)) high = middle;
    // If the next best placement fits, no other that fits is better.
    if (low + 1 < high && !hopeless() && attempt_with(low + 1)) return;
  }
}

// The experts aside of all GPUs together are more than the host has space for. A price on every
// byte of the host makes the GPUs keep more experts; bisection finds the lowest price that is
// enough.
void Search::ration_host(const Tier& tier, Variant variant, std::optional<Found>& best) {
  double low = 0;
  double high = 1e-2;
  const auto attempt_at = [&](double price) {
    variant.host_price = price;
    const std::optional<PipelinePlan> plan = solve(tier, variant);
    return plan && keep_if_better(tier, variant, *plan, best);
  };
  while (!attempt_at(high)) {
    low = high;
    high *= 8;
    if (high > 1e6) return;
  }
  for (int round = 0; round < 10; ++round) {
    const double middle = low + (high - low) / 2;
    (attempt_at(middle) ? high : low) = middle;
  }
}

void Search::respace(Found& found) const {
  if (bottleneck_) return;
  for (Candidate& candidate : spread(inputs_, judge_, found.candidate, found.priced.streaming)) {
    std::optional<Pricing::Priced> priced = judge_.price(candidate);
    if (!priced || priced->score >= found.cost * (1 - 1e-3)) continue;
    found.cost = priced->score;
    found.priced = std::move(*priced);
    found.candidate = std::move(candidate);
  }
}

void Search::improve(const Tier& tier, Found& found, bool& proven) {
  respace(found);
  if (bottleneck_) return;
  Exhausted all = exhaust(inputs_, judge_, builder_, tier, found.cost);
  proven = all.complete;
  if (!all.best) return;
  found.priced = *judge_.price(*all.best);
  found.cost = found.priced.score;
  found.candidate = std::move(*all.best);
}

AutoPlan Search::finish(const Tier& tier, const Found& found, bool proven) const {
  AutoPlan out;
  out.tensor_device = judge_.tensor_device(found.candidate);
  out.exact = found.exact || proven;
  out.packed = found.packed;
  out.stopped = stopped_;
  out.gap = 0;
  if (proven || found.cost <= 0) return out;
  double least = 0;
  if (bottleneck_) {
    Variant variant;
    const Pipeline pipeline = builder_.build(tier, variant);
    least = slowest_bound(pipeline) * 1e-9;
  } else {
    least = score_bound(inputs_, judge_, builder_, tier, found.candidate, found.cost);
  }
  out.gap = std::max(0.0, (found.cost - least) / found.cost);
  if (*out.gap < 1e-6) out.gap = 0;
  return out;
}

// Seconds of the device that takes the longest.
double Search::slowest(const Candidate& candidate) const {
  std::vector<double> seconds(inputs_.machine.devices.size(), 0);
  for (std::uint32_t u = 0; u < candidate.home.size(); ++u) {
    const Seconds own = judge_.seconds(u, candidate.home[u], candidate.experts[u]);
    seconds[candidate.home[u]] += inputs_.time.score(own);
  }
  return *std::max_element(seconds.begin(), seconds.end());
}

Found Search::packed(Candidate candidate) const {
  Found found;
  found.packed = true;
  found.candidate = std::move(candidate);
  found.priced = *judge_.price(found.candidate);
  found.cost = bottleneck_ ? slowest(found.candidate) : found.priced.score;
  return found;
}

std::optional<AutoPlan> Search::place(const Tier& tier) {
  std::optional<Found> best;
  for (const Variant& variant : variants(tier)) attempt(tier, variant, best);
  if (!best) {
    PackedPlan plan = pack_tier(inputs_, judge_, builder_, tier, bottleneck_);
    stopped_ = stopped_ || (!plan.best && !plan.complete);
    if (!plan.best) return std::nullopt;
    best = packed(*std::move(plan.best));
  }
  bool proven = false;
  improve(tier, *best, proven);
  AutoPlan out = finish(tier, *best, proven);
  if (best->packed || bottleneck_ || *out.gap < kWorthPacking) return out;
  PackedPlan plan = pack_better(inputs_, judge_, builder_, tier, best->cost * (1 - kNotWorthIt));
  if (!plan.best) return out;
  Found other = packed(*std::move(plan.best));
  respace(other);
  if (other.cost >= best->cost * (1 - kNotWorthIt)) return out;
  other.packed = false;  // it is better, but not the only one that fits
  return finish(tier, other, false);
}

bool Search::fits(const Tier& tier) {
  std::optional<Found> best;
  for (const Variant& variant : variants(tier)) {
    if (variant.streaming.any()) continue;
    attempt(tier, variant, best);
    if (best) return true;
  }
  return pack_any(inputs_, judge_, builder_, tier).best.has_value();
}

// By device: the bytes by which what overrides put there exceeds its space.
std::vector<std::uint64_t> Search::pinned_excess() const {
  const std::size_t count = inputs_.machine.devices.size();
  std::vector<std::uint64_t> weights(count, 0);
  std::vector<std::uint64_t> rest(count, 0);
  std::vector<std::uint64_t> activation(count, 0);
  for (std::uint32_t u = 0; u < inputs_.chain.units.size(); ++u) {
    const Unit& unit = inputs_.chain.units[u];
    const Freedom& free = judge_.freedom(u);
    if (free.fixed == kNone) continue;
    const std::uint32_t runner = inputs_.time.runs_on(free.fixed);
    weights[free.fixed] += free.core + free.experts;
    rest[free.fixed] += free.computed;
    rest[runner] += unit.kv_bytes + unit.logits;
    activation[runner] = std::max(activation[runner], unit.activation);
  }
  std::vector<std::uint64_t> excess(count, 0);
  for (std::uint32_t d = 0; d < count; ++d) {
    const Space& space = inputs_.spaces[d];
    const std::uint64_t held = weights[d] + judge_.loose(d);
    const std::uint64_t total = held + rest[d] + activation[d];
    excess[d] =
        std::max(total - std::min(total, space.bytes), held - std::min(held, space.weight_bytes));
  }
  return excess;
}

// The devices to which more memory may be given to make the model fit: the GPU with the largest
// budget (one is as good as another), the CPU, the disk, and devices that overrides overfill.
std::vector<std::uint32_t> Search::growable(const Tier& tier,
                                            const std::vector<std::uint64_t>& excess) const {
  std::vector<std::uint32_t> out;
  std::uint32_t gpu = kNone;
  for (const std::uint32_t d : tier.devices) {
    const bool larger =
        gpu == kNone || inputs_.spaces[d].weight_bytes > inputs_.spaces[gpu].weight_bytes;
    if (inputs_.is_gpu(d) && larger) gpu = d;
    if (!inputs_.is_gpu(d)) out.push_back(d);
  }
  if (gpu != kNone) out.insert(out.begin(), gpu);
  for (std::uint32_t d = 0; d < excess.size(); ++d) {
    const bool known = std::find(out.begin(), out.end(), d) != out.end();
    if (excess[d] > 0 && !known) out.push_back(d);
  }
  return out;
}

AutoPlan Search::stretch(const std::vector<Tier>& tiers) {
  const Tier& widest = tiers.back();
  const std::vector<std::uint64_t> excess = pinned_excess();
  // Gives `extra` bytes more to `device`, or, if that is kNone, to every device.
  const auto grow = [&](std::uint32_t device, std::uint64_t extra) {
    for (std::uint32_t d = 0; d < excess.size(); ++d) {
      judge_.stretch(d, excess[d] + (d == device || device == kNone ? extra : 0));
    }
  };
  const auto fits_with = [&](std::uint32_t device, std::uint64_t extra) {
    grow(device, extra);
    return fits(widest);
  };
  std::uint64_t need = 0;  // more than a device that holds everything needs
  for (const Unit& unit : inputs_.chain.units) {
    need += 3 * unit.weights + unit.kv_bytes + unit.logits + unit.computed + unit.activation;
  }
  std::uint32_t grown = kNone;
  std::uint64_t extra = fits_with(kNone, 0) ? 0 : need + 1;
  const auto least_of = [&](std::uint32_t device) {
    std::uint64_t low = 0;
    std::uint64_t high = extra - 1;
    if (extra == 0 || !fits_with(device, high)) return;
    while (high - low > 1) {
      const std::uint64_t middle = low + (high - low) / 2;
      (fits_with(device, middle) ? high : low) = middle;
    }
    grown = device;
    extra = high;
  };
  for (const std::uint32_t device : growable(widest, excess)) least_of(device);
  const bool one_will_do = extra <= need;
  if (!one_will_do) least_of(kNone);
  grow(grown, extra);
  AutoPlan out;
  out.fits = false;
  out.stopped = stopped_;
  out.missing = extra;
  for (const std::uint64_t bytes : excess) out.missing += bytes;
  for (const Tier& tier : tiers) {
    if (std::optional<AutoPlan> placed = place(tier)) {
      out.tensor_device = std::move(placed->tensor_device);
      return out;
    }
  }
  // Nothing fits even so, because of the overrides. What they leave goes to the device with the
  // largest budget.
  const std::uint32_t largest = *std::max_element(
      widest.devices.begin(), widest.devices.end(), [&](std::uint32_t a, std::uint32_t b) {
        return inputs_.spaces[a].weight_bytes < inputs_.spaces[b].weight_bytes;
      });
  out.tensor_device = inputs_.pinned;
  for (std::uint32_t& device : out.tensor_device) {
    if (device == kNone) device = largest;
  }
  return out;
}

}  // namespace

AutoPlan auto_place(const PlanInputs& inputs) {
  const std::vector<Tier> tiers = make_tiers(inputs);
  Search search(inputs);
  for (const Tier& tier : tiers) {
    if (std::optional<AutoPlan> plan = search.place(tier)) return std::move(*plan);
  }
  if (!tiers.empty()) return search.stretch(tiers);
  AutoPlan none;
  none.fits = false;
  none.tensor_device.assign(inputs.tree.tensors.size(), kNone);
  for (const Unit& unit : inputs.chain.units) none.missing += unit.weights + unit.kv_bytes;
  return none;
}

bool auto_fits(const PlanInputs& inputs) {
  const std::vector<Tier> tiers = make_tiers(inputs);
  return !tiers.empty() && Search(inputs).fits(tiers.back());
}

}  // namespace berth
