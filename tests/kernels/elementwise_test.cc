// Norms, activation functions and products with transposed matrices against their formulas in
// double, on every instruction set that this processor has.
#include "runtime/kernels/elementwise.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "cuda/cast.h"
#include "runtime/kernels/product.h"

namespace berth {
namespace {

std::vector<float> random_floats(std::size_t count, float scale, std::mt19937& random) {
  std::vector<float> values(count);
  for (float& value : values) value = scale * std::normal_distribution<float>()(random);
  return values;
}

template <class Check>
void on_every_set(const Check& check) {
  for (const InstructionSet& set : instruction_sets()) {
    if (!set.supported()) continue;
    SCOPED_TRACE(set.name);
    check(set);
  }
}

constexpr std::size_t kWidths[] = {1, 5, 16, 31, 64, 257, 2048};

TEST(Norms, AreTheFormulas) {
  on_every_set([](const InstructionSet& set) {
    std::mt19937 random(3);
    for (const std::size_t width : kWidths) {
      auto x = random_floats(width, 3, random);
      for (float& value : x) value += 2;  // a mean that is not zero
      const auto weight = random_floats(width, 1, random);
      const auto bias = random_floats(width, 1, random);
      double sum = 0, squares = 0;
      for (const float value : x) sum += value;
      const double mean = sum / static_cast<double>(width);
      double variance = 0;
      for (const float value : x) {
        squares += static_cast<double>(value) * value;
        variance += (value - mean) * (value - mean);
      }
      const double rms = std::sqrt(squares / static_cast<double>(width) + 1e-5);
      const double deviation = std::sqrt(variance / static_cast<double>(width) + 1e-5);
      std::vector<float> scaled(width), centred(width);
      rms_norm(x.data(), weight.data(), width, 1e-5F, scaled.data(), set);
      layer_norm(x.data(), weight.data(), bias.data(), width, 1e-5F, centred.data(), set);
      for (std::size_t i = 0; i < width; ++i) {
        ASSERT_NEAR(scaled[i], x[i] / rms * weight[i], 3e-6 * (1 + std::fabs(scaled[i]))) << width;
        // Of one element, what is left of x - mean is rounding.
        if (width == 1) continue;
        ASSERT_NEAR(centred[i], (x[i] - mean) / deviation * weight[i] + bias[i],
                    5e-6 * (1 + std::fabs(centred[i])))
            << width;
      }
      rms_norm(x.data(), weight.data(), width, 1e-5F, x.data(), set);
      EXPECT_EQ(x, scaled) << "in place";
    }
  });
}

double formula(Gate gate, double x) {
  switch (gate) {
    case Gate::kSilu:
      return x / (1 + std::exp(-x));
    case Gate::kGelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Gate::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Gate::kRelu:
      break;
  }
  return std::max(x, 0.0);
}

TEST(Gates, AreTheFormulasFarOutToo) {
  on_every_set([](const InstructionSet& set) {
    for (const Gate gate : {Gate::kSilu, Gate::kGelu, Gate::kGeluTanh, Gate::kRelu}) {
      std::vector<float> x{0, -0.0F, 1e-30F, 88, -88, 89, -89, 200, -200, 3e4F, -3e4F, 1e30F};
      for (int i = -4000; i <= 4000; ++i) x.push_back(static_cast<float>(i) / 200);
      std::vector<float> up(x.size()), plain(x.size()), times(x.size());
      for (std::size_t i = 0; i < up.size(); ++i) up[i] = static_cast<float>(i % 7) - 3;
      activate(gate, x.data(), nullptr, x.size(), plain.data(), set);
      activate(gate, x.data(), up.data(), x.size(), times.data(), set);
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double wanted = formula(gate, x[i]);
        ASSERT_NEAR(plain[i], wanted, 4e-7 * (1 + std::fabs(wanted)))
            << static_cast<int>(gate) << " of " << x[i];
        ASSERT_EQ(times[i], plain[i] * up[i]);
      }
      const float bad = std::numeric_limits<float>::quiet_NaN();
      float out = 0;
      activate(gate, &bad, nullptr, 1, &out, set);
      EXPECT_TRUE(std::isnan(out));
    }
  });
}

TEST(Gates, OfPairsAreClamped) {
  const ClampedGate gate{1.702F, 7};
  std::vector<float> pairs;
  for (int i = -300; i <= 300; ++i) {
    pairs.push_back(static_cast<float>(i) / 20);
    pairs.push_back(static_cast<float>(7 * i % 400) / 20);
  }
  on_every_set([&](const InstructionSet& set) {
    std::vector<float> out(pairs.size() / 2);
    activate_pairs(gate, pairs.data(), out.size(), out.data(), set);
    for (std::size_t i = 0; i < out.size(); ++i) {
      const double opened = std::min<double>(pairs[2 * i], 7);
      const double up = std::clamp<double>(pairs[2 * i + 1], -7, 7);
      const double wanted = opened / (1 + std::exp(-1.702 * opened)) * (1 + up);
      ASSERT_NEAR(out[i], wanted, 1e-6 * (1 + std::fabs(wanted))) << pairs[2 * i];
    }
    const float bad[] = {NAN, 1, 1, NAN};
    activate_pairs(gate, bad, 2, out.data(), set);
    EXPECT_TRUE(std::isnan(out[0]) && std::isnan(out[1]));
  });
}

TEST(Rotation, TurnsPairsOfHalvesAndLeavesTheRest) {
  const float angle = 0.7F;
  const float cosine[] = {std::cos(angle), 1}, sine[] = {std::sin(angle), 0};
  float head[] = {1, 2, 3, 4, 5};
  rotate(cosine, sine, 2, head);
  EXPECT_FLOAT_EQ(head[0], std::cos(angle) - 3 * std::sin(angle));
  EXPECT_FLOAT_EQ(head[2], 3 * std::cos(angle) + std::sin(angle));
  EXPECT_EQ(head[1], 2);
  EXPECT_EQ(head[3], 4);
  EXPECT_EQ(head[4], 5);
}

TEST(Rotation, TurnsPairsOfNeighboursAndLeavesTheRest) {
  const float angle = 0.7F;
  const float cosine[] = {1, std::cos(angle)}, sine[] = {0, std::sin(angle)};
  float head[] = {1, 2, 3, 4, 5};
  rotate_neighbours(cosine, sine, 2, head);
  EXPECT_EQ(head[0], 1);
  EXPECT_EQ(head[1], 2);
  EXPECT_FLOAT_EQ(head[2], 3 * std::cos(angle) - 4 * std::sin(angle));
  EXPECT_FLOAT_EQ(head[3], 4 * std::cos(angle) + 3 * std::sin(angle));
  EXPECT_EQ(head[4], 5);
}

TEST(TransposedProducts, AreTheFormulaWithABias) {
  on_every_set([](const InstructionSet& set) {
    std::mt19937 random(5);
    ThreadTeam team(2);
    for (const MatrixFormat format :
         {MatrixFormat::kF32, MatrixFormat::kF16, MatrixFormat::kBF16}) {
      const FloatFormat to = format == MatrixFormat::kF32   ? FloatFormat::kF32
                             : format == MatrixFormat::kF16 ? FloatFormat::kF16
                                                            : FloatFormat::kBF16;
      for (const std::size_t columns : {1, 63, 64, 200}) {
        const std::size_t rows = 45, positions = 3;
        auto weights = random_floats(rows * columns, 1, random);
        std::vector<std::byte> stored(rows * columns * float_bytes(to));
        cast_reference(weights.data(), FloatFormat::kF32, stored.data(), to, weights.size());
        cast_reference(stored.data(), to, weights.data(), FloatFormat::kF32, weights.size());
        const auto bias = random_floats(columns, 1, random);
        Activations x;
        x.set(random_floats(positions * rows, 1, random), rows, format, ActivationBits::k24);
        std::vector<float> out(positions * columns);
        multiply_transposed(
            {{format, rows, columns, stored.data()}, bias.data(), out.data(), columns}, x, team,
            set);
        for (std::size_t p = 0; p < positions; ++p) {
          for (std::size_t c = 0; c < columns; ++c) {
            double wanted = bias[c];
            for (std::size_t r = 0; r < rows; ++r) {
              wanted += static_cast<double>(x.floats(p)[r]) * weights[r * columns + c];
            }
            ASSERT_NEAR(out[p * columns + c], wanted, 2e-5) << columns;
          }
        }
      }
    }
  });
}

TEST(Products, OfSeveralMatricesAreThoseOfEach) {
  std::mt19937 random(7);
  const std::size_t columns = 96, positions = 3;
  const std::size_t rows[] = {17, 1, 40};
  std::vector<float> weights[3], bias[3];
  std::vector<float> together(positions * 58), apart(together.size());
  std::vector<Product> products;
  std::size_t offset = 0;
  for (int i = 0; i < 3; ++i) {
    weights[i] = random_floats(rows[i] * columns, 1, random);
    bias[i] = random_floats(rows[i], 1, random);
    const Matrix matrix{MatrixFormat::kF32, rows[i], columns,
                        reinterpret_cast<const std::byte*>(weights[i].data())};
    products.push_back({matrix, i == 1 ? nullptr : bias[i].data(), together.data() + offset, 58});
    offset += rows[i];
  }
  Activations x;
  x.set(random_floats(positions * columns, 1, random), columns, MatrixFormat::kF32,
        ActivationBits::k24);
  ThreadTeam three(3), alone(1);
  multiply(products, x, three);
  for (Product& product : products) {
    product.out = apart.data() + (product.out - together.data());
    multiply(std::span(&product, 1), x, alone);
  }
  EXPECT_EQ(together, apart);
}

}  // namespace
}  // namespace berth
