// Tied tensors of which a checkpoint stores several: copies are one tensor, others stay apart, as
// in transformers.
#include "planner/model/open/ties.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "berth/planner.h"
#include "tests/checkpoint/fixtures.h"

namespace berth {
namespace {

using test::FakeTensor;
using test::TempFolder;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::uint64_t kHidden = 64;
constexpr std::uint64_t kVocabulary = 24'000;  // its embedding takes 3 MB: several reads
constexpr std::uint64_t kBytes = 2 * kHidden * kVocabulary;

// A llama of one layer that ties its head to its embedding, and stores both.
class StoredHead : public ::testing::Test {
 protected:
  void write(DType head = DType::kF16, bool own_shard = false) {
    folder_.write("config.json", R"({"model_type":"llama","hidden_size":64,"intermediate_size":32,
        "num_hidden_layers":1,"num_attention_heads":2,"vocab_size":24000,
        "max_position_embeddings":16,"tie_word_embeddings":true})");
    std::vector<FakeTensor> tensors{
        {"model.embed_tokens.weight", DType::kF16, {kVocabulary, kHidden}},
        {"model.norm.weight", DType::kF16, {kHidden}}};
    const std::string at = "model.layers.0.";
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) {
      tensors.push_back({at + norm + ".weight", DType::kF16, {kHidden}});
    }
    for (const char* name : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
      tensors.push_back({at + "self_attn." + name + ".weight", DType::kF16, {kHidden, kHidden}});
    }
    for (const char* name : {"gate_proj", "up_proj"}) {
      tensors.push_back({at + "mlp." + name + ".weight", DType::kF16, {32, kHidden}});
    }
    tensors.push_back({at + "mlp.down_proj.weight", DType::kF16, {kHidden, 32}});
    const FakeTensor stored{"lm_head.weight", head, {kVocabulary, kHidden}};
    if (own_shard) {
      test::write_safetensors(folder_ / "head.safetensors", {stored});
      std::vector<std::pair<std::string, std::string>> entries{{stored.name, "head.safetensors"}};
      for (const FakeTensor& tensor : tensors) entries.push_back({tensor.name, "rest.safetensors"});
      folder_.write("model.safetensors.index.json", test::index_json(entries));
    } else {
      tensors.push_back(stored);
    }
    test::write_safetensors(folder_ / (own_shard ? "rest.safetensors" : "model.safetensors"),
                            tensors);
  }

  Model open() const { return open_model(folder_.path(), std::nullopt); }

  // Writes into the head of the checkpoint, whose tensors are all zeros.
  void change_head(std::uint64_t at) const {
    const Model model = open();
    const TensorInfo& head =
        *std::ranges::find(model.checkpoint->tensors, "lm_head.weight", &TensorInfo::name);
    std::fstream file(model.checkpoint->shards[head.shard].path,
                      std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(head.begin + at)).put('\1');
  }

  void expect_apart(const Model& model) const {
    EXPECT_THAT(model.tree.ties, IsEmpty());
    EXPECT_EQ(model.tree.ignored_bytes, 0u);
    EXPECT_EQ(model.tree.bytes(), model.checkpoint->bytes());
    const TensorId id = tensor(model, "lm_head.weight");
    EXPECT_EQ(model.tree.tensors[id].tied_to, kNone);
    EXPECT_EQ(model.checkpoint->tensors[model.tree.tensors[id].source].name, "lm_head.weight");
    EXPECT_THAT(model.tree.notes,
                ElementsAre(HasSubstr("config.json ties 'lm_head.weight' to "
                                      "'model.embed_tokens.weight', but the checkpoint stores both "
                                      "and they differ: both are kept, as in transformers")));
  }

  static TensorId tensor(const Model& model, std::string_view name) {
    const auto found = std::ranges::find(model.tree.tensors, name, &ModelTensor::name);
    return static_cast<TensorId>(found - model.tree.tensors.begin());
  }

  TempFolder folder_;
};

TEST_F(StoredHead, ThatIsACopyIsTied) {
  for (const bool own_shard : {false, true}) {
    write(DType::kF16, own_shard);
    const Model model = open();
    ASSERT_EQ(model.tree.ties.size(), 1u);
    EXPECT_EQ(model.tree.ignored_bytes, kBytes);
    EXPECT_EQ(model.tree.bytes() + kBytes, model.checkpoint->bytes());
    EXPECT_THAT(model.tree.notes, IsEmpty());
    std::filesystem::remove(folder_ / "model.safetensors");
  }
}

TEST_F(StoredHead, ThatDiffersAnywhereIsKept) {
  for (const std::uint64_t at : {std::uint64_t{0}, kBytes / 2, kBytes - 1}) {
    write();
    change_head(at);
    expect_apart(open());
  }
  write(DType::kF16, true);
  std::filesystem::remove(folder_ / "model.safetensors");
  change_head(kBytes - 1);
  expect_apart(open());
}

TEST_F(StoredHead, OfAnotherDtypeIsKept) {
  write(DType::kF32);
  expect_apart(open());
}

// Files of PyTorch store both, as one storage: nothing has to be read to know that.
TEST(Ties, OfOneStorageAreNotCompared) {
  Checkpoint checkpoint;
  checkpoint.shards.push_back({"/no/such/file", 100, 0, 0, 0});
  checkpoint.tensors = {{"a", DType::kF32, {5}, 0, 0, 0, 20}, {"b", DType::kF32, {5}, 0, 0, 0, 20}};
  ModelTree tree;
  tree.modules.emplace_back();
  for (std::uint32_t i = 0; i < 2; ++i) {
    ModelTensor& tensor = tree.tensors.emplace_back();
    tensor.module = 0;
    tensor.shape = {5};
    tensor.source = i;
  }
  tree.tensors[1].tied_to = 0;
  tree.ties = {{0, 1}};
  settle_ties(tree, checkpoint, std::nullopt, "config.json");
  EXPECT_EQ(tree.ties.size(), 1u);
  EXPECT_EQ(tree.ignored_bytes, 0u);
  EXPECT_EQ(tree.tensors[0].source, 0u);
  EXPECT_EQ(tree.tensors[1].source, kNone);
}

}  // namespace
}  // namespace berth
