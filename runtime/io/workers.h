// Threads that work through numbered jobs together, stop at the first failure, and are always
// joined.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>

#include "berth/load.h"

namespace berth {

// Counts what is done and tells the caller's thread a few times a second; cancels.
struct WorkControl {
  const std::atomic<bool>* cancel = nullptr;
  std::function<void(const LoadProgress&)> on_progress;
  std::uint64_t bytes_total = 0;
  std::atomic<std::uint64_t> bytes_done = 0;
  std::function<double()> elapsed;  // seconds since the load began
};

// Runs job(thread, 0) ... job(thread, count - 1), in order of their start, on up to `threads`
// threads, which are numbered from 0. The calling thread waits and reports progress. Rethrows the
// first exception of a job, or of on_progress, after every thread has ended; throws Interrupted
// when control.cancel becomes true.
void run_workers(std::size_t count, std::size_t threads, WorkControl& control,
                 const std::function<void(std::size_t thread, std::size_t i)>& job);

}  // namespace berth
