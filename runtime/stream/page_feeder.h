// Gives memory its pages ahead of the reads that fill it.
//
// The kernel clears every page of fresh memory at its first touch. Where a read past the page cache
// is that first touch, the disk's queue runs shorter while a reader clears its pages; a thread of
// its own does that while the readers wait for the disk.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <mutex>
#include <span>
#include <thread>
#include <utility>

namespace berth {

class PageFeeder {
 public:
  // `range(i)` for i < `count`: memory in the order in which it will be written, all of it to be
  // written anyway; an empty range is gone over.
  PageFeeder(std::size_t count, std::function<std::span<std::byte>(std::size_t)> range)
      : count_(count), range_(std::move(range)) {}
  ~PageFeeder() { stopping_ = true; }  // and waits for the thread
  PageFeeder(const PageFeeder&) = delete;
  PageFeeder& operator=(const PageFeeder&) = delete;

  // Begins with range `first`. Only the first call counts. Without a thread or a kernel to do it,
  // the reads do without. Safe from many threads.
  void start(std::size_t first) noexcept;

 private:
  void run(std::size_t first) const;

  std::size_t count_;
  std::function<std::span<std::byte>(std::size_t)> range_;
  std::atomic<bool> stopping_{false};
  std::once_flag started_;
  std::jthread thread_;  // last: it ends before what it uses
};

}  // namespace berth
