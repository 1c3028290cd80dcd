// Reads the directory of a ZIP archive whose entries are stored uncompressed, so that each entry is
// a byte range of the file.
//
// It follows PKWARE's APPNOTE 6.3.10: the end of the central directory (4.3.16), its ZIP64 form
// (4.3.14), the central directory (4.3.12) and, for an entry that is wanted, its local header
// (4.3.7), because only that tells where the data begins. Nothing is decompressed, and no byte of
// an entry's data is read here. The size of the central directory bounds memory and time. Not
// thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "planner/base/byte_source.h"
#include "planner/checkpoint/name_table.h"

namespace berth {

// An entry as the central directory describes it.
struct ZipEntry {
  std::string_view name;     // points into the archive's copy of the directory
  std::uint64_t header = 0;  // offset of the local header
  std::uint64_t bytes = 0;   // size of the data in the file
  std::uint64_t unpacked = 0;
  std::uint16_t method = 0;  // 0: stored uncompressed
  std::uint16_t flags = 0;
};

// Bytes [begin, end) of the file.
struct ByteRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;

  std::uint64_t bytes() const { return end - begin; }
};

class ZipArchive {
 public:
  // Reads the central directory. Throws Error if it is damaged or names an entry twice.
  explicit ZipArchive(const ByteSource& file);
  ZipArchive(const ZipArchive&) = delete;
  ZipArchive& operator=(const ZipArchive&) = delete;

  const std::vector<ZipEntry>& entries() const { return entries_; }
  // The entry called `name`; nullptr if there is none.
  const ZipEntry* find(std::string_view name) const;

  // Where the data of a stored entry is in the file. Throws Error if the entry is compressed or
  // encrypted, if its local header does not agree with the directory, if it reaches outside the
  // file, or if it overlaps an entry that was located before.
  ByteRange locate(const ZipEntry& entry);

 private:
  [[noreturn]] void fail(std::uint64_t offset, const std::string& what) const;
  [[noreturn]] void fail_entry(const ZipEntry& entry, const std::string& what) const;
  void read_end();
  void read_end64(std::uint64_t at);
  void read_directory();

  const ByteSource& file_;
  std::string directory_;
  std::uint64_t directory_at_ = 0;
  std::uint64_t directory_bytes_ = 0;
  std::uint64_t count_ = 0;
  std::vector<ZipEntry> entries_;
  NameTable by_name_;
  // The entries located so far, by the offset of the header: where the data ends, and the entry.
  std::map<std::uint64_t, std::pair<std::uint64_t, const ZipEntry*>> located_;
};

}  // namespace berth
