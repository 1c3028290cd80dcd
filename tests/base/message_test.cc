// What messages are put together with: lists and positions.
#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "berth/error.h"
#include "planner/base/join.h"
#include "planner/base/position.h"
#include "planner/base/yaml.h"
#include "tests/error_of.h"

namespace berth {
namespace {

TEST(Join, PutsTheSeparatorBetweenAndNowhereElse) {
  EXPECT_EQ(join(std::vector<std::string>{}, ", "), "");
  EXPECT_EQ(join(std::vector<std::string>{"a"}, ", "), "a");
  EXPECT_EQ(join(std::vector<std::string_view>{"a", "", "c"}, " and "), "a and  and c");
  EXPECT_EQ(join(std::vector<std::string>{"", "b"}, ","), ",b");
}

TEST(Join, InWordsPutsTheWordBeforeTheLast) {
  using Texts = std::vector<std::string_view>;
  EXPECT_EQ(join_in_words(Texts{}, "or"), "");
  EXPECT_EQ(join_in_words(Texts{"a"}, "or"), "a");
  EXPECT_EQ(join_in_words(Texts{"a", "b"}, "and"), "a and b");
  EXPECT_EQ(join_in_words(Texts{"", "b", "c"}, "or"), ", b or c");
  EXPECT_EQ(join_in_words(std::vector<int>{1, 2, 3}, "or", [](int n) { return std::to_string(n); }),
            "1, 2 or 3");
}

TEST(Join, TakesAMemberOrAFunctionOfEach) {
  struct Device {
    std::string name;
    int number;
  };
  const std::vector<Device> devices = {{"cpu", 1}, {"disk", 2}};
  EXPECT_EQ(join(devices, ", ", &Device::name), "cpu, disk");
  EXPECT_EQ(join(devices, "+", [](const Device& d) { return std::to_string(d.number); }), "1+2");
}

TEST(WithPosition, PutsAPositionBeforeAnError) {
  const auto fails = []() -> int { throw Error("is no size"); };
  EXPECT_EQ(testing::error_of([&] { with_position("a.yaml: x", fails); }), "a.yaml: x: is no size");
  const YamlValue value = parse_yaml("a: {b: 1}", "a.yaml");
  const YamlValue field = *YamlMap(*YamlMap(value).get("a")).get("b");
  EXPECT_EQ(testing::error_of([&] { with_position(field, fails); }), "a.yaml:1: a.b: is no size");
  const auto made = [] { return std::string("byte 3"); };
  EXPECT_EQ(testing::error_of([&] { with_position(made, fails); }), "byte 3: is no size");
}

TEST(WithPosition, LeavesAnInterruptionAsItIs) {
  const auto stops = []() -> int { throw Interrupted(); };
  EXPECT_THROW(with_position("a.yaml", stops), Interrupted);
  EXPECT_EQ(testing::error_of([&] { with_position("a.yaml", stops); }), Interrupted().what());
}

TEST(WithPosition, ReturnsWhatComesBackAndLetsOtherExceptionsPass) {
  int number = 3;
  EXPECT_EQ(&with_position("x", [&]() -> int& { return number; }), &number);
  EXPECT_EQ(*with_position("x", [] { return std::make_unique<int>(4); }), 4);
  EXPECT_THROW(with_position("x", [] { throw std::out_of_range("y"); }), std::out_of_range);
}

}  // namespace
}  // namespace berth
