#include "planner/cost/product_time.h"

#include <algorithm>
#include <iterator>

namespace berth {

namespace {

// The figure for `positions` on the lines through those of `points`, each turned into seconds.
template <class Seconds>
double on_lines(const std::map<std::uint32_t, double>& points, double positions,
                const Seconds& seconds) {
  const double first = seconds(points.begin()->second);
  if (positions <= points.begin()->first || points.size() == 1) return first;
  auto after = std::find_if(points.begin(), points.end(),
                            [&](const auto& point) { return point.first >= positions; });
  if (after == points.end()) --after;
  const auto before = std::prev(after);
  const double from = seconds(before->second);
  const double a_position = (seconds(after->second) - from) / (after->first - before->first);
  return std::max(from + a_position * (positions - before->first), first);
}

}  // namespace

double product_seconds(const std::map<std::uint32_t, double>& rates, double positions) {
  return on_lines(rates, positions, [](double rate) { return 1 / rate; });
}

double start_seconds(const std::map<std::uint32_t, double>& starts, double positions) {
  return starts.empty() ? 0 : on_lines(starts, positions, [](double start) { return start; });
}

}  // namespace berth
