// Memory gets its pages without being written, in order, and what is in the way is gone over.
#include "runtime/stream/page_feeder.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <optional>
#include <thread>
#include <vector>

#include "runtime/stream/memory.h"

namespace berth {
namespace {

constexpr std::uint64_t kRange = 3u << 20;

// Bytes of `memory` that have a page of their own; nothing of it is touched.
std::uint64_t resident(std::span<const std::byte> memory) {
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> pages((memory.size() + page - 1) / page);
  void* const begin = const_cast<std::byte*>(memory.data());
  if (mincore(begin, memory.size(), pages.data()) != 0) return 0;
  std::uint64_t bytes = 0;
  for (const unsigned char present : pages) bytes += (present & 1u) * page;
  return bytes;
}

bool kernel_populates() {  // since Linux 5.14
  utsname system{};
  int major = 0;
  int minor = 0;
  uname(&system);
  return std::sscanf(system.release, "%d.%d", &major, &minor) == 2 &&
         (major > 5 || (major == 5 && minor >= 14));
}

bool comes_true(const std::function<bool()>& condition) {
  for (int i = 0; i < 2000 && !condition(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return condition();
}

class PageFeeding : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!kernel_populates()) GTEST_SKIP() << "this kernel has no MADV_POPULATE_WRITE";
  }
  std::span<std::byte> range(std::size_t i) {
    return i == 1 ? std::span<std::byte>{} : std::span(arena_.data() + i * kRange, kRange);
  }

  HostArena arena_{4 * kRange, "a test"};
};

TEST_F(PageFeeding, GivesPagesFromTheFirstRangeOn) {
  PageFeeder feeder(4, [this](std::size_t i) { return range(i); });
  EXPECT_EQ(resident({arena_.data(), 4 * kRange}), 0u);
  feeder.start(2);
  feeder.start(0);  // does not count
  EXPECT_TRUE(comes_true([&] { return resident(range(2)) == kRange; }));
  EXPECT_TRUE(comes_true([&] { return resident(range(3)) == kRange; }));
  // A large page may reach over the beginning of range 2, not to the first.
  EXPECT_EQ(resident(range(0)), 0u);
  for (const std::byte byte : range(3)) ASSERT_EQ(byte, std::byte{0});
}

TEST_F(PageFeeding, KeepsWhatIsThere) {
  PageFeeder feeder(4, [this](std::size_t i) { return range(i); });
  for (std::byte& byte : range(2)) byte = std::byte{7};
  feeder.start(0);
  EXPECT_TRUE(comes_true([&] { return resident(range(3)) == kRange; }));
  for (const std::byte byte : range(2)) ASSERT_EQ(byte, std::byte{7});
}

TEST_F(PageFeeding, EndsWithItsOwner) {
  std::optional<PageFeeder> feeder;
  feeder.emplace(4, [this](std::size_t i) { return range(i); });
  feeder->start(0);
  feeder.reset();  // whether it had begun or not
  const std::uint64_t then = resident({arena_.data(), 4 * kRange});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(resident({arena_.data(), 4 * kRange}), then);
}

}  // namespace
}  // namespace berth
