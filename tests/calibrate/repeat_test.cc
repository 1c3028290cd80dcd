// Repeating a measurement within a given time, by a clock that the tests move.
#include "runtime/calibrate/repeat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "berth/error.h"

namespace berth {
namespace {

using ::testing::ElementsAre;

// Passes that take as long as the list says, and return their own number.
struct Passes {
  explicit Passes(std::vector<double> durations) : lasts(std::move(durations)) {}

  std::vector<double> run(double seconds, std::size_t most) {
    Repeat several;
    several.seconds = seconds;
    several.most = most;
    several.cancel = &cancel;
    several.clock = [this] { return now; };
    return repeat(several, [this] {
      now += lasts[std::min(made, lasts.size() - 1)];
      return static_cast<double>(made++);
    });
  }

  std::vector<double> lasts;
  std::atomic<bool> cancel{false};
  double now = 1000;
  std::size_t made = 0;
};

TEST(Repeating, FillsTheTimeAndNoMore) {
  Passes passes({1});
  EXPECT_THAT(passes.run(4.5, 99), ElementsAre(1, 2, 3)) << "pass 0 warms up";
  EXPECT_DOUBLE_EQ(passes.now, 1004);
}

TEST(Repeating, StopsAtTheMostResultsThatAreWanted) {
  Passes passes({0.001});
  EXPECT_EQ(passes.run(1e9, 7).size(), 7u);
}

TEST(Repeating, BeginsNoPassThatTheLongestSoFarWouldNotLeaveRoomFor) {
  Passes passes({1, 5, 1, 1, 1});
  EXPECT_THAT(passes.run(10, 99), ElementsAre(1)) << "6 of 10 are gone, and a pass may take 5";
}

TEST(Repeating, GivesTheWarmUpWhereTheTimeIsGoneWithIt) {
  EXPECT_THAT(Passes({50}).run(10, 99), ElementsAre(0));
  EXPECT_THAT(Passes({6}).run(10, 99), ElementsAre(0));
  EXPECT_THAT(Passes({1}).run(-5, 99), ElementsAre(0)) << "no time at all";
}

TEST(Repeating, StopsWhenCancelled) {
  Passes passes({1});
  passes.cancel = true;
  EXPECT_THROW(passes.run(10, 99), Error);
  EXPECT_EQ(passes.made, 0u);
}

TEST(Median, IsTheMiddle) {
  EXPECT_EQ(median({3}), 3);
  EXPECT_EQ(median({9, 1, 4}), 4) << "in any order; one pass that was disturbed changes nothing";
  EXPECT_EQ(median({1, 100, 3, 5}), 4);
}

}  // namespace
}  // namespace berth
