// Products with packed matrices on a real GPU: the bits of the emulation, which tests on the host
// compare with the formula. Skips and says why where there is no GPU.
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "cuda/device.h"
#include "cuda/packed_product.h"
#include "tests/gpu/gpu_memory.h"
#include "tests/kernels/packed_matrix.h"

namespace berth::testing {
namespace {

class PackedGpu : public ::testing::TestWithParam<PackedFormat>, protected GpuMemory {
 protected:
  void SetUp() override { begin(); }

  void compare(std::size_t rows, std::size_t columns, std::size_t positions, FloatFormat format) {
    const MadeMatrix made(GetParam(), rows, columns, random_);
    const MadeActivations x(positions * columns, format, random_);
    const std::size_t scratch = packed_workspace_bytes(positions, columns);
    std::vector<std::uint64_t> workspace(scratch / 8);
    std::vector<std::byte> expected(positions * rows * float_bytes(format));
    multiply_packed_emulated(made.matrix, {x.bytes.data(), format, positions}, workspace.data(),
                             {expected.data(), format});
    const DeviceArena matrix = on_device(made.matrix.data, made.bytes);
    const DeviceArena input = on_device(x.bytes.data(), x.bytes.size());
    const DeviceArena space(0, scratch);
    const DeviceArena output(0, expected.size());
    multiply_packed_on_device({GetParam().id, rows, columns, matrix.data()},
                              {input.data(), format, positions}, space.data(),
                              {output.data(), format}, stream_.handle());
    EXPECT_TRUE(on_host(output, expected.size()) == expected)
        << rows << " x " << columns << ", " << positions << " positions of format "
        << static_cast<int>(format);
  }

  std::mt19937 random_{47};
};

TEST_P(PackedGpu, ProductsGiveTheBitsOfTheEmulation) {
  const std::size_t block = block_size(GetParam().id).elements;
  for (const FloatFormat format : {FloatFormat::kBF16, FloatFormat::kF16, FloatFormat::kF32}) {
    for (std::size_t positions = 1; positions <= 9; ++positions) {
      compare(1, block, positions, format);
      compare(7, 3 * block, positions, format);
      compare(67, 2048 + 3 * block, positions, format);
    }
  }
  compare(1000, 4096, 1, FloatFormat::kF32);
  compare(301, 14336, 8, FloatFormat::kBF16);
}

TEST_P(PackedGpu, ReadsTheRowsThatAreNamed) {
  const std::size_t columns = 2048;
  const MadeMatrix made(GetParam(), 33, columns, random_);
  const std::vector<std::int64_t> ids = {32, 0, 7, 7, 31};
  const DeviceArena matrix = on_device(made.matrix.data, made.bytes);
  const DeviceArena numbers = on_device(ids.data(), ids.size() * sizeof ids[0]);
  for (const FloatFormat format : {FloatFormat::kBF16, FloatFormat::kF16, FloatFormat::kF32}) {
    std::vector<std::byte> expected(ids.size() * columns * float_bytes(format));
    dequantize_rows_emulated(made.matrix, ids.data(), ids.size(), {expected.data(), format});
    const DeviceArena output(0, expected.size());
    dequantize_rows_on_device({GetParam().id, 33, columns, matrix.data()},
                              reinterpret_cast<const std::int64_t*>(numbers.data()), ids.size(),
                              {output.data(), format}, stream_.handle());
    EXPECT_TRUE(on_host(output, expected.size()) == expected) << static_cast<int>(format);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, PackedGpu, ::testing::ValuesIn(kPackedFormats),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace berth::testing
