// The staging ring hands out slots without a lock: each thread has slots of its own, takes an idle
// one again, and waits only for copies out of the slot that it needs.
#include "runtime/load/staging.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>
#include <set>
#include <vector>

#include "berth/error.h"
#include "runtime/io/reader.h"
#include "runtime/io/workers.h"

namespace berth {
namespace {

constexpr std::uint64_t kSlot = 3 * kBlock;

// A device whose copies end when the test says so, or when they are waited for.
class Device final : public DeviceSink {
 public:
  std::byte* memory() const override { return nullptr; }
  std::shared_ptr<void> memory_owner() const override { return nullptr; }
  void copy(std::span<const CopyJob>, std::uint32_t slot) override { in_flight.insert(slot); }
  bool done(std::uint32_t slot) override { return in_flight.count(slot) == 0; }
  void wait(std::uint32_t slot) override {
    if (in_flight.erase(slot) > 0) waited.push_back(slot);
  }
  void finish() override {}
  void drain() noexcept override {}

  std::set<std::uint32_t> in_flight;
  std::vector<std::uint32_t> waited;
};

TEST(Staging, AnIdleSlotIsUsedAgain) {
  StagingRing ring(6, kSlot, 2, {});
  Device device;
  const auto first = ring.acquire(1);
  ring.release(first, {&device});  // no copy out of it is in flight
  const auto second = ring.acquire(1);
  EXPECT_EQ(first.index, second.index);
  EXPECT_EQ(first.data, second.data);
}

TEST(Staging, AThreadTakesItsSlotsInTurnsAndWaitsForTheOldest) {
  StagingRing ring(5, kSlot, 2, {});  // thread 0 has three of them, thread 1 two
  Device device;
  std::vector<std::uint32_t> taken;
  for (int i = 0; i < 7; ++i) {
    const auto slot = ring.acquire(0);
    device.copy({}, slot.index);
    ring.release(slot, {&device});
    taken.push_back(slot.index);
  }
  EXPECT_EQ(taken, (std::vector<std::uint32_t>{0, 2, 4, 0, 2, 4, 0}));
  EXPECT_EQ(device.waited, (std::vector<std::uint32_t>{0, 2, 4, 0}));
}

TEST(Staging, SlotsOfThreadsAreApart) {
  StagingRing ring(8, kSlot, 4, {});
  std::vector<StagingRing::Slot> slots;
  for (std::size_t thread = 0; thread < 4; ++thread) {
    Device device;
    const auto first = ring.acquire(thread);
    device.copy({}, first.index);
    ring.release(first, {&device});
    slots.push_back(first);
    slots.push_back(ring.acquire(thread));
    ring.release(slots.back(), {});
    device.in_flight.clear();
  }
  std::sort(slots.begin(), slots.end(), [](auto& a, auto& b) { return a.data < b.data; });
  for (std::size_t i = 0; i < slots.size(); ++i) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(slots[i].data) % kBlock, 0u);
    if (i > 0) {
      EXPECT_GE(slots[i].data, slots[i - 1].data + kSlot);
    }
  }
}

TEST(Staging, SlotsAreLockedAtTheirFirstUseWithTheirPagesThere) {
  std::vector<std::pair<std::byte*, std::uint64_t>> locked;
  StagingRing ring(4, kSlot, 2, [&](std::byte* data, std::uint64_t bytes) {
    locked.emplace_back(data, bytes);
    return HostRegistration();
  });
  EXPECT_TRUE(locked.empty());
  const auto slot = ring.acquire(0);
  ring.release(slot, {});
  ring.release(ring.acquire(0), {});
  ASSERT_EQ(locked.size(), 1u) << "an idle slot is locked already";
  EXPECT_EQ(locked[0], std::pair(slot.data, kSlot));
  EXPECT_EQ(ring.not_locked(), 0u);
}

TEST(Staging, ASlotThatCannotBeLockedIsUsedAndCounted) {
  StagingRing ring(2, kSlot, 2, [](std::byte*, std::uint64_t) -> HostRegistration {
    throw Error("the driver refuses");
  });
  const auto slot = ring.acquire(1);
  slot.data[kSlot - 1] = std::byte{1};
  ring.release(slot, {});
  ring.release(ring.acquire(1), {});
  EXPECT_EQ(ring.not_locked(), 1u);
}

TEST(Staging, EveryThreadNeedsASlot) { EXPECT_THROW(StagingRing(3, kSlot, 4, {}), Error); }

TEST(Workers, ThreadsAreNumberedAndEveryJobIsDoneOnce) {
  constexpr std::size_t kThreads = 5;
  WorkControl control;
  std::mutex mutex;
  std::vector<int> done(1000, 0);
  std::vector<int> running(kThreads, 0);
  run_workers(done.size(), kThreads, control, [&](std::size_t thread, std::size_t i) {
    {
      const std::scoped_lock lock(mutex);
      ASSERT_LT(thread, kThreads);
      EXPECT_EQ(running[thread]++, 0) << "two threads have one number";
      ++done[i];
    }
    const std::scoped_lock lock(mutex);
    --running[thread];
  });
  EXPECT_EQ(std::count(done.begin(), done.end(), 1), 1000);
}

}  // namespace
}  // namespace berth
