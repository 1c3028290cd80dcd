#include "runtime/calibrate/repeat.h"

#include <algorithm>
#include <chrono>

#include "berth/error.h"

namespace berth {

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void check_cancelled(const std::atomic<bool>* cancel) {
  if (cancel && cancel->load(std::memory_order_relaxed)) throw Interrupted();
}

std::vector<double> repeat(const Repeat& repeat, const std::function<double()>& pass) {
  const double start = repeat.clock();
  double longest = 0, before = start;
  const auto measure = [&] {
    check_cancelled(repeat.cancel);
    const double result = pass();
    const double now = repeat.clock();
    longest = std::max(longest, now - before);
    before = now;
    return result;
  };
  const double warm_up = measure();
  std::vector<double> results;
  while (results.size() < repeat.most && before - start + longest <= repeat.seconds)
    results.push_back(measure());
  if (results.empty()) results.push_back(warm_up);
  return results;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  if (values.size() % 2 == 1) return values[middle];
  return (values[middle - 1] + values[middle]) / 2;
}

}  // namespace berth
