// Products of heads against the formula, for formats as stored and in tiles and every instruction
// set, and the promise that a position's result depends on nothing but itself.
#include "runtime/kernels/head_product.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "cuda/cast.h"

namespace berth {
namespace {

constexpr MatrixFormat kFormats[] = {MatrixFormat::kF32, MatrixFormat::kF16, MatrixFormat::kBF16,
                                     MatrixFormat::kQ8_0};
constexpr const char* kNames[] = {"F32", "F16", "BF16", "Q8_0"};
constexpr std::size_t kHeads = 3, kPositions = 7;

std::vector<float> random_floats(std::size_t count, std::mt19937& random) {
  std::vector<float> values(count);
  for (float& value : values) value = std::normal_distribution<float>()(random);
  return values;
}

class HeadProducts : public ::testing::TestWithParam<int> {
 protected:
  HeadProducts() {
    const MatrixFormat format = kFormats[GetParam()];
    own_ = {{format, kHeads * 21, format == MatrixFormat::kQ8_0 ? 64u : 70u, nullptr, 0},
            kHeads,
            21,
            8,
            13};
    const Matrix& matrix = own_.weights;
    const std::size_t count = matrix.rows * matrix.columns;
    floats_ = random_floats(count, random_);
    if (format == MatrixFormat::kQ8_0) {
      data_.resize(matrix.rows * stored_row_bytes(format, matrix.columns));
      for (std::size_t at = 0; at < data_.size(); at += 34) {
        const float scale = 0.05F;
        cast_reference(&scale, FloatFormat::kF32, data_.data() + at, FloatFormat::kF16, 1);
        for (int i = 0; i < 32; ++i) data_[at + 2 + i] = static_cast<std::byte>(random_());
      }
    } else {
      const FloatFormat to = format == MatrixFormat::kF32   ? FloatFormat::kF32
                             : format == MatrixFormat::kF16 ? FloatFormat::kF16
                                                            : FloatFormat::kBF16;
      data_.resize(count * (to == FloatFormat::kF32 ? 4 : 2));
      cast_reference(floats_.data(), FloatFormat::kF32, data_.data(), to, count);
    }
    own_.weights.data = data_.data();
    for (std::size_t r = 0; r < matrix.rows; ++r) {
      read_row(own_.weights, r, floats_.data() + r * matrix.columns);
    }
    if (format == MatrixFormat::kQ8_0) tile_in_place(own_.weights, team_);
  }

  float weight(std::size_t head, std::size_t row, std::size_t column) const {
    return floats_[(head * own_.head_rows + own_.first_row + row) * own_.weights.columns + column];
  }

  std::mt19937 random_{7};
  ThreadTeam team_{2};
  std::vector<float> floats_;
  std::vector<std::byte> data_;
  HeadRows own_;
};

TEST_P(HeadProducts, AreTheFormulaOnEveryInstructionSet) {
  const std::size_t columns = own_.weights.columns;
  for (const bool transposed : {false, true}) {
    const std::size_t size = transposed ? own_.rows : columns;
    const std::size_t width = transposed ? columns : own_.rows;
    const auto x = random_floats(kPositions * kHeads * (size + 3), random_);
    const HeadVectors<const float> from{x.data(), kHeads * (size + 3), size + 3};
    for (const InstructionSet& set : instruction_sets()) {
      if (!set.supported()) continue;
      std::vector<float> found(kPositions * kHeads * (width + 2), NAN);
      const HeadVectors<float> to{found.data(), kHeads * (width + 2), width + 2};
      const auto multiply = transposed ? multiply_heads_transposed : multiply_heads;
      multiply(own_, kPositions, from, to, team_, set);
      for (std::size_t p = 0; p < kPositions; ++p) {
        for (std::size_t h = 0; h < kHeads; ++h) {
          for (std::size_t i = 0; i < width; ++i) {
            double expected = 0;
            for (std::size_t k = 0; k < size; ++k) {
              expected += static_cast<double>(from.of(p, h)[k]) *
                          (transposed ? weight(h, k, i) : weight(h, i, k));
            }
            ASSERT_NEAR(to.of(p, h)[i], expected, 5e-5 * (1 + std::fabs(expected)))
                << set.name << ", position " << p << ", head " << h << ", " << i;
          }
          EXPECT_TRUE(std::isnan(to.of(p, h)[width])) << "wrote beyond a head";
        }
      }
    }
  }
}

TEST_P(HeadProducts, OfAPositionDependOnNothingElse) {
  const std::size_t columns = own_.weights.columns;
  ThreadTeam alone(1);
  for (const bool transposed : {false, true}) {
    const std::size_t size = transposed ? own_.rows : columns;
    const std::size_t width = transposed ? columns : own_.rows;
    const auto multiply = transposed ? multiply_heads_transposed : multiply_heads;
    const auto x = random_floats(kPositions * kHeads * size, random_);
    std::vector<float> together(kPositions * kHeads * width), one(kHeads * width);
    multiply(own_, kPositions, {x.data(), kHeads * size, size},
             {together.data(), kHeads * width, width}, team_, instruction_set());
    for (std::size_t p = 0; p < kPositions; ++p) {
      multiply(own_, 1, {x.data() + p * kHeads * size, 0, size}, {one.data(), 0, width}, alone,
               instruction_set());
      EXPECT_TRUE(std::equal(one.begin(), one.end(), together.begin() + p * one.size())) << p;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, HeadProducts, ::testing::Range(0, 4),
                         [](const auto& test) { return std::string(kNames[test.param]); });

}  // namespace
}  // namespace berth
