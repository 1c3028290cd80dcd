// What can go wrong while reading; the faults are injected by a Reader. Where it can, the load
// succeeds with the right bytes. Otherwise it throws one clear Error and leaves no thread,
// descriptor or mapping behind, and a second load works.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>

#include "berth/error.h"
#include "berth/loader.h"
#include "berth/planner.h"
#include "runtime/io/engines.h"
#include "runtime/io/read_errors.h"
#include "runtime/load/streamer.h"
#include "tests/error_of.h"
#include "tests/load/support.h"

namespace berth {
namespace {

using ::testing::AllOf;
using testing::error_of;
using ::testing::HasSubstr;
using testing::TempFolder;
using testing::TestTensor;

using Fault = std::function<std::int64_t(Reader& real, std::uint64_t offset, std::size_t bytes,
                                         std::byte* buffer)>;

class FaultyReader final : public Reader {
 public:
  FaultyReader(std::unique_ptr<Reader> real, Fault fault)
      : real_(std::move(real)), fault_(std::move(fault)) {}
  std::int64_t read_some(std::uint64_t offset, std::size_t bytes, std::byte* buffer) override {
    return fault_(*real_, offset, bytes, buffer);
  }

 private:
  std::unique_ptr<Reader> real_;
  Fault fault_;
};

LoadEnvironment with_fault(Fault fault, std::optional<IoEngine> only = std::nullopt) {
  LoadEnvironment environment;
  environment.wrap_reader = [=](std::unique_ptr<Reader> reader, std::uint32_t, IoEngine engine) {
    if (only && *only != engine) return reader;
    return std::unique_ptr<Reader>(std::make_unique<FaultyReader>(std::move(reader), fault));
  };
  return environment;
}

// From here on this process can start no thread, as if it had reached a limit on their number.
// Returns false where the system does not let a process forbid that to itself.
bool forbid_threads() {
  sock_filter rules[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAGAIN),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{std::size(rules), rules};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// Two shards; tensors for host memory in place, for conversion, and for an emulated GPU.
class Faults : public ::testing::TestWithParam<IoEngine> {
 protected:
  void SetUp() override {
    if (!testing::is_available(GetParam())) {
      GTEST_SKIP() << "io_uring is not available here";
    }
    for (std::uint32_t i = 0; i < 24; ++i) {
      TestTensor tensor;
      tensor.name = "block." + std::to_string(i);
      tensor.shape = {20'000 + i};
      tensor.shard = i / 12;
      tensor.device = i % 3 == 0 ? "0" : "cpu";
      tensor.dtype = i % 3 == 1 ? DType::kBF16 : DType::kF32;
      tensors_.push_back(tensor);
    }
    model_ = testing::write_model(folder_.path(), tensors_, 2, random_, false);
    plan_ = testing::make_test_plan(model_, tensors_, CpuMemory::kPrivate);
    options_.io = GetParam();
    options_.emulate = true;
    options_.staging = 1u << 20;
  }

  // Expects the load to throw an Error, to leave nothing behind, and the next load to work. Returns
  // the error's message.
  std::string failure(const LoadEnvironment& environment) {
    const testing::Held before = testing::held();
    const std::string error = error_of([&] { load(model_, plan_, options_, environment); });
    EXPECT_EQ(testing::held(), before);
    return error;
  }

  void expect_loads(const LoadEnvironment& environment) {
    const auto loaded = load(model_, plan_, options_, environment);
    testing::expect_loaded(model_, plan_, tensors_, *loaded);
  }

  std::mt19937 random_{7};
  TempFolder folder_;
  std::vector<TestTensor> tensors_;
  Model model_;
  Plan plan_;
  LoadOptions options_;
};

TEST_P(Faults, WithoutThreadsTheErrorSaysSo) {
  const auto try_to_load = [&] {
    std::cerr << (forbid_threads() ? error_of([&] { load(model_, plan_, options_, {}); })
                                   : "not to be forbidden here");
    std::_Exit(1);
  };
  EXPECT_EXIT(try_to_load(), ::testing::ExitedWithCode(1),
              "^cannot start a thread: |not to be forbidden here");
}

TEST_P(Faults, ShortReadsAreContinued) {
  auto calls = std::make_shared<std::atomic<unsigned>>(0);
  expect_loads(
      with_fault([=](Reader& real, std::uint64_t offset, std::size_t bytes, std::byte* buffer) {
        // Whole blocks, as engines that bypass the page cache deliver them.
        const std::size_t part = (1 + *calls % 3) * kBlock;
        ++*calls;
        return real.read_some(offset, std::min(bytes, part), buffer);
      }));
  EXPECT_GT(*calls, 100u);
}

TEST_P(Faults, OddShortReadsAreContinued) {
  expect_loads(
      with_fault([](Reader& real, std::uint64_t offset, std::size_t bytes, std::byte* buffer) {
        const std::int64_t count = real.read_some(offset, bytes, buffer);
        return count > 9001 ? 9001 : count;
      }));
}

TEST_P(Faults, InterruptedReadsAreRepeated) {
  auto calls = std::make_shared<std::atomic<unsigned>>(0);
  expect_loads(with_fault([=](Reader& real, std::uint64_t offset, std::size_t bytes,
                              std::byte* buffer) -> std::int64_t {
    if (++*calls % 2 == 1) return -EINTR;
    return real.read_some(offset, bytes, buffer);
  }));
}

TEST_P(Faults, AReadErrorNamesShardTensorAndOffset) {
  const TensorInfo& tensor = model_.checkpoint->tensors[17];
  ASSERT_EQ(tensor.shard, 1u);
  const std::uint64_t bad = block_down(tensor.begin) + 3 * kBlock;
  const Fault fault = [=](Reader& real, std::uint64_t offset, std::size_t bytes,
                          std::byte* buffer) -> std::int64_t {
    if (offset == bad) return -EIO;
    if (offset < bad) bytes = std::min<std::size_t>(bytes, bad - offset);
    return real.read_some(offset, bytes, buffer);
  };
  LoadEnvironment environment;
  environment.wrap_reader = [=](std::unique_ptr<Reader> reader, std::uint32_t shard, IoEngine) {
    if (shard != 1) return reader;
    return std::unique_ptr<Reader>(std::make_unique<FaultyReader>(std::move(reader), fault));
  };
  EXPECT_THAT(failure(environment),
              AllOf(HasSubstr("model-00002-of-00002.safetensors: tensor '" + tensor.name +
                              "', byte " + std::to_string(bad) + ": "),
                    HasSubstr("Input/output error")));
  expect_loads({});
}

TEST_P(Faults, AFileThatEndsEarlyIsTruncated) {
  const std::uint64_t end = model_.checkpoint->tensors[20].begin + 4 * kBlock;
  const std::string error = failure(
      with_fault([=](Reader& real, std::uint64_t offset, std::size_t bytes, std::byte* buffer) {
        if (offset >= end) return std::int64_t{0};
        return real.read_some(offset, std::min<std::size_t>(bytes, end - offset), buffer);
      }));
  EXPECT_THAT(error,
              AllOf(HasSubstr("truncated"), HasSubstr("tensor 'block."), HasSubstr("byte ")));
  expect_loads({});
}

TEST_P(Faults, AFileThatShrinksDuringTheLoadIsAnError) {
  const auto file = model_.checkpoint->shards[1].path;
  auto shrunk = std::make_shared<std::atomic<bool>>(false);
  const std::string error = failure(
      with_fault([=](Reader& real, std::uint64_t offset, std::size_t bytes, std::byte* buffer) {
        if (!shrunk->exchange(true)) std::filesystem::resize_file(file, kBlock);
        return real.read_some(offset, bytes, buffer);
      }));
  const std::string then = std::to_string(model_.checkpoint->shards[1].file_bytes);
  EXPECT_THAT(error, AllOf(HasSubstr("model-00002-of-00002"),
                           ::testing::AnyOf(HasSubstr("truncated: it has 4096 bytes now, " + then +
                                                      " when its header was read"),
                                            HasSubstr("changed since"))));
}

// A read that begins far behind the end of the file does not tell where the end is.
TEST_P(Faults, ACutFileIsSaidToEndWhereItEnds) {
  const Checkpoint& checkpoint = *model_.checkpoint;
  const TensorInfo& last = checkpoint.tensors.back();
  const Shard& shard = checkpoint.shards[last.shard];
  std::filesystem::resize_file(shard.path, 5000);
  const auto cut = [&] {
    return error_of([&] { require_complete(checkpoint, last.shard, last.end, {last.begin, 0}); });
  };
  EXPECT_EQ(cut(), shard.path.string() + ": tensor '" + last.name + "', byte " +
                       std::to_string(last.begin) +
                       ": the file is truncated: it has 5000 bytes now, " +
                       std::to_string(shard.file_bytes) + " when its header was read");
  // Another file of the same name tells nothing about the one that is being read.
  std::filesystem::copy_file(shard.path, shard.path.string() + ".new");
  std::filesystem::rename(shard.path.string() + ".new", shard.path);
  EXPECT_THAT(cut(), HasSubstr("truncated: reading it ends here, "));
}

TEST_P(Faults, AFileWrittenToDuringTheLoadIsAnError) {
  const auto file = model_.checkpoint->shards[0].path;
  auto touched = std::make_shared<std::atomic<bool>>(false);
  const std::string error = failure(
      with_fault([=](Reader& real, std::uint64_t offset, std::size_t bytes, std::byte* buffer) {
        if (!touched->exchange(true)) {
          std::fstream(file, std::ios::binary | std::ios::in | std::ios::out).seekp(5000).put('x');
          std::filesystem::last_write_time(
              file, std::filesystem::file_time_type::clock::now() + std::chrono::hours(1));
        }
        return real.read_some(offset, bytes, buffer);
      }));
  EXPECT_THAT(error, AllOf(HasSubstr("model-00001-of-00002"), HasSubstr("written to since")));
}

TEST_P(Faults, CancellingInTheMiddleKeepsNothingAndTheNextLoadWorks) {
  std::atomic<bool> cancel = false;
  options_.cancel = &cancel;
  auto calls = std::make_shared<std::atomic<unsigned>>(0);
  const std::string error = failure(with_fault(
      [=, &cancel](Reader& real, std::uint64_t offset, std::size_t bytes, std::byte* buffer) {
        if (++*calls == 4) cancel = true;
        return real.read_some(offset, bytes, buffer);
      }));
  EXPECT_THAT(error, HasSubstr("interrupted"));
  cancel = false;
  expect_loads({});
}

TEST_P(Faults, AFailingProgressCallbackStopsTheLoad) {
  options_.on_progress = [](const LoadProgress&) { throw Error("the terminal is gone"); };
  EXPECT_EQ(failure({}), "the terminal is gone");
}

INSTANTIATE_TEST_SUITE_P(Engines, Faults, ::testing::ValuesIn(testing::all_engines()),
                         testing::engine_test_name);

using DirectFaults = Faults;

TEST_P(DirectFaults, EinvalFallsBackToBufferedReads) {
  const auto loaded = load(model_, plan_, options_,
                           with_fault([](Reader&, std::uint64_t, std::size_t,
                                         std::byte*) { return std::int64_t{-EINVAL}; },
                                      GetParam()));
  testing::expect_loaded(model_, plan_, tensors_, *loaded);
  EXPECT_THAT(loaded->report().io_choices,
              ::testing::Each(AllOf(HasSubstr("buffered"), HasSubstr("O_DIRECT refused"))));
}

TEST_P(DirectFaults, EinvalInTheMiddleGoesOnBuffered) {
  auto calls = std::make_shared<std::atomic<unsigned>>(0);
  expect_loads(with_fault(
      [=](Reader& real, std::uint64_t offset, std::size_t bytes,
          std::byte* buffer) -> std::int64_t {
        if (++*calls > 3) return -EINVAL;
        return real.read_some(offset, std::min<std::size_t>(bytes, 2 * kBlock), buffer);
      },
      GetParam()));
}

std::vector<IoEngine> direct_engines() {
  std::vector<IoEngine> engines = testing::all_engines();
  std::erase_if(engines, [](IoEngine engine) { return !row_of(engine).direct; });
  return engines;
}

INSTANTIATE_TEST_SUITE_P(Engines, DirectFaults, ::testing::ValuesIn(direct_engines()),
                         testing::engine_test_name);

}  // namespace
}  // namespace berth
