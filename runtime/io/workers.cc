#include "runtime/io/workers.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "berth/error.h"

namespace berth {
namespace {

// Shared by the threads of one run_workers().
struct Shift {
  std::atomic<std::size_t> next = 0;
  std::atomic<bool> stop = false;
  std::mutex mutex;  // guards what follows
  std::condition_variable ended;
  std::size_t running = 0;
  std::exception_ptr failure;

  void fail(std::exception_ptr error) {
    stop = true;
    const std::scoped_lock lock(mutex);
    if (!failure) failure = std::move(error);
  }
};

using Job = std::function<void(std::size_t, std::size_t)>;

void work(Shift& shift, std::size_t thread, std::size_t count, WorkControl& control,
          const Job& job) {
  try {
    while (!shift.stop) {
      const std::size_t i = shift.next.fetch_add(1);
      if (i >= count) break;
      if (control.cancel && control.cancel->load()) throw Interrupted();
      job(thread, i);
    }
  } catch (...) {
    shift.fail(std::current_exception());
  }
  const std::scoped_lock lock(shift.mutex);
  --shift.running;
  shift.ended.notify_all();
}

void report(WorkControl& control) {
  if (!control.on_progress) return;
  control.on_progress(
      {control.bytes_done.load(), control.bytes_total, control.elapsed ? control.elapsed() : 0});
}

// Reports progress until all threads have ended. A callback that throws stops them as a job does.
void wait_and_report(Shift& shift, WorkControl& control) {
  std::unique_lock lock(shift.mutex);
  while (!shift.ended.wait_for(lock, std::chrono::milliseconds(200),
                               [&] { return shift.running == 0; })) {
    lock.unlock();
    try {
      if (!shift.stop) report(control);
    } catch (...) {
      shift.fail(std::current_exception());
    }
    lock.lock();
  }
}

}  // namespace

void run_workers(std::size_t count, std::size_t threads, WorkControl& control, const Job& job) {
  if (count == 0) return;
  Shift shift;
  {
    std::vector<std::jthread> crew;
    try {
      for (std::size_t i = 0; i < std::min(threads, count); ++i) {
        {
          const std::scoped_lock lock(shift.mutex);
          ++shift.running;
        }
        try {
          crew.emplace_back([&, i] { work(shift, i, count, control, job); });
        } catch (...) {
          const std::scoped_lock lock(shift.mutex);
          --shift.running;
          throw;
        }
      }
    } catch (const std::exception& error) {
      // Fewer threads than were asked for do the same work more slowly; without any it stays
      // undone.
      if (crew.empty()) throw Error(std::string("cannot start a thread: ") + error.what());
    }
    wait_and_report(shift, control);
  }
  if (shift.failure) std::rethrow_exception(shift.failure);
  report(control);
}

}  // namespace berth
