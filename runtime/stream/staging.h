// The staging ring: the only host memory that bytes on their way elsewhere may use.
//
// One anonymous mapping on huge pages, cut into equal slots. A slot is handed to one thread,
// filled, given back with the devices that still copy out of it, and handed out again when they are
// done, oldest first. Slots are touched, and page-locked where a GPU needs that, at their first
// use: a small load pays for few. Safe for use from many threads; with no fewer slots than threads,
// acquire() waits for devices only, never for another thread.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

#include "cuda/device.h"
#include "runtime/stream/copy_engine.h"
#include "runtime/stream/memory.h"

namespace berth {

class StagingRing {
 public:
  struct Slot {
    std::uint32_t index = 0;
    std::byte* data = nullptr;  // aligned to kBlock
  };

  // `page_lock`: some engine is a GPU. Throws Error where memory is short.
  StagingRing(std::uint32_t slots, std::uint64_t slot_bytes, bool page_lock);

  Slot acquire();
  // `busy` engines have copies out of the slot in flight; wait(slot) on each tells when they end.
  void release(Slot slot, std::vector<CopyEngine*> busy);

  std::uint32_t slots() const { return slots_; }
  std::uint64_t bytes() const { return arena_.bytes(); }

 private:
  struct Waiting {
    std::uint32_t index;
    std::vector<CopyEngine*> busy;
  };
  static bool idle(const Waiting& waiting);
  Slot slot_at(std::uint32_t index) const;

  std::uint32_t slots_;
  std::uint64_t slot_bytes_;
  bool page_lock_;
  HostArena arena_;
  std::vector<HostRegistration> locked_;  // by slot; after arena_, so released before it
  std::mutex mutex_;                      // guards what follows
  std::uint32_t used_ = 0;                // slots ever handed out
  std::deque<Waiting> waiting_;           // given back, oldest first
};

}  // namespace berth
