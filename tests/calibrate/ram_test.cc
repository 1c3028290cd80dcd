// Measuring host RAM: how much memory is used, and how many threads. Not how fast it is, which
// bench/ measures.
#include "runtime/calibrate/ram.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "berth/error.h"
#include "runtime/calibrate/crew.h"
#include "tests/cli/temporary_folder.h"

namespace berth {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

RamOptions small() {
  RamOptions options;
  options.seconds = 0.2;
  options.threads = 2;
  options.most = 32u << 20;
  options.caches = 1u << 20;
  return options;
}

TEST(Ram, IsReadAndCopiedByAllThreads) {
  RamOptions options = small();
  options.seconds = 30;  // enough on any machine; it ends when kMostPasses are over
  const RamFigures figures = measure_ram(options);
  EXPECT_GT(figures.read, 0);
  EXPECT_GT(figures.copy, 0);
  EXPECT_EQ(figures.threads, 2u);
  EXPECT_EQ(figures.bytes, 32u << 20);
  EXPECT_GE(figures.passes, 1u);
  EXPECT_THAT(figures.notes, IsEmpty());
}

TEST(Ram, SaysWhereCachesMayHaveHelped) {
  RamOptions options = small();
  options.caches = 16u << 20;
  EXPECT_THAT(measure_ram(options).notes,
              ElementsAre(HasSubstr("less than four times the caches")));
}

TEST(Ram, IsNotMeasuredWithTooLittle) {
  RamOptions options = small();
  options.most = 1u << 20;
  EXPECT_THROW(measure_ram(options), Error);
  options.most = 0;
  EXPECT_THROW(measure_ram(options), Error);
}

TEST(Ram, StopsWhenCancelled) {
  const std::atomic<bool> cancel{true};
  RamOptions options = small();
  options.cancel = &cancel;
  EXPECT_THROW(measure_ram(options), Error);
}

TEST(Caches, AreCountedOnceForThoseWhoShareThem) {
  const testing::TemporaryFolder root;
  const auto cache = [&](const std::string& cpu, const std::string& index, const std::string& level,
                         const std::string& type, const std::string& size,
                         const std::string& shared) {
    const std::string at = "sys/devices/system/cpu/" + cpu + "/cache/" + index + "/";
    root.write(at + "level", level + "\n");
    root.write(at + "type", type + "\n");
    root.write(at + "size", size + "\n");
    root.write(at + "shared_cpu_list", shared + "\n");
  };
  EXPECT_EQ(last_level_caches(root.path()), 0u) << "some virtual machines do not say";
  for (const char* cpu : {"cpu0", "cpu1", "cpu2"}) {
    cache(cpu, "index0", "1", "Data", "32K", std::string(cpu + 3));
    cache(cpu, "index1", "1", "Instruction", "64K", std::string(cpu + 3));
    cache(cpu, "index2", "3", "Unified", "32768K", cpu[3] == '2' ? "2-3" : "0-1");
  }
  EXPECT_EQ(last_level_caches(root.path()), 64u << 20) << "two caches, three CPUs";
}

TEST(Crew, RunsEveryJobOnceOnEveryThread) {
  Crew crew(3);
  std::array<int, 3> counts{};
  for (int i = 0; i < 50; ++i) crew.run([&](unsigned thread) { ++counts[thread]; });
  EXPECT_THAT(counts, ElementsAre(50, 50, 50));
}

}  // namespace
}  // namespace berth
