#include "planner/model/template/expression.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>

#include "berth/error.h"

namespace berth {
namespace {

using testing::HasSubstr;

class FakeScope : public Scope {
 public:
  ExprValue value_of(std::string_view name) override {
    const auto found = values.find(name);
    return found == values.end() ? ExprValue(Null{std::string(name)}) : found->second;
  }
  const std::vector<ExprValue>* list_of(std::string_view name) override {
    const auto found = lists.find(name);
    return found == lists.end() ? nullptr : &found->second;
  }
  bool has(std::string_view name) override { return values.contains(name) || lists.contains(name); }

  std::map<std::string, ExprValue, std::less<>> values = {
      {"heads", std::int64_t{12}},
      {"size", std::int64_t{768}},
      {"factor", 0.25},
      {"rope.theta", std::int64_t{500}},
      {"on", true},
      {"kind", std::string("full")},
      {"big", std::numeric_limits<std::int64_t>::max()}};
  std::map<std::string, std::vector<ExprValue>, std::less<>> lists = {
      {"types", {std::string("full"), std::string("sliding")}}, {"dense", {std::int64_t{1}}}};
};

std::int64_t integer(const char* text) {
  FakeScope scope;
  return Expression(text).integer(scope);
}
bool boolean(const char* text) {
  FakeScope scope;
  return Expression(text).boolean(scope);
}
std::string error_of(const std::string& text) {
  FakeScope scope;
  try {
    Expression(text).evaluate(scope);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(Expression, BindsAsArithmeticDoes) {
  EXPECT_EQ(integer("2 + 3 * 4 - 6 // 4"), 13);
  EXPECT_EQ(integer("(2 + 3) * 4"), 20);
  EXPECT_EQ(integer("10 - 4 - 3"), 3);
  EXPECT_EQ(integer("-2 * -3"), 6);
  EXPECT_EQ(integer("3 * size"), 2304);
  EXPECT_EQ(integer("rope.theta"), 500);
}

TEST(Expression, DividesDownward) {
  EXPECT_EQ(integer("7 // 2"), 3);
  EXPECT_EQ(integer("-7 // 2"), -4);
  EXPECT_EQ(integer("-7 % 2"), 1);
  EXPECT_EQ(integer("6 / 2"), 3);
  EXPECT_EQ(integer("int(7 / 2)"), 3);
  EXPECT_EQ(integer("isqrt(16)"), 4);
  EXPECT_EQ(integer("isqrt(24)"), 4);
  EXPECT_EQ(integer("isqrt(9223372036854775807)"), 3037000499);
  EXPECT_EQ(integer("int(size * factor)"), 192);
}

TEST(Expression, FallsBackWhereANameIsAbsent) {
  EXPECT_EQ(integer("kv_heads ?? heads"), 12);
  EXPECT_EQ(integer("kv_heads ?? groups ?? size // heads"), 64);
  EXPECT_TRUE(boolean("kv_heads == null"));
  EXPECT_TRUE(boolean("(flag ?? false) == false"));
  EXPECT_EQ(integer("absent[0] ?? 5"), 5);
}

TEST(Expression, Decides) {
  EXPECT_EQ(integer("1 if on else 2"), 1);
  EXPECT_EQ(integer("1 if heads > 12 else 2 if heads == 12 else 3"), 2);
  EXPECT_TRUE(boolean("not on or heads != 3 and size >= 768"));
  EXPECT_TRUE(boolean("kind == 'full' and types[1] == 'sliding'"));
  EXPECT_TRUE(boolean("2 == 2.0"));
  EXPECT_FALSE(boolean("kind == 1"));
  // Only the side that is needed is computed.
  EXPECT_EQ(integer("1 if on else 1 // 0"), 1);
  EXPECT_TRUE(boolean("on or 1 // 0 == 1"));
}

TEST(Expression, KnowsItsFunctions) {
  EXPECT_EQ(integer("min(heads, 3) + max(heads, 3)"), 15);
  EXPECT_EQ(integer("len(types) + len(absent)"), 2);
  EXPECT_TRUE(boolean("contains(dense, 1)"));
  EXPECT_FALSE(boolean("contains(dense, 2)"));
  EXPECT_FALSE(boolean("contains(absent, 2)"));
  EXPECT_EQ(integer("order + 1 if false else 4"), 4);  // "or" inside a name is not an operator
}

TEST(Expression, TakesAStringApartByItsLetters) {
  FakeScope scope;
  EXPECT_EQ(Expression("kind[1]").evaluate(scope), ExprValue(std::string("u")));
  EXPECT_EQ(integer("len(kind)"), 4);
  EXPECT_TRUE(boolean("contains(kind, 'l') and not contains(kind, 'x')"));
  EXPECT_THAT(error_of("kind[4]"), HasSubstr("kind has 4 elements, number 4 is asked for"));
  EXPECT_TRUE(boolean("heads[0] == null and len(heads) == 0"));
}

TEST(Expression, TellsAnAbsentListFromAnEmptyOne) {
  FakeScope scope;
  scope.lists["none"] = {};
  EXPECT_TRUE(Expression("has(none) and has(types) and has(kind) and not has(no)").boolean(scope));
}

TEST(Expression, RefusesAWordThatIsNoneOfTheKnown) {
  EXPECT_TRUE(boolean("one_of(kind, 'half|full') == 'full'"));
  EXPECT_EQ(error_of("one_of(no ?? kind, 'half|fuller')"), "kind: 'full' is none of half, fuller");
  EXPECT_THAT(error_of("one_of(no, 'a')"), HasSubstr("no is missing"));
  EXPECT_THAT(error_of("one_of(size, 'a')"), HasSubstr("a value is not a string"));
  EXPECT_THAT(error_of("one_of(kind, size)"), HasSubstr("one_of wants a string of words"));
}

TEST(Expression, NamesWhatIsMissing) {
  EXPECT_EQ(error_of("2 * width"), "width is missing in '2 * width'");
  EXPECT_EQ(error_of("types[2]"), "types has 2 elements, number 2 is asked for in 'types[2]'");
}

TEST(Expression, RefusesToOverflow) {
  EXPECT_THAT(error_of("big + 1"), HasSubstr("overflows"));
  EXPECT_THAT(error_of("big * 2"), HasSubstr("overflows"));
  EXPECT_THAT(error_of("-big - 2"), HasSubstr("overflows"));
  EXPECT_THAT(error_of("(-big - 1) // -1"), HasSubstr("overflows"));
  EXPECT_EQ(integer("(-big - 1) % -1"), 0);
  EXPECT_THAT(error_of("size // 0"), HasSubstr("division by zero"));
  EXPECT_THAT(error_of("size % 0"), HasSubstr("division by zero"));
  EXPECT_THAT(error_of("int(1.0 / 0.0)"), HasSubstr("division by zero"));
  EXPECT_THAT(error_of("isqrt(0 - 1)"), HasSubstr("not a whole number"));
}

TEST(Expression, RefusesOtherTypes) {
  EXPECT_THAT(error_of("kind + 1"), HasSubstr("not a number"));
  EXPECT_THAT(error_of("1 if heads else 2"), HasSubstr("not true or false"));
  FakeScope scope;
  EXPECT_THROW(Expression("factor").integer(scope), Error);
}

TEST(Expression, RefusesBadSyntax) {
  for (const char* text : {"", "1 +", "(1", "1)", "a b", "'open", "f(1)", "1 if 2", "a[1", "min(1)",
                           "3x", ".a", "1 == 2 == 3", "$"}) {
    EXPECT_THROW(Expression{text}, Error) << text;
  }
  EXPECT_THAT(error_of(std::string(400, '(')), HasSubstr("nested too deeply"));
  EXPECT_THAT(error_of(std::string(400, '-') + "1"), HasSubstr("nested too deeply"));
  EXPECT_THAT(error_of(std::string(2000, '1')), HasSubstr("too long"));
}

}  // namespace
}  // namespace berth
