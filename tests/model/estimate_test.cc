// A config.json alone whose family has no template: an estimate that says so, or a refusal.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "berth/error.h"
#include "berth/model.h"
#include "berth/planner.h"
#include "tests/checkpoint/fixtures.h"

namespace berth {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

ModelTree tree_of(const std::string& config) {
  test::TempFolder folder;
  folder.write("config.json", config);
  return open_model(folder / "config.json", std::nullopt).tree;
}

std::string error_of(const std::string& config) {
  try {
    tree_of(config);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

constexpr const char* kNumbers =
    R"("hidden_size":64,"num_attention_heads":4,"num_key_value_heads":2,"intermediate_size":112,
       "vocab_size":160,"num_hidden_layers":3,"torch_dtype":"bfloat16")";

std::string config_of(const std::string& type, const std::string& more = "") {
  return R"({"model_type":")" + type + R"(",)" + kNumbers + more + "}";
}

TEST(Estimate, CountsWhatLlamaWouldHave) {
  const ModelTree known = tree_of(config_of("llama"));
  const ModelTree tree = tree_of(config_of("llama_next"));
  EXPECT_TRUE(tree.estimated);
  EXPECT_FALSE(known.estimated);
  EXPECT_EQ(tree.parameters(), known.parameters());
  ASSERT_EQ(tree.facts.layers.size(), 3u);
  EXPECT_EQ(tree.facts.layers[0].kv_elements, known.facts.layers[0].kv_elements);
  ASSERT_FALSE(tree.guesses.empty());
  EXPECT_THAT(tree.guesses[0], HasSubstr("estimated by the numbers of its config alone"));
  EXPECT_THAT(tree.notes[0], ::testing::StartsWith("guessed: no template for model_type"));
}

TEST(Estimate, CountsMixturesAndLatents) {
  const std::string more =
      R"(,"n_routed_experts":4,"num_experts_per_tok":2,"moe_intermediate_size":24,
          "n_shared_experts":1,"first_k_dense_replace":1,"q_lora_rank":24,"kv_lora_rank":16,
          "qk_nope_head_dim":8,"qk_rope_head_dim":4,"v_head_dim":12)";
  const ModelTree known = tree_of(config_of("deepseek_v3", more));
  const ModelTree tree = tree_of(config_of("deepseek_v9", more));
  ASSERT_EQ(tree.facts.layers.size(), known.facts.layers.size());
  for (std::size_t i = 0; i < tree.facts.layers.size(); ++i) {
    EXPECT_EQ(tree.facts.layers[i].kv_elements, known.facts.layers[i].kv_elements);
    EXPECT_EQ(tree.facts.layers[i].experts, known.facts.layers[i].experts);
    EXPECT_EQ(tree.facts.layers[i].experts_per_token, known.facts.layers[i].experts_per_token);
  }
  const double share =
      static_cast<double>(tree.parameters()) / static_cast<double>(known.parameters());
  EXPECT_NEAR(share, 1, 0.01);
}

TEST(Estimate, NoTensorHasASource) {
  for (const ModelTensor& tensor : tree_of(config_of("new")).tensors) {
    EXPECT_EQ(tensor.source, kNone);
  }
}

TEST(Estimate, IsRefusedWhereNumbersAreMissing) {
  const std::string error = error_of(R"({"model_type":"qwen9","hidden_size":64})");
  EXPECT_THAT(error, HasSubstr("'qwen9' has no template"));
  EXPECT_THAT(error, HasSubstr("lacks num_hidden_layers, num_attention_heads, vocab_size"));
  EXPECT_THAT(error, HasSubstr("nearest family with a template is 'qwen"));
  EXPECT_THAT(error, HasSubstr("extends: qwen"));
  EXPECT_THAT(error, HasSubstr("checkpoint"));
}

TEST(Estimate, IsRefusedForLayersWhoseWeightsNoNumbersTell) {
  EXPECT_THAT(error_of(config_of("new", R"(,"full_attention_interval":2)")),
              HasSubstr("layers other than those of attention"));
  EXPECT_THAT(error_of(config_of("new", R"(,"mamba_d_state":16)")), HasSubstr("mamba_d_state"));
  EXPECT_THAT(error_of(config_of("new", R"(,"is_encoder_decoder":true)")),
              HasSubstr("an encoder and a decoder"));
  EXPECT_THAT(error_of(config_of("new", R"(,"vision_config":{"hidden_act":"gelu"})")),
              HasSubstr("the size of vision_config"));
}

TEST(Estimate, ContradictionsAreRefusedByTheirKey) {
  EXPECT_THAT(error_of(config_of("new", R"(,"layer_types":["foo","foo","foo"])")),
              HasSubstr("layer_types[0]: 'foo' is no kind of layer"));
}

TEST(Estimate, WindowsCountOnlyWhereAKeyGivesThemToLayers) {
  const ModelTree all = tree_of(config_of("new", R"(,"sliding_window":8)"));
  EXPECT_EQ(all.facts.layers[0].window, 0u);
  const ModelTree some =
      tree_of(config_of("new", R"(,"sliding_window":8,"sliding_window_pattern":3)"));
  EXPECT_EQ(some.facts.layers[0].window, 8u);
  EXPECT_EQ(some.facts.layers[2].window, 0u);
}

}  // namespace
}  // namespace berth
