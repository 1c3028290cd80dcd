#include "runtime/io/bounce.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <system_error>
#include <utility>

namespace berth {
namespace {

constexpr std::size_t kFirstCopiers = 2;
constexpr std::size_t kMostWaits = 32;  // of readers, before another copier joins in

}  // namespace

BounceBuffers::BounceBuffers(std::size_t count, std::uint64_t bytes, std::size_t copiers)
    : arena_(count * bytes, "staging"), queues_(copiers) {
  free_.reserve(count);
  for (std::size_t i = count; i-- > 0;) free_.push_back(arena_.data() + i * bytes);
  try {
    for (Queue& queue : queues_) crew_.emplace_back([this, &queue] { work(queue); });
  } catch (const std::system_error&) {
    // The threads that did start do all the work; without any, copy() does it.
  }
  copying_ = std::min(kFirstCopiers, crew_.size());
}

BounceBuffers::~BounceBuffers() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  for (Queue& queue : queues_) queue.wanted.notify_one();
  crew_.clear();    // joins
  queues_.clear();  // what still waits gives its buffer back, so this must come before free_ goes
}

BounceBuffers::Buffer BounceBuffers::take() {
  std::unique_lock lock(mutex_);
  if (free_.empty() && ++waits_ > kMostWaits && copying_ < crew_.size()) {
    ++copying_;
    waits_ = 0;
  }
  given_back_.wait(lock, [this] { return !free_.empty(); });
  std::byte* data = free_.back();
  free_.pop_back();
  return {data, GiveBack{this}};
}

void BounceBuffers::give_back(std::byte* data) noexcept {
  {
    const std::scoped_lock lock(mutex_);
    free_.push_back(data);
  }
  given_back_.notify_one();
}

void BounceBuffers::copy(Buffer buffer, const std::byte* from, std::uint64_t bytes, std::byte* to) {
  if (crew_.empty()) {
    std::memcpy(to, from, bytes);
    return;
  }
  const auto large_page = reinterpret_cast<std::uintptr_t>(to) / kHugePage;
  // Made before the lock is taken, so that it is destroyed after: where memory runs out, its buffer
  // is given back, which takes the lock.
  Copy copy{std::move(buffer), from, bytes, to};
  const std::scoped_lock lock(mutex_);
  Queue& queue = queues_[large_page % copying_];
  queue.waiting.push_back(std::move(copy));
  ++unfinished_;
  queue.wanted.notify_one();
}

void BounceBuffers::finish() {
  std::unique_lock lock(mutex_);
  copied_.wait(lock, [this] { return unfinished_ == 0; });
}

std::size_t BounceBuffers::copying() const {
  const std::scoped_lock lock(mutex_);
  return copying_;
}

void BounceBuffers::work(Queue& queue) {
  // A reader that can go on should get the core first: all it does is to hand the disk its next
  // request. On Linux nice() changes the calling thread alone. Where it is refused, only speed is
  // lost.
  [[maybe_unused]] const int priority = nice(5);
  for (;;) {
    Copy next{};
    {
      std::unique_lock lock(mutex_);
      queue.wanted.wait(lock, [&] { return stopping_ || !queue.waiting.empty(); });
      if (stopping_) return;
      next = std::move(queue.waiting.front());
      queue.waiting.pop_front();
    }
    std::memcpy(next.to, next.from, next.bytes);
    next.buffer.reset();
    const std::scoped_lock lock(mutex_);
    if (--unfinished_ == 0) copied_.notify_all();
  }
}

}  // namespace berth
