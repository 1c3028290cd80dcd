// Compares the dynamic programs with the obvious way, which tries every device for every unit.
#include "planner/search/pipeline.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "planner/search/pipeline_bound.h"
#include "planner/search/pipeline_solver.h"

namespace berth {
namespace {

// Whether every device holds what the plan puts there. A device whose experts stand aside loses
// `aside_space`. Experts aside take space on their side only if `counted`.
bool fits(const Pipeline& p, const PipelinePlan& plan, bool counted = false) {
  for (std::uint32_t d = 0; d < p.devices.size(); ++d) {
    std::uint64_t weights = 0;
    std::uint64_t resident = 0;
    for (std::size_t u = 0; counted && u < plan.aside.size(); ++u) {
      if (plan.aside[u] && d == p.aside_devices[0]) resident += p.units[u].experts;
    }
    std::uint64_t workspace = 0;
    bool used = resident > 0;
    bool any_aside = false;
    for (std::size_t u = 0; u < plan.device.size(); ++u) {
      if (plan.device[u] != d) continue;
      used = true;
      const bool aside = u < plan.aside.size() && plan.aside[u];
      any_aside = any_aside || aside;
      weights += p.units[u].weights - (aside ? p.units[u].experts : 0);
      resident += p.units[u].resident - (aside ? p.units[u].experts : 0);
      workspace = std::max(workspace, p.units[u].workspace);
    }
    if (!used) continue;
    if (any_aside) workspace += p.aside_space;
    if (resident + workspace > p.devices[d].space || weights > p.devices[d].weight_space)
      return false;
  }
  return true;
}

// Every device for at most one run of the units that are not fixed.
bool is_contiguous(const Pipeline& p, const std::vector<std::uint32_t>& device) {
  std::vector<bool> closed(p.devices.size(), false);
  std::uint32_t current = kNone;
  for (std::size_t u = 0; u < device.size(); ++u) {
    if (p.units[u].fixed != kNone || device[u] == current) continue;
    if (closed[device[u]]) return false;
    if (current != kNone) closed[current] = true;
    current = device[u];
  }
  return true;
}

struct Best {
  double latency = kNever;
  double latency_anyhow = kNever;  // contiguous or not
  double bottleneck = kNever;
};

bool is_allowed(const Pipeline& p, const PipelinePlan& plan) {
  for (std::size_t u = 0; u < plan.device.size(); ++u) {
    const std::uint32_t fixed = p.units[u].fixed;
    if (fixed == kNone ? !p.devices[plan.device[u]].open : fixed != plan.device[u]) return false;
    if (!plan.aside[u]) continue;
    if (p.units[u].experts == 0 || p.aside_time(u, plan.device[u]) == kNever) return false;
  }
  return true;
}

Best brute_force(const Pipeline& p) {
  Best best;
  const bool experts_aside = !p.aside.empty();
  PipelinePlan plan;
  plan.device.assign(p.units.size(), 0);
  plan.aside.assign(p.units.size(), false);
  for (;;) {
    if (is_allowed(p, plan) && fits(p, plan)) {
      if (!experts_aside || fits(p, plan, true)) {
        best.latency_anyhow = std::min(best.latency_anyhow, latency_of(p, plan));
      }
      if (is_contiguous(p, plan.device)) {
        best.latency = std::min(best.latency, latency_of(p, plan));
        best.bottleneck = std::min(best.bottleneck, slowest_of(p, plan));
      }
    }
    std::size_t u = 0;
    for (; u < plan.device.size(); ++u) {
      if (experts_aside && !plan.aside[u]) {
        plan.aside[u] = true;
        break;
      }
      plan.aside[u] = false;
      if (++plan.device[u] < p.devices.size()) break;
      plan.device[u] = 0;
    }
    if (u == plan.device.size()) return best;
  }
}

Pipeline random_pipeline(std::mt19937& random) {
  const auto pick = [&](std::uint64_t low, std::uint64_t high) {
    return std::uniform_int_distribution<std::uint64_t>(low, high)(random);
  };
  Pipeline p;
  const std::size_t devices = pick(1, 3);
  const std::size_t units = pick(1, 8);
  const bool uniform = pick(0, 1) == 0;
  const bool alike = pick(0, 2) == 0;  // identical devices must be collapsed without loss
  for (std::size_t d = 0; d < devices; ++d) {
    PipelineDevice device{pick(5, 60), pick(0, 3) == 0 ? pick(5, 40) : 1000, pick(0, 9) != 0};
    p.devices.push_back(alike && d > 0 ? p.devices[0] : device);
  }
  std::vector<std::uint64_t> speed;
  for (std::size_t d = 0; d < devices; ++d) speed.push_back(alike ? 3 : pick(1, 6));
  for (std::size_t u = 0; u < units; ++u) {
    PipelineUnit unit;
    unit.weights = uniform ? 7 : pick(0, 20);
    unit.resident = unit.weights + (uniform ? 1 : pick(0, 4));
    unit.workspace = uniform ? 3 : pick(0, 6);
    if (pick(0, 9) == 0) unit.fixed = static_cast<std::uint32_t>(pick(0, devices - 1));
    p.units.push_back(unit);
    for (std::size_t d = 0; d < devices; ++d) {
      p.time.push_back(static_cast<double>(uniform || alike ? 10 * speed[d] : pick(0, 50)));
    }
  }
  const std::uint64_t one = pick(0, 9);
  for (std::size_t a = 0; a < devices; ++a) {
    for (std::size_t b = 0; b < devices; ++b) {
      p.hop.push_back(a == b ? 0 : static_cast<double>(alike ? one : pick(0, 9)));
    }
  }
  return p;
}

// The same with experts that may stand aside on one of the devices.
Pipeline random_with_experts(std::mt19937& random) {
  const auto pick = [&](std::uint64_t low, std::uint64_t high) {
    return std::uniform_int_distribution<std::uint64_t>(low, high)(random);
  };
  Pipeline p = random_pipeline(random);
  p.units.resize(std::min<std::size_t>(p.units.size(), 5));
  p.time.resize(p.units.size() * p.devices.size());
  const std::uint64_t experts = pick(1, 6);
  const std::uint64_t price = pick(0, 30);
  const std::uint64_t sorts = pick(1, 2);
  for (std::size_t u = 0; u < p.units.size(); ++u) {
    PipelineUnit& unit = p.units[u];
    if (unit.fixed == kNone && pick(0, 4) > 0)
      unit.experts = std::min(experts * (1 + u % sorts), unit.weights);
    for (std::size_t d = 0; d < p.devices.size(); ++d) {
      p.aside.push_back(pick(0, 9) == 0 ? kNever : static_cast<double>(price + 3 * (u % sorts)));
    }
  }
  if (pick(0, 2) == 0) p.aside_space = pick(1, 4);
  p.aside_devices = {static_cast<std::uint32_t>(pick(0, p.devices.size() - 1))};
  return p;
}

TEST(Pipeline, PutsTheCheapestPartsAside) {
  std::mt19937 random(14);
  int with_experts_aside = 0;
  for (int i = 0; i < 1500; ++i) {
    const Pipeline p = random_with_experts(random);
    const Best best = brute_force(p);
    const std::optional<PipelinePlan> plan = solve_latency(p);
    if (plan && !plan->exact)
      continue;  // more than two sorts of experts: not claimed to be the best
    ASSERT_EQ(plan.has_value(), best.latency < kNever) << "instance " << i;
    if (!plan) continue;
    EXPECT_EQ(plan->cost, best.latency) << "instance " << i;
    EXPECT_EQ(latency_of(p, *plan), plan->cost) << "instance " << i;
    EXPECT_TRUE(fits(p, *plan)) << "instance " << i;
    if (!plan->aside.empty()) ++with_experts_aside;
    const std::optional<PipelinePlan> slowest = solve_bottleneck(p);
    ASSERT_TRUE(slowest) << "instance " << i;
    EXPECT_EQ(slowest->cost, best.bottleneck) << "instance " << i;
    EXPECT_TRUE(fits(p, *slowest)) << "instance " << i;
  }
  EXPECT_GT(with_experts_aside, 150);
}

TEST(Pipeline, BoundsPlacementsWithPartsAside) {
  std::mt19937 random(15);
  for (int i = 0; i < 1000; ++i) {
    const Pipeline p = random_with_experts(random);
    const Best best = brute_force(p);
    if (best.latency_anyhow == kNever || best.latency == kNever) continue;
    EXPECT_LE(latency_bound(p, best.latency), best.latency_anyhow + 1e-6) << "instance " << i;
  }
}

TEST(Pipeline, FindsTheLeastLatencyOfAllContiguousPlacements) {
  std::mt19937 random(11);
  int feasible = 0;
  for (int i = 0; i < 1500; ++i) {
    const Pipeline p = random_pipeline(random);
    const Best best = brute_force(p);
    const std::optional<PipelinePlan> plan = solve_latency(p);
    ASSERT_EQ(plan.has_value(), best.latency < kNever) << "instance " << i;
    EXPECT_EQ(is_feasible(p), plan.has_value()) << "instance " << i;
    if (!plan) continue;
    ++feasible;
    EXPECT_TRUE(plan->exact);
    EXPECT_EQ(plan->cost, best.latency) << "instance " << i;
    EXPECT_EQ(latency_of(p, *plan), plan->cost) << "instance " << i;
    EXPECT_TRUE(fits(p, *plan)) << "instance " << i;
    EXPECT_TRUE(is_contiguous(p, plan->device)) << "instance " << i;
  }
  EXPECT_GT(feasible, 500);
}

TEST(Pipeline, FindsTheFastestSlowestDevice) {
  std::mt19937 random(12);
  int feasible = 0;
  for (int i = 0; i < 1500; ++i) {
    const Pipeline p = random_pipeline(random);
    const Best best = brute_force(p);
    const std::optional<PipelinePlan> plan = solve_bottleneck(p);
    ASSERT_EQ(plan.has_value(), best.bottleneck < kNever) << "instance " << i;
    if (!plan) continue;
    ++feasible;
    EXPECT_EQ(plan->cost, best.bottleneck) << "instance " << i;
    EXPECT_TRUE(fits(p, *plan)) << "instance " << i;
    EXPECT_TRUE(is_contiguous(p, plan->device)) << "instance " << i;
  }
  EXPECT_GT(feasible, 500);
}

TEST(Pipeline, BoundsEveryPlacementContiguousOrNot) {
  std::mt19937 random(13);
  for (int i = 0; i < 1000; ++i) {
    const Pipeline p = random_pipeline(random);
    const Best best = brute_force(p);
    if (best.latency_anyhow == kNever || best.latency == kNever) continue;
    EXPECT_LE(latency_bound(p, best.latency), best.latency_anyhow + 1e-6) << "instance " << i;
  }
}

TEST(Pipeline, ProvesAUniformChainOnUnlikeDevicesOptimal) {
  Pipeline p;
  p.devices = {{100, 1000, true}, {35, 1000, true}, {35, 1000, true}};
  for (int u = 0; u < 15; ++u) {
    p.units.push_back({10, 10, 0, kNone, 0});
    for (const double t : {100.0, 250.0, 250.0}) p.time.push_back(t);
  }
  for (int i = 0; i < 9; ++i) p.hop.push_back(i % 4 == 0 ? 0 : 2);
  const std::optional<PipelinePlan> plan = solve_latency(p);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->cost, 10 * 100 + 5 * 250 + 2 * 2);
  EXPECT_NEAR(latency_bound(p, plan->cost), plan->cost, plan->cost * 0.002);
}

TEST(Pipeline, PrefersEarlierDevicesAndFillsThemFirst) {
  Pipeline p;
  p.devices = {{45, 1000, true}, {45, 1000, true}};
  for (int u = 0; u < 6; ++u) {
    p.units.push_back({10, 10, 0, kNone, 0});
    p.time.insert(p.time.end(), {5, 5});
  }
  p.hop = {0, 1, 1, 0};
  EXPECT_EQ(solve_latency(p)->device, (std::vector<std::uint32_t>{0, 0, 0, 0, 1, 1}));
}

TEST(Pipeline, PlacesThirteenUnlikeDevicesInTheOrderGivenAndSaysSo) {
  Pipeline p;
  for (std::uint64_t d = 0; d < 13; ++d) p.devices.push_back({20 + d, 1000, true});
  for (int u = 0; u < 20; ++u) {
    p.units.push_back({10, 10, 0, kNone, 0});
    for (int d = 0; d < 13; ++d) p.time.push_back(5 + d);
  }
  for (int i = 0; i < 13 * 13; ++i) p.hop.push_back(i % 14 == 0 ? 0 : 1);
  const std::optional<PipelinePlan> plan = solve_latency(p);
  ASSERT_TRUE(plan);
  EXPECT_FALSE(plan->exact);
  EXPECT_TRUE(fits(p, *plan));
  EXPECT_EQ(latency_of(p, *plan), plan->cost);
}

}  // namespace
}  // namespace berth
