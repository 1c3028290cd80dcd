// What `auto` chooses, case by case, and the reasons that it gives.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "berth/error.h"
#include "berth/planner.h"
#include "tests/planner/made_models.h"

namespace berth {
namespace {

using testing::Contains;
using testing::HasSubstr;

Machine one_gpu(std::uint64_t space, std::uint64_t host = 64 * kGiB) {
  return machine_of({gpu("0", 512 * kMiB + space)}, host, 0);
}

const ModulePlacement* placed(const ModelTree& tree, const Plan& plan, const std::string& module) {
  for (const ModulePlacement& placement : plan.placement) {
    if (tree.modules[placement.module].name == module) return &placement;
  }
  return nullptr;
}

std::size_t layers_on(const ModelTree& tree, const Plan& plan, const std::string& device) {
  std::size_t count = 0;
  for (const LayerFacts& layer : tree.facts.layers) {
    const std::string name = std::string(tree.modules[layer.module].name) + ".attn.weight";
    if (device_of(tree, plan, name) == device) ++count;
  }
  return count;
}

TEST(AutoChooses, ExpertsForTheHostBeforeAnythingThatEveryTokenReads) {
  MadeShape shape;
  shape.layers = 20;
  shape.experts = 64;
  const ModelTree tree = model_of(shape);
  const Plan plan = make_plan(tree, one_gpu(tree.bytes() * 6 / 10), {});
  expect_sound(tree, plan, "experts");
  expect_whole(tree, plan, "experts");
  ASSERT_TRUE(plan.fits());
  EXPECT_EQ(layers_on(tree, plan, "0"), 20u);
  EXPECT_EQ(device_of(tree, plan, "head.weight"), "0");
  EXPECT_GT(plan.devices[1].weights, tree.bytes() * 3 / 10);
  EXPECT_EQ(plan.devices[1].kv_cache, 0u);
  EXPECT_EQ(device_of(tree, plan, "layers.0.mlp.experts.weight"), "cpu");
  const ModulePlacement* experts = placed(tree, plan, "layers.0.mlp.experts");
  ASSERT_NE(experts, nullptr);
  EXPECT_THAT(experts->reason, HasSubstr("a token reads 3 % of the experts"));
}

TEST(AutoChooses, TheHostForTheEmbeddingWhereThatKeepsALayerOnTheGpu) {
  MadeShape shape;
  shape.vocabulary = 65536;  // 128 MiB, as much as two layers
  shape.layers = 12;
  const ModelTree tree = model_of(shape);
  const Plan plan = make_plan(tree, one_gpu(tree.bytes() - 32 * kMiB), {});
  ASSERT_TRUE(plan.fits());
  EXPECT_EQ(device_of(tree, plan, "embed.weight"), "cpu");
  EXPECT_EQ(layers_on(tree, plan, "0"), 12u);
  EXPECT_EQ(device_of(tree, plan, "head.weight"), "0");
  EXPECT_THAT(placed(tree, plan, "embed")->reason, HasSubstr("a token reads one row"));
}

TEST(AutoChooses, ToSpreadLayersThatStreamBetweenThoseThatStay) {
  MadeShape shape;
  shape.layers = 30;
  shape.kv_elements = 0;
  const ModelTree tree = model_of(shape);
  Machine machine = one_gpu(tree.bytes() * 2 / 3);
  machine.devices[0].flops = 2e14;            // a layer computes for half as long as its copy takes
  machine.devices[1].memory_bandwidth = 2e9;  // and the CPU is no help
  machine.devices[1].flops = 1e10;
  Request request;
  request.workload.prompt_tokens = 4096;
  request.workload.new_tokens = 1;
  const Plan plan = make_plan(tree, machine, request);
  expect_sound(tree, plan, "streamed");
  ASSERT_TRUE(plan.fits());
  EXPECT_EQ(plan.streamer, 0u);
  EXPECT_EQ(plan.stream_buffer_bytes, 64 * kMiB);
  EXPECT_GE(plan.devices[0].workspace, 2 * plan.stream_buffer_bytes);
  EXPECT_THAT(plan.notes, Contains(HasSubstr("streamed through gpu 0")));
  std::size_t runs = 0;
  std::string before;
  for (int i = 0; i < 30; ++i) {
    const std::string device =
        device_of(tree, plan, "layers." + std::to_string(i) + ".attn.weight");
    if (device != before) ++runs;
    before = device;
  }
  EXPECT_GT(runs, 4u);

  // The same layers in two runs, as Hugging Face would place them, show what spreading gains.
  Request map;
  map.workload = request.workload;
  map.device_map.emplace();
  const std::size_t stay = layers_on(tree, plan, "0");
  for (std::size_t i = 0; i < 30; ++i) {
    map.device_map->push_back({"layers." + std::to_string(i), i < stay ? "0" : "cpu"});
  }
  map.device_map->push_back({"", "0"});
  const Plan runs_of_two = make_plan(tree, machine, map);
  EXPECT_GT(runs_of_two.estimate.score_seconds, plan.estimate.score_seconds * 1.1);
}

TEST(AutoChooses, ACopyOfATiedHeadWhereItSavesAHop) {
  MadeShape shape;
  shape.tied = true;
  const ModelTree tree = model_of(shape);
  const Machine roomy = machine_of({gpu("0", 700 * kMiB), gpu("1", 700 * kMiB)}, 8 * kGiB, 0);
  const Plan apart = make_plan(tree, roomy, {});
  EXPECT_TRUE(apart.fits());
  EXPECT_NE(device_of(tree, apart, "embed.weight"), device_of(tree, apart, "head.weight"));
  EXPECT_EQ(apart.devices[0].weights + apart.devices[1].weights, tree.bytes() + 16 * kMiB);
  EXPECT_THAT(placed(tree, apart, "head")->reason, HasSubstr("a copy of"));

  const Machine one = machine_of({gpu("0", 2 * kGiB)}, 8 * kGiB, 0);
  EXPECT_EQ(make_plan(tree, one, {}).devices[0].weights, tree.bytes());
}

TEST(AutoChooses, GpusOfLowPriorityLast) {
  const ModelTree tree = model_of({});
  const Machine machine = machine_of({gpu("0", 8 * kGiB, 3e12), gpu("1", 8 * kGiB, 5e11)}, 0, 0);
  EXPECT_EQ(make_plan(tree, machine, {}).devices[1].weights, 0u);
  Request request;
  request.priority = {{"0", -1}};
  EXPECT_EQ(make_plan(tree, machine, request).devices[0].weights, 0u);

  const Machine small =
      machine_of({gpu("0", 8 * kGiB, 3e12), gpu("1", 700 * kMiB, 5e11)}, 8 * kGiB, 0);
  const Plan both = make_plan(tree, small, request);
  EXPECT_TRUE(both.fits());
  EXPECT_GT(both.devices[0].weights, 0u);
  EXPECT_EQ(both.devices[2].weights, 0u) << "a GPU of low priority still comes before the cpu";
}

TEST(AutoChooses, NeverToSplitWhatMustStayWhole) {
  MadeShape shape;
  shape.layers = 6;
  shape.experts = 64;
  const ModelTree tree = model_of(shape);
  Request request;
  request.no_split = {"Block"};
  const Plan plan = make_plan(tree, one_gpu(tree.bytes() / 2), request);
  ASSERT_TRUE(plan.fits());
  for (int i = 0; i < 6; ++i) {
    const std::string layer = "layers." + std::to_string(i);
    EXPECT_EQ(device_of(tree, plan, layer + ".mlp.experts.weight"),
              device_of(tree, plan, layer + ".attn.weight"));
  }
  request.no_split = {"layers"};  // all layers on one device
  const Plan together = make_plan(tree, one_gpu(tree.bytes() / 2), request);
  ASSERT_TRUE(together.fits());
  EXPECT_EQ(layers_on(tree, together, "cpu"), 6u);
  request.no_split = {"nothing.such"};
  EXPECT_THROW(make_plan(tree, one_gpu(kGiB), request), Error);
}

TEST(AutoChooses, ByTheMeasuredSpeedOfProductsOnTheCpu) {
  const ModelTree tree = model_of({});
  Machine machine = machine_of({}, 8 * kGiB, 0);
  const double before = make_plan(tree, machine, {}).estimate.seconds_per_token;
  machine.devices[0].matvec["float32"] = 1e9;
  EXPECT_EQ(make_plan(tree, machine, {}).estimate.seconds_per_token, before) << "of another dtype";
  machine.devices[0].matvec["bfloat16"] = machine.devices[0].memory_bandwidth / 10;
  EXPECT_GT(make_plan(tree, machine, {}).estimate.seconds_per_token, 5 * before);
}

// The embedding and the head need the larger GPU, which has space for half of the layers beside
// them: in a chain these stand before and after the layers of the other one.
TEST(AutoChooses, LayersInAnotherOrderWhereNoContiguousRunsFit) {
  MadeShape shape;
  shape.layers = 32;
  shape.layer_bytes = 400 * kMiB;
  shape.hidden = 4096;
  shape.vocabulary = 128 * 1024;  // 1 GiB
  const ModelTree tree = model_of(shape);
  const std::uint64_t half = 16 * 404 * kMiB + 110 * kMiB;  // 4 MiB of KV cache each; workspace
  Machine machine = machine_of(
      {gpu("0", 512 * kMiB + 2 * kGiB + half), gpu("1", 512 * kMiB + half)}, 64 * kGiB, 0);
  for (const Policy policy : {Policy::kAuto, Policy::kThroughput}) {
    Request request;
    request.policy = policy;
    const Plan plan = make_plan(tree, machine, request);
    expect_sound(tree, plan, "packed");
    expect_whole(tree, plan, "packed");
    ASSERT_TRUE(plan.fits());
    EXPECT_EQ(plan.devices[2].weights, 0u) << "what fits on the GPUs is never spilled";
    EXPECT_EQ(device_of(tree, plan, "embed.weight"), "0");
    EXPECT_EQ(device_of(tree, plan, "head.weight"), "0");
    std::size_t hops = 0;
    for (int i = 1; i < 32; ++i) {
      const auto on = [&](int layer) {
        return device_of(tree, plan, "layers." + std::to_string(layer) + ".attn.weight");
      };
      hops += on(i) != on(i - 1) ? 1 : 0;
    }
    EXPECT_EQ(hops + (device_of(tree, plan, "layers.0.attn.weight") == "1" ? 1 : 0) +
                  (device_of(tree, plan, "layers.31.attn.weight") == "1" ? 1 : 0),
              2u);
    EXPECT_THAT(plan.notes, Contains(HasSubstr("in another order, with 2 hops")));
    EXPECT_THAT(placed(tree, plan, "embed")->reason, HasSubstr("in 2 runs"));
    ASSERT_TRUE(plan.estimate.optimality_gap);
    EXPECT_LT(*plan.estimate.optimality_gap, 0.2);
  }
  Request request;
  request.never_offload = true;
  EXPECT_TRUE(make_plan(tree, machine, request).fits());
  machine.devices[0].capacity -= 100 * kMiB;  // now one layer is too many
  EXPECT_FALSE(make_plan(tree, machine, request).fits());
}

// Half of each layer is experts. Two of the GPUs have space for the experts of all layers, and one
// for the rest of them: only pieces of layers fit.
TEST(AutoChooses, ExpertsOnAnotherGpuWhereNoWholeLayersFit) {
  MadeShape shape;
  shape.layers = 16;
  shape.layer_bytes = 256 * kMiB;  // of which 192 MiB are experts
  shape.experts = 8;
  const ModelTree tree = model_of(shape);
  const std::uint64_t experts = 7 * 192 * kMiB;
  const Machine machine = machine_of(
      {gpu("0", 512 * kMiB + 8 * 192 * kMiB + kMiB), gpu("1", 512 * kMiB + experts + 50 * kMiB),
       gpu("2", 512 * kMiB + 16 * 70 * kMiB + 192 * kMiB + 120 * kMiB)},
      64 * kGiB, 0);
  const Plan plan = make_plan(tree, machine, {});
  expect_sound(tree, plan, "pieces");
  expect_whole(tree, plan, "pieces");
  ASSERT_TRUE(plan.fits());
  EXPECT_EQ(plan.devices[3].weights, 0u);
}

// No two layers are alike, and three GPUs have next to nothing to spare: to find out whether any
// order fits would take too long.
TEST(AutoChooses, ToSayWhereASearchStoppedAtItsLimit) {
  MadeShape shape;
  shape.layers = 45;
  shape.hidden = 64;
  shape.vocabulary = 1024;
  ModelTree tree = model_of(shape);
  for (std::uint64_t i = 0; i < shape.layers; ++i) {
    for (ModelTensor& tensor : tree.tensors) {
      if (tensor.name == "layers." + std::to_string(i) + ".mlp.weight") {
        tensor.shape[0] += 977 * i * i + 31 * i;
      }
    }
  }
  const std::uint64_t need = tree.bytes() + shape.layers * 4 * kMiB + 1024 * 6;
  const std::uint64_t workspace = 512 * (4 * 64 + 3 * 256) * 2 + 512 * 512 * 16 * 4;
  const Device like = gpu("0", 512 * kMiB + need / 3 + 2 + workspace);
  std::vector<Device> gpus{like, like, like};
  gpus[1].name = "1";
  gpus[2].name = "2";
  const Plan plan = make_plan(tree, machine_of(gpus, 64 * kGiB, 0), {});
  ASSERT_TRUE(plan.fits());
  EXPECT_GT(plan.devices[3].weights, 0u);
  EXPECT_THAT(plan.notes, Contains(HasSubstr("stopped at its limit")));
  Request request;
  request.never_offload = true;
  const Plan short_of_space = make_plan(tree, machine_of(gpus, 64 * kGiB, 0), request);
  EXPECT_FALSE(short_of_space.fits());
  EXPECT_THAT(short_of_space.notes, Contains(HasSubstr("may have missed one that fits")));
}

// What the disk needs where it is run is known only once units are placed. The larger GPU makes
// another runner the better one, for which no contiguous plan is found.
TEST(AutoChooses, APlanBesideASmallHostAndADiskWhateverTheGpuHas) {
  MadeShape shape;
  shape.layers = 18;
  shape.layer_bytes = 72 * kMiB;
  shape.hidden = 576;
  shape.vocabulary = 30 * 1024;
  shape.experts = 8;
  const ModelTree tree = model_of(shape);
  Request request;
  request.workload.prompt_tokens = 4096;
  double before = 1e9;
  for (const std::uint64_t more : {0, 100, 300, 400, 500, 628, 900}) {
    const Machine machine =
        machine_of({gpu("0", (853 + more) * kMiB, 6e11)}, 105 * kMiB, 100 * kGiB);
    const Plan plan = make_plan(tree, machine, request);
    expect_sound(tree, plan, "disk");
    ASSERT_TRUE(plan.fits()) << more;
    EXPECT_LE(plan.estimate.score_seconds, before * (1 + 1e-6)) << more;
    before = plan.estimate.score_seconds;
  }
}

TEST(AutoChooses, WordsForTheConstraintThatStandsInTheWay) {
  const ModelTree tree = model_of({});
  Machine machine = machine_of({gpu("0", 700 * kMiB)}, 8 * kGiB, 0);
  Request request;
  request.never_offload = true;
  EXPECT_THAT(make_plan(tree, machine, request).shortfall->cause, HasSubstr("--never-offload"));
  request = {};
  request.overrides = {{"layers", "0"}};
  EXPECT_THAT(make_plan(tree, machine, request).shortfall->cause, HasSubstr("overrides"));
  request = {};
  request.excluded = {"cpu"};
  EXPECT_THAT(make_plan(tree, machine, request).shortfall->cause, HasSubstr("excluded"));
  request = {};
  machine.devices.pop_back();
  EXPECT_THAT(make_plan(tree, machine, request).shortfall->cause, HasSubstr("memory: weights of"));
}

}  // namespace
}  // namespace berth
