// The staging ring: the host memory that bytes pass through on their way to other memory.
//
// It is one anonymous mapping on huge pages, cut into equal slots. Each thread has slots of its own
// and takes turns among them: it fills one while devices still copy out of the others. So a thread
// waits for devices only, and never for a lock. A slot is touched, and page-locked where a GPU
// needs that, when it is first used, so that a small load pays for few.
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

// Through a GPU that is used anyway: on any other one this would make a context, which takes
// memory, for nothing.
PageLock page_lock_through(int ordinal);

class StagingRing {
 public:
  struct Slot {
    std::uint32_t index = 0;
    std::byte* data = nullptr;  // aligned to kBlock
  };

  // `slots` slots of `slot_bytes` bytes for `threads` threads, at least one for each. `page_lock`
  // is empty where no sink is a GPU. A slot that cannot be locked is used as it is; the driver then
  // copies through memory of its own. `node` is the NUMA node to take the memory from, or -1 for
  // any. Throws Error where memory is short.
  StagingRing(std::uint32_t slots, std::uint64_t slot_bytes, std::size_t threads,
              PageLock page_lock, int node = -1);

  // A slot of thread number `thread`; waits until devices have copied out of it. Numbers of
  // different threads must differ.
  Slot acquire(std::size_t thread);
  // Says that the slot is filled, and that copies out of it are in flight in the sinks `busy`.
  void release(const Slot& slot, std::vector<DeviceSink*> busy);

  // How many slots were used without being page-locked, because the driver refused.
  std::uint32_t not_locked() const { return not_locked_.load(std::memory_order_relaxed); }

 private:
  // The state of one slot. Only its thread changes it.
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
  std::vector<State> states_;        // by slot; after arena_, so unlocked before it is freed
  std::vector<std::uint32_t> last_;  // by thread: the slot it used last
  std::atomic<std::uint32_t> not_locked_ = 0;
};

}  // namespace berth
