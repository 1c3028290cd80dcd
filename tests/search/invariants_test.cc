// What must hold for every plan of `auto`, on made-up models and machines by the thousand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "berth/planner.h"
#include "tests/instance_share.h"
#include "tests/planner/made_models.h"

namespace berth {
namespace {

constexpr int kInstances = 1000 / kInstanceShare;

struct Instance {
  ModelTree tree;
  Machine machine;
  Request request;
};

// `unlike`: layers differ in size and in what they keep, devices are small, and of a GPU the
// capacity is drawn first, so that the same numbers make other machines.
Instance random_instance(std::mt19937& random, bool unlike = false) {
  const auto pick = [&](std::uint64_t low, std::uint64_t high) {
    return std::uniform_int_distribution<std::uint64_t>(low, high)(random);
  };
  MadeShape shape;
  shape.layers = pick(1, 24);
  shape.layer_bytes = 8 * kMiB * pick(1, 16);
  shape.hidden = 64 * pick(1, 16);
  shape.vocabulary = 1024 * pick(1, 32);
  shape.tied = pick(0, 2) == 0;
  shape.window = pick(0, 3) == 0 ? 128 : 0;
  shape.experts = pick(0, 1) == 0 ? 8 : 0;
  shape.dense_layers = pick(0, 2);
  if (unlike) {
    shape.unlike_every = pick(2, 6);
    shape.unlike_percent = pick(0, 1) == 0 ? 100 : pick(30, 250);
    shape.kv_elements = 512 * (pick(0, 3) == 0 ? pick(1, 64) : 1);
    shape.state_bytes = pick(0, 2) == 0 ? 65536 * pick(1, 200) : 0;
  }
  Instance out;
  out.tree = model_of(shape);
  const std::uint64_t weights = out.tree.bytes();
  std::vector<Device> gpus;
  for (std::uint64_t g = pick(0, 4); g > 0; --g) {
    // Drawn one after another, because compilers evaluate arguments in orders of their own.
    const auto draw_bandwidth = [&] { return 1e11 * static_cast<double>(pick(2, 30)); };
    double bandwidth = unlike ? 0 : draw_bandwidth();
    const std::uint64_t capacity = 512 * kMiB + weights * pick(2, 60) / 100;
    if (unlike) bandwidth = draw_bandwidth();
    gpus.push_back(gpu(std::to_string(gpus.size()), capacity, bandwidth));
  }
  const std::uint64_t least_host = unlike ? 16 * kMiB + weights * pick(1, 20) / 100 : 0;
  const std::uint64_t host = pick(0, 3) > 0 ? 64 * kMiB + weights * pick(5, 130) / 100 : least_host;
  out.machine = machine_of(gpus, gpus.empty() && host == 0 ? weights : host,
                           pick(0, 2) == 0 ? 100 * kGiB : 0);
  for (Device& device : out.machine.devices) {
    if (device.kind == DeviceKind::kCpu) {
      device.memory_bandwidth = 1e9 * static_cast<double>(pick(5, 200));
    }
  }
  if (pick(0, 3) == 0) out.request.workload.prompt_tokens = 4096;
  if (pick(0, 4) == 0 && gpus.size() > 1) out.request.priority = {{"0", -1}};
  if (pick(0, 4) == 0) out.request.no_split = {"Block"};
  if (pick(0, 6) == 0) out.request.overrides = {{"layers.0", out.machine.devices.back().name}};
  return out;
}

TEST(Invariants, HoldForThousandsOfPlans) {
  std::mt19937 random(31);
  int fitting = 0;
  int parted = 0;
  for (int i = 0; i < kInstances; ++i) {
    Instance it = random_instance(random);
    const std::string what = "instance " + std::to_string(i);
    const Plan plan = make_plan(it.tree, it.machine, it.request);
    expect_sound(it.tree, plan, what);
    if (it.request.overrides.empty()) expect_whole(it.tree, plan, what);
    EXPECT_EQ(plan.tensor_device, make_plan(it.tree, it.machine, it.request).tensor_device) << what;
    if (!plan.fits()) {
      EXPECT_GT(plan.shortfall->bytes, 0u) << what;
      EXPECT_FALSE(plan.shortfall->cause.empty()) << what;
      continue;
    }
    ++fitting;
    EXPECT_GE(plan.estimate.optimality_gap.value_or(-1), 0) << what;
    EXPECT_LT(plan.estimate.optimality_gap.value_or(1), 1) << what;
    double stages = plan.estimate.hops_seconds_per_token;
    for (const Stage& stage : plan.estimate.stages) stages += stage.seconds_per_token;
    EXPECT_NEAR(stages, plan.estimate.seconds_per_token, plan.estimate.seconds_per_token * 1e-9);
    // Planning with the map that the plan wrote gives the estimate that the plan had.
    Request again = it.request;
    again.policy = Policy::kDeviceMap;
    again.device_map = plan.device_map;
    again.overrides.clear();
    const Plan priced = make_plan(it.tree, it.machine, again);
    EXPECT_TRUE(priced.fits()) << what;
    EXPECT_EQ(priced.estimate.score_seconds, plan.estimate.score_seconds) << what;
    for (const DeviceMapEntry& entry : plan.device_map) {
      if (entry.module.find("experts") == std::string::npos) continue;
      ++parted;
      EXPECT_TRUE(it.request.no_split.empty()) << what << " " << entry.module;
      break;
    }
  }
  EXPECT_GT(fitting, kInstances * 4 / 10);
  EXPECT_GE(parted, kInstances * 2 / 100);
}

// How far down a plan had to go: GPUs of a lower priority, the host, the disk.
int tier_of(const Instance& it, const Plan& plan) {
  int tier = 0;
  for (std::size_t d = 0; d < plan.devices.size(); ++d) {
    if (plan.devices[d].weights == 0) continue;
    const DeviceKind kind = plan.devices[d].kind;
    const bool later = !it.request.priority.empty() && plan.devices[d].name == "0";
    tier = std::max(tier, kind == DeviceKind::kDisk  ? 3
                          : kind == DeviceKind::kCpu ? 2
                                                     : static_cast<int>(later));
  }
  return tier;
}

void expect_no_worse_with_more(unsigned seed, int instances, bool unlike) {
  std::mt19937 random(seed);
  int compared = 0;
  for (int i = 0; i < instances; ++i) {
    Instance it = random_instance(random, unlike);
    it.request.no_split.clear();
    it.request.overrides.clear();
    const Plan plan = make_plan(it.tree, it.machine, it.request);
    if (!plan.fits()) continue;
    const std::size_t d = random() % it.machine.devices.size();
    it.machine.devices[d].capacity += random() % (it.tree.bytes() / 2);
    const Plan roomier = make_plan(it.tree, it.machine, it.request);
    EXPECT_TRUE(roomier.fits()) << "instance " << i;
    if (tier_of(it, roomier) < tier_of(it, plan))
      continue;  // less spilled, which counts before time
    // Who computes what stands on the disk follows from the machine, unless nothing fits that way.
    if (roomier.disk_runner != plan.disk_runner) continue;
    EXPECT_LE(roomier.estimate.score_seconds, plan.estimate.score_seconds * (1 + 1e-6))
        << "instance " << i << " gap " << roomier.estimate.optimality_gap.value_or(-1)
        << " streamer " << plan.streamer << " " << roomier.streamer;
    ++compared;
  }
  EXPECT_GT(compared, instances * 3 / 10);
}

TEST(Invariants, MoreMemoryNeverMakesAPlanWorse) {
  expect_no_worse_with_more(32, kInstances, false);
}

TEST(Invariants, MoreMemoryNeverMakesAPlanOfUnlikeLayersWorse) {
  expect_no_worse_with_more(33, kInstances / 2, true);
}

}  // namespace
}  // namespace berth
