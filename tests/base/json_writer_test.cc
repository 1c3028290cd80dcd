#include "planner/base/json_writer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

namespace berth {
namespace {

TEST(JsonWriter, WritesNestedObjectsAndArraysWithCommasBetween) {
  JsonWriter json;
  json.begin_object().member("a", 1).key("b").begin_array().value("x").value(true).null();
  json.end_array().key("c").begin_object().end_object().key("d").begin_array().end_array();
  json.end_object();
  EXPECT_EQ(json.take(),
            "{\n"
            "  \"a\": 1,\n"
            "  \"b\": [\n"
            "    \"x\",\n"
            "    true,\n"
            "    null\n"
            "  ],\n"
            "  \"c\": {},\n"
            "  \"d\": []\n"
            "}\n");
}

TEST(JsonWriter, EscapesWhatJsonDoesNotAllowInText) {
  EXPECT_EQ(json_quote("a\"b\\c\n\r\t\x01/"), "\"a\\\"b\\\\c\\n\\r\\t\\u0001/\"");
}

TEST(JsonWriter, KeepsUtf8AndReplacesWhatIsNot) {
  EXPECT_EQ(json_quote("gr\u00fc\u00df \U0001F600"), "\"gr\u00fc\u00df \U0001F600\"");
  EXPECT_EQ(json_quote("a\xFFz"), "\"a\uFFFDz\"");
  EXPECT_EQ(json_quote("\xC0\xAF"), "\"\uFFFD\uFFFD\"");                      // overlong
  EXPECT_EQ(json_quote("\xED\xA0\x80"), "\"\uFFFD\uFFFD\uFFFD\"");            // surrogate
  EXPECT_EQ(json_quote("\xE2\x82"), "\"\uFFFD\uFFFD\"");                      // cut short
  EXPECT_EQ(json_quote("\xF4\x90\x80\x80"), "\"\uFFFD\uFFFD\uFFFD\uFFFD\"");  // above U+10FFFF
}

TEST(JsonWriter, IsValidJsonForEveryPairOfBytes) {
  simdjson::dom::parser parser;
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      const std::string text{static_cast<char>(a), static_cast<char>(b)};
      simdjson::dom::element parsed;
      const simdjson::padded_string document(json_quote(text));
      ASSERT_EQ(parser.parse(document).get(parsed), simdjson::SUCCESS) << a << " " << b;
    }
  }
}

TEST(JsonWriter, WritesNumbersThatReadBackAsTheyWere) {
  JsonWriter json;
  json.begin_array();
  json.value(std::numeric_limits<std::uint64_t>::max()).value(std::int64_t{-5}).value(0.1);
  json.value(1e300).value(std::numeric_limits<double>::infinity());
  json.value(std::numeric_limits<double>::quiet_NaN()).end_array();
  EXPECT_EQ(json.take(),
            "[\n  18446744073709551615,\n  -5,\n  0.1,\n  1e+300,\n  null,\n  null\n]\n");
}

// fmt wrote these numbers once; they are part of what scripts compare.
TEST(JsonWriter, WritesDoublesAsFmtDoes) {
  const auto written = [](double number) {
    JsonWriter json;
    return json.value(number).take_value();
  };
  for (const double number : {0.0, -0.0, 1.0, 100000.0, 123456789.0, 1e15, 9007199254740993.0,
                              9999999999999998.0, 1e16, 1.5e16, 1e-4, 0.00012, 9.9e-5, 5e-324}) {
    EXPECT_EQ(written(number), fmt::format("{}", number));
  }
  std::mt19937_64 random(1);
  for (int i = 0; i < 20'000; ++i) {
    const auto any = std::bit_cast<double>(random());
    if (std::isfinite(any)) {
      ASSERT_EQ(written(any), fmt::format("{}", any));
    }
    const double usual = std::ldexp(static_cast<double>(random() >> 11), i % 120 - 80);
    ASSERT_EQ(written(usual), fmt::format("{}", usual));
  }
}

TEST(JsonWriter, KeepsFloatsFloats) {
  JsonWriter json;
  json.begin_array().real(10000.0F).real(-30.0F).real(1e-5F).real(1e6F).real(0.1F).end_array();
  EXPECT_EQ(json.take_value(), "[\n  10000.0,\n  -30.0,\n  1e-05,\n  1e+06,\n  0.1\n]");
}

TEST(JsonWriter, WritesOneLineAndNoWhiteSpace) {
  const auto written = [](JsonForm form) {
    JsonWriter json(form);
    json.begin_object().member("a", 1).key("b").begin_array().value("x").value(2).end_array();
    json.key("c").json("[null]").key("d").begin_object().end_object().end_object();
    return json.take_value();
  };
  EXPECT_EQ(written(JsonForm::kOneLine), R"({"a": 1, "b": ["x", 2], "c": [null], "d": {}})");
  EXPECT_EQ(written(JsonForm::kCompact), R"({"a":1,"b":["x",2],"c":[null],"d":{}})");
}

TEST(JsonWriter, EscapesTextAsAsked) {
  const std::string text = "\"\\\b\t\n\f\r\x01\x7f\xff";
  EXPECT_EQ(json_quote(text, JsonEscapes::kRepair),
            "\"\\\"\\\\\\u0008\\t\\n\\u000c\\r\\u0001\\u007f\uFFFD\"");
  EXPECT_EQ(json_quote(text, JsonEscapes::kPlain),
            "\"\\\"\\\\\\u0008\\u0009\\u000a\\u000c\\u000d\\u0001\x7f\xff\"");
  EXPECT_EQ(json_quote(text, JsonEscapes::kShort), "\"\\\"\\\\\\b\\t\\n\\f\\r\\u0001\x7f\xff\"");
}

TEST(JsonWriter, WritesGpusAsNumbersAndOtherDevicesAsText) {
  JsonWriter json;
  json.begin_array().device("0").device("12").device("cpu").device("").end_array();
  EXPECT_EQ(json.take(), "[\n  0,\n  12,\n  \"cpu\",\n  \"\"\n]\n");
}

}  // namespace
}  // namespace berth
