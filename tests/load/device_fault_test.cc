// What can go wrong in sinks: devices run out of memory, fail in the middle or copy late,
// page-locking is refused, the offload folder is full. A load that cannot go on throws one Error
// and leaves nothing behind, and the next load works.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>

#include "berth/error.h"
#include "berth/loader.h"
#include "berth/planner.h"
#include "runtime/io/memory.h"
#include "runtime/io/numa.h"
#include "runtime/load/offload.h"
#include "tests/error_of.h"
#include "tests/load/late_device.h"
#include "tests/load/passing_device.h"
#include "tests/load/support.h"

namespace berth {
namespace {

using ::testing::AllOf;
using testing::FailingDevice;
using ::testing::HasSubstr;
using testing::LateDevice;
using testing::TempFolder;
using testing::TestTensor;

class DeviceFaults : public ::testing::Test {
 protected:
  void SetUp() override {
    for (std::uint32_t i = 0; i < 30; ++i) {
      TestTensor tensor;
      tensor.name = "block." + std::to_string(i);
      tensor.shape = {20'000 + i};
      tensor.shard = i / 10;
      const char* devices[] = {"0", "1", "cpu", "disk"};
      tensor.device = devices[i % 4];
      tensor.dtype = i % 3 == 1 ? DType::kBF16 : DType::kF32;
      tensors_.push_back(tensor);
    }
    model_ = testing::write_model(folder_.path(), tensors_, 3, random_, false);
    plan_ = testing::make_test_plan(model_, tensors_, CpuMemory::kPrivate);
    options_.emulate = true;
    options_.staging = 1u << 20;
    options_.offload_folder = folder_.path() / "offload";
  }

  std::string failure(const LoadEnvironment& environment) {
    const testing::Held before = testing::held();
    std::string error = "no error";
    try {
      load(model_, plan_, options_, environment);
    } catch (const Error& thrown) {
      error = thrown.what();
    }
    EXPECT_EQ(testing::held(), before);
    EXPECT_FALSE(std::filesystem::exists(options_.offload_folder));
    expect_loads({});
    return error;
  }

  void expect_loads(const LoadEnvironment& environment) {
    const testing::Held before = testing::held();
    {
      const auto loaded = load(model_, plan_, options_, environment);
      testing::expect_loaded(model_, plan_, tensors_, *loaded);
      notes_ = loaded->report().notes;
    }
    EXPECT_EQ(testing::held(), before);
  }

  static LoadEnvironment with_device(
      const std::string& name,
      std::function<std::unique_ptr<DeviceSink>(std::unique_ptr<DeviceSink>)> wrap) {
    LoadEnvironment environment;
    environment.wrap_sink = [=](std::unique_ptr<DeviceSink> sink, const DeviceLedger& device) {
      return device.name == name ? wrap(std::move(sink)) : std::move(sink);
    };
    return environment;
  }

  std::mt19937 random_{5};
  TempFolder folder_;
  std::vector<TestTensor> tensors_;
  Model model_;
  Plan plan_;
  LoadOptions options_;
  std::vector<std::string> notes_;
};

TEST_F(DeviceFaults, LateCopiesAreWaitedForBeforeTheirSlotIsFilledAgain) {
  for (int i = 0; i < 20; ++i) {
    expect_loads(with_device("0", [](std::unique_ptr<DeviceSink> sink) {
      return std::make_unique<LateDevice>(std::move(sink));
    }));
  }
}

TEST_F(DeviceFaults, TwoLateDevicesShareTheSlots) {
  LoadEnvironment environment;
  environment.wrap_sink = [](std::unique_ptr<DeviceSink> sink, const DeviceLedger&) {
    return std::make_unique<LateDevice>(std::move(sink));
  };
  for (int i = 0; i < 20; ++i) expect_loads(environment);
}

TEST_F(DeviceFaults, OutOfMemoryOnADeviceIsOneErrorAndNothingStays) {
  EXPECT_EQ(failure(with_device("1",
                                [](std::unique_ptr<DeviceSink>) -> std::unique_ptr<DeviceSink> {
                                  throw Error("device 1: out of memory: the weights need 5 bytes");
                                })),
            "device 1: out of memory: the weights need 5 bytes");
}

TEST_F(DeviceFaults, ACopyThatFailsNamesShardTensorAndOffset) {
  for (const int after : {0, 3, 6}) {
    EXPECT_THAT(failure(with_device("0",
                                    [=](std::unique_ptr<DeviceSink> sink) {
                                      return std::make_unique<FailingDevice>(std::move(sink),
                                                                             after);
                                    })),
                AllOf(HasSubstr(".safetensors: tensor 'block."), HasSubstr("byte "),
                      HasSubstr("illegal memory access")));
  }
}

TEST_F(DeviceFaults, ACopyThatFailsLaterIsStillAnError) {
  EXPECT_THAT(failure(with_device("0",
                                  [](std::unique_ptr<DeviceSink> sink) {
                                    return std::make_unique<LateDevice>(
                                        std::make_unique<FailingDevice>(std::move(sink), 2));
                                  })),
              HasSubstr("illegal memory access"));
}

TEST_F(DeviceFaults, AReadErrorWaitsForCopiesInFlight) {
  LoadEnvironment environment = with_device("0", [](std::unique_ptr<DeviceSink> sink) {
    return std::make_unique<LateDevice>(std::move(sink));
  });
  class Broken final : public Reader {
   public:
    explicit Broken(std::unique_ptr<Reader> real) : real_(std::move(real)) {}
    std::int64_t read_some(std::uint64_t offset, std::size_t bytes, std::byte* to) override {
      return offset > 500'000 ? -EIO : real_->read_some(offset, bytes, to);
    }

   private:
    std::unique_ptr<Reader> real_;
  };
  environment.wrap_reader = [](std::unique_ptr<Reader> reader, std::uint32_t, IoEngine) {
    return std::make_unique<Broken>(std::move(reader));
  };
  EXPECT_THAT(failure(environment), HasSubstr("Input/output error"));
}

TEST_F(DeviceFaults, PageLockingThatIsRefusedIsANote) {
  LoadEnvironment environment;
  environment.page_lock = [](std::byte*, std::uint64_t) -> HostRegistration {
    throw Error("page-locking 69632 bytes of host memory: out of memory");
  };
  expect_loads(environment);
  ASSERT_EQ(notes_.size(), 1u);
  EXPECT_THAT(notes_[0], HasSubstr("could not be page-locked"));
}

TEST_F(DeviceFaults, AnOffloadFolderWithoutRoomIsAnErrorBeforeTheFirstByte) {
  LoadEnvironment environment;
  environment.disk_space = [](const auto&) { return std::uint64_t{1000}; };
  environment.wrap_reader = [](std::unique_ptr<Reader> reader, std::uint32_t, IoEngine) {
    ADD_FAILURE() << "a shard was opened";
    return reader;
  };
  EXPECT_THAT(failure(environment), AllOf(HasSubstr("offload folder"), HasSubstr("1000 are free"),
                                          HasSubstr("--offload-folder")));
}

// A limit on the size of files takes the role of a disk that fills up.
TEST_F(DeviceFaults, ADiskThatIsFullIsAnErrorThatNamesTheFolder) {
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{4096, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  std::string error;
  try {
    load(model_, plan_, options_, {});
  } catch (const Error& thrown) {
    error = thrown.what();
  }
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(
      error, AllOf(HasSubstr("offload folder"), HasSubstr("offload"), HasSubstr("File too large")));
  EXPECT_FALSE(std::filesystem::exists(options_.offload_folder));
  expect_loads({});
}

TEST_F(DeviceFaults, TheOffloadFileHasNoNameAndAFolderThatWasThereStays) {
  std::filesystem::create_directory(options_.offload_folder);
  const auto loaded = load(model_, plan_, options_, {});
  EXPECT_GT(loaded->report().bytes_offloaded, 0u);
  EXPECT_TRUE(std::filesystem::is_empty(options_.offload_folder));
  std::filesystem::remove_all(options_.offload_folder);
  testing::expect_loaded(model_, plan_, tensors_, *loaded);
}

TEST_F(DeviceFaults, AnOffloadFileThatEndsEarlyIsNoSuccess) {
  OffloadFile file(folder_.path(), 0, [](const auto&) { return std::uint64_t{1} << 40; });
  const std::vector<std::byte> bytes(100);
  file.write(0, bytes.data(), bytes.size());
  std::vector<std::byte> memory(200);
  std::string error;
  try {
    file.read(50, memory.data(), 100);
  } catch (const Error& thrown) {
    error = thrown.what();
  }
  EXPECT_THAT(error, HasSubstr("cannot read back byte 100: the file ends before it"));
}

TEST_F(DeviceFaults, AMappedFileCutShortIsFoundWithoutASignal) {
  for (TestTensor& tensor : tensors_) tensor.device = "cpu";
  plan_ = testing::make_test_plan(model_, tensors_, CpuMemory::kMmap);
  const auto loaded = load(model_, plan_, options_, {});
  EXPECT_NO_THROW(loaded->check_mapped());
  std::filesystem::resize_file(model_.checkpoint->shards[1].path, 4096);
  try {
    loaded->check_mapped();
    FAIL() << "not found";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("model-00002-of-00003.safetensors"), HasSubstr("became shorter")));
  }
}

TEST_F(DeviceFaults, WhereMemoryIsTightBufferedReadsLeaveNoPageCacheBehind) {
  for (TestTensor& tensor : tensors_) tensor.device = "0";
  plan_ = testing::make_test_plan(model_, tensors_, CpuMemory::kPrivate);
  options_.io = IoEngine::kBuffered;
  std::uint64_t free = 1u << 30;
  LoadEnvironment environment;
  environment.probe = [&](const auto&) {
    Machine machine;
    Device cpu;
    cpu.name = "cpu";
    cpu.kind = DeviceKind::kCpu;
    cpu.capacity = free;
    machine.devices.push_back(cpu);
    return machine;
  };
  for (const bool tight : {true, false}) {
    free = tight ? 4u << 20 : 1u << 30;
    for (const Shard& shard : model_.checkpoint->shards) testing::forget_pages(shard.path);
    const auto loaded = load(model_, plan_, options_, environment);
    testing::expect_loaded(model_, plan_, tensors_, *loaded);
    const std::string choice = loaded->report().io_choices.at(1);
    EXPECT_EQ(choice.find("memory is tight") != std::string::npos, tight) << choice;
    const double resident = testing::pages_resident(model_.checkpoint->shards[1].path);
    if (resident < 0) GTEST_SKIP() << "this kernel does not tell what is in the page cache";
    EXPECT_EQ(resident < 0.1, tight) << resident;
  }
}

TEST(Numa, StagingIsNearTheGpusWhereAllAreOnOneNode) {
  const TempFolder sysfs;
  const auto add_gpu = [&](const std::string& address, const std::string& node) {
    const auto folder = sysfs.path() / "bus/pci/devices" / address;
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "numa_node") << node << "\n";
  };
  std::filesystem::create_directories(sysfs.path() / "devices/system/node/node0");
  std::filesystem::create_directories(sysfs.path() / "devices/system/node/power");
  add_gpu("0000:3b:00.0", "1");
  add_gpu("0000:5e:00.0", "1");
  add_gpu("0000:af:00.0", "0");
  add_gpu("0000:d8:00.0", "-1");
  EXPECT_EQ(numa_nodes(sysfs.path()), 1u);
  EXPECT_EQ(staging_node({"0000:3B:00.0"}, sysfs.path()), -1);  // one node, so it does not matter
  std::filesystem::create_directories(sysfs.path() / "devices/system/node/node1");
  EXPECT_EQ(staging_node({"0000:3B:00.0"}, sysfs.path()), 1);
  EXPECT_EQ(staging_node({"0000:3B:00.0", "0000:5E:00.0"}, sysfs.path()), 1);
  EXPECT_EQ(staging_node({"0000:3B:00.0", "0000:AF:00.0"}, sysfs.path()), -1);
  EXPECT_EQ(staging_node({"0000:D8:00.0"}, sysfs.path()), -1);  // sysfs does not know
  EXPECT_EQ(staging_node({"0000:00:00.0"}, sysfs.path()), -1);  // no such device
  EXPECT_EQ(staging_node({}, sysfs.path()), -1);
}

// A plan for two nodes of host RAM. `second`: the kernel's number of the second one.
std::unique_ptr<LoadedModel> load_on_two_nodes(const TempFolder& folder, int second) {
  std::mt19937 random(7);
  std::vector<testing::TestTensor> tensors =
      testing::random_tensors(random, 40, 2, {"cpu", "cpu:1"}, true);
  const Model model = testing::write_model(folder.path(), tensors, 2, random, false);
  Plan plan = testing::make_test_plan(model, tensors, CpuMemory::kPrivate);
  DeviceLedger node = plan.devices[2];
  node.name = "cpu:1";
  plan.devices.push_back(node);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].device == "cpu:1") plan.tensor_device[i] = 4;
  }
  plan.node_map = {{"", "cpu:1"}};  // what it says is not looked at here
  LoadEnvironment environment;
  environment.probe = [second](const std::filesystem::path&) {
    Machine machine;
    for (const auto& [name, number] : {std::pair("cpu", 0), std::pair("cpu:1", second)}) {
      Device device;
      device.name = name;
      device.kind = DeviceKind::kCpu;
      device.capacity = 8ull << 30;
      device.node = number;
      machine.devices.push_back(device);
    }
    return machine;
  };
  auto loaded = load(model, plan, {}, environment);
  testing::expect_loaded(model, plan, tensors, *loaded);
  EXPECT_GT(loaded->report().devices[2].loaded, 0u);
  EXPECT_GT(loaded->report().devices[4].loaded, 0u);
  return loaded;
}

TEST(Numa, WeightsGoToTheirNodeAndTheReportSaysWhatDoesNot) {
  const TempFolder folder;
  const auto loaded = load_on_two_nodes(folder, 0);
  for (const std::string& note : loaded->report().notes) {
    EXPECT_EQ(note.find("NUMA"), std::string::npos) << note;
  }
  std::vector<char> page(1u << 20, 1);
  if (!share_on_node(page.data(), page.size(), 0))
    GTEST_SKIP() << "the kernel does not tell where pages are";
  if (numa_nodes() != 1) GTEST_SKIP() << "node 1023 may be there";
  // A node that does not exist is like a full one: the load goes on, and a note says so.
  const std::vector<std::string> notes = load_on_two_nodes(folder, 1023)->report().notes;
  EXPECT_TRUE(std::any_of(notes.begin(), notes.end(), [](const std::string& note) {
    return note ==
           "100 % of the weights on cpu:1 stand on another NUMA node, because node 1023 was "
           "full";
  }));
}

TEST(Numa, PagesAreCountedWhereTheyAre) {
  std::vector<char> memory(4u << 20, 1);
  const std::optional<double> share = share_on_node(memory.data(), memory.size(), 0);
  if (!share) GTEST_SKIP() << "the kernel does not tell where pages are";
  if (numa_nodes() == 1) {
    EXPECT_EQ(*share, 1);
  }
  EXPECT_EQ(share_on_node(memory.data(), memory.size(), 1023), 0);
  EXPECT_FALSE(share_on_node(memory.data(), 1, 0)) << "less than a page";
}

TEST(OtherGpus, AreRefusedByNameUnlessTheyAreEmulated) {
  const TempFolder folder;
  std::mt19937 random(7);
  std::vector<testing::TestTensor> tensors = testing::random_tensors(random, 10, 1, {"0"}, false);
  const Model model = testing::write_model(folder.path(), tensors, 1, random, false);
  Plan plan = testing::make_test_plan(model, tensors, CpuMemory::kMmap);
  plan.devices[0].kind = DeviceKind::kOther;
  LoadOptions options;
  EXPECT_EQ(
      testing::error_of([&] { load(model, plan, options, LoadEnvironment{}); }),
      "device 0 of the plan is of kind other: Berth plans for it, but loads to CUDA GPUs, host "
      "RAM and the disk only; --emulate rehearses it in host memory");
  options.emulate = true;
  testing::expect_loaded(model, plan, tensors, *load(model, plan, options, LoadEnvironment{}));
}

TEST(Numa, MemoryOfANodeIsMemory) {
  HostArena arena(1u << 20, "a test");
  prefer_node(arena.data(), arena.bytes(), 0);  // refused in some containers; never harmful
  arena.data()[arena.bytes() - 1] = std::byte{1};
  EXPECT_FALSE(prefer_node(arena.data(), arena.bytes(), -1));
  EXPECT_FALSE(prefer_node(arena.data(), arena.bytes(), 4096));
}

}  // namespace
}  // namespace berth
