// Measuring the kernels: that all are measured, in all numbers of positions. Not how fast they are.
#include "runtime/calibrate/kernels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <vector>

#include "berth/tensor.h"
#include "runtime/calibrate/mapped_copy.h"
#include "runtime/calibrate/read_loop.h"
#include "runtime/kernels/matrix.h"
#include "tests/cli/temporary_folder.h"
#include "tests/error_of.h"

namespace berth::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

KernelOptions small() {
  KernelOptions options;
  options.seconds = 0.05;
  options.weights = 8u << 20;
  options.threads = 2;
  options.width = 256;
  return options;
}

TEST(KernelFigures, AreMeasuredInEveryFormatAndNumberOfPositions) {
  const KernelFigures figures = measure_kernels(small());
  std::size_t formats = 0;
  for (int i = 0; i <= static_cast<int>(kLastDType); ++i) {
    const auto dtype = static_cast<DType>(i);
    if (!matrix_format(dtype) || timed_as(dtype) != dtype) continue;
    ++formats;
    const std::string name = weight_format_name(dtype);
    ASSERT_TRUE(figures.rates.products.contains(name)) << name;
    const auto& rates = figures.rates.products.at(name);
    ASSERT_EQ(rates.size(), std::size(KernelFigures::kRows)) << name;
    for (const unsigned rows : KernelFigures::kRows) EXPECT_GT(rates.at(rows), 0) << name << rows;
    EXPECT_GT(figures.flops.at(name), 0) << name;
    EXPECT_EQ(figures.rates.wide.at(name).size(), rates.size()) << name;
    EXPECT_EQ(figures.rates.starts.at(name).size(), rates.size()) << name;
    for (const auto& [rows, start] : figures.rates.starts.at(name)) EXPECT_GE(start, 0) << name;
  }
  EXPECT_GE(formats, 14u);
  EXPECT_EQ(figures.rates.products.size(), formats);
  EXPECT_GT(figures.rates.attention, 0);
  EXPECT_GT(figures.rates.prompt_attention, 0);
  EXPECT_GT(figures.rates.layer, 0);
  EXPECT_EQ(figures.threads, 2u);
  EXPECT_NE(figures.instructions, "");
}

TEST(KernelFigures, AreOfMappedWeightsWhereAFileCanBeMade) {
  const TemporaryFolder folder;
  KernelOptions options = small();
  options.folder = folder.path();
  EXPECT_THAT(measure_kernels(options).notes, IsEmpty());
  EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "the file has no name";
  options.folder = folder.path() / "missing";
  EXPECT_THAT(measure_kernels(options).notes,
              ElementsAre(HasSubstr("missing: no weights can be mapped from a file there: No such "
                                    "file or directory; plain weights were measured in private")));
}

TEST(MappedCopy, HoldsTheSameBytes) {
  const TemporaryFolder folder;
  std::vector<std::byte> bytes(10'000);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i % 251);
  const MappedCopy copy(bytes, folder.path());
  EXPECT_EQ(std::memcmp(copy.data(), bytes.data(), bytes.size()), 0);
}

TEST(KernelFigures, AreNotMeasuredWithTooLittleMemoryOrWhenCancelled) {
  KernelOptions options = small();
  options.weights = 1u << 20;
  EXPECT_THAT(error_of([&] { measure_kernels(options); }),
              HasSubstr("1.0 MiB is too little memory to measure with (8.0 MiB are needed)"));
  const std::atomic<bool> cancel{true};
  options = small();
  options.cancel = &cancel;
  EXPECT_THAT(error_of([&] { measure_kernels(options); }), HasSubstr("interrupted"));
}

TEST(ReadLoop, TouchesEveryByte) {
  std::vector<std::byte> memory(4 * kReadUnit, std::byte{0});
  EXPECT_EQ(read_all(memory.data(), memory.size()), 0u);
  for (std::size_t i = 0; i < memory.size(); ++i) {
    memory[i] = std::byte{1};
    ASSERT_NE(read_all(memory.data(), memory.size()), 0u) << i;
    memory[i] = std::byte{0};
  }
}

}  // namespace
}  // namespace berth::testing
