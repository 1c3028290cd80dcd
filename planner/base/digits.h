// Names that are numbers, such as those of a list's modules.
#pragma once

#include <string_view>

namespace berth {

inline constexpr std::string_view kDigits = "0123456789";

/// True of one or more decimal digits and nothing else.
constexpr bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of(kDigits) == text.npos;
}

}  // namespace berth
