// GGUF's block formats against the gguf package, and every implementation against the formula.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "cuda/block_format.h"
#include "cuda/reorder.h"

namespace berth {
namespace {

constexpr const char* kNames[] = {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"};
constexpr FloatFormat kFloats[] = {FloatFormat::kBF16, FloatFormat::kF16, FloatFormat::kF32,
                                   FloatFormat::kF64};

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

TEST(BlockFormat, GivesTheBitsOfTheGgufPackage) {
  std::ifstream in(std::string(BERTH_SOURCE_DIR) + "/tests/kernels/data/block_formats.txt");
  std::string name, blocks_hex, values_hex;
  std::size_t format = 0;
  while (in >> name >> blocks_hex >> values_hex) {
    ASSERT_EQ(name, kNames[format]);
    const auto id = static_cast<BlockFormat>(format++);
    const std::string blocks = from_hex(blocks_hex);
    const std::string expected = from_hex(values_hex);
    const std::size_t count = blocks.size() / block_size(id).bytes;
    ASSERT_EQ(expected.size(), count * block_size(id).elements * sizeof(float));
    std::vector<float> values(expected.size() / sizeof(float));
    dequantize_reference(blocks.data(), id, values.data(), FloatFormat::kF32, count);
    EXPECT_EQ(std::memcmp(values.data(), expected.data(), expected.size()), 0) << name;
    std::fill(values.begin(), values.end(), 0.0F);
    dequantize_on_host(blocks.data(), id, values.data(), FloatFormat::kF32, count);
    EXPECT_EQ(std::memcmp(values.data(), expected.data(), expected.size()), 0) << name;
  }
  EXPECT_EQ(format, std::size(kNames));
}

// The bits of each value, and one pattern for every NaN: where both a scale and a minimum are NaN,
// IEEE 754 leaves open whose bits the sum has, and compilers order the two as they like.
template <typename Bits>
void unite_nans(std::vector<std::uint64_t>& words, Bits infinity) {
  auto* values = reinterpret_cast<char*>(words.data());
  for (std::size_t at = 0; at < words.size() * sizeof(words[0]); at += sizeof(Bits)) {
    Bits bits;
    std::memcpy(&bits, values + at, sizeof bits);
    if (static_cast<Bits>(bits << 1) <= static_cast<Bits>(infinity << 1)) continue;
    bits = static_cast<Bits>(~Bits{0});
    std::memcpy(values + at, &bits, sizeof bits);
  }
}

std::vector<std::uint64_t> with_one_nan(std::vector<std::uint64_t> words, FloatFormat format) {
  switch (format) {
    case FloatFormat::kBF16:
      unite_nans<std::uint16_t>(words, 0x7F80);
      break;
    case FloatFormat::kF16:
      unite_nans<std::uint16_t>(words, 0x7C00);
      break;
    case FloatFormat::kF32:
      unite_nans<std::uint32_t>(words, 0x7F800000);
      break;
    default:
      unite_nans<std::uint64_t>(words, 0x7FF0000000000000);
      break;
  }
  return words;
}

// Scales may be any f16, also NaN and infinity: the bits agree nevertheless.
TEST(BlockFormat, TheFastLoopsAgreeWithTheFormulaOnAnyBytes) {
  std::mt19937 random(7);
  constexpr std::size_t kBlocks = 300;
  for (std::size_t f = 0; f < std::size(kNames); ++f) {
    const auto format = static_cast<BlockFormat>(f);
    std::vector<char> blocks(1 + kBlocks * block_size(format).bytes);
    for (char& byte : blocks) byte = static_cast<char>(random());
    for (const FloatFormat to : kFloats) {
      const std::size_t bytes = kBlocks * block_size(format).elements * float_bytes(to);
      std::vector<std::uint64_t> expected(bytes / 8), values(bytes / 8);
      const char* odd = blocks.data() + 1;  // blocks may have any address
      dequantize_reference(odd, format, expected.data(), to, kBlocks);
      dequantize_on_host(odd, format, values.data(), to, kBlocks);
      EXPECT_EQ(with_one_nan(values, to), with_one_nan(expected, to))
          << kNames[f] << " to " << static_cast<int>(to);
    }
  }
}

// Moves the stored bytes in random stretches.
std::string in_stretches(const std::string& stored, std::size_t wanted_bytes, const Reorder& order,
                         std::mt19937& random) {
  std::string moved(wanted_bytes, 0);
  for (std::size_t at = 0; at < stored.size();) {
    const std::size_t part = std::min<std::size_t>(stored.size() - at, 1 + random() % 40);
    reorder_on_host(stored.data() + at, at, part, order, moved.data());
    at += part;
  }
  return moved;
}

TEST(Reorder, IsABatchedTranspositionWhateverThePartsAre) {
  std::mt19937 random(8);
  for (int round = 0; round < 300; ++round) {
    const std::size_t rows = 1 + random() % 7, columns = 1 + random() % 5, unit = 1 + random() % 9;
    const std::size_t groups = 1 + random() % 4;
    const Reorder order = make_reorder({{groups, rows * columns * unit, rows * columns * unit},
                                        {columns, unit, rows * unit},
                                        {rows, columns * unit, unit}},
                                       unit);
    const std::size_t bytes = groups * rows * columns * unit;
    std::string stored(bytes, 0), expected(bytes, 0);
    for (char& byte : stored) byte = static_cast<char>(random());
    for (std::size_t g = 0, at = 0; g < groups; ++g) {
      for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t c = 0; c < columns; ++c, at += unit) {
          expected.replace(((g * columns + c) * rows + r) * unit, unit, stored, at, unit);
        }
      }
    }
    ASSERT_EQ(in_stretches(stored, bytes, order, random), expected) << round;
  }
}

// Steps that skip, repeat and overlap: every unit of the tensor must come from where it says.
TEST(Reorder, GathersViewsOfAnySteps) {
  std::mt19937 random(9);
  for (int round = 0; round < 1000; ++round) {
    const std::size_t unit = 1 + random() % 5;
    std::vector<ReorderDim> dims(random() % 5);
    std::size_t wanted = unit;
    std::size_t span = unit;
    for (std::size_t k = dims.size(); k-- > 0;) {
      dims[k] = {1 + random() % 5, random() % 4 == 0 ? 0 : unit * (random() % 12), wanted};
      wanted *= dims[k].size;
      span += (dims[k].size - 1) * dims[k].from;
    }
    std::string stored(span, 0), expected(wanted, 0);
    for (char& byte : stored) byte = static_cast<char>(random());
    for (std::size_t i = 0; i < wanted / unit; ++i) {
      std::size_t rest = i, from = 0;
      for (std::size_t k = dims.size(); k-- > 0; rest /= dims[k].size) {
        from += rest % dims[k].size * dims[k].from;
      }
      expected.replace(i * unit, unit, stored, from, unit);
    }
    const Reorder order = make_reorder(dims, unit);
    ASSERT_EQ(in_stretches(stored, wanted, order, random), expected) << round;
  }
}

TEST(Reorder, JoinsWhatStandsTogether) {
  const Reorder order =
      make_reorder({{3, 800, 400}, {5, 80, 80}, {4, 20, 20}, {1, 7, 7}, {10, 2, 2}}, 2);
  EXPECT_EQ(order.unit, 400u);
  ASSERT_EQ(order.dims.size(), 1u);
  EXPECT_EQ(order.dims[0].size, 3u);
}

}  // namespace
}  // namespace berth
