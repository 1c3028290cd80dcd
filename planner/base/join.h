// Lists in messages and reports: "a, b, c".
#pragma once

#include <functional>
#include <ranges>
#include <string>
#include <string_view>
#include <utility>

namespace berth {

// The texts of `items`, or what `projection` makes of each, with `separator` between them.
template <std::ranges::input_range Range, typename Projection = std::identity>
std::string join(const Range& items, std::string_view separator, Projection projection = {}) {
  std::string out;
  bool first = true;
  for (const auto& item : items) {
    if (!std::exchange(first, false)) out += separator;
    out += std::invoke(projection, item);
  }
  return out;
}

}  // namespace berth
