#include "berth/planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "berth/error.h"
#include "planner/cost/chain.h"
#include "planner/cost/memory.h"
#include "planner/cost/time.h"
#include "planner/plan/kv_cache.h"
#include "planner/plan/policies.h"
#include "tests/instance_share.h"
#include "tests/planner/made_models.h"

namespace berth {
namespace {

using testing::AnyOf;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

TEST(MemoryModel, CachesKeysAndValuesAsPublishedConfigsSay) {
  Workload workload;
  workload.context = 1;
  workload.kv_dtype = DType::kBF16;
  LayerFacts llama70b;  // 8 KV heads x 128, keys and values
  llama70b.kv_elements = 2 * 8 * 128;
  EXPECT_EQ(80 * kv_cache_bytes(llama70b, workload), 327'680u);
  workload.context = 4096;
  EXPECT_EQ(80 * kv_cache_bytes(llama70b, workload), 1'342'177'280u);  // 1.25 GiB
  workload.batch = 3;
  EXPECT_EQ(80 * kv_cache_bytes(llama70b, workload), 4'026'531'840u);

  LayerFacts mistral = llama70b;  // 32 layers, a window of 4,096
  mistral.window = 4096;
  workload = {1, 32768, 512, 128, DType::kBF16};
  EXPECT_EQ(32 * kv_cache_bytes(mistral, workload), 536'870'912u);
  workload.kv_dtype = DType::kF8E4M3;
  EXPECT_EQ(32 * kv_cache_bytes(mistral, workload), 268'435'456u);

  LayerFacts deepseek;  // MLA: a latent of 512 and a rotary key of 64
  deepseek.kv_elements = 512 + 64;
  workload = {1, 4096, 512, 128, DType::kBF16};
  EXPECT_EQ(61 * kv_cache_bytes(deepseek, workload), 287'834'112u);
}

TEST(MemoryModel, CountsForEachLayerWhatItKeeps) {
  Workload workload;
  workload.context = 1000;
  workload.batch = 3;
  workload.kv_dtype = DType::kF8E4M3;
  LayerFacts layer;
  EXPECT_EQ(kv_cache_bytes(layer, workload), 0u);  // a feed-forward block alone, an encoder
  layer.state_bytes = 50;                          // Mamba: no context, no KV dtype
  EXPECT_EQ(kv_cache_bytes(layer, workload), 150u);
  layer.cross_elements = 7;  // an encoder's positions, in the KV dtype
  EXPECT_EQ(kv_cache_bytes(layer, workload), 150u + 21u);
  layer.kv_elements = 2;
  EXPECT_EQ(kv_cache_bytes(layer, workload), 150u + 21u + 6000u);
  layer.window = 10;
  EXPECT_EQ(kv_cache_bytes(layer, workload), 150u + 21u + 60u);
  layer.shares_cache = true;  // it reads those positions, but they are another layer's
  EXPECT_EQ(kv_cache_bytes(layer, workload), 150u + 21u);
  EXPECT_EQ(layer_cache(layer, workload).position_bytes, 60u);
}

TEST(TimeModel, RunsTowersForThePromptAloneAndReadsStatesForEveryToken) {
  ModelTree tree = model_of({});
  const Machine machine = machine_of({gpu("0", 24 * kGiB)}, 64 * kGiB, 0);
  Workload workload;
  workload.context = 1000;
  workload.kv_dtype = DType::kBF16;
  const auto seconds_of = [&](std::size_t layer) {
    const Workload filled = fill_workload(tree, workload);
    const Chain chain = make_chain(tree, filled);
    const TimeModel time(machine, chain, filled, std::vector<bool>(machine.devices.size(), true),
                         DiskRunner::kHost);
    return time.piece(chain.units[chain.layer_unit[layer]], 0);
  };
  const Seconds plain = seconds_of(0);
  tree.facts.layers[0].state_bytes = 1 << 20;  // 1 us more at 1 TB/s, whatever was said before
  EXPECT_NEAR(seconds_of(0).token - plain.token, 1.048576e-6, 1e-12);
  tree.facts.layers[1].kv_elements = 0;  // a feed-forward block: it reads no keys
  EXPECT_LT(seconds_of(1).token, plain.token);
  tree.facts.layers[2].shares_cache = true;  // it keeps none, and reads an earlier layer's
  EXPECT_DOUBLE_EQ(seconds_of(2).token, plain.token);
  EXPECT_EQ(kv_cache_bytes(tree.facts.layers[2], fill_workload(tree, workload)), 0u);
  tree.modules[tree.facts.layers[3].module].prompt_only = true;
  tree.facts.layers[3].kv_elements = 0;
  EXPECT_EQ(seconds_of(3).token, 0);
  EXPECT_GT(seconds_of(3).prefill, 0);
}

TEST(MemoryModel, NeverWrapsOnAnAbsurdWorkload) {
  LayerFacts layer;
  layer.kv_elements = 1 << 20;
  Workload workload{~0ull, ~0ull, 512, 128, DType::kF16};
  EXPECT_GE(kv_cache_bytes(layer, workload), 1ull << 60);
}

TEST(MemoryModel, FillsTheWorkloadsDefaults) {
  ModelTree tree = model_of({});
  Workload workload = fill_workload(tree, {});
  EXPECT_EQ(workload.context, 4096u);
  EXPECT_EQ(workload.prompt_tokens, 512u);
  EXPECT_EQ(workload.kv_dtype, DType::kBF16);
  tree.facts.max_positions = 256;
  workload = fill_workload(tree, {});
  EXPECT_EQ(workload.context, 256u);
  EXPECT_EQ(workload.prompt_tokens, 256u);
  for (ModelTensor& tensor : tree.tensors) tensor.dtype = DType::kF32;
  EXPECT_EQ(fill_workload(tree, {}).kv_dtype, DType::kF16);
}

TEST(MemoryModel, SaysWhatMemoryAGpuOfABudgetIsTakenToHave) {
  const ModelTree tree = model_of({});
  Request request;
  request.max_memory = {{"0", tree.bytes()}};
  const auto notes = [&] {
    return make_plan(tree, budget_machine(*request.max_memory), request).notes;
  };
  EXPECT_THAT(notes(), ::testing::Contains(::testing::HasSubstr(
                           "--max-memory limits weights alone: gpu 0 is taken to have")));
  request.max_memory = {{"0", tree.bytes() + 64 * kGiB}};
  EXPECT_THAT(notes(), ::testing::Not(::testing::Contains(
                           ::testing::HasSubstr("--max-memory limits weights alone"))));
}

TEST(MemoryModel, CountsWhatLoadingTakesOnTheHost) {
  ModelTree tree = model_of({});
  const std::uint64_t bytes = tree.bytes();
  const Machine machine = machine_of({gpu("0", 8 * kGiB)}, 8 * kGiB, 0);
  Request request;
  request.staging = 16 * kMiB;
  EXPECT_EQ(make_plan(tree, machine, request).load_peak.host_bytes, 16 * kMiB);
  EXPECT_EQ(make_plan(tree, machine, request).load_peak.naive_host_bytes, 2 * bytes);
  request.staging = 64 * kGiB;  // not more than is needed
  EXPECT_EQ(make_plan(tree, machine, request).load_peak.host_bytes, bytes);

  request.excluded = {"0"};
  EXPECT_EQ(make_plan(tree, machine, request).load_peak.host_bytes, 0u);  // mapped
  request.cpu_memory = CpuMemory::kPrivate;
  EXPECT_EQ(make_plan(tree, machine, request).load_peak.host_bytes, bytes + kMostBounced);
  request.cpu_memory = CpuMemory::kMmap;
  request.staging = 16 * kMiB;
  for (ModelTensor& tensor : tree.tensors) tensor.dtype = DType::kF32;  // converted: no mapping
  EXPECT_EQ(make_plan(tree, machine, request).load_peak.host_bytes, 2 * bytes + 16 * kMiB);
  EXPECT_EQ(make_plan(tree, machine, request).load_peak.naive_host_bytes, 3 * bytes);
}

// Private memory is filled through buffers if the host has space for them, and in place if not.
TEST(MemoryModel, BuffersThatALoadCanDoWithoutKeepNothingFromFitting) {
  MadeShape shape;
  shape.kv_elements = 0;
  const ModelTree tree = model_of(shape);
  Request request;
  request.workload.context = 1;
  request.cpu_memory = CpuMemory::kPrivate;
  const auto plan_in = [&](std::uint64_t capacity) {
    return make_plan(tree, machine_of({}, capacity, 0), request);
  };
  const Plan roomy = plan_in(8 * kGiB);
  const DeviceLedger& row = roomy.devices.at(0);
  const std::uint64_t taken = row.reserved + row.weights + row.kv_cache + row.workspace;
  ASSERT_LT(row.kv_cache + row.workspace, kMostBounced - 2 * kMiB);  // no space for the buffers
  const Plan tight = plan_in(taken + kMiB);
  EXPECT_TRUE(tight.fits());
  EXPECT_LE(tight.load_peak.host_bytes, taken + kMiB);
  EXPECT_LE(tight.staging, roomy.staging);
  EXPECT_GE(tight.staging, 256u << 10);
}

TEST(Auto, KeepsOnUnlikeGpusWhatAcceleratesBalancedSpills) {
  MadeShape shape;
  shape.layers = 39;
  shape.layer_bytes = kGiB;
  shape.kv_elements = 0;
  const ModelTree tree = model_of(shape);
  const std::vector<Budget> budgets{
      {"0", 24 * kGiB}, {"1", 8 * kGiB}, {"2", 8 * kGiB}, {"3", 8 * kGiB}, {"cpu", 64 * kGiB}};
  Request request;
  request.max_memory = budgets;
  const Plan ours = make_plan(tree, budget_machine(budgets), request);
  expect_sound(tree, ours, "auto");
  EXPECT_TRUE(ours.fits());
  EXPECT_EQ(ours.devices[4].weights, 0u);
  request.policy = Policy::kBalanced;
  const Plan theirs = make_plan(tree, budget_machine(budgets), request);
  expect_sound(tree, theirs, "balanced");
  EXPECT_GT(theirs.devices[4].weights, 4 * kGiB);
}

TEST(Auto, FillsTheFastestGpuFirstWithinTheFullLedger) {
  const ModelTree tree = model_of({});  // 4 x 64 MiB, and 2 x 16 MiB
  const Machine machine =
      machine_of({gpu("0", 712 * kMiB, 5e11), gpu("1", 782 * kMiB, 2e12)}, 8 * kGiB, 0);
  const Plan plan = make_plan(tree, machine, {});
  expect_sound(tree, plan, "auto");
  EXPECT_TRUE(plan.fits());
  EXPECT_EQ(plan.devices[2].weights, 0u);
  EXPECT_GT(plan.devices[1].weights, plan.devices[0].weights);
  EXPECT_EQ(plan.devices[1].reserved, kCudaContext);
  EXPECT_GT(plan.devices[1].kv_cache, 0u);
  EXPECT_GT(plan.devices[1].workspace, 0u);
  EXPECT_GT(plan.estimate.score_seconds, 0);
}

// Stream buffers take space of a GPU that could hold a layer. They make a plan quicker but are not
// needed for it: with host RAM for the whole model there is always a plan.
TEST(Auto, AlwaysPlansWhereTheHostHoldsTheModel) {
  MadeShape shape;  // a Llama of ten layers of 1.6 GiB
  shape.layers = 10;
  shape.hidden = 8192;
  shape.layer_bytes = 1640 * kMiB;
  shape.vocabulary = 128256;
  shape.kv_elements = 2048;
  std::vector<Device> gpus;
  for (std::uint64_t i = 0; i < 8; ++i) {  // 1.8 to 3.5 GiB, quicker ones not larger
    gpus.push_back(gpu(std::to_string(i), 1843 * kMiB + i * 249 * kMiB,
                       4e11 * static_cast<double>(1 + i * 5 % 8)));
  }
  const ModelTree large = model_of(shape);
  const Plan plan = make_plan(large, machine_of(gpus, 40 * kGiB, 0), {});
  EXPECT_TRUE(plan.fits()) << (plan.shortfall ? plan.shortfall->bytes : 0);
  expect_sound(large, plan, "eight small gpus");

  std::mt19937_64 random(17);
  for (int round = 0; round < 60; ++round) {
    MadeShape small;
    small.layers = 2 + random() % 8;
    small.layer_bytes = (16 + random() % 256) * kMiB;
    small.tied = random() % 2 == 0;
    if (random() % 3 == 0) small.experts = 4;
    std::vector<Device> some;
    for (std::uint64_t i = 0, count = random() % 5; i < count; ++i) {
      // Drawn one after another, because compilers evaluate arguments in orders of their own.
      const double bandwidth = 1e11 * static_cast<double>(1 + random() % 20);
      const std::uint64_t capacity = (256 + random() % 1024) * kMiB;
      some.push_back(gpu(std::to_string(i), capacity, bandwidth));
    }
    const ModelTree tree = model_of(small);
    const Machine machine = machine_of(some, 3 * tree.bytes() + 4 * kGiB, 0);
    const std::string what = "round " + std::to_string(round);
    const Plan any = make_plan(tree, machine, {});
    EXPECT_TRUE(any.fits()) << what;
    expect_sound(tree, any, what);
  }
}

// What stands on the disk must not be computed by a device that must stay empty.
TEST(Auto, AnExcludedCpuComputesNothingOfTheDisk) {
  MadeShape shape;
  shape.layers = 12;
  const ModelTree tree = model_of(shape);
  Machine machine =
      machine_of({gpu("0", 900 * kMiB, 1e12), gpu("1", 900 * kMiB, 5e11)}, 8 * kGiB, 64 * kGiB);
  Request request;
  request.excluded = {"cpu"};
  const Plan plan = make_plan(tree, machine, request);
  expect_sound(tree, plan, "cpu excluded");
  ASSERT_TRUE(plan.fits());
  EXPECT_GT(plan.devices[3].weights, 0u);
  EXPECT_EQ(plan.devices[2].kv_cache + plan.devices[2].workspace + plan.devices[2].weights, 0u);
  ASSERT_LT(plan.disk_runner, plan.devices.size());
  EXPECT_EQ(plan.devices[plan.disk_runner].kind, DeviceKind::kCuda);
}

// A host too small to compute what the disk holds must not stand in the way of a GPU that can.
TEST(Auto, ASmallHostNeverMakesThePlanWorse) {
  MadeShape shape;
  shape.layers = 40;
  const ModelTree tree = model_of(shape);
  const auto plan_with = [&](std::uint64_t host) {
    Machine machine = machine_of({gpu("0", 1200 * kMiB, 1e12)}, std::max(host, kMiB), 64 * kGiB);
    machine.devices.back().memory_bandwidth = 2e9;
    if (host == 0) machine.devices.erase(machine.devices.begin() + 1);
    return make_plan(tree, machine, {});
  };
  const Plan without = plan_with(0);
  ASSERT_TRUE(without.fits());
  double last = without.estimate.score_seconds;
  for (std::uint64_t host = 16 * kMiB; host <= 4 * kGiB; host *= 2) {
    const Plan plan = plan_with(host);
    ASSERT_TRUE(plan.fits()) << host;
    EXPECT_LE(plan.estimate.score_seconds, last * (1 + 1e-6)) << host;
    last = plan.estimate.score_seconds;
  }
}

TEST(Shortfall, IsWhatOverridesFillTooFull) {
  const ModelTree tree = model_of({});
  const Machine machine =
      machine_of({gpu("0", 640 * kMiB, 1e12), gpu("1", 2 * kGiB, 1e12)}, 8 * kGiB, 0);
  Request request;
  request.overrides = {{"*", "0"}};
  const Plan plan = make_plan(tree, machine, request);
  ASSERT_FALSE(plan.fits());
  EXPECT_EQ(plan.shortfall->bytes, plan.devices[0].over);
  EXPECT_THAT(plan.shortfall->suggestions, Contains("without the override *=0"));
}

TEST(Shortfall, CountsTheHostsRoomThatWouldDo) {
  MadeShape shape;
  shape.layers = 60;
  const ModelTree tree = model_of(shape);
  const Plan plan = make_plan(tree, machine_of({gpu("0", 900 * kMiB, 1e12)}, kGiB, 0), {});
  ASSERT_FALSE(plan.fits());
  EXPECT_LT(plan.shortfall->bytes, tree.bytes());
  EXPECT_THAT(plan.shortfall->suggestions, Contains(HasSubstr("GiB more host RAM")));
}

TEST(Notes, SayWhereTheWorkloadIsMoreThanTheContext) {
  ModelTree tree = model_of({});
  tree.facts.max_positions = 2048;
  const Machine machine = machine_of({gpu("0", 8 * kGiB, 1e12)}, 8 * kGiB, 0);
  Request request;
  request.workload.context = 1000;
  request.workload.prompt_tokens = 900;
  request.workload.new_tokens = 500;
  EXPECT_THAT(make_plan(tree, machine, request).notes,
              Contains(HasSubstr("more than the context of 1000")));
  request.workload.prompt_tokens = 5000;
  EXPECT_THAT(make_plan(tree, machine, request).notes,
              Contains(HasSubstr("a prompt of 5000 tokens")));
  request.workload = {1, 4096, 512, 128, DType::kBF16};
  EXPECT_THAT(make_plan(tree, machine, request).notes,
              Contains(HasSubstr("more than the 2048 positions")));
}

TEST(DeviceMaps, MayLeaveOutWhatNoCheckpointStores) {
  ModelTree tree = model_of({});
  ModelTensor buffer;
  buffer.name = "rotary.inv_freq";
  buffer.dtype = buffer.stored = DType::kF32;
  buffer.shape = {64};
  buffer.persistent = false;
  buffer.buffer = true;
  buffer.module = 0;
  tree.tensors.push_back(buffer);
  const Machine machine = machine_of({gpu("0", 8 * kGiB, 1e12)}, 8 * kGiB, 0);
  Request request;
  request.device_map.emplace();
  for (const Module& module : tree.modules) {
    if (module.parent == 0) request.device_map->push_back({std::string(module.name), "0"});
  }
  const Plan plan = make_plan(tree, machine, request);
  EXPECT_TRUE(plan.fits());
  EXPECT_EQ(plan.tensor_device.back(), 0u);
  EXPECT_THAT(plan.notes, Contains(HasSubstr("rotary.inv_freq, which no checkpoint stores")));
  tree.tensors.back().persistent = true;
  EXPECT_THROW(make_plan(tree, machine, request), Error);
}

TEST(Planner, HoldsItsInvariantsOnRandomInstances) {
  constexpr int kInstances = 1000 / kInstanceShare;
  std::mt19937 random(5);
  const auto pick = [&](std::uint64_t low, std::uint64_t high) {
    return std::uniform_int_distribution<std::uint64_t>(low, high)(random);
  };
  const std::vector<Policy> policies = all_policies();
  int fitting = 0;
  for (int i = 0; i < kInstances; ++i) {
    MadeShape shape;
    shape.layers = pick(1, 9);
    shape.layer_bytes = 8 * kMiB * pick(1, 12);
    shape.hidden = 64 * pick(1, 16);
    shape.tied = pick(0, 1) == 0;
    shape.window = pick(0, 2) == 0 ? 128 : 0;
    const ModelTree tree = model_of(shape);
    std::vector<Device> gpus;
    for (std::uint64_t g = pick(0, 3); g > 0; --g) {
      const double bandwidth = 1e11 * static_cast<double>(pick(2, 20));
      const std::uint64_t capacity = 512 * kMiB + kMiB * pick(0, 400);
      gpus.push_back(gpu(std::to_string(gpus.size()), capacity, bandwidth));
    }
    const std::uint64_t host = gpus.empty() || pick(0, 4) > 0 ? kMiB * pick(64, 900) : 0;
    Machine machine = machine_of(gpus, host, pick(0, 2) == 0 ? 0 : 100 * kGiB);
    Request request;
    request.policy = policies[pick(0, policies.size() - 1)];
    if (request.policy == Policy::kAuto && pick(0, 3) == 0) request.never_offload = !gpus.empty();
    const std::string what =
        "instance " + std::to_string(i) + " " + std::string(policy_name(request.policy));
    const Plan plan = make_plan(tree, machine, request);
    expect_sound(tree, plan, what);
    const Plan again = make_plan(tree, machine, request);
    EXPECT_EQ(plan.tensor_device, again.tensor_device) << what;
    if (!is_own(request)) continue;
    expect_whole(tree, plan, what);
    if (!plan.fits()) {
      EXPECT_GT(plan.shortfall->bytes, 0u) << what;
      continue;
    }
    ++fitting;
    const bool best = request.policy == Policy::kAuto;
    const bool proves = best || request.policy == Policy::kThroughput;
    const std::optional<double> gap = plan.estimate.optimality_gap;
    EXPECT_TRUE(gap || !proves) << what;
    EXPECT_TRUE(!gap || (*gap >= 0 && *gap < 1)) << what;
    if (gpus.empty() || !best || plan.devices.back().weights > 0) continue;
    for (Device& device : machine.devices) {
      if (device.kind == DeviceKind::kCuda) device.capacity += kMiB * pick(0, 100);
    }
    const Plan roomier = make_plan(tree, machine, request);
    EXPECT_TRUE(roomier.fits()) << what;
    EXPECT_LE(roomier.estimate.score_seconds, plan.estimate.score_seconds * (1 + 1e-6)) << what;
  }
  EXPECT_GT(fitting, kInstances / 5);
}

TEST(Planner, SuggestsOnlyWhatFits) {
  MadeShape shape;
  shape.layers = 8;
  shape.kv_elements = 4096;
  const ModelTree tree = model_of(shape);
  const Machine machine = machine_of({gpu("0", 1280 * kMiB)}, 8 * kGiB, 0);
  Request request;
  request.never_offload = true;
  request.workload.context = 8192;
  const Plan plan = make_plan(tree, machine, request);
  ASSERT_FALSE(plan.fits());
  expect_sound(tree, plan, "short");
  EXPECT_THAT(plan.shortfall->suggestions, Contains(HasSubstr("--context ")));
  EXPECT_THAT(plan.shortfall->suggestions, Contains(HasSubstr("--never-offload")));
  EXPECT_THAT(plan.shortfall->suggestions, Contains(HasSubstr("1 more GPU")));
  for (const std::string& words : plan.shortfall->suggestions) {
    if (words.rfind("--context ", 0) != 0) continue;
    Request smaller = request;
    smaller.workload.context = std::stoull(words.substr(10));
    EXPECT_TRUE(make_plan(tree, machine, smaller).fits());
    smaller.workload.context += 256;
    EXPECT_FALSE(make_plan(tree, machine, smaller).fits());
  }
  Request silent = request;
  silent.suggest = false;
  const Plan bare = make_plan(tree, machine, silent);
  ASSERT_FALSE(bare.fits());
  EXPECT_EQ(bare.shortfall->bytes, plan.shortfall->bytes);
  EXPECT_TRUE(bare.shortfall->suggestions.empty());
  // The shortfall is the least memory that is enough.
  Machine larger = machine;
  larger.devices[0].capacity += plan.shortfall->bytes;
  EXPECT_TRUE(make_plan(tree, larger, request).fits());
  larger.devices[0].capacity -= 1;
  EXPECT_FALSE(make_plan(tree, larger, request).fits());
}

TEST(Planner, HonoursOverridesExclusionsAndBudgets) {
  const ModelTree tree = model_of({});
  const Machine machine = machine_of({gpu("0", 8 * kGiB), gpu("1", 8 * kGiB)}, 8 * kGiB, 0);
  Request request;
  request.overrides = {{"layers.[01]", "cpu"}, {"head", "1"}};
  Plan plan = make_plan(tree, machine, request);
  expect_sound(tree, plan, "overrides");
  EXPECT_EQ(device_of(tree, plan, "layers.0.attn.weight"), "cpu");
  EXPECT_EQ(device_of(tree, plan, "layers.1.mlp.weight"), "cpu");
  EXPECT_EQ(device_of(tree, plan, "layers.2.mlp.weight"), "1");  // where the head is: one hop less
  EXPECT_EQ(device_of(tree, plan, "head.weight"), "1");

  request.overrides = {{"*.mlp", "cpu"}};  // a module of every block
  plan = make_plan(tree, machine, request);
  expect_sound(tree, plan, "parts");
  EXPECT_EQ(device_of(tree, plan, "layers.3.mlp.weight"), "cpu");
  EXPECT_EQ(device_of(tree, plan, "layers.3.attn.weight"), "0");

  request = {};
  request.excluded = {"0", "cpu"};
  plan = make_plan(tree, machine, request);
  EXPECT_EQ(plan.devices[0].weights + plan.devices[2].weights, 0u);

  request = {};
  request.max_memory = {{"0", 100 * kMiB}};
  plan = make_plan(tree, machine, request);
  expect_sound(tree, plan, "budget");
  EXPECT_LE(plan.devices[0].weights, 100 * kMiB);
  EXPECT_EQ(plan.devices[2].weights, 0u);
}

std::string error_of(const ModelTree& tree, const Machine& machine, const Request& request) {
  try {
    make_plan(tree, machine, request);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Planner, RefusesWhatMakesNoSense) {
  const ModelTree tree = model_of({});
  const Machine machine = machine_of({gpu("0", 8 * kGiB)}, 8 * kGiB, 0);
  Request request;
  request.overrides = {{"layers.0", "3"}};
  EXPECT_THAT(error_of(tree, machine, request), HasSubstr("no device '3'"));
  request.overrides = {{"layer.0", "cpu"}};
  EXPECT_THAT(error_of(tree, machine, request), HasSubstr("matches no module"));
  request = {};
  request.excluded = {"9"};
  EXPECT_THAT(error_of(tree, machine, request), HasSubstr("no device '9'"));
  request = {};
  request.device_map = DeviceMap{{"transformer.h", "0"}, {"lm_head", "cpu"}};
  EXPECT_THAT(error_of(tree, machine, request), HasSubstr("another model"));
  request.device_map = DeviceMap{{"embed", "0"}, {"layers", "cpu"}, {"norm", "0"}};
  EXPECT_THAT(error_of(tree, machine, request), HasSubstr("covers head.weight"));
  request.device_map = DeviceMap{{"", "2"}};
  EXPECT_THAT(error_of(tree, machine, request), HasSubstr("no device '2'"));
}

TEST(Planner, PricesAGivenMapLikeAnyPlan) {
  const ModelTree tree = model_of({});
  const Machine machine = machine_of({gpu("0", 8 * kGiB), gpu("1", 600 * kMiB)}, 8 * kGiB, 0);
  Request request;
  request.device_map = DeviceMap{{"layers.(0|1)", "cpu"}, {"", "0"}, {"spare", "cpu"}};
  Plan plan = make_plan(tree, machine, request);
  expect_sound(tree, plan, "map");
  EXPECT_EQ(plan.policy, Policy::kDeviceMap);
  EXPECT_TRUE(plan.fits());
  EXPECT_EQ(device_of(tree, plan, "layers.1.mlp.weight"), "cpu");
  EXPECT_EQ(device_of(tree, plan, "layers.2.mlp.weight"), "0");
  EXPECT_THAT(plan.notes, Contains(HasSubstr("'spare'")));
  EXPECT_GT(plan.estimate.score_seconds, make_plan(tree, machine, {}).estimate.score_seconds);

  request.device_map = DeviceMap{{"", "cuda:1"}};
  plan = make_plan(tree, machine, request);
  EXPECT_FALSE(plan.fits());
  EXPECT_EQ(plan.shortfall->bytes, plan.devices[1].over);
  EXPECT_THAT(plan.shortfall->suggestions, Contains(HasSubstr("--policy auto")));
}

TEST(Planner, SuggestsAutoWithoutTheDiskThatAccelerateAlwaysHas) {
  const ModelTree tree = model_of({});
  const Machine machine = machine_of({gpu("0", 600 * kMiB)}, 0, 0);
  Request request;
  request.policy = Policy::kSequential;
  request.max_memory = std::vector<Budget>{{"0", 10 * kGiB}};
  const Plan plan = make_plan(tree, machine, request);
  ASSERT_FALSE(plan.fits());
  request.policy = Policy::kAuto;
  EXPECT_FALSE(make_plan(tree, machine, request).fits());
  EXPECT_THAT(plan.shortfall->suggestions, Not(Contains(HasSubstr("--policy auto"))));
}

TEST(Planner, SaysThatThePeakOfLoadingIsWhatDoesNotFit) {
  const ModelTree tree = model_of({});
  // All goes to the GPU, through staging that the host has no space for.
  const Machine machine = machine_of({gpu("0", 8 * kGiB)}, 4 * kMiB, 0);
  const Plan plan = make_plan(tree, machine, {});
  ASSERT_FALSE(plan.fits());
  EXPECT_EQ(plan.shortfall->bytes, 12 * kMiB);
  EXPECT_THAT(plan.shortfall->cause, HasSubstr("load peak"));
}

TEST(Planner, TellsHowMuchAnEightBitCacheSaves) {
  const ModelTree tree = model_of({});
  const auto suggested = [&](DType dtype) {
    Request request;
    request.workload.kv_dtype = dtype;
    request.workload.context = 4096;
    Plan plan = make_plan(tree, machine_of({gpu("0", 100 * kGiB)}, 0, 0), request);
    const std::uint64_t used = plan.devices[0].capacity - plan.devices[0].free;
    plan = make_plan(tree, machine_of({gpu("0", used - kMiB)}, 0, 0), request);
    EXPECT_FALSE(plan.fits());
    return plan.fits() ? std::vector<std::string>{} : plan.shortfall->suggestions;
  };
  EXPECT_THAT(suggested(DType::kF32), Contains(HasSubstr("a quarter of the KV cache")));
  EXPECT_THAT(suggested(DType::kF16), Contains(HasSubstr("half the KV cache")));
}

TEST(Planner, NeverLetsAutoBeWorseThanAnyOtherPolicy) {
  MadeShape shape;
  shape.layers = 12;
  const ModelTree tree = model_of(shape);
  const Machine machine = machine_of(
      {gpu("0", 800 * kMiB, 4e11), gpu("1", 1000 * kMiB, 1e12), gpu("2", 900 * kMiB, 8e11)},
      8 * kGiB, 100 * kGiB);
  const Plan best = make_plan(tree, machine, {});
  ASSERT_TRUE(best.fits());
  for (const Policy policy : all_policies()) {
    Request request;
    request.policy = policy;
    const Plan other = make_plan(tree, machine, request);
    if (!other.fits()) continue;
    EXPECT_LE(best.estimate.score_seconds, other.estimate.score_seconds * (1 + 1e-6))
        << policy_name(policy);
  }
}

TEST(Planner, NoticesThatMemoryShrankSinceThePlanWasMade) {
  const ModelTree tree = model_of({});
  Machine machine = machine_of({gpu("0", 8 * kGiB)}, 8 * kGiB, 0);
  const Plan plan = make_plan(tree, machine, {});
  EXPECT_EQ(recheck(plan, machine, false), "");
  machine.devices[0].capacity = 600 * kMiB;
  EXPECT_THAT(recheck(plan, machine, false), HasSubstr("gpu 0 has 600"));
  machine = machine_of({}, 8 * kGiB, 0);
  EXPECT_THAT(recheck(plan, machine, false), HasSubstr("does not have"));
  EXPECT_EQ(recheck(plan, machine, true), "");
  machine.devices[0].capacity = 100 * kMiB;
  EXPECT_THAT(recheck(plan, machine, true), HasSubstr("the host"));
}

TEST(Planner, GivesBudgetsTheirFullRoomForWeights) {
  MadeShape shape;
  shape.kv_elements = 4096;
  const ModelTree tree = model_of(shape);
  const std::uint64_t bytes = tree.bytes();
  Request request;
  request.max_memory = {{"0", bytes}};
  const Plan plan = make_plan(tree, budget_machine(*request.max_memory), request);
  expect_sound(tree, plan, "budget");
  EXPECT_TRUE(plan.fits());
  EXPECT_EQ(plan.devices[0].weights, bytes);
  EXPECT_EQ(plan.devices[0].free, 0u);
  EXPECT_THAT(plan.devices, SizeIs(2));  // the disk is always there
}

// Host RAM on two NUMA nodes of 1 GiB and 4 GiB, and no GPU.
Machine two_nodes() {
  Machine machine;
  machine.source = "a test";
  add_node(machine, 1 * kGiB, 80e9);
  add_node(machine, 4 * kGiB, 80e9);
  return machine;
}

std::vector<std::string> host_devices(const ModelTree& tree, const Plan& plan) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < tree.facts.layers.size(); ++i)
    names.push_back(device_of(tree, plan, "layers." + std::to_string(i) + ".attn.weight"));
  return names;
}

TEST(NumaNodes, HoldTogetherWhatNeitherHoldsAlone) {
  const ModelTree tree = model_of({.layers = 40, .layer_bytes = 64 * kMiB});  // 2.5 GiB
  Machine machine = two_nodes();
  machine.devices[1].capacity = 2 * kGiB;
  const Plan plan = make_plan(tree, machine, {});
  EXPECT_TRUE(plan.fits());
  expect_sound(tree, plan, "auto");
  EXPECT_THAT(host_devices(tree, plan), Contains("cpu"));
  EXPECT_THAT(host_devices(tree, plan), Contains("cpu:1"));
  EXPECT_EQ(plan.device_map.size(), 1u) << "for other tools all of it is on one cpu";
  EXPECT_EQ(plan.device_map[0].device, "cpu");
  EXPECT_EQ(plan.cpu_memory, CpuMemory::kPrivate) << "a mapping stands on whichever node has it";
  EXPECT_GE(plan.load_peak.host_bytes, tree.bytes());
  EXPECT_THAT(plan.notes, Contains(HasSubstr("private memory of their NUMA node")));
  machine.devices[1].capacity = 1 * kGiB;
  EXPECT_FALSE(make_plan(tree, machine, {}).fits()) << "2 GiB for 2.5";
}

TEST(NumaNodes, AreOneCpuForAccelerateAndForDeviceMaps) {
  const ModelTree tree = model_of({.layers = 40, .layer_bytes = 64 * kMiB});
  const Machine machine = two_nodes();
  Request request;
  request.policy = Policy::kSequential;
  const Plan accelerate = make_plan(tree, machine, request);
  expect_sound(tree, accelerate, "sequential");
  EXPECT_TRUE(accelerate.fits());
  EXPECT_THAT(host_devices(tree, accelerate), Contains("cpu"));
  EXPECT_THAT(host_devices(tree, accelerate), Contains("cpu:1"));

  Request map;
  map.policy = Policy::kDeviceMap;
  map.device_map = DeviceMap{{"", "cpu"}};
  const Plan whole = make_plan(tree, machine, map);
  expect_sound(tree, whole, "a map to cpu");
  EXPECT_TRUE(whole.fits());
  EXPECT_THAT(host_devices(tree, whole), Contains("cpu:1"));

  map.device_map = DeviceMap{{"", "cpu:1"}};
  const Plan second = make_plan(tree, machine, map);
  EXPECT_TRUE(second.fits());
  EXPECT_THAT(host_devices(tree, second), Not(Contains("cpu")));
  map.device_map = DeviceMap{{"", "cpu:0"}};
  EXPECT_FALSE(make_plan(tree, machine, map).fits()) << "the first alone has 1 GiB";

  // What a plan says of its nodes gives the same plan again.
  map.device_map = whole.node_map;
  EXPECT_EQ(make_plan(tree, machine, map).tensor_device, whole.tensor_device);
}

TEST(NumaNodes, ShareTheBudgetOfCpu) {
  const ModelTree tree = model_of({.layers = 40, .layer_bytes = 64 * kMiB});
  const Machine machine = two_nodes();
  Request request;
  request.max_memory = std::vector<Budget>{{"cpu", 2 * kGiB}};
  EXPECT_FALSE(make_plan(tree, machine, request).fits());
  request.max_memory = std::vector<Budget>{{"cpu", 3 * kGiB}};
  EXPECT_TRUE(make_plan(tree, machine, request).fits());
  request.max_memory = std::vector<Budget>{{"cpu", 3 * kGiB}, {"cpu:1", 1 * kGiB}};
  EXPECT_FALSE(make_plan(tree, machine, request).fits()) << "each by itself";
  request.max_memory.reset();
  request.excluded = {"cpu:1"};
  EXPECT_FALSE(make_plan(tree, machine, request).fits());
  request.excluded = {"cpu"};
  EXPECT_FALSE(make_plan(tree, machine, request).fits()) << "all of host RAM";

  const Machine one = machine_of({}, 4 * kGiB, 0);
  Request wrong;
  wrong.max_memory = std::vector<Budget>{{"cpu:1", 4 * kGiB}};
  EXPECT_THROW(make_plan(tree, one, wrong), Error) << "its RAM would count twice";
}

TEST(NumaNodes, TakeOverridesInOrder) {
  const ModelTree tree = model_of({.layers = 40, .layer_bytes = 64 * kMiB});
  Machine machine = two_nodes();
  machine.devices.insert(machine.devices.begin(), gpu("0", 24 * kGiB));
  fill_defaults(machine);
  Request request;
  request.overrides = {{"layers.*", "cpu"}};
  const Plan plan = make_plan(tree, machine, request);
  EXPECT_TRUE(plan.fits());
  expect_sound(tree, plan, "overrides");
  EXPECT_THAT(host_devices(tree, plan), Contains("cpu"));
  EXPECT_THAT(host_devices(tree, plan), Contains("cpu:1"));
  EXPECT_THAT(host_devices(tree, plan), Not(Contains("0")));
}

TEST(NumaNodes, AreCheckedEachBeforeALoad) {
  const ModelTree tree = model_of({.layers = 40, .layer_bytes = 64 * kMiB});
  const Machine machine = two_nodes();
  const Plan plan = make_plan(tree, machine, {});
  ASSERT_TRUE(plan.fits());
  EXPECT_EQ(recheck(plan, machine, false), "");
  Machine now = machine;
  now.devices[1].capacity = 512 * kMiB;
  EXPECT_THAT(recheck(plan, now, false), HasSubstr("cpu:1 has"));
  const Machine one = machine_of({}, 8 * kGiB, 0);
  EXPECT_THAT(recheck(plan, one, false),
              HasSubstr("cpu:1, a NUMA node that this machine does not"));
  EXPECT_EQ(recheck(plan, one, true), "") << "rehearsed on the node that is there";
}

// A GPU of another maker is planned for like one of NVIDIA, and refused when it comes to loading.
TEST(OtherGpus, ArePlannedForAndNotLoadedTo) {
  const ModelTree tree = model_of({.layers = 8, .layer_bytes = 64 * kMiB});
  Machine machine = machine_of({gpu("0", 4 * kGiB)}, 8 * kGiB, 0);
  const Plan cuda = make_plan(tree, machine, {});
  machine.devices[0].kind = DeviceKind::kOther;
  const Plan other = make_plan(tree, machine, {});
  expect_sound(tree, other, "other");
  EXPECT_TRUE(other.fits());
  EXPECT_EQ(other.devices[0].kind, DeviceKind::kOther);
  EXPECT_EQ(other.tensor_device, cuda.tensor_device);
  EXPECT_EQ(other.devices[0].weights, cuda.devices[0].weights);
  EXPECT_EQ(other.devices[0].reserved, cuda.devices[0].reserved);
  EXPECT_EQ(other.estimate.score_seconds, cuda.estimate.score_seconds);
  machine.devices[0].kind = DeviceKind::kCuda;
  EXPECT_THAT(recheck(other, machine, false), HasSubstr("gpu 0, which is of kind other"));
  EXPECT_EQ(recheck(other, machine, true), "");
}

// GPU and CPU share one memory: one device, no cpu, and the disk is read by the GPU.
TEST(OtherGpus, MayShareTheirMemoryWithTheCpu) {
  const ModelTree tree = model_of({.layers = 40, .layer_bytes = 64 * kMiB});
  Machine machine = machine_of({gpu("0", 6 * kGiB)}, 0, 100 * kGiB);
  machine.devices[0].kind = DeviceKind::kOther;
  machine.devices[0].reserve = 1 * kGiB;
  Plan plan = make_plan(tree, machine, {});
  EXPECT_TRUE(plan.fits());
  EXPECT_EQ(plan.devices[0].weights, tree.bytes());
  EXPECT_GE(plan.devices[0].reserved, 1 * kGiB) << "the operating system lives there, too";
  machine.devices[0].capacity = 3 * kGiB;
  plan = make_plan(tree, machine, {});
  EXPECT_TRUE(plan.fits()) << "the rest stays on the disk";
  EXPECT_LT(plan.devices[0].weights, tree.bytes());
  EXPECT_EQ(plan.disk_runner, 0u);
}

}  // namespace
}  // namespace berth
