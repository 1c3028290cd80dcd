// Reading bytes of one open file at given offsets: the small interface behind which engines live.
//
// An engine is one Reader: buffered pread, O_DIRECT pread, io_uring. Faults are injected by
// wrapping one. read_range() is the only loop over them: it continues short reads and interrupted
// calls, and keeps an engine that bypasses the page cache on block boundaries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "berth/error.h"

namespace berth {

// What O_DIRECT wants offsets, sizes and addresses to be multiples of. Files or devices that want
// more are read through the page cache.
inline constexpr std::uint64_t kBlock = 4096;

constexpr std::uint64_t block_down(std::uint64_t value) { return value / kBlock * kBlock; }
constexpr std::uint64_t block_up(std::uint64_t value) { return block_down(value + kBlock - 1); }

// Safe for use from many threads at once. Does not own the descriptor.
class Reader {
 public:
  virtual ~Reader() = default;
  // Reads up to `bytes` at `offset`: the count read, 0 at the end of the file, or -errno. No I/O to
  // `buffer` is in flight when it returns.
  virtual std::int64_t read_some(std::uint64_t offset, std::size_t bytes, std::byte* buffer) = 0;
};

// One pread a call; O_DIRECT or not is a property of the descriptor.
std::unique_ptr<Reader> make_pread_reader(int fd);

// Rings for io_uring readers, made as threads need them and shared by all files of a load.
class UringPool {
 public:
  virtual ~UringPool() = default;
  virtual std::unique_ptr<Reader> make_reader(int fd) = 0;
  // Throws Error where the kernel, a sandbox or this build lacks io_uring; the message says which.
  static std::shared_ptr<UringPool> create();
};

// How far a read came. `reached` == end: complete. Else `error` is the errno, or 0: end of file.
struct ReadOutcome {
  std::uint64_t reached = 0;
  int error = 0;
};

// Reads file bytes [begin, end) to `at_begin`. With `whole_blocks`, reads the blocks around the
// range too: memory from `at_begin` down to the block boundary below and up to the one above `end`
// is written, and the address of file offset 0 must be a multiple of kBlock. An engine that stops
// inside a block without reaching `end` or the end of the file gives EINVAL there.
ReadOutcome read_range(Reader& reader, std::uint64_t begin, std::uint64_t end, std::byte* at_begin,
                       bool whole_blocks);

}  // namespace berth
