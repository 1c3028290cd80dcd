#include "planner/search/pipeline_solver.h"

#include <algorithm>

#include "planner/search/pipeline_problem.h"

namespace berth {
namespace {

using namespace pipeline;

// The dynamic program of solve_latency().
class Latency {
 public:
  explicit Latency(const Problem& problem)
      : problem_(problem),
        states_(problem),
        windows_(problem, states_),
        n_(problem.count()),
        kinds_(problem.kinds.size()),
        crosses_(std::any_of(problem.between.begin() + 1, problem.between.end() - 1,
                             [](const Path& path) { return !path.empty(); })) {}
  std::optional<PipelinePlan> solve();

 private:
  // best(state, kind)[j], for j within the state's window: the least cost of placing the first j
  // units on the state's devices, with the last run on the newest device of `kind`. May be read
  // only if known(state, kind).
  double* best(std::size_t state, std::size_t kind) {
    return best_.data() + row_[state] + kind * width(state) - windows_.first[state];
  }
  std::size_t width(std::size_t state) const {
    return windows_.empty(state) ? 0 : windows_.last[state] - windows_.first[state] + 1;
  }
  bool in_window(std::size_t state, std::size_t j) const {
    return windows_.first[state] <= j && j <= windows_.last[state];
  }
  std::uint8_t& known(std::size_t state, std::size_t kind) { return known_[state * kinds_ + kind]; }
  std::uint32_t newest(std::size_t state, std::size_t kind) const {
    return problem_.kinds[kind][states_.used(state, kind) - 1];
  }
  // Fills start_[i]: the least cost of placing the first i units on the devices of `before` and of
  // going on to `device`.
  void fill_start(std::size_t before, std::uint32_t device);
  // Whether fill_start() gives the same for devices a and b, as the hops to them are the same.
  bool same_hops(std::size_t before, std::uint32_t a, std::uint32_t b) const;
  double arrival(std::size_t before, std::size_t last, std::size_t i, std::uint32_t device) {
    if (!known(before, last) || !in_window(before, i)) return kInfinity;
    return best(before, last)[i] + problem_.cross(i, newest(before, last), device);
  }
  // Fills best() of the state with one more device of `kind` than `before`, from start_.
  void fill(std::size_t before, std::size_t kind);
  void fill_with_aside(std::size_t before, std::size_t kind);
  PipelinePlan trace(std::size_t state, std::size_t kind, double cost);

  const Problem& problem_;
  States states_;
  Windows windows_;
  std::size_t n_;
  std::size_t kinds_;
  bool crosses_;                     // fixed units stand between movable ones
  std::vector<double> best_;         // for each state a row for each kind
  std::vector<std::size_t> row_;     // by state: where its rows begin in best_
  std::vector<std::uint8_t> known_;  // by state and kind: some entry of the row is finite
  std::vector<double> start_;
  std::vector<double> key_;
  std::vector<std::uint32_t> window_;
};

bool Latency::same_hops(std::size_t before, std::uint32_t a, std::uint32_t b) const {
  if (crosses_) return a == b;
  for (std::size_t last = 0; last < kinds_; ++last) {
    if (states_.used(before, last) == 0) continue;
    const std::uint32_t from = newest(before, last);
    if (problem_.pipeline.hop_time(from, a) != problem_.pipeline.hop_time(from, b)) return false;
  }
  return true;
}

void Latency::fill_start(std::size_t before, std::uint32_t device) {
  std::fill(start_.begin(), start_.end(), kInfinity);
  if (before == 0) {
    start_[0] = problem_.cross(0, kNone, device);
    return;
  }
  const std::size_t begin = std::max<std::size_t>(1, windows_.first[before]);
  const std::size_t end = windows_.last[before] + 1;
  for (std::size_t last = 0; last < kinds_; ++last) {
    if (states_.used(before, last) == 0) continue;
    if (!known(before, last)) continue;
    const double* from = best(before, last);
    const double hop = problem_.pipeline.hop_time(newest(before, last), device);
    for (std::size_t i = begin; i < end; ++i) start_[i] = std::min(start_[i], from[i] + hop);
  }
  if (!crosses_) return;
  for (std::size_t i = 1; i < n_; ++i) {  // at boundaries with fixed units the way leads over them
    if (problem_.between[i].empty()) continue;
    start_[i] = kInfinity;
    for (std::size_t last = 0; last < kinds_; ++last) {
      if (states_.used(before, last) > 0) {
        start_[i] = std::min(start_[i], arrival(before, last, i, device));
      }
    }
  }
}

void Latency::fill(std::size_t before, std::size_t kind) {
  const std::size_t state = before + states_.stride[kind];
  const std::vector<double>& sum = problem_.prefix[kind];
  const std::vector<double>& through = problem_.through[kind];
  const std::vector<std::uint32_t>& first = problem_.first[kind];
  const std::uint32_t begin = windows_.first[before];
  const std::uint32_t end = windows_.last[before];
  for (std::size_t i = begin; i <= end; ++i) {
    // Detours over boundaries i+1 .. j-1 belong to a run [i, j); through[j] counts up to j-1.
    key_[i] = start_[i] - sum[i] - (i < n_ ? through[i + 1] : 0);
  }
  if (problem_.has_aside(kind)) {
    fill_with_aside(before, kind);
    return;
  }
  const std::uint32_t least = std::max(begin + 1, windows_.first[state]);
  const std::uint32_t most = windows_.last[state];
  double* out = best(state, kind);
  bool any = false;
  std::size_t head = 0;
  window_.clear();
  std::uint32_t next = begin;
  for (std::uint32_t j = least; j <= most; ++j) {
    for (; next < j && next <= end; ++next) {
      while (window_.size() > head && key_[window_.back()] >= key_[next]) window_.pop_back();
      window_.push_back(next);
    }
    while (window_.size() > head && window_[head] < first[j]) ++head;
    if (window_.size() <= head) continue;
    out[j] = sum[j] + through[j] + key_[window_[head]];
    any = any || out[j] < kInfinity;
  }
  known(state, kind) = any ? 1 : 0;
}

// fill() for experts aside. Their price for a run is no sum over its units, so that the sliding
// window of fill() does not work and every start is tried.
void Latency::fill_with_aside(std::size_t before, std::size_t kind) {
  const std::size_t state = before + states_.stride[kind];
  const std::vector<double>& sum = problem_.prefix[kind];
  const std::vector<double>& through = problem_.through[kind];
  const std::uint32_t begin = windows_.first[before];
  const std::uint32_t end = windows_.last[before];
  double* out = best(state, kind);
  bool any = false;
  for (std::uint32_t j = std::max(begin + 1, windows_.first[state]); j <= windows_.last[state];
       ++j) {
    double least = kInfinity;
    for (std::uint32_t i = std::max(begin, problem_.first[kind][j]); i < j && i <= end; ++i) {
      least = std::min(least, key_[i] + problem_.aside(kind, i, j));
    }
    out[j] = sum[j] + through[j] + least;
    any = any || out[j] < kInfinity;
  }
  known(state, kind) = any ? 1 : 0;
}

// Walks back from the cheapest end to make the plan. Of equally good ones it takes the one whose
// later runs begin as late as they can, so that preferred devices fill up first.
PipelinePlan Latency::trace(std::size_t state, std::size_t kind, double cost) {
  PipelinePlan plan;
  plan.cost = cost;
  plan.exact = problem_.exact_aside;
  plan.device.resize(problem_.pipeline.units.size());
  for (std::size_t u = 0; u < plan.device.size(); ++u) {
    plan.device[u] = problem_.pipeline.units[u].fixed;
  }
  for (std::size_t end = n_; end > 0;) {
    fill_start(state - states_.stride[kind], newest(state, kind));
    const std::vector<double>& sum = problem_.prefix[kind];
    const std::vector<double>& through = problem_.through[kind];
    std::size_t begin = end;
    double least = kInfinity;
    for (std::size_t i = end; i-- > problem_.first[kind][end];) {
      const double value = start_[i] - sum[i] - through[i + 1] + problem_.aside(kind, i, end);
      if (value < least) {
        least = value;
        begin = i;
      }
    }
    const std::uint32_t device = newest(state, kind);
    for (std::size_t i = begin; i < end; ++i) plan.device[problem_.movable[i]] = device;
    for (const std::uint32_t u : problem_.experts_aside(kind, begin, end)) {
      plan.aside.resize(plan.device.size(), false);
      plan.aside[u] = true;
    }
    const std::size_t before = state - states_.stride[kind];
    end = begin;
    if (end == 0) break;
    std::size_t previous = kinds_;
    for (std::size_t last = kinds_; last-- > 0;) {
      if (states_.used(before, last) == 0) continue;
      if (arrival(before, last, begin, device) <= start_[begin] && previous == kinds_) {
        previous = last;
      }
    }
    state = before;
    kind = previous;
  }
  return plan;
}

std::optional<PipelinePlan> Latency::solve() {
  if (windows_.last[states_.count - 1] < n_) return std::nullopt;
  std::size_t entries = 0;
  for (std::size_t state = 0; state < states_.count; ++state) {
    row_.push_back(entries);
    entries += width(state) * kinds_;
  }
  best_.assign(entries, kInfinity);
  known_.assign(states_.count * kinds_, 0);
  start_.resize(n_ + 1);
  key_.resize(n_ + 1);
  for (std::size_t before = 0; before < states_.count; ++before) {
    if (windows_.empty(before)) continue;
    std::uint32_t filled = kNone;  // the device that start_ was filled for
    for (std::size_t kind = 0; kind < kinds_; ++kind) {
      const std::size_t used = states_.used(before, kind);
      if (used + 1 == states_.radix[kind]) continue;
      if (windows_.empty(before + states_.stride[kind])) continue;
      const std::uint32_t device = problem_.kinds[kind][used];
      if (filled == kNone || before == 0 || !same_hops(before, filled, device)) {
        fill_start(before, device);
        filled = device;
      }
      fill(before, kind);
    }
  }
  double least = kInfinity;
  std::size_t best_state = 0;
  std::size_t best_kind = 0;
  for (std::size_t state = 1; state < states_.count; ++state) {
    for (std::size_t kind = kinds_; kind-- > 0;) {  // of equals, the preferred device comes first
      if (states_.used(state, kind) == 0) continue;
      if (!known(state, kind) || !in_window(state, n_)) continue;
      const double cost = best(state, kind)[n_] + problem_.cross(n_, newest(state, kind), kNone);
      if (cost < least) {
        least = cost;
        best_state = state;
        best_kind = kind;
      }
    }
  }
  if (least == kInfinity) return std::nullopt;
  return trace(best_state, best_kind, least + problem_.fixed_total);
}

// How far along the chain every set of devices can reach with no device slower than a limit. A run
// that begins further along reaches at least as far, so it is enough to keep the furthest.
class Reach {
 public:
  explicit Reach(const Problem& problem) : problem_(problem), states_(problem) {}

  // Whether the devices can hold the whole chain with none slower than `limit` ns. If so, and
  // `plan` is not null, writes the placement into it.
  bool reaches(double limit, PipelinePlan* plan);

 private:
  // The furthest end of a run that begins at `from` on a device of `kind`.
  std::uint32_t extend(std::size_t kind, std::uint32_t from, double limit) const;

  const Problem& problem_;
  States states_;
};

std::uint32_t Reach::extend(std::size_t kind, std::uint32_t from, double limit) const {
  const std::vector<std::uint32_t>& first = problem_.first[kind];
  const std::vector<double>& sum = problem_.prefix[kind];
  const double base = problem_.fixed_time[problem_.kinds[kind][0]];
  std::uint32_t good = from;
  std::uint32_t bad = static_cast<std::uint32_t>(problem_.count()) + 1;
  while (good + 1 < bad) {
    const std::uint32_t middle = good + (bad - good) / 2;
    const double aside = first[middle] <= from ? problem_.aside(kind, from, middle) : kInfinity;
    if (aside < kInfinity && sum[middle] - sum[from] + aside + base <= limit) {
      good = middle;
    } else {
      bad = middle;
    }
  }
  return good;
}

bool Reach::reaches(double limit, PipelinePlan* plan) {
  const std::size_t kinds = problem_.kinds.size();
  std::vector<std::uint32_t> furthest(states_.count, 0);
  std::vector<std::uint32_t> via(states_.count, 0);
  for (std::size_t state = 0; state < states_.count; ++state) {
    for (std::size_t kind = 0; kind < kinds; ++kind) {
      if (states_.used(state, kind) == 0) continue;
      const std::size_t before = state - states_.stride[kind];
      const std::uint32_t to = extend(kind, furthest[before], limit);
      if (to > furthest[state]) {
        furthest[state] = to;
        via[state] = static_cast<std::uint32_t>(kind);
      }
    }
    if (furthest[state] < problem_.count()) continue;
    if (plan == nullptr) return true;
    std::size_t at = state;
    for (auto end = static_cast<std::uint32_t>(problem_.count()); end > 0;) {
      const std::size_t kind = via[at];
      const std::uint32_t newest = problem_.kinds[kind][states_.used(at, kind) - 1];
      const std::size_t before = at - states_.stride[kind];
      for (std::uint32_t i = furthest[before]; i < end; ++i) {
        plan->device[problem_.movable[i]] = newest;
      }
      for (const std::uint32_t u : problem_.experts_aside(kind, furthest[before], end)) {
        plan->aside.resize(plan->device.size(), false);
        plan->aside[u] = true;
      }
      end = furthest[before];
      at = before;
    }
    return true;
  }
  return false;
}

std::optional<PipelinePlan> all_fixed(const Problem& problem) {
  PipelinePlan plan;
  for (const PipelineUnit& unit : problem.pipeline.units) plan.device.push_back(unit.fixed);
  plan.cost = problem.fixed_total + problem.cross(0, kNone, kNone);
  return plan;
}

}  // namespace

std::optional<PipelinePlan> solve_latency(const Pipeline& given) {
  const Problem problem(given);
  if (!problem.fits_alone) return std::nullopt;
  if (problem.count() == 0) return all_fixed(problem);
  if (States(problem).too_many) return solve_in_order(problem);
  return Latency(problem).solve();
}

std::optional<PipelinePlan> solve_bottleneck(const Pipeline& given) {
  const Problem problem(given);
  if (!problem.fits_alone) return std::nullopt;
  PipelinePlan plan = *all_fixed(problem);
  double low = *std::max_element(problem.fixed_time.begin(), problem.fixed_time.end());
  if (problem.count() == 0) {
    plan.cost = low;
    return plan;
  }
  if (States(problem).too_many) {  // the one with the least sum is a placement, if not the best
    std::optional<PipelinePlan> ordered = solve_in_order(problem);
    if (ordered) ordered->cost = slowest_of(given, *ordered);
    return ordered;
  }
  Reach reach(problem);
  double high = low;
  for (const auto& sum : problem.prefix) high = std::max(high, sum.back() + low);
  for (const double price : given.aside) {
    if (price < kInfinity) high += price;
  }
  if (!reach.reaches(high, nullptr)) return std::nullopt;
  // Bisects to half a nanosecond, or to what a double can tell apart: absurd placements can cost
  // years, and then a double does not resolve half a nanosecond.
  while (high - low > std::max(0.5, high * 1e-12)) {
    const double middle = low + (high - low) / 2;
    (reach.reaches(middle, nullptr) ? high : low) = middle;
  }
  reach.reaches(high, &plan);
  plan.cost = slowest_of(given, plan);
  return plan;
}

bool is_feasible(const Pipeline& given) {
  const Problem problem(given);
  if (!problem.fits_alone) return false;
  if (problem.count() == 0) return true;
  if (States(problem).too_many) return solve_in_order(problem).has_value();
  return Reach(problem).reaches(kInfinity, nullptr);
}

}  // namespace berth
