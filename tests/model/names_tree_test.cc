// The fallback: trees that follow from tensor names.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "berth/error.h"
#include "berth/model.h"
#include "berth/planner.h"
#include "tests/checkpoint/fixtures.h"

namespace berth {
namespace {

using test::FakeTensor;
using test::TempFolder;
using testing::ElementsAre;

ModelTree tree_of(const std::vector<FakeTensor>& tensors, const std::string& config = "{}") {
  TempFolder folder;
  folder.write("config.json", config);
  test::write_safetensors(folder / "model.safetensors", tensors);
  return open_model(folder.path(), std::nullopt).tree;
}

std::vector<std::string> unit_names(const ModelTree& tree) {
  std::vector<std::string> names;
  for (const ModuleId id : execution_units(tree)) names.emplace_back(tree.modules[id].name);
  return names;
}

std::vector<FakeTensor> decoder(int layers) {
  std::vector<FakeTensor> tensors = {{"lm_head.weight", DType::kF32, {8, 4}},
                                     {"model.norm.weight", DType::kF32, {4}}};
  for (int i = layers - 1; i >= 0; --i) {
    const std::string layer = "model.layers." + std::to_string(i);
    tensors.push_back({layer + ".mlp.up.weight", DType::kF32, {8, 4}});
    tensors.push_back({layer + ".attn.q.weight", DType::kF32, {4, 4}});
  }
  tensors.push_back({"model.embed_tokens.weight", DType::kF32, {8, 4}});
  return tensors;
}

TEST(NamesTree, RunsEmbeddingsLayersNormHeadWhateverTheFileOrder) {
  EXPECT_THAT(unit_names(tree_of(decoder(3))),
              ElementsAre("model.embed_tokens", "model.layers.0", "model.layers.1",
                          "model.layers.2", "model.norm", "lm_head"));
}

// A row of 64 values in 8 words of 32 bits: 4 bits, in groups of 32.
std::vector<FakeTensor> mlx_model() {
  std::vector<FakeTensor> tensors = {{"lm_head.weight", DType::kF16, {64, 64}},
                                     {"model.embed_tokens.weight", DType::kF16, {64, 64}},
                                     {"model.norm.weight", DType::kF16, {64}}};
  const std::string at = "model.layers.0.mlp.up_proj.";
  tensors.push_back({at + "weight", DType::kU32, {16, 8}});
  tensors.push_back({at + "scales", DType::kF16, {16, 2}});
  tensors.push_back({at + "biases", DType::kF16, {16, 2}});
  return tensors;
}

TEST(NamesTree, IsThatOfAModelThatMlxQuantised) {
  const std::string config =
      R"({"model_type": "new", "hidden_size": 64, "intermediate_size": 16, "num_hidden_layers": 1,
          "num_attention_heads": 4, "vocab_size": 64,
          "quantization": {"group_size": 32, "bits": 4}})";
  const ModelTree tree = tree_of(mlx_model(), config);
  EXPECT_EQ(tree.quantization, "MLX 4-bit");
  EXPECT_EQ(tree.parameters(), 2u * 64 * 64 + 64 + 16 * 64);
}

TEST(NamesTree, CountsLayersByNumber) {
  const ModelTree tree = tree_of(decoder(12));
  ASSERT_EQ(tree.facts.layers.size(), 12u);
  EXPECT_EQ(tree.modules[tree.facts.layers[2].module].name, "model.layers.2");
  EXPECT_EQ(tree.modules[tree.facts.layers[10].module].name, "model.layers.10");
  EXPECT_TRUE(tree.modules[tree.facts.layers[10].module].no_split);
}

TEST(NamesTree, CoversEveryTensorOnce) {
  const std::vector<FakeTensor> tensors = decoder(3);
  const ModelTree tree = tree_of(tensors);
  EXPECT_EQ(tree.tensors.size(), tensors.size());
  std::vector<std::uint32_t> sources;
  for (const ModelTensor& tensor : tree.tensors) sources.push_back(tensor.source);
  std::ranges::sort(sources);
  for (std::uint32_t i = 0; i < sources.size(); ++i) EXPECT_EQ(sources[i], i);
}

TEST(NamesTree, TakesFactsFromCommonKeys) {
  const ModelTree tree = tree_of(decoder(2), R"({"model_type":"new","hidden_size":4,"vocab_size":8,
      "num_attention_heads":2,"num_key_value_heads":1,"max_position_embeddings":77})");
  EXPECT_EQ(tree.model_type, "new");
  EXPECT_EQ(tree.facts.hidden, 4u);
  EXPECT_EQ(tree.facts.max_positions, 77u);
  EXPECT_EQ(tree.facts.layers[0].kv_elements, 4u);  // 2 x 1 head x 2
  EXPECT_EQ(tree.modules[tree.facts.embedding].name, "model.embed_tokens");
  EXPECT_EQ(tree.modules[tree.facts.head].name, "lm_head");
}

TEST(NamesTree, RefusesAbsurdKeys) {
  for (const char* wrong : {R"("hidden_size":-4)", R"("num_attention_heads":0)",
                            R"("num_key_value_heads":1e300)", R"("vocab_size":"many")"}) {
    SCOPED_TRACE(wrong);
    EXPECT_THROW(tree_of(decoder(2), std::string(R"({"model_type":"new",)") + wrong + "}"), Error);
  }
}

TEST(NamesTree, MarksExpertsOnlyWhereTheyAre) {
  std::vector<FakeTensor> tensors = decoder(2);
  for (int expert = 0; expert < 3; ++expert) {
    tensors.push_back({"model.layers.1.mlp.experts." + std::to_string(expert) + ".w.weight",
                       DType::kF32,
                       {4, 4}});
  }
  const ModelTree tree =
      tree_of(tensors, R"({"model_type":"new","num_experts":3,"num_experts_per_tok":2})");
  EXPECT_EQ(tree.facts.layers[0].experts, 0u);
  EXPECT_EQ(tree.facts.layers[1].experts, 3u);
  EXPECT_EQ(tree.facts.layers[1].experts_per_token, 2u);
  EXPECT_TRUE(tree.find_module("model.layers.1.mlp.experts")->expert);
  EXPECT_TRUE(tree.find_module("model.layers.1.mlp.experts.2")->expert);
  EXPECT_FALSE(tree.find_module("model.layers.1.mlp.up")->expert);
}

TEST(NamesTree, TakesNamesThatAreNoTransformer) {
  const ModelTree tree = tree_of({{"weight", DType::kF32, {2}},
                                  {"a..b", DType::kF32, {2}},
                                  {".x", DType::kF32, {2}},
                                  {"7.bias", DType::kF32, {2}},
                                  {"a", DType::kF32, {2}}});
  EXPECT_EQ(tree.tensors.size(), 5u);
  EXPECT_EQ(tree.bytes(), 40u);
}

}  // namespace
}  // namespace berth
