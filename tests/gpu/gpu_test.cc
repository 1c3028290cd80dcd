// What needs a real GPU: copies, casts bit for bit as on the host, and a load. Skips, saying why,
// where there is none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "cuda/cast.h"
#include "cuda/device.h"
#include "tests/stream/support.h"

namespace berth {
namespace {

using testing::TempFolder;
using testing::TestTensor;

class Gpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << "no usable GPU on this machine";
  }
};

std::vector<std::byte> random_bytes(std::size_t count) {
  std::mt19937_64 random(5);
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

std::vector<std::byte> from_device(const std::byte* data, std::size_t bytes, CopyStream& stream) {
  std::vector<std::byte> host(bytes);
  stream.copy_to_host(host.data(), data, bytes);
  stream.synchronize();
  return host;
}

TEST_F(Gpu, CopiesFromRegisteredMemoryArrive) {
  std::vector<std::byte> host = random_bytes(10u << 20);
  const HostRegistration locked(0, host.data(), host.size());
  const DeviceArena arena(0, host.size());
  CopyStream stream(0);
  CopyEvent event(0);
  stream.copy_to_device(arena.data(), host.data(), host.size());
  stream.record(event);
  event.wait();
  EXPECT_TRUE(event.done());
  EXPECT_EQ(from_device(arena.data(), host.size(), stream), host);
}

TEST_F(Gpu, ManySmallCopiesInOneCallArrive) {
  std::vector<std::byte> host = random_bytes(1u << 20);
  for (const bool lock : {true, false}) {  // memory that is not page-locked goes its own way
    const HostRegistration locked =
        lock ? HostRegistration(0, host.data(), host.size()) : HostRegistration();
    for (const std::size_t count : {0u, 1u, 3u, 4u, 200u}) {
      const DeviceArena arena(0, host.size());
      CopyStream stream(0);
      stream.copy_to_device(arena.data(), std::vector<std::byte>(host.size()).data(), host.size());
      std::vector<CopyStream::Copy> copies;
      std::vector<std::byte> expected(host.size());
      for (std::size_t i = 0; i < count; ++i) {  // odd sizes, in reverse order on the device
        const std::size_t from = i * 5000 + 1;
        const std::size_t to = (count - i) * 5000;
        copies.push_back({arena.data() + to, host.data() + from, 4999});
        std::copy_n(host.begin() + static_cast<std::ptrdiff_t>(from), 4999,
                    expected.begin() + static_cast<std::ptrdiff_t>(to));
      }
      stream.copy_to_device(copies);
      EXPECT_TRUE(from_device(arena.data(), host.size(), stream) == expected) << count;
    }
  }
}

TEST_F(Gpu, CastsGiveTheBitsOfTheHostReference) {
  // All 16-bit patterns and many wide ones, NaNs, infinities and denormals among them.
  std::vector<std::byte> source = random_bytes(8u << 17);
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    std::memcpy(source.data() + 2 * bits, &half, 2);
  }
  CopyStream stream(0);
  const DeviceArena from(0, source.size());
  const DeviceArena to(0, 4 * source.size());
  stream.copy_to_device(from.data(), source.data(), source.size());
  constexpr FloatFormat kFormats[] = {FloatFormat::kBF16, FloatFormat::kF16, FloatFormat::kF32,
                                      FloatFormat::kF64};
  for (const FloatFormat from_format : kFormats) {
    for (const FloatFormat to_format : kFormats) {
      const std::size_t count = source.size() / float_bytes(from_format);
      std::vector<std::byte> expected(count * float_bytes(to_format));
      cast_reference(source.data(), from_format, expected.data(), to_format, count);
      if (from_format == to_format) continue;
      stream.cast(from.data(), from_format, to.data(), to_format, count);
      const std::vector<std::byte> result = from_device(to.data(), expected.size(), stream);
      EXPECT_TRUE(result == expected)
          << static_cast<int>(from_format) << " to " << static_cast<int>(to_format);
    }
  }
}

TEST_F(Gpu, AnAllocationTooLargeIsOneClearError) {
  const CudaMemory memory = cuda_memory(0);
  try {
    const DeviceArena arena(0, memory.total + (1ull << 30));
    FAIL() << "it was allocated";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::AllOf(::testing::HasSubstr("device 0"),
                                               ::testing::HasSubstr("out of memory")));
  }
  EXPECT_NO_THROW(DeviceArena(0, 1u << 20));
}

class GpuLoad : public Gpu,
                public ::testing::WithParamInterface<std::tuple<IoEngine, CpuMemory>> {};

TEST_P(GpuLoad, DeliversEveryTensor) {
  const auto [engine, mode] = GetParam();
  if (engine == IoEngine::kUring && !testing::uring_is_available()) {
    GTEST_SKIP() << "io_uring is not permitted here";
  }
  for (unsigned seed = 0; seed < 4; ++seed) {
    std::mt19937 random(seed);
    const TempFolder folder;
    // Device "1" is emulated where there is one GPU only: both ways must live side by side.
    std::vector<TestTensor> tensors =
        testing::random_tensors(random, 80, 3, {"0", "1", "cpu", "disk"}, seed % 2);
    const Model model = testing::write_model(folder.path(), tensors, 3, random, seed % 3 == 0);
    const Plan plan = testing::make_test_plan(model, tensors, mode);
    LoadOptions options;
    options.io = engine;
    options.emulate = true;
    options.staging = seed % 2 ? 512u << 10 : 128u << 20;
    const auto loaded = load(model, plan, options, LoadEnvironment{});
    for (TensorId id = 0; id < tensors.size(); ++id) {
      const LoadedTensor& tensor = loaded->tensor(id);
      const bool on_gpu = plan.devices[tensor.device].kind == DeviceKind::kCuda && !tensor.emulated;
      if (!on_gpu) continue;
      CopyStream stream(std::stoi(plan.devices[tensor.device].name));
      const std::vector<char> expected = testing::in_memory(tensors[id]);
      ASSERT_EQ(tensor.bytes, expected.size());
      const std::vector<std::byte> result = from_device(tensor.data, tensor.bytes, stream);
      EXPECT_TRUE(std::memcmp(result.data(), expected.data(), expected.size()) == 0)
          << tensors[id].name;
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.data) % 256, 0u);
    }
    EXPECT_GT(loaded->report().devices[0].gpu_used_after, 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Ways, GpuLoad,
                         ::testing::Combine(::testing::Values(IoEngine::kAuto, IoEngine::kBuffered,
                                                              IoEngine::kDirect, IoEngine::kUring),
                                            ::testing::Values(CpuMemory::kMmap,
                                                              CpuMemory::kPinned)));

}  // namespace
}  // namespace berth
