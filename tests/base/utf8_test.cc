#include "planner/base/utf8.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace berth {
namespace {

std::string encoded(std::uint32_t code) {
  const auto byte = [](std::uint32_t value) { return static_cast<char>(value); };
  if (code < 0x80) return {byte(code)};
  if (code < 0x800) return {byte(0xC0 | code >> 6), byte(0x80 | (code & 63))};
  if (code < 0x10000) {
    return {byte(0xE0 | code >> 12), byte(0x80 | (code >> 6 & 63)), byte(0x80 | (code & 63))};
  }
  return {byte(0xF0 | code >> 18), byte(0x80 | (code >> 12 & 63)), byte(0x80 | (code >> 6 & 63)),
          byte(0x80 | (code & 63))};
}

TEST(Utf8, KnowsEveryCodePointAndRefusesSurrogates) {
  for (std::uint32_t code = 0; code < 0x110800; ++code) {
    const bool surrogate = code >= 0xD800 && code < 0xE000;
    const std::string text = encoded(code);
    const std::size_t wanted = surrogate || code > 0x10FFFF ? 0 : text.size();
    ASSERT_EQ(utf8_length(text + "x"), wanted) << code;
    if (text.size() > 1) {
      ASSERT_EQ(utf8_length(text.substr(0, text.size() - 1)), 0u) << code;
    }
  }
}

TEST(Utf8, RefusesOverlongFormsLoneBytesAndNothing) {
  for (const char* text : {"", "\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF",
                           "\xF5\x80\x80\x80", "\xFF", "\xC3x"}) {
    EXPECT_EQ(utf8_length(text), 0u) << text;
  }
}

TEST(Utf8, FindsTheFirstIllFormedByte) {
  EXPECT_EQ(find_ill_formed_utf8("gr\u00fcn"), std::nullopt);
  EXPECT_EQ(find_ill_formed_utf8("gr\u00fc\xFF\xFE"), 4u);
  EXPECT_EQ(find_ill_formed_utf8("a\xE2\x82"), 1u);
}

}  // namespace
}  // namespace berth
