// What the kernel knows about a file that decides how to read it: its file system, and how much of
// it is in the page cache.
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

// Bytes that a file in `folder` may still take; 0 where that is not known.
std::uint64_t disk_room_in(const std::filesystem::path& folder);

FileSystemFacts file_system_of(const std::filesystem::path& file);

// Fraction of [offset, offset + bytes) in the page cache: exact where cachestat(2) exists, else by
// samples that do not wait for the disk; nullopt where neither answers.
std::optional<double> resident_fraction(int fd, std::uint64_t offset, std::uint64_t bytes);

// The same of a whole file of `bytes` bytes, by looking at a few stretches of it.
std::optional<double> resident_estimate(int fd, std::uint64_t bytes);

}  // namespace berth
