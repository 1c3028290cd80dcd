// What the kernel knows about a file, as far as it decides how to read it: its file system, and how
// much of it is in the page cache. Stateless; safe for use from many threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace berth {

struct FileSystemFacts {
  std::string name = "unknown";  // "ext4", "nfs", ...
  bool network = false;          // remote or in user space: never mapped, always read buffered
  bool memory = false;           // tmpfs and the like: always resident
};

// How many bytes a file in `folder` may still take; 0 where that is not known.
std::uint64_t free_disk_space(const std::filesystem::path& folder);

// The file system that `file` is on. One that is not known counts as a local disk.
FileSystemFacts file_system_of(const std::filesystem::path& file);

// Which fraction of [offset, offset + bytes) is in the page cache, from 0 to 1. Exact where the
// kernel has cachestat(2); else an estimate by samples, which do not wait for the disk. Nothing
// where neither answers.
std::optional<double> resident_fraction(int fd, std::uint64_t offset, std::uint64_t bytes);

// The same for a whole file of `bytes` bytes, estimated from a few stretches of it.
std::optional<double> resident_estimate(int fd, std::uint64_t bytes);

}  // namespace berth
