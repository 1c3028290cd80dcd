// The loops of AMX with emulated tiles: the very loops that processors with AMX run.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "cuda/cast_bits.h"
#include "runtime/kernels/activations.h"
#include "runtime/kernels/amx_bf16_loop.h"
#include "runtime/kernels/amx_loops.h"
#include "runtime/kernels/pairs.h"

namespace berth {
namespace {

// To the bit, for every format and width, for batches that AMX computes wholly, partly and not.
TEST(Amx, GivesTheBitsOfAllOtherSets) {
  constexpr std::size_t kColumns = 512;
  std::mt19937 random(1);
  int formats = 0;
  for (int i = 0; i <= static_cast<int>(MatrixFormat::kF8E5M2); ++i) {
    const auto format = static_cast<MatrixFormat>(i);
    for (const ActivationBits bits :
         {ActivationBits::k8, ActivationBits::k16, ActivationBits::k24}) {
      const ProductLoop loop = amx_products<EmulatedTiles>(format, bits);
      if (loop == nullptr) continue;
      ++formats;
      std::vector<std::byte> tile(tile_bytes(format, kColumns, 0));
      for (std::byte& byte : tile) byte = static_cast<std::byte>(random() & 0x3F);
      for (const std::size_t positions : {1, 4, 5, 16, 19, 37}) {
        std::vector<float> values(positions * kColumns);
        for (float& value : values) value = std::normal_distribution<float>()(random);
        Activations x;
        x.set(values, kColumns, format, bits);
        std::vector<float> found(positions * kTileRows), expected(positions * kTileRows);
        ProductJob job = {tile.data(), kTileRows, kColumns,  x.blocks(0),  nullptr,
                          nullptr,     kColumns,  positions, found.data(), kTileRows};
        loop(job);
        job.out = expected.data();
        instruction_sets().back().products(format, bits)(job);
        EXPECT_EQ(found, expected) << "format " << i << ", " << positions << " positions";
      }
    }
  }
  EXPECT_EQ(formats, 9 * 3);
}

// Any number of rows, columns and positions: close to the exact products, and the same alone.
TEST(Amx, MultipliesBf16InAnOrderThatBatchesDoNotChange) {
  std::mt19937 random(2);
  const auto normal = [&] { return std::normal_distribution<float>()(random); };
  for (const std::size_t rows : {1, 16, 37}) {
    for (const std::size_t columns : {32, 86, 512}) {
      std::vector<std::uint16_t> weights(rows * columns);
      for (std::uint16_t& weight : weights) weight = float_to_bf16(normal());
      for (const std::size_t positions : {1, 7, 16, 31, 48, 70}) {
        std::vector<float> values(positions * columns);
        for (float& value : values) value = normal();
        Activations x;
        x.set(values, columns, MatrixFormat::kBF16, ActivationBits::k16);
        std::vector<std::uint16_t> pairs(positions * x.padded_columns());
        put_in_pairs({x.bf16(0), pairs.size()}, x.padded_columns(), pairs.data());
        std::vector<float> found(positions * rows, -1), alone(rows);
        ProductJob job = {};
        job.weights = reinterpret_cast<const std::byte*>(weights.data());
        job.rows = job.stride = rows;
        job.columns = columns;
        job.padded_columns = x.padded_columns();
        job.pairs = pairs.data();
        job.positions = positions;
        job.out = found.data();
        amx_bf16_loop<EmulatedTiles>(job);
        job.positions = 1;
        job.out = alone.data();
        for (std::size_t p = 0; p < positions; ++p) {
          job.pairs = x.bf16(p);
          amx_bf16_loop<EmulatedTiles>(job);
          for (std::size_t r = 0; r < rows; ++r) {
            double exact = 0, size = 0;
            for (std::size_t c = 0; c < columns; ++c) {
              const double product =
                  static_cast<double>(bf16_to_float(weights[r * columns + c])) * x.floats(p)[c];
              exact += product;
              size += std::fabs(product);
            }
            ASSERT_NEAR(alone[r], exact, 1e-6 * size) << rows << ' ' << columns << ' ' << p;
            ASSERT_EQ(found[p * rows + r], alone[r]) << rows << ' ' << columns << ' ' << p;
          }
        }
      }
    }
  }
}

TEST(PutInPairs, HasThePairsOfSixteenRowsSideBySide) {
  constexpr std::size_t kColumns = 4;
  std::vector<std::uint16_t> rows(18 * kColumns), pairs(rows.size());
  std::iota(rows.begin(), rows.end(), std::uint16_t{0});
  put_in_pairs(rows, kColumns, pairs.data());
  for (std::size_t p = 0; p < 18; ++p) {
    const std::size_t group = p / 16, width = group == 0 ? 16 : 2;
    for (std::size_t c = 0; c < kColumns; ++c) {
      const std::size_t at = group * 16 * kColumns + (c / 2 * width + p % 16) * 2 + c % 2;
      EXPECT_EQ(pairs[at], rows[p * kColumns + c]) << p << ' ' << c;
    }
  }
}

}  // namespace
}  // namespace berth
