// Loading into memory of a real GPU that the caller allocated. Skips and says why where there is no
// GPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "cuda/device.h"
#include "runtime/load/load_into.h"
#include "tests/error_of.h"
#include "tests/load/support.h"

namespace berth::testing {
namespace {

class LoadIntoGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << "no usable GPU on this machine";
  }
  TempFolder folder_;
  std::mt19937 random_{7};
};

// Copied, converted, and as a box whose elements do not stand side by side; a stream that still
// writes to the memory is waited for.
TEST_F(LoadIntoGpu, FillsItBehindTheWorkOfAStream) {
  std::vector<TestTensor> tensors(3);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    tensors[i].name = "t" + std::to_string(i);
    tensors[i].shape = {3000, 1000};
  }
  tensors[1].dtype = DType::kBF16;
  const Model model = write_model(folder_.path(), tensors, 1, random_, true);
  std::vector<std::vector<char>> expected;
  for (const TestTensor& tensor : tensors) expected.push_back(in_memory(tensor));
  std::vector<char> box;
  for (std::size_t row = 0; row < 3000; ++row) {
    box.insert(box.end(), &expected[2][(1000 * row + 5) * 4], &expected[2][(1000 * row + 12) * 4]);
  }
  expected[2] = box;
  std::vector<DeviceArena> memory;
  CopyStream stream(0);
  std::vector<LoadTarget> targets;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    memory.emplace_back(0, expected[i].size());
    LoadTarget target{model.tree.tensors[i].source, tensors[i].dtype, memory.back().data()};
    if (i == 2) {
      target.start = {0, 5};
      target.size = {3000, 7};
    }
    target.device = 0;
    target.stream = stream.handle();
    targets.push_back(target);
    for (int k = 0; k < 100; ++k) stream.fill_with_zeros(memory[i].data(), expected[i].size());
  }
  load_into(*model.checkpoint, targets, {});
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    std::vector<char> found(expected[i].size());
    stream.copy_to_host(found.data(), memory[i].data(), found.size());
    stream.synchronize();
    EXPECT_TRUE(found == expected[i]) << i;
  }
}

TEST_F(LoadIntoGpu, RefusesMemoryThatIsNotTheGpus) {
  std::vector<TestTensor> tensors(1);
  tensors[0].name = "w";
  tensors[0].shape = {4, 6};
  const Model model = write_model(folder_.path(), tensors, 1, random_, false);
  float memory[24] = {};
  LoadTarget target{0, DType::kF32, reinterpret_cast<std::byte*>(memory)};
  target.device = 0;
  EXPECT_EQ(error_of([&] {
              load_into(*model.checkpoint, {&target, 1}, {});
            }),
            "tensor 'w': its memory is not memory of GPU 0");
}

}  // namespace
}  // namespace berth::testing
