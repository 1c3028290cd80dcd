// A file opened for reading: one descriptor, exact reads, and the file's identity. Only regular
// files are read: a named pipe or a device would keep the reader waiting, perhaps for ever.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "planner/base/descriptor.h"

namespace berth {

// A file as it was when it was opened, to tell later whether it still is that one. A checkpoint
// keeps the same values as its public Shard (planner/checkpoint/shard_of.h), because this room is
// below it.
struct FileIdentity {
  std::filesystem::path path;
  std::uint64_t file_bytes = 0;
  std::uint64_t device = 0;   // st_dev
  std::uint64_t inode = 0;    // st_ino
  std::int64_t mtime_ns = 0;  // st_mtim, nanoseconds
};

class File {
 public:
  // Throws Error if `path` cannot be opened or is not a regular file; it never waits for one that
  // is not. Symbolic links are followed.
  explicit File(const std::filesystem::path& path);

  const FileIdentity& identity() const { return identity_; }
  std::uint64_t size() const { return identity_.file_bytes; }

  // Fills `out` with `count` bytes from `offset`; Error naming both if the file ends before.
  void read_exactly(std::uint64_t offset, char* out, std::uint64_t count) const;
  std::string read_all() const;

 private:
  Descriptor descriptor_;
  FileIdentity identity_;
};

// The whole of a small text file. Throws Error if it cannot be read or is over `limit` bytes.
std::string read_text_file(const std::filesystem::path& path, std::uint64_t limit);

}  // namespace berth
