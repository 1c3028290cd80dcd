// Products against the formula, for every format and instruction set that this processor has, and
// the promise that a position's result depends on nothing but itself.
#include "runtime/kernels/product.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "cuda/block_format.h"
#include "cuda/cast.h"
#include "runtime/kernels/tiles.h"
#include "tests/instance_share.h"

namespace berth {
namespace {

constexpr MatrixFormat kFormats[] = {MatrixFormat::kF32,  MatrixFormat::kF16,  MatrixFormat::kBF16,
                                     MatrixFormat::kQ8_0, MatrixFormat::kQ4_0, MatrixFormat::kQ4_1,
                                     MatrixFormat::kQ5_0, MatrixFormat::kQ5_1, MatrixFormat::kQ4_K,
                                     MatrixFormat::kQ5_K, MatrixFormat::kQ6_K};
constexpr const char* kNames[] = {"F32",  "F16",  "BF16", "Q8_0", "Q4_0", "Q4_1",
                                  "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"};
// Of the formats with blocks.
constexpr BlockFormat kBlocks[] = {BlockFormat::kQ8_0, BlockFormat::kQ4_0, BlockFormat::kQ4_1,
                                   BlockFormat::kQ5_0, BlockFormat::kQ5_1, BlockFormat::kQ4_K,
                                   BlockFormat::kQ5_K, BlockFormat::kQ6_K};

struct Weights {
  std::vector<std::byte> data;  // as computed on
  std::vector<float> floats;    // what they mean
  Matrix matrix;
};

float random_float(std::mt19937& random) { return std::normal_distribution<float>()(random); }

void put_f16(std::byte* at, float value) {
  cast_reference(&value, FloatFormat::kF32, at, FloatFormat::kF16, 1);
}

// Any bits, but scales that are finite and not far from each other.
std::vector<std::byte> random_blocks(MatrixFormat format, std::size_t blocks,
                                     std::mt19937& random) {
  const BlockFormat id = kBlocks[static_cast<int>(format) - 3];
  const std::size_t size = block_size(id).bytes;
  std::vector<std::byte> bytes(blocks * size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  for (std::size_t b = 0; b < blocks; ++b) {
    std::byte* block = bytes.data() + b * size;
    put_f16(format == MatrixFormat::kQ6_K ? block + 208 : block, 0.01F * random_float(random));
    const bool minimum = format == MatrixFormat::kQ4_1 || format == MatrixFormat::kQ5_1 ||
                         format == MatrixFormat::kQ4_K || format == MatrixFormat::kQ5_K;
    if (minimum) put_f16(block + 2, 0.05F * random_float(random));
  }
  return bytes;
}

Weights random_weights(MatrixFormat format, std::size_t rows, std::size_t columns,
                       std::mt19937& random) {
  Weights out;
  out.floats.resize(rows * columns);
  if (is_tiled(format)) {
    const BlockFormat id = kBlocks[static_cast<int>(format) - 3];
    const std::size_t blocks = rows * columns / block_size(id).elements;
    const auto stored = random_blocks(format, blocks, random);
    dequantize_reference(stored.data(), id, out.floats.data(), FloatFormat::kF32, blocks);
    out.data = stored;
  } else {
    for (float& value : out.floats) value = random_float(random);
    const FloatFormat to = format == MatrixFormat::kF32   ? FloatFormat::kF32
                           : format == MatrixFormat::kF16 ? FloatFormat::kF16
                                                          : FloatFormat::kBF16;
    out.data.resize(rows * stored_row_bytes(format, columns));
    cast_reference(out.floats.data(), FloatFormat::kF32, out.data.data(), to, out.floats.size());
    cast_reference(out.data.data(), to, out.floats.data(), FloatFormat::kF32, out.floats.size());
  }
  out.matrix = {format, rows, columns, out.data.data()};
  if (random() % 4 != 0) {  // else as a mapped file would be
    ThreadTeam team(2);
    tile_in_place(out.matrix, team);
  }
  return out;
}

std::vector<float> random_activations(std::size_t count, std::mt19937& random) {
  std::vector<float> values(count);
  for (float& value : values) value = random_float(random);
  return values;
}

std::vector<float> products(const Weights& weights, const Activations& x, ThreadTeam& team,
                            const InstructionSet& set) {
  std::vector<float> out(x.positions() * weights.matrix.rows,
                         std::numeric_limits<float>::quiet_NaN());
  const Product product{weights.matrix, nullptr, out.data(), weights.matrix.rows};
  multiply(std::span(&product, 1), x, team, set);
  return out;
}

class Products : public ::testing::TestWithParam<int> {
 protected:
  MatrixFormat format() const { return kFormats[GetParam()]; }
  std::mt19937 random_{17};
  ThreadTeam team_{2};
};

class PlainProducts : public Products {};
class TiledProducts : public Products {};

TEST_P(Products, IsTheFormulaOnEveryInstructionSet) {
  for (const std::size_t rows : {1, 7, 16, 37}) {
    for (const std::size_t blocks : {1, 2, 5}) {
      if (kInstanceShare > 1 && rows != 37 && blocks != 2) continue;
      const std::size_t columns = blocks * std::max<std::size_t>(32, block_elements(format())) -
                                  (is_tiled(format()) ? 0 : blocks % 3);
      const Weights weights = random_weights(format(), rows, columns, random_);
      for (const std::size_t positions : {1, 2, 3, 7, 9}) {
        const auto values = random_activations(positions * columns, random_);
        for (const ActivationBits bits :
             {ActivationBits::k8, ActivationBits::k16, ActivationBits::k24}) {
          Activations x;
          x.set(values, columns, format(), bits);
          std::vector<float> expected(positions * rows);
          multiply_reference(weights.floats, rows, x, format(), expected.data(), rows);
          for (const InstructionSet& set : instruction_sets()) {
            if (!set.supported()) continue;
            const std::vector<float> found = products(weights, x, team_, set);
            for (std::size_t i = 0; i < expected.size(); ++i) {
              double most = 0;  // rounding errors are relative to the summands
              for (std::size_t c = 0; c < columns; ++c) {
                most += std::fabs(weights.floats[i % rows * columns + c] *
                                  values[i / rows * columns + c]);
              }
              ASSERT_NEAR(found[i], expected[i], 1e-6 * most + 1e-30)
                  << set.name << ", row " << i % rows << " of " << rows << ", position " << i / rows
                  << ", " << columns << " columns";
            }
          }
        }
      }
    }
  }
}

// Whatever stands beside it in a batch, and on however many threads.
TEST_P(Products, OfAPositionDependsOnNothingElse) {
  const std::size_t rows = 53, columns = 512, positions = 23;
  const Weights weights = random_weights(format(), rows, columns, random_);
  const auto values = random_activations(positions * columns, random_);
  ThreadTeam alone(1), three(3);
  for (const InstructionSet& set : instruction_sets()) {
    if (!set.supported()) continue;
    for (const ActivationBits bits : {ActivationBits::k24, usual_bits(format())}) {
      Activations all;
      all.set(values, columns, format(), bits);
      const std::vector<float> together = products(weights, all, three, set);
      for (std::size_t p = 0; p < positions; ++p) {
        Activations one;
        one.set(std::span(values).subspan(p * columns, columns), columns, format(), bits);
        const std::vector<float> apart = products(weights, one, alone, set);
        ASSERT_TRUE(std::equal(apart.begin(), apart.end(), together.begin() + p * rows))
            << set.name << ", position " << p;
      }
    }
  }
}

// Products of heads call the loops of plain formats with all rows of a head at once.
TEST_P(PlainProducts, LoopsTakeAnyNumberOfRows) {
  const std::size_t rows = 53, columns = 96, positions = 11;
  const Weights weights = random_weights(format(), rows, columns, random_);
  Activations x;
  x.set(random_activations(positions * columns, random_), columns, format(), ActivationBits::k16);
  for (const InstructionSet& set : instruction_sets()) {
    if (!set.supported()) continue;
    std::vector<float> found(positions * rows);
    set.products(format(),
                 x.bits())({weights.data.data(), rows, columns, nullptr, x.floats(0), x.bf16(0),
                            x.padded_columns(), positions, found.data(), rows});
    EXPECT_EQ(found, products(weights, x, team_, set)) << set.name;
  }
}

// But for AMX, which sums products of bf16 in an order of its own.
TEST_P(Products, HasTheSameBitsOnEveryInstructionSet) {
  const std::size_t rows = 37, columns = 768;
  const Weights weights = random_weights(format(), rows, columns, random_);
  for (const std::size_t positions : {1, 5}) {
    const auto values = random_activations(positions * columns, random_);
    for (const ActivationBits bits : {ActivationBits::k24, usual_bits(format())}) {
      Activations x;
      x.set(values, columns, format(), bits);
      const std::vector<float> expected = products(weights, x, team_, instruction_sets().back());
      for (const InstructionSet& set : instruction_sets()) {
        const bool rounded = format() == MatrixFormat::kBF16 && bits != ActivationBits::k24;
        if (!set.supported() || (rounded && set.reads_pairs())) continue;
        EXPECT_EQ(products(weights, x, team_, set), expected) << set.name;
      }
    }
  }
}

// Of tiles, of the rows that are left over, and of rows as stored.
TEST_P(Products, ReadRowsAsTheyWereStored) {
  const std::size_t rows = 37, columns = 512;
  Weights weights = random_weights(format(), rows, columns, random_);
  for (const bool tiled : {false, true}) {
    if (tiled) tile_in_place(weights.matrix, team_);
    std::vector<float> row(columns);
    for (std::size_t r = 0; r < rows; ++r) {
      read_row(weights.matrix, r, row.data());
      ASSERT_TRUE(std::equal(row.begin(), row.end(), weights.floats.begin() + r * columns)) << r;
    }
  }
}

TEST_P(Products, TilesOfStretchesAreThoseOfTheWhole) {
  const std::size_t columns = 3 * std::max<std::size_t>(32, block_elements(format()));
  for (const std::size_t rows : {5, 16, 40}) {
    Weights weights = random_weights(format(), rows, columns, random_);
    weights.matrix.tiled_rows = 0;
    const std::vector<std::byte> stored = weights.data;
    const MatrixShape shape{format(), rows, columns};
    tile_in_place(weights.matrix, team_);
    EXPECT_EQ(shape.tiled_rows(), is_tiled(format()) ? rows / 16 * 16 : 0);
    const std::size_t block = stored_row_bytes(format(), block_elements(format()));
    std::vector<std::byte> made(stored.size(), std::byte{0xAA});
    for (std::size_t at = 0; at < stored.size();) {
      const std::size_t bytes =
          std::min(stored.size() - at, block * (1 + random_() % (2 * columns / 32)));
      tile_stretch(shape, stored.data() + at, at, bytes, made.data());
      at += bytes;
    }
    EXPECT_EQ(made, weights.data);
  }
}

// Activations err by a part of the largest of 32, and a product by little more than that.
TEST_P(Products, IsAsCloseToTheExactOneAsItsActivations) {
  const std::size_t rows = 64, columns = 2048;
  const Weights weights = random_weights(format(), rows, columns, random_);
  const auto values = random_activations(columns, random_);
  constexpr std::pair<ActivationBits, double> kErrors[] = {
      {ActivationBits::k8, 1e-2}, {ActivationBits::k16, 5e-5}, {ActivationBits::k24, 1e-6}};
  for (const auto& [bits, allowed] : kErrors) {
    Activations x;
    x.set(values, columns, format(), bits);
    const std::vector<float> found = products(weights, x, team_, instruction_set());
    double most = 0, error = 0;
    for (std::size_t r = 0; r < rows; ++r) {
      double exact = 0;
      for (std::size_t c = 0; c < columns; ++c) {
        // Beside bf16, activations of fewer bits are bf16.
        const double value = is_tiled(format()) ? values[c] : x.floats(0)[c];
        exact += static_cast<double>(weights.floats[r * columns + c]) * value;
      }
      most = std::max(most, std::fabs(exact));
      error = std::max(error, std::fabs(found[r] - exact));
    }
    EXPECT_LT(error, allowed * most);
    if (is_tiled(format()) && bits != ActivationBits::k24) {
      EXPECT_GT(error, allowed / 100 * most);
    }
  }
}

TEST_P(Products, OfActivationsThatAreNoNumbersIsNone) {
  const std::size_t rows = 3, columns = 256;
  const Weights weights = random_weights(format(), rows, columns, random_);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> values(2 * columns, 1);
    values[columns + 100] = bad;
    Activations x;
    x.set(values, columns, format(), ActivationBits::k24);
    const std::vector<float> found = products(weights, x, team_, instruction_set());
    for (std::size_t r = 0; r < rows; ++r) {
      EXPECT_TRUE(std::isfinite(found[r]));
      EXPECT_FALSE(std::isfinite(found[rows + r]));
    }
  }
}

// Of any size, at the ends of the range, of zeros, and of no numbers.
TEST_P(TiledProducts, ActivationsAreTheFormulaOnEveryInstructionSet) {
  constexpr std::size_t kCount = 64;
  std::vector<float> values = random_activations(32 * kCount, random_);
  for (std::size_t b = 0; b < kCount; ++b) {
    const float size = std::ldexp(1.0F, static_cast<int>(b) * 4 - 140);  // denormal ones first
    for (std::size_t i = 0; i < 32; ++i) values[32 * b + i] *= size;
  }
  std::fill_n(values.begin() + 64, 32, 0.0F);
  values[33] = values[97] = 0;
  values[40] = std::numeric_limits<float>::infinity();
  values[120] = std::numeric_limits<float>::quiet_NaN();
  const TileShape shape = tile_shape(format());
  for (const ActivationBits bits : {ActivationBits::k8, ActivationBits::k16, ActivationBits::k24}) {
    const float limit = bits == ActivationBits::k8 ? 127 : 32639;
    const bool rests = bits == ActivationBits::k24;
    for (const InstructionSet& set : instruction_sets()) {
      if (!set.supported()) continue;
      std::vector<ActivationBlock> found(kCount);
      set.quantize({values.data(), kCount, limit, rests, shape.bias, shape.scaled, found.data()});
      for (std::size_t b = 0; b < kCount; ++b) {
        const ActivationBlock expected = quantize_reference(&values[32 * b], format(), bits);
        EXPECT_EQ(std::memcmp(&found[b], &expected, sizeof expected), 0) << set.name << ' ' << b;
      }
    }
  }
}

constexpr auto kNameOf = [](const auto& test) { return std::string(kNames[test.param]); };
INSTANTIATE_TEST_SUITE_P(Formats, Products, ::testing::Range(0, 11), kNameOf);
INSTANTIATE_TEST_SUITE_P(Formats, PlainProducts, ::testing::Range(0, 3), kNameOf);
INSTANTIATE_TEST_SUITE_P(Formats, TiledProducts, ::testing::Range(3, 11), kNameOf);

TEST(ThreadTeam, RunsEveryPartOnce) {
  constexpr std::size_t kRounds = 1000 / kInstanceShare;
  for (const std::size_t threads : {1, 2, 5}) {
    ThreadTeam team(threads);
    ASSERT_EQ(team.size(), threads);
    for (std::size_t round = 0; round < kRounds; ++round) {
      std::vector<int> runs(round % 23, 0);
      std::vector<std::atomic<int>> busy(threads);
      team.run(runs.size(), [&](std::size_t part, std::size_t thread) {
        ASSERT_EQ(busy.at(thread)++, 0);
        ++runs.at(part);
        --busy[thread];
      });
      ASSERT_EQ(runs, std::vector<int>(round % 23, 1));
    }
  }
}

// While a thread is held up, the others do all that it has not begun.
TEST(ThreadTeam, WaitsForNobodyWhoHasNotBegun) {
  ThreadTeam team(2);
  std::atomic<bool> held = true;
  std::atomic<int> others = 0;
  team.run(10, [&](std::size_t part, std::size_t) {
    if (part != 0) {
      if (++others == 9) held = false;
    }
    while (part == 0 && held) std::this_thread::yield();
  });
  EXPECT_EQ(others, 9);
}

TEST(ThreadTeam, CutsWorkIntoPartsThatAreWorthIt) {
  const ThreadTeam one(1), two(2);
  EXPECT_EQ(one.parts(1000, 1), 1);
  EXPECT_EQ(two.parts(1000, 1), 16);
  EXPECT_EQ(two.parts(10, 4), 2);
  EXPECT_EQ(two.parts(3, 4), 1);
  EXPECT_EQ(two.parts(0, 0), 1);
}

}  // namespace
}  // namespace berth
