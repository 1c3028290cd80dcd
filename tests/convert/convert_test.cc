// Converting: what is written is what was stored, and the folder is either complete or not there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <map>

#include "berth/error.h"
#include "berth/loader.h"
#include "berth/planner.h"
#include "planner/checkpoint/open/open_checkpoint.h"
#include "tests/load/support.h"

namespace berth {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using testing::TempFolder;
using testing::TestTensor;
namespace fs = std::filesystem;

std::string slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string error_of(const std::function<void()>& work) {
  try {
    work();
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

// A checkpoint of random tensors, some of which share bytes, and the request to convert all of it.
struct Made {
  explicit Made(unsigned seed, bool convert_dtypes = false, std::size_t count = 60) {
    std::mt19937 random(seed);
    fs::create_directory(in);
    tensors = testing::random_tensors(random, count, 3, {"0"}, convert_dtypes);
    for (TestTensor& tensor : tensors) tensor.tied_to = -1;
    model = testing::write_model(in, tensors, 3, random, seed % 2 == 0);
    testing::share_bytes(model, tensors, random);
    std::map<std::string, DType> dtypes;
    for (const TestTensor& tensor : tensors) dtypes[tensor.name] = tensor.dtype;
    for (std::uint32_t i = 0; i < model.checkpoint->tensors.size(); ++i) {
      const std::string& name = model.checkpoint->tensors[i].name;
      wishes.push_back({name, i, dtypes.at(name)});
    }
  }

  ConvertReport run(const ConvertOptions& options = {}) const {
    return convert(*model.checkpoint, wishes, {}, out, options);
  }

  // Every tensor of the output, read by our own reader, holds what was made.
  void expect_written() const {
    const Checkpoint written = open_checkpoint(out);
    ASSERT_EQ(written.tensors.size(), tensors.size());
    std::map<std::string, const TestTensor*> made;
    for (const TestTensor& tensor : tensors) made[tensor.name] = &tensor;
    for (const TensorInfo& info : written.tensors) {
      SCOPED_TRACE(info.name);
      const TestTensor& tensor = *made.at(info.name);
      EXPECT_EQ(info.dtype, tensor.dtype);
      EXPECT_EQ(info.shape, tensor.shape);
      const std::vector<char> expected = testing::in_memory(tensor);
      const std::string file = slurp(written.shards[info.shard].path);
      EXPECT_EQ(std::string_view(file).substr(info.begin, info.bytes()),
                std::string_view(expected.data(), expected.size()));
      EXPECT_EQ(info.begin % std::max(1u, dtype_bits(info.dtype) / 8), 0u);
    }
  }

  TempFolder folder;
  fs::path in = folder.path() / "in";
  fs::path out = folder.path() / "out";
  std::vector<TestTensor> tensors;
  Model model;
  std::vector<ConvertTensor> wishes;
};

// What is in the test's folder besides the input; nothing after a conversion that failed.
std::vector<std::string> leftovers(const Made& made) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(made.folder.path())) {
    if (entry.path() != made.in) names.push_back(entry.path().filename().string());
  }
  return names;
}

class Conversions : public ::testing::TestWithParam<unsigned> {};

TEST_P(Conversions, WriteWhatIsStoredOrItsCast) {
  const Made made(GetParam(), GetParam() % 4 >= 2);
  ConvertOptions options;
  options.max_shard_bytes = 300'000;
  options.staging = GetParam() % 3 == 0 ? 1u << 20 : 16u << 20;
  const std::size_t descriptors = testing::open_descriptors();
  const ConvertReport report = made.run(options);
  EXPECT_EQ(testing::open_descriptors(), descriptors);
  made.expect_written();

  EXPECT_EQ(report.bytes_read, made.model.checkpoint->bytes()) << "each byte once";
  EXPECT_EQ(report.tensors, made.tensors.size());
  EXPECT_GT(report.files.size(), 1u);
  std::uint64_t written = fs::file_size(made.out / "model.safetensors.index.json");
  for (const ConvertedFile& file : report.files) {
    EXPECT_EQ(fs::file_size(made.out / file.name), file.bytes);
    written += file.bytes;
  }
  EXPECT_EQ(report.bytes_written, written);
  EXPECT_LE(report.planned_peak_bytes, options.staging);
  EXPECT_EQ(leftovers(made), std::vector<std::string>{"out"});
}

INSTANTIATE_TEST_SUITE_P(Random, Conversions, ::testing::Range(0u, 8u));

TEST(Convert, AModelThatFitsOneFileHasNoIndex) {
  const Made made(1);
  EXPECT_EQ(made.run().files.size(), 1u);
  made.expect_written();
  EXPECT_FALSE(fs::exists(made.out / "model.safetensors.index.json"));
}

TEST(Convert, ATensorOverTheLimitGetsAFileOfItsOwn) {
  const Made made(2);
  ConvertOptions options;
  options.max_shard_bytes = 1;
  made.run(options);
  made.expect_written();
}

TEST(Convert, MoreFilesThanAProcessMayHaveOpen) {
  const Made made(10, false, 400);
  ConvertOptions options;
  options.max_shard_bytes = 1;
  EXPECT_GT(made.run(options).files.size(), 256u);
  made.expect_written();
}

TEST(Convert, CompanionsStandBesideTheWeights) {
  const Made made(3);
  std::ofstream(made.in / "tokenizer.json") << std::string(200'000, 't');
  convert(*made.model.checkpoint, made.wishes,
          {{"tokenizer.json", made.in / "tokenizer.json", {}}, {"config.json", {}, "{}"}}, made.out,
          {});
  EXPECT_EQ(slurp(made.out / "tokenizer.json"), std::string(200'000, 't'));
  EXPECT_EQ(slurp(made.out / "config.json"), "{}");
}

TEST(Convert, WritesOverNothing) {
  const Made made(4);
  fs::create_directory(made.out);
  EXPECT_THAT(error_of([&] { made.run(); }), HasSubstr("exists already"));
  EXPECT_TRUE(fs::is_empty(made.out));
  fs::remove(made.out);
  fs::create_symlink("nowhere", made.out);
  EXPECT_THAT(error_of([&] { made.run(); }), HasSubstr("exists already"));
  fs::remove(made.out);
  EXPECT_THAT(error_of([&] {
                convert(*made.model.checkpoint, made.wishes, {}, made.in / "no/such/out", {});
              }),
              HasSubstr("cannot make a folder beside it"));
}

TEST(Convert, CancelledItLeavesNothing) {
  const Made made(5);
  const std::atomic<bool> cancel = true;
  ConvertOptions options;
  options.cancel = &cancel;
  EXPECT_THAT(error_of([&] { made.run(options); }), HasSubstr("interrupted"));
  EXPECT_EQ(leftovers(made), std::vector<std::string>{});
}

TEST(Convert, AFileThatChangedIsAnErrorAndLeavesNothing) {
  const Made made(6);
  const fs::path shard = made.model.checkpoint->shards[1].path;
  fs::resize_file(shard, fs::file_size(shard) - 1);
  EXPECT_THAT(error_of([&] { made.run(); }), HasSubstr("the file changed"));
  EXPECT_EQ(leftovers(made), std::vector<std::string>{});
}

TEST(Convert, AMissingCompanionIsAnErrorAndLeavesNothing) {
  const Made made(7);
  EXPECT_THAT(error_of([&] {
                convert(*made.model.checkpoint, made.wishes,
                        {{"config.json", made.in / "config.json", {}}}, made.out, {});
              }),
              HasSubstr("config.json: cannot be opened"));
  EXPECT_EQ(leftovers(made), std::vector<std::string>{});
}

// A limit on the size of files takes the role of a disk that is full.
TEST(Convert, NoRoomIsAnErrorAndLeavesNothing) {
  const Made made(8);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{4096, 4096};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string error = error_of([&] { made.run(); });
    ::_exit(error.find("cannot reserve space for it: File too large") != error.npos ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_EQ(leftovers(made), std::vector<std::string>{});
}

TEST(Convert, RefusesWhatMakesNoSense) {
  const Made made(9);
  ConvertOptions options;
  options.staging = 1;
  EXPECT_THAT(error_of([&] { made.run(options); }), StartsWith("--staging 1: at least"));
  options = {};
  options.max_shard_bytes = 0;
  EXPECT_THAT(error_of([&] { made.run(options); }), HasSubstr("--max-shard-size"));
  EXPECT_THAT(error_of([&] { convert(*made.model.checkpoint, {}, {}, made.out, {}); }),
              HasSubstr("holds no tensor"));
}

}  // namespace
}  // namespace berth
