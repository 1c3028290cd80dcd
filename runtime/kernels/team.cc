#include "runtime/kernels/team.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <system_error>

namespace berth {
namespace {

constexpr int kSpins = 20'000;  // some 100 us: longer than the gap between two steps of a model

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

// Waits until `value` differs from `old`.
std::uint32_t wait_for_change(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
  for (int spin = 0; spin < kSpins; ++spin) {
    const std::uint32_t now = value.load(std::memory_order_acquire);
    if (now != old) return now;
    pause();
  }
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

std::vector<int> allowed_processors() {
  std::vector<int> allowed;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) allowed.push_back(cpu);
    }
  }
  return allowed;
}

}  // namespace

std::size_t ThreadTeam::processors() {
  const std::size_t allowed = allowed_processors().size();
  return std::max<std::size_t>(1, allowed > 0 ? allowed : std::thread::hardware_concurrency());
}

ThreadTeam::ThreadTeam(std::size_t threads) {
  const std::vector<int> cpus = allowed_processors();
  if (threads == 0) threads = processors();
  for (std::size_t i = 1; i < threads; ++i) {
    try {
      workers_.emplace_back([this, i] { serve(i); });
    } catch (const std::system_error&) {
      break;  // the kernel allows no more: compute with those there are
    }
    if (threads > cpus.size()) continue;  // they have to share
    cpu_set_t own;
    CPU_ZERO(&own);
    CPU_SET(cpus[i], &own);
    pthread_setaffinity_np(workers_.back().native_handle(), sizeof own, &own);
  }
}

ThreadTeam::~ThreadTeam() {
  ended_ = true;
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadTeam::run(const Work& work) {
  if (!workers_.empty()) {
    work_ = &work;
    running_.store(static_cast<std::uint32_t>(workers_.size()), std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
  }
  work(0, size());
  for (std::uint32_t left = running_.load(std::memory_order_acquire); left != 0;) {
    left = wait_for_change(running_, left);
  }
}

void ThreadTeam::serve(std::size_t thread) {
  for (std::uint32_t round = 0;;) {
    round = wait_for_change(round_, round);
    if (ended_) return;
    (*work_)(thread, size());
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
  }
}

}  // namespace berth
