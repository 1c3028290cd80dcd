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

// Anonymous private memory that begins on a huge page. Its length is what was asked for, rounded up
// to a small page. No page is resident until it is touched.
class HostArena {
 public:
  HostArena() = default;
  // Throws Error naming `bytes` and `purpose` where the kernel does not give that much.
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

// A whole shard, mapped read-only. The file must not become shorter while the mapping lives: to
// touch a page past its end raises SIGBUS, which a library must not catch. populate() finds out
// without the signal. Safe for use from many threads.
class FileMapping {
 public:
  // Throws Error where the shard cannot be mapped, or has changed since its header was read.
  explicit FileMapping(const Shard& shard);
  ~FileMapping();
  FileMapping(const FileMapping&) = delete;
  FileMapping& operator=(const FileMapping&) = delete;

  std::byte* data() const { return data_; }
  // Reads bytes [begin, end) of the file into the page cache and maps their pages. Returns false
  // where the file has no such bytes any more or the disk fails.
  bool populate(std::uint64_t begin, std::uint64_t end) const;
  // How many bytes of [begin, end) are in RAM now: an estimate from samples that are spread over
  // the range, where it has more than `look` bytes. The kernel takes 12 ms to look at a GiB.
  std::uint64_t resident(std::uint64_t begin, std::uint64_t end, std::uint64_t look) const;

 private:
  std::byte* data_ = nullptr;
  std::uint64_t bytes_ = 0;
};

// Touches the pages of [data, data + bytes) with system calls, which fail where a program would get
// SIGBUS. Returns whether all of them can be read. It copies every byte twice, so it is for kernels
// without MADV_POPULATE_READ (before Linux 5.14).
bool touch_by_calls(const std::byte* data, std::uint64_t bytes);

// The peak of this process's anonymous and shared memory together. Linux keeps no high-water mark
// of these, so a thread samples them every five milliseconds. Where no thread can be started, only
// look() and stop() sample.
class PeakSampler {
 public:
  explicit PeakSampler(const HostMemory& baseline);  // what was in use before
  ~PeakSampler();
  void look();  // one sample now, from the caller's thread
  // Stops the thread and returns by how many bytes the peak was above the baseline; 0 if never.
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
