// How much is in flight at once: the sizes of chunks and the numbers of threads, for loading and
// for writing checksums alike. All sizes are in bytes.
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

// The size of chunks for `staging` bytes of staging: 4 MiB, halved until at least eight of them
// fit, but at least 64 KiB. Larger chunks gain nothing on the way to a GPU, where a chunk of 4 MiB
// costs 3 us besides the 75 us that its bytes take.
inline std::uint64_t chunk_for(std::uint64_t staging) {
  std::uint64_t chunk = kMostChunk;
  while (chunk > kLeastChunk && staging / slot_bytes(chunk) < 8) chunk /= 2;
  return chunk;
}

// How many threads read from a disk: enough to keep it busy while some of them copy.
inline constexpr std::size_t kDiskThreads = 8;
// How many threads read into bounce buffers. They are more, because while they wait for a core
// beside the threads that copy, they have no request with the disk.
inline constexpr std::size_t kBouncingThreads = 16;

// How many threads read from the page cache: it takes some 10 cores to feed a GPU over PCIe 5.
inline constexpr std::size_t kMostThreads = 16;
inline std::size_t reading_threads() {
  return std::clamp<std::size_t>(std::thread::hardware_concurrency(), kDiskThreads, kMostThreads);
}

// How many bounce buffers `readers` threads need: one for each, and for each of the first two
// threads that copy, one to copy out of and one that waits.
constexpr std::size_t bounce_buffers(std::size_t readers) { return readers + 4; }
inline constexpr std::size_t kLeastBounceBuffers = 4;  // a disk is busier without than with fewer
static_assert(bounce_buffers(kBouncingThreads) * slot_bytes(kColdChunk) == kMostBounced);
static_assert(kBouncingThreads >= kMostThreads);

// How many threads may copy out of bounce buffers: a core copies some 5 GB/s to fresh memory.
inline std::size_t copying_threads() {
  constexpr std::size_t kMost = 8;
  return std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, kMost);
}

// Throws Error where `staging` bytes are too few to load anything through.
inline void require_staging(std::uint64_t staging) {
  if (staging >= kLeastStaging) return;
  throw Error("--staging " + std::to_string(staging) + ": at least " +
              std::to_string(kLeastStaging) + " bytes are needed to load anything");
}

}  // namespace berth
