// What load() promises besides the bytes: what it checks before it reads, its report, and how much
// memory it takes.
#include "berth/loader.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "berth/error.h"
#include "berth/planner.h"
#include "cuda/device.h"
#include "runtime/io/file_facts.h"
#include "runtime/io/shard_files.h"
#include "runtime/load/naive.h"
#include "runtime/load/schedule.h"
#include "tests/instance_share.h"
#include "tests/load/support.h"

namespace berth {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::TempFolder;
using testing::TestTensor;

#ifdef BERTH_SANITIZED
constexpr bool kSanitized = true;  // a sanitizer's shadow memory is anonymous memory, too
#else
constexpr bool kSanitized = false;
#endif

class Loader : public ::testing::Test {
 protected:
  void make(std::vector<TestTensor> tensors, CpuMemory mode, std::uint32_t shards = 1) {
    tensors_ = std::move(tensors);
    model_ = testing::write_model(folder_.path(), tensors_, shards, random_, false);
    plan_ = testing::make_test_plan(model_, tensors_, mode);
  }
  std::unique_ptr<LoadedModel> load_it(const LoadEnvironment& environment = {}) {
    return load(model_, plan_, options_, environment);
  }
  std::string error(const LoadEnvironment& environment = {}) {
    try {
      load_it(environment);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  std::mt19937 random_{3};
  TempFolder folder_;
  std::vector<TestTensor> tensors_;
  Model model_;
  Plan plan_;
  LoadOptions options_;
};

TestTensor tensor(const std::string& name, const std::string& device, std::uint64_t elements,
                  DType stored = DType::kF32, DType dtype = DType::kF32) {
  TestTensor made;
  made.name = name;
  made.device = device;
  made.shape = {elements};
  made.stored = stored;
  made.dtype = dtype;
  return made;
}

TEST_F(Loader, TiedTensorsShareStorageOnADeviceAndAreReadOnce) {
  TestTensor tied = tensor("head", "cpu", 0);
  tied.tied_to = 0;
  TestTensor elsewhere = tensor("copy", "0", 0);
  elsewhere.tied_to = 0;
  make({tensor("embed", "cpu", 5000), tied, elsewhere}, CpuMemory::kPrivate);
  options_.emulate = true;
  const auto loaded = load_it();
  testing::expect_loaded(model_, plan_, tensors_, *loaded);
  EXPECT_EQ(loaded->tensor(0).data, loaded->tensor(1).data);
  EXPECT_NE(loaded->tensor(0).data, loaded->tensor(2).data);
  EXPECT_EQ(loaded->report().bytes_read, 20'000u);
  EXPECT_EQ(loaded->report().devices[0].loaded, 20'000u);
  EXPECT_EQ(loaded->report().devices[2].loaded, 20'000u);
}

TEST_F(Loader, ATieWhoseFirstMemberIsNotStoredTakesTheOther) {
  make({tensor("embed", "cpu", 100), tensor("head", "cpu", 100)}, CpuMemory::kPrivate);
  model_.tree.tensors[0].source = kNone;
  model_.tree.tensors[1].tied_to = 0;
  const auto loaded = load_it();
  EXPECT_EQ(loaded->tensor(0).data, loaded->tensor(1).data);
  EXPECT_EQ(std::memcmp(loaded->tensor(0).data, tensors_[1].bytes.data(), 400), 0);
}

TEST_F(Loader, LeavesComputedBuffersToTheExecutor) {
  make({tensor("weight", "cpu", 100), tensor("inv_freq", "cpu", 10), tensor("far", "disk", 10)},
       CpuMemory::kMmap);
  for (const TensorId id : {1u, 2u}) {
    model_.tree.tensors[id].persistent = false;
    model_.tree.tensors[id].buffer = true;
    model_.tree.tensors[id].source = kNone;
  }
  const auto loaded = load_it();
  EXPECT_EQ(loaded->tensor(1).data, nullptr);
  EXPECT_EQ(loaded->tensor(1).bytes, 0u);
  EXPECT_EQ(loaded->tensor(2).data, nullptr);
  EXPECT_THROW(loaded->fetch(2), Error);
  EXPECT_EQ(loaded->report().bytes_read, 0u);
  EXPECT_EQ(loaded->report().bytes_mapped, 400u);
  EXPECT_EQ(loaded->report().tensors, 1u);
  EXPECT_EQ(loaded->report().devices[2].loaded, 400u);
  EXPECT_EQ(loaded->report().devices[3].loaded, 0u);
}

TEST_F(Loader, MappingCostsNoPrivateMemoryAndMayNotBeWritten) {
  make({tensor("a", "cpu", 4'000'000), tensor("b", "cpu", 1'000'000)}, CpuMemory::kMmap);
  const auto loaded = load_it();
  const LoadReport& report = loaded->report();
  EXPECT_EQ(report.bytes_read, 0u);
  EXPECT_EQ(report.bytes_mapped, 20'000'000u);
  EXPECT_LT(report.host_peak_bytes, 4u << 20);
  EXPECT_EQ(report.devices[2].loaded, 20'000'000u);
  EXPECT_DEATH(loaded->tensor(0).data[0] = std::byte{1}, "");
}

TEST_F(Loader, AMappedModelOutlivesItsFilesNames) {
  make({tensor("a", "cpu", 10'000)}, CpuMemory::kMmap);
  const auto loaded = load_it();
  std::filesystem::remove(model_.checkpoint->shards[0].path);
  EXPECT_EQ(std::memcmp(loaded->tensor(0).data, tensors_[0].bytes.data(), 40'000), 0);
}

TEST_F(Loader, NetworkFileSystemsAreNeverMapped) {
  make({tensor("a", "cpu", 10'000)}, CpuMemory::kMmap);
  LoadEnvironment environment;
  environment.file_system = [](const auto&) { return FileSystemFacts{"nfs", true, false}; };
  const auto loaded = load_it(environment);
  testing::expect_loaded(model_, plan_, tensors_, *loaded);
  EXPECT_EQ(loaded->report().bytes_mapped, 0u);
  EXPECT_THAT(loaded->report().io_choices[0], AllOf(HasSubstr("buffered"), HasSubstr("nfs")));
}

TEST_F(Loader, TheModelNeedsNeitherModelNorPlanAfterwards) {
  make({tensor("a", "cpu", 100), tensor("b", "disk", 100, DType::kF32, DType::kF16)},
       CpuMemory::kPrivate);
  std::unique_ptr<LoadedModel> loaded;
  {
    const Model model = model_;
    const Plan plan = plan_;
    loaded = load(model, plan, options_, {});
  }
  testing::expect_loaded(model_, plan_, tensors_, *loaded);
  EXPECT_EQ(loaded->report().devices[3].loaded, 200u);  // as bytes of f16, once fetched
}

TEST_F(Loader, FetchSaysWhenTheShardHasChanged) {
  make({tensor("a", "disk", 100)}, CpuMemory::kMmap);
  const auto loaded = load_it();
  std::filesystem::resize_file(model_.checkpoint->shards[0].path, 50);
  EXPECT_THROW(
      {
        try {
          loaded->fetch(0);
        } catch (const Error& error) {
          EXPECT_THAT(error.what(), HasSubstr("changed since"));
          throw;
        }
      },
      Error);
}

TEST_F(Loader, AnAbsentDeviceIsAnErrorWithoutEmulation) {
  make({tensor("a", "1", 100)}, CpuMemory::kMmap);
  if (cuda_device_count() > 1) GTEST_SKIP() << "device 1 is present";
  EXPECT_THAT(error(), AllOf(HasSubstr("device 1 "), HasSubstr("--emulate")));
}

TEST_F(Loader, AnEmulatedDeviceEnforcesItsCapacity) {
  make({tensor("a", "0", 499), tensor("b", "0", 501)}, CpuMemory::kMmap);
  if (cuda_device_count() > 0) GTEST_SKIP() << "device 0 is present";
  options_.emulate = true;
  plan_.devices[0].capacity = 5000;
  plan_.devices[0].reserved = 1000;
  EXPECT_EQ(error(), "no error");  // 4000 bytes fit exactly; aligning them costs no capacity
  plan_.devices[0].reserved = 1001;
  EXPECT_THAT(error(), AllOf(HasSubstr("device 0"), HasSubstr("4000"), HasSubstr("3999")));
}

TEST_F(Loader, AShardReplacedSincePlanningIsAnError) {
  make({tensor("a", "cpu", 100)}, CpuMemory::kMmap);
  const auto file = model_.checkpoint->shards[0].path;
  std::filesystem::copy_file(file, folder_.path() / "copy");
  std::filesystem::rename(folder_.path() / "copy", file);
  EXPECT_THAT(error(), AllOf(HasSubstr("model.safetensors"), HasSubstr("replaced")));
}

TEST_F(Loader, TooLittleHostMemoryIsAnErrorBeforeTheFirstByte) {
  make({tensor("a", "cpu", 10'000)}, CpuMemory::kPrivate);
  LoadEnvironment environment;
  environment.probe = [](const auto&) {
    Machine machine;
    Device cpu;
    cpu.name = "cpu";
    cpu.kind = DeviceKind::kCpu;
    cpu.capacity = 30'000;
    machine.devices.push_back(cpu);
    return machine;
  };
  environment.wrap_reader = [](std::unique_ptr<Reader> reader, std::uint32_t, IoEngine) {
    ADD_FAILURE() << "a shard was opened";
    return reader;
  };
  EXPECT_THAT(error(environment), AllOf(HasSubstr("host memory"), HasSubstr("30000")));
  environment.recheck = [](const Plan&, const Machine&, bool) { return "cpu: 5 bytes too few"; };
  EXPECT_EQ(error(environment), "cpu: 5 bytes too few");
}

TEST_F(Loader, AMachineThatWasJustProbedIsNotProbedAgain) {
  make({tensor("a", "cpu", 10'000)}, CpuMemory::kPrivate);
  LoadEnvironment environment;
  environment.probe = [](const auto&) {
    ADD_FAILURE() << "the machine was probed";
    return Machine();
  };
  options_.machine.emplace();
  EXPECT_EQ(error(environment), "no error");
  Device cpu;
  cpu.name = "cpu";
  cpu.kind = DeviceKind::kCpu;
  cpu.capacity = 30'000;
  options_.machine->devices.push_back(cpu);
  EXPECT_THAT(error(environment), AllOf(HasSubstr("host memory"), HasSubstr("30000")));
}

TEST_F(Loader, APlanForAnotherModelIsAnError) {
  make({tensor("a", "cpu", 100)}, CpuMemory::kMmap);
  plan_.tensor_device.push_back(0);
  EXPECT_THAT(error(), HasSubstr("another model"));
  plan_.tensor_device = {99};
  EXPECT_THAT(error(), AllOf(HasSubstr("'a'"), HasSubstr("no device")));
  model_.checkpoint.reset();
  EXPECT_THAT(error(), HasSubstr("no weights"));
}

TEST_F(Loader, PinnedMemoryWithoutAGpuIsPrivateAndSaysSo) {
  if (cuda_device_count() > 0) GTEST_SKIP() << "a GPU is present";
  make({tensor("a", "cpu", 100)}, CpuMemory::kPinned);
  const auto loaded = load_it();
  ASSERT_EQ(loaded->report().notes.size(), 1u);
  EXPECT_THAT(loaded->report().notes[0], HasSubstr("pinned"));
}

// Weights of 40 MB, which are stored as f32 and kept as bf16 or sent to an emulated GPU, in one
// shard or in many.
TEST_F(Loader, PeakIsWhatStaysPlusStaging) {
  if (kSanitized) GTEST_SKIP() << "sanitizers use memory of their own";
  for (const std::uint32_t shards : {1u, 40u}) {
    for (const IoEngine engine : {IoEngine::kBuffered, IoEngine::kDirect}) {
      std::vector<TestTensor> tensors;
      for (std::uint32_t i = 0; i < 80; ++i) {
        tensors.push_back(tensor("t" + std::to_string(i), i % 2 ? "cpu" : "0", 250'000, DType::kF32,
                                 DType::kBF16));
        tensors.back().shard = i % shards;
      }
      const TempFolder folder;
      const Model model = testing::write_model(folder.path(), tensors, shards, random_, false);
      const Plan plan = testing::make_test_plan(model, tensors, CpuMemory::kPrivate);
      options_.emulate = true;
      options_.io = engine;
      options_.staging = 4u << 20;
      const auto loaded = load(model, plan, options_, LoadEnvironment{});
      const LoadReport& report = loaded->report();
      const std::uint64_t stays = 80 * 500'000;
      EXPECT_GE(report.host_peak_bytes, stays * 9 / 10);
      EXPECT_LE(report.planned_peak_bytes, stays + options_.staging + (1u << 20));
      EXPECT_LE(report.host_peak_bytes, stays + options_.staging + (8u << 20));
    }
  }
}

TEST_F(Loader, NaiveLoadingPeaksAtBothCopies) {
  if (kSanitized) GTEST_SKIP() << "sanitizers use memory of their own";
  make({tensor("a", "cpu", 2'000'000), tensor("b", "cpu", 2'000'000)}, CpuMemory::kMmap);
  const NaiveReport report = load_naively(model_);
  EXPECT_GE(report.host_peak_bytes, 31'000'000u);
  EXPECT_LE(report.host_peak_bytes, 36'000'000u);
}

TEST_F(Loader, StagingTooSmallToUseIsAnError) {
  make({tensor("a", "cpu", 100)}, CpuMemory::kMmap);
  options_.staging = 1000;
  EXPECT_THAT(error(), HasSubstr("--staging"));
}

TEST(IoEngines, NamesAreReadBack) {
  for (const IoEngine engine : testing::all_engines()) {
    EXPECT_EQ(parse_io_engine(io_engine_name(engine)), engine);
  }
  EXPECT_FALSE(parse_io_engine("mmap"));
}

// A file of which only the second half is in the page cache: an estimate by a few stretches tells.
TEST(Residency, OfAWholeFileIsEstimatedFromStretches) {
  const TempFolder folder;
  const std::filesystem::path path = folder.path() / "file";
  constexpr std::uint64_t kBytes = 64u << 20;
  {
    std::ofstream file(path, std::ios::binary);
    const std::vector<char> zeros(1u << 20);
    for (std::uint64_t at = 0; at < kBytes; at += zeros.size()) {
      file.write(zeros.data(), static_cast<std::streamsize>(zeros.size()));
    }
  }
  testing::forget_pages(path);
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const auto before = resident_estimate(fd.get(), kBytes);
  if (!before || *before > 0) GTEST_SKIP() << "the page cache does not let go of files here";
  posix_fadvise(fd.get(), 0, 0, POSIX_FADV_RANDOM);  // nothing is read ahead
  std::vector<char> half(kBytes / 2);
  ASSERT_EQ(pread(fd.get(), half.data(), half.size(), kBytes / 2),
            static_cast<ssize_t>(half.size()));
  EXPECT_NEAR(resident_estimate(fd.get(), kBytes).value_or(-1), 0.5, 0.13);

  Shard shard;
  shard.path = path;
  shard.file_bytes = kBytes;
  struct stat facts {};
  ASSERT_EQ(stat(path.c_str(), &facts), 0);
  shard.device = facts.st_dev;
  shard.inode = facts.st_ino;
  shard.mtime_ns =
      static_cast<std::int64_t>(facts.st_mtim.tv_sec) * 1'000'000'000 + facts.st_mtim.tv_nsec;
  EXPECT_TRUE(is_cold(shard, {}, IoEngine::kDirect)) << "it is read past the page cache";
  EXPECT_FALSE(is_cold(shard, {"tmpfs", false, true}, IoEngine::kDirect));
  ASSERT_EQ(pread(fd.get(), half.data(), half.size(), 0), static_cast<ssize_t>(half.size()));
  EXPECT_FALSE(is_cold(shard, {}, IoEngine::kAuto));
  testing::forget_pages(path);
  EXPECT_TRUE(is_cold(shard, {}, IoEngine::kAuto));
}

}  // namespace
}  // namespace berth
