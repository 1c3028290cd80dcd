// A model in block formats, run as it is stored, against its own dequantised form run by libtorch.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "berth/loader.h"
#include "berth/planner.h"
#include "runtime/exec/reference_decoder.h"
#include "runtime/generate/executor.h"
#include "runtime/load/environment.h"
#include "runtime/program/recipe.h"
#include "tests/cli/temporary_folder.h"
#include "tests/error_of.h"
#include "tests/program/made_model.h"
#include "tests/program/packed_model.h"

namespace berth::testing {
namespace {

using ::testing::HasSubstr;

using Logits = std::vector<std::vector<float>>;

const std::vector<std::int64_t> kPrompt = {1, 5, 9, 33, 74, 2, 5};

class PackedRun : public ::testing::TestWithParam<PackedFormat> {
 protected:
  // Loads the model with its tensors at `where` and runs a prompt.
  Logits logits(const Model& model, const Where& where, Kernels kernels, bool tile,
                CpuMemory memory = CpuMemory::kPrivate) {
    Plan plan = made_plan(model.tree, where);
    plan.cpu_memory = memory;
    for (DeviceLedger& device : plan.devices) device.capacity = 1u << 30;
    LoadOptions load_options;
    load_options.emulate = true;
    load_options.tile = tile;
    const auto loaded = load(model, plan, load_options, LoadEnvironment{});
    tiled_ = 0;
    for (TensorId id = 0; id < model.tree.tensors.size(); ++id) {
      tiled_ += loaded->tensor(id).tiled_rows > 0;
    }
    RunOptions options;
    options.prompt_ids = {kPrompt};
    options.new_tokens = 4;
    options.stop_at_end_of_text = false;
    options.open_reference = [] { return &make_reference_decoder; };
    options.kernels = kernels;
    options.activations = activations_;
    options.logits_file = folder_.path() / "logits.safetensors";
    new_ids_ = run(model, plan, *loaded, options).sequences[0].new_ids;
    return read_logits(*options.logits_file);
  }

  std::filesystem::path written(bool experts) {
    const auto path = folder_.path() / "model.gguf";
    PackedModel(GetParam(), experts).write(path);
    return path;
  }

  TemporaryFolder folder_;
  ActivationBits activations_ = ActivationBits::k24;
  std::size_t tiled_ = 0;
  std::vector<std::int64_t> new_ids_;
};

void expect_close(const Logits& found, const Logits& expected) {
  ASSERT_EQ(found.size(), expected.size());
  float most = 0;
  for (const auto& row : expected) {
    for (const float value : row) most = std::max(most, std::fabs(value));
  }
  ASSERT_GT(most, 0.1F);
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_THAT(found[i], ::testing::Pointwise(::testing::FloatNear(1e-4F * most), expected[i]));
  }
}

std::uint32_t on_cpu(const ModelTensor&, TensorId) { return kCpu; }
std::uint32_t by_turns(const ModelTensor&, TensorId id) { return id % 4; }

TEST_P(PackedRun, GivesTheLogitsOfTheDequantisedFormWhereverWeightsAre) {
  for (const bool experts : {false, true}) {
    const auto path = written(experts);
    const Model plain = open_model(path, DType::kF32, Dequantize::kYes);
    const Logits expected = logits(plain, on_cpu, Kernels::kReference, false);
    const std::vector<std::int64_t> ids = new_ids_;
    const Model stored = open_model(path, std::nullopt);
    const Logits tiled = logits(stored, on_cpu, Kernels::kOwn, true);
    EXPECT_EQ(tiled_, experts ? 28 : 16);  // all matrices, and the head once more
    expect_close(tiled, expected);
    EXPECT_EQ(new_ids_, ids);
    EXPECT_EQ(logits(stored, by_turns, Kernels::kOwn, true), tiled);
    EXPECT_EQ(logits(stored, on_cpu, Kernels::kOwn, false), tiled);
    EXPECT_EQ(tiled_, 0);
    EXPECT_EQ(logits(stored, on_cpu, Kernels::kOwn, true, CpuMemory::kMmap), tiled);
    EXPECT_EQ(tiled_, 2 * PackedModel::kLayers)
        << "rotary rows are put in order, so they are not mapped";
  }
}

// Libtorch's decoder, which computes what is on real GPUs, takes packed matrices as well: here
// those in host memory, as they are beside a GPU's.
TEST_P(PackedRun, LibtorchsDecoderGivesTheSame) {
  for (const bool experts : {false, true}) {
    const Model stored = open_model(written(experts), std::nullopt);
    const Logits expected = logits(stored, on_cpu, Kernels::kOwn, true);
    const Recipe recipe = make_recipe(stored);
    for (const Where& where : {Where(on_cpu), Where(by_turns)}) {
      for (const bool tile : {false, true}) {
        Plan plan = made_plan(stored.tree, where);
        for (DeviceLedger& device : plan.devices) device.capacity = 1u << 30;
        LoadOptions load_options;
        load_options.emulate = true;
        load_options.tile = tile;
        const auto loaded = load(stored, plan, load_options, LoadEnvironment{});
        const auto decoder =
            make_reference_decoder(recipe, stored, plan, *loaded, kPrompt.size(), nullptr);
        const auto width = static_cast<std::size_t>(decoder->logits_width());
        Logits found;
        const OnLogits take = [&](std::span<const float> rows) {
          for (std::size_t at = 0; at < rows.size(); at += width) {
            const auto row = rows.subspan(at, width);
            found.emplace_back(row.begin(), row.end());
          }
        };
        decoder->forward(std::span(kPrompt).first(5), take);  // a pass and another one
        decoder->forward(std::span(kPrompt).subspan(5), take);
        expect_close(found, expected);
      }
    }
  }
}

TEST_P(PackedRun, TradesExactnessForSpeedOnlyWhereAskedTo) {
  const Model stored = open_model(written(false), std::nullopt);
  const Logits exact = logits(stored, on_cpu, Kernels::kOwn, true);
  activations_ = ActivationBits::k16;
  const Logits sixteen = logits(stored, on_cpu, Kernels::kOwn, true);
  activations_ = ActivationBits::k8;
  const Logits eight = logits(stored, on_cpu, Kernels::kOwn, true);
  const auto error = [&](const Logits& found) {
    float most = 0;
    for (std::size_t i = 0; i < found.size(); ++i) {
      for (std::size_t k = 0; k < found[i].size(); ++k) {
        most = std::max(most, std::fabs(found[i][k] - exact[i][k]));
      }
    }
    return most;
  };
  EXPECT_GT(error(sixteen), 0);
  EXPECT_GT(error(eight), 10 * error(sixteen));
}

TEST_P(PackedRun, IsRefusedWhereNoKernelComputes) {
  const Model stored = open_model(written(false), std::nullopt);
  EXPECT_EQ(why_not_as_stored(stored), "");
  RunOptions options;
  options.prompt_ids = {{1}};
  options.kernels = Kernels::kReference;
  EXPECT_THAT(error_of([&] { check_run(stored, options); }),
              HasSubstr("cannot be run as they are stored (--kernels reference computes with plain "
                        "weights of one dtype); --dequantize, or --dtype, makes plain ones"));
}

INSTANTIATE_TEST_SUITE_P(Formats, PackedRun, ::testing::ValuesIn(kPackedFormats),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace berth::testing
