#include "planner/plan/needs.h"

#include <gtest/gtest.h>

namespace berth {
namespace {

ModuleId add(ModelTree& tree, ModuleId parent, std::uint64_t elements, bool no_split = false) {
  Module module;
  module.parent = parent;
  module.no_split = no_split;
  tree.modules.push_back(module);
  const auto id = static_cast<ModuleId>(tree.modules.size() - 1);
  if (parent != kNone) tree.modules[parent].children.push_back(id);
  if (elements > 0) {
    ModelTensor tensor;
    tensor.shape = {elements};
    tensor.dtype = tensor.stored = DType::kBF16;
    tensor.module = id;
    tree.modules[id].tensors.push_back(static_cast<TensorId>(tree.tensors.size()));
    tree.tensors.push_back(tensor);
  }
  return id;
}

// An embedding of 1,000, two layers (no-split) of 300 + 401, a head of 1,000 tied to the embedding.
ModelTree small_tree() {
  ModelTree tree;
  const ModuleId root = add(tree, kNone, 0);
  add(tree, root, 1000);
  for (int i = 0; i < 2; ++i) {
    const ModuleId layer = add(tree, root, 0, true);
    add(tree, layer, 300);
    add(tree, layer, 401);
    LayerFacts facts;
    facts.module = layer;
    facts.kv_elements = 64;
    tree.facts.layers.push_back(facts);
  }
  add(tree, root, 1000);
  tree.tensors.back().tied_to = 0;
  tree.ties = {{0, static_cast<TensorId>(tree.tensors.size() - 1)}};
  return tree;
}

TEST(Needs, CountParametersTimesWidthAndTiesOnce) {
  const std::vector<Need> needs = model_needs(small_tree());
  ASSERT_EQ(needs.size(), 4u);
  const std::uint64_t parameters = 1000 + 2 * 701;
  EXPECT_EQ(needs[0].dtype, "float32");
  EXPECT_EQ(needs[0].total, 4 * parameters);
  EXPECT_EQ(needs[1].total, 2 * parameters);
  EXPECT_EQ(needs[2].total, parameters);
  EXPECT_EQ(needs[3].dtype, "4-bit");
  EXPECT_EQ(needs[3].total, parameters / 2);
}

TEST(Needs, FindTheLargestLayerAmongNoSplitModulesAndLeaves) {
  EXPECT_EQ(model_needs(small_tree())[2].largest_layer, 1000u) << "the embedding";
  ModelTree wide = small_tree();
  wide.tensors[1].shape = {700};  // the first layer is 1,101 in all now
  EXPECT_EQ(model_needs(wide)[2].largest_layer, 1101u);
  wide.modules[2].no_split = false;  // and may be split: its tensors count one by one
  EXPECT_EQ(model_needs(wide)[2].largest_layer, 1000u);
}

TEST(Needs, LookAtTensorsThatStandDirectlyInAModule) {
  ModelTree tree;
  const ModuleId root = add(tree, kNone, 50);
  add(tree, root, 20);
  EXPECT_EQ(model_needs(tree)[2].largest_layer, 50u);
  EXPECT_EQ(model_needs(tree)[2].total, 70u);
}

TEST(Needs, CountTheKvCacheInTheWidthOfItsRowAndNoMoreThanTheWindow) {
  ModelTree tree = small_tree();
  EXPECT_EQ(model_needs(tree)[0].kv_per_1000_tokens, 2 * 64 * 1000 * 4u);
  EXPECT_EQ(model_needs(tree)[1].kv_per_1000_tokens, 2 * 64 * 1000 * 2u);
  EXPECT_EQ(model_needs(tree)[3].kv_per_1000_tokens, 2 * 64 * 1000 * 2u);
  tree.facts.layers[0].window = 100;
  EXPECT_EQ(model_needs(tree)[1].kv_per_1000_tokens, 64 * (1000 + 100) * 2u);
}

// Worked out from the published config of Llama-3.3-70B: 80 layers, hidden 8,192, 64 heads and 8 KV
// heads of 128, feed-forward 28,672, vocabulary 128,256, head not tied.
TEST(Needs, AgreeWithArithmeticByHand) {
  constexpr std::uint64_t kLayer =
      2ull * 8192 * 8192 + 2ull * 8192 * 1024 + 3ull * 8192 * 28672 + 2ull * 8192;
  ModelTree tree;
  const ModuleId root = add(tree, kNone, 0);
  add(tree, root, 128256ull * 8192);
  for (int i = 0; i < 80; ++i) {
    LayerFacts facts;
    facts.module = add(tree, root, kLayer, true);
    facts.kv_elements = 2 * 8 * 128;
    tree.facts.layers.push_back(facts);
  }
  add(tree, root, 8192);
  add(tree, root, 128256ull * 8192);
  const Need need = model_needs(tree)[1];
  EXPECT_EQ(need.total, 141'107'412'992u);           // 131.42 GiB
  EXPECT_EQ(need.largest_layer, 2'101'346'304u);     // the embedding, larger than a layer
  EXPECT_EQ(need.kv_per_1000_tokens, 327'680'000u);  // 327,680 bytes a position
}

TEST(Needs, SayNothingOfAKvCacheThatIsUnknown) {
  ModelTree tree = small_tree();
  tree.facts.layers.clear();
  EXPECT_EQ(model_needs(tree)[0].kv_per_1000_tokens, 0u);
  EXPECT_EQ(model_needs(ModelTree{})[0].total, 0u);
}

}  // namespace
}  // namespace berth
