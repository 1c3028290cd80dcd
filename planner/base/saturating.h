// Products and sums of sizes that users give. They saturate instead of wrapping around, so that far
// too much stays far too much.
#pragma once

#include <cstdint>
#include <limits>

namespace berth {

inline constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();

constexpr std::uint64_t times(std::uint64_t a, std::uint64_t b) {
  return a != 0 && b > kMost / a ? kMost : a * b;
}

constexpr std::uint64_t plus(std::uint64_t a, std::uint64_t b) {
  return a > kMost - b ? kMost : a + b;
}

}  // namespace berth
