// A file of random bytes to measure the disk with. It has no name, so nobody has to remove it.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>

#include "runtime/io/shard_files.h"

namespace berth {

struct ScratchFile {
  Descriptor fd;            // open for reading
  std::uint64_t bytes = 0;  // its size, a multiple of kDiskChunk
  bool direct = false;      // whether `fd` bypasses the page cache (O_DIRECT)
};

struct ScratchOptions {
  std::filesystem::path folder;
  std::uint64_t most = 0;  // bytes to write, at most
  double until = 0;        // when to stop writing, by steady_seconds()
  const std::atomic<bool>* cancel = nullptr;
  std::function<bool(int)> make_direct;  // Default: set_direct
};

inline constexpr std::uint64_t kDiskChunk = 8u << 20;  // bytes of a write

// Makes the file: writes until it has `most` bytes, the time is over or the disk is full, and syncs
// it. The bytes are random, since some file systems and drives compress. Throws Error naming the
// folder where the file cannot be made, or where not even eight chunks can be written; Interrupted
// when cancelled.
ScratchFile make_scratch_file(const ScratchOptions& options);

// Switches the descriptor to O_DIRECT. Returns false where the file system refuses.
bool set_direct(int fd);

}  // namespace berth
