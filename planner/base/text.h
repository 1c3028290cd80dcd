// Foreign text inside our own messages: one line, bounded, printable, whatever the bytes were.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace berth {

// `text` with control bytes as \xNN, cut to `limit` bytes (then ending in "...").
inline std::string printable(std::string_view text, std::size_t limit = 80) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (const char c : text.substr(0, limit)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  if (text.size() > limit) out += "...";
  return out;
}

// 'text', printable and in quotes.
inline std::string in_quotes(std::string_view text) {
  std::string out = "'";
  out += printable(text);
  out += '\'';
  return out;
}

}  // namespace berth
