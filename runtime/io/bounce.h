// Bounce buffers: where reads past the page cache land on their way to private memory.
//
// A disk writes a few megabytes that are used over and over, and so stay in the processor's cache,
// faster than it writes memory at large, fresh or not: 2.9 GB/s and 2.2 on one machine, in the same
// run (bench/results). Threads of their own copy the bytes on from there, because a reader that
// copies does not read: its next request is with the disk as soon as the last one is back. Each
// copies to large pages of its own: two that touch a fresh one together both clear one, for
// nothing. Two begin, because more were slower; another joins in whenever readers have waited for
// buffers many times, as they do where a disk is faster than the copies.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/io/memory.h"

namespace berth {

// Safe for use from many threads.
class BounceBuffers {
 public:
  // `count` buffers of `bytes` bytes, a multiple of kBlock, and up to `copiers` threads; where none
  // can be started, copy() copies itself. Throws Error where memory is short.
  BounceBuffers(std::size_t count, std::uint64_t bytes, std::size_t copiers);
  // Waits for the copies in progress and forgets the others.
  ~BounceBuffers();
  BounceBuffers(const BounceBuffers&) = delete;
  BounceBuffers& operator=(const BounceBuffers&) = delete;

  struct GiveBack {
    BounceBuffers* owner;
    void operator()(std::byte* data) const noexcept { owner->give_back(data); }
  };
  using Buffer = std::unique_ptr<std::byte, GiveBack>;  // aligned to kBlock

  // The buffer that was used last of those that are free; waits for one.
  Buffer take();
  // Copies `bytes` bytes at `from`, in `buffer`, to `to` at some time before finish() returns; best
  // within one large page there.
  void copy(Buffer buffer, const std::byte* from, std::uint64_t bytes, std::byte* to);
  // Waits for all copies.
  void finish();

  // Threads that copies are given to now.
  std::size_t copying() const;

 private:
  struct Copy {
    Buffer buffer;
    const std::byte* from;
    std::uint64_t bytes;
    std::byte* to;
  };
  void give_back(std::byte* data) noexcept;
  // Of one thread.
  struct Queue {
    std::deque<Copy> waiting;
    std::condition_variable wanted;  // a copy, or the end of the work
  };
  void work(Queue& queue);

  HostArena arena_;
  mutable std::mutex mutex_;  // guards what follows, up to crew_
  std::condition_variable given_back_;
  std::condition_variable copied_;
  std::vector<std::byte*> free_;  // never grows past `count`: giving back cannot fail
  std::deque<Queue> queues_;      // of crew_; others are empty
  std::size_t copying_ = 0;       // threads of crew_ that copies are given to
  std::size_t waits_ = 0;         // of readers for buffers, since another thread joined in
  std::size_t unfinished_ = 0;    // copies that wait or are in progress
  bool stopping_ = false;
  std::vector<std::jthread> crew_;
};

}  // namespace berth
