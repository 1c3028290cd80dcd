// What a model without a template has besides its stored tensors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "berth/model.h"
#include "berth/planner.h"
#include "tests/checkpoint/fixtures.h"

namespace berth {
namespace {

using test::FakeTensor;
using test::TempFolder;

// A decoder of 2 layers, 8 tokens and 4 features, without a head.
std::vector<FakeTensor> headless() {
  std::vector<FakeTensor> tensors = {{"model.embed_tokens.weight", DType::kBF16, {8, 4}},
                                     {"model.norm.weight", DType::kBF16, {4}}};
  for (const std::string layer : {"model.layers.0", "model.layers.1"}) {
    tensors.push_back({layer + ".self_attn.q_proj.weight", DType::kBF16, {4, 4}});
    tensors.push_back({layer + ".mlp.up_proj.weight", DType::kBF16, {16, 4}});
  }
  return tensors;
}

ModelTree tree_of(const std::vector<FakeTensor>& tensors, const std::string& more) {
  TempFolder folder;
  folder.write("config.json", R"({"model_type": "unheard_of", "hidden_size": 4, "vocab_size": 8,
      "num_hidden_layers": 2, "num_attention_heads": 2)" +
                                  more + "}");
  test::write_safetensors(folder / "model.safetensors", tensors);
  return open_model(folder.path(), std::nullopt).tree;
}

const std::string kCausal = R"(, "architectures": ["UnheardOfForCausalLM"])";

TEST(Unstored, TheTiedHeadIsPartOfTheModel) {
  const ModelTree tree = tree_of(headless(), kCausal + R"(, "tie_word_embeddings": true)");
  ASSERT_NE(tree.facts.head, kNone);
  EXPECT_EQ(tree.modules[tree.facts.head].name, "lm_head");
  const ModelTensor& head = tree.tensors.back();
  EXPECT_EQ(head.name, "lm_head.weight");
  ASSERT_NE(head.tied_to, kNone);
  EXPECT_EQ(tree.tensors[head.tied_to].name, "model.embed_tokens.weight");
  EXPECT_EQ(tree.parameters(), tree_of(headless(), "").parameters()) << "it counts once";
  EXPECT_EQ(tree.bytes(), tree_of(headless(), "").bytes());
  // A config that leaves the key out means the same if there is no other head.
  EXPECT_NE(tree_of(headless(), kCausal).facts.head, kNone);
}

TEST(Unstored, NoHeadIsMadeUp) {
  const auto head = [](const ModelTree& tree) { return tree.find_module("lm_head") != nullptr; };
  EXPECT_FALSE(head(tree_of(headless(), kCausal + R"(, "tie_word_embeddings": false)")));
  EXPECT_FALSE(head(tree_of(headless(), R"(, "architectures": ["UnheardOfModel"])")));
  EXPECT_FALSE(head(tree_of(headless(), "")));
  EXPECT_TRUE(head(tree_of(headless(), kCausal + R"(, "tie_word_embeddings": "perhaps")")));
  std::vector<FakeTensor> stored = headless();
  stored.push_back({"output.weight", DType::kBF16, {8, 4}});
  EXPECT_FALSE(head(tree_of(stored, kCausal)));
}

TEST(Unstored, RotaryFrequenciesHaveAModule) {
  const ModelTree tree = tree_of(headless(), kCausal + R"(, "rope_theta": 10000.0)");
  const Module* rotary = tree.find_module("model.rotary_emb");
  ASSERT_NE(rotary, nullptr);
  EXPECT_TRUE(rotary->tensors.empty());
  EXPECT_EQ(tree_of(headless(), kCausal).find_module("model.rotary_emb"), nullptr);
}

TEST(Unstored, MapsCoverAllOfIt) {
  const ModelTree tree = tree_of(headless(), kCausal + R"(, "rope_theta": 10000.0)");
  EXPECT_TRUE(tree.from_names);
  Machine machine = budget_machine({{"0", 1 << 20}, {"1", 1 << 20}, {"cpu", 1 << 20}});
  fill_defaults(machine);
  Request request;
  request.overrides = {{"model.layers.1", "1"}};
  const Plan plan = make_plan(tree, machine, request);
  for (const char* name : {"lm_head", "model.rotary_emb", "model.layers.1", "model.layers.0"}) {
    EXPECT_NE(lookup(plan.device_map, name), nullptr) << name;
  }
}

}  // namespace
}  // namespace berth
