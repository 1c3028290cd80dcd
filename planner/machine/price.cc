#include "planner/machine/price.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <string>
#include <utility>

#include "berth/error.h"
#include "planner/base/quote.h"

namespace berth {
namespace {

constexpr double kMost = 1e6;  // an hour; no machine comes near it

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

bool is_number_part(char c) { return (c >= '0' && c <= '9') || c == '.'; }

std::string currency_of(std::string_view text) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kSigns{
      {{"$", "USD"}, {"€", "EUR"}, {"£", "GBP"}}};
  for (const auto& [sign, code] : kSigns) {
    if (text == sign) return std::string(code);
  }
  std::string code(text);
  for (char& c : code) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return code;
}

// A code of letters, or a sign of at most four bytes beyond ASCII.
bool is_currency(std::string_view text) {
  if (text.empty() || text == "$") return true;
  const auto letter = [](unsigned char c) { return std::isalpha(c) != 0; };
  if (std::ranges::all_of(text, letter)) return text.size() <= 4;
  return text.size() <= 4 && std::ranges::all_of(text, [](unsigned char c) { return c >= 0x80; });
}

}  // namespace

Price parse_price(std::string_view text) {
  const auto fail = [&](const std::string& advice) {
    throw Error(quote(text) + " is not a price (" + advice + ")");
  };
  std::string_view rest = trimmed(text);
  const std::size_t slash = rest.rfind('/');
  const std::string_view unit = slash == rest.npos ? "" : trimmed(rest.substr(slash + 1));
  if (unit != "h" && unit != "hr" && unit != "hour") fail("write what an hour costs: 2.49/h");
  rest = trimmed(rest.substr(0, slash));
  const auto begin = std::ranges::find_if(rest, is_number_part);
  const auto end = std::find_if_not(begin, rest.end(), is_number_part);
  const std::string_view number(begin, end);
  const std::string_view before = trimmed({rest.begin(), begin});
  const std::string_view after = trimmed({end, rest.end()});
  Price price;
  const auto [stop, error] =
      std::from_chars(number.data(), number.data() + number.size(), price.an_hour);
  if (error != std::errc() || stop != number.data() + number.size()) {
    fail("write a number, for example 2.49/h");
  }
  if (!is_currency(before) || !is_currency(after) || (!before.empty() && !after.empty())) {
    fail("write a number with or without one currency: 2.49/h, $2.49/h, 2.49 EUR/h");
  }
  if (price.an_hour > kMost) fail("at most 1000000/h");
  price.currency = currency_of(before.empty() ? after : before);
  return price;
}

}  // namespace berth
