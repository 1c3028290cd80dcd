// The dynamic programs against the obvious way: every device for every unit, tried one by one.
#include "planner/placement/pipeline.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace berth {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

bool fits(const Pipeline& p, const std::vector<std::uint32_t>& device) {
  for (std::uint32_t d = 0; d < p.devices.size(); ++d) {
    std::uint64_t weights = 0;
    std::uint64_t resident = 0;
    std::uint64_t workspace = 0;
    bool used = false;
    for (std::size_t u = 0; u < device.size(); ++u) {
      if (device[u] != d) continue;
      used = true;
      weights += p.units[u].weights;
      resident += p.units[u].resident;
      workspace = std::max(workspace, p.units[u].workspace);
    }
    if (!used) continue;
    if (resident + workspace > p.devices[d].room || weights > p.devices[d].weight_room)
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

Best brute_force(const Pipeline& p) {
  Best best;
  std::vector<std::uint32_t> device(p.units.size(), 0);
  for (;;) {
    bool allowed = true;
    for (std::size_t u = 0; u < device.size(); ++u) {
      const std::uint32_t fixed = p.units[u].fixed;
      allowed = allowed && (fixed == kNone ? p.devices[device[u]].open : fixed == device[u]);
    }
    if (allowed && fits(p, device)) {
      best.latency_anyhow = std::min(best.latency_anyhow, latency_of(p, device));
      if (is_contiguous(p, device)) {
        best.latency = std::min(best.latency, latency_of(p, device));
        best.bottleneck = std::min(best.bottleneck, slowest_of(p, device));
      }
    }
    std::size_t u = 0;
    while (u < device.size() && ++device[u] == p.devices.size()) device[u++] = 0;
    if (u == device.size()) return best;
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
    EXPECT_EQ(latency_of(p, plan->device), plan->cost) << "instance " << i;
    EXPECT_TRUE(fits(p, plan->device)) << "instance " << i;
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
    EXPECT_TRUE(fits(p, plan->device)) << "instance " << i;
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
    p.units.push_back({10, 10, 0, kNone});
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
    p.units.push_back({10, 10, 0, kNone});
    p.time.insert(p.time.end(), {5, 5});
  }
  p.hop = {0, 1, 1, 0};
  EXPECT_EQ(solve_latency(p)->device, (std::vector<std::uint32_t>{0, 0, 0, 0, 1, 1}));
}

TEST(Pipeline, PlacesThirteenUnlikeDevicesInTheOrderGivenAndSaysSo) {
  Pipeline p;
  for (std::uint64_t d = 0; d < 13; ++d) p.devices.push_back({20 + d, 1000, true});
  for (int u = 0; u < 20; ++u) {
    p.units.push_back({10, 10, 0, kNone});
    for (int d = 0; d < 13; ++d) p.time.push_back(5 + d);
  }
  for (int i = 0; i < 13 * 13; ++i) p.hop.push_back(i % 14 == 0 ? 0 : 1);
  const std::optional<PipelinePlan> plan = solve_latency(p);
  ASSERT_TRUE(plan);
  EXPECT_FALSE(plan->exact);
  EXPECT_TRUE(fits(p, plan->device));
  EXPECT_EQ(latency_of(p, plan->device), plan->cost);
}

}  // namespace
}  // namespace berth
