// The words of CUDA that the project's kernels use, emulated on the host. The threads of a group
// are fibers of one thread of the host: each runs until it waits for others, and then the next goes
// on. Groups run one after another. To be included before a header with kernels.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#define __global__
#define __device__
#define __shared__ static  // groups run one after another, so one copy is enough
#define __launch_bounds__(threads)
#define threadIdx (::berth::simt::here().thread)
#define blockIdx (::berth::simt::here().block)
#define gridDim (::berth::simt::here().grid)

#ifndef __has_feature  // clang has it
#define __has_feature(feature) 0
#endif

namespace berth::simt {

// Whether a sanitizer watches that takes the change from one fiber's stack to another's for a
// fault.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

constexpr unsigned kLanes = 32;

// Fibers that wait until `size` of them have come.
struct Barrier {
  unsigned size = 0;
  unsigned came = 0;
  unsigned round = 0;
};

// 32 threads that exchange words. There are two sets of words, used by turns: while some threads
// still read one, others may write the other.
struct Warp {
  Barrier barrier{kLanes};
  std::uint32_t words[2][kLanes] = {};
};

struct Dimension {
  unsigned x = 0;
};

// A thread of the device, and what it knows of itself.
struct Fiber {
  Dimension thread, block, grid;
  Warp* warp = nullptr;
  Barrier* group = nullptr;
  unsigned turn = 0;
  bool done = false;
  ucontext_t context = {};
  std::unique_ptr<char[]> stack;
};

struct Scheduler {
  Fiber* running = nullptr;
  ucontext_t context = {};
  const std::function<void()>* kernel = nullptr;
};
inline Scheduler& scheduler() {
  static Scheduler one;
  return one;
}
inline Fiber& here() { return *scheduler().running; }

inline void wait_at(Barrier& barrier) {
  const unsigned round = barrier.round;
  if (++barrier.came == barrier.size) {
    barrier.came = 0;
    ++barrier.round;
  }
  while (barrier.round == round) swapcontext(&here().context, &scheduler().context);
}

// The words that all lanes of the warp gave.
inline const std::uint32_t* exchange(std::uint32_t word) {
  Fiber& own = here();
  std::uint32_t* const words = own.warp->words[own.turn % 2];
  ++own.turn;
  words[own.thread.x % kLanes] = word;
  wait_at(own.warp->barrier);
  return words;
}

inline void run_fiber() {
  (*scheduler().kernel)();
  here().done = true;  // and back to the scheduler, by uc_link
}

// Runs `kernel` with `groups` groups of `threads` threads, a multiple of 32.
inline void run(unsigned groups, unsigned threads, const std::function<void()>& kernel) {
  constexpr std::size_t kStackBytes = 256u << 10;
  scheduler().kernel = &kernel;
  std::vector<Fiber> fibers(threads);
  for (Fiber& fiber : fibers) fiber.stack = std::make_unique<char[]>(kStackBytes);
  for (unsigned block = 0; block < groups; ++block) {
    std::vector<Warp> warps(threads / kLanes);
    Barrier group{threads};
    for (unsigned i = 0; i < threads; ++i) {
      Fiber& fiber = fibers[i];
      fiber.thread.x = i;
      fiber.block.x = block;
      fiber.grid.x = groups;
      fiber.warp = &warps[i / kLanes];
      fiber.group = &group;
      fiber.turn = 0;
      fiber.done = false;
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = kStackBytes;
      fiber.context.uc_link = &scheduler().context;
      makecontext(&fiber.context, run_fiber, 0);
    }
    for (bool more = true; more;) {
      more = false;
      for (Fiber& fiber : fibers) {
        if (fiber.done) continue;
        scheduler().running = &fiber;
        swapcontext(&scheduler().context, &fiber.context);
        more |= !fiber.done;
      }
    }
  }
}

}  // namespace berth::simt

inline void __syncthreads() { ::berth::simt::wait_at(*::berth::simt::here().group); }

inline float __shfl_xor_sync(unsigned, float value, int offset) {
  std::uint32_t word;
  std::memcpy(&word, &value, sizeof word);
  const unsigned lane = ::berth::simt::here().thread.x % ::berth::simt::kLanes;
  word = ::berth::simt::exchange(word)[lane ^ static_cast<unsigned>(offset)];
  std::memcpy(&value, &word, sizeof value);
  return value;
}

inline std::uint32_t __reduce_max_sync(unsigned, std::uint32_t value) {
  const std::uint32_t* words = ::berth::simt::exchange(value);
  for (unsigned i = 0; i < ::berth::simt::kLanes; ++i) value = words[i] > value ? words[i] : value;
  return value;
}

inline int __reduce_add_sync(unsigned, int value) {
  const std::uint32_t* words = ::berth::simt::exchange(static_cast<std::uint32_t>(value));
  std::uint32_t sum = 0;
  for (unsigned i = 0; i < ::berth::simt::kLanes; ++i) sum += words[i];
  return static_cast<int>(sum);
}
