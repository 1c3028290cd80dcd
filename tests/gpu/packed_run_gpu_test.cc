// A model in block formats that stays packed on a real GPU, against the same in host memory. Skips
// and says why where there is no GPU.
#include "tests/cli/temporary_folder.h"
#include "tests/gpu/gpu_run.h"
#include "tests/program/packed_model.h"

namespace berth::testing {
namespace {

class PackedRunGpu : public ::testing::TestWithParam<PackedFormat> {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << "no usable GPU on this machine";
  }

  TemporaryFolder folder_;
};

TEST_P(PackedRunGpu, GivesTheLogitsOfHostMemory) {
  for (const bool experts : {false, true}) {
    const auto path = folder_.path() / "model.gguf";
    PackedModel(GetParam(), experts).write(path);
    const Model model = open_model(path, std::nullopt);
    expect_logits_of_host_memory([&](const Where& where, std::size_t positions) {
      return run_on_gpu(model, made_plan(model.tree, where), positions, PackedModel::kVocabulary,
                        folder_.path() / "logits.safetensors");
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, PackedRunGpu, ::testing::ValuesIn(kPackedFormats),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace berth::testing
