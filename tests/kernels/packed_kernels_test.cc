// The GPU's kernels for packed matrices, run on the host: every thread's indices are those that it
// has on a GPU, and the results are the bits of the emulation.
#include "tests/kernels/simt.h"
// The kernels need what is above.
#include <gtest/gtest.h>

#include <algorithm>

#include "cuda/packed_kernels.h"
#include "tests/kernels/packed_matrix.h"

namespace berth::testing {
namespace {

// Counts the kernels that it runs.
struct OnHost {
  int& launched;

  template <class... Parameters, class... Arguments>
  void operator()(unsigned groups, void (*kernel)(Parameters...), Arguments... arguments) const {
    simt::run(groups, kThreads, [&] { kernel(arguments...); });
    ++launched;
  }
};

class PackedKernels : public ::testing::TestWithParam<PackedFormat> {
 protected:
  void SetUp() override {
    if (simt::kSanitized) GTEST_SKIP() << "sanitizers do not follow fibers from stack to stack";
  }
  std::size_t block() const { return block_size(GetParam().id).elements; }

  // Compares the products of a matrix with the emulation's; returns how many kernels were run.
  int compare(std::size_t rows, std::size_t columns, std::size_t positions, FloatFormat format) {
    const MadeMatrix made(GetParam(), rows, columns, random_);
    const MadeActivations x(positions * columns, format, random_);
    const PackedInput input{x.bytes.data(), format, positions};
    std::vector<std::uint64_t> workspace(packed_workspace_bytes(positions, columns) / 8);
    const std::size_t bytes = positions * rows * float_bytes(format);
    std::vector<std::byte> expected(bytes, std::byte{1}), found(bytes, std::byte{2});
    multiply_packed_emulated(made.matrix, input, workspace.data(), {expected.data(), format});
    std::fill(workspace.begin(), workspace.end(), ~0ull);
    int launched = 0;
    run_products(made.matrix, input, workspace.data(), {found.data(), format}, OnHost{launched});
    EXPECT_TRUE(found == expected) << rows << " x " << columns << ", " << positions;
    return launched;
  }

  std::mt19937 random_{43};
};

// A warp for each row, and less than a step or a little more of columns.
TEST_P(PackedKernels, GiveTheBitsOfTheEmulationForShortRows) {
  EXPECT_EQ(compare(1, block(), 1, FloatFormat::kF32), 2);
  EXPECT_EQ(compare(6, 3 * block(), 1, FloatFormat::kBF16), 2);
  EXPECT_EQ(compare(9, 3 * block(), 2, FloatFormat::kF16), 2);
  EXPECT_EQ(compare(17, 256 + block(), 3, FloatFormat::kF32), 2);
  EXPECT_EQ(compare(33, 7 * block(), 5, FloatFormat::kBF16), 2);
}

// Four warps for each row, and steps that do not divide among them.
TEST_P(PackedKernels, GiveTheBitsOfTheEmulationForLongRows) {
  EXPECT_EQ(compare(3, 8 * 256, 1, FloatFormat::kF32), 2);
  EXPECT_EQ(compare(4, 10 * 256, 4, FloatFormat::kF32), 2);
  EXPECT_EQ(compare(5, 9 * 256 + 3 * block(), 9, FloatFormat::kF32), 3) << "8 positions and 1";
  EXPECT_EQ(compare(9, 11 * 256 + block(), 14, FloatFormat::kF16), 3) << "8 positions and 6";
}

TEST_P(PackedKernels, ReadRowsAsTheEmulationDoes) {
  const std::size_t columns = 256 + block();
  const MadeMatrix made(GetParam(), 5, columns, random_);
  const std::vector<std::int64_t> ids = {4, 0, 4, 2, 1};
  std::vector<float> expected(ids.size() * columns), found(expected.size());
  dequantize_rows_emulated(made.matrix, ids.data(), ids.size(),
                           {expected.data(), FloatFormat::kF32});
  int launched = 0;
  run_rows(made.matrix, ids.data(), ids.size(), {found.data(), FloatFormat::kF32},
           OnHost{launched});
  EXPECT_EQ(found, expected);
  EXPECT_EQ(launched, 1);
}

TEST_P(PackedKernels, RunNothingForNothing) {
  const MadeMatrix made(GetParam(), 2, block(), random_);
  int launched = 0;
  run_products(made.matrix, {}, nullptr, {}, OnHost{launched});
  run_rows(made.matrix, nullptr, 0, {}, OnHost{launched});
  EXPECT_EQ(launched, 0);
}

INSTANTIATE_TEST_SUITE_P(Formats, PackedKernels, ::testing::ValuesIn(kPackedFormats),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace berth::testing
