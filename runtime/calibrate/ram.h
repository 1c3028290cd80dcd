// How fast this process reads and copies host memory, with all the CPUs it may use.
//
// The method is STREAM's (J. McCalpin, https://www.cs.virginia.edu/stream/ref.html): arrays of at
// least four times all last-level caches, touched first by the thread that will use them, several
// passes, each timed from the moment when all threads begin to the one when the last has ended.
// STREAM's best pass is replaced by the median, since a plan wants what is usual, and its kernels
// by two: a plain read (weights are read, not written), and STREAM's Copy.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "berth/error.h"

namespace berth {

struct RamOptions {
  double seconds = 6;               // to spend, touching the memory first included
  unsigned threads = 1;             // at once
  std::uint64_t most = 4ull << 30;  // bytes of memory to take at most
  std::uint64_t caches = 0;         // bytes of all last-level caches; 0: as the kernel says
  const std::atomic<bool>* cancel = nullptr;
};

struct RamFigures {
  double read = 0;          // bytes/s
  double copy = 0;          // bytes/s, each byte counted when read and when written
  unsigned threads = 0;     // that ran
  std::uint64_t bytes = 0;  // of the buffer
  std::size_t passes = 0;   // of the read
  std::vector<std::string> notes;
};

// Throws Error where there is no memory to measure with, or when cancelled.
RamFigures measure_ram(const RamOptions& options);

// Bytes of all last-level data caches together, from sys/devices/system/cpu below `root`; 0 where
// the kernel does not say, as in some virtual machines.
std::uint64_t last_level_caches(const std::filesystem::path& root = "/");

}  // namespace berth
