#include "planner/base/near_miss.h"

#include <gtest/gtest.h>

namespace berth {
namespace {

TEST(NearMiss, FindsTheNearestWordOnlyWhereItIsLikelyATypo) {
  const std::vector<std::string> words = {"capacity", "memory_bandwidth", "from", "to", "name"};
  EXPECT_EQ(nearest("capcity", words), "capacity");
  EXPECT_EQ(nearest("Capacity", words), "capacity");
  EXPECT_EQ(nearest("memory-bandwith", words), "memory_bandwidth");
  EXPECT_EQ(nearest("form", words), "from");
  EXPECT_EQ(nearest("kind", words), std::nullopt);
  EXPECT_EQ(nearest("", words), std::nullopt);
  EXPECT_EQ(nearest(std::string(100000, 'a'), words), std::nullopt);
}

}  // namespace
}  // namespace berth
