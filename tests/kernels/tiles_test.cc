// Tiles: that they can be undone, and that their layout is the one that files have.
#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "planner/checkpoint/tile_layout.h"
#include "runtime/kernels/matrix.h"

namespace berth {
namespace {

struct Format {
  MatrixFormat id;
  const char* name;
  std::uint64_t digest;  // of the tiles that LayoutIsThatOfItsVersion makes
};
constexpr Format kFormats[] = {{MatrixFormat::kQ8_0, "Q8_0", 965978217917463806u},
                               {MatrixFormat::kQ4_0, "Q4_0", 12967233948578334655u},
                               {MatrixFormat::kQ4_1, "Q4_1", 1050469188289468399u},
                               {MatrixFormat::kQ5_0, "Q5_0", 2201504881616298165u},
                               {MatrixFormat::kQ5_1, "Q5_1", 6577537195811289963u},
                               {MatrixFormat::kQ4_K, "Q4_K", 12808177316239181934u},
                               {MatrixFormat::kQ5_K, "Q5_K", 8870041825577955635u},
                               {MatrixFormat::kQ6_K, "Q6_K", 5219400089255686576u},
                               {MatrixFormat::kMxfp4, "MXFP4", 4823742379936196590u}};

using Bytes = std::vector<std::byte>;

class Tiles : public ::testing::TestWithParam<Format> {
 protected:
  MatrixShape shape(std::size_t rows, std::size_t blocks) const {
    return {GetParam().id, rows, blocks * block_elements(GetParam().id)};
  }
  static std::size_t bytes_of(const MatrixShape& shape) {
    return shape.rows * stored_row_bytes(shape.format, shape.columns);
  }
  Bytes random_bytes(std::size_t count) {
    Bytes bytes(count);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random_());
    return bytes;
  }
  static Bytes tiled(const MatrixShape& shape, const Bytes& stored) {
    Bytes tiles(stored.size(), std::byte{0xAA});
    tile_stretch(shape, stored.data(), 0, stored.size(), tiles.data());
    return tiles;
  }

  std::mt19937 random_{5};
};

TEST_P(Tiles, AreUndoneWhereverTheyAreCut) {
  for (const std::size_t rows : {1, 15, 16, 37, 48}) {
    for (const std::size_t blocks : {1, 2, 5}) {
      const MatrixShape matrix = shape(rows, blocks);
      const Bytes stored = random_bytes(bytes_of(matrix));
      const Bytes tiles = tiled(matrix, stored);
      const std::size_t entry = tile_entry_bytes(matrix.format);
      for (std::size_t most = 1; most <= 2 * blocks + 1; ++most) {
        Bytes back(stored.size(), std::byte{0xAA});
        for (std::size_t at = 0; at < tiles.size();) {
          const std::size_t bytes = std::min(tiles.size() - at, entry * (1 + random_() % most));
          untile_stretch(matrix, tiles.data() + at, at, bytes, back.data());
          at += bytes;
        }
        ASSERT_EQ(back, stored) << rows << " rows of " << blocks << " blocks, cut each " << most;
      }
    }
  }
}

TEST_P(Tiles, MoveBitsWhereThereAreWholeOnes) {
  const MatrixShape matrix = shape(37, 2);
  const Bytes stored = random_bytes(bytes_of(matrix));
  const Bytes tiles = tiled(matrix, stored);
  const std::size_t row = stored_row_bytes(matrix.format, matrix.columns);
  EXPECT_NE(tiles, stored);
  EXPECT_TRUE(std::equal(tiles.begin() + 32 * row, tiles.end(), stored.begin() + 32 * row));
}

// Files have this layout. If it changes, kTilesVersion must change with it, and the digests.
TEST_P(Tiles, LayoutIsThatOfItsVersion) {
  ASSERT_EQ(kTilesVersion, 1u);
  const MatrixShape matrix = shape(32, 3);
  Bytes stored(bytes_of(matrix));
  std::uint32_t state = 1;
  for (std::byte& byte : stored) {
    state = state * 1664525u + 1013904223u;  // Numerical Recipes, 3rd edition, 7.1
    byte = static_cast<std::byte>(state >> 24);
  }
  std::uint64_t digest = 14695981039346656037u;  // FNV-1a
  for (const std::byte byte : tiled(matrix, stored)) {
    digest = (digest ^ static_cast<std::uint64_t>(byte)) * 1099511628211u;
  }
  EXPECT_EQ(digest, GetParam().digest);
}

INSTANTIATE_TEST_SUITE_P(Formats, Tiles, ::testing::ValuesIn(kFormats),
                         [](const auto& format) { return std::string(format.param.name); });

}  // namespace
}  // namespace berth
