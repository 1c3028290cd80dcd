// Lists in messages and reports: "a, b, c"; "a, b or c".
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

// "a, b or c": the same as a sentence has it, with `word` ("or", "and") before the last.
template <std::ranges::forward_range Range, typename Projection = std::identity>
std::string join_in_words(const Range& items, std::string_view word, Projection projection = {}) {
  std::string out;
  const auto end = std::ranges::end(items);
  for (auto item = std::ranges::begin(items); item != end; ++item) {
    const bool last = std::ranges::next(item) == end;
    if (item != std::ranges::begin(items)) out += last ? " " + std::string(word) + " " : ", ";
    out += std::invoke(projection, *item);
  }
  return out;
}

}  // namespace berth
