// Patterns of module names: Python's, matched from the start, and none that takes for ever.

#include "planner/base/name_pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "berth/error.h"

namespace berth {
namespace {

bool matches(std::string_view regex, std::string_view name) {
  const auto pattern = NamePattern::compile(regex);
  if (!pattern) throw Error("no regular expression");
  return pattern->matches_start(name);
}

TEST(NamePattern, MatchesFromTheStartOnly) {
  EXPECT_TRUE(matches("model\\.(a|b)", "model.b.weight"));
  EXPECT_FALSE(matches("odel", "model"));
  EXPECT_TRUE(matches(".*_proj$", "a.q_proj"));
  EXPECT_FALSE(matches(".*_proj$", "a.q_proj.weight"));
  EXPECT_TRUE(matches("(?P<layer>\\d+)\\.", "12.mlp"));
  EXPECT_TRUE(matches("(?i)MODEL", "model"));
}

// What RE2 leaves out.
TEST(NamePattern, LooksAheadAndBehindAsPythonDoes) {
  EXPECT_TRUE(matches("(?!.*lm_head).*", "model.layers.0"));
  EXPECT_FALSE(matches("(?!.*lm_head).*", "model.lm_head"));
  EXPECT_TRUE(matches("^(?!.*(?:q_proj|k_proj)).*$", "a.v_proj"));
  EXPECT_FALSE(matches("^(?!.*(?:q_proj|k_proj)).*$", "a.k_proj"));
  EXPECT_TRUE(matches(".*(?<!gate)_proj$", "mlp.up_proj"));
  EXPECT_FALSE(matches(".*(?<!gate)_proj$", "mlp.gate_proj"));
  EXPECT_TRUE(matches("layers\\.(\\d)\\1\\.", "layers.11.mlp"));
  EXPECT_FALSE(matches("layers\\.(\\d)\\1\\.", "layers.12.mlp"));
}

TEST(NamePattern, IsNoneWherePythonHasNone) {
  for (const char* regex : {"(", ")", "[", "*lm_head", "+", "a(?", "\\", "(?P<n", "x)("}) {
    EXPECT_FALSE(NamePattern::compile(regex)) << regex;
  }
  EXPECT_TRUE(NamePattern::compile(std::string(1024, 'a')));
  EXPECT_FALSE(NamePattern::compile(std::string(1025, 'a')));
}

TEST(NamePattern, AnswersAtOnceOrIsAnErrorThatNamesIt) {
  const std::string name = "layers." + std::string(200, 'x');
  EXPECT_FALSE(matches("(.*)*(.*)*(x+x+)+y", name));  // RE2: linear
  try {
    matches("(?=(.*)*(x+x+)+y)", name);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                testing::HasSubstr("the pattern '(?=(.*)*(x+x+)+y)' cannot be matched with the "
                                   "name 'layers.xxx"));
  }
}

}  // namespace
}  // namespace berth
