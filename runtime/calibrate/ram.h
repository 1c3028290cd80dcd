// Measures how fast this process reads and copies host memory, with all the CPUs that it may use.
//
// The method is STREAM's (J. McCalpin, https://www.cs.virginia.edu/stream/ref.html): the arrays are
// at least four times as large as all last-level caches together, there are several passes, and
// each is timed from the moment when all threads begin until the last one has ended. The buffer is
// on huge pages. Three things differ. Threads are those that run models (ThreadTeam): pinned, and
// each takes the next MiB when it is free, so a processor that is busy otherwise slows a read
// down as it slows a product down, and no product is quicker than this read, but for noise. The
// result is the median of pieces of 16 MiB and not the best one, since a plan wants what is usual.
// And there are two kernels: a plain read, because weights are read and not written, from four
// places at a time with the widest loads that the processor has (read_loop.h); and STREAM's Copy.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "berth/error.h"

namespace berth {

struct RamOptions {
  double seconds = 6;               // to spend; the first touching of the memory counts
  unsigned threads = 1;             // that read at the same time
  std::uint64_t most = 4ull << 30;  // bytes of memory to take at most
  std::uint64_t caches = 0;         // bytes of all last-level caches; 0: as the kernel says
  const std::atomic<bool>* cancel = nullptr;
};

struct RamFigures {
  double read = 0;       // bytes/s
  double copy = 0;       // bytes/s; counts each byte twice, as read and as written; 0: too little
  unsigned threads = 0;  // that ran
  std::uint64_t bytes = 0;  // of the buffer
  std::size_t passes = 0;   // of the read
  std::vector<std::string> notes;
};

// Throws Error where there is too little memory to measure with, and Interrupted when cancelled.
RamFigures measure_ram(const RamOptions& options);

// How many bytes all last-level data caches have together, from sys/devices/system/cpu below
// `root`; 0 where the kernel does not say, as in some virtual machines.
std::uint64_t last_level_caches(const std::filesystem::path& root = "/");

}  // namespace berth
