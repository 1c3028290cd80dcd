// Models whose weights are quantised in several tensors each, which stay so on a real GPU, against
// the same in host memory. Skips and says why where there is no GPU.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "berth/loader.h"
#include "berth/planner.h"
#include "cuda/device.h"
#include "runtime/exec/reference_decoder.h"
#include "runtime/generate/executor.h"
#include "runtime/load/environment.h"
#include "tests/model/quantized_layers.h"
#include "tests/program/made_model.h"
#include "tests/quant/quantized_forms.h"

namespace berth::testing {
namespace {

using Logits = std::vector<std::vector<float>>;

class GroupedRunGpu : public ::testing::TestWithParam<test::Form> {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << "no usable GPU on this machine";
    test::write_checkpoint(folder_, GetParam().config, GetParam().tensors);
    test::fill(folder_.path(), test::Numbers::kOrdinary);
  }

  Logits logits(const Model& model, const Where& where, std::size_t positions) {
    Plan plan = made_plan(model.tree, where);
    plan.cpu_memory = CpuMemory::kPrivate;
    plan.workload.kv_dtype = DType::kF32;
    for (DeviceLedger& device : plan.devices) device.capacity = 1u << 30;
    plan.disk_runner = where(model.tree.tensors[0], 0) == kCpu ? kCpu : kGpu0;
    LoadOptions load_options;
    load_options.tile = true;
    const auto loaded = load(model, plan, load_options, LoadEnvironment{});
    for (TensorId id = 0; id < model.tree.tensors.size(); ++id) {
      EXPECT_EQ(loaded->tensor(id).bytes, model.tree.tensors[id].bytes());
    }
    RunOptions options;
    options.prompt_ids.emplace_back();
    for (std::size_t i = 0; i < positions; ++i) {
      options.prompt_ids[0].push_back(static_cast<std::int64_t>(7 * i % 16));
    }
    options.new_tokens = 4;
    options.stop_at_end_of_text = false;
    options.open_reference = [] { return &make_reference_decoder; };
    options.logits_file = folder_.path() / "logits.safetensors";
    kernels_ = run(model, plan, *loaded, options).kernels;
    return read_logits(*options.logits_file);
  }

  test::TempFolder folder_;
  std::string kernels_;
};

// The largest difference, as a share of the largest logit.
float difference(const Logits& found, const Logits& expected) {
  float most = 0, worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    for (std::size_t k = 0; k < expected[i].size(); ++k) {
      most = std::max(most, std::fabs(expected[i][k]));
      worst = std::max(worst, std::fabs(found.at(i).at(k) - expected[i][k]));
    }
  }
  return worst / most;
}

std::uint32_t on_cpu(const ModelTensor&, TensorId) { return kCpu; }
std::uint32_t on_gpu(const ModelTensor&, TensorId) { return kGpu0; }
// Some on the GPU, some in host memory, some on the disk.
std::uint32_t by_turns(const ModelTensor&, TensorId id) {
  constexpr std::uint32_t kTurns[] = {kGpu0, kCpu, kDisk};
  return kTurns[id % 3];
}

TEST_P(GroupedRunGpu, GivesTheLogitsOfHostMemory) {
  const Model model = open_model(folder_.path(), std::nullopt, Dequantize::kPacked);
  const Logits expected = logits(model, on_cpu, 9);
  EXPECT_EQ(kernels_.find("libtorch"), kernels_.npos);
  for (const Where& where : {Where(on_gpu), Where(by_turns)}) {
    EXPECT_LT(difference(logits(model, where, 9), expected), 1e-4F);
    EXPECT_EQ(kernels_, "libtorch, packed products: weights are on a GPU");
  }
  constexpr std::size_t kMany = 48;  // a long prompt goes through bfloat16
  EXPECT_LT(difference(logits(model, on_gpu, kMany), logits(model, on_cpu, kMany)), 5e-2F);
}

INSTANTIATE_TEST_SUITE_P(Forms, GroupedRunGpu, ::testing::ValuesIn(test::grouped_forms()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace berth::testing
