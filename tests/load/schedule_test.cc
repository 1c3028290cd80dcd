// The schedule against its definition, on random models: brute force looks at every byte.
#include "runtime/load/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "berth/planner.h"
#include "runtime/io/reader.h"
#include "tests/load/support.h"

namespace berth {
namespace {

using testing::TestTensor;

bool is_read(const Destination& destination) {
  return destination.kind == DestinationKind::kArena ||
         destination.kind == DestinationKind::kOffload;
}

class Schedules : public ::testing::TestWithParam<unsigned> {
 protected:
  void SetUp() override {
    random_.seed(GetParam());
    tensors_ = testing::random_tensors(random_, 50, 3, {"0", "1", "cpu", "disk"}, GetParam() % 2);
    model_ = testing::write_model(folder_.path(), tensors_, 3, random_, GetParam() % 3 == 0);
    if (GetParam() >= 12) testing::share_bytes(model_, tensors_, random_);
    plan_ = testing::make_test_plan(model_, tensors_,
                                    GetParam() % 4 == 0 ? CpuMemory::kMmap : CpuMemory::kPrivate);
    options_.chunk_bytes = 64u << 10;
    schedule_ = make_schedule(model_, plan_, options_);
  }

  std::mt19937 random_;
  testing::TempFolder folder_;
  std::vector<TestTensor> tensors_;
  Model model_;
  Plan plan_;
  ScheduleOptions options_;
  Schedule schedule_;
};

TEST_P(Schedules, ReadEveryWantedByteOnceInFileOrder) {
  enum Byte : char { kUnwanted, kWanted, kRead };
  std::vector<std::vector<Byte>> bytes;  // by shard
  for (const Shard& shard : model_.checkpoint->shards) bytes.emplace_back(shard.file_bytes);
  for (TensorId id = 0; id < tensors_.size(); ++id) {
    if (!is_read(schedule_.destinations[id])) continue;
    const TensorInfo& info = model_.checkpoint->tensors[schedule_.destinations[id].source];
    for (std::uint64_t at = info.begin; at < info.end; ++at) bytes[info.shard][at] = kWanted;
  }
  std::pair<std::uint32_t, std::uint64_t> last{0, 0};
  for (const Chunk& chunk : schedule_.chunks) {
    ASSERT_LT(chunk.begin, chunk.end);
    ASSERT_LE(last, std::pair(chunk.shard, chunk.begin));
    last = {chunk.shard, chunk.end};
    for (std::uint64_t at = chunk.begin; at < chunk.end; ++at) {
      ASSERT_EQ(bytes[chunk.shard][at], kWanted) << "byte " << at << " is read twice or for nobody";
      bytes[chunk.shard][at] = kRead;
    }
  }
  for (const auto& shard : bytes) {
    ASSERT_EQ(std::count(shard.begin(), shard.end(), kWanted), 0) << "bytes are left out";
  }
}

TEST_P(Schedules, StagedChunksFitTheirSlotsAndCutNoConvertedElement) {
  for (const Chunk& chunk : schedule_.chunks) {
    if (chunk.in_place) continue;
    EXPECT_LE(block_up(chunk.end) - block_down(chunk.begin), slot_bytes(options_.chunk_bytes));
    ASSERT_GT(chunk.segments, 0u);
    for (std::uint32_t i = 0; i < chunk.segments; ++i) {
      const Segment& segment = schedule_.segments[chunk.first_segment + i];
      EXPECT_GE(segment.from, chunk.begin);
      EXPECT_LE(segment.from + segment.bytes, chunk.end);
      if (segment.stored != segment.dtype) {
        EXPECT_EQ(segment.bytes % (dtype_bits(segment.stored) / 8), 0u);
      }
    }
  }
}

TEST_P(Schedules, DestinationsDoNotOverlapAndStayInTheirMemory) {
  std::map<std::uint32_t, std::map<std::uint64_t, std::pair<std::uint64_t, std::uint32_t>>> taken;
  for (const Destination& destination : schedule_.destinations) {
    if (!is_read(destination) || destination.bytes == 0) continue;
    ASSERT_LE(destination.offset + destination.bytes, schedule_.arena_bytes[destination.device]);
    const auto [at, is_new] = taken[destination.device].try_emplace(
        destination.offset, destination.offset + destination.bytes, destination.source);
    if (!is_new) {
      EXPECT_EQ(at->second, std::pair(destination.offset + destination.bytes, destination.source));
    }
  }
  for (const auto& [device, ranges] : taken) {
    std::uint64_t end = 0;
    for (const auto& [begin, range] : ranges) {
      EXPECT_GE(begin, end);
      end = range.first;
      if (plan_.devices[device].kind == DeviceKind::kCuda) {
        EXPECT_EQ(begin % 512, 0u);
      }
    }
  }
}

TEST_P(Schedules, RunsReadInPlaceOwnTheirBlocks) {
  // O_DIRECT writes whole blocks, so no two runs may share a block of memory.
  std::map<std::pair<std::uint32_t, std::uint64_t>, std::pair<std::uint32_t, std::uint64_t>> owner;
  for (const Chunk& chunk : schedule_.chunks) {
    if (!chunk.in_place) continue;
    ASSERT_EQ(chunk.to % kBlock, chunk.begin % kBlock);
    ASSERT_LE(block_up(chunk.to + (chunk.end - chunk.begin)), schedule_.arena_bytes[chunk.device]);
    for (std::uint64_t at = block_down(chunk.begin); at < chunk.end; at += kBlock) {
      const std::uint64_t block = chunk.to - chunk.begin + at;
      const auto [entry, is_new] =
          owner.try_emplace(std::pair(chunk.device, block), chunk.shard, at);
      ASSERT_TRUE(is_new || entry->second == std::pair(chunk.shard, at));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Random, Schedules, ::testing::Range(0u, 120u));

TEST(Schedule, MergesNeighboursIntoFewReads) {
  testing::TempFolder folder;
  std::mt19937 random(1);
  std::vector<TestTensor> tensors(1000);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    tensors[i].name = "t" + std::to_string(i);
    tensors[i].shape = {128};
    tensors[i].device = "0";
  }
  const Model model = testing::write_model(folder.path(), tensors, 1, random, false);
  const Plan plan = testing::make_test_plan(model, tensors, CpuMemory::kMmap);
  const Schedule schedule = make_schedule(model, plan, {});
  EXPECT_EQ(schedule.chunks.size(), 1u);
  EXPECT_EQ(schedule.segments.size(), 1u);  // 512-byte tensors follow each other on the device too
}

TEST(Schedule, CutsWhatIsReadInPlaceAlongLargePagesOfItsMemory) {
  testing::TempFolder folder;
  std::mt19937 random(1);
  std::vector<TestTensor> tensors(3);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    tensors[i].name = "t" + std::to_string(i);
    tensors[i].shape = {(5u << 20) / 4 + 7 * i};
  }
  const Model model = testing::write_model(folder.path(), tensors, 1, random, false);
  const Plan plan = testing::make_test_plan(model, tensors, CpuMemory::kPrivate);
  const Schedule schedule = make_schedule(model, plan, {});
  constexpr std::uint64_t kLarge = 2u << 20;
  ASSERT_EQ(schedule.chunks.size(), 8u);  // 15 MiB and a little more
  for (std::size_t i = 0; i < schedule.chunks.size(); ++i) {
    const Chunk& chunk = schedule.chunks[i];
    ASSERT_TRUE(chunk.in_place);
    EXPECT_EQ(chunk.to % kBlock, chunk.begin % kBlock);
    if (i > 0) {
      EXPECT_EQ(chunk.to % kLarge, 0u);
      EXPECT_EQ(chunk.begin, schedule.chunks[i - 1].end);
    }
  }
}

TEST(Schedule, CutsWhatComesFromTheDiskFiner) {
  testing::TempFolder folder;
  std::mt19937 random(1);
  std::vector<TestTensor> tensors(6);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    tensors[i].name = "t" + std::to_string(i);
    tensors[i].shape = {(3u << 20) / 4};
    tensors[i].shard = static_cast<std::uint32_t>(i / 2);
    tensors[i].device = i < 4 ? "0" : "disk";
  }
  const Model model = testing::write_model(folder.path(), tensors, 3, random, false);
  const Plan plan = testing::make_test_plan(model, tensors, CpuMemory::kMmap);
  ScheduleOptions options;
  options.chunk_bytes = 1u << 20;
  std::vector<std::uint32_t> asked;
  options.cold = [&](std::uint32_t shard) {
    asked.push_back(shard);
    return shard == 1;
  };
  const Schedule schedule = make_schedule(model, plan, options);
  EXPECT_EQ(asked, (std::vector<std::uint32_t>{0, 1})) << "what stays on disk is not read";
  EXPECT_TRUE(schedule.any_cached);
  std::uint64_t largest[2] = {};
  for (const Chunk& chunk : schedule.chunks) {
    largest[chunk.shard] = std::max(largest[chunk.shard], chunk.end - chunk.begin);
  }
  EXPECT_EQ(largest[0], options.chunk_bytes);
  EXPECT_EQ(largest[1], kColdChunk);
  options.cold = [](std::uint32_t) { return true; };
  EXPECT_FALSE(make_schedule(model, plan, options).any_cached);
}

// Chunks are small, and cut along the large pages of the arena, since each page is one thread's to
// copy to.
TEST(Schedule, ColdBytesOfPrivateMemoryGoThroughBounceBuffers) {
  testing::TempFolder folder;
  std::mt19937 random(1);
  std::vector<TestTensor> tensors(2);
  for (std::uint32_t i = 0; i < 2; ++i) {
    tensors[i].name = "t" + std::to_string(i);
    tensors[i].shape = {(3u << 20) / 4};
    tensors[i].shard = i;
    tensors[i].device = "cpu";
  }
  const Model model = testing::write_model(folder.path(), tensors, 2, random, false);
  const Plan plan = testing::make_test_plan(model, tensors, CpuMemory::kPrivate);
  ScheduleOptions options;
  options.cold = [](std::uint32_t shard) { return shard == 1; };
  const Schedule schedule = make_schedule(model, plan, options);
  std::uint64_t bounced = 0;
  for (const Chunk& chunk : schedule.chunks) {
    EXPECT_TRUE(chunk.in_place);
    EXPECT_EQ(chunk.cold, chunk.shard == 1);
    const std::uint64_t step = chunk.cold ? kColdChunk : 2u << 20;
    const std::uint64_t last = chunk.to + (chunk.end - chunk.begin) - 1;
    EXPECT_EQ(chunk.to / step, last / step);
    bounced += chunk.cold;
  }
  EXPECT_GE(bounced, 6u);
  EXPECT_EQ(schedule.bounced_chunks, bounced);
}

TEST(Schedule, RefusesConversionsThatDoNotExist) {
  EXPECT_TRUE(can_convert(DType::kF32, DType::kBF16));
  EXPECT_TRUE(can_convert(DType::kI64, DType::kI64));
  EXPECT_FALSE(can_convert(DType::kI64, DType::kF32));
  EXPECT_FALSE(can_convert(DType::kF8E4M3, DType::kBF16));
}

}  // namespace
}  // namespace berth
