// Measuring the same thing again within a stated time.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <vector>

#include "berth/error.h"

namespace berth {

// Seconds since some moment, never going back.
using SecondsClock = std::function<double()>;
double steady_seconds();

struct Repeat {
  double seconds = 1;                         // to spend, the warm-up included
  std::size_t most = 15;                      // passes
  const std::atomic<bool>* cancel = nullptr;  // looked at before every pass
  SecondsClock clock = steady_seconds;
};

// Runs `pass`, which returns what it measured, once to warm up and then again until the time is
// spent or `most` results are there. A pass that would, by the longest so far, end after the time
// is not begun; where not even one fits, the warm-up's result is the only one. Never empty. Throws
// Error when cancelled, and what `pass` throws.
std::vector<double> repeat(const Repeat& repeat, const std::function<double()>& pass);

// Throws Error where the flag is set.
void check_cancelled(const std::atomic<bool>* cancel);

// The middle one, or the mean of the two in the middle. Not of nothing.
double median(std::vector<double> values);

}  // namespace berth
