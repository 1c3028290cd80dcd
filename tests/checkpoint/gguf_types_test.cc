// The tensor types of GGUF: every one has the size that gguf-py gives it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <string>

#include "berth/tensor.h"
#include "planner/checkpoint/gguf/types.h"

namespace berth {
namespace {

TEST(GgufTypes, HaveTheBlocksOfTheReference) {
  std::ifstream golden(std::string(BERTH_SOURCE_DIR) + "/tests/checkpoint/data/gguf_types.txt");
  ASSERT_TRUE(golden);
  std::uint32_t number = 0;
  std::string name;
  unsigned elements = 0;
  unsigned bytes = 0;
  std::size_t count = 0;
  while (golden >> number >> name >> elements >> bytes) {
    const std::optional<DType> dtype = dtype_of_ggml(number);
    ASSERT_TRUE(dtype) << name;
    EXPECT_EQ(ggml_type_name(number), name);
    EXPECT_EQ(dtype_name(*dtype), name);
    EXPECT_EQ(dtype_block(*dtype).elements, elements) << name;
    EXPECT_EQ(dtype_block(*dtype).bytes, bytes) << name;
    EXPECT_EQ(is_block_format(*dtype), elements > 1) << name;
    ++count;
  }
  EXPECT_EQ(count, 34u);
}

// ggml took these out again; gguf-py no longer lists them, and files that have them are about.
TEST(GgufTypes, RepackedOnesTakeWhatTheyWerePackedFrom) {
  const std::map<std::uint32_t, DType> origins{{31, DType::kQ4_0},   {32, DType::kQ4_0},
                                               {33, DType::kQ4_0},   {36, DType::kIQ4_NL},
                                               {37, DType::kIQ4_NL}, {38, DType::kIQ4_NL}};
  for (const auto& [number, origin] : origins) {
    const std::optional<DType> dtype = dtype_of_ggml(number);
    ASSERT_TRUE(dtype) << number;
    EXPECT_NE(*dtype, origin);
    EXPECT_THAT(ggml_type_name(number), ::testing::StartsWith(std::string(dtype_name(origin))));
    EXPECT_EQ(tensor_bytes(*dtype, Shape{8, 64}), tensor_bytes(origin, Shape{8, 64}));
  }
}

TEST(GgufTypes, OthersHaveNone) {
  for (const std::uint32_t number : {4u, 5u, 42u, 4294967295u}) {
    EXPECT_FALSE(dtype_of_ggml(number)) << number;
  }
  EXPECT_EQ(ggml_type_name(4), "Q4_2");
  EXPECT_EQ(ggml_type_name(42), "42");
}

TEST(GgufTypes, HaveTheirNumbersBack) {
  for (std::uint32_t number = 0; number < 42; ++number) {
    const std::optional<DType> dtype = dtype_of_ggml(number);
    if (dtype) {
      EXPECT_EQ(ggml_type_of(*dtype), number);
    }
  }
  EXPECT_FALSE(ggml_type_of(DType::kF8E4M3));
}

TEST(GgufTypes, ThoseInTilesAreNoneOfTheReference) {
  EXPECT_TRUE(is_tiled_type(kTiledTypes + 3));
  EXPECT_FALSE(dtype_of_ggml(kTiledTypes + 3));
  for (const std::uint32_t number : {0u, 3u, 41u, 0x42550000u, 4294967295u}) {
    EXPECT_FALSE(is_tiled_type(number)) << number;
  }
}

TEST(GgufTypes, OnlyThoseWithAKernelBecomeFloats) {
  EXPECT_TRUE(can_convert(DType::kQ6_K, DType::kBF16));
  for (const DType dtype : {DType::kQ2_K, DType::kIQ4_XS, DType::kTQ2_0, DType::kMXFP4}) {
    EXPECT_TRUE(is_block_format(dtype));
    EXPECT_TRUE(can_convert(dtype, dtype));
    EXPECT_FALSE(can_convert(dtype, DType::kBF16)) << dtype_name(dtype);
  }
}

}  // namespace
}  // namespace berth
