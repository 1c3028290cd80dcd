// Compares packings with the obvious way, which tries every bin for every item.
#include "planner/search/packing.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "planner/search/packing_order.h"
#include "tests/instance_share.h"

namespace berth {
namespace {

constexpr std::uint64_t kPlenty = 1ull << 40;  // steps
constexpr double kInfinity = std::numeric_limits<double>::infinity();

using Counts = std::vector<std::vector<std::uint32_t>>;  // [bin][kind]

// Whether every bin holds what `counts` puts there, by the definitions alone.
bool fits(const Packing& p, const Counts& counts) {
  std::vector<std::uint64_t> total, weights, activation, buffer(p.bins.size(), 0);
  for (const PackBin& bin : p.bins) {
    total.push_back(bin.held);
    weights.push_back(bin.held_weights);
    activation.push_back(bin.activation);
  }
  if (p.runner != kNone) buffer[p.runner] = p.buffer;
  for (std::size_t b = 0; b < p.bins.size(); ++b) {
    const std::size_t runner = p.bins[b].disk ? p.runner : b;
    for (std::size_t k = 0; k < p.kinds.size(); ++k) {
      const PackKind& kind = p.kinds[k];
      if (counts[b][k] == 0) continue;
      total[b] += counts[b][k] * (kind.weights + kind.stays);
      weights[b] += counts[b][k] * kind.weights;
      total[runner] += counts[b][k] * kind.runs;
      activation[runner] = std::max(activation[runner], kind.activation);
      if (runner != b) buffer[runner] = std::max(buffer[runner], kind.buffer);
    }
  }
  if (p.runner != kNone) total[p.runner] += 2 * (buffer[p.runner] - p.buffer);
  for (std::size_t b = 0; b < p.bins.size(); ++b) {
    if (total[b] + activation[b] > p.bins[b].space || weights[b] > p.bins[b].weight_space) {
      return false;
    }
  }
  return true;
}

double time_of(const Packing& p, const Counts& counts) {
  double time = 0;
  for (std::size_t b = 0; b < p.bins.size(); ++b) {
    for (std::size_t k = 0; k < p.kinds.size(); ++k) time += counts[b][k] * p.kinds[k].time[b];
  }
  return time;
}

// The least time of all packings; infinite if none fits.
double brute_force(const Packing& p) {
  std::vector<std::size_t> kind_of;
  for (std::size_t k = 0; k < p.kinds.size(); ++k) {
    kind_of.insert(kind_of.end(), p.kinds[k].count, k);
  }
  std::vector<std::size_t> bin_of(kind_of.size(), 0);
  double least = kInfinity;
  for (;;) {
    Counts counts(p.bins.size(), std::vector<std::uint32_t>(p.kinds.size(), 0));
    for (std::size_t i = 0; i < kind_of.size(); ++i) ++counts[bin_of[i]][kind_of[i]];
    if (fits(p, counts)) least = std::min(least, time_of(p, counts));
    std::size_t i = 0;
    while (i < bin_of.size() && ++bin_of[i] == p.bins.size()) bin_of[i++] = 0;
    if (i == bin_of.size()) return least;
  }
}

// Bins get a little more or less than an even share of what the items take.
Packing random_packing(std::mt19937& random) {
  const auto pick = [&](std::uint64_t low, std::uint64_t high) {
    return std::uniform_int_distribution<std::uint64_t>(low, high)(random);
  };
  Packing p;
  std::uint64_t bytes = 0;
  std::uint64_t items = 0;
  const std::size_t bins = pick(2, 3);
  for (std::uint64_t k = pick(1, 3); k > 0; --k) {
    PackKind kind;
    kind.count = static_cast<std::uint32_t>(pick(1, 4));
    kind.weights = pick(1, 30);
    kind.stays = pick(0, 3) == 0 ? pick(0, 5) : 0;
    kind.runs = pick(0, 2) == 0 ? pick(0, 9) : 0;
    kind.activation = pick(0, 2) == 0 ? pick(0, 9) : 2;
    kind.buffer = pick(0, 1) == 0 ? kind.weights : pick(0, 5);
    const double base = static_cast<double>(pick(1, 20));
    for (std::size_t b = 0; b < bins; ++b) kind.time.push_back(base * static_cast<double>(b + 1));
    if (items + kind.count > 8) break;
    items += kind.count;
    bytes += kind.count * (kind.weights + kind.stays + kind.runs);
    p.kinds.push_back(kind);
  }
  for (std::size_t b = 0; b < bins; ++b) {
    PackBin bin;
    bin.space = bytes * pick(80, 140) / 100 / bins + pick(0, 6);
    bin.weight_space = pick(0, 3) == 0 ? bytes * pick(60, 150) / 100 / bins : 1'000'000;
    if (pick(0, 4) == 0) {
      bin.held = pick(0, 5);
      bin.held_weights = std::min(bin.held, pick(0, 5));
      bin.activation = pick(0, 3);
    }
    p.bins.push_back(bin);
  }
  if (pick(0, 1) == 0) {
    p.bins.back().disk = true;
    if (pick(0, 1) == 0) p.bins.back().space = 1'000'000;
    p.bins.back().activation = 0;  // nothing runs there
    p.runner = static_cast<std::uint32_t>(pick(0, bins - 2));
    if (pick(0, 3) == 0) p.bins[p.runner].held += 2 * (p.buffer = pick(0, 4));
  }
  return p;
}

TEST(Packing, FitsIfAndOnlyIfAnyPlacementDoes) {
  std::mt19937 random(41);
  int fitting = 0;
  int on_disk = 0;
  for (int i = 0; i < 6000 / kInstanceShare; ++i) {
    const Packing p = random_packing(random);
    const double least = brute_force(p);
    std::uint64_t steps = kPlenty;
    const Packed any = pack(p, PackGoal::kAny, steps);
    ASSERT_EQ(any.found(), least < kInfinity) << "instance " << i;
    EXPECT_TRUE(any.complete) << "instance " << i;
    const Packed best = pack(p, PackGoal::kLeastTime, steps);
    ASSERT_EQ(best.found(), any.found()) << "instance " << i;
    if (!any.found()) continue;
    ++fitting;
    on_disk += p.runner != kNone ? 1 : 0;
    EXPECT_TRUE(fits(p, any.counts)) << "instance " << i;
    EXPECT_TRUE(fits(p, best.counts)) << "instance " << i;
    for (std::size_t k = 0; k < p.kinds.size(); ++k) {
      std::uint32_t placed = 0;
      for (const auto& counts : best.counts) placed += counts[k];
      EXPECT_EQ(placed, p.kinds[k].count) << "instance " << i;
    }
    EXPECT_EQ(best.time, time_of(p, best.counts)) << "instance " << i;
    // Every kind takes longer in later bins, so that the least time is found; but where a disk runs
    // on a bin that comes late, that one is not filled first.
    EXPECT_GE(best.time, least) << "instance " << i;
    if (p.runner != kNone) continue;
    EXPECT_EQ(best.time, least) << "instance " << i;
  }
  EXPECT_GT(fitting, 1500 / kInstanceShare);
  EXPECT_GT(on_disk, 500 / kInstanceShare);
}

TEST(Packing, KeepsToTheMostTime) {
  Packing p;
  p.kinds = {{6, 10, 0, 0, 0, 0, 0, {5, 5}}};
  p.bins = {{60, 60}, {60, 60}};
  p.most_time = 15;
  std::uint64_t steps = kPlenty;
  EXPECT_EQ(pack(p, PackGoal::kAny, steps).counts, (Counts{{3}, {3}}));
  p.most_time = 14;
  EXPECT_FALSE(pack(p, PackGoal::kAny, steps).found());
}

TEST(Packing, SaysWhereItStopped) {
  Packing p;
  std::uint64_t all = 0;
  for (std::uint64_t k = 0; k < 60; ++k) {  // no two items are alike, and their sum is odd
    p.kinds.push_back({1, 1'000'000 + 2 * k * k * k, 0, 0, 0, 0, 0, {1, 1, 1}});
    all += p.kinds.back().weights;
  }
  p.bins.assign(3, {all / 3 + 1, all / 3 + 1});
  std::uint64_t steps = 50'000;
  const Packed packed = pack(p, PackGoal::kAny, steps);
  if (packed.found()) {
    EXPECT_TRUE(fits(p, packed.counts));
  } else {
    EXPECT_FALSE(packed.complete);
  }
  p.bins.assign(3, {all / 3 - 1, all / 3 - 1});
  const Packed too_much = pack(p, PackGoal::kAny, steps);
  EXPECT_FALSE(too_much.found());
  EXPECT_TRUE(too_much.complete) << "the sum alone says that nothing fits";
}

std::size_t count_hops(const std::vector<std::uint32_t>& order) {
  std::size_t hops = 0;
  for (std::size_t i = 1; i < order.size(); ++i) hops += order[i] != order[i - 1] ? 1 : 0;
  return hops;
}

// Embedding and head on bin 0, which has layers, too: the others stand in one run each between.
TEST(Packing, PutsTheLayersOfABinInFewRuns) {
  PackedChain chain;
  chain.counts = {{1, 16, 1}, {0, 40, 0}, {0, 24, 0}};
  chain.kinds.assign(80, 1);
  chain.kinds.insert(chain.kinds.begin(), 0);
  chain.kinds.push_back(2);
  chain.fixed.assign(chain.kinds.size(), kNone);
  chain.hop = {0, 5, 5, 5, 0, 5, 5, 5, 0};
  const std::vector<std::uint32_t> order = order_packed(chain);
  ASSERT_EQ(order.size(), 82u);
  EXPECT_EQ(order.front(), 0u);
  EXPECT_EQ(order.back(), 0u);
  EXPECT_EQ(std::count(order.begin(), order.end(), 0u), 18);
  EXPECT_EQ(std::count(order.begin(), order.end(), 1u), 40);
  EXPECT_EQ(count_hops(order), 3u);
}

TEST(Packing, GoesAroundFixedItemsAndSlowLinks) {
  PackedChain chain;
  chain.counts = {{2}, {2}, {2}};
  chain.kinds = {0, 0, 0, kNone, 0, 0, 0};
  chain.fixed = {kNone, kNone, kNone, 2, kNone, kNone, kNone};
  chain.hop = {0, 1, 100, 1, 0, 1, 100, 1, 0};  // from 0 to 2 by way of 1
  const std::vector<std::uint32_t> order = order_packed(chain);
  EXPECT_EQ(order[3], 2u);
  double cost = 0;
  for (std::size_t i = 1; i < order.size(); ++i) cost += chain.hop[order[i - 1] * 3 + order[i]];
  EXPECT_EQ(cost, 3);  // 0 0 1 2 2 2 1, or the like
}

}  // namespace
}  // namespace berth
