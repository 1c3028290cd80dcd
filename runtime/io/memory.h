// Host memory that weights live in or pass through, and what the process uses of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "berth/load.h"

namespace berth {

// A large page of x86-64 and of most ARM kernels, in bytes.
inline constexpr std::uint64_t kHugePage = 2u << 20;

// Anonymous private memory that begins on a huge page and is exactly as long as asked for, rounded
// up to a small page. Nothing is resident until touched. Throws Error naming `purpose` and the
// size.
class HostArena {
 public:
  HostArena() = default;
  HostArena(std::uint64_t bytes, const std::string& purpose);
  ~HostArena();
  HostArena(HostArena&& other) noexcept;
  HostArena& operator=(HostArena&& other) noexcept;

  std::byte* data() const { return data_; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::uint64_t bytes_ = 0;
};

// A whole shard, mapped read-only. The file must not shrink while it lives: reading a page past the
// end raises SIGBUS, which no library may catch. populate() finds that out without the signal.
class FileMapping {
 public:
  explicit FileMapping(const Shard& shard);  // throws Error if it cannot be mapped or has changed
  ~FileMapping();
  FileMapping(const FileMapping&) = delete;
  FileMapping& operator=(const FileMapping&) = delete;

  std::byte* data() const { return data_; }
  // Reads [begin, end) of the file in. Returns false where the file has no such bytes any more or
  // the disk fails; on a kernel without MADV_POPULATE_READ, only starts the reading.
  bool populate(std::uint64_t begin, std::uint64_t end) const;
  // Bytes of [begin, end) in RAM.
  std::uint64_t resident(std::uint64_t begin, std::uint64_t end) const;

 private:
  std::byte* data_ = nullptr;
  std::uint64_t bytes_ = 0;
};

// Samples anonymous + shared memory every five milliseconds on a thread of its own, because Linux
// keeps a high-water mark of neither. Where no thread is to be had, look() and stop() alone sample.
class PeakSampler {
 public:
  explicit PeakSampler(const HostMemory& baseline);
  ~PeakSampler();
  void look();  // one sample now, from the caller's thread
  // Stops and returns the highest excess over the baseline, in bytes.
  std::uint64_t stop();

 private:
  struct State;
  void sample();
  std::uint64_t baseline_;
  std::uint64_t peak_ = 0;  // guarded by the state's mutex
  std::unique_ptr<State> state_;
  std::thread thread_;
};

}  // namespace berth
