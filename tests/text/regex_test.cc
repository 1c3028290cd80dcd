// Regular expressions of tokenizer.json: what they match, and that no pattern takes for ever.

#include "runtime/text/regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simdjson.h>

#include "berth/error.h"
#include "runtime/text/code_points.h"
#include "tests/instance_share.h"

namespace berth {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// The matches in `text`, each in brackets.
std::string marked(const std::string& pattern, const std::string& text) {
  std::string marked;
  for (const Stretch& stretch : Regex(pattern).find_all(text)) {
    const std::string part = text.substr(stretch.begin, stretch.end - stretch.begin);
    marked += stretch.match ? "[" + part + "]" : part;
  }
  return marked;
}

std::string error_of(const std::string& pattern, const std::string& text = "") {
  try {
    Regex(pattern).find_all(text);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Regex, FindsAllMatchesFromLeftToRight) {
  EXPECT_EQ(marked("a|b+", "xabbay"), "x[a][bb][a]y");
  EXPECT_EQ(marked("é", "aéa"), "a[é]a");
  EXPECT_EQ(marked("x*", "axb"), "[]a[x]b[]");  // no empty match right behind another
  EXPECT_EQ(marked("", "é1"), "[]é[]1[]");
  EXPECT_EQ(marked("(?<=\\d)", "1a2"), "1[]a2[]");
  EXPECT_EQ(marked("a\\Kb", "ab"), "a[b]");
  EXPECT_EQ(marked("^.|.$", "ab\ncd"), "[a][b]\n[c][d]");  // at every line
  EXPECT_EQ(marked("\\p{N}{1,3}+", "12345"), "[12345]");   // greedy, not possessive
  EXPECT_EQ(marked("(?i)ꟊ|ƛ", "ꟊƛ\uA7DC"), "[ꟊ][ƛ][\uA7DC]");
  EXPECT_EQ(marked("a", ""), "");
}

// Every code point against the reference: how many runs a class has, and a digest of
// where they begin and end.
TEST(Regex, HasTheClassesOfTheReference) {
  std::string all;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c == 0xD800) c = 0xE000;
    append_code_point(all, c);
  }
  simdjson::dom::parser parser;
  const simdjson::dom::element file =
      parser.load(std::string(BERTH_SOURCE_DIR) + "/tests/text/data/classes.goldens.json");
  std::size_t classes = 0;
  for (const simdjson::dom::element golden : file["classes"].get_array()) {
    if (classes++ % kInstanceShare != 0) continue;
    const std::string pattern{std::string_view(golden["pattern"])};
    std::uint64_t runs = 0;
    std::uint64_t digest = 0xCBF29CE484222325;
    for (const Stretch& stretch : Regex("(?:" + pattern + ")+").find_all(all)) {
      if (!stretch.match) continue;
      ++runs;
      std::size_t first = stretch.begin;
      std::size_t last = stretch.end;
      for (const char32_t c : {next_code_point(all, first), previous_code_point(all, last)}) {
        for (int shift = 0; shift < 32; shift += 8) {
          digest = (digest ^ (c >> shift & 0xFF)) * 0x100000001B3;
        }
      }
    }
    EXPECT_EQ(runs, std::uint64_t(golden["runs"])) << pattern;
    EXPECT_EQ(digest, std::stoull(std::string(std::string_view(golden["digest"])), nullptr, 16))
        << pattern;
  }
  EXPECT_GT(classes, 30u);
}

TEST(Regex, RefusesWhatMayDifferFromTheReferenceNamingIt) {
  EXPECT_THAT(error_of("a\\X"), HasSubstr("regular expression 'a\\X': '\\X' at offset 1"));
  EXPECT_THAT(error_of("'\n\\X"), HasSubstr("regular expression '\\x27\\x0a\\X'"))
      << "one line, and no quotes but those around it";
  EXPECT_THAT(error_of("\\Ga"), HasSubstr("'\\G' at offset 0 is not supported"));
  EXPECT_EQ(error_of("\\\\G"), "no error");
  EXPECT_THAT(error_of("(?L)a|ab"), HasSubstr("the flag 'L' is not supported"));
  EXPECT_THAT(error_of("\\p{In_No_Block}"), HasSubstr("is not understood"));
  EXPECT_THAT(error_of("\\p{Garay}"), HasSubstr("is not understood (invalid character property"));
  EXPECT_THAT(error_of("a\\"), HasSubstr("is not understood"));
}

TEST(Regex, TakesALongTextWithoutAMatch) {
  const std::string text(2'000'000, 'a');
  EXPECT_EQ(Regex("[0-9]{3}").find_all(text).size(), 1u);
  EXPECT_EQ(Regex("\\s+(?!\\S)|\\s+").find_all(std::string(2'000'000, ' ')).size(), 1u);
  EXPECT_EQ(Regex("(?:a|b)++").find_all(text).size(), 1u);
}

// If a search goes back too often, positions are tried one by one, which gives the same result.
TEST(Regex, FindsWhatComesAfterMuchThatFails) {
  std::string text;
  for (int i = 0; i < 500; ++i) text += std::string(200, 'x') + "-";
  text += std::string(200, 'x') + "y";
  const auto stretches = Regex("x+y|z").find_all(text + text);
  ASSERT_EQ(stretches.size(), 4u);
  EXPECT_EQ(stretches[1].end, text.size());
  EXPECT_EQ(stretches[1].end - stretches[1].begin, 201u);
  EXPECT_EQ(stretches[3].end, 2 * text.size());
}

TEST(Regex, IsAnErrorNamingThePatternWhereItGoesBackTooOften) {
  EXPECT_THAT(error_of("(a+)+b|c", std::string(64, 'a') + "c"),
              AllOf(HasSubstr("regular expression '(a+)+b|c' cannot be matched"),
                    HasSubstr("retry-limit-in-match over")));
  EXPECT_THAT(error_of("(?<x>a\\g<x>?|a)+$", std::string(1'000'000, 'a') + "b"),
              HasSubstr("cannot be matched"));
}

TEST(Regex, IsAnErrorWhereItIsTooDeepOrTooLong) {
  for (const std::size_t depth : {5'000u, 30'000u}) {
    EXPECT_THAT(error_of(std::string(depth, '(') + std::string(depth, ')')),
                HasSubstr("is not understood"));
  }
  EXPECT_EQ(error_of(std::string(1'500, '(') + std::string(1'500, ')')), "no error");
  EXPECT_THAT(error_of(std::string(100'000, 'a')), HasSubstr("of 100000 bytes is not supported"));
}

}  // namespace
}  // namespace berth
