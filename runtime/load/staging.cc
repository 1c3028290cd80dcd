#include "runtime/load/staging.h"

#include <algorithm>

#include "berth/error.h"
#include "runtime/io/numa.h"
#include "runtime/io/reader.h"

namespace berth {

PageLock page_lock_through(int ordinal) {
  return [ordinal](std::byte* data, std::uint64_t bytes) {
    return HostRegistration(ordinal, data, bytes);
  };
}

StagingRing::StagingRing(std::uint32_t slots, std::uint64_t slot_bytes, std::size_t threads,
                         PageLock page_lock, int node)
    : slot_bytes_(slot_bytes),
      threads_(threads),
      page_lock_(std::move(page_lock)),
      arena_(slots * slot_bytes, "staging"),
      states_(slots),
      last_(threads) {
  if (slots < threads)
    throw Error("staging: every thread needs a slot, but there are fewer slots than threads");
  for (std::uint32_t i = 0; i < last_.size(); ++i) last_[i] = i;
  if (node >= 0) prefer_node(arena_.data(), arena_.bytes(), node);
}

bool StagingRing::idle(std::uint32_t index) const {
  const std::vector<DeviceSink*>& busy = states_[index].busy;
  return std::all_of(busy.begin(), busy.end(), [&](DeviceSink* sink) { return sink->done(index); });
}

StagingRing::Slot StagingRing::acquire(std::size_t thread) {
  std::uint32_t& index = last_[thread];
  // The slot that was used last, where it is free again: it is still in the processor's cache. Else
  // the one that was used longest ago.
  if (!idle(index)) {
    index += static_cast<std::uint32_t>(threads_);
    if (index >= states_.size()) index = static_cast<std::uint32_t>(thread);
  }
  const Slot slot{index, arena_.data() + index * slot_bytes_};
  State& state = states_[index];
  for (DeviceSink* sink : state.busy) sink->wait(index);
  state.busy.clear();
  if (!state.used) begin_using(slot);
  return slot;
}

void StagingRing::begin_using(const Slot& slot) {
  State& state = states_[slot.index];
  state.used = true;
  if (!page_lock_) return;
  // The kernel clears pages when they are touched. Here it does so for many threads side by side;
  // in page_lock it would happen under a lock of the driver's.
  for (std::uint64_t at = 0; at < slot_bytes_; at += kBlock) {
    static_cast<volatile std::byte*>(slot.data)[at] = std::byte{0};
  }
  try {
    state.locked = page_lock_(slot.data, slot_bytes_);
  } catch (const Error&) {
    not_locked_.fetch_add(1, std::memory_order_relaxed);
  }
}

void StagingRing::release(const Slot& slot, std::vector<DeviceSink*> busy) {
  states_[slot.index].busy = std::move(busy);
}

}  // namespace berth
