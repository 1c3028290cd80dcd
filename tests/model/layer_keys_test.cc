// What a config says of single layers, whatever its family.
#include "planner/model/tree/layer_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "berth/error.h"

namespace berth {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Of each layer a letter: f full, s sliding, c chunked, r recurrent, h hybrid, x cross, - none,
// ? unsaid; then its window where it has one.
std::vector<std::string> read(const std::string& json, std::size_t count,
                              std::vector<std::string>* guesses = nullptr) {
  const ModelConfig config = ModelConfig::parse(json, "config.json");
  const LayersSaid said = read_layer_keys(TextKeys(config), count);
  std::vector<std::string> out;
  for (const LayerSaid& layer : said.layers) {
    std::string text(1, "?fscrhx-"[static_cast<int>(layer.kind)]);
    if (layer.window > 0) text += std::to_string(layer.window);
    if (layer.shares) text += "*";
    out.push_back(text);
  }
  if (guesses != nullptr) *guesses = said.guesses;
  return out;
}

std::string error_of(const std::string& json) {
  try {
    const ModelConfig config = ModelConfig::parse(json, "config.json");
    check_layer_keys(TextKeys(config));
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

TEST(LayerKeys, WordsForEachLayer) {
  EXPECT_THAT(read(R"({"layer_types":["full_attention","sliding_attention","linear_attention",
                       "chunked_attention"],"sliding_window":8,"attention_chunk_size":16})",
                   4),
              ElementsAre("f", "s8", "r", "c16"));
  EXPECT_THAT(read(R"({"layers_block_type":["mamba","attention","moe"]})", 3),
              ElementsAre("r", "f", "-"));
  EXPECT_THAT(read(R"({"block_types":["recurrent","recurrent","attention"]})", 5),
              ElementsAre("r", "r", "f", "r", "r"));
}

TEST(LayerKeys, PatternsOfLetters) {
  EXPECT_THAT(read(R"({"hybrid_override_pattern":"M-*E"})", 4), ElementsAre("r", "-", "f", "-"));
  EXPECT_THAT(read(R"({"sliding_window_pattern":"LLG","sliding_window":8})", 5),
              ElementsAre("s8", "s8", "f", "s8", "s8"));
}

TEST(LayerKeys, Intervals) {
  EXPECT_THAT(read(R"({"sliding_window_pattern":3,"sliding_window":8})", 4),
              ElementsAre("s8", "s8", "f", "s8"));
  EXPECT_THAT(read(R"({"full_attention_interval":2})", 4), ElementsAre("r", "f", "r", "f"));
  EXPECT_THAT(read(R"({"attn_layer_period":4,"attn_layer_offset":1})", 5),
              ElementsAre("r", "f", "r", "r", "r"));
  EXPECT_THAT(read(R"({"no_rope_layer_interval":2,"attention_chunk_size":16})", 4),
              ElementsAre("c16", "f", "c16", "f"));
}

TEST(LayerKeys, ListsOfNumbers) {
  EXPECT_THAT(read(R"({"attn_layer_indices":[1]})", 3), ElementsAre("r", "f", "r"));
  EXPECT_THAT(read(R"({"cross_attention_layers":[2]})", 3), ElementsAre("f", "f", "x"));
  EXPECT_THAT(read(R"({"attn_type_list":[0,1,0]})", 3), ElementsAre("r", "f", "r"));
  EXPECT_THAT(read(R"({"linear_attn_config":{"full_attn_layers":[2]}})", 3),
              ElementsAre("r", "f", "r"));
  EXPECT_THAT(read(R"({"no_rope_layers":[1,0,1],"attention_chunk_size":16})", 3),
              ElementsAre("c16", "f", "c16"));
  EXPECT_THAT(read(R"({"sliding_window":[8,0,4]})", 3), ElementsAre("s8", "?", "s4"));
}

TEST(LayerKeys, BlockConfigs) {
  EXPECT_THAT(read(R"({"block_configs":[{"attention":{"no_op":true}},
                       {"attention":{"n_heads_in_group":8,"window_length":32}},
                       {"attention":{"n_heads_in_group":8}}]})",
                   3),
              ElementsAre("-", "s32", "f"));
}

TEST(LayerKeys, TheLastLayersShare) {
  EXPECT_THAT(read(R"({"num_kv_shared_layers":1})", 3), ElementsAre("?", "?", "?*"));
}

TEST(LayerKeys, AWindowThatIsSwitchedOff) {
  std::vector<std::string> guesses;
  EXPECT_THAT(
      read(R"({"use_sliding_window":false,"sliding_window":8,"max_window_layers":2})", 3, &guesses),
      ElementsAre("?", "?", "?"));
  EXPECT_THAT(guesses, IsEmpty());
  EXPECT_THAT(read(R"({"use_sliding_window":false,"sliding_window":8,
                       "layer_types":["sliding_attention","full_attention"]})",
                   2, &guesses),
              ElementsAre("s", "f"));
  EXPECT_THAT(guesses, IsEmpty());
}

TEST(LayerKeys, AWindowOfUnknownLayersIsReadAsNone) {
  std::vector<std::string> guesses;
  EXPECT_THAT(read(R"({"sliding_window":8})", 2, &guesses), ElementsAre("?", "?"));
  EXPECT_THAT(guesses, ElementsAre(HasSubstr("sliding_window is 8, but nothing says")));
  EXPECT_THAT(
      read(R"({"block_types":["recurrent","attention"],"attention_window_size":8})", 2, &guesses),
      ElementsAre("r", "f"));
  EXPECT_THAT(guesses, ElementsAre(HasSubstr("attention_window_size is 8")));
  EXPECT_THAT(read(R"({"attention_chunk_size":8})", 2, &guesses), ElementsAre("?", "?"));
  EXPECT_THAT(guesses, ElementsAre(HasSubstr("attention_chunk_size is 8")));
  EXPECT_THAT(read(R"({"layer_types":["sliding_attention","full_attention"]})", 2, &guesses),
              ElementsAre("s", "f"));
  EXPECT_THAT(guesses, ElementsAre(HasSubstr("nothing says how wide")));
  EXPECT_THAT(
      read(R"({"use_sliding_window":true,"sliding_window":8,"max_window_layers":1})", 2, &guesses),
      ElementsAre("?", "s8"));
  EXPECT_THAT(guesses, ElementsAre(HasSubstr("max_window_layers 1")));
}

TEST(LayerKeys, TheNestedLanguageModel) {
  const auto prefix = [](const std::string& json) {
    const ModelConfig config = ModelConfig::parse(json, "config.json");
    return TextKeys(config).prefix();
  };
  const std::string vision = R"("vision_config":{"num_hidden_layers":9})";
  EXPECT_EQ(prefix("{" + vision + R"(,"llm_config":{"num_hidden_layers":2}})"), "llm_config.");
  EXPECT_EQ(prefix("{" + vision + R"(,"thinker_config":{"audio_config":{"num_hidden_layers":3},
                   "text_config":{"num_hidden_layers":2}}})"),
            "thinker_config.text_config.");
  EXPECT_EQ(prefix("{" + vision + R"(,"num_hidden_layers":2})"), "");
  EXPECT_EQ(prefix("{" + vision + "}"), "");
}

TEST(LayerKeys, NestedKeysWin) {
  const ModelConfig config = ModelConfig::parse(
      R"({"hidden_size":1,"llm_config":{"hidden_size":2,"n_layer":3}})", "config.json");
  const TextKeys keys(config);
  EXPECT_EQ(keys.count(keys::kHidden), 2u);
  EXPECT_EQ(keys.count(keys::kLayers), 3u);
}

struct Refusal {
  const char* config;
  const char* says;
};

class LayerKeysRefusal : public ::testing::TestWithParam<Refusal> {};

TEST_P(LayerKeysRefusal, NamesTheKey) {
  EXPECT_THAT(error_of(std::string(R"({"num_hidden_layers":2,)") + GetParam().config + "}"),
              HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    All, LayerKeysRefusal,
    ::testing::Values(
        Refusal{R"("layer_types":["foo","full_attention"])",
                "config.json: layer_types[0]: 'foo' is no kind of layer"},
        Refusal{R"("layer_types":["full_attention"])",
                "config.json: layer_types: 1 entries for num_hidden_layers 2"},
        Refusal{R"("layer_types":["full_attention","full_attention","full_attention"])",
                "layer_types: 3 entries for num_hidden_layers 2"},
        Refusal{R"("layers_block_type":["mamba"])", "layers_block_type: 1 entries"},
        Refusal{R"("mlp_layer_types":["dense","thick"])", "mlp_layer_types[1]: 'thick'"},
        Refusal{R"("hybrid_override_pattern":"MX")",
                "hybrid_override_pattern: 'X' is none of M, *, -, E"},
        Refusal{R"("hybrid_override_pattern":"M")", "hybrid_override_pattern: 1 letters"},
        Refusal{R"("sliding_window_pattern":"LX")", "sliding_window_pattern: 'X'"},
        Refusal{R"("sliding_window_pattern":0)", "sliding_window_pattern: 0"},
        Refusal{R"("full_attention_interval":-1)", "full_attention_interval: -1"},
        Refusal{R"("attn_layer_period":2,"attn_layer_offset":2)", "attn_layer_offset: 2"},
        Refusal{R"("attn_layer_indices":[5])", "attn_layer_indices[0]: 5"},
        Refusal{R"("no_rope_layers":[1])", "no_rope_layers: 1 entries"},
        Refusal{R"("block_configs":[{"attention":{"no_op":true}}])", "block_configs: 1 entries"},
        Refusal{R"("num_kv_shared_layers":2)", "num_kv_shared_layers: 2"},
        Refusal{R"("hidden_size":0)", "hidden_size: 0"},
        Refusal{R"("vocab_size":-4)", "vocab_size: -4 is negative"},
        Refusal{R"("num_attention_heads":0)", "num_attention_heads: 0"},
        Refusal{R"("hidden_size":10,"num_attention_heads":4)", "num_attention_heads: 4 does not"},
        Refusal{R"("num_attention_heads":4,"num_key_value_heads":3)",
                "num_key_value_heads: 3 does not divide num_attention_heads 4"}));

TEST(LayerKeys, CountsBelowOneAreRefused) {
  EXPECT_THAT(error_of(R"({"num_hidden_layers":0})"), HasSubstr("num_hidden_layers: 0"));
  EXPECT_THAT(error_of(R"({"text_config":{"num_hidden_layers":-1}})"),
              HasSubstr("text_config.num_hidden_layers: -1 is negative"));
}

TEST(LayerKeys, TowersAreChecked) {
  EXPECT_THAT(error_of(R"({"vision_config":{"hidden_size":10,"num_attention_heads":4}})"),
              HasSubstr("vision_config.num_attention_heads: 4 does not divide"));
  EXPECT_THAT(error_of(R"({"vision_config":{"num_hidden_layers":0,"num_attention_heads":4}})"),
              HasSubstr("vision_config.num_hidden_layers: 0"));
}

TEST(LayerKeys, ListsMayCountLayersOfMultiTokenPrediction) {
  EXPECT_EQ(error_of(R"({"num_hidden_layers":1,"num_nextn_predict_layers":1,
                         "layer_types":["full_attention","full_attention"]})"),
            "");
}

}  // namespace
}  // namespace berth
