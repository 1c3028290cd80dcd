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
}

TEST(WithPosition, ReturnsWhatComesBackAndLetsOtherExceptionsPass) {
  int number = 3;
  EXPECT_EQ(&with_position("x", [&]() -> int& { return number; }), &number);
  EXPECT_EQ(*with_position("x", [] { return std::make_unique<int>(4); }), 4);
  EXPECT_THROW(with_position("x", [] { throw std::out_of_range("y"); }), std::out_of_range);
}

}  // namespace
}  // namespace berth
