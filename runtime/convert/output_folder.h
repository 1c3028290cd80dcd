// A folder that is either complete or not there: files are written into a temporary folder beside
// it, which is renamed when all of it is on the disk.
//
// Where it is destroyed without commit(), after an error or in a cancelled run, it removes what was
// written. A program that is ended by a signal can do that too (planner/base/unfinished.h), and
// what SIGKILL leaves, the next conversion finds (leftovers.h).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "planner/base/unfinished.h"
#include "runtime/convert/leftovers.h"
#include "runtime/io/shard_files.h"

namespace berth {

// A file that is mapped for writing, for bytes that do not come in order. What is written to data()
// is written to the file. Safe for use from many threads that write to different bytes.
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

// All functions throw Error naming the file where the file system fails.
class OutputFolder {
 public:
  // Throws Error where `path` exists already, even as a broken link, or where no folder can be made
  // beside it.
  explicit OutputFolder(const std::filesystem::path& path);
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  // Throws Error, which says how much is free, where the file system has less than `bytes` bytes
  // left.
  void require_space(std::uint64_t bytes) const;

  // Makes a new file of `bytes` bytes and reserves the space for it, where the file system can do
  // that. Returns its number, for write() and map(). Not safe for use from several threads.
  std::size_t create(const std::string& name, std::uint64_t bytes);
  // Writes at an offset of a file; safe for use from many threads. Starts the writing to the disk
  // and does not wait for it.
  void write(std::size_t file, std::uint64_t offset, const std::byte* data, std::uint64_t bytes);
  void write(std::size_t file, std::uint64_t offset, std::string_view text);
  // Maps a file of `bytes` bytes. Throws Error where that fails, or where no space could be
  // reserved.
  std::unique_ptr<OutputMapping> map(std::size_t file, std::uint64_t bytes) const;
  // Copies the file `from` into the folder, as `name`.
  void copy(const std::filesystem::path& from, const std::string& name);

  // Waits until all files are on the disk, then gives the folder its name. Throws Error where
  // either fails or where something of that name was made meanwhile; Interrupted where `cancel` is
  // set before the last file is on the disk.
  void commit(const std::atomic<bool>* cancel = nullptr);

 private:
  void make_temporary();
  [[noreturn]] void fail(const std::string& name, const char* doing, int error) const;
  Descriptor reopen(const std::string& name) const;

  std::filesystem::path path_;
  std::filesystem::path temporary_;       // empty after commit()
  std::optional<Unfinished> unfinished_;  // temporary_
  std::optional<Marker> marker_;          // in temporary_
  struct File {
    std::string name;
    Descriptor fd;  // open for the first 256 files; others are opened for each write
    bool reserved = true;
  };
  std::vector<File> files_;
};

}  // namespace berth
