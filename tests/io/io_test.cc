// Reading: what happens where the kernel refuses, waits, or has less than it said.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <deque>
#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

#include "runtime/io/memory.h"
#include "runtime/io/shard_files.h"
#include "runtime/io/uring_submit.h"
#include "tests/instance_share.h"
#include "tests/load/support.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

// Answers of a kernel, one call after another; the last one again and again.
class Kernel {
 public:
  explicit Kernel(std::deque<int> answers) : answers_(std::move(answers)) {}
  int operator()() {
    ++calls_;
    const int answer = answers_.front();
    if (answers_.size() > 1) answers_.pop_front();
    return answer;
  }
  int calls() const { return calls_; }

 private:
  std::deque<int> answers_;
  int calls_ = 0;
};

Submitted submit(Kernel& kernel, unsigned requests) {
  return submit_all(requests, [&kernel] { return kernel(); });
}

TEST(Submitting, GoesOnUntilAllRequestsAreTaken) {
  Kernel kernel({3, -EINTR, -EAGAIN, 2, -EBUSY, 3});
  const Submitted submitted = submit(kernel, 8);
  EXPECT_EQ(submitted.taken, 8u);
  EXPECT_EQ(submitted.error, 0);
}

TEST(Submitting, EndsWhereTheKernelTakesNoMore) {
  for (const int refusal : {-EAGAIN, -EBUSY, -EINVAL, -EPERM, 0}) {
    Kernel none({refusal});
    EXPECT_EQ(submit(none, 8).taken, 0u) << refusal;
    Kernel some({5, refusal});
    const Submitted submitted = submit(some, 8);
    EXPECT_EQ(submitted.taken, 5u) << refusal;
    EXPECT_EQ(submitted.error, refusal == 0 ? -EIO : refusal);
    EXPECT_LT(some.calls(), 100);
  }
}

// To open a shard may take long. Others are read meanwhile.
TEST(ShardFiles, WaitsForOneShardAndReadsAnother) {
  const testing::TempFolder folder;
  std::mt19937 random(1);
  std::vector<testing::TestTensor> tensors(2);
  for (std::uint32_t i = 0; i < 2; ++i) {
    tensors[i].name = std::to_string(i);
    tensors[i].shard = i;
    tensors[i].shape = {1000};
  }
  const Model model = testing::write_model(folder.path(), tensors, 2, random, false);
  std::promise<void> second_is_read;
  std::future<void> wanted = second_is_read.get_future();
  const WrapReader wrap = [&](std::unique_ptr<Reader> reader, std::uint32_t shard, IoEngine) {
    if (shard == 0) wanted.wait();
    return reader;
  };
  ShardFiles files(model.checkpoint->shards, std::vector<FileSystemFacts>(2), {1, 1},
                   {IoEngine::kBuffered}, wrap);
  std::vector<std::byte> memory(2 * kBlock);
  std::jthread first([&] {
    std::vector<std::byte> own(2 * kBlock);
    files.read(0, 0, 10, own.data());
  });
  EXPECT_EQ(files.read(1, 0, 10, memory.data()).reached, 10u);
  second_is_read.set_value();
}

class Mapped : public ::testing::Test {
 protected:
  void SetUp() override {
    file_ = folder_.path() / "a.safetensors";
    std::ofstream(file_) << std::string(kPages * 4096, 'x');
    Descriptor fd(::open(file_.c_str(), O_RDWR));
    data_ = static_cast<std::byte*>(
        ::mmap(nullptr, kPages * 4096, PROT_READ, MAP_PRIVATE, fd.get(), 0));
    ASSERT_NE(data_, MAP_FAILED);
  }
  void TearDown() override { ::munmap(data_, kPages * 4096); }

  static constexpr std::uint64_t kPages = 100;
  testing::TempFolder folder_;
  fs::path file_;
  std::byte* data_ = nullptr;
};

// What stands in for MADV_POPULATE_READ where the kernel does not have it.
TEST_F(Mapped, PagesThatAreGoneAreFoundWithoutASignal) {
  EXPECT_TRUE(touch_by_calls(data_, kPages * 4096));
  EXPECT_TRUE(touch_by_calls(data_ + 5, 1));
  fs::resize_file(file_, 50 * 4096);
  EXPECT_FALSE(touch_by_calls(data_, kPages * 4096));
  EXPECT_TRUE(touch_by_calls(data_, 50 * 4096));
  EXPECT_FALSE(touch_by_calls(data_ + 99 * 4096, 4096));
}

// A hole of 8 TiB, of which nothing is in RAM: counting its pages one by one takes 100 s.
TEST(FileMapping, EstimatesHowMuchOfALargeFileIsResident) {
  const testing::TempFolder folder;
  const fs::path file = folder.path() / "a.safetensors";
  std::ofstream(file) << "x";
  // ThreadSanitizer leaves little of the address space free.
  constexpr std::uint64_t kBytes = (std::uint64_t{1} << 43) / kInstanceShare / 4096 * 4096;
  std::error_code error;
  fs::resize_file(file, kBytes, error);
  if (error)
    GTEST_SKIP() << "a sparse file of " << kBytes
                 << " bytes cannot be made here: " << error.message();
  struct stat info {};
  ASSERT_EQ(::stat(file.c_str(), &info), 0);
  Shard shard;
  shard.path = file;
  shard.file_bytes = kBytes;
  shard.device = info.st_dev;
  shard.inode = info.st_ino;
  shard.mtime_ns = std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
  const FileMapping mapping(shard);
  EXPECT_LT(mapping.resident(0, kBytes, 1u << 28), kBytes / 100);
}

}  // namespace
}  // namespace berth
