#include "planner/base/quote.h"

#include <gtest/gtest.h>

namespace berth {
namespace {

TEST(Quote, LeavesPlainTextAsItIs) {
  EXPECT_EQ(quote("model.layers.0"), "'model.layers.0'");
  EXPECT_EQ(quote(""), "''");
  EXPECT_EQ(quote("gr\u00fcn"), "'gr\u00fcn'");
}

TEST(Quote, EscapesWhatWouldBreakTheLineOrEndTheQuotes) {
  EXPECT_EQ(quote("a\nb\x1b[31m\x7f"), "'a\\x0ab\\x1b[31m\\x7f'");
  EXPECT_EQ(quote("it's"), "'it\\x27s'");
  EXPECT_EQ(quote(std::string_view("\0", 1)), "'\\x00'");
}

TEST(Quote, LeavesOutTheMiddleOfALongText) {
  const std::string longest(160, 'a');
  EXPECT_EQ(quote(longest), "'" + longest + "'");
  EXPECT_EQ(quote(std::string(100, 'a') + std::string(100, 'b')),
            "'" + std::string(80, 'a') + "..." + std::string(80, 'b') + "'");
  EXPECT_EQ(quote("abcdefg", 4), "'ab...fg'");
}

TEST(Printable, EscapesControlBytesAndCutsToTheLimit) {
  EXPECT_EQ(printable("a\tb'c'"), "a\\x09b'c'");
  EXPECT_EQ(printable("abcdef", 6), "abcdef");
  EXPECT_EQ(printable("abcdefg", 6), "abcdef...");
}

}  // namespace
}  // namespace berth
