// A file of random bytes that nobody can find and nothing has to remove.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>

#include "runtime/io/shard_files.h"

namespace berth {

struct ScratchFile {
  Descriptor fd;            // readable
  std::uint64_t bytes = 0;  // a multiple of the chunk
  bool direct = false;      // fd is O_DIRECT
};

struct ScratchOptions {
  std::filesystem::path folder;
  std::uint64_t most = 0;  // bytes
  double until = 0;        // of steady_seconds(): when to stop writing
  const std::atomic<bool>* cancel = nullptr;
  std::function<bool(int)> make_direct;  // Default: set_direct
};

inline constexpr std::uint64_t kDiskChunk = 8u << 20;  // of a write

// Writes until `most` bytes or the time is spent, and syncs. Random bytes, since some file systems
// and drives compress. A disk that is full ends it early. Throws Error naming the folder where the
// file cannot be made or not even a few chunks can be written.
ScratchFile make_scratch_file(const ScratchOptions& options);

// Switches the descriptor to O_DIRECT; false where the file system refuses.
bool set_direct(int fd);

}  // namespace berth
