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

// The word that says what is to be done: 20 bits for the next part, 20 for how many there are, and
// the rest for the round.
struct State {
  State(std::uint32_t round_, std::size_t parts_, std::size_t next_)
      : round(round_), parts(parts_), next(next_) {}
  explicit State(std::uint64_t word)
      : round(word >> 40),
        parts(word >> 20 & ThreadTeam::kMostParts),
        next(word & ThreadTeam::kMostParts) {}
  std::uint64_t word() const { return round << 40 | parts << 20 | next; }

  std::uint64_t round;
  std::uint64_t parts;
  std::uint64_t next;
};

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

std::size_t ThreadTeam::parts(std::size_t units, std::size_t least) const {
  constexpr std::size_t kPerThread = 8;
  const std::size_t most = std::min(kMostParts, workers_.empty() ? 1 : kPerThread * size());
  return std::clamp<std::size_t>(units / std::max<std::size_t>(1, least), 1, most);
}

void ThreadTeam::run(std::size_t parts, const Work& work) {
  if (workers_.empty() || parts <= 1) {
    for (std::size_t part = 0; part < parts; ++part) work(part, 0);
    return;
  }
  work_ = &work;
  left_.store(static_cast<std::uint32_t>(parts), std::memory_order_relaxed);
  const std::uint32_t round = round_.load(std::memory_order_relaxed) + 1;
  state_.store(State{round, parts, 0}.word(), std::memory_order_release);
  round_.store(round, std::memory_order_release);
  round_.notify_all();
  take_parts(0);
  for (std::uint32_t left = left_.load(std::memory_order_acquire); left != 0;) {
    left = wait_for_change(left_, left);
  }
}

// A thread that comes late finds either parts of the work that is being done now, or none.
void ThreadTeam::take_parts(std::size_t thread) {
  for (std::uint64_t word = state_.load(std::memory_order_acquire);;) {
    const State state(word);
    if (state.next >= state.parts) return;
    if (!state_.compare_exchange_weak(word, word + 1, std::memory_order_acq_rel,
                                      std::memory_order_acquire)) {
      continue;
    }
    (*work_)(state.next, thread);
    if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) left_.notify_one();
    word = state_.load(std::memory_order_acquire);
  }
}

void ThreadTeam::serve(std::size_t thread) {
  for (std::uint32_t round = 0;;) {
    round = wait_for_change(round_, round);
    if (ended_) return;
    take_parts(thread);
  }
}

}  // namespace berth
