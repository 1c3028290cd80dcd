// Products with quantised weights of several tensors, against their dequantised form, for every
// order and instruction set that this processor has.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "runtime/kernels/group_stretch.h"
#include "runtime/kernels/group_tiles.h"
#include "runtime/kernels/product.h"

namespace berth {
namespace {

struct Case {
  const char* name;
  QuantCode code;
  QuantOrder order;
  std::size_t rows;
  std::size_t columns;
  std::size_t group;  // columns
  std::size_t block_rows;
  bool zeros;
};
constexpr Case kCases[] = {
    {"Fp8Blocks", QuantCode::kF8E4M3, QuantOrder::kRows, 150, 320, 128, 128, false},
    {"Fp8Rows", QuantCode::kF8E4M3, QuantOrder::kRows, 37, 86, 86, 1, false},
    {"Fp8Tensor", QuantCode::kF8E5M2, QuantOrder::kRows, 16, 64, 64, 16, false},
    {"Fp8E5M2Groups", QuantCode::kF8E5M2, QuantOrder::kRows, 21, 96, 32, 1, false},
    {"Gptq", QuantCode::kU4, QuantOrder::kGptq, 40, 256, 128, 1, true},
    {"GptqGroupsOf32", QuantCode::kU4, QuantOrder::kGptq, 40, 96, 32, 1, true},
    {"Awq", QuantCode::kU4, QuantOrder::kAwq, 24, 192, 64, 1, true},
    {"Packed", QuantCode::kU4, QuantOrder::kRows, 19, 160, 160, 1, false},
    {"Mxfp4Rows", QuantCode::kF4, QuantOrder::kRows, 35, 128, 32, 1, false},
    {"Mxfp4Experts", QuantCode::kF4, QuantOrder::kExperts, 48, 64, 32, 1, false},
};

class GroupedProducts : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override { make(GetParam()); }

  // Codes of all bits but NaN, scales near each other.
  void make(const Case& from) {
    layout_.code = from.code;
    layout_.order = from.order;
    layout_.rows = from.rows;
    layout_.columns = layout_.row_values = from.columns;
    layout_.expert_rows = from.rows / 2;
    layout_.block_rows = from.block_rows;
    layout_.group_columns = from.group;
    const bool turned = from.order == QuantOrder::kGptq || from.order == QuantOrder::kAwq;
    const std::size_t groups = (from.columns + from.group - 1) / from.group;
    layout_.row_step = turned ? 1 : groups;
    layout_.group_step = turned ? from.rows : 1;
    layout_.zero = from.code == QuantCode::kU4 ? 8 : 0;
    const std::size_t count = from.rows * groups;
    for (std::size_t i = 0; i < count; ++i) {
      const float power = std::ldexp(1.0F, static_cast<int>(random_() % 8) - 10);
      const bool powers = from.code == QuantCode::kF4;
      scales_.push_back(powers ? power : power * (1 + static_cast<float>(random_() % 64) / 64));
      zeros_.push_back(static_cast<float>(random_() % 17));
    }
    packed_.resize(from.rows * from.columns * code_bits(from.code) / 8);
    for (std::byte& byte : packed_) {
      byte = static_cast<std::byte>(random_());
      const bool is_float = from.code == QuantCode::kF8E4M3 || from.code == QuantCode::kF8E5M2;
      if (is_float && (byte & std::byte{0x70}) == std::byte{0x70}) byte ^= std::byte{0x40};
    }
    tables_.scales = scales_.data();
    if (from.zeros) tables_.zeros = zeros_.data();
    tile();
  }

  // The matrix and what it means: [rows, columns].
  void tile() {
    const std::size_t rows = layout_.rows, columns = layout_.columns;
    const auto form = grouped_form(layout_, tables_);
    ASSERT_TRUE(form);
    const std::size_t tiles = (rows + kTileRows - 1) / kTileRows;
    const std::size_t bytes = tile_bytes(form->format, columns, form->group);
    data_.assign(tiles * bytes, std::byte{0xFF});
    for (std::size_t t = 0; t < tiles; ++t) {
      make_grouped_tile(layout_, tables_, packed_.data(), t * kTileRows, *form,
                        data_.data() + t * bytes);
    }
    matrix_ = {form->format, rows, columns, data_.data(), tiles * kTileRows, form->group};
    std::vector<float> result(rows * columns);
    dequantize_reference(layout_, tables_, packed_.data(), 0, packed_.size(), result.data(),
                         FloatFormat::kF32);
    floats_ = result;
    if (layout_.order != QuantOrder::kExperts) return;
    const std::size_t own = layout_.expert_rows;  // each expert was turned
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t c = 0; c < columns; ++c) {
        floats_[r * columns + c] = result[r / own * own * columns + c * own + r % own];
      }
    }
  }

  Activations activations(std::size_t positions) {
    std::vector<float> values(positions * layout_.columns);
    for (float& value : values) value = std::normal_distribution<float>()(random_);
    Activations x;
    x.set(values, layout_.columns, matrix_.format, ActivationBits::k24);
    return x;
  }
  std::vector<float> products(const Activations& x, const InstructionSet& set) {
    std::vector<float> out(x.positions() * layout_.rows);
    const Product product{matrix_, nullptr, out.data(), layout_.rows};
    multiply(std::span(&product, 1), x, team_, set);
    return out;
  }

  std::mt19937 random_{23};
  QuantLayout layout_;
  QuantTables tables_;
  std::vector<float> scales_, zeros_, floats_;
  std::vector<std::byte> packed_, data_;
  Matrix matrix_;
  ThreadTeam team_{2};
};

TEST_P(GroupedProducts, AreThoseOfTheDequantisedWeights) {
  const std::size_t rows = layout_.rows, columns = layout_.columns;
  for (const std::size_t positions : {1, 3, 8, 13}) {
    const Activations x = activations(positions);
    std::vector<float> expected(positions * rows);
    multiply_reference(floats_, rows, x, matrix_.format, expected.data(), rows);
    double size = 0;  // rounding errors are relative to the summands
    for (std::size_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (std::size_t c = 0; c < columns; ++c) sum += std::fabs(floats_[r * columns + c]);
      size = std::max(size, sum);
    }
    for (const InstructionSet& set : instruction_sets()) {
      if (!set.supported()) continue;
      const std::vector<float> found = products(x, set);
      for (std::size_t i = 0; i < expected.size(); ++i) {
        ASSERT_NEAR(found[i], expected[i], 2e-6 * size) << set.name << ", output " << i;
      }
    }
  }
}

TEST_P(GroupedProducts, HaveTheSameBitsInEveryBatchAndOnEveryInstructionSet) {
  const Activations x = activations(15);
  const std::vector<float> expected = products(x, instruction_sets().back());
  for (const InstructionSet& set : instruction_sets()) {
    if (!set.supported()) continue;
    EXPECT_EQ(products(x, set), expected) << set.name;
  }
  std::vector<float> out(layout_.rows);
  const InstructionSet& set = instruction_set();
  for (std::size_t p = 0; p < x.positions(); ++p) {
    const float* floats = takes_floats(matrix_.format) ? x.floats(p) : nullptr;
    const ActivationBlock* blocks = takes_floats(matrix_.format) ? nullptr : x.blocks(p);
    const std::size_t bytes = tile_bytes(matrix_.format, matrix_.columns, matrix_.group);
    for (std::size_t row = 0; row < layout_.rows; row += kTileRows) {
      const std::size_t rows = std::min(kTileRows, layout_.rows - row);
      set.products(matrix_.format, x.bits())(
          {data_.data() + row / kTileRows * bytes, rows, matrix_.columns, blocks, floats, nullptr,
           x.padded_columns(), 1, out.data() + row, layout_.rows, matrix_.group});
    }
    ASSERT_TRUE(std::equal(out.begin(), out.end(), expected.begin() + p * layout_.rows)) << p;
  }
}

TEST_P(GroupedProducts, ReadRowsAsTheDequantisedOnes) {
  std::vector<float> row(layout_.columns);
  for (std::size_t r = 0; r < layout_.rows; ++r) {
    read_row(matrix_, r, row.data());
    for (std::size_t c = 0; c < layout_.columns; ++c) {
      ASSERT_EQ(row[c], floats_[r * layout_.columns + c]) << r << ", " << c;
    }
  }
}

// A weight that is no number, or a scale, makes the products of its row none, and of no other.
TEST_P(GroupedProducts, OfNoNumbersAreNone) {
  const bool is_float = takes_floats(matrix_.format);
  const std::size_t bad = 5;
  if (is_float) {
    packed_[bad * layout_.columns + 3] = std::byte{0x7F};
  } else {
    scales_[bad * layout_.row_step] = std::numeric_limits<float>::quiet_NaN();
  }
  tile();
  const Activations x = activations(3);
  for (const InstructionSet& set : instruction_sets()) {
    if (!set.supported()) continue;
    const std::vector<float> found = products(x, set);
    for (std::size_t i = 0; i < found.size(); ++i) {
      ASSERT_EQ(std::isnan(found[i]), i % layout_.rows == bad) << set.name << ", output " << i;
    }
  }
}

// Cuts the packed values anywhere between two units, and tiles the pieces on several threads.
TEST_P(GroupedProducts, HaveTilesThatAreMadeInStretches) {
  const auto own = grouped_form(layout_, tables_);
  ASSERT_TRUE(own);
  if (takes_floats(own->format)) {  // a NaN, wherever the cut
    packed_[3 * layout_.columns + 7] = std::byte{0x7F};
    packed_[8 * layout_.columns - 1] = std::byte{0xFF};
  }
  std::vector<GroupedForm> forms{*own};
  if (own->group % 64 == 0) forms.push_back({own->format, 32});
  for (const GroupedForm& form : forms) {
    const std::size_t bytes = tile_bytes(form.format, layout_.columns, form.group);
    const std::size_t tiles = (layout_.rows + kTileRows - 1) / kTileRows;
    std::vector<std::byte> expected(tiles * bytes);
    for (std::size_t t = 0; t < tiles; ++t) {
      make_grouped_tile(layout_, tables_, packed_.data(), t * kTileRows, form,
                        expected.data() + t * bytes);
    }
    const std::size_t unit = unit_bytes(layout_.order);
    for (const std::size_t cuts : {0, 1, 5, 60}) {
      std::vector<std::size_t> at{0, packed_.size()};
      for (std::size_t i = 0; i < cuts; ++i) at.push_back(random_() % packed_.size() / unit * unit);
      std::sort(at.begin(), at.end());
      std::vector<std::byte> found(expected.size());
      std::mutex seams;
      std::vector<char> said(at.size() - 1);
      team_.run(at.size() - 1, [&](std::size_t part, std::size_t) {
        said[part] = tile_packed(layout_, tables_, form, packed_.data() + at[part], at[part],
                                 at[part + 1] - at[part], found.data(), seams);
      });
      EXPECT_EQ(std::count(said.begin(), said.end(), 1), static_cast<std::ptrdiff_t>(said.size()));
      for (std::size_t i = 0; i < found.size(); i += 4) {  // NaN has many bits
        float left, right;
        std::memcpy(&left, &found[i], 4);
        std::memcpy(&right, &expected[i], 4);
        if (std::isnan(left) && std::isnan(right)) continue;
        ASSERT_EQ(std::memcmp(&found[i], &expected[i], 4), 0) << cuts << " cuts, byte " << i;
      }
    }
  }
}

TEST(TilePacked, SaysWhereAFormatCannotSayAZeroPointOrAScale) {
  const std::vector<float> scales(4, 0.3F);
  std::vector<float> zeros(4, 3);
  QuantLayout layout;
  layout.code = QuantCode::kU4;
  layout.rows = 2;
  layout.columns = layout.row_values = 64;
  layout.group_columns = 32;
  layout.row_step = 2;
  layout.group_step = 1;
  const std::vector<std::byte> packed(64);
  std::mutex seams;
  const auto tiled = [&](const GroupedForm& form, const QuantTables& tables) {
    std::vector<std::byte> tile(tile_bytes(form.format, 64, form.group));
    return tile_packed(layout, tables, form, packed.data(), 0, packed.size(), tile.data(), seams);
  };
  EXPECT_TRUE(tiled({MatrixFormat::kU4, 32}, {scales.data(), zeros.data()}));
  for (const float zero : {-1.0F, 256.0F, 7.5F, std::numeric_limits<float>::quiet_NaN()}) {
    zeros[3] = zero;
    EXPECT_FALSE(tiled({MatrixFormat::kU4, 32}, {scales.data(), zeros.data()})) << zero;
  }
  layout.code = QuantCode::kF4;
  EXPECT_FALSE(tiled({MatrixFormat::kMxfp4, 0}, {scales.data()}));
  EXPECT_TRUE(tiled({MatrixFormat::kMxfp4, 0}, {}));
}

INSTANTIATE_TEST_SUITE_P(Forms, GroupedProducts, ::testing::ValuesIn(kCases),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(GroupedForm, IsNoneForWhatTheFormatsCannotSay) {
  const std::vector<float> scales(64, 0.3F);
  const std::vector<float> zeros(64, 7.5F);
  const std::vector<std::uint32_t> groups(64, 0);
  QuantLayout layout;
  layout.code = QuantCode::kF4;
  layout.rows = 2;
  layout.columns = layout.row_values = 64;
  layout.group_columns = 32;
  layout.row_step = 2;
  layout.group_step = 1;
  EXPECT_FALSE(grouped_form(layout, {scales.data()})) << "scales that are no powers of two";
  layout.code = QuantCode::kU4;
  EXPECT_TRUE(grouped_form(layout, {scales.data()}));
  EXPECT_FALSE(grouped_form(layout, {scales.data(), zeros.data()})) << "zero points between codes";
  EXPECT_FALSE(grouped_form(layout, {scales.data(), nullptr, groups.data()})) << "an own order";
  layout.group_columns = 16;
  EXPECT_FALSE(grouped_form(layout, {scales.data()})) << "groups below 32";
  layout.group_columns = 32;
  layout.code = QuantCode::kU2;
  EXPECT_FALSE(grouped_form(layout, {scales.data()})) << "a code without a format";
}

// The 17 bytes of GGUF's blocks: an exponent, then the nibbles of elements 0 to 15 before those of
// elements 16 to 31 (ggml-common.h, block_mxfp4).
TEST(Mxfp4Blocks, MeanTheirCodesTimesAPowerOfTwo) {
  constexpr float kValues[16] = {0, 0.5F, 1, 1.5F, 2, 3, 4, 6, 0, -0.5F, -1, -1.5F, -2, -3, -4, -6};
  constexpr std::size_t kRows = 21, kColumns = 96;
  std::mt19937 random(5);
  std::vector<std::byte> stored(kRows * kColumns / 32 * 17);
  std::vector<float> expected(kRows * kColumns);
  for (std::byte& byte : stored) byte = static_cast<std::byte>(random());
  for (std::size_t b = 0; b < stored.size() / 17; ++b) {
    std::byte* const block = stored.data() + 17 * b;
    block[0] = static_cast<std::byte>(b < 2 ? b : 118 + random() % 8);  // denormal powers first
    const float power = std::ldexp(1.0F, std::to_integer<int>(block[0]) - 127);
    for (std::size_t i = 0; i < 32; ++i) {
      const auto byte = std::to_integer<unsigned>(block[1 + i % 16]);
      expected[32 * b + i] = kValues[byte >> (i < 16 ? 0 : 4) & 15] * power;
    }
  }
  Matrix matrix{MatrixFormat::kMxfp4, kRows, kColumns, stored.data()};
  ThreadTeam team(2);
  for (const bool tiled : {false, true}) {
    if (tiled) tile_in_place(matrix, team);
    std::vector<float> row(kColumns);
    for (std::size_t r = 0; r < kRows; ++r) {
      read_row(matrix, r, row.data());
      ASSERT_TRUE(std::equal(row.begin(), row.end(), expected.begin() + r * kColumns)) << r;
    }
    std::vector<float> values(kColumns * 2);
    for (float& value : values) value = std::normal_distribution<float>()(random);
    Activations x;
    x.set(values, kColumns, matrix.format, ActivationBits::k24);
    std::vector<float> sums(2 * kRows), found(2 * kRows);
    multiply_reference(expected, kRows, x, matrix.format, sums.data(), kRows);
    for (const InstructionSet& set : instruction_sets()) {
      if (!set.supported()) continue;
      const Product product{matrix, nullptr, found.data(), kRows};
      multiply(std::span(&product, 1), x, team, set);
      for (std::size_t i = 0; i < sums.size(); ++i) {
        ASSERT_NEAR(found[i], sums[i], 1e-4) << set.name << ' ' << i;
      }
    }
  }
}

}  // namespace
}  // namespace berth
