// Loading into memory of the caller: whole tensors and boxes of them, converted or not, through
// every read engine, against copies made element by element.
#include "runtime/load/load_into.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <string>

#include "runtime/load/tensor_memory.h"
#include "tests/error_of.h"
#include "tests/load/late_device.h"
#include "tests/load/passing_device.h"
#include "tests/load/support.h"

namespace berth {
namespace {

using testing::error_of;
using testing::TempFolder;
using testing::TestTensor;

struct Box {
  Shape start;
  Shape size;
};

Box random_box(const Shape& shape, std::mt19937& random) {
  Box box;
  for (const std::uint64_t extent : shape) {
    const std::uint64_t start = random() % (extent + 1);
    // Whole dimensions are common, and so are single indices.
    const std::uint64_t left = extent - start;
    const std::uint64_t sizes[] = {left, std::min<std::uint64_t>(1, left), random() % (left + 1)};
    const bool whole = random() % 3 == 0;
    box.start.push_back(whole ? 0 : start);
    box.size.push_back(whole ? extent : sizes[random() % 3]);
  }
  return box;
}

// The elements of a box, copied one by one.
std::vector<char> gather(const Box& box, const Shape& shape, const std::vector<char>& bytes,
                         std::uint64_t width) {
  const std::uint64_t count =
      std::accumulate(box.size.begin(), box.size.end(), std::uint64_t{1}, std::multiplies<>());
  std::vector<char> out;
  for (std::uint64_t i = 0; i < count; ++i) {
    std::uint64_t rest = i;
    std::uint64_t at = 0;
    std::uint64_t step = 1;
    for (std::size_t k = shape.size(); k-- > 0; rest /= box.size[k], step *= shape[k]) {
      at += (box.start[k] + rest % box.size[k]) * step;
    }
    const auto first = bytes.begin() + static_cast<std::ptrdiff_t>(at * width);
    out.insert(out.end(), first, first + static_cast<std::ptrdiff_t>(width));
  }
  return out;
}

// Targets in one block of memory, with bytes between them that must stay as they are.
class Memory {
 public:
  void add(const Checkpoint& checkpoint, LoadTarget target, std::vector<char> expected) {
    const std::uint64_t bytes = target_bytes(checkpoint, target);
    ASSERT_EQ(bytes, expected.size());
    offsets_.push_back(bytes_ + kGap);
    bytes_ += kGap + (bytes + kGap - 1) / kGap * kGap;
    targets_.push_back(std::move(target));
    expected_.push_back(std::move(expected));
  }

  std::vector<LoadTarget>& allot() {
    memory_.assign(bytes_ + kGap, kCanary);
    for (std::size_t i = 0; i < targets_.size(); ++i) targets_[i].to = memory_.data() + offsets_[i];
    return targets_;
  }

  void expect_loaded() const {
    std::vector<std::byte> wanted(memory_.size(), kCanary);
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      if (expected_[i].empty()) continue;
      std::memcpy(wanted.data() + offsets_[i], expected_[i].data(), expected_[i].size());
      EXPECT_EQ(std::memcmp(memory_.data() + offsets_[i], expected_[i].data(), expected_[i].size()),
                0)
          << "target " << i;
    }
    EXPECT_TRUE(wanted == memory_) << "something beyond the targets was written to";
  }

 private:
  static constexpr std::uint64_t kGap = 64;
  static constexpr std::byte kCanary{0xA5};
  std::vector<LoadTarget> targets_;
  std::vector<std::vector<char>> expected_;
  std::vector<std::uint64_t> offsets_;
  std::vector<std::byte> memory_;
  std::uint64_t bytes_ = 0;
};

class LoadInto : public ::testing::TestWithParam<IoEngine> {
 protected:
  void SetUp() override {
    if (!testing::is_available(GetParam())) GTEST_SKIP() << "no such read engine here";
    options_.io = GetParam();
    options_.staging = 1u << 20;
  }
  TempFolder folder_;
  std::mt19937 random_{7};
  LoadOptions options_;
};

TEST_P(LoadInto, FillsWholeTensorsAndNothingElse) {
  for (const bool convert : {false, true}) {
    auto tensors = testing::random_tensors(random_, 60, 3, {"cpu"}, convert);
    std::erase_if(tensors, [](const TestTensor& tensor) { return tensor.tied_to >= 0; });
    const TempFolder folder;
    const Model model = testing::write_model(folder.path(), tensors, 3, random_, true);
    Memory memory;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      for (int copies = 1 + (i % 7 == 0); copies > 0; --copies) {  // some are wanted twice
        memory.add(*model.checkpoint, {model.tree.tensors[i].source, tensors[i].dtype},
                   testing::in_memory(tensors[i]));
      }
    }
    const std::vector<LoadTarget>& targets = memory.allot();
    const LoadReport report = load_into(*model.checkpoint, targets, options_);
    memory.expect_loaded();
    EXPECT_EQ(report.tensors, targets.size());
    EXPECT_LE(report.bytes_read, model.checkpoint->bytes());
  }
}

// Devices that are not here have their targets in host memory, and copy later than they are told
// to.
TEST_P(LoadInto, FillsMemoryOfSeveralDevices) {
  auto tensors = testing::random_tensors(random_, 60, 3, {"cpu"}, true);
  std::erase_if(tensors, [](const TestTensor& tensor) { return tensor.tied_to >= 0; });
  const Model model = testing::write_model(folder_.path(), tensors, 3, random_, true);
  Memory memory;
  std::set<std::string> expected;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    for (int copy = 0; copy < 1 + (i % 7 == 0); ++copy) {  // some are wanted by two devices
      LoadTarget target{model.tree.tensors[i].source, tensors[i].dtype};
      target.device = 1000 + static_cast<int>(i + static_cast<std::size_t>(copy)) % 3;
      if (target.device == 1002) target.device = -1;
      expected.insert(target.device < 0 ? "memory of the caller" : std::to_string(target.device));
      memory.add(*model.checkpoint, target, testing::in_memory(tensors[i]));
    }
  }
  options_.emulate = true;
  LoadEnvironment environment;
  std::set<std::string> wrapped;
  environment.wrap_sink = [&](std::unique_ptr<DeviceSink> sink, const DeviceLedger& device) {
    wrapped.insert(device.name);
    // What is only copied to host memory is read there in place, so that sink is not told of it.
    return device.name == "memory of the caller"
               ? std::move(sink)
               : std::make_unique<testing::LateDevice>(std::move(sink));
  };
  const LoadReport report = load_into(*model.checkpoint, memory.allot(), options_, environment);
  memory.expect_loaded();
  EXPECT_EQ(wrapped, expected);
  EXPECT_LE(report.bytes_read, model.checkpoint->bytes());
  EXPECT_LE(report.planned_peak_bytes, options_.staging);
}

TEST_P(LoadInto, FillsBoxesOfTensors) {
  std::vector<TestTensor> tensors(12);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    tensors[i].name = "t" + std::to_string(i);
    tensors[i].stored = i % 3 == 0 ? DType::kBF16 : i % 3 == 1 ? DType::kF32 : DType::kU8;
    for (std::size_t rank = 1 + random_() % 4; rank > 0; --rank) {
      tensors[i].shape.push_back(1 + random_() % (i < 3 ? 60 : 12));
    }
  }
  const Model model = testing::write_model(folder_.path(), tensors, 1, random_, true);
  Memory memory;
  for (int round = 0; round < 120; ++round) {
    TestTensor tensor = tensors[random_() % tensors.size()];
    const auto id = static_cast<TensorId>(std::stoul(tensor.name.substr(1)));
    const Box box = random_box(tensor.shape, random_);
    tensor.bytes = gather(box, tensor.shape, tensor.bytes, dtype_bits(tensor.stored) / 8);
    tensor.shape = box.size;
    tensor.dtype = is_convertible(tensor.stored) && round % 2 == 0 ? DType::kF32 : tensor.stored;
    memory.add(*model.checkpoint,
               {model.tree.tensors[id].source, tensor.dtype, nullptr, box.start, box.size},
               testing::in_memory(tensor));
  }
  load_into(*model.checkpoint, memory.allot(), options_);
  memory.expect_loaded();
}

INSTANTIATE_TEST_SUITE_P(Engines, LoadInto, ::testing::ValuesIn(testing::all_engines()),
                         testing::engine_test_name);

TEST(LoadIntoErrors, NameWhatIsWrong) {
  const TempFolder folder;
  std::mt19937 random(1);
  std::vector<TestTensor> tensors(1);
  tensors[0].name = "w";
  tensors[0].shape = {4, 6};
  const Model model = testing::write_model(folder.path(), tensors, 1, random, false);
  const auto wrong = [&](LoadTarget target) {
    return error_of([&] { target_bytes(*model.checkpoint, target); });
  };
  EXPECT_EQ(wrong({0, DType::kU8}), "tensor 'w': is stored as F32 and cannot be turned into U8");
  EXPECT_EQ(wrong({0, DType::kF32, nullptr, {0}, {1}}),
            "tensor 'w': has 2 dimensions, which a box of it must have, too");
  EXPECT_EQ(wrong({0, DType::kF32, nullptr, {1, 5}, {3, 2}}),
            "tensor 'w': the box from 5 with 2 in dimension 1 is not within its 6");
}

TEST(LoadIntoErrors, NameADeviceThatIsNotHere) {
  const TempFolder folder;
  std::mt19937 random(1);
  std::vector<TestTensor> tensors(1);
  tensors[0].name = "w";
  tensors[0].shape = {4, 6};
  const Model model = testing::write_model(folder.path(), tensors, 1, random, false);
  float memory[24] = {};
  LoadTarget target{0, DType::kF32, reinterpret_cast<std::byte*>(memory)};
  target.device = 1000;
  EXPECT_THAT(error_of([&] {
                load_into(*model.checkpoint, {&target, 1}, {});
              }),
              ::testing::MatchesRegex("tensor 'w': device 1000 is not on this machine \\(it has "
                                      "[0-9]+ usable GPUs\\)"));
  EXPECT_EQ(memory[0], 0);
}

// A GPU that fails, at once or when its copies are done.
TEST(LoadIntoErrors, OfADeviceLeaveNothingBehind) {
  const TempFolder folder;
  std::mt19937 random(1);
  std::vector<TestTensor> tensors(1);
  tensors[0].name = "w";
  tensors[0].shape = {1000, 1000};
  const Model model = testing::write_model(folder.path(), tensors, 1, random, false);
  std::vector<std::byte> memory(4'000'000);
  LoadTarget target{0, DType::kF32, memory.data()};
  target.device = 1000;
  LoadOptions options;
  options.emulate = true;
  options.staging = 256u << 10;
  for (const bool late : {false, true}) {
    LoadEnvironment environment;
    environment.wrap_sink = [&](std::unique_ptr<DeviceSink> sink, const DeviceLedger&) {
      std::unique_ptr<DeviceSink> failing =
          std::make_unique<testing::FailingDevice>(std::move(sink), 0);
      return late ? std::make_unique<testing::LateDevice>(std::move(failing)) : std::move(failing);
    };
    const testing::Held before = testing::held();
    EXPECT_THAT(error_of([&] {
                  load_into(*model.checkpoint, {&target, 1}, options, environment);
                }),
                ::testing::HasSubstr("an illegal memory access was encountered"));
    EXPECT_EQ(testing::held(), before);
  }
}

TEST(LoadIntoErrors, LeaveNothingBehind) {
  const TempFolder folder;
  std::mt19937 random(1);
  std::vector<TestTensor> tensors(1);
  tensors[0].name = "w";
  tensors[0].shape = {1000, 1000};
  const Model model = testing::write_model(folder.path(), tensors, 1, random, false);
  std::vector<std::byte> memory(4'000'000);
  const LoadTarget target{0, DType::kF32, memory.data()};
  const testing::Held before = testing::held();

  LoadOptions options;
  options.on_progress = [](const LoadProgress&) { throw Interrupted(); };
  EXPECT_THROW(load_into(*model.checkpoint, {&target, 1}, options), Interrupted);

  std::filesystem::resize_file(model.checkpoint->shards[0].path, 1000);
  EXPECT_THAT(error_of([&] {
                load_into(*model.checkpoint, {&target, 1}, {});
              }),
              ::testing::HasSubstr("the file changed since its header was read"));
  EXPECT_EQ(testing::held(), before);
}

// ---- Memory that each tensor gives back

// Bytes of mappings of `file` that were written to, and so are this process's own. The whole
// process also has those of a sanitizer's shadow.
std::uint64_t written_bytes(const std::filesystem::path& file) {
  std::ifstream maps("/proc/self/smaps");
  const std::string name = file.filename().string();
  std::uint64_t total = 0;
  bool own = false;
  for (std::string line; std::getline(maps, line);) {
    std::uint64_t kibibytes = 0;
    if (line.find('-') < line.find(' ')) own = line.ends_with(name);
    if (own && std::sscanf(line.c_str(), "Anonymous: %" SCNu64, &kibibytes) == 1) {
      total += kibibytes << 10;
    }
  }
  return total;
}

TEST(TensorMemory, GivesBackThePagesOfOneTensorAndKeepsTheOthers) {
  const TempFolder folder;
  std::mt19937 random(1);
  std::vector<TestTensor> tensors(3);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    tensors[i].name = "t" + std::to_string(i);
    tensors[i].shape = {1u << 21};  // 8 MiB
  }
  const Model model = testing::write_model(folder.path(), tensors, 1, random, false);
  const Checkpoint& checkpoint = *model.checkpoint;
  const auto memory = map_copy_on_write(checkpoint.shards[0], checkpoint.tensors);
  const auto written = [&] { return written_bytes(checkpoint.shards[0].path); };
  EXPECT_EQ(written(), 0u);
  std::byte* held[3];
  for (std::size_t i = 0; i < 3; ++i) {
    held[i] = memory->hold(i);
    EXPECT_EQ(std::memcmp(held[i], tensors[i].bytes.data(), 8u << 20), 0);
    std::memset(held[i], 9, 8u << 20);
  }
  EXPECT_GE(written(), 24u << 20);
  memory->give_back(1);
  EXPECT_LE(written(), (16u << 20) + (16u << 10));  // and the pages at the ends
  memory->give_back(2);
  EXPECT_LE(written(), (8u << 20) + (16u << 10));
  EXPECT_EQ(held[0][0], std::byte{9});
  EXPECT_EQ(held[0][(8u << 20) - 1], std::byte{9});
  // Whoever holds it next finds what the file holds, which never changed. The pages at its ends are
  // its neighbours', too, and keep what was written.
  EXPECT_EQ(std::memcmp(memory->hold(1) + 4096, tensors[1].bytes.data() + 4096, (8u << 20) - 8192),
            0);
}

TEST(TensorMemory, KeepsBytesThatTensorsShare) {
  std::vector<std::byte> bytes(64 << 10);
  const std::span<std::byte> all(bytes);
  TensorMemory memory({all, all.subspan(8192, 32 << 10)}, nullptr);
  memory.hold(0);
  std::byte* const view = memory.hold(1);
  std::memset(bytes.data(), 3, bytes.size());
  memory.give_back(0);
  EXPECT_EQ(view[16384], std::byte{3});
}

TEST(TensorMemory, WaitsForTheLastHolder) {
  std::vector<std::byte> bytes(64 << 10, std::byte{3});
  TensorMemory memory({std::span(bytes)}, nullptr);
  memory.hold(0);
  std::byte* const data = memory.hold(0);
  memory.give_back(0);
  EXPECT_EQ(data[32 << 10], std::byte{3});
}

}  // namespace
}  // namespace berth
