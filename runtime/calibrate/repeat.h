// Repeats a measurement within a given time.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <vector>

#include "berth/error.h"

namespace berth {

// A clock: seconds since some moment. It never goes back.
using SecondsClock = std::function<double()>;
// The clock of std::chrono::steady_clock.
double steady_seconds();

struct Repeat {
  double seconds = 1;                         // to spend, with the warm-up
  std::size_t most = 15;                      // passes besides the warm-up, at most
  const std::atomic<bool>* cancel = nullptr;  // looked at before every pass
  SecondsClock clock = steady_seconds;
};

// Runs `pass`, which returns what it measured, once to warm up, and then again until the time is
// spent or there are `most` results. A pass is not begun if it would end too late, should it take
// as long as the longest one so far. Returns the results in order; where there was no time for any,
// that of the warm-up, so there is always one. Throws Interrupted when cancelled, and what `pass`
// throws.
std::vector<double> repeat(const Repeat& repeat, const std::function<double()>& pass);

// Throws Interrupted where `cancel` is not null and set.
void check_cancelled(const std::atomic<bool>* cancel);

// The middle value, or the mean of the two in the middle. `values` must not be empty.
double median(std::vector<double> values);

}  // namespace berth
