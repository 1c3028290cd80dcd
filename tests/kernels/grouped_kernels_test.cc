// The GPU's kernels for matrices in tiles of grouped formats, run on the host: every thread's
// indices are those that it has on a GPU, and the results are the bits of the emulation.
#include "tests/kernels/simt.h"
// The kernels need what is above.
#include <gtest/gtest.h>

#include <algorithm>

#include "cuda/grouped_kernels.h"
#include "tests/kernels/grouped_matrix.h"
#include "tests/kernels/packed_matrix.h"

namespace berth::testing {
namespace {

// Counts the kernels that it runs.
struct OnHost {
  int& launched;

  template <class... Parameters, class... Arguments>
  void operator()(unsigned groups, unsigned threads, void (*kernel)(Parameters...),
                  Arguments... arguments) const {
    simt::run(groups, threads, [&] { kernel(arguments...); });
    ++launched;
  }
};

class GroupedKernels : public ::testing::TestWithParam<GroupedCase> {
 protected:
  void SetUp() override {
    if (simt::kSanitized) GTEST_SKIP() << "sanitizers do not follow fibers from stack to stack";
  }

  // Compares the products of a matrix with the emulation's; returns how many kernels were run.
  int compare(std::size_t rows, std::size_t groups, std::size_t positions, FloatFormat format) {
    const std::size_t columns = groups * GetParam().group;
    MadeGroups made(GetParam(), rows, columns, random_);
    const MadeActivations x(positions * columns, format, random_);
    const PackedInput input{x.bytes.data(), format, positions};
    std::vector<std::uint64_t> workspace(grouped_workspace_bytes(made.matrix, positions) / 8);
    const std::size_t bytes = positions * rows * float_bytes(format);
    std::vector<std::byte> expected(bytes, std::byte{1}), found(bytes, std::byte{2});
    multiply_grouped_emulated(made.matrix, input, workspace.data(), {expected.data(), format});
    std::fill(workspace.begin(), workspace.end(), ~0ull);
    int launched = 0;
    run_grouped(made.matrix, input, workspace.data(), {found.data(), format}, OnHost{launched});
    EXPECT_TRUE(found == expected) << rows << " x " << columns << ", " << positions;
    return launched;
  }

  std::mt19937 random_{59};
};

TEST_P(GroupedKernels, GiveTheBitsOfTheEmulation) {
  EXPECT_EQ(compare(16, 1, 1, FloatFormat::kF32), 2);
  EXPECT_EQ(compare(48, 3, 2, FloatFormat::kBF16), 2);
  EXPECT_EQ(compare(16, 17, 3, FloatFormat::kF16), 2);
  EXPECT_EQ(compare(32, 9, 5, FloatFormat::kF32), 2);
  EXPECT_EQ(compare(16, 21, 9, FloatFormat::kF32), 3) << "8 positions and 1";
}

TEST_P(GroupedKernels, ReadRowsAsTheEmulationDoes) {
  const std::size_t columns = 3 * GetParam().group;
  MadeGroups made(GetParam(), 48, columns, random_);
  const std::vector<std::int64_t> ids = {4, 0, 47, 2, 31};
  for (const bool named : {true, false}) {
    const RowChoice choice{named ? ids.data() : nullptr, 16, named ? ids.size() : 32};
    std::vector<float> expected(choice.count * columns), found(expected.size());
    grouped_rows_emulated(made.matrix, choice, {expected.data(), FloatFormat::kF32});
    int launched = 0;
    run_grouped_rows(made.matrix, choice, {found.data(), FloatFormat::kF32}, OnHost{launched});
    EXPECT_EQ(found, expected);
    EXPECT_EQ(launched, 1);
  }
}

TEST_P(GroupedKernels, RunNothingForNothing) {
  MadeGroups made(GetParam(), 16, GetParam().group, random_);
  int launched = 0;
  run_grouped(made.matrix, {}, nullptr, {}, OnHost{launched});
  run_grouped_rows(made.matrix, {}, {}, OnHost{launched});
  EXPECT_EQ(launched, 0);
}

INSTANTIATE_TEST_SUITE_P(Forms, GroupedKernels, ::testing::ValuesIn(kGroupedCases),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace berth::testing
