// Measuring the disk: what is read, that no file is left behind, and what the notes say where
// something does not work.
#include "runtime/calibrate/disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "berth/error.h"
#include "runtime/calibrate/scratch_file.h"
#include "tests/cli/temporary_folder.h"

namespace berth {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

constexpr std::uint64_t kMiB = 1u << 20;

DiskOptions quick(const fs::path& folder) {
  DiskOptions options;
  options.folder = folder;
  options.seconds = 0.3;
  options.most = 72 * kMiB;
  options.keep_free = 0;
  options.least_files = 16 * kMiB;
  options.threads = 3;
  return options;
}

std::string failure(const DiskOptions& options) {
  try {
    measure_disk(options);
  } catch (const Error& error) {
    return error.what();
  }
  return "it was measured";
}

fs::path shard(const TemporaryFolder& folder, const std::string& name, std::size_t bytes) {
  return folder.write(name, std::string(bytes, 'w'));
}

TEST(Disk, IsReadByAFileThatLeavesNothing) {
  const TemporaryFolder folder;
  const DiskFigures figures = measure_disk(quick(folder.path()));
  EXPECT_GT(figures.read, 0);
  EXPECT_TRUE(figures.made);
  EXPECT_GE(figures.passes, 1u);
  EXPECT_GT(figures.bytes, 0u);
  EXPECT_LE(figures.bytes, 72 * kMiB);
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(Disk, IsReadByTheFilesThatAreThere) {
  const TemporaryFolder folder;
  DiskOptions options = quick(folder.path());
  options.files = {shard(folder, "a", 24 * kMiB + 5), shard(folder, "b", 16 * kMiB)};
  options.make_direct = [](int) { return true; };  // whatever the file system of this folder
  const DiskFigures figures = measure_disk(options);
  EXPECT_FALSE(figures.made);
  EXPECT_EQ(figures.bytes, 40 * kMiB) << "whole chunks of both";
  options.most = 16 * kMiB;
  EXPECT_EQ(measure_disk(options).bytes, 16 * kMiB) << "no more than wanted";
}

TEST(Disk, IsNotReadByHolesNorByTooLittle) {
  const TemporaryFolder folder;
  DiskOptions options = quick(folder.path());
  options.files = {shard(folder, "sparse", 1)};
  fs::resize_file(options.files[0], 300 * kMiB);
  DiskFigures figures = measure_disk(options);
  EXPECT_TRUE(figures.made);
  EXPECT_THAT(figures.notes, Contains(AllOf(HasSubstr("holes"), HasSubstr("a file was made"))));
  options.files = {shard(folder, "small", 1000), folder.path() / "absent"};
  figures = measure_disk(options);
  EXPECT_TRUE(figures.made);
  EXPECT_THAT(figures.notes, Contains(HasSubstr("less than 16.0 MiB")));
}

TEST(Disk, WithoutDirectReadsIsReadThroughTheCacheAndSaysSo) {
  const TemporaryFolder folder;
  DiskOptions options = quick(folder.path());
  options.make_direct = [](int) { return false; };
  options.files = {shard(folder, "a", 24 * kMiB)};
  const DiskFigures figures = measure_disk(options);
  EXPECT_GT(figures.read, 0);
  EXPECT_FALSE(figures.direct);
  EXPECT_TRUE(figures.made) << "a model's pages are not dropped";
  EXPECT_THAT(figures.notes, Contains(HasSubstr("does not support O_DIRECT")));
  EXPECT_EQ(figures.notes.size(), 2u) << "why no shard, and what the figure is then";
}

TEST(Disk, ThatIsFullIsOneClearError) {
  const TemporaryFolder folder;
  DiskOptions options = quick(folder.path());
  options.keep_free = std::uint64_t{1} << 62;
  EXPECT_THAT(failure(options), AllOf(HasSubstr(folder.path().string()), HasSubstr("No space left"),
                                      HasSubstr("--disk")));
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(Disk, ThatTakesNoFilesIsOneClearError) {
  EXPECT_THAT(failure(quick("/proc")), AllOf(HasSubstr("/proc: "), HasSubstr("--disk")));
  EXPECT_THAT(failure(quick("/nowhere/at/all")),
              AllOf(HasSubstr("/nowhere/at/all: "), HasSubstr("--disk")));
}

TEST(Disk, StopsWhenCancelledAndLeavesNothing) {
  const TemporaryFolder folder;
  std::atomic<bool> cancel{false};
  DiskOptions options = quick(folder.path());
  options.cancel = &cancel;
  options.make_direct = [&](int fd) {  // the file exists now
    cancel = true;
    return set_direct(fd);
  };
  EXPECT_THAT(failure(options), HasSubstr("interrupted"));
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(ScratchFile, HasNoNameWhileItLives) {
  const TemporaryFolder folder;
  ScratchOptions options;
  options.folder = folder.path();
  options.most = 64 * kMiB;
  const ScratchFile file = make_scratch_file(options);
  EXPECT_EQ(file.bytes, 64 * kMiB) << "at least this much, though no time was given";
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

}  // namespace
}  // namespace berth
