#include "planner/base/quote.h"

namespace berth {
namespace {

void append_printable(std::string& out, std::string_view text, bool in_quotes) {
  constexpr char kDigits[] = "0123456789abcdef";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f || (in_quotes && c == '\'')) {
      out += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
    } else {
      out += c;
    }
  }
}

}  // namespace

std::string printable(std::string_view text, std::size_t limit) {
  std::string out;
  append_printable(out, text.substr(0, limit), false);
  if (text.size() > limit) out += "...";
  return out;
}

std::string quote(std::string_view text, std::size_t limit) {
  std::string out = "'";
  if (text.size() <= limit) {
    append_printable(out, text, true);
  } else {
    append_printable(out, text.substr(0, limit / 2), true);
    out += "...";
    append_printable(out, text.substr(text.size() - limit / 2), true);
  }
  return out += '\'';
}

}  // namespace berth
