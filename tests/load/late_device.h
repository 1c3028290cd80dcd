// A device that copies later than it is told to: the order of events is that of a GPU, without one.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "berth/error.h"
#include "runtime/load/device_sink.h"

namespace berth::testing {

// Takes jobs at once, and does them later and in order, through `inner`, on a thread of its own. An
// error there comes out of finish(), as a GPU's errors do. Where a slot is overwritten before its
// copies are done, the bytes are wrong, and ThreadSanitizer sees a race.
class LateDevice final : public DeviceSink {
 public:
  explicit LateDevice(std::unique_ptr<DeviceSink> inner)
      : inner_(std::move(inner)), thread_([this] { work(); }) {}
  ~LateDevice() override {
    {
      const std::scoped_lock lock(mutex_);
      closing_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  LateDevice(const LateDevice&) = delete;
  LateDevice& operator=(const LateDevice&) = delete;

  std::byte* memory() const override { return inner_->memory(); }
  std::shared_ptr<void> memory_owner() const override { return inner_->memory_owner(); }

  void copy(std::span<const CopyJob> jobs, std::uint32_t slot) override {
    const std::scoped_lock lock(mutex_);
    queue_.push_back({{jobs.begin(), jobs.end()}, slot});
    changed_.notify_all();
  }
  bool done(std::uint32_t slot) override {
    const std::scoped_lock lock(mutex_);
    return idle(slot);
  }
  void wait(std::uint32_t slot) override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return idle(slot); });
  }
  void finish() override {
    drain();
    if (!failure_.empty()) throw Error(failure_);
  }
  void drain() noexcept override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return queue_.empty(); });
  }

 private:
  struct Batch {
    std::vector<CopyJob> jobs;
    std::uint32_t slot = 0;
  };

  bool idle(std::uint32_t slot) const {
    for (const Batch& batch : queue_) {
      if (batch.slot == slot) return false;
    }
    return true;
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return closing_ || !queue_.empty(); });
      if (queue_.empty()) return;
      Batch& batch = queue_.front();  // stays where it is while others are pushed behind it
      lock.unlock();
      std::this_thread::yield();
      std::string failure;
      try {
        inner_->copy(batch.jobs, batch.slot);
      } catch (const Error& error) {
        failure = error.what();
      }
      lock.lock();
      if (failure_.empty()) failure_ = failure;
      queue_.pop_front();
      changed_.notify_all();
    }
  }

  std::unique_ptr<DeviceSink> inner_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<Batch> queue_;
  std::string failure_;
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace berth::testing
