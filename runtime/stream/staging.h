// The staging ring: the only host memory that bytes on their way elsewhere may use.
//
// One anonymous mapping on huge pages, cut into equal slots. A slot is handed to one thread,
// filled, given back with the devices that still copy out of it, and handed out again when they are
// done, oldest first. Slots are touched, and page-locked where a GPU needs that, at their first
// use: a small load pays for few. Safe for use from many threads; with no fewer slots than threads,
// acquire() waits for devices only, never for another thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <vector>

#include "cuda/device.h"
#include "runtime/stream/copy_engine.h"
#include "runtime/stream/memory.h"

namespace berth {

// Page-locks memory for copies to GPUs. Throws Error where the driver refuses.
using PageLock = std::function<HostRegistration(std::byte* data, std::uint64_t bytes)>;

class StagingRing {
 public:
  struct Slot {
    std::uint32_t index = 0;
    std::byte* data = nullptr;  // aligned to kBlock
  };

  // `page_lock`: empty where no engine is a GPU. A slot that cannot be locked is used as it is: the
  // driver then copies through memory of its own. `node`: the NUMA node to take the memory from;
  // -1: any. Throws Error where memory is short.
  StagingRing(std::uint32_t slots, std::uint64_t slot_bytes, PageLock page_lock, int node = -1);

  Slot acquire();
  // `busy` engines have copies out of the slot in flight; wait(slot) on each tells when they end.
  void release(Slot slot, std::vector<CopyEngine*> busy);

  std::uint32_t slots() const { return slots_; }
  std::uint64_t bytes() const { return arena_.bytes(); }
  // Slots that were used without being page-locked, though they should have been.
  std::uint32_t not_locked() const { return not_locked_.load(std::memory_order_relaxed); }

 private:
  struct Waiting {
    std::uint32_t index = 0;
    std::vector<CopyEngine*> busy;
    bool first_use = false;
  };
  static bool idle(const Waiting& waiting);
  Slot slot_at(std::uint32_t index) const;
  void lock(const Slot& slot);

  std::uint32_t slots_;
  std::uint64_t slot_bytes_;
  PageLock page_lock_;
  HostArena arena_;
  std::vector<HostRegistration> locked_;  // by slot; after arena_, so released before it
  std::atomic<std::uint32_t> not_locked_ = 0;
  std::mutex mutex_;             // guards what follows
  std::uint32_t used_ = 0;       // slots ever handed out
  std::deque<Waiting> waiting_;  // given back, oldest first
};

}  // namespace berth
