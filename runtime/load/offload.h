// The offload file: it holds the tensors of the disk tier that are wanted in another dtype than the
// stored one. They are converted once, while loading.
//
// The file never has a name (O_TMPFILE), or loses it as soon as it is made. So the kernel removes
// it with the last LoadedModel that reads it, or with the process, however that ends: nothing is
// ever left in the folder. Tensors of the disk tier that are wanted as stored stay in their shards
// and are never copied here.
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

// The folder for the file where the user named none: the first of $TMPDIR, /var/tmp and /tmp that
// is on a disk and can be written to; else /tmp.
std::filesystem::path default_offload_folder();

class OffloadFile {
 public:
  // Makes a file of `bytes` bytes in `folder`. A folder that does not exist is made, and removed
  // with the file. `free_space` tells how many bytes are free in a folder. Throws Error that names
  // the folder and says what to do where the file cannot be made or would not fit.
  OffloadFile(const std::filesystem::path& folder, std::uint64_t bytes,
              const std::function<std::uint64_t(const std::filesystem::path&)>& free_space);

  // Both throw Error naming the folder, and are safe for use from many threads.
  void write(std::uint64_t offset, const std::byte* data, std::uint64_t bytes);
  void read(std::uint64_t offset, std::byte* data, std::uint64_t bytes) const;

 private:
  // Makes the folder where it does not exist; then removes it again at the end, if it is empty.
  struct Folder {
    explicit Folder(const std::filesystem::path& wanted);
    ~Folder();
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    std::filesystem::path path;
    bool made = false;  // by us
  };
  Folder folder_;
  Descriptor fd_;
};

// A sink that converts and writes to the file before copy() returns. Its memory() is null.
std::unique_ptr<DeviceSink> make_offload_sink(std::shared_ptr<OffloadFile> file);

}  // namespace berth
