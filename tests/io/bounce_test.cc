// Bounce buffers: every copy is made once, the buffer that was used last is used next, and the
// destructor does not wait for readers.
#include "runtime/io/bounce.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <optional>
#include <thread>
#include <vector>

#include "tests/failing_new.h"

namespace berth {
namespace {

constexpr std::uint64_t kBytes = 64u << 10;

void fill(std::byte* buffer, std::size_t value) {
  for (std::uint64_t i = 0; i < kBytes; ++i) buffer[i] = static_cast<std::byte>(value * 31 + i);
}

// Makes 64 copies with 4 readers, and expects each destination to hold what fill() wrote for it.
void copy_all(BounceBuffers& bounce, std::vector<std::byte>& memory) {
  constexpr std::size_t kCopies = 64;
  memory.assign(kCopies * kBytes, std::byte{0});
  std::atomic<std::size_t> next = 0;
  {
    std::vector<std::jthread> readers;
    for (int t = 0; t < 4; ++t) {
      readers.emplace_back([&] {
        for (std::size_t i; (i = next.fetch_add(1)) < kCopies;) {
          BounceBuffers::Buffer buffer = bounce.take();
          std::byte* from = buffer.get();
          fill(from, i);
          bounce.copy(std::move(buffer), from, kBytes, memory.data() + i * kBytes);
        }
      });
    }
  }
  bounce.finish();
  std::vector<std::byte> expected(kBytes);
  for (std::size_t i = 0; i < kCopies; ++i) {
    fill(expected.data(), i);
    ASSERT_EQ(std::memcmp(memory.data() + i * kBytes, expected.data(), kBytes), 0) << i;
  }
}

TEST(Bounce, CopiesEverythingWithFewerBuffersThanReaders) {
  std::vector<std::byte> memory;
  BounceBuffers bounce(2, kBytes, 3);
  copy_all(bounce, memory);
  copy_all(bounce, memory);  // after finish() the buffers can still be used
}

// The buffer was given back under the lock that giving back takes: the thread waited for itself.
TEST(Bounce, GivesABufferBackWhereMemoryRunsOut) {
  BounceBuffers bounce(64, kBytes, 1);
  std::vector<std::byte> memory(kBytes);
  std::size_t refused = 0;
  for (int i = 0; i < 64; ++i) {
    BounceBuffers::Buffer buffer = bounce.take();
    std::byte* from = buffer.get();
    const testing::OutOfMemory out_of_memory(0);
    try {
      bounce.copy(std::move(buffer), from, kBytes, memory.data());
    } catch (const std::bad_alloc&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 0u);
  bounce.finish();
  std::vector<BounceBuffers::Buffer> all;
  for (int i = 0; i < 64; ++i) all.push_back(bounce.take());
}

TEST(Bounce, ThreadsJoinInWhileReadersWaitForBuffers) {
  std::vector<std::byte> memory;
  BounceBuffers enough(64, kBytes, 4);
  EXPECT_EQ(enough.copying(), 2u);
  copy_all(enough, memory);
  EXPECT_EQ(enough.copying(), 2u) << "there is a buffer for each copy, so nobody waited";
  BounceBuffers few(1, kBytes, 4);
  for (int i = 0; i < 1000 && few.copying() < 4; ++i) copy_all(few, memory);
  EXPECT_EQ(few.copying(), 4u);
  copy_all(few, memory);
}

TEST(Bounce, WithoutThreadsTheReaderCopies) {
  std::vector<std::byte> memory;
  BounceBuffers bounce(1, kBytes, 0);
  copy_all(bounce, memory);
}

TEST(Bounce, TheBufferUsedLastComesFirst) {
  BounceBuffers bounce(3, kBytes, 0);
  BounceBuffers::Buffer first = bounce.take();
  BounceBuffers::Buffer second = bounce.take();
  const std::byte* was_first = first.get();
  const std::byte* was_second = second.get();
  EXPECT_NE(was_first, was_second);
  second.reset();
  first.reset();
  EXPECT_EQ(bounce.take().get(), was_first);
  EXPECT_EQ(bounce.take().get(), was_first);  // given back at the end of the line above
}

TEST(Bounce, ABufferThatIsNotCopiedComesBack) {
  BounceBuffers bounce(1, kBytes, 1);
  for (int i = 0; i < 3; ++i) {
    EXPECT_NE(bounce.take().get(), nullptr);  // a read that failed
  }
  bounce.finish();
}

TEST(Bounce, EndsWithCopiesOnTheirWay) {
  std::vector<std::byte> memory(8 * kBytes);
  std::optional<BounceBuffers> bounce;
  bounce.emplace(8, kBytes, 1);
  for (std::size_t i = 0; i < 8; ++i) {
    BounceBuffers::Buffer buffer = bounce->take();
    std::byte* from = buffer.get();
    bounce->copy(std::move(buffer), from, kBytes, memory.data() + i * kBytes);
  }
  bounce.reset();
  memory.clear();
  memory.shrink_to_fit();  // nothing writes there any more: the sanitizers would see it
}

}  // namespace
}  // namespace berth
