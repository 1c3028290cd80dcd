#include "planner/base/quote.h"

namespace berth {
namespace {

constexpr std::size_t kLongest = 160;

void append_printable(std::string& out, std::string_view text) {
  constexpr char kDigits[] = "0123456789abcdef";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f || c == '\'') {
      out += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
    } else {
      out += c;
    }
  }
}

}  // namespace

std::string quote(std::string_view name) {
  std::string out = "'";
  if (name.size() <= kLongest) {
    append_printable(out, name);
  } else {
    append_printable(out, name.substr(0, kLongest / 2));
    out += "...";
    append_printable(out, name.substr(name.size() - kLongest / 2));
  }
  return out += '\'';
}

}  // namespace berth
