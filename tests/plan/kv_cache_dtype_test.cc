// The dtypes of a KV cache: their names, and what a cache of each takes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

#include "berth/error.h"
#include "planner/plan/kv_cache.h"
#include "tests/error_of.h"

namespace berth {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

// A layer of 8 heads of `head` values for keys and as many for values.
LayerFacts attention(std::uint64_t head) {
  LayerFacts layer;
  layer.kv_elements = 2 * 8 * head;
  layer.head_size = head;
  return layer;
}

std::uint64_t bytes(const LayerFacts& layer, std::string_view dtype, std::uint64_t context) {
  Workload workload;
  workload.context = context;
  workload.kv_dtype = parse_kv_dtype(dtype);
  return kv_cache_bytes(layer, workload);
}

TEST(KvCacheDtype, BlocksTakeTheirScales) {
  const LayerFacts layer = attention(128);  // 2048 elements a position
  const std::pair<const char*, std::uint64_t> expected[] = {
      {"f32", 8192},  {"float16", 4096}, {"bf16", 4096},  {"fp8", 2048},
      {"int8", 2048}, {"q8_0", 2176},    {"q5_1", 1536},  {"q5_0", 1408},
      {"q4_1", 1280}, {"q4_0", 1152},    {"iq4_nl", 1152}};
  for (const auto& [dtype, of_position] : expected) {
    EXPECT_EQ(bytes(layer, dtype, 1), of_position) << dtype;
    EXPECT_EQ(bytes(layer, dtype, 1000), 1000 * of_position) << dtype;
  }
}

TEST(KvCacheDtype, StatesKeepTheirOwn) {
  LayerFacts layer = attention(128);
  layer.kv_elements = 0;
  layer.state_bytes = 1000;
  EXPECT_EQ(bytes(layer, "q4_0", 4096), 1000u);
  layer.cross_elements = 64;
  EXPECT_EQ(bytes(layer, "q4_0", 4096), 1000u + 2 * 18);
}

TEST(KvCacheDtype, HasTheNamesOfAllTools) {
  for (const char* name : {"fp8", "fp8_e4m3", "float8_e4m3fn"}) {
    EXPECT_EQ(parse_kv_dtype(name), DType::kF8E4M3) << name;
  }
  EXPECT_EQ(parse_kv_dtype("fp8_e5m2"), DType::kF8E5M2);
  EXPECT_EQ(parse_kv_dtype("q4_k"), std::nullopt);  // llama.cpp keeps no cache of it
  for (const KvDType& row : kv_dtypes()) {
    EXPECT_EQ(find_kv_dtype(row.dtype), &row);
    EXPECT_EQ(kv_dtype_name(row.dtype), row.names.front());
    EXPECT_EQ(parse_kv_dtype(kv_dtype_name(row.dtype)), row.dtype);
  }
}

TEST(KvCacheDtype, BlocksDoNotCutHeads) {
  ModelTree tree;
  tree.name = "m";
  tree.facts.layers = {attention(128), attention(80)};
  EXPECT_EQ(error_of([&] { require_whole_blocks(tree, DType::kQ8_0); }),
            "m: a KV cache of q8_0 holds blocks of 32 values, and a head of layer 1 has 80: "
            "llama.cpp makes no such cache (float16 and fp8 have no blocks)");
  require_whole_blocks(tree, DType::kF8E4M3);
  tree.facts.layers.pop_back();
  require_whole_blocks(tree, DType::kQ8_0);
  LayerFacts latent;  // of which no head is known
  latent.kv_elements = 576;
  tree.facts.layers = {latent};
  require_whole_blocks(tree, DType::kQ4_0);
  tree.facts.layers[0].kv_elements = 580;
  EXPECT_THAT(error_of([&] { require_whole_blocks(tree, DType::kQ4_0); }),
              HasSubstr("a position of layer 0 has 580"));
}

}  // namespace
}  // namespace berth
