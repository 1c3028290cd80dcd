#include "cli/report/table.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace berth {
namespace {

TEST(Table, AlignsNumbersRightAndNamesLeft) {
  Table table({"DEVICE", "WEIGHTS", "LAYERS"});
  table.add({"gpu 0", "22.41", "layers.0-12"});
  table.add({"cpu", "9.00", "-"});
  EXPECT_EQ(table.text(),
            "DEVICE  WEIGHTS  LAYERS\n"
            "gpu 0     22.41  layers.0-12\n"
            "cpu        9.00  -\n");
}

TEST(Table, WrapsTheLastColumnAtItsCommas) {
  Table table({"A", "B", "NAMES"}, 30);
  table.add({"x", "1", "embed_tokens, layers.0-12, norm, lm_head"});
  EXPECT_EQ(table.text(),
            "A  B  NAMES\n"
            "x  1  embed_tokens,\n"
            "      layers.0-12, norm,\n"
            "      lm_head\n");
}

TEST(Hundredths, RoundToNearestWithoutOverflow) {
  EXPECT_EQ(gib_hundredths(0), 0);
  EXPECT_EQ(gib_hundredths(std::uint64_t{1} << 30), 100);
  EXPECT_EQ(gib_hundredths((std::uint64_t{1} << 30) / 200), 0);      // just under half of 0.01
  EXPECT_EQ(gib_hundredths((std::uint64_t{1} << 30) / 200 + 1), 1);  // just over
  EXPECT_EQ(gib_hundredths(~std::uint64_t{0}), 1717986918400);
  EXPECT_EQ(format_hundredths(-1230), "-12.30");
  EXPECT_EQ(format_hundredths(5), "0.05");
}

TEST(Apportion, AddsUpToTheTotalAndIsNeverOffByMoreThanOne) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::uint64_t> parts(1 + random() % 8);
    for (std::uint64_t& part : parts) part = random() % (std::uint64_t{1} << (random() % 42));
    const std::uint64_t sum = std::accumulate(parts.begin(), parts.end(), std::uint64_t{0});
    const std::vector<std::int64_t> shares = apportion(parts, gib_hundredths(sum));
    EXPECT_EQ(std::accumulate(shares.begin(), shares.end(), std::int64_t{0}), gib_hundredths(sum));
    for (std::size_t i = 0; i < parts.size(); ++i) {
      EXPECT_LE(std::abs(shares[i] - gib_hundredths(parts[i])), 1);
      EXPECT_GE(shares[i], 0);
    }
  }
}

}  // namespace
}  // namespace berth
