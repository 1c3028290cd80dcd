// The offload file: tensors of the disk tier whose dtype is not the stored one, converted once.
//
// The file has no name from the start (O_TMPFILE, else unlinked when it is made), so that the
// kernel takes it away with the last LoadedModel that reads it, or with the process, however that
// ends: nothing is ever left in the folder. What stays as stored is never copied here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>

#include "runtime/io/reader.h"
#include "runtime/io/shard_files.h"
#include "runtime/load/device_sink.h"

namespace berth {

// The folder for it where nobody named one: TMPDIR, /var/tmp or /tmp, the first that is on a disk.
std::filesystem::path default_offload_folder();

class OffloadFile {
 public:
  // A file of `bytes` bytes in `folder`. A missing folder is made, and removed with the file.
  // `room` tells what is free in a folder. Throws Error naming the folder, and what to do, where
  // the file cannot be had or would not fit.
  OffloadFile(const std::filesystem::path& folder, std::uint64_t bytes,
              const std::function<std::uint64_t(const std::filesystem::path&)>& room);

  // Both throw Error naming the folder; safe from many threads.
  void write(std::uint64_t offset, const std::byte* data, std::uint64_t bytes);
  void read(std::uint64_t offset, std::byte* data, std::uint64_t bytes) const;

 private:
  // A folder that is there; removed again if it was made here and is empty.
  struct Folder {
    explicit Folder(const std::filesystem::path& wanted);
    ~Folder();
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    std::filesystem::path path;
    bool made = false;
  };
  Folder folder_;
  Descriptor fd_;
};

// Converts and writes before it returns. `memory()` is null: it is no memory.
std::unique_ptr<DeviceSink> make_offload_sink(std::shared_ptr<OffloadFile> file);

}  // namespace berth
