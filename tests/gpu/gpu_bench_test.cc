// What `berth calibrate` does on a real GPU: the reading kernel reads every word, and times are not
// 0. Skips and says why where there is no GPU.
#include "cuda/gpu_bench.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "cuda/device.h"
#include "cuda/read_words.h"
#include "runtime/calibrate/gpus.h"

namespace berth {
namespace {

class GpuMeasuring : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << "no usable GPU on this machine";
  }
};

TEST_F(GpuMeasuring, ReadsEveryWordOnce) {
  std::mt19937_64 random(3);
  // From less than one warp reads to more than all threads read in one turn.
  for (const std::size_t bytes : {16u, 48u, 4096u, 1u << 20, (96u << 20) + 16u * 7u}) {
    std::vector<std::uint32_t> words(bytes / 4);
    for (std::uint32_t& word : words) word = static_cast<std::uint32_t>(random());
    CopyStream stream(0);
    const DeviceArena data(0, bytes);
    const DeviceArena result(0, 256);
    std::uint32_t word = 0;
    stream.copy_to_device(data.data(), words.data(), bytes);
    stream.copy_to_device(result.data(), &word, sizeof word);
    xor_words_on_device(data.data(), bytes, reinterpret_cast<std::uint32_t*>(result.data()),
                        stream.handle());
    stream.copy_to_host(&word, result.data(), sizeof word);
    stream.synchronize();
    EXPECT_EQ(word, xor_words_reference(words.data(), bytes)) << bytes << " bytes";
  }
}

TEST_F(GpuMeasuring, GivesEveryFigureOfEveryGpu) {
  const auto bench = make_gpu_bench();
  const MeasuredGpus measured = measure_gpus(*bench, {});
  for (const std::string& note : measured.notes) ADD_FAILURE() << note;
  ASSERT_EQ(measured.gpus.size(), static_cast<std::size_t>(cuda_device_count()));
  for (const MeasuredGpu& gpu : measured.gpus) {
    EXPECT_NE(gpu.name, "");
    EXPECT_EQ(gpu.uuid.size(), 40u) << gpu.uuid;
    EXPECT_GT(gpu.memory, gpu.to_device.bandwidth) << "device memory is faster than the bus";
    for (const MeasuredLink& link : {gpu.to_device, gpu.to_host}) {
      EXPECT_GT(link.bandwidth, 1e8);
      EXPECT_GT(link.latency, 0);
      EXPECT_LT(link.latency, 0.1);
    }
  }
}

}  // namespace
}  // namespace berth
