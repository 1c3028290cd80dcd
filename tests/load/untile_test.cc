// Matrices are taken out of tiles wherever a chunk cuts them.
#include "runtime/load/untile.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

namespace berth {
namespace {

using Bytes = std::vector<std::byte>;

constexpr MatrixFormat kFormats[] = {MatrixFormat::kQ8_0, MatrixFormat::kQ4_1, MatrixFormat::kQ5_0,
                                     MatrixFormat::kQ6_K};

TEST(Untile, PutsEveryPieceWhereItBelongs) {
  std::mt19937 random(3);
  for (const MatrixFormat format : kFormats) {
    for (const std::size_t rows : {16, 37, 64}) {
      const MatrixShape shape{format, rows, 5 * block_elements(format)};
      Bytes stored(rows * stored_row_bytes(format, shape.columns));
      for (std::byte& byte : stored) byte = static_cast<std::byte>(random());
      Bytes tiles(stored.size());
      tile_stretch(shape, stored.data(), 0, stored.size(), tiles.data());
      for (std::size_t most = 1; most < 20; ++most) {
        Bytes stretches = tiles;
        Bytes found(stored.size(), std::byte{0xAA});
        for (std::size_t at = 0; at < tiles.size();) {
          const std::size_t bytes =
              std::min(tiles.size() - at, tile_entry_bytes(format) * (1 + random() % most));
          std::size_t covered = 0;
          for (const UntiledPiece& piece :
               untile_in_place(shape, stretches.data() + at, at, bytes)) {
            EXPECT_EQ(piece.from, covered);
            covered += piece.bytes;
            ASSERT_LE(piece.at + piece.bytes, found.size());
            std::memcpy(found.data() + piece.at, stretches.data() + at + piece.from, piece.bytes);
          }
          EXPECT_EQ(covered, bytes);
          at += bytes;
        }
        ASSERT_EQ(found, stored) << rows << " rows, cut each " << most;
      }
    }
  }
}

// So that a GPU gets few copies.
TEST(Untile, WholeTilesAreOnePiece) {
  const MatrixShape shape{MatrixFormat::kQ4_1, 53, 64};
  Bytes bytes(53 * stored_row_bytes(shape.format, shape.columns));
  const auto pieces = untile_in_place(shape, bytes.data(), 0, bytes.size());
  ASSERT_EQ(pieces.size(), 1u);
  EXPECT_EQ(pieces[0].bytes, bytes.size());
}

}  // namespace
}  // namespace berth
