// Reading bytes of one open file at given offsets: the small interface behind which the read
// engines are.
//
// Each engine is a Reader: buffered pread, O_DIRECT pread, io_uring. Tests inject faults by
// wrapping one. read_range() is the only loop over their calls: it goes on after short reads and
// interrupted calls, and it keeps an engine that bypasses the page cache on block boundaries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "berth/error.h"

namespace berth {

// O_DIRECT wants offsets, sizes and addresses to be multiples of this, in bytes. Files on devices
// that want larger multiples are read through the page cache.
inline constexpr std::uint64_t kBlock = 4096;

constexpr std::uint64_t block_down(std::uint64_t value) { return value / kBlock * kBlock; }
constexpr std::uint64_t block_up(std::uint64_t value) { return block_down(value + kBlock - 1); }

// Safe for use from many threads at once. Does not own the descriptor.
class Reader {
 public:
  virtual ~Reader() = default;
  // Reads up to `bytes` bytes at `offset` of the file to `buffer`. Returns how many were read, 0 at
  // the end of the file, or -errno; does not throw. No I/O to `buffer` is in flight when it
  // returns.
  virtual std::int64_t read_some(std::uint64_t offset, std::size_t bytes, std::byte* buffer) = 0;
};

// Each call is one pread. Whether it bypasses the page cache (O_DIRECT) is a property of `fd`.
std::unique_ptr<Reader> make_pread_reader(int fd);

// The rings of io_uring readers. They are made as threads need them and shared by all files of a
// load. Safe for use from many threads.
class UringPool {
 public:
  virtual ~UringPool() = default;
  virtual std::unique_ptr<Reader> make_reader(int fd) = 0;
  // Throws Error where the kernel, a sandbox or this build lacks io_uring; the message says which.
  static std::shared_ptr<UringPool> create();
};

// How far a read came. It is complete where `reached` is the end that was asked for. Else `error`
// is the errno of what stopped it, or 0 where the file ended.
struct ReadOutcome {
  std::uint64_t reached = 0;
  int error = 0;
};

// Reads file bytes [begin, end) to `at_begin`. With `whole_blocks` it reads whole blocks, as
// O_DIRECT needs: memory is written from the block boundary at or below `begin` up to the one at or
// above `end`, and `at_begin` must be as far above a multiple of kBlock as `begin` is. An engine
// that then stops within the block it began in, before `end` and the end of the file, makes the
// outcome EINVAL.
ReadOutcome read_range(Reader& reader, std::uint64_t begin, std::uint64_t end, std::byte* at_begin,
                       bool whole_blocks);

}  // namespace berth
