// How much is in flight at once: the sizes of chunks and the number of threads, for loading and for
// checksums alike.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>

#include "berth/error.h"
#include "planner/cost/memory.h"
#include "runtime/load/schedule.h"

namespace berth {

inline constexpr std::uint64_t kLeastStaging = 256u << 10;
inline constexpr std::uint64_t kMostChunk = 4u << 20;
inline constexpr std::uint64_t kLeastChunk = 64u << 10;

// The largest chunk, halving from 4 MiB, of which the budget holds at least eight. Larger ones gain
// nothing on the way to a GPU: each costs 3 us besides its bytes, which take 75.
inline std::uint64_t chunk_for(std::uint64_t staging) {
  std::uint64_t chunk = kMostChunk;
  while (chunk > kLeastChunk && staging / slot_bytes(chunk) < 8) chunk /= 2;
  return chunk;
}

// Enough to keep a disk busy while others copy.
inline constexpr std::size_t kDiskThreads = 8;
// Readers into bounce buffers wait for a core beside those that copy, and so keep fewer in flight.
inline constexpr std::size_t kBouncingThreads = 16;

// For what is in the page cache: it takes some 10 cores to feed a GPU over PCIe 5.
inline constexpr std::size_t kMostThreads = 16;
inline std::size_t reading_threads() {
  return std::clamp<std::size_t>(std::thread::hardware_concurrency(), kDiskThreads, kMostThreads);
}

// Bounce buffers for `readers` threads: one each, and for the first two that copy one to copy out
// of and one that waits.
constexpr std::size_t bounce_buffers(std::size_t readers) { return readers + 4; }
inline constexpr std::size_t kLeastBounceBuffers = 4;  // fewer keep a disk less busy than none
static_assert(bounce_buffers(kBouncingThreads) * slot_bytes(kColdChunk) == kMostBounced);
static_assert(kBouncingThreads >= kMostThreads);

// Out of bounce buffers, at most: a core copies some 5 GB/s to fresh memory.
inline std::size_t copying_threads() {
  constexpr std::size_t kMost = 8;
  return std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, kMost);
}

// Throws Error where `staging` is too small to move anything through.
inline void require_staging(std::uint64_t staging) {
  if (staging >= kLeastStaging) return;
  throw Error("--staging " + std::to_string(staging) + ": at least " +
              std::to_string(kLeastStaging) + " bytes are needed to load anything");
}

}  // namespace berth
