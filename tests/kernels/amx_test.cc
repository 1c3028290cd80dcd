// The loops of AMX with emulated tiles: the very loops that processors with AMX run.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "runtime/kernels/activations.h"
#include "runtime/kernels/amx_loops.h"

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

}  // namespace
}  // namespace berth
