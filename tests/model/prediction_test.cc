// Layers of multi-token prediction: left out with a note, or loaded beside the decoder.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "berth/error.h"
#include "berth/planner.h"
#include "planner/model/open/build_model_tree.h"
#include "planner/plan/kv_cache.h"
#include "tests/checkpoint/fixtures.h"

namespace berth {
namespace {

using test::FakeTensor;
using test::TempFolder;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

const std::string kDeepSeek =
    R"({"model_type":"deepseek_v3","hidden_size":16,"intermediate_size":24,"num_hidden_layers":3,
        "num_attention_heads":2,"num_key_value_heads":2,"vocab_size":32,"q_lora_rank":8,
        "kv_lora_rank":6,"qk_nope_head_dim":4,"qk_rope_head_dim":2,"v_head_dim":4,
        "n_routed_experts":4,"num_experts_per_tok":2,"moe_intermediate_size":8,
        "first_k_dense_replace":1,"max_position_embeddings":64,"dtype":"bfloat16")";
const std::string kLlama =
    R"({"model_type":"llama","hidden_size":8,"intermediate_size":12,"num_hidden_layers":2,
        "num_attention_heads":2,"vocab_size":32,"max_position_embeddings":16,"dtype":"bfloat16")";

std::vector<FakeTensor> model_tensors(const std::string& config) {
  const ModelConfig parsed = ModelConfig::parse(config, "config.json");
  const ModelTree tree = build_model_tree("m", &parsed, nullptr, std::nullopt);
  std::vector<FakeTensor> tensors;
  for (const ModelTensor& tensor : tree.tensors) {
    if (!tensor.persistent || tensor.tied_to != kNone) continue;
    tensors.push_back({std::string(tensor.name), DType::kBF16, tensor.shape});
  }
  return tensors;
}

// The tensors of layer `from` once more, as those of layer `to`.
std::vector<FakeTensor> copied_layer(const std::vector<FakeTensor>& tensors,
                                     const std::string& from, const std::string& to) {
  std::vector<FakeTensor> out;
  for (const FakeTensor& tensor : tensors) {
    if (!tensor.name.starts_with(from)) continue;
    out.push_back({to + tensor.name.substr(from.size()), tensor.dtype, tensor.shape});
  }
  return out;
}

void append(std::vector<FakeTensor>& to, const std::vector<FakeTensor>& more) {
  to.insert(to.end(), more.begin(), more.end());
}

Model opened(const TempFolder& folder, const std::string& config,
             const std::vector<FakeTensor>& tensors, Prediction prediction = Prediction::kLeftOut) {
  folder.write("config.json", config);
  test::write_safetensors(folder / "model.safetensors", tensors);
  return open_model(folder.path(), std::nullopt, Dequantize::kNo, prediction);
}

std::uint64_t kv_bytes(const ModelTree& tree) {
  Workload workload;
  workload.context = 10;
  workload.kv_dtype = DType::kBF16;
  std::uint64_t bytes = 0;
  for (const LayerFacts& layer : tree.facts.layers) bytes += kv_cache_bytes(layer, workload);
  return bytes;
}

// DeepSeek-V3 stores a layer more than the decoder has, with what joins it to the decoder.
std::vector<FakeTensor> deepseek_tensors() {
  std::vector<FakeTensor> tensors = model_tensors(kDeepSeek + "}");
  append(tensors, copied_layer(tensors, "model.layers.2.", "model.layers.3."));
  append(tensors, {{"model.layers.3.eh_proj.weight", DType::kBF16, {16, 32}},
                   {"model.layers.3.enorm.weight", DType::kBF16, {16}},
                   {"model.layers.3.hnorm.weight", DType::kBF16, {16}},
                   {"model.layers.3.shared_head.norm.weight", DType::kBF16, {16}}});
  return tensors;
}

TEST(Prediction, IsLeftOutWithANote) {
  TempFolder folder;
  const Model model = opened(folder, kDeepSeek + "}", deepseek_tensors());
  const ModelConfig config = ModelConfig::parse(kDeepSeek + "}", "config.json");
  const ModelTree alone = build_model_tree("m", &config, nullptr, std::nullopt);
  EXPECT_EQ(model.tree.parameters(), alone.parameters());
  EXPECT_EQ(model.tree.decoder_layers(), 3u);
  EXPECT_EQ(kv_bytes(model.tree), kv_bytes(alone));
  EXPECT_GT(model.tree.ignored_bytes, 0u);
  EXPECT_EQ(model.tree.bytes() + model.tree.ignored_bytes, model.checkpoint->bytes());
  ASSERT_EQ(model.tree.notes.size(), 1u);
  EXPECT_EQ(
      model.tree.notes[0],
      "0.01 MB of multi-token-prediction weights are stored and not loaded (--mtp loads them)");
}

TEST(Prediction, IsLoadedWhereAskedFor) {
  TempFolder folder;
  const Model without = opened(folder, kDeepSeek + "}", deepseek_tensors());
  const Model with = opened(folder, kDeepSeek + "}", deepseek_tensors(), Prediction::kLoaded);
  EXPECT_EQ(with.tree.ignored_bytes, 0u);
  EXPECT_EQ(with.tree.bytes(), with.checkpoint->bytes());
  EXPECT_EQ(with.tree.decoder_layers(), 3u);
  // Its layer keeps a latent, as the others do.
  EXPECT_EQ(kv_bytes(with.tree) * 3, kv_bytes(without.tree) * 4);
  const LayerFacts& layer = with.tree.facts.layers.at(3);
  EXPECT_TRUE(layer.prediction);
  EXPECT_EQ(with.tree.modules[layer.module].name, "model.layers.3");
  EXPECT_EQ(layer.experts, 4u);
  EXPECT_EQ(layer.experts_per_token, 2u);
  for (const ModelTensor& tensor : with.tree.tensors) {
    if (tensor.persistent) {
      EXPECT_EQ(with.checkpoint->tensors.at(tensor.source).name, tensor.name);
    }
  }
}

TEST(Prediction, LayersThatTheConfigCountsNeedNoJoint) {
  TempFolder folder;
  const std::string config = kLlama + R"(,"num_nextn_predict_layers":2})";
  std::vector<FakeTensor> tensors = model_tensors(kLlama + "}");
  const std::size_t plain = tensors.size();
  append(tensors, copied_layer(tensors, "model.layers.1.", "model.layers.2."));
  append(tensors, copied_layer(tensors, "model.layers.1.", "model.layers.3."));
  EXPECT_EQ(opened(folder, config, tensors).tree.predicted.size(), tensors.size() - plain);
  // Without the count they are surplus, and the note names one of them.
  const Model model = opened(folder, kLlama + "}", tensors);
  EXPECT_TRUE(model.tree.predicted.empty());
  EXPECT_THAT(model.tree.notes, Contains(HasSubstr("'model.layers.2.")));
}

TEST(Prediction, ATowerWithMoreLayersIsNone) {
  TempFolder folder;
  std::vector<FakeTensor> tensors = model_tensors(kLlama + "}");
  tensors.push_back({"vision.layers.2.fc.weight", DType::kBF16, {8, 8}});
  const Model model = opened(folder, kLlama + R"(,"num_nextn_predict_layers":1})", tensors);
  EXPECT_TRUE(model.tree.predicted.empty());
  EXPECT_THAT(model.tree.notes, Contains(HasSubstr("'vision.layers.2.fc.weight'")));
}

TEST(Prediction, IsKnownByItsNameInEveryFamily) {
  TempFolder folder;
  std::vector<FakeTensor> tensors = model_tensors(kLlama + "}");
  append(tensors, {{"mtp.fc.weight", DType::kBF16, {8, 16}},
                   {"mtp.layers.0.self_attn.k_proj.weight", DType::kBF16, {8, 8}},
                   {"model.mtp_block.0.mlp.up_proj.weight", DType::kBF16, {12, 8}}});
  EXPECT_EQ(opened(folder, kLlama + "}", tensors).tree.predicted.size(), 3u);
  const Model with = opened(folder, kLlama + "}", tensors, Prediction::kLoaded);
  EXPECT_EQ(with.tree.bytes(), with.checkpoint->bytes());
  ASSERT_EQ(with.tree.facts.layers.size(), 4u);
  std::vector<std::uint64_t> kept;
  for (const LayerFacts& layer : with.tree.facts.layers) kept.push_back(layer.kv_elements);
  EXPECT_THAT(kept, testing::UnorderedElementsAre(16u, 16u, 16u, 0u));
}

TEST(Prediction, IsNoLayerOfAFamilyWithoutTemplate) {
  TempFolder folder;
  std::string config = kDeepSeek + "}";
  config.replace(config.find("deepseek_v3"), 11, "unheard_of");
  const std::vector<FakeTensor> tensors = deepseek_tensors();
  const Model model = opened(folder, config, tensors);
  EXPECT_EQ(model.tree.facts.layers.size(), 3u);
  EXPECT_EQ(model.tree.bytes() + model.tree.ignored_bytes, model.checkpoint->bytes());
  EXPECT_THAT(model.tree.notes, Contains(HasSubstr("multi-token-prediction")));
  for (const ModelTensor& tensor : model.tree.tensors) {
    EXPECT_EQ(model.checkpoint->tensors.at(tensor.source).name, tensor.name);
  }
}

TEST(Prediction, NeedsACheckpoint) {
  TempFolder folder;
  folder.write("config.json", kDeepSeek + "}");
  EXPECT_THROW(
      open_model(folder / "config.json", std::nullopt, Dequantize::kNo, Prediction::kLoaded),
      Error);
  const Model plain =
      opened(folder, kLlama + "}", model_tensors(kLlama + "}"), Prediction::kLoaded);
  EXPECT_THAT(plain.tree.notes, Contains(HasSubstr("no weights for multi-token prediction")));
  EXPECT_THAT(plain.tree.notes, Not(Contains(HasSubstr("MB"))));
}

}  // namespace
}  // namespace berth
