// Bounce buffers: where reads past the page cache land on their way to private memory.
//
// A disk delivers faster into a few megabytes that are used over and over, and so stay in the
// processor's cache, than into memory at large, whether that was touched before or not: 2.9 GB/s
// against 2.2 on one machine, in the same run (bench/results). Threads of their own, the copiers,
// copy the bytes on from there. A reader does not copy, because while it did it would not read: its
// next request is with the disk as soon as the last one is back. Each copier writes to large pages
// of its own, because two that touch a fresh page at the same time both clear a page, and one of
// the two is thrown away. Two copiers begin, because more were slower; another one joins in
// whenever readers have waited for buffers many times, as they do where a disk is faster than the
// copies.
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
  // Makes `count` buffers of `bytes` bytes each, a multiple of kBlock, and up to `copiers` threads.
  // Where none can be started, copy() copies on its caller's thread. Throws Error where memory is
  // short.
  BounceBuffers(std::size_t count, std::uint64_t bytes, std::size_t copiers);
  // Waits for the copies that are in progress and drops those that have not begun.
  ~BounceBuffers();
  BounceBuffers(const BounceBuffers&) = delete;
  BounceBuffers& operator=(const BounceBuffers&) = delete;

  struct GiveBack {
    BounceBuffers* owner;
    void operator()(std::byte* data) const noexcept { owner->give_back(data); }
  };
  using Buffer = std::unique_ptr<std::byte, GiveBack>;  // aligned to kBlock

  // Of the free buffers the one that was used last, because it is most likely still in the cache.
  // Waits until one is free.
  Buffer take();
  // Takes over `buffer` and copies `bytes` bytes at `from`, which is in it, to `to`, at some time
  // before finish() returns. The destination is best within one large page: a page is one copier's.
  void copy(Buffer buffer, const std::byte* from, std::uint64_t bytes, std::byte* to);
  // Waits until every copy that was asked for is done.
  void finish();

  // How many threads copies are given to now.
  std::size_t copying() const;

 private:
  struct Copy {
    Buffer buffer;
    const std::byte* from;
    std::uint64_t bytes;
    std::byte* to;
  };
  void give_back(std::byte* data) noexcept;
  // The copies of one thread.
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
