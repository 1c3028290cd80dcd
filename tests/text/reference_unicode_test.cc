// Unicode as Hugging Face tokenizers 0.23 has it; the figures are what it gave for every code
// point.

#include "runtime/text/reference_unicode.h"

#include <gtest/gtest.h>

#include <functional>

namespace berth {
namespace {

int count(const std::function<bool(char32_t)>& is) {
  int members = 0;
  for (char32_t c = 0; c < 0x110000; ++c) members += is(c) ? 1 : 0;
  return members;
}

TEST(ReferenceUnicode, KnowsTheCharactersOfTheReference) {
  EXPECT_EQ(count(is_white_space), 25);
  EXPECT_EQ(count(is_word), 144'667);   // Unicode 16.0
  EXPECT_EQ(count(is_numeric), 1'924);  // Unicode 17.0
  EXPECT_TRUE(is_numeric(U'\U00011DE0') && is_numeric(U'\U00016FF6') && is_numeric(U'½'));
  EXPECT_TRUE(is_word(U'\u0897') && is_word(U'\u200D') && !is_word(U'²') && !is_word(0x11DE0));
}

TEST(ReferenceUnicode, LowersEachCharacterByItself) {
  EXPECT_EQ(lowercase("ABC ÀÉ ΣΑΣ ǅ ß"), "abc àé σασ ǆ ß");
  EXPECT_EQ(lowercase("\u0130"), "i\u0307");
  EXPECT_EQ(lowercase("\uA7DC\uA7CB\u1C89\U00010D50"), "\u019B\u0264\u1C8A\U00010D70");  // 16.0
  EXPECT_EQ(lowercase("\uA7CE\uA7D2\U00016EA0\U00016EB8"),
            "\uA7CF\uA7D3\U00016EBB\U00016ED3");  // 17.0
}

TEST(ReferenceUnicode, NormalizesWhatUnicode9Knows) {
  EXPECT_EQ(normalize(NormalForm::kNfc, "e\u0301 \u1100\u1161"), "é 가");
  EXPECT_EQ(normalize(NormalForm::kNfd, "é"), "e\u0301");
  EXPECT_EQ(normalize(NormalForm::kNfkc, "ﬁ①\u32FF\U0001F16C"), "fi1\u32FF\U0001F16C");
  EXPECT_EQ(normalize(NormalForm::kNfd, "\U00011938"), "\U00011938");
  EXPECT_EQ(normalize(NormalForm::kNfd, "a\u0301\u0316"), "a\u0316\u0301");
  // U+1DF6 is a mark that came with Unicode 10: it is not moved, and no other mark moves past it.
  EXPECT_EQ(normalize(NormalForm::kNfd, "a\u0301\u1DF6\u0316"), "a\u0301\u1DF6\u0316");
}

TEST(ReferenceUnicode, SkipsWhiteSpaceBothWays) {
  const std::string text = "a \u2003\t";
  EXPECT_EQ(skip_white_space(text, 1), text.size());
  EXPECT_EQ(skip_white_space(text, 0), 0u);
  EXPECT_EQ(skip_white_space_back(text, text.size()), 1u);
  EXPECT_EQ(skip_white_space_back(text, 1), 1u);
}

}  // namespace
}  // namespace berth
