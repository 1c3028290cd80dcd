// Threads that work through numbered jobs together. They stop at the first failure, and they are
// joined on every way out.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>

#include "berth/load.h"

namespace berth {

// What a caller and its workers share: how to cancel the work, and how far it has come. Jobs add to
// bytes_done, from any thread; the rest is set before the work begins.
struct WorkControl {
  const std::atomic<bool>* cancel = nullptr;  // true: stop; null: cannot be cancelled
  // Called on the caller's thread five times a second, and once at the end. May be empty.
  std::function<void(const LoadProgress&)> on_progress;
  std::uint64_t bytes_total = 0;
  std::atomic<std::uint64_t> bytes_done = 0;
  std::function<double()> elapsed;  // seconds since the load began
};

// Runs job(thread, 0) to job(thread, count - 1) on up to `threads` threads, which are numbered from
// 0. Jobs are begun in the order of their numbers. The calling thread waits and reports progress.
// When a job or on_progress throws, no further job is begun, and the first exception is rethrown
// after every thread has ended. A control.cancel that becomes true counts as a job that throws
// Interrupted. Throws Error where not one thread can be started.
void run_workers(std::size_t count, std::size_t threads, WorkControl& control,
                 const std::function<void(std::size_t thread, std::size_t i)>& job);

}  // namespace berth
