// How regular expressions from files are compiled: matched in polynomial time, so that no pattern
// can hold up a plan. That leaves out back-references.
#pragma once

#include <cstddef>
#include <regex>

namespace berth {

#ifdef __GLIBCXX__
inline constexpr auto kSafeRegex = std::regex::ECMAScript | std::regex_constants::__polynomial;
#else
inline constexpr auto kSafeRegex = std::regex::ECMAScript;
#endif

// Characters of the longest pattern that is compiled: compiling recurses.
inline constexpr std::size_t kLongestRegex = 1024;

}  // namespace berth
