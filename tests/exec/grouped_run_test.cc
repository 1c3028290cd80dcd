// Models whose weights are quantised in several tensors each, run as they are quantised, against
// their own dequantised form run by libtorch.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "berth/loader.h"
#include "berth/planner.h"
#include "runtime/exec/reference_decoder.h"
#include "runtime/generate/executor.h"
#include "runtime/load/environment.h"
#include "runtime/program/recipe.h"
#include "tests/model/quantized_layers.h"
#include "tests/program/made_model.h"
#include "tests/quant/quantized_forms.h"

namespace berth::testing {
namespace {

using Logits = std::vector<std::vector<float>>;

class GroupedRun : public ::testing::TestWithParam<test::Form> {
 protected:
  void SetUp() override {
    test::write_checkpoint(folder_, GetParam().config, GetParam().tensors);
    test::fill(folder_.path(), test::Numbers::kOrdinary);
  }

  Logits logits(const Model& model, const Where& where, Kernels kernels) {
    Plan plan = made_plan(model.tree, where);
    plan.cpu_memory = CpuMemory::kPrivate;
    plan.workload.kv_dtype = DType::kF32;
    for (DeviceLedger& device : plan.devices) device.capacity = 1u << 30;
    LoadOptions load_options;
    load_options.emulate = true;
    load_options.tile = kernels == Kernels::kOwn;
    const auto loaded = load(model, plan, load_options, LoadEnvironment{});
    RunOptions options;
    options.prompt_ids = {{1, 5, 9, 3, 14, 2, 5}};
    options.new_tokens = 4;
    options.stop_at_end_of_text = false;
    options.open_reference = [] { return &make_reference_decoder; };
    options.kernels = kernels;
    options.logits_file = folder_.path() / "logits.safetensors";
    new_ids_ = run(model, plan, *loaded, options).sequences[0].new_ids;
    return read_logits(*options.logits_file);
  }

  test::TempFolder folder_;
  std::vector<std::int64_t> new_ids_;
};

TEST_P(GroupedRun, GivesTheLogitsOfTheDequantisedFormWhereverWeightsAre) {
  const auto on_cpu = [](const ModelTensor&, TensorId) { return kCpu; };
  const auto by_turns = [](const ModelTensor&, TensorId id) { return id % 4; };
  const Model plain = open_model(folder_.path(), DType::kF32, Dequantize::kYes);
  const Logits expected = logits(plain, on_cpu, Kernels::kReference);
  const std::vector<std::int64_t> ids = new_ids_;
  const Model grouped = open_model(folder_.path(), std::nullopt, Dequantize::kPacked);
  EXPECT_EQ(why_not_as_stored(grouped), "");
  const Logits found = logits(grouped, on_cpu, Kernels::kOwn);
  float most = 0;
  for (const auto& row : expected) {
    for (const float value : row) most = std::max(most, std::fabs(value));
  }
  ASSERT_GT(most, 0.1F);
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_THAT(found[i], ::testing::Pointwise(::testing::FloatNear(1e-4F * most), expected[i]));
  }
  EXPECT_EQ(new_ids_, ids);
  EXPECT_EQ(logits(grouped, by_turns, Kernels::kOwn), found);
}

// Libtorch's decoder, which computes what is on real GPUs, takes quantised weights as well: here
// those in host memory and on the disk, as they are beside a GPU's.
TEST_P(GroupedRun, LibtorchsDecoderGivesTheSame) {
  const auto on_cpu = [](const ModelTensor&, TensorId) { return kCpu; };
  const auto by_turns = [](const ModelTensor&, TensorId id) { return id % 4; };
  const Model grouped = open_model(folder_.path(), std::nullopt, Dequantize::kPacked);
  const Logits expected = logits(grouped, on_cpu, Kernels::kOwn);
  float most = 0;
  for (const auto& row : expected) {
    for (const float value : row) most = std::max(most, std::fabs(value));
  }
  const Recipe recipe = make_recipe(grouped);
  const std::vector<std::int64_t> prompt = {1, 5, 9, 3, 14, 2, 5};
  for (const Where& where : {Where(on_cpu), Where(by_turns)}) {
    Plan plan = made_plan(grouped.tree, where);
    plan.workload.kv_dtype = DType::kF32;
    for (DeviceLedger& device : plan.devices) device.capacity = 1u << 30;
    LoadOptions load_options;
    load_options.emulate = load_options.tile = true;
    const auto loaded = load(grouped, plan, load_options, LoadEnvironment{});
    const auto decoder =
        make_reference_decoder(recipe, grouped, plan, *loaded, prompt.size(), nullptr);
    const auto width = static_cast<std::size_t>(decoder->logits_width());
    Logits found;
    const OnLogits take = [&](std::span<const float> rows) {
      for (std::size_t at = 0; at < rows.size(); at += width) {
        const auto row = rows.subspan(at, width);
        found.emplace_back(row.begin(), row.end());
      }
    };
    decoder->forward(std::span(prompt).first(5), take);  // a pass and another one
    decoder->forward(std::span(prompt).subspan(5), take);
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      EXPECT_THAT(found[i], ::testing::Pointwise(::testing::FloatNear(1e-4F * most), expected[i]));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, GroupedRun, ::testing::ValuesIn(test::grouped_forms()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace berth::testing
