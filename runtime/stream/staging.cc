#include "runtime/stream/staging.h"

#include <algorithm>

#include "runtime/stream/numa.h"

namespace berth {

StagingRing::StagingRing(std::uint32_t slots, std::uint64_t slot_bytes, PageLock page_lock,
                         int node)
    : slots_(slots),
      slot_bytes_(slot_bytes),
      page_lock_(std::move(page_lock)),
      arena_(slots * slot_bytes, "staging"),
      locked_(slots) {
  if (node >= 0) prefer_node(arena_.data(), arena_.bytes(), node);
}

StagingRing::Slot StagingRing::slot_at(std::uint32_t index) const {
  return {index, arena_.data() + index * slot_bytes_};
}

bool StagingRing::idle(const Waiting& waiting) {
  return std::all_of(waiting.busy.begin(), waiting.busy.end(),
                     [&](CopyEngine* engine) { return engine->done(waiting.index); });
}

StagingRing::Slot StagingRing::acquire() {
  Waiting oldest;
  {
    const std::scoped_lock lock(mutex_);
    const bool reuse = !waiting_.empty() && (used_ == slots_ || idle(waiting_.front()));
    if (!reuse) {
      if (used_ == slots_) throw Error("staging: more threads than slots");
      oldest.index = used_++;
      oldest.first_use = true;
    } else {
      oldest = std::move(waiting_.front());
      waiting_.pop_front();
    }
  }
  const Slot slot = slot_at(oldest.index);
  for (CopyEngine* engine : oldest.busy) engine->wait(oldest.index);
  if (page_lock_ && oldest.first_use) lock(slot);  // the slot is this thread's now
  return slot;
}

void StagingRing::lock(const Slot& slot) {
  try {
    locked_[slot.index] = page_lock_(slot.data, slot_bytes_);
  } catch (const Error&) {
    not_locked_.fetch_add(1, std::memory_order_relaxed);
  }
}

void StagingRing::release(Slot slot, std::vector<CopyEngine*> busy) {
  const std::scoped_lock lock(mutex_);
  waiting_.push_back({slot.index, std::move(busy), false});
}

}  // namespace berth
