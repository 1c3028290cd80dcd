// Turns Ctrl-C, a SIGTERM and the closing of the terminal into a flag that the loader and the
// executor look at.
#pragma once

#include <atomic>
#include <string>

#include "berth/error.h"

namespace berth {

// While it lives, the first SIGINT, SIGTERM or SIGHUP sets the flag, and a second one ends the
// process, after it has removed what is unfinished. One that is ignored (nohup, background jobs)
// stays ignored. Only one guard may live at a time, because the flag is global.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  const std::atomic<bool>* flag() const;

  // Runs `work`; an Error that it throws after the flag was set comes out as "interrupted: ...",
  // unless it says so itself.
  template <typename Work>
  auto run(Work work) const {
    try {
      return work();
    } catch (const Interrupted&) {
      throw;
    } catch (const Error& error) {
      if (*flag()) throw Error(std::string("interrupted: ") + error.what());
      throw;
    }
  }
};

}  // namespace berth
