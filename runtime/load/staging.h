// The staging ring: the only host memory that bytes on their way elsewhere may use.
//
// One anonymous mapping on huge pages, cut into equal slots. Each thread has slots of its own and
// takes them in turns: it fills one while devices still copy out of the others, so it waits for
// devices only, and for no lock. Slots are touched, and page-locked where a GPU needs that, at
// their first use: a small load pays for few.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "cuda/device.h"
#include "runtime/io/memory.h"
#include "runtime/load/device_sink.h"

namespace berth {

// Page-locks memory for copies to GPUs. Throws Error where the driver refuses.
using PageLock = std::function<HostRegistration(std::byte* data, std::uint64_t bytes)>;

class StagingRing {
 public:
  struct Slot {
    std::uint32_t index = 0;
    std::byte* data = nullptr;  // aligned to kBlock
  };

  // `slots` for `threads` threads, at least one each. `page_lock`: empty where no sink is a GPU.
  // A slot that cannot be locked is used as it is: the driver then copies through memory of its
  // own. `node`: the NUMA node to take the memory from; -1: any. Throws Error where memory is
  // short.
  StagingRing(std::uint32_t slots, std::uint64_t slot_bytes, std::size_t threads,
              PageLock page_lock, int node = -1);

  // A slot of `thread`'s, which only one thread at a time may be.
  Slot acquire(std::size_t thread);
  // `busy` sinks have copies out of the slot in flight; wait(slot) on each tells when they end.
  void release(const Slot& slot, std::vector<DeviceSink*> busy);

  // Slots that were used without being page-locked, though they should have been.
  std::uint32_t not_locked() const { return not_locked_.load(std::memory_order_relaxed); }

 private:
  // Of one slot. Changed by its thread alone.
  struct State {
    bool used = false;
    HostRegistration locked;
    std::vector<DeviceSink*> busy;
  };
  bool idle(std::uint32_t index) const;
  void begin_using(const Slot& slot);

  std::uint64_t slot_bytes_;
  std::size_t threads_;
  PageLock page_lock_;
  HostArena arena_;
  std::vector<State> states_;        // by slot; after arena_, so unlocked before it goes
  std::vector<std::uint32_t> last_;  // by thread: the slot it used last
  std::atomic<std::uint32_t> not_locked_ = 0;
};

}  // namespace berth
