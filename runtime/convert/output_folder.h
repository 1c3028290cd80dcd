// A folder that is complete or absent: files are written into a temporary one beside it, which
// takes the name when all of it is on the disk.
//
// Destroyed without commit(), by an error or a cancelled run, it removes what was written.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/io/shard_files.h"

namespace berth {

// A file mapped for writing, for what does not come in order. Its pages are those of the file.
class OutputMapping {
 public:
  OutputMapping(std::byte* data, std::uint64_t bytes) : data_(data), bytes_(bytes) {}
  ~OutputMapping();
  OutputMapping(const OutputMapping&) = delete;
  OutputMapping& operator=(const OutputMapping&) = delete;
  std::byte* data() const { return data_; }

 private:
  std::byte* data_;
  std::uint64_t bytes_;
};

class OutputFolder {
 public:
  // Throws Error where `path` exists, in whatever form, or nothing can be made beside it.
  explicit OutputFolder(const std::filesystem::path& path);
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  // Throws Error, with what is free, where the file system has less than `bytes` left.
  void require_room(std::uint64_t bytes) const;

  // A new file of `bytes` bytes, its room reserved where the file system can do that. Returns its
  // number, for write(). Not thread-safe.
  std::size_t create(const std::string& name, std::uint64_t bytes);
  // Writes at an offset; safe from many threads. Starts the way to the disk and does not wait.
  void write(std::size_t file, std::uint64_t offset, const std::byte* data, std::uint64_t bytes);
  void write(std::size_t file, std::uint64_t offset, std::string_view text);
  // Throws Error where the file cannot be mapped, or its room could not be reserved.
  std::unique_ptr<OutputMapping> map(std::size_t file, std::uint64_t bytes) const;
  // Copies a whole file.
  void copy(const std::filesystem::path& from, const std::string& name);

  // Everything to the disk, then the name. Throws Error where either fails, where something of that
  // name came to be meanwhile, or where `cancel` is set before the last file is on the disk.
  void commit(const std::atomic<bool>* cancel = nullptr);

 private:
  [[noreturn]] void fail(const std::string& name, const char* doing, int error) const;
  Descriptor reopen(const std::string& name) const;

  std::filesystem::path path_;
  std::filesystem::path temporary_;  // empty after commit()
  struct File {
    std::string name;
    Descriptor fd;  // of the first few hundred; others are opened for each write
    bool reserved = true;
  };
  std::vector<File> files_;
};

}  // namespace berth
