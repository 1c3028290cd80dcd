#include "runtime/stream/staging.h"

#include <algorithm>

namespace berth {

StagingRing::StagingRing(std::uint32_t slots, std::uint64_t slot_bytes, bool page_lock)
    : slots_(slots),
      slot_bytes_(slot_bytes),
      page_lock_(page_lock),
      arena_(slots * slot_bytes, "staging"),
      locked_(slots) {}

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
    } else {
      oldest = std::move(waiting_.front());
      waiting_.pop_front();
    }
  }
  const Slot slot = slot_at(oldest.index);
  for (CopyEngine* engine : oldest.busy) engine->wait(oldest.index);
  HostRegistration& lock = locked_[oldest.index];  // the slot is this thread's now
  if (page_lock_ && !lock.active()) lock = HostRegistration(slot.data, slot_bytes_);
  return slot;
}

void StagingRing::release(Slot slot, std::vector<CopyEngine*> busy) {
  const std::scoped_lock lock(mutex_);
  waiting_.push_back({slot.index, std::move(busy)});
}

}  // namespace berth
