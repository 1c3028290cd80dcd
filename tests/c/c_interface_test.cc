// The C interface from C++: every dtype, both kinds of memory, owners, errors and their kinds, and
// plans.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>
#include <random>

#include "berth/berth_c.h"
#include "planner/machine/cgroup.h"
#include "runtime/c/dlpack.h"
#include "tests/load/support.h"

namespace berth {
namespace {

using ::testing::HasSubstr;
using testing::TempFolder;
using testing::TestTensor;

std::vector<char> read_all(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TestTensor named(const std::string& name, Shape shape, DType stored = DType::kF32,
                 DType dtype = DType::kF32) {
  TestTensor tensor;
  tensor.name = name;
  tensor.shape = std::move(shape);
  tensor.stored = stored;
  tensor.dtype = dtype;
  return tensor;
}

struct Opened {
  explicit Opened(const std::filesystem::path& path) {
    const std::string text = path.string();
    const char* const name = text.c_str();
    status = berth_open(&name, 1, &files, &error);
    if (status == BERTH_OK) tensors = berth_tensors(files, &count);
  }
  ~Opened() { berth_close(files); }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;

  berth_status status = BERTH_OK;
  berth_error error{};
  berth_files* files = nullptr;
  const berth_tensor* tensors = nullptr;
  std::size_t count = 0;
};

berth_load_options options_of(std::uint32_t memory) {
  berth_load_options options{};
  options.struct_size = sizeof options;
  options.memory = memory;
  return options;
}

class CMemory : public ::testing::TestWithParam<std::uint32_t> {};

TEST_P(CMemory, HandsOutEveryTensorWithAnOwnerOfItsOwn) {
  const TempFolder folder;
  std::mt19937 random(3);
  auto tensors = testing::random_tensors(random, 80, 2, {"cpu"}, false);
  std::erase_if(tensors, [](const TestTensor& tensor) { return tensor.tied_to >= 0; });
  // Odd headers: tensors that are not aligned cannot be mapped.
  testing::write_model(folder.path(), tensors, 2, random, true);
  std::vector<DLManagedTensor*> loaded;
  std::vector<const TestTensor*> expected;
  const berth_load_options options = options_of(GetParam());
  {
    Opened opened(folder.path());
    ASSERT_EQ(opened.status, BERTH_OK) << opened.error.message;
    ASSERT_EQ(opened.count, tensors.size());
    loaded.resize(opened.count);
    berth_load_report report{};
    report.struct_size = sizeof report;
    ASSERT_EQ(berth_load(opened.files, nullptr, opened.count, &options, loaded.data(), &report,
                         &opened.error),
              BERTH_OK)
        << opened.error.message;
    EXPECT_EQ(report.tensors, opened.count);
    for (std::size_t i = 0; i < opened.count; ++i) {
      const auto found = std::ranges::find(tensors, opened.tensors[i].name, &TestTensor::name);
      ASSERT_NE(found, tensors.end());
      expected.push_back(&*found);
      EXPECT_EQ(opened.tensors[i].bytes, found->bytes.size());
      EXPECT_EQ(opened.tensors[i].name_bytes, found->name.size());
    }
  }
  std::vector<std::size_t> order(loaded.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::shuffle(order, random);
  for (std::size_t k = 0; k < order.size(); ++k) {  // one after the other is given back
    for (std::size_t rest = k; rest < order.size(); ++rest) {
      const DLTensor& tensor = loaded[order[rest]]->dl_tensor;
      const TestTensor& wanted = *expected[order[rest]];
      ASSERT_EQ(std::memcmp(tensor.data, wanted.bytes.data(), wanted.bytes.size()), 0)
          << wanted.name;
      ASSERT_EQ(tensor.ndim, 2);
      ASSERT_EQ(static_cast<std::uint64_t>(tensor.shape[0]), wanted.shape[0]);
      ASSERT_EQ(reinterpret_cast<std::uintptr_t>(tensor.data) % (tensor.dtype.bits / 8u), 0u);
    }
    loaded[order[k]]->deleter(loaded[order[k]]);
  }
}

TEST_P(CMemory, MayBeWrittenToAndTheFileStays) {
  const TempFolder folder;
  std::mt19937 random(3);
  std::vector<TestTensor> tensors(2);
  tensors[0] = named("a", {5000});
  tensors[1] = named("b", {7});
  testing::write_model(folder.path(), tensors, 1, random, false);
  const std::vector<char> before = read_all(folder.path() / "model.safetensors");
  Opened opened(folder.path() / "model.safetensors");
  DLManagedTensor* loaded[2];
  const berth_load_options options = options_of(GetParam());
  ASSERT_EQ(berth_load(opened.files, nullptr, 2, &options, loaded, nullptr, &opened.error),
            BERTH_OK);
  for (std::size_t i = 0; i < 2; ++i) {
    std::memset(loaded[i]->dl_tensor.data, 1, opened.tensors[i].bytes);
  }
  EXPECT_TRUE(read_all(folder.path() / "model.safetensors") == before);
  for (DLManagedTensor* tensor : loaded) tensor->deleter(tensor);
}

TEST_P(CMemory, ConvertsWhatIsFloatingPoint) {
  const TempFolder folder;
  std::mt19937 random(3);
  std::vector<TestTensor> tensors(2);
  tensors[0] = named("a", {5, 7}, DType::kBF16, DType::kF32);
  tensors[1] = named("b", {7}, DType::kI64, DType::kI64);
  testing::write_model(folder.path(), tensors, 1, random, false);
  Opened opened(folder.path());
  DLManagedTensor* loaded[2];
  berth_load_options options = options_of(GetParam());
  options.dtype = "F32";
  ASSERT_EQ(berth_load(opened.files, nullptr, 2, &options, loaded, nullptr, &opened.error),
            BERTH_OK)
      << opened.error.message;
  for (std::size_t i = 0; i < 2; ++i) {
    const std::vector<char> wanted = testing::in_memory(tensors[i]);
    EXPECT_EQ(std::memcmp(loaded[i]->dl_tensor.data, wanted.data(), wanted.size()), 0);
    EXPECT_EQ(loaded[i]->dl_tensor.dtype.bits, i == 0 ? 32 : 64);
    loaded[i]->deleter(loaded[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, CMemory, ::testing::Values(BERTH_MEMORY_MAP, BERTH_MEMORY_PRIVATE));

TEST(CMemory, OneTensorDoesNotPinTheOthers) {
  const TempFolder folder;
  std::mt19937 random(3);
  std::vector<TestTensor> tensors(2);
  tensors[0] = named("a", {8u << 20});  // 32 MiB
  tensors[1] = named("b", {7});
  testing::write_model(folder.path(), tensors, 1, random, false);
  Opened opened(folder.path());
  const std::uint64_t before = host_memory().anonymous;
  DLManagedTensor* loaded[2];
  const berth_load_options options = options_of(BERTH_MEMORY_PRIVATE);
  ASSERT_EQ(berth_load(opened.files, nullptr, 2, &options, loaded, nullptr, nullptr), BERTH_OK);
  EXPECT_GE(host_memory().anonymous - before, 32u << 20);
  loaded[0]->deleter(loaded[0]);
  EXPECT_LE(host_memory().anonymous - before, 4u << 20);
  EXPECT_EQ(std::memcmp(loaded[1]->dl_tensor.data, tensors[1].bytes.data(), 28), 0);
  loaded[1]->deleter(loaded[1]);
}

TEST(CErrors, SayOfWhichKindTheyAre) {
  const TempFolder folder;
  std::mt19937 random(3);
  std::vector<TestTensor> tensors(1);
  tensors[0] = named("a", {1000, 10});
  testing::write_model(folder.path(), tensors, 1, random, false);
  const std::filesystem::path file = folder.path() / "model.safetensors";
  Opened opened(file);
  DLManagedTensor* loaded = nullptr;
  berth_load_options options = options_of(BERTH_MEMORY_PRIVATE);
  berth_error error{};
  const auto load = [&](const std::uint32_t index = 0) {
    return berth_load(opened.files, &index, 1, &options, &loaded, nullptr, &error);
  };
  EXPECT_EQ(load(1), BERTH_USAGE);
  EXPECT_STREQ(error.message, "there is no tensor 1: the files have 1");
  options.memory = 5;
  EXPECT_EQ(load(), BERTH_USAGE);
  options.memory = BERTH_MEMORY_PRIVATE;
  options.io = "quick";
  EXPECT_EQ(load(), BERTH_USAGE);
  options.io = nullptr;
  options.dtype = "I64";
  EXPECT_EQ(load(), BERTH_USAGE);
  options.dtype = nullptr;
  options.progress = [](std::uint64_t, std::uint64_t, double, void*) { return std::int32_t{1}; };
  EXPECT_EQ(load(), BERTH_INTERRUPTED);
  options.progress = nullptr;

  std::vector<float> memory(10'000);
  berth_target target{sizeof target, 0, -1, memory.data(), 4, nullptr, nullptr, nullptr, nullptr};
  EXPECT_EQ(berth_load_into(opened.files, &target, 1, nullptr, nullptr, &error), BERTH_USAGE);
  EXPECT_STREQ(error.message, "tensor 'a': takes 40000 bytes as it is asked for, not 4");
  target.bytes = 40'000;
  target.device = -2;
  EXPECT_EQ(berth_load_into(opened.files, &target, 1, nullptr, nullptr, &error), BERTH_USAGE);
  EXPECT_STREQ(error.message,
               "tensor 'a': device -2: is neither the number of a GPU nor -1, host memory");
  target.device = 1000;
  EXPECT_EQ(berth_load_into(opened.files, &target, 1, nullptr, nullptr, &error), BERTH_ERROR);
  EXPECT_THAT(error.message, HasSubstr("tensor 'a': device 1000 is not on this machine (it has "));
  options.emulate = 1;  // then its memory is host memory
  EXPECT_EQ(berth_load_into(opened.files, &target, 1, &options, nullptr, &error), BERTH_OK);
  EXPECT_EQ(std::memcmp(memory.data(), tensors[0].bytes.data(), 40'000), 0);
  options.emulate = 0;
  target.device = -1;

  std::filesystem::resize_file(file, 5000);
  EXPECT_EQ(load(), BERTH_BROKEN_FILE);
  EXPECT_THAT(error.message, HasSubstr("the file changed since its header was read"));
  options.memory = BERTH_MEMORY_MAP;
  EXPECT_EQ(load(), BERTH_BROKEN_FILE);
  EXPECT_EQ(berth_load_into(opened.files, &target, 1, nullptr, nullptr, &error), BERTH_BROKEN_FILE);
  EXPECT_EQ(Opened(file).status, BERTH_BROKEN_FILE);
  EXPECT_EQ(Opened(folder.path() / "none").status, BERTH_NO_FILE);
  EXPECT_EQ(loaded, nullptr);
}

// Callers that were compiled when targets had no streams.
TEST(CTargets, MayBeShorterThanTheyAreNow) {
  const TempFolder folder;
  std::mt19937 random(3);
  std::vector<TestTensor> tensors(1, named("a", {4}));
  testing::write_model(folder.path(), tensors, 1, random, false);
  Opened opened(folder.path());
  float memory[4] = {};
  berth_target target{};
  target.struct_size = offsetof(berth_target, stream);
  target.device = -1;
  target.data = memory;
  target.bytes = sizeof memory;
  target.stream = &target;  // is not looked at
  ASSERT_EQ(berth_load_into(opened.files, &target, 1, nullptr, nullptr, nullptr), BERTH_OK);
  EXPECT_EQ(std::memcmp(memory, tensors[0].bytes.data(), sizeof memory), 0);
}

TEST(CTargets, AreOnGpusOfThisMachine) { EXPECT_GE(berth_gpu_count(), 0); }

TEST(CMachine, HasFreeHostMemoryWithinWhatIsInstalled) {
  EXPECT_GT(berth_free_host_memory(), 0u);
  EXPECT_LE(berth_free_host_memory(), kernel_memory().total);
}

TEST(CFiles, AreOpenedTogether) {
  const TempFolder one;
  const TempFolder two;
  std::mt19937 random(3);
  std::vector<TestTensor> a(1, named("a", {3}));
  std::vector<TestTensor> b(1, named("b", {4}));
  testing::write_model(one.path(), a, 1, random, false);
  testing::write_model(two.path(), b, 1, random, false);
  const std::string first = one.path().string();
  const std::string second = (two.path() / "model.safetensors").string();
  const char* const paths[] = {first.c_str(), second.c_str()};
  berth_files* files = nullptr;
  berth_error error{};
  ASSERT_EQ(berth_open(paths, 2, &files, &error), BERTH_OK) << error.message;
  std::size_t count = 0;
  const berth_tensor* tensors = berth_tensors(files, &count);
  ASSERT_EQ(count, 2u);
  EXPECT_EQ(tensors[1].file, 1u);
  DLManagedTensor* loaded[2];
  ASSERT_EQ(berth_load(files, nullptr, 2, nullptr, loaded, nullptr, &error), BERTH_OK);
  EXPECT_EQ(std::memcmp(loaded[1]->dl_tensor.data, b[0].bytes.data(), 16), 0);
  for (DLManagedTensor* tensor : loaded) tensor->deleter(tensor);
  berth_close(files);

  const char* const same[] = {paths[1], paths[1]};
  EXPECT_EQ(berth_open(same, 2, &files, &error), BERTH_BROKEN_FILE);
  EXPECT_THAT(error.message, HasSubstr("tensor 'b' is also in"));
}

TEST(CFiles, AreFoundFromAnotherFolder) {
  const TempFolder folder;
  std::mt19937 random(3);
  std::vector<TestTensor> tensors(1, named("a", {3}));
  testing::write_model(folder.path(), tensors, 1, random, false);
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  const Opened opened("model.safetensors");
  std::filesystem::current_path(before);
  ASSERT_EQ(opened.status, BERTH_OK) << opened.error.message;
  EXPECT_EQ(berth_file(opened.files, 0), (folder.path() / "model.safetensors").string());
  for (const std::uint32_t memory : {BERTH_MEMORY_MAP, BERTH_MEMORY_PRIVATE}) {
    const berth_load_options options = options_of(memory);
    DLManagedTensor* loaded = nullptr;
    berth_error error{};
    ASSERT_EQ(berth_load(opened.files, nullptr, 1, &options, &loaded, nullptr, &error), BERTH_OK)
        << error.message;
    EXPECT_EQ(std::memcmp(loaded->dl_tensor.data, tensors[0].bytes.data(), 12), 0);
    loaded->deleter(loaded);
  }
}

TEST(CFiles, HaveNames) {
  const Opened opened("");
  EXPECT_EQ(opened.status, BERTH_NO_FILE);
  EXPECT_STREQ(opened.error.message, "'': the name of the file is empty");
  berth_plan* plan = nullptr;
  berth_error error{};
  EXPECT_EQ(berth_plan_make("", nullptr, 0, &plan, &error), BERTH_NO_FILE);
  EXPECT_STREQ(error.message, "'': the name of the model is empty");
}

// ---- Plans

class CPlan : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ofstream(folder_.path() / "config.json") <<
        R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
            "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
            "num_key_value_heads": 4, "vocab_size": 1000, "max_position_embeddings": 512,
            "dtype": "float32", "tie_word_embeddings": false})";
  }
  berth_status make(std::vector<const char*> arguments) {
    berth_plan_free(plan_);
    plan_ = nullptr;
    return berth_plan_make((folder_.path() / "config.json").c_str(), arguments.data(),
                           arguments.size(), &plan_, &error_);
  }
  std::string text(std::uint32_t form) {
    const char* text = "";
    EXPECT_EQ(berth_plan_text(plan_, form, &text, &error_), BERTH_OK) << error_.message;
    return text;
  }
  void TearDown() override { berth_plan_free(plan_); }

  TempFolder folder_;
  berth_plan* plan_ = nullptr;
  berth_error error_{};
};

TEST_F(CPlan, IsThePlanOfTheCommand) {
  ASSERT_EQ(make({"--max-memory", "0=1GiB,cpu=1GiB"}), BERTH_OK) << error_.message;
  EXPECT_EQ(berth_plan_fits(plan_), 1);
  EXPECT_EQ(text(BERTH_PLAN_DEVICE_MAP), "{\n  \"\": 0\n}");
  EXPECT_THAT(text(BERTH_PLAN_JSON), HasSubstr("\"plan_version\""));
  EXPECT_THAT(text(BERTH_PLAN_TEXT), HasSubstr("load peak"));
  EXPECT_THAT(text(BERTH_PLAN_VERBOSE), HasSubstr("model.layers.3"));
  EXPECT_THAT(text(BERTH_PLAN_SVG), HasSubstr("<svg"));
}

TEST_F(CPlan, MayNotFit) {
  ASSERT_EQ(make({"--max-memory", "0=1KiB,cpu=1KiB,disk=1KiB"}), BERTH_OK) << error_.message;
  EXPECT_EQ(berth_plan_fits(plan_), 0);
  EXPECT_THAT(text(BERTH_PLAN_JSON), HasSubstr("\"shortfall\""));
}

TEST_F(CPlan, SaysWhatIsWrongAsTheCommandDoes) {
  EXPECT_EQ(make({"--policy", "quick"}), BERTH_USAGE);
  EXPECT_THAT(error_.message, HasSubstr("quick"));
  EXPECT_EQ(make({"--across", "h100"}), BERTH_USAGE);
  EXPECT_EQ(make({"--help"}), BERTH_USAGE);
  EXPECT_EQ(plan_, nullptr);
  EXPECT_EQ(berth_plan_make("/no/such/model", nullptr, 0, &plan_, &error_), BERTH_NO_FILE);
  std::ofstream(folder_.path() / "config.json") << "{";
  EXPECT_EQ(make({}), BERTH_ERROR);
  EXPECT_EQ(berth_plan_text(nullptr, 0, nullptr, &error_), BERTH_USAGE);
}

}  // namespace
}  // namespace berth
