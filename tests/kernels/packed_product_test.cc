// The GPU's products with packed matrices, emulated on the host, against the formula.
#include "cuda/packed_product.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/error_of.h"
#include "tests/kernels/packed_matrix.h"

namespace berth::testing {
namespace {

class PackedProduct : public ::testing::TestWithParam<PackedFormat> {
 protected:
  std::size_t block() const { return block_size(GetParam().id).elements; }

  static std::vector<float> products(const PackedMatrix& matrix, const MadeActivations& x) {
    const std::size_t positions = x.values.size() / matrix.columns;
    std::vector<std::uint64_t> workspace(packed_workspace_bytes(positions, matrix.columns) / 8);
    std::vector<float> y(positions * matrix.rows, std::numeric_limits<float>::quiet_NaN());
    multiply_packed_emulated(matrix, {x.bytes.data(), x.format, positions}, workspace.data(),
                             {y.data(), FloatFormat::kF32});
    return y;
  }

  std::mt19937 random_{41};
};

// The most that a product may be wrong: each activation by a step of 24 bits of the largest of its
// 32, and roundings of sums in float32.
double tolerance(const float* w, const float* x, std::size_t columns) {
  double error = 0;
  for (std::size_t group = 0; group < columns; group += 32) {
    double largest = 0, weights = 0, products = 0;
    for (std::size_t c = group; c < group + 32; ++c) {
      largest = std::max<double>(largest, std::fabs(x[c]));
      weights += std::fabs(w[c]);
      products += std::fabs(w[c] * x[c]);
    }
    error += weights * largest * 1.2e-7 + 1e-6 * products;
  }
  return error;
}

TEST_P(PackedProduct, IsTheSumOfTheFormula) {
  double worst = 0;
  for (const std::size_t blocks : {1u, 2u, 3u, 8u, 9u, 16u, 67u, 71u}) {
    for (const FloatFormat format : {FloatFormat::kBF16, FloatFormat::kF16, FloatFormat::kF32}) {
      const std::size_t rows = 1 + blocks % 5, positions = 1 + blocks % 9;
      const std::size_t columns = blocks * block();
      const MadeMatrix made(GetParam(), rows, columns, random_);
      const MadeActivations x(positions * columns, format, random_);
      const std::vector<float> w = made.floats();
      const std::vector<float> y = products(made.matrix, x);
      for (std::size_t i = 0; i < y.size(); ++i) {
        const float* row = w.data() + i % rows * columns;
        const float* values = x.values.data() + i / rows * columns;
        double sum = 0;
        for (std::size_t c = 0; c < columns; ++c) {
          sum += static_cast<double>(row[c]) * static_cast<double>(values[c]);
        }
        const double allowed = tolerance(row, values, columns);
        ASSERT_NEAR(y[i], sum, allowed) << blocks << " blocks, product " << i;
        worst = std::max(worst, std::fabs(y[i] - sum) / allowed);
      }
    }
  }
  EXPECT_GT(worst, 1e-3) << "the tolerance says nothing";
}

TEST_P(PackedProduct, OfAPositionDependsOnNothingBesideIt) {
  const std::size_t columns = 2048 + block();
  const MadeMatrix made(GetParam(), 3, columns, random_);
  const MadeActivations all(9 * columns, FloatFormat::kF32, random_);
  const std::vector<float> together = products(made.matrix, all);
  for (std::size_t p = 0; p < 9; ++p) {
    MadeActivations one(columns, FloatFormat::kF32, random_);
    std::copy_n(all.values.begin() + static_cast<std::ptrdiff_t>(p * columns), columns,
                one.values.begin());
    one.store();
    EXPECT_THAT(products(made.matrix, one),
                ::testing::ElementsAre(together[3 * p], together[3 * p + 1], together[3 * p + 2]));
  }
}

// No number comes out where there is none, and no position spoils another.
TEST_P(PackedProduct, WithNanOrInfinityIsNan) {
  const std::size_t columns = 2 * 256;
  const MadeMatrix made(GetParam(), 2, columns, random_);
  MadeActivations x(4 * columns, FloatFormat::kF32, random_);
  const std::vector<float> before = products(made.matrix, x);
  x.values[columns + 7] = std::numeric_limits<float>::quiet_NaN();
  x.values[3 * columns + 511] = -std::numeric_limits<float>::infinity();
  x.store();
  const std::vector<float> y = products(made.matrix, x);
  for (const std::size_t i : {2u, 3u, 6u, 7u}) EXPECT_TRUE(std::isnan(y[i])) << i;
  for (const std::size_t i : {0u, 1u, 4u, 5u}) EXPECT_EQ(y[i], before[i]) << i;
}

TEST_P(PackedProduct, OfZerosAndOfTheSmallestNumbersIsZero) {
  const MadeMatrix made(GetParam(), 2, 256, random_);
  MadeActivations x(256, FloatFormat::kF32, random_);
  for (const float value : {0.0F, std::numeric_limits<float>::denorm_min(), 1e-36F}) {
    std::fill(x.values.begin(), x.values.end(), value);
    x.store();
    EXPECT_THAT(products(made.matrix, x), ::testing::ElementsAre(0, 0));
  }
}

TEST_P(PackedProduct, ReadsTheRowsThatAreNamed) {
  const std::size_t columns = 3 * block();
  const MadeMatrix made(GetParam(), 7, columns, random_);
  const std::vector<float> w = made.floats();
  const std::vector<std::int64_t> ids = {6, 0, 3, 6};
  for (const FloatFormat format : {FloatFormat::kBF16, FloatFormat::kF16, FloatFormat::kF32}) {
    std::vector<std::byte> found(ids.size() * columns * float_bytes(format));
    std::vector<std::byte> expected(found.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      cast_reference(w.data() + static_cast<std::size_t>(ids[i]) * columns, FloatFormat::kF32,
                     expected.data() + i * columns * float_bytes(format), format, columns);
    }
    dequantize_rows_emulated(made.matrix, ids.data(), ids.size(), {found.data(), format});
    EXPECT_TRUE(found == expected) << static_cast<int>(format);
  }
}

TEST_P(PackedProduct, RefusesWhatIsNoWholeBlocks) {
  const MadeMatrix made(GetParam(), 1, 256, random_);
  const MadeActivations x(256, FloatFormat::kF32, random_);
  PackedMatrix matrix = made.matrix;
  matrix.columns = 255;
  EXPECT_THAT(error_of([&] { products(matrix, x); }), ::testing::HasSubstr("no whole blocks"));
  matrix = made.matrix;
  matrix.data = static_cast<const std::byte*>(matrix.data) + 8;
  EXPECT_THAT(error_of([&] { products(matrix, x); }), ::testing::HasSubstr("not aligned"));
}

INSTANTIATE_TEST_SUITE_P(Formats, PackedProduct, ::testing::ValuesIn(kPackedFormats),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace berth::testing
