// What needs a real GPU: copies, casts that give the same bits as on the host, and a load. Skips
// and says why where there is no GPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "berth/error.h"
#include "berth/loader.h"
#include "berth/planner.h"
#include "cuda/block_format.h"
#include "cuda/cast.h"
#include "cuda/dequant.h"
#include "cuda/device.h"
#include "cuda/reorder.h"
#include "tests/load/support.h"

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

// Whether two arrays of `format` agree bit for bit, except that any NaN is as good as another: no
// standard says what arithmetic makes of its sign and payload, and GPUs differ from the host in
// that.
template <class Bits>
bool same_bits(const std::vector<std::byte>& a, const std::vector<std::byte>& b, Bits infinity) {
  if (a.size() != b.size()) return false;
  const Bits magnitude = static_cast<Bits>(~Bits{0}) >> 1;
  for (std::size_t at = 0; at < a.size(); at += sizeof(Bits)) {
    Bits x = 0;
    Bits y = 0;
    std::memcpy(&x, &a[at], sizeof x);
    std::memcpy(&y, &b[at], sizeof y);
    const bool both_nan = (x & magnitude) > infinity && (y & magnitude) > infinity;
    if (x != y && !both_nan) return false;
  }
  return true;
}
bool same_numbers(const std::vector<std::byte>& a, const std::vector<std::byte>& b,
                  FloatFormat format) {
  switch (format) {
    case FloatFormat::kBF16:
      return same_bits<std::uint16_t>(a, b, 0x7F80u);
    case FloatFormat::kF16:
      return same_bits<std::uint16_t>(a, b, 0x7C00u);
    case FloatFormat::kF32:
      return same_bits<std::uint32_t>(a, b, 0x7F800000u);
    case FloatFormat::kF64:
      return same_bits<std::uint64_t>(a, b, 0x7FF0000000000000ull);
  }
  return false;
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

// Every kind of kernel, on a weight that no block or word divides evenly, in two stretches.
TEST_F(Gpu, DequantisationGivesTheBitsOfTheHostReference) {
  constexpr std::uint64_t kRows = 96;
  constexpr std::uint64_t kColumns = 1056;
  constexpr std::uint64_t kGroup = 96;
  const std::vector<std::byte> packed = random_bytes(kRows * kColumns);
  std::vector<float> tables(2 * kRows * kColumns / kGroup + 16);
  for (std::size_t i = 0; i < tables.size(); ++i) tables[i] = 0.001f * static_cast<float>(i % 97);
  const std::size_t scales = kRows * kColumns / kGroup;
  CopyStream stream(0);
  const DeviceArena from(0, packed.size());
  const DeviceArena device_tables(0, tables.size() * 4);
  const DeviceArena to(0, kRows * kColumns * 8);
  stream.copy_to_device(from.data(), packed.data(), packed.size());
  stream.copy_to_device(device_tables.data(), tables.data(), tables.size() * 4);
  const auto at = [&](const float* base) {
    return QuantTables{base, base + scales, nullptr, base + 2 * scales};
  };
  for (int order = 0; order <= static_cast<int>(QuantOrder::kExperts); ++order) {
    for (int code = 0; code <= static_cast<int>(QuantCode::kLookup4); ++code) {
      QuantLayout layout;
      layout.order = static_cast<QuantOrder>(order);
      layout.code = static_cast<QuantCode>(code);
      if (!can_dequantize(layout)) continue;
      const bool turned = layout.order == QuantOrder::kGptq || layout.order == QuantOrder::kAwq;
      layout.rows = kRows;
      layout.columns = layout.row_values = kColumns;
      layout.expert_rows = kRows / 3;
      layout.group_columns = kGroup;
      layout.row_step = turned ? 1 : kColumns / kGroup;
      layout.group_step = turned ? kRows : 1;
      layout.arithmetic = FloatFormat::kF16;
      const std::uint64_t bytes = kRows * kColumns * code_bits(layout.code) / 8;
      const std::uint64_t half = bytes / 8 * 4;
      for (const FloatFormat format :
           {FloatFormat::kBF16, FloatFormat::kF16, FloatFormat::kF32, FloatFormat::kF64}) {
        std::vector<std::byte> expected(kRows * kColumns * float_bytes(format));
        dequantize_reference(layout, at(tables.data()), packed.data(), 0, bytes, expected.data(),
                             format);
        const QuantTables there = at(reinterpret_cast<const float*>(device_tables.data()));
        stream.dequantize(layout, there, from.data(), 0, half, to.data(), format);
        stream.dequantize(layout, there, from.data() + half, half, bytes - half, to.data(), format);
        const std::vector<std::byte> result = from_device(to.data(), expected.size(), stream);
        EXPECT_TRUE(same_numbers(result, expected, format))
            << "order " << order << ", code " << code << ", to " << static_cast<int>(format);
      }
    }
  }
}

TEST_F(Gpu, ManySmallCopiesInOneCallArrive) {
  std::vector<std::byte> host = random_bytes(1u << 20);
  for (const bool lock :
       {true, false}) {  // memory that is not page-locked is copied in another way
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

TEST_F(Gpu, BlocksGiveTheBitsOfTheHostReference) {
  const std::vector<std::byte> source = random_bytes(210 * 1000);
  CopyStream stream(0);
  const DeviceArena from(0, source.size());
  const DeviceArena to(0, 64 * source.size());
  stream.copy_to_device(from.data(), source.data(), source.size());
  for (int f = 0; f <= static_cast<int>(BlockFormat::kQ6_K); ++f) {
    const auto format = static_cast<BlockFormat>(f);
    const std::size_t blocks = source.size() / block_size(format).bytes;
    for (const FloatFormat to_format :
         {FloatFormat::kBF16, FloatFormat::kF16, FloatFormat::kF32, FloatFormat::kF64}) {
      const std::size_t bytes = blocks * block_size(format).elements * float_bytes(to_format);
      std::vector<std::byte> expected(bytes);
      dequantize_reference(source.data(), format, expected.data(), to_format, blocks);
      dequantize_on_device(from.data(), format, to.data(), to_format, blocks, stream.handle());
      EXPECT_TRUE(same_numbers(from_device(to.data(), bytes, stream), expected, to_format))
          << f << " to " << static_cast<int>(to_format);
    }
  }
}

TEST_F(Gpu, UnitsAreReorderedAsOnTheHost) {
  const std::vector<std::byte> source = random_bytes(64 * 24 * 90);
  CopyStream stream(0);
  const DeviceArena from(0, source.size());
  const DeviceArena to(0, source.size());
  const auto turned = [&](std::size_t rows, std::size_t columns, std::size_t unit) {
    const std::size_t group = rows * columns * unit;
    return make_reorder({{source.size() / group, group, group},
                         {columns, unit, rows * unit},
                         {rows, columns * unit, unit}},
                        unit);
  };
  for (const Reorder& order :
       {turned(32, 2, 180), turned(24, 90, 2), turned(90, 8, 4), turned(12, 15, 1),
        turned(64, 2, 36),
        // A view that skips, repeats and overlaps.
        make_reorder({{7, 4, 7200}, {3, 0, 2400}, {30, 600, 80}, {20, 8, 4}}, 4)}) {
    std::vector<std::byte> expected(source.size());
    reorder_on_host(source.data(), 0, source.size(), order, expected.data());
    std::vector<std::byte> nothing(source.size());
    stream.copy_to_device(to.data(), nothing.data(), nothing.size());
    for (std::size_t at = 0; at < source.size();) {  // in stretches that cut units
      const std::size_t bytes = std::min<std::size_t>(source.size() - at, 10001);
      stream.copy_to_device(from.data(), source.data() + at, bytes);
      reorder_on_device(from.data(), at, bytes, order, to.data(), stream.handle());
      at += bytes;
    }
    EXPECT_TRUE(from_device(to.data(), source.size(), stream) == expected) << order.unit;
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
  if (!testing::is_available(engine)) {
    GTEST_SKIP() << "io_uring is not available here";
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
                         ::testing::Combine(::testing::ValuesIn(testing::all_engines()),
                                            ::testing::Values(CpuMemory::kMmap,
                                                              CpuMemory::kPinned)));

}  // namespace
}  // namespace berth
