// How fast a disk gives bytes in order, past the page cache.
//
// Read are files that are there (a model's shards), or a file of random bytes made for it, which
// has no name (O_TMPFILE, or unlinked as soon as it is open): whatever ends the process, nothing
// stays. Reads are O_DIRECT, several chunks at once, as a cold load does them. Where a file system
// does not know O_DIRECT, pages are dropped before each pass and read through the cache; a figure
// of memory (tmpfs) is said to be one. A drive's own cache is not passed: a file just written may
// be in it.
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
  std::filesystem::path folder;              // where a file is made
  std::vector<std::filesystem::path> files;  // to read instead, where they will do
  double seconds = 10;                       // to spend; half of it, at most, for writing
  std::uint64_t most = 4ull << 30;           // bytes written or read a pass, at most
  std::uint64_t keep_free = 1ull << 30;      // bytes of the disk that must stay free
  std::uint64_t least_files = 256u << 20;    // bytes that `files` must have to be read
  unsigned threads = kDiskThreads;           // reads at once
  const std::atomic<bool>* cancel = nullptr;
  // Switches a descriptor to O_DIRECT; false where it cannot be. Default: fcntl(2).
  std::function<bool(int)> make_direct;
};

struct DiskFigures {
  double read = 0;          // bytes/s, median of the passes
  std::uint64_t bytes = 0;  // read a pass
  std::size_t passes = 0;
  bool direct = false;  // past the page cache
  bool made = false;    // a file made for it, not one that was there
  std::vector<std::string> notes;
};

// Throws Error where nothing could be measured: a folder that cannot be written to, no room, an
// error of the disk; and when cancelled.
DiskFigures measure_disk(const DiskOptions& options);

}  // namespace berth
