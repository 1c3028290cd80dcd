// Estimates by the measured rates of kernels, against numbers worked out by hand.
#include <gtest/gtest.h>

#include <cmath>

#include "berth/planner.h"
#include "planner/cost/product_time.h"
#include "tests/planner/compact_tree.h"
#include "tests/planner/made_models.h"

namespace berth {
namespace {

TEST(ProductSeconds, AreInterpolatedBetweenNumbersOfPositions) {
  const std::map<std::uint32_t, double> rates{{1, 10}, {5, 5}, {15, 2}};
  EXPECT_DOUBLE_EQ(product_seconds(rates, 1), 0.1);
  EXPECT_DOUBLE_EQ(product_seconds(rates, 3), 0.15);
  EXPECT_DOUBLE_EQ(product_seconds(rates, 5), 0.2);
  EXPECT_DOUBLE_EQ(product_seconds(rates, 10), 0.35);
  EXPECT_DOUBLE_EQ(product_seconds(rates, 25), 0.8) << "the line goes on";
  EXPECT_DOUBLE_EQ(product_seconds(rates, 0.5), 0.1);
  EXPECT_DOUBLE_EQ(product_seconds({{1, 10}}, 100), 0.1);
  EXPECT_DOUBLE_EQ(product_seconds({{1, 10}, {4, 20}}, 4), 0.1) << "noise";
}

constexpr double kBf16 = 4096.0 * 1024 * 2;        // bytes of a layer's matrix in bfloat16
constexpr double kQ4 = 2048.0 * 1024 / 256 * 144;  // bytes of its matrix in Q4_K
constexpr double kHead = 8192.0 * 1024 * 2;
constexpr double kNorm = 1024 * 4;
constexpr double kKv = 1024;  // bytes of a position

// An embedding, a layer with matrices of two formats and a norm, a head. With `experts` the matrix
// in Q4_K stands for so many, of which a token picks two.
ModelTree tree_of(std::uint64_t experts) {
  ModelTree tree;
  tree.name = "test";
  add_module(tree, kNone, "", "Model");
  const auto embed = add_module(tree, 0, "embed", "Embedding");
  add_tensor(tree, embed, "weight", DType::kBF16, {8192, 1024});
  const auto layers = add_module(tree, 0, "layers", "ModuleList");
  const auto layer = add_module(tree, layers, "0", "Block", true);
  const auto attn = add_module(tree, layer, "attn", "Attention");
  add_tensor(tree, attn, "weight", DType::kBF16, {4096, 1024});
  add_tensor(tree, attn, "norm", DType::kF32, {1024});
  const auto mlp = add_module(tree, layer, "mlp", "Mlp");
  add_tensor(tree, mlp, "weight", DType::kQ4_K, {2048, 1024});
  LayerFacts facts;
  facts.module = layer;
  facts.kv_elements = 512;
  if (experts > 0) {
    tree.modules[mlp].expert = true;
    facts.experts = experts;
    facts.experts_per_token = 2;
  }
  tree.facts.layers.push_back(facts);
  const auto head = add_module(tree, 0, "head", "Linear");
  add_tensor(tree, head, "weight", DType::kBF16, {8192, 1024});
  tree.facts.hidden = 1024;
  tree.facts.intermediate = 4096;
  tree.facts.vocabulary = 8192;
  tree.facts.heads = 16;
  tree.facts.max_positions = 8192;
  tree.facts.embedding = embed;
  tree.facts.head = head;
  return tree;
}

Machine measured() {
  Machine machine = machine_of({}, 8 * kGiB, 0);
  Device& cpu = machine.devices[0];
  cpu.memory_bandwidth = 16e9;
  cpu.flops = 1e12;
  cpu.kernels.products = {{"bfloat16", {{1, 8e9}, {9, 4e9}, {109, 1e9}}},
                          {"q4_k", {{1, 5e9}, {9, 2e9}}}};
  cpu.kernels.attention = 2e9;
  cpu.kernels.prompt_attention = 3e11;
  cpu.kernels.layer = 40e-6;
  return machine;
}

Workload workload_of(std::uint64_t batch, std::uint64_t prompt) {
  Workload workload;
  workload.batch = batch;
  workload.prompt_tokens = prompt;
  workload.new_tokens = 20;
  return workload;
}

Forecast forecast_for(const ModelTree& tree, const Machine& machine, const Workload& workload) {
  Request request;
  request.workload = workload;
  const Plan plan = make_plan(tree, machine, request);
  const std::optional<Forecast> out = forecast(tree, machine, plan, workload);
  EXPECT_TRUE(out);
  return out.value_or(Forecast{});
}

TEST(Forecast, AddsBytesByTheRateOfTheirFormat) {
  const Forecast found = forecast_for(tree_of(0), measured(), workload_of(1, 100));
  const double kv = kKv * 110;  // the prompt and half of the new tokens
  const double row = 2048;      // of the embedding
  EXPECT_NEAR(found.estimate.seconds_per_token,
              row / 16e9 + kBf16 / 8e9 + kQ4 / 5e9 + kNorm / 16e9 + kv / 2e9 + 40e-6 + kHead / 8e9,
              1e-9);
  EXPECT_NEAR(found.bytes_per_step, row + kBf16 + kQ4 + kNorm + kv + kHead, 1);
  EXPECT_NEAR(found.limit_seconds_per_step, found.bytes_per_step / 16e9, 1e-12);
  ASSERT_EQ(found.units.size(), 3u);
  double sum = 0;
  for (const Forecast::Unit& unit : found.units) sum += unit.seconds_per_token;
  EXPECT_NEAR(sum, found.estimate.seconds_per_token, 1e-12);
}

TEST(Forecast, TakesThePromptAtOnceAndTheHeadForItsLastPosition) {
  const Forecast found = forecast_for(tree_of(0), measured(), workload_of(1, 59));
  // Half way from 9 positions to 109, and far beyond the 9 of Q4_K.
  const double bf16 = kBf16 * (0.25e-9 + 1e-9) / 2;
  const double q4 = kQ4 * (0.2e-9 + (0.5e-9 - 0.2e-9) / 8 * 58);
  const double attention = 59 * 4 * 1024 * (59.0 / 2) / 3e11;
  EXPECT_NEAR(found.estimate.prefill_seconds,
              59 * 2048 / 16e9 + bf16 + q4 + attention + 40e-6 + kHead / 8e9, 1e-6);
}

TEST(Forecast, OfABatchReadsWeightsOnceAndCachesForEach) {
  const Forecast found = forecast_for(tree_of(0), measured(), workload_of(5, 100));
  const double bf16 = (0.125e-9 + 0.25e-9) / 2;  // half way from 1 position to 9
  const double q4 = (0.2e-9 + 0.5e-9) / 2;
  EXPECT_NEAR(found.estimate.seconds_per_token,
              5 * 2048 / 16e9 + (kBf16 + kHead) * bf16 + kQ4 * q4 + kNorm / 16e9 +
                  5 * kKv * 110 / 2e9 + 40e-6,
              1e-9);
}

TEST(Forecast, CountsTheExpertsThatABatchIsExpectedToTouch) {
  const Forecast one = forecast_for(tree_of(8), measured(), workload_of(1, 100));
  const Forecast dense = forecast_for(tree_of(0), measured(), workload_of(1, 100));
  EXPECT_NEAR(dense.estimate.seconds_per_token - one.estimate.seconds_per_token, 0.75 * kQ4 / 5e9,
              1e-9)
      << "two of eight";
  const Forecast five = forecast_for(tree_of(8), measured(), workload_of(5, 100));
  const double touched = 1 - std::pow(0.75, 5);  // an expert that none of five picks is not read
  const double positions = 5 * 0.25 / touched;   // of an expert that is
  const double a_byte = 0.2e-9 + (0.5e-9 - 0.2e-9) * (positions - 1) / 8;
  const Forecast dense_five = forecast_for(tree_of(0), measured(), workload_of(5, 100));
  EXPECT_NEAR(dense_five.estimate.seconds_per_token - five.estimate.seconds_per_token,
              kQ4 * (0.2e-9 + 0.5e-9) / 2 - kQ4 * touched * a_byte, 1e-9);
}

TEST(Forecast, HasRatesOfTheirOwnForWideMatrices) {
  Machine machine = measured();
  machine.devices[0].kernels.wide = {{"bfloat16", {{1, 1e9}}}};
  const auto token = [&](const ModelTree& tree) {
    return forecast_for(tree, machine, workload_of(1, 100)).estimate.seconds_per_token;
  };
  const double narrow = token(tree_of(0));
  EXPECT_EQ(narrow,
            forecast_for(tree_of(0), measured(), workload_of(1, 100)).estimate.seconds_per_token)
      << "1,024 columns";
  ModelTree wide = tree_of(0);
  ModelTensor& matrix = wide.tensors[tensor_id(wide, "layers.0.attn.weight")];
  ASSERT_EQ(matrix.shape, (Shape{4096, 1024}));
  matrix.shape = {1024, 4096};
  EXPECT_NEAR(token(wide) - narrow, kBf16 / 1e9 - kBf16 / 8e9, 1e-9);
}

TEST(Forecast, CountsWhatEachProductTakesBesideItsWeights) {
  Machine machine = measured();
  machine.devices[0].kernels.starts = {{"bfloat16", {{1, 2e-6}, {9, 10e-6}}}};
  const auto more = [&](std::uint64_t experts, std::uint64_t batch) {
    const Workload workload = workload_of(batch, 100);
    return forecast_for(tree_of(experts), machine, workload).estimate.seconds_per_token -
           forecast_for(tree_of(experts), measured(), workload).estimate.seconds_per_token;
  };
  // Four products of the layer, in so far as it is bfloat16, and the head.
  const double dense = kBf16 / (kBf16 + kQ4 + kNorm);
  EXPECT_NEAR(more(0, 1), (4 * dense + 1) * 2e-6, 1e-12);
  EXPECT_NEAR(more(0, 5), (4 * dense + 1) * 6e-6, 1e-12);
  EXPECT_NEAR(more(8, 1), (3 * kBf16 / (kBf16 + kNorm) + 1) * 2e-6, 1e-12);
  machine.devices[0].kernels.starts = {{"q4_k", {{1, 7e-6}}}};
  EXPECT_NEAR(more(8, 1), 2 * 2 * 7e-6, 1e-12) << "two products of each of two experts";
}

TEST(Forecast, ComputesWithEveryElementOfACache) {
  Workload workload = workload_of(1, 100);
  const auto cache = [&](DType dtype) {
    workload.kv_dtype = dtype;
    return forecast_for(tree_of(0), measured(), workload).estimate.seconds_per_token;
  };
  EXPECT_NEAR(cache(DType::kF32), cache(DType::kBF16), 1e-12);
  EXPECT_NEAR(cache(DType::kF8E4M3), cache(DType::kBF16), 1e-12);
}

TEST(Forecast, TakesTheRooflineForFormatsWithoutARate) {
  Machine machine = measured();
  machine.devices[0].kernels.products.erase("q4_k");
  const Forecast some = forecast_for(tree_of(0), machine, workload_of(1, 100));
  const Forecast all = forecast_for(tree_of(0), measured(), workload_of(1, 100));
  EXPECT_NEAR(all.estimate.seconds_per_token - some.estimate.seconds_per_token,
              kQ4 / 5e9 - kQ4 / 16e9, 1e-9);
}

TEST(Forecast, IsOfNothingWhereADeviceIsMissing) {
  const ModelTree tree = tree_of(0);
  const Plan plan = make_plan(tree, machine_of({gpu("0", kGiB)}, kGiB, 0), {});
  EXPECT_FALSE(forecast(tree, measured(), plan, {}));
}

}  // namespace
}  // namespace berth
