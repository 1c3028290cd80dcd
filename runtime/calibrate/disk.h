// Measures how fast a disk delivers bytes that are read in order, past the page cache.
//
// It reads files that are there (a model's shards), or a file of random bytes that it makes. That
// file has no name (O_TMPFILE, or unlinked as soon as it is open), so nothing stays behind, however
// the process ends. Reads are O_DIRECT, several chunks at once, as a cold load does them. Where a
// file system does not support O_DIRECT, pages are dropped before each pass and read through the
// page cache. Where the file system is in memory (tmpfs), a note says so. A drive's own cache
// cannot be bypassed: a file that was just written may be in it.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "berth/error.h"
#include "runtime/load/sizing.h"

namespace berth {

struct DiskOptions {
  std::filesystem::path folder;              // where the file is made
  std::vector<std::filesystem::path> files;  // to read instead, if they are large enough
  double seconds = 10;                       // to spend; half of it, at most, for writing
  std::uint64_t most = 4ull << 30;           // bytes to write, or to read in a pass, at most
  std::uint64_t keep_free = 1ull << 30;      // bytes of the disk that must stay free
  std::uint64_t least_files = 256u << 20;    // `files` are only read if they have so many bytes
  unsigned threads = kDiskThreads;           // reads at once
  const std::atomic<bool>* cancel = nullptr;
  // Switches a descriptor to O_DIRECT; false where it cannot be. Default: fcntl(2).
  std::function<bool(int)> make_direct;
};

struct DiskFigures {
  double read = 0;          // bytes/s, median of the passes
  std::uint64_t bytes = 0;  // read in the longest pass
  std::size_t passes = 0;
  bool direct = false;  // whether the page cache was bypassed
  bool made = false;    // whether a file was made, and not DiskOptions::files read
  std::vector<std::string> notes;
};

// Throws Error where nothing could be measured: the folder cannot be written to, the disk is full
// or it fails. Throws Interrupted when cancelled.
DiskFigures measure_disk(const DiskOptions& options);

}  // namespace berth
