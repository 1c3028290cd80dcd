#include "planner/base/json_value.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "berth/error.h"
#include "tests/error_of.h"

namespace berth {
namespace {

using ::testing::HasSubstr;

constexpr const char* kText =
    R"({"text": "a", "number": 7, "yes": true, "nothing": null, "list": [1, {"x": -1}],
        "object": {"deep": "b"}})";

TEST(JsonValue, ReadsMembersOfEveryKind) {
  const JsonDocument document(kText, "f.json");
  const JsonValue root = document.root();
  EXPECT_EQ(root.require("text").text(), "a");
  EXPECT_EQ(root.require("number").unsigned_integer(), 7u);
  EXPECT_TRUE(root.flag("yes"));
  EXPECT_TRUE(root.flag("absent", true));
  EXPECT_EQ(root.require("list").list().size(), 2u);
  EXPECT_EQ(root.require("object").require("deep").text(), "b");
  EXPECT_FALSE(root.get("nothing"));
  EXPECT_TRUE(root.has("nothing"));
  EXPECT_FALSE(root.has("absent"));
  EXPECT_EQ(root.find<double>("number"), 7.0);
  EXPECT_EQ(root.find<std::uint64_t>("text"), std::nullopt);
  EXPECT_EQ(root.find<std::uint64_t>("absent"), std::nullopt);
  EXPECT_EQ(root.require("text").find<double>("x"), std::nullopt);
}

TEST(JsonValue, NamesFileAndMemberOfAMistake) {
  const JsonDocument document(kText, "f.json");
  const JsonValue root = document.root();
  const auto error = [](const std::function<void()>& action) { return testing::error_of(action); };
  EXPECT_EQ(error([&] { root.require("absent"); }), "f.json: 'absent' is missing");
  EXPECT_EQ(error([&] { root.require("object").require("x"); }), "f.json: object: 'x' is missing");
  EXPECT_EQ(error([&] { root.require("list").list()[1].require("x").unsigned_integer(); }),
            "f.json: list[1].x: must be a whole number, 0 or more");
  EXPECT_EQ(error([&] { root.require("number").text(); }), "f.json: number: must be a string");
  EXPECT_EQ(error([&] { root.require("text").get("x"); }), "f.json: text: must be an object");
}

TEST(JsonValue, KeepsForeignKeysInOneLine) {
  const JsonDocument document("{\"a\\nb\": {}}", "f.json");
  EXPECT_EQ(testing::error_of([&] { document.root().require("a\nb").text(); }),
            "f.json: a\\x0ab: must be a string");
}

TEST(JsonDocument, RefusesWhatIsNoJson) {
  for (const char* text : {"", "{", "{\"a\": 1} x", "{\"a\": \"\xff\"}"}) {
    EXPECT_THAT(testing::error_of([&] { JsonDocument(text, "f.json"); }),
                HasSubstr("f.json: not valid JSON: "))
        << text;
  }
}

}  // namespace
}  // namespace berth
