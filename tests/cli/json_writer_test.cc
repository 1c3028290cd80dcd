#include "planner/base/json_writer.h"

#include <gtest/gtest.h>
#include <simdjson.h>

#include <cstdint>
#include <limits>

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

TEST(JsonWriter, WritesGpusAsNumbersAndOtherDevicesAsText) {
  JsonWriter json;
  json.begin_array().device("0").device("12").device("cpu").device("").end_array();
  EXPECT_EQ(json.take(), "[\n  0,\n  12,\n  \"cpu\",\n  \"\"\n]\n");
}

}  // namespace
}  // namespace berth
