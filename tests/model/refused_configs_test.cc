// What templates refuse, and how: a config that says what its template cannot plan gets an error
// that names the key, never a plan.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "berth/error.h"
#include "berth/planner.h"
#include "tests/checkpoint/fixtures.h"

namespace berth {
namespace {

using testing::HasSubstr;

std::string error_of(const std::string& config) {
  test::TempFolder folder;
  folder.write("config.json", config);
  try {
    open_model(folder / "config.json", std::nullopt);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(RefusedConfigs, PatternsOfUnknownLetters) {
  EXPECT_THAT(error_of(R"({"model_type":"nemotron_h","hybrid_override_pattern":"M-*X"})"),
              HasSubstr("hybrid_override_pattern: 'X' is none of M, "));
}

TEST(RefusedConfigs, LayersOfAnUnknownKind) {
  EXPECT_THAT(error_of(R"({"model_type":"qwen3_next","num_hidden_layers":2,
                           "layer_types":["full_attention","sliding_attention"]})"),
              HasSubstr("layer_types: 'sliding_attention' is none of linear_attention, full_"));
}

TEST(RefusedConfigs, KindsOfFeedForwardBlocksOfAnotherFamily) {
  for (const std::string family : {"hy_v3", "mimo_v2_flash", "glm4_moe_lite", "laguna"}) {
    EXPECT_THAT(error_of(R"({"model_type":")" + family +
                         R"(","num_hidden_layers":2,"mlp_layer_types":["dense","hash_moe"]})"),
                HasSubstr("mlp_layer_types: 'hash_moe' is none of sparse, dense"));
  }
  EXPECT_THAT(error_of(R"({"model_type":"deepseek_v4","num_hidden_layers":1,
                           "compress_ratios":[7]})"),
              HasSubstr("compress_ratios"));
}

TEST(RefusedConfigs, ListsThatAreShorterThanTheModel) {
  EXPECT_THAT(error_of(R"({"model_type":"lfm2","num_hidden_layers":3,
                           "layer_types":["conv","full_attention"]})"),
              HasSubstr("layer_types"));
}

TEST(RefusedConfigs, KeysThatContradictOneAnotherWhateverTheFamily) {
  EXPECT_THAT(error_of(R"({"model_type":"gemma3_text","sliding_window_pattern":0})"),
              HasSubstr("sliding_window_pattern: 0"));
  EXPECT_THAT(error_of(R"({"model_type":"qwen3","num_attention_heads":6,"num_key_value_heads":4})"),
              HasSubstr("num_key_value_heads: 4 does not divide num_attention_heads 6"));
  EXPECT_THAT(error_of(R"({"model_type":"olmo2","hidden_size":100,"num_attention_heads":3})"),
              HasSubstr("num_attention_heads: 3 does not divide hidden_size 100"));
  EXPECT_THAT(error_of(R"({"model_type":"smollm3","num_hidden_layers":4,"no_rope_layers":[1,0]})"),
              HasSubstr("no_rope_layers: 2 entries for num_hidden_layers 4"));
  EXPECT_THAT(error_of(R"({"model_type":"llama","num_hidden_layers":-1})"),
              HasSubstr("num_hidden_layers: -1 is negative"));
  EXPECT_THAT(error_of(R"({"model_type":"llama","vocab_size":0})"), HasSubstr("vocab_size: 0"));
  EXPECT_THAT(error_of(R"({"model_type":"qwen3_next","num_hidden_layers":4,
                           "full_attention_interval":0})"),
              HasSubstr("full_attention_interval: 0"));
}

TEST(RefusedConfigs, NestedConfigsThatAreMissing) {
  EXPECT_THAT(error_of(R"({"model_type":"gemma3","text_config":{"num_hidden_layers":2}})"),
              HasSubstr("vision_config: missing"));
  EXPECT_THAT(error_of(R"({"model_type":"gemma3","vision_config":{"num_hidden_layers":2}})"),
              HasSubstr("text_config: missing"));
}

TEST(RefusedConfigs, ClassesThatAreUnknownArePlannedAsTheWholeModelAndNoted) {
  test::TempFolder folder;
  folder.write("config.json",
               R"({"model_type":"granite","architectures":["GraniteForSomethingElse"]})");
  const ModelTree tree = open_model(folder / "config.json", std::nullopt).tree;
  EXPECT_EQ(tree.modules[0].cls, "GraniteForCausalLM");
  ASSERT_EQ(tree.notes.size(), 2u);  // the other one names the sizes, which this config leaves out
  EXPECT_THAT(tree.notes[0],
              testing::EndsWith("architectures: the template of granite models does not know "
                                "'GraniteForSomethingElse'; planned as GraniteForCausalLM"));
}

}  // namespace
}  // namespace berth
