// Products with matrices in tiles of grouped formats on a real GPU, and its tiling: the bits of the
// emulation, which tests on the host compare with the formula. Skips and says why where there is no
// GPU.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "cuda/device.h"
#include "cuda/group_tiling.h"
#include "cuda/grouped_product.h"
#include "tests/gpu/gpu_memory.h"
#include "tests/kernels/grouped_matrix.h"
#include "tests/kernels/packed_matrix.h"

namespace berth::testing {
namespace {

class GroupedGpu : public ::testing::TestWithParam<GroupedCase>, protected GpuMemory {
 protected:
  void SetUp() override { begin(); }

  void compare(std::size_t rows, std::size_t groups, std::size_t positions, FloatFormat format) {
    const std::size_t columns = groups * GetParam().group;
    MadeGroups made(GetParam(), rows, columns, random_);
    const MadeActivations x(positions * columns, format, random_);
    const std::size_t scratch = grouped_workspace_bytes(made.matrix, positions);
    std::vector<std::uint64_t> workspace(scratch / 8);
    std::vector<std::byte> expected(positions * rows * float_bytes(format));
    multiply_grouped_emulated(made.matrix, {x.bytes.data(), format, positions}, workspace.data(),
                              {expected.data(), format});
    const DeviceArena matrix = on_device(made.tiles(), made.bytes);
    const DeviceArena input = on_device(x.bytes.data(), x.bytes.size());
    const DeviceArena space(0, scratch);
    const DeviceArena output(0, expected.size());
    multiply_grouped_on_device({made.matrix.tile, rows, columns, matrix.data()},
                               {input.data(), format, positions}, space.data(),
                               {output.data(), format}, stream_.handle());
    EXPECT_TRUE(on_host(output, expected.size()) == expected)
        << rows << " x " << columns << ", " << positions << " positions of format "
        << static_cast<int>(format);
  }

  std::mt19937 random_{61};
};

TEST_P(GroupedGpu, ProductsGiveTheBitsOfTheEmulation) {
  for (const FloatFormat format : {FloatFormat::kBF16, FloatFormat::kF16, FloatFormat::kF32}) {
    for (std::size_t positions = 1; positions <= 9; ++positions) {
      compare(16, 1, positions, format);
      compare(48, 19, positions, format);
    }
  }
  compare(1024, 4096 / GetParam().group, 1, FloatFormat::kF32);
  compare(304, 14336 / GetParam().group, 8, FloatFormat::kBF16);
}

TEST_P(GroupedGpu, ReadsRows) {
  const std::size_t columns = 5 * GetParam().group;
  MadeGroups made(GetParam(), 48, columns, random_);
  const std::vector<std::int64_t> ids = {32, 0, 7, 47, 31};
  const DeviceArena matrix = on_device(made.tiles(), made.bytes);
  const DeviceArena numbers = on_device(ids.data(), ids.size() * sizeof ids[0]);
  for (const bool named : {true, false}) {
    for (const FloatFormat format : {FloatFormat::kBF16, FloatFormat::kF16, FloatFormat::kF32}) {
      RowChoice choice{named ? ids.data() : nullptr, 15, named ? ids.size() : 33};
      std::vector<std::byte> expected(choice.count * columns * float_bytes(format));
      grouped_rows_emulated(made.matrix, choice, {expected.data(), format});
      const DeviceArena output(0, expected.size());
      if (named) choice.ids = reinterpret_cast<const std::int64_t*>(numbers.data());
      grouped_rows_on_device({made.matrix.tile, 48, columns, matrix.data()}, choice,
                             {output.data(), format}, stream_.handle());
      EXPECT_TRUE(on_host(output, expected.size()) == expected) << static_cast<int>(format);
    }
  }
}

TEST_P(GroupedGpu, MakesTheTilesOfHostMemory) {
  MadeGroups made(GetParam(), 256, 16 * 128, random_);
  if (takes_floats(made.form.format)) {  // NaN, wherever the cut
    made.packed[3 * 2048 + 7] = made.packed[8 * 2048 - 1] = std::byte{0xFF};
    made.tile();
  }
  const std::size_t scales = made.scales.size() * sizeof(float);
  const DeviceArena packed = on_device(made.packed.data(), made.packed.size());
  const DeviceArena scale_table = on_device(made.scales.data(), scales);
  const DeviceArena zero_table = on_device(made.zeros.data(), scales);
  QuantTables tables = made.tables();
  tables.scales = reinterpret_cast<const float*>(scale_table.data());
  if (tables.zeros) tables.zeros = reinterpret_cast<const float*>(zero_table.data());
  const DeviceArena tiles(0, made.bytes);
  stream_.fill_with_zeros(tiles.data(), made.bytes);
  const std::size_t cut = made.packed.size() / 3 / 4 * 4;
  tile_packed_on_device(made.layout, tables, made.matrix.tile, packed.data() + cut, cut,
                        made.packed.size() - cut, tiles.data(), stream_.handle());
  tile_packed_on_device(made.layout, tables, made.matrix.tile, packed.data(), 0, cut, tiles.data(),
                        stream_.handle());
  const std::vector<std::byte> found = on_host(tiles, made.bytes);
  for (std::size_t i = 0; i < made.bytes; i += 4) {  // NaN has many bits
    float left, right;
    std::memcpy(&left, &found[i], 4);
    std::memcpy(&right, made.tiles() + i, 4);
    if (std::isnan(left) && std::isnan(right)) continue;
    ASSERT_EQ(std::memcmp(&found[i], made.tiles() + i, 4), 0) << "byte " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Forms, GroupedGpu, ::testing::ValuesIn(kGroupedCases),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace berth::testing
