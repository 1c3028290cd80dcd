// Ctrl-C as a flag that the loader and the executor look at.
#pragma once

#include <atomic>

namespace berth {

// While it lives, the first SIGINT or SIGTERM sets the flag, and the second ends the process.
// One at a time.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  const std::atomic<bool>* flag() const;
};

}  // namespace berth
