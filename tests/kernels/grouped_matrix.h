// Matrices in tiles of grouped formats, for tests of the GPU's kernels, made by what makes them in
// host memory.
#pragma once

#include <cmath>
#include <random>
#include <vector>

#include "cuda/dequant.h"
#include "cuda/grouped_product.h"
#include "runtime/kernels/group_tiles.h"
#include "runtime/kernels/matrix.h"

namespace berth::testing {

struct GroupedCase {
  const char* name;
  QuantCode code;
  QuantOrder order;
  MatrixFormat format;
  std::size_t group;
};
inline constexpr GroupedCase kGroupedCases[] = {
    {"U4Gptq32", QuantCode::kU4, QuantOrder::kGptq, MatrixFormat::kU4, 32},
    {"U4Awq64", QuantCode::kU4, QuantOrder::kAwq, MatrixFormat::kU4, 64},
    {"U4Rows128", QuantCode::kU4, QuantOrder::kRows, MatrixFormat::kU4, 128},
    {"E4M3Rows32", QuantCode::kF8E4M3, QuantOrder::kRows, MatrixFormat::kF8E4M3, 32},
    {"E4M3Rows128", QuantCode::kF8E4M3, QuantOrder::kRows, MatrixFormat::kF8E4M3, 128},
    {"E5M2Rows64", QuantCode::kF8E5M2, QuantOrder::kRows, MatrixFormat::kF8E5M2, 64},
    {"Mxfp4Rows", QuantCode::kF4, QuantOrder::kRows, MatrixFormat::kMxfp4, 32},
    {"Mxfp4Experts", QuantCode::kF4, QuantOrder::kExperts, MatrixFormat::kMxfp4, 32}};

// Any codes but those that are no numbers, and scales and zero points of the size that weights
// have. The memory is aligned as that of a device is.
struct MadeGroups {
  MadeGroups(const GroupedCase& from, std::size_t rows, std::size_t columns, std::mt19937& random)
      : form{from.format, from.format == MatrixFormat::kMxfp4 ? 0 : from.group} {
    const bool turned = from.order == QuantOrder::kGptq || from.order == QuantOrder::kAwq;
    const std::size_t groups = columns / from.group;
    layout.code = from.code;
    layout.order = from.order;
    layout.rows = rows;
    layout.columns = layout.row_values = columns;
    layout.expert_rows = rows;
    layout.group_columns = from.group;
    layout.row_step = turned ? 1 : groups;
    layout.group_step = turned ? rows : 1;
    for (std::size_t i = 0; i < rows * groups; ++i) {
      const float power = std::ldexp(1.0F, static_cast<int>(random() % 6) - 8);
      const bool powers = from.code == QuantCode::kF4;
      scales.push_back(powers ? power : power * (1 + static_cast<float>(random() % 64) / 64));
      zeros.push_back(static_cast<float>(random() % 17));
    }
    packed.resize(rows * columns * code_bits(from.code) / 8);
    for (std::byte& byte : packed) {
      byte = static_cast<std::byte>(random());
      const bool is_float = takes_floats(from.format);
      if (is_float && (byte & std::byte{0x70}) == std::byte{0x70}) byte ^= std::byte{0x40};
    }
    tile();
  }

  QuantTables tables() const {
    return {scales.data(), layout.code == QuantCode::kU4 ? zeros.data() : nullptr};
  }
  std::byte* tiles() { return reinterpret_cast<std::byte*>(memory.data()); }

  // Makes the tiles of what is stored now.
  void tile() {
    const std::size_t each = tile_bytes(form.format, layout.columns, form.group);
    const std::size_t count = (layout.rows + kTileRows - 1) / kTileRows;
    bytes = count * each;
    memory.assign(bytes / sizeof(Line), Line{});
    for (std::size_t t = 0; t < count; ++t) {
      make_grouped_tile(layout, tables(), packed.data(), t * kTileRows, form, tiles() + t * each);
    }
    matrix = {group_tile(form), layout.rows, layout.columns, memory.data()};
  }

  // The same matrix for the kernels of host memory.
  Matrix on_host() {
    return {form.format,
            layout.rows,
            layout.columns,
            tiles(),
            (layout.rows + kTileRows - 1) / kTileRows * kTileRows,
            form.group};
  }
  std::vector<float> floats() {
    std::vector<float> values(layout.rows * layout.columns);
    for (std::size_t row = 0; row < layout.rows; ++row) {
      read_row(on_host(), row, values.data() + row * layout.columns);
    }
    return values;
  }

  struct alignas(16) Line {
    std::byte bytes[16];
  };
  GroupedForm form;
  QuantLayout layout;
  std::vector<float> scales, zeros;
  std::vector<std::byte> packed;
  std::vector<Line> memory;
  std::size_t bytes = 0;
  GroupedMatrix matrix;
};

}  // namespace berth::testing
