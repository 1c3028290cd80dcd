// Models whose weights are quantised in several tensors each, which stay so on a real GPU, against
// the same in host memory. Skips and says why where there is no GPU.
#include "tests/gpu/gpu_run.h"
#include "tests/model/quantized_layers.h"
#include "tests/quant/quantized_forms.h"

namespace berth::testing {
namespace {

class GroupedRunGpu : public ::testing::TestWithParam<test::Form> {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << "no usable GPU on this machine";
    test::write_checkpoint(folder_, GetParam().config, GetParam().tensors);
    test::fill(folder_.path(), test::Numbers::kOrdinary);
  }

  test::TempFolder folder_;
};

TEST_P(GroupedRunGpu, GivesTheLogitsOfHostMemory) {
  const Model model = open_model(folder_.path(), std::nullopt, Dequantize::kPacked);
  expect_logits_of_host_memory([&](const Where& where, std::size_t positions) {
    Plan plan = made_plan(model.tree, where);
    plan.cpu_memory = CpuMemory::kPrivate;
    plan.workload.kv_dtype = DType::kF32;
    return run_on_gpu(model, plan, positions, 16, folder_.path() / "logits.safetensors");
  });
}

INSTANTIATE_TEST_SUITE_P(Forms, GroupedRunGpu, ::testing::ValuesIn(test::grouped_forms()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace berth::testing
