// One suite over all read engines, destinations and layouts: in each way every tensor arrives.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "berth/loader.h"
#include "berth/planner.h"
#include "runtime/convert/checksum_run.h"
#include "runtime/verify/checksums.h"
#include "tests/instance_share.h"
#include "tests/load/late_device.h"
#include "tests/load/support.h"

namespace berth {
namespace {

using testing::expect_loaded;
using testing::TempFolder;
using testing::TestTensor;

struct Way {
  IoEngine engine;
  CpuMemory cpu_memory;
  std::vector<std::string> devices;
  bool convert;
  bool odd_headers;
};

class EveryWay : public ::testing::TestWithParam<Way> {};

TEST_P(EveryWay, DeliversEveryTensorExactlyOnce) {
  const Way& way = GetParam();
  if (!testing::is_available(way.engine)) {
    GTEST_SKIP() << "io_uring is not permitted here";
  }
  static unsigned turn = 0;
  for (unsigned seed = 0; seed < 3; ++seed) {
    if (!is_its_turn(turn, std::min(kInstanceShare, 2))) continue;
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const TempFolder folder;
    const std::uint32_t shards = 1 + seed % 4;
    std::vector<TestTensor> tensors =
        testing::random_tensors(random, 60, shards, way.devices, way.convert);
    const Model model =
        testing::write_model(folder.path(), tensors, shards, random, way.odd_headers);
    const Plan plan = testing::make_test_plan(model, tensors, way.cpu_memory);
    LoadOptions options;
    options.io = way.engine;
    options.emulate = true;
    options.prefault = seed % 2 == 0;
    options.staging = seed % 3 == 0 ? 256u << 10 : 2u << 20;

    const std::size_t descriptors = testing::open_descriptors();
    const auto loaded = load(model, plan, options, LoadEnvironment{});
    const std::size_t offload_files = loaded->report().bytes_offloaded > 0 ? 1 : 0;
    EXPECT_EQ(testing::open_descriptors(), descriptors + offload_files);
    expect_loaded(model, plan, tensors, *loaded);

    // Every stored byte that a destination wants is read or mapped once, and no other byte is.
    std::vector<bool> read(tensors.size());
    std::vector<bool> mapped(tensors.size());
    for (TensorId id = 0; id < tensors.size(); ++id) {
      const TestTensor& tensor = tensors[id];
      const std::size_t root = tensor.tied_to >= 0 ? static_cast<std::size_t>(tensor.tied_to) : id;
      if (tensor.device == "disk" && tensor.stored == tensor.dtype) continue;
      const TensorInfo& info = model.checkpoint->tensors[model.tree.tensors[root].source];
      const bool zero_copy = way.cpu_memory == CpuMemory::kMmap && tensor.device == "cpu" &&
                             tensor.stored == tensor.dtype &&
                             info.begin % (dtype_bits(tensor.stored) / 8) == 0;
      (zero_copy ? mapped : read)[root] = true;
    }
    std::uint64_t bytes_read = 0;
    std::uint64_t bytes_mapped = 0;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      if (read[i]) bytes_read += tensors[i].bytes.size();
      if (mapped[i]) bytes_mapped += tensors[i].bytes.size();
    }
    EXPECT_EQ(loaded->report().bytes_read, bytes_read);
    EXPECT_EQ(loaded->report().bytes_mapped, bytes_mapped);
    if (options.prefault) {
      EXPECT_EQ(loaded->report().bytes_mapped_resident, bytes_mapped);
    }
  }
}

// The same where tensors overlap in the file: each wanted byte is read once, however many want it.
TEST_P(EveryWay, DeliversTensorsThatShareBytes) {
  const Way& way = GetParam();
  if (!testing::is_available(way.engine)) {
    GTEST_SKIP() << "io_uring is not permitted here";
  }
  for (unsigned seed = 0; seed < 2; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(100 + seed);
    const TempFolder folder;
    std::vector<TestTensor> tensors =
        testing::random_tensors(random, 60, 2, way.devices, way.convert);
    Model model = testing::write_model(folder.path(), tensors, 2, random, way.odd_headers);
    testing::share_bytes(model, tensors, random);
    const Plan plan = testing::make_test_plan(model, tensors, way.cpu_memory);
    LoadOptions options;
    options.io = way.engine;
    options.emulate = true;
    options.staging = seed % 2 == 0 ? 1u << 20 : 2u << 20;
    options.offload_folder = folder.path();
    const auto loaded = load(model, plan, options, LoadEnvironment{});
    expect_loaded(model, plan, tensors, *loaded);

    enum Byte : char { kUnwanted, kRead, kMapped };
    std::vector<std::vector<char>> bytes;  // by shard
    for (const Shard& shard : model.checkpoint->shards) bytes.emplace_back(shard.file_bytes);
    std::uint64_t read = 0;
    std::uint64_t mapped = 0;
    for (TensorId id = 0; id < tensors.size(); ++id) {
      const TestTensor& tensor = tensors[id];
      const std::size_t root = tensor.tied_to >= 0 ? static_cast<std::size_t>(tensor.tied_to) : id;
      if (tensor.device == "disk" && tensor.stored == tensor.dtype) continue;
      const TensorInfo& info = model.checkpoint->tensors[model.tree.tensors[root].source];
      const bool zero_copy = way.cpu_memory == CpuMemory::kMmap && tensor.device == "cpu" &&
                             tensor.stored == tensor.dtype &&
                             info.begin % (dtype_bits(tensor.stored) / 8) == 0;
      for (std::uint64_t at = info.begin; at < info.end; ++at) {
        bytes[info.shard][at] |= zero_copy ? kMapped : kRead;
      }
    }
    for (const auto& shard : bytes) {
      for (const char byte : shard) {
        read += (byte & kRead) != 0;
        mapped += (byte & kMapped) != 0;
      }
    }
    EXPECT_EQ(loaded->report().bytes_read, read);
    EXPECT_EQ(loaded->report().bytes_mapped, mapped);
  }
}

// Two hundred loads (under a sanitizer fewer) in which everything is random: shards, sizes, dtypes,
// misalignments, engines, destinations, small staging and late devices.
TEST(Load, DeliversEveryTensorOfRandomModels) {
  std::vector<IoEngine> engines = testing::all_engines();
  std::erase_if(engines, [](IoEngine engine) { return !testing::is_available(engine); });
  for (unsigned seed = 100; seed < 100 + 200 / kInstanceShare; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const TempFolder folder;
    const auto shards = static_cast<std::uint32_t>(1 + random() % 6);
    const std::vector<std::string> all = {"0", "1", "cpu", "disk"};
    std::vector<std::string> devices;
    for (const std::string& device : all) {
      if (random() % 2 == 0) devices.push_back(device);
    }
    if (devices.empty()) devices.push_back("cpu");
    std::vector<TestTensor> tensors =
        testing::random_tensors(random, 1 + random() % 40, shards, devices, random() % 2 == 0);
    const Model model =
        testing::write_model(folder.path(), tensors, shards, random, random() % 2 == 0);
    const Plan plan = testing::make_test_plan(
        model, tensors, random() % 2 == 0 ? CpuMemory::kMmap : CpuMemory::kPrivate);
    LoadOptions options;
    options.emulate = true;
    options.prefault = random() % 2 == 0;
    options.io = engines[random() % engines.size()];
    options.staging = (256u << 10) + random() % (random() % 2 == 0 ? 2u << 20 : 64u << 20);
    options.offload_folder = folder.path();
    if (random() % 2 == 0) {
      options.verify = folder.path() / "checksums.json";
      std::ofstream(options.verify) << checksum_text(*model.checkpoint, options);
    }
    LoadEnvironment environment;
    if (random() % 2 == 0) {
      environment.wrap_sink = [](std::unique_ptr<DeviceSink> sink, const DeviceLedger&) {
        return std::make_unique<testing::LateDevice>(std::move(sink));
      };
    }
    const auto loaded = load(model, plan, options, environment);
    expect_loaded(model, plan, tensors, *loaded);
  }
}

std::vector<Way> all_ways() {
  std::vector<Way> ways;
  const std::vector<std::vector<std::string>> destinations = {
      {"cpu"}, {"0"}, {"0", "1"}, {"disk"}, {"0", "cpu", "disk"}, {"0", "1", "cpu"}};
  for (const IoEngine engine : testing::all_engines()) {
    for (const auto& devices : destinations) {
      for (const CpuMemory mode : {CpuMemory::kMmap, CpuMemory::kPrivate, CpuMemory::kPinned}) {
        // Without a GPU pinned memory is private memory, so one destination is enough.
        if (mode == CpuMemory::kPinned && devices.size() != 1) continue;
        if (mode != CpuMemory::kPrivate && devices[0] != "cpu" && devices.size() == 1) continue;
        for (const bool convert : {false, true}) {
          ways.push_back({engine, mode, devices, convert, convert != (mode == CpuMemory::kMmap)});
        }
      }
    }
  }
  return ways;
}

std::string way_name(const ::testing::TestParamInfo<Way>& info) {
  constexpr const char* kModes[] = {"_mmap_", "_private_", "_pinned_"};
  std::string name = std::string(io_engine_name(info.param.engine)) +
                     kModes[static_cast<std::size_t>(info.param.cpu_memory)];
  for (const std::string& device : info.param.devices) name += device;
  return name + (info.param.convert ? "_converted" : "_as_stored") +
         (info.param.odd_headers ? "_odd" : "_even");
}

INSTANTIATE_TEST_SUITE_P(Load, EveryWay, ::testing::ValuesIn(all_ways()), way_name);

}  // namespace
}  // namespace berth
