// The GPU's products with matrices in tiles of grouped formats, and its tiling, emulated on the
// host: against the formula, the kernels of host memory and its tiles.
#include "cuda/grouped_product.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "cuda/group_tiling.h"
#include "runtime/kernels/product.h"
#include "tests/error_of.h"
#include "tests/kernels/grouped_matrix.h"
#include "tests/kernels/packed_matrix.h"

namespace berth::testing {
namespace {

class GroupedProduct : public ::testing::TestWithParam<GroupedCase> {
 protected:
  static std::vector<float> products(const GroupedMatrix& matrix, const MadeActivations& x) {
    const std::size_t positions = x.values.size() / matrix.columns;
    std::vector<std::uint64_t> workspace(grouped_workspace_bytes(matrix, positions) / 8);
    std::vector<float> y(positions * matrix.rows, std::numeric_limits<float>::quiet_NaN());
    multiply_grouped_emulated(matrix, {x.bytes.data(), x.format, positions}, workspace.data(),
                              {y.data(), FloatFormat::kF32});
    return y;
  }

  std::mt19937 random_{53};
};

// The most that a product may be wrong: each activation by a step of 24 bits of the largest of its
// 32, and roundings of sums in float32. `zero`: the most that a zero point adds to a code's value,
// because codes and zero points are summed apart.
double tolerance(const float* w, const float* x, std::size_t columns, double zero) {
  double error = 0;
  for (std::size_t group = 0; group < columns; group += 32) {
    double largest = 0, weights = 0, products = 0;
    for (std::size_t c = group; c < group + 32; ++c) {
      const double weight = std::fabs(w[c]) + zero;
      largest = std::max<double>(largest, std::fabs(x[c]));
      weights += weight;
      products += weight * std::fabs(x[c]);
    }
    error += weights * largest * 1.2e-7 + 1e-6 * products;
  }
  return error;
}

TEST_P(GroupedProduct, IsTheSumOfTheFormulaAndThatOfHostMemory) {
  ThreadTeam team(1);
  double worst = 0;
  const std::size_t group = GetParam().group;
  const double zero = GetParam().code == QuantCode::kU4 ? 17.0 / 8 : 0;  // of the largest scale
  for (const std::size_t groups : {1u, 2u, 3u, 16u, 19u, 33u}) {
    for (const FloatFormat format : {FloatFormat::kBF16, FloatFormat::kF16, FloatFormat::kF32}) {
      const std::size_t rows = 16 * (1 + groups % 3), positions = 1 + groups % 9;
      const std::size_t columns = groups * group;
      MadeGroups made(GetParam(), rows, columns, random_);
      const MadeActivations x(positions * columns, format, random_);
      const std::vector<float> w = made.floats();
      const std::vector<float> y = products(made.matrix, x);
      Activations host;
      host.set(x.values, columns, made.form.format, ActivationBits::k24);
      std::vector<float> own(y.size());
      const Product product{made.on_host(), nullptr, own.data(), rows};
      multiply(std::span(&product, 1), host, team);
      for (std::size_t i = 0; i < y.size(); ++i) {
        const float* row = w.data() + i % rows * columns;
        const float* values = x.values.data() + i / rows * columns;
        double sum = 0;
        for (std::size_t c = 0; c < columns; ++c) {
          sum += static_cast<double>(row[c]) * static_cast<double>(values[c]);
        }
        const double allowed = tolerance(row, values, columns, zero);
        ASSERT_NEAR(y[i], sum, allowed) << groups << " groups, product " << i;
        ASSERT_NEAR(own[i], sum, allowed) << groups << " groups, product " << i;
        worst = std::max(worst, std::fabs(y[i] - sum) / allowed);
      }
    }
  }
  EXPECT_GT(worst, 1e-3) << "the tolerance says nothing";
}

TEST_P(GroupedProduct, OfAPositionDependsOnNothingBesideIt) {
  const std::size_t columns = 2048 + GetParam().group;
  MadeGroups made(GetParam(), 16, columns, random_);
  const MadeActivations all(9 * columns, FloatFormat::kF32, random_);
  const std::vector<float> together = products(made.matrix, all);
  for (std::size_t p = 0; p < 9; ++p) {
    MadeActivations one(columns, FloatFormat::kF32, random_);
    std::copy_n(all.values.begin() + static_cast<std::ptrdiff_t>(p * columns), columns,
                one.values.begin());
    one.store();
    const std::vector<float> alone = products(made.matrix, one);
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(),
                           together.begin() + static_cast<std::ptrdiff_t>(16 * p)));
  }
}

// No number comes out where there is none, and neither a position nor a row spoils another.
TEST_P(GroupedProduct, WithNanIsNan) {
  const std::size_t columns = 2 * 128, rows = 32;
  MadeGroups made(GetParam(), rows, columns, random_);
  MadeActivations x(3 * columns, FloatFormat::kF32, random_);
  const std::vector<float> before = products(made.matrix, x);
  x.values[columns + 7] = std::numeric_limits<float>::quiet_NaN();
  x.store();
  constexpr std::size_t kBad = 21;
  if (takes_floats(made.form.format)) {
    made.packed[kBad * columns + 3] = std::byte{0x7F};
  } else {
    made.scales[kBad * made.layout.row_step] = std::numeric_limits<float>::quiet_NaN();
  }
  made.tile();
  const std::vector<float> y = products(made.matrix, x);
  for (std::size_t i = 0; i < y.size(); ++i) {
    const bool none = i / rows == 1 || i % rows == kBad;
    ASSERT_EQ(std::isnan(y[i]), none) << i;
    if (!none) {
      EXPECT_EQ(y[i], before[i]) << i;
    }
  }
}

TEST_P(GroupedProduct, ReadsRowsAsHostMemoryDoes) {
  const std::size_t columns = 3 * GetParam().group;
  MadeGroups made(GetParam(), 48, columns, random_);
  const std::vector<float> w = made.floats();
  const std::vector<std::int64_t> ids = {47, 0, 17, 47, 3};
  for (const bool named : {true, false}) {
    const RowChoice choice{named ? ids.data() : nullptr, 15, named ? ids.size() : 33};
    for (const FloatFormat format : {FloatFormat::kBF16, FloatFormat::kF16, FloatFormat::kF32}) {
      std::vector<std::byte> found(choice.count * columns * float_bytes(format));
      std::vector<std::byte> expected(found.size());
      for (std::size_t i = 0; i < choice.count; ++i) {
        const std::size_t row = named ? static_cast<std::size_t>(ids[i]) : 15 + i;
        cast_reference(w.data() + row * columns, FloatFormat::kF32,
                       expected.data() + i * columns * float_bytes(format), format, columns);
      }
      grouped_rows_emulated(made.matrix, choice, {found.data(), format});
      EXPECT_TRUE(found == expected) << named << ' ' << static_cast<int>(format);
    }
  }
}

TEST_P(GroupedProduct, RefusesWhatIsNoWholeGroups) {
  MadeGroups made(GetParam(), 16, 256, random_);
  const MadeActivations x(256, FloatFormat::kF32, random_);
  GroupedMatrix matrix = made.matrix;
  matrix.columns = 255;
  EXPECT_THAT(error_of([&] { products(matrix, x); }), ::testing::HasSubstr("no whole groups"));
  matrix = made.matrix;
  matrix.tile.group = 48;
  EXPECT_THAT(error_of([&] { products(matrix, x); }), ::testing::HasSubstr("no whole groups"));
  matrix = made.matrix;
  matrix.data = static_cast<const std::byte*>(matrix.data) + 8;
  EXPECT_THAT(error_of([&] { products(matrix, x); }), ::testing::HasSubstr("not aligned"));
}

// The tiles that a GPU makes, stretch by stretch in any order, are those of host memory.
TEST_P(GroupedProduct, HasTheTilesOfHostMemory) {
  MadeGroups made(GetParam(), 48, 2 * 128, random_);
  if (takes_floats(made.form.format)) {  // NaN, wherever the cut
    made.packed[3 * 256 + 7] = made.packed[8 * 256 - 1] = std::byte{0xFF};
    made.packed[40 * 256] = std::byte{0x7F};
    made.tile();
  }
  const std::size_t unit = unit_bytes(made.layout.order);
  for (const std::size_t cuts : {0, 1, 5, 60}) {
    std::vector<std::size_t> at{0, made.packed.size()};
    for (std::size_t i = 0; i < cuts; ++i) {
      at.push_back(random_() % made.packed.size() / unit * unit);
    }
    std::sort(at.begin(), at.end());
    std::vector<MadeGroups::Line> memory(made.memory.size());
    for (std::size_t i = at.size() - 1; i-- > 0;) {
      tile_packed_emulated(made.layout, made.tables(), group_tile(made.form),
                           made.packed.data() + at[i], at[i], at[i + 1] - at[i], memory.data());
    }
    const auto* found = reinterpret_cast<const std::byte*>(memory.data());
    for (std::size_t i = 0; i < made.bytes; i += 4) {  // NaN has many bits
      float left, right;
      std::memcpy(&left, found + i, 4);
      std::memcpy(&right, made.tiles() + i, 4);
      if (std::isnan(left) && std::isnan(right)) continue;
      ASSERT_EQ(std::memcmp(found + i, made.tiles() + i, 4), 0) << cuts << " cuts, byte " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, GroupedProduct, ::testing::ValuesIn(kGroupedCases),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(TilingOfGroups, RefusesGroupsThatCellsDoNotFill) {
  QuantLayout layout;
  layout.rows = 16;
  layout.columns = layout.row_values = 96;
  for (const std::size_t group : {48u, 64u}) {
    EXPECT_THAT(error_of([&] {
                  tile_packed_emulated(layout, {}, {GroupCode::kU4, group}, nullptr, 0, 0, nullptr);
                }),
                ::testing::HasSubstr("do not fill 96 columns in cells"));
  }
}

// Every code of MXFP4 and every exponent, whose power of two is written out.
TEST(TilesOfMxfp4, MeanTheirCodesTimesAPowerOfTwo) {
  constexpr float kValues[16] = {0, 0.5F, 1, 1.5F, 2, 3, 4, 6, 0, -0.5F, -1, -1.5F, -2, -3, -4, -6};
  alignas(16) std::byte tile[272] = {};
  for (std::size_t column = 0; column < 32; ++column) {
    tile[16 + nibble_offset(0, column)] |=
        static_cast<std::byte>(column % 16 << nibble_shift_of(column));
  }
  const GroupedMatrix matrix{{GroupCode::kMxfp4, 32}, 1, 32, tile};
  for (int exponent = 0; exponent < 256; ++exponent) {
    tile[0] = static_cast<std::byte>(exponent);
    float found[32];
    grouped_rows_emulated(matrix, {nullptr, 0, 1}, {found, FloatFormat::kF32});
    for (std::size_t i = 0; i < 32; ++i) {
      const float expected = std::ldexp(kValues[i % 16], exponent - 127);
      if (exponent == 255) {
        ASSERT_TRUE(std::isnan(found[i]));
      } else {
        ASSERT_EQ(found[i], expected) << exponent << ", code " << i % 16;
      }
    }
  }
}

}  // namespace
}  // namespace berth::testing
