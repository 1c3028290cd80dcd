// What the fallback makes of names, shapes and config, and what it says that it guessed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "berth/error.h"
#include "berth/model.h"
#include "berth/planner.h"
#include "planner/plan/kv_cache.h"
#include "tests/checkpoint/fixtures.h"

namespace berth {
namespace {

using test::FakeTensor;
using test::TempFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr DType kBF16 = DType::kBF16;

ModelTree tree_of(const std::vector<FakeTensor>& tensors, const std::string& config) {
  TempFolder folder;
  if (!config.empty()) folder.write("config.json", "{\"model_type\":\"new\"," + config + "}");
  test::write_safetensors(folder / "model.safetensors", tensors);
  return open_model(folder.path(), std::nullopt).tree;
}

constexpr const char* kNumbers =
    R"("hidden_size":32,"num_attention_heads":4,"num_key_value_heads":2,"intermediate_size":48,
       "vocab_size":64,"num_hidden_layers":2,"dtype":"bfloat16")";

// Tensors of a block: `names` with their shapes, below model.layers.N.
using Block = std::vector<std::pair<std::string, Shape>>;

std::vector<FakeTensor> model_of(const std::vector<Block>& blocks,
                                 const std::string& front = "model.") {
  std::vector<FakeTensor> tensors = {{front + "embed_tokens.weight", kBF16, {64, 32}},
                                     {front + "norm.weight", kBF16, {32}},
                                     {"lm_head.weight", kBF16, {64, 32}}};
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    for (const auto& [name, shape] : blocks[i]) {
      tensors.push_back({front + "layers." + std::to_string(i) + "." + name, kBF16, shape});
    }
  }
  return tensors;
}

const Block kAttention = {{"self_attn.q_proj.weight", {32, 32}},
                          {"self_attn.k_proj.weight", {16, 32}},
                          {"self_attn.v_proj.weight", {16, 32}},
                          {"self_attn.o_proj.weight", {32, 32}},
                          {"mlp.up_proj.weight", {48, 32}}};
const Block kFeedForward = {{"mlp.up_proj.weight", {48, 32}}};

std::vector<std::uint64_t> kv_of(const ModelTree& tree) {
  std::vector<std::uint64_t> out;
  for (const LayerFacts& layer : tree.facts.layers) out.push_back(layer.kv_elements);
  return out;
}

struct Names {
  const char* what;
  Block block;
  std::uint64_t kv;  // elements for each position
};

class KeysByName : public ::testing::TestWithParam<Names> {};

TEST_P(KeysByName, TellTheirSize) {
  const ModelTree tree = tree_of(model_of({GetParam().block, GetParam().block}), kNumbers);
  EXPECT_THAT(kv_of(tree), ElementsAre(GetParam().kv, GetParam().kv));
  EXPECT_THAT(tree.guesses, IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(
    All, KeysByName,
    ::testing::Values(
        Names{"separate", kAttention, 32},
        Names{"bert",
              {{"attention.self.query.weight", {32, 32}},
               {"attention.self.key.weight", {32, 32}},
               {"attention.self.value.weight", {32, 32}}},
              64},
        Names{"llama",
              {{"attention.wq.weight", {32, 32}},
               {"attention.wk.weight", {8, 32}},
               {"attention.wv.weight", {8, 32}}},
              16},
        Names{"fused", {{"attn.Wqkv.weight", {48, 32}}, {"attn.out_proj.weight", {32, 32}}}, 16},
        Names{"multi_query",
              {{"self_attention.query_key_value.weight", {48, 32}},
               {"self_attention.dense.weight", {32, 32}}},
              16},
        Names{"conv1d", {{"attn.c_attn.weight", {32, 96}}, {"attn.c_proj.weight", {32, 32}}}, 64},
        Names{"direct", {{"att_proj.weight", {96, 32}}, {"attn_out.weight", {32, 32}}}, 64},
        Names{"both", {{"attn.q_proj.weight", {32, 32}}, {"attn.kv_proj.weight", {24, 32}}}, 24},
        Names{"keys_are_values",
              {{"self_attn.q_proj.weight", {32, 32}}, {"self_attn.k_proj.weight", {8, 32}}},
              16},
        Names{"latent",
              {{"self_attn.q_proj.weight", {32, 32}},
               {"self_attn.kv_a_proj_with_mqa.weight", {20, 32}},
               {"self_attn.kv_b_proj.weight", {64, 16}}},
              20},
        Names{"latent_with_indexer",
              {{"self_attn.kv_a_proj_with_mqa.weight", {20, 32}},
               {"self_attn.indexer.wk.weight", {4, 32}}},
              24},
        Names{"gptq",
              {{"self_attn.k_proj.qweight", {4, 16}},
               {"self_attn.k_proj.scales", {1, 16}},
               {"self_attn.v_proj.qweight", {4, 16}},
               {"self_attn.v_proj.scales", {1, 16}}},
              32}),
    [](const auto& row) { return std::string(row.param.what); });

TEST(NamesFacts, WithoutKeysThereIsNoCache) {
  const ModelTree tree = tree_of(model_of({kAttention, kFeedForward}), kNumbers);
  EXPECT_THAT(kv_of(tree), ElementsAre(32, 0));
  EXPECT_THAT(tree.guesses, IsEmpty());
}

TEST(NamesFacts, LayersWithQueriesAloneShareACache) {
  const ModelTree tree =
      tree_of(model_of({kAttention, {{"self_attn.q_proj.weight", {32, 32}}}}), kNumbers);
  EXPECT_THAT(kv_of(tree), ElementsAre(32, 32));
  EXPECT_TRUE(tree.facts.layers[1].shares_cache);
}

TEST(NamesFacts, UnknownNamesAreCountedByTheConfigAndSaid) {
  const Block strange = {{"mixer.in.weight", {96, 32}}, {"mixer.back.weight", {32, 32}}};
  const ModelTree tree = tree_of(model_of({strange, strange}), kNumbers);
  EXPECT_THAT(kv_of(tree), ElementsAre(32, 32));
  EXPECT_THAT(tree.guesses, ElementsAre(HasSubstr("counted by the config alone")));
  EXPECT_THAT(tree.notes, ElementsAre(::testing::StartsWith("guessed: no tensors of all 2")));
}

TEST(NamesFacts, AnAttentionLayerWithoutNamedKeysIsCountedAsItsNeighbour) {
  const std::string more = R"(,"layer_types":["full_attention","full_attention"])";
  const ModelTree tree = tree_of(model_of({kAttention, kFeedForward}), kNumbers + more);
  EXPECT_THAT(kv_of(tree), ElementsAre(32, 32));
  EXPECT_THAT(tree.guesses, ElementsAre(HasSubstr("without keys of their own")));
}

TEST(NamesFacts, StatesHaveAConstantSize) {
  const Block mamba2 = {{"mixer.A_log", {4}},
                        {"mixer.D", {4}},
                        {"mixer.dt_bias", {4}},
                        {"mixer.conv1d.weight", {80, 1, 4}},
                        {"mixer.in_proj.weight", {148, 32}},
                        {"mixer.out_proj.weight", {32, 64}}};
  const std::string state = R"(,"ssm_state_size":8,"n_groups":1)";
  ModelTree tree = tree_of(model_of({mamba2, kAttention}), kNumbers + state);
  EXPECT_THAT(kv_of(tree), ElementsAre(0, 32));
  EXPECT_EQ(tree.facts.layers[0].state_bytes, 80u * 4 * 2 + 64u * 8 * 4);
  EXPECT_THAT(tree.guesses, IsEmpty());
  tree = tree_of(model_of({mamba2, kAttention}), kNumbers);
  EXPECT_GE(tree.facts.layers[0].state_bytes, 80u * 4 * 2 + 64u * 8 * 4);
  EXPECT_THAT(tree.guesses, ElementsAre(HasSubstr("divided is not told")));
}

TEST(NamesFacts, ARecurrenceOfUnknownSizeIsSaid) {
  const Block unknown = {{"temporal.rg_lru.recurrent_param", {32}},
                         {"temporal.y.weight", {32, 32}}};
  const ModelTree tree = tree_of(model_of({unknown, kAttention}), kNumbers);
  EXPECT_THAT(kv_of(tree), ElementsAre(0, 32));
  EXPECT_THAT(tree.guesses, ElementsAre(HasSubstr("is not told and not counted")));
}

TEST(NamesFacts, TheDecoderIsTheListOfTheLanguageModel) {
  std::vector<FakeTensor> tensors = model_of({kAttention, kAttention}, "language_model.model.");
  for (int i = 0; i < 5; ++i) {
    const std::string block = "vision_tower.blocks." + std::to_string(i);
    tensors.push_back({block + ".attn.qkv.weight", kBF16, {96, 32}});
    tensors.push_back({block + ".attn.proj.weight", kBF16, {32, 32}});
  }
  tensors.push_back({"mlp1.0.weight", kBF16, {32, 32}});
  const std::string config =
      std::string(R"("vision_config":{"num_hidden_layers":5},"llm_config":{)") + kNumbers + "}";
  const ModelTree tree = tree_of(tensors, config);
  EXPECT_THAT(kv_of(tree), ElementsAre(32, 32));
  EXPECT_EQ(tree.modules[tree.facts.layers[0].module].name, "language_model.model.layers.0");
  for (const Module& module : tree.modules) {
    const bool tower = module.name.starts_with("vision_tower") || module.name.starts_with("mlp1");
    EXPECT_EQ(module.prompt_only, tower) << module.name;
  }
  EXPECT_EQ(tree.facts.max_positions, 0u);
  EXPECT_EQ(tree.facts.vocabulary, 64u);
  EXPECT_THAT(tree.guesses, IsEmpty());
}

TEST(NamesFacts, LayersOfMultiTokenPredictionAreNoLayers) {
  const std::string more = R"(,"num_nextn_predict_layers":1)";
  const ModelTree tree = tree_of(model_of({kAttention, kAttention, kAttention}), kNumbers + more);
  EXPECT_THAT(kv_of(tree), ElementsAre(32, 32));
  EXPECT_TRUE(tree.find_module("model.layers.2")->prompt_only);
}

TEST(NamesFacts, MoreBlocksThanLayersAreSaid) {
  const ModelTree tree = tree_of(model_of({kAttention, kAttention, kAttention}), kNumbers);
  EXPECT_THAT(kv_of(tree), ElementsAre(32, 32, 32));
  EXPECT_THAT(tree.guesses, ElementsAre(HasSubstr("the config has 2 layers")));
}

TEST(NamesFacts, EncodersKeepNothing) {
  const std::vector<FakeTensor> tensors = model_of({kAttention, kAttention});
  const std::string masked = R"(,"architectures":["NewForMaskedLM"])";
  EXPECT_THAT(kv_of(tree_of(tensors, kNumbers + masked)), ElementsAre(0, 0));
  std::vector<FakeTensor> bert = model_of({kAttention, kAttention}, "encoder.");
  bert.push_back({"embeddings.token_type_embeddings.weight", kBF16, {2, 32}});
  const ModelTree tree = tree_of(bert, kNumbers);
  EXPECT_THAT(kv_of(tree), ElementsAre(0, 0));
  EXPECT_THAT(tree.guesses, ElementsAre(HasSubstr("taken for an encoder")));
  // GPT-NeoX says the first of these, too.
  const std::string no_decoder = R"(,"is_decoder":false)";
  const ModelTree said = tree_of(bert, kNumbers + no_decoder);
  EXPECT_THAT(kv_of(said), ElementsAre(0, 0));
  EXPECT_THAT(said.guesses, IsEmpty());
  const ModelTree unsure = tree_of(tensors, kNumbers + no_decoder);
  EXPECT_THAT(kv_of(unsure), ElementsAre(32, 32));
  EXPECT_THAT(unsure.guesses, ElementsAre(HasSubstr("is_decoder is false")));
}

struct Experts {
  const char* what;
  Block experts;
  const char* config;
};

class ExpertsByName : public ::testing::TestWithParam<Experts> {};

TEST_P(ExpertsByName, AreReadInPart) {
  Block block = kAttention;
  block.insert(block.end(), GetParam().experts.begin(), GetParam().experts.end());
  const ModelTree tree =
      tree_of(model_of({kAttention, block}), kNumbers + std::string(",") + GetParam().config);
  EXPECT_EQ(tree.facts.layers[0].experts, 0u);
  EXPECT_EQ(tree.facts.layers[1].experts, 4u);
  EXPECT_EQ(tree.facts.layers[1].experts_per_token, 2u);
  std::uint64_t routed = 0;
  for (const ModelTensor& tensor : tree.tensors) {
    for (ModuleId id = tensor.module; id != kNone; id = tree.modules[id].parent) {
      if (!tree.modules[id].expert) continue;
      routed += tensor.elements();
      break;
    }
  }
  EXPECT_EQ(routed, 4u * 32 * 24);
  EXPECT_THAT(tree.guesses, IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(
    All, ExpertsByName,
    ::testing::Values(Experts{"fused",
                              {{"mlp.experts.gate_up_proj", {4, 32, 24}},
                               {"mlp.router.weight", {4, 32}}},
                              R"("num_experts":4,"num_experts_per_tok":2)"},
                      Experts{"fused_elsewhere",
                              {{"block_sparse_moe.input_linear.weight", {4, 24, 32}},
                               {"block_sparse_moe.router.layer.weight", {4, 32}}},
                              R"("num_local_experts":4,"moe_k":2)"},
                      Experts{"stacked",
                              {{"ffn.experts.mlp.w1", {96, 32}}},
                              R"("ffn_config":{"moe_num_experts":4,"moe_top_k":2})"},
                      Experts{"listed",
                              {{"mlp.experts.0.up.weight", {24, 32}},
                               {"mlp.experts.1.up.weight", {24, 32}},
                               {"mlp.experts.2.up.weight", {24, 32}},
                               {"mlp.experts.3.up.weight", {24, 32}}},
                              R"("moe_num_experts":4,"moe_topk":2)"}),
    [](const auto& row) { return std::string(row.param.what); });

TEST(NamesFacts, ExpertsOfWhichNoKeyCountsTheUsedOnesAreAllRead) {
  Block block = kAttention;
  block.emplace_back("mlp.experts.gate_up_proj", Shape{4, 32, 24});
  const ModelTree tree = tree_of(model_of({block, block}), kNumbers);
  EXPECT_EQ(tree.facts.layers[0].experts_per_token, 4u);
  EXPECT_THAT(tree.guesses, ElementsAre(HasSubstr("no key says how many of the 4 experts")));
}

TEST(NamesFacts, AConfigThatContradictsItselfIsRefused) {
  const std::string more = R"(,"layer_types":["full_attention"])";
  EXPECT_THROW(tree_of(model_of({kAttention, kAttention}), kNumbers + more), Error);
}

TEST(NamesFacts, WithoutAConfigTheShapesAreSaidToBeAll) {
  const ModelTree tree = tree_of(model_of({kAttention, kAttention}), "");
  EXPECT_THAT(kv_of(tree), ElementsAre(32, 32));
  EXPECT_THAT(tree.guesses, ElementsAre(HasSubstr("by the shapes of keys and values alone")));
}

// What reads no tokens, such as a diffusion model, keeps nothing.
TEST(NamesFacts, BlocksThatReadNoTokensKeepNothing) {
  std::vector<FakeTensor> tensors;
  for (const char* name :
       {"transformer_blocks.0.attn.to_k.weight", "transformer_blocks.0.attn.to_v.weight",
        "transformer_blocks.1.attn.to_k.weight", "x_embedder.weight"}) {
    tensors.push_back({name, kBF16, {32, 32}});
  }
  const ModelTree tree = tree_of(tensors, "");
  EXPECT_THAT(kv_of(tree), ElementsAre(0, 0));
  EXPECT_THAT(tree.guesses, IsEmpty());
}

}  // namespace
}  // namespace berth
