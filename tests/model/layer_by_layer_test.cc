// Families whose layers have sizes of their own (`block_configs`), and the text model that a config
// names. transformers has no such classes, so the sizes here are worked out by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "berth/error.h"
#include "berth/planner.h"
#include "planner/model/open/build_model_tree.h"
#include "planner/model/tree/config.h"

namespace berth {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

ModelTree tree_of(const std::string& config) {
  const ModelConfig parsed = ModelConfig::parse(config, "config.json");
  return build_model_tree("m", &parsed, nullptr, std::nullopt);
}

std::string error_of(const std::string& config) {
  try {
    tree_of(config);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

std::vector<std::uint64_t> kv_elements(const ModelTree& tree) {
  std::vector<std::uint64_t> out;
  for (const LayerFacts& layer : tree.facts.layers) out.push_back(layer.kv_elements);
  return out;
}

std::string nas(const std::string& layers, const std::string& blocks) {
  return R"({"model_type":"nemotron-nas","architectures":["DeciLMForCausalLM"],"hidden_size":64,
    "num_attention_heads":8,"vocab_size":160,"intermediate_size":null,"num_key_value_heads":null,
    "dtype":"bfloat16","num_hidden_layers":)" +
         layers + R"(,"block_configs":[)" + blocks + "]}";
}

const std::string kWhole = R"({"attention":{"n_heads_in_group":4,"no_op":false},
  "ffn":{"ffn_mult":5.25,"no_op":false}})";
const std::string kNoAttention = R"({"attention":{"n_heads_in_group":null,"no_op":true},
  "ffn":{"ffn_mult":1.0,"no_op":false}})";
const std::string kMatrices = R"({"attention":{"no_op":false,"replace_with_linear":true},
  "ffn":{"ffn_mult":null,"no_op":false,"replace_with_linear":true}})";
const std::string kNoFeedForward = R"({"attention":{"n_heads_in_group":8,"no_op":false},
  "ffn":{"ffn_mult":null,"no_op":true}})";

TEST(LayerByLayer, BlocksMayBeAbsentOrASingleMatrix) {
  const ModelTree tree =
      tree_of(nas("4", kWhole + "," + kNoAttention + "," + kMatrices + "," + kNoFeedForward));
  // Queries and outputs of 64 x 64, keys and values of heads / group heads of 8; feed-forward
  // blocks of 2/3 of ffn_mult x 64, rounded up to a multiple of 256; a norm before each block.
  constexpr std::uint64_t kEnds = 2 * 160 * 64 + 64;
  constexpr std::uint64_t kFirst = 2 * 64 * 64 + 2 * 64 * 2 * 8 + 3 * 64 * 256 + 2 * 64;
  constexpr std::uint64_t kSecond = 3 * 64 * 256 + 64;
  constexpr std::uint64_t kThird = 2 * (64 * 64 + 64);
  constexpr std::uint64_t kFourth = 2 * 64 * 64 + 2 * 64 * 1 * 8 + 64;
  EXPECT_EQ(tree.parameters(), kEnds + kFirst + kSecond + kThird + kFourth);
  EXPECT_THAT(kv_elements(tree), ElementsAre(2u * 2 * 8, 0u, 0u, 2u * 1 * 8));
  EXPECT_NE(tree.find_module("model.layers.2.self_attn.linear_attn"), nullptr);
  EXPECT_NE(tree.find_module("model.layers.2.mlp.linear_mlp"), nullptr);
  EXPECT_EQ(tree.find_module("model.layers.1.self_attn"), nullptr);
}

TEST(LayerByLayer, AsManyBlocksAsLayers) {
  EXPECT_THAT(error_of(nas("2", kWhole)),
              HasSubstr("block_configs: 1 entries for num_hidden_layers 2"));
  EXPECT_THAT(error_of(nas("1", kWhole + "," + kWhole)),
              HasSubstr("block_configs: 2 entries for num_hidden_layers 1"));
  EXPECT_THAT(error_of(nas("1", R"({"attention":{"no_op":false},"ffn":{"no_op":true}})")),
              HasSubstr("block_configs.0.attention.n_heads_in_group is missing"));
}

TEST(LayerByLayer, KeyValueHeadsOfEachLayer) {
  const std::string config = R"({"model_type":"deci","hidden_size":64,"intermediate_size":100,
    "num_hidden_layers":3,"num_attention_heads":8,"vocab_size":160,
    "num_key_value_heads_per_layer":[4,2,)";
  EXPECT_THAT(kv_elements(tree_of(config + "1]}")), ElementsAre(64u, 32u, 16u));
  EXPECT_THAT(error_of(config + "1,1]}"), HasSubstr("num_key_value_heads_per_layer"));
}

std::string llava(const std::string& text) {
  return R"({"model_type":"llava","architectures":["LlavaForConditionalGeneration"],
    "vision_config":{"hidden_size":40,"intermediate_size":72,"num_hidden_layers":2,"image_size":28,
    "patch_size":7},"text_config":)" +
         text + "}";
}

TEST(TextModel, IsTheOneThatTheConfigNames) {
  const std::string sizes = R"("hidden_size":64,"intermediate_size":112,"num_hidden_layers":2,
    "num_attention_heads":4,"num_key_value_heads":2,"vocab_size":160})";
  const ModelTree llama = tree_of(llava("{" + sizes));
  EXPECT_EQ(llama.find_module("model.language_model")->cls, "LlamaModel");
  const ModelTree qwen = tree_of(llava(R"({"model_type":"qwen3","head_dim":16,)" + sizes));
  EXPECT_EQ(qwen.find_module("model.language_model")->cls, "Qwen3Model");
  EXPECT_NE(qwen.find_module("model.language_model.layers.1.self_attn.q_norm"), nullptr);
  EXPECT_TRUE(qwen.find_module("model.vision_tower")->prompt_only);
  EXPECT_FALSE(qwen.find_module("model.language_model")->prompt_only);
  EXPECT_EQ(qwen.facts.layers.size(), 2u);
  EXPECT_THAT(error_of(llava(R"({"model_type":"unheard_of",)" + sizes)),
              HasSubstr("text_config.model_type: 'unheard_of' has no template"));
}

TEST(TextModel, HasTheDefaultsOfItsOwnFamily) {
  // Mistral's 8 KV heads and window of 4,096, although neither is said.
  const ModelTree tree = tree_of(llava(R"({"model_type":"mistral","hidden_size":64,
    "num_attention_heads":16,"num_hidden_layers":2,"intermediate_size":112,"vocab_size":160})"));
  ASSERT_EQ(tree.facts.layers.size(), 2u);
  EXPECT_EQ(tree.facts.layers[0].kv_elements, 2u * 8 * 4);
  EXPECT_EQ(tree.facts.layers[0].window, 4096u);
}

}  // namespace
}  // namespace berth
