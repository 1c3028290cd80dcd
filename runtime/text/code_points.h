// Going through well-formed UTF-8 character by character.
#pragma once

#include <unicode/utf8.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace berth {

// The character at `at`, which moves behind it. `at` < text.size().
inline char32_t next_code_point(std::string_view text, std::size_t& at) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
  UChar32 c = 0;
  U8_NEXT_UNSAFE(bytes, at, c);
  return static_cast<char32_t>(c);
}

// The character that ends at `at`, which moves to its begin. `at` > 0.
inline char32_t previous_code_point(std::string_view text, std::size_t& at) {
  U8_BACK_1_UNSAFE(text.data(), at);
  std::size_t begin = at;
  return next_code_point(text, begin);
}

inline void append_code_point(std::string& text, char32_t c) {
  std::uint8_t bytes[U8_MAX_LENGTH] = {};
  std::size_t length = 0;
  U8_APPEND_UNSAFE(bytes, length, c);
  text.append(reinterpret_cast<const char*>(bytes), length);
}

}  // namespace berth
