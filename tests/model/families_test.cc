// Compares every template with the module tree that transformers builds from the same config.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "berth/model.h"
#include "berth/planner.h"
#include "planner/plan/kv_cache.h"
#include "tests/checkpoint/fixtures.h"
#include "tests/data_names.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

fs::path data_folder() { return fs::path(BERTH_SOURCE_DIR) / "tests/model/data"; }

std::string shape_text(const ModelTensor& tensor) {
  std::string out = "[";
  for (const std::uint64_t size : tensor.shape) {
    out += (out.size() > 1 ? ", " : "") + std::to_string(size);
  }
  return out + "]";
}

// The tree in the form of tree.txt. As there, the inside of a list of experts is left out.
std::string outline(const ModelTree& tree) {
  std::ostringstream out;
  for (const Module& module : tree.modules) {
    if (module.name.find(".experts.") != std::string::npos) continue;
    out << module.name << '\t' << module.cls << '\n';
    for (const TensorId id : module.tensors) {
      const ModelTensor& tensor = tree.tensors[id];
      out << "  " << tensor.name.substr(module.name.empty() ? 0 : module.name.size() + 1) << '\t'
          << shape_text(tensor) << '\t'
          << (!tensor.buffer      ? "parameter"
              : tensor.persistent ? "buffer"
                                  : "computed")
          << '\n';
    }
  }
  out << tree.parameters() << " parameters\n";
  return out.str();
}

// Whether the model gives logits of tokens: LlamaForCausalLM and GPT2LMHeadModel do.
bool has_token_head(const ModelTree& tree) {
  const Name cls = tree.modules.front().cls;
  return cls.ends_with("CausalLM") || cls.ends_with("LMHeadModel") ||
         cls.ends_with("ForConditionalGeneration") || cls.ends_with("ForMaskedLM") ||
         cls.ends_with("MTModel");
}

class Family : public ::testing::TestWithParam<std::string> {
 protected:
  fs::path folder() const { return data_folder() / GetParam(); }
};

TEST_P(Family, RegistersModulesAsTransformersDoes) {
  const Model model = open_model(folder() / "config.json", std::nullopt);
  std::ifstream in(folder() / "tree.txt");
  std::stringstream expected;
  expected << in.rdbuf();
  EXPECT_EQ(outline(model.tree), expected.str());
}

TEST_P(Family, KeepsItsBlocksWholeAndKnowsTheirFacts) {
  const ModelTree tree = open_model(folder() / "config.json", std::nullopt).tree;
  ASSERT_FALSE(tree.facts.layers.empty());
  const ModuleId list = tree.modules[tree.facts.layers[0].module].parent;
  const auto layers =
      static_cast<std::size_t>(std::ranges::count_if(tree.modules, [&](const Module& module) {
        return module.no_split && module.parent == list;
      }));
  ASSERT_GT(layers, 1u);
  ASSERT_EQ(tree.facts.layers.size(), layers);
  for (const LayerFacts& layer : tree.facts.layers) {
    EXPECT_TRUE(tree.modules[layer.module].no_split);
    const bool routed = std::ranges::any_of(tree.modules, [&](const Module& module) {
      return module.expert &&
             module.name.starts_with(std::string(tree.modules[layer.module].name) + ".");
    });
    EXPECT_EQ(layer.experts > 0, routed) << tree.modules[layer.module].name;
    EXPECT_EQ(layer.experts_per_token > 0, routed);
  }
  EXPECT_GT(tree.facts.hidden, 0u);
  EXPECT_GT(tree.facts.intermediate, 0u);
  EXPECT_GT(tree.facts.vocabulary, 0u);
  EXPECT_GT(tree.facts.heads, 0u);
  ASSERT_NE(tree.facts.embedding, kNone);
  EXPECT_EQ(tree.facts.head != kNone, has_token_head(tree));
}

// cache.txt is what a running model kept; a family that transformers could not run there has none.
TEST_P(Family, KnowsWhatEachLayerKeeps) {
  const ModelTree tree = open_model(folder() / "config.json", std::nullopt).tree;
  Workload workload;
  workload.context = 18;
  workload.batch = 2;
  workload.kv_dtype = DType::kBF16;
  std::ifstream in(folder() / "cache.txt");
  std::uint64_t all = 0;
  for (std::size_t i = 0; i < tree.facts.layers.size(); ++i) {
    const LayerFacts& layer = tree.facts.layers[i];
    all += kv_cache_bytes(layer, workload);
    std::uint64_t kept = 0;
    if (in >> kept) {
      EXPECT_EQ(kv_cache_bytes(layer, workload), kept) << "layer " << i;
    }
  }
  static const std::set<std::string_view> kEncoders = {"big_bird", "deberta-v2", "electra",
                                                       "ernie",    "longformer", "mpnet"};
  const bool encoder = tree.model_type.find("bert") != tree.model_type.npos ||
                       kEncoders.contains(tree.model_type) ||
                       tree.modules.front().cls.ends_with("EncoderModel");
  EXPECT_EQ(all > 0, !encoder);
}

TEST_P(Family, RunsEmbeddingsThenBlocksThenHead) {
  const ModelTree tree = open_model(folder() / "config.json", std::nullopt).tree;
  const std::vector<ModuleId> units = execution_units(tree);
  const auto place = [&](ModuleId id) { return std::ranges::find(units, id) - units.begin(); };
  const auto first = place(tree.facts.layers.front().module);
  const auto last = place(tree.facts.layers.back().module);
  EXPECT_LT(place(tree.facts.embedding), first);
  EXPECT_EQ(last - first + 1, static_cast<std::ptrdiff_t>(tree.facts.layers.size()));
  if (has_token_head(tree)) {
    EXPECT_EQ(place(tree.facts.head), static_cast<std::ptrdiff_t>(units.size()) - 1);
  }
  // Every tensor is in exactly one unit.
  std::vector<int> covered(tree.tensors.size(), 0);
  for (const ModuleId unit : units) {
    const Module& module = tree.modules[unit];
    const bool whole = module.no_split || module.children.empty();
    for (TensorId id = 0; id < tree.tensors.size(); ++id) {
      const Name owner = tree.modules[tree.tensors[id].module].name;
      if (owner == module.name || (whole && owner.starts_with(std::string(module.name) + ".")))
        ++covered[id];
    }
  }
  EXPECT_THAT(covered, ::testing::Each(1));
}

TEST_P(Family, MatchesACheckpointOfItsOwnTensors) {
  const ModelTree alone = open_model(folder() / "config.json", std::nullopt).tree;
  test::TempFolder made;
  std::vector<test::FakeTensor> tensors;
  for (const ModelTensor& tensor : alone.tensors) {
    if (!tensor.persistent || tensor.tied_to != kNone) continue;
    tensors.push_back({std::string(tensor.name), DType::kBF16, tensor.shape});
  }
  test::write_safetensors(made / "model.safetensors", tensors);
  fs::copy(folder() / "config.json", made / "config.json");
  const Model model = open_model(made.path(), std::nullopt);
  EXPECT_EQ(model.tree.bytes(), model.checkpoint->bytes());
  EXPECT_EQ(model.tree.parameters(), alone.parameters());
  for (const ModelTensor& tensor : model.tree.tensors) {
    if (!tensor.persistent || tensor.tied_to != kNone) continue;
    EXPECT_EQ(model.checkpoint->tensors.at(tensor.source).name, tensor.name);
    EXPECT_EQ(tensor.dtype, DType::kBF16);
  }
}

// stored.txt has the names of a saved checkpoint where those of the tree are others.
TEST_P(Family, FindsWhatACheckpointCallsOtherwise) {
  std::ifstream in(folder() / "stored.txt");
  std::vector<test::FakeTensor> tensors;
  for (std::string name, shape; std::getline(in, name, '\t') && std::getline(in, shape);) {
    Shape sizes;
    std::istringstream numbers(shape.substr(1));
    for (std::uint64_t size = 0; numbers >> size; numbers.ignore()) sizes.push_back(size);
    tensors.push_back({name, DType::kBF16, sizes});
  }
  if (tensors.empty()) return;  // the names are the tree's
  test::TempFolder made;
  test::write_safetensors(made / "model.safetensors", tensors);
  fs::copy(folder() / "config.json", made / "config.json");
  const Model model = open_model(made.path(), std::nullopt);
  EXPECT_EQ(model.tree.bytes(), model.checkpoint->bytes());
  EXPECT_EQ(model.tree.parameters(),
            open_model(folder() / "config.json", std::nullopt).tree.parameters());
}

// The sizes are DeepSeek-V4-Flash's, its class's defaults. Three kinds of layers keep a window of
// 128 keys of 512 elements; CSA also an entry of 512 and one of 128 for every 4 positions, HCA one
// of 512 for every 128 (modeling_deepseek_v4.py of transformers 5.24).
TEST(DeepseekV4, KeepsEntriesOfSeveralPositionsBesideItsWindow) {
  test::TempFolder made;
  made.write("config.json",
             R"({"model_type":"deepseek_v4","num_hidden_layers":3,"compress_ratios":[0,4,128]})");
  const ModelTree tree = open_model(made / "config.json", std::nullopt).tree;
  ASSERT_EQ(tree.facts.layers.size(), 3u);
  Workload workload;
  workload.context = 1 << 20;
  workload.kv_dtype = DType::kBF16;
  const auto kept = [&](std::size_t layer) {
    return (kv_cache_bytes(tree.facts.layers[layer], workload) -
            tree.facts.layers[layer].state_bytes) /
           2;
  };
  EXPECT_EQ(kept(0), 128u * 512);
  EXPECT_EQ(kept(1), 128u * 512 + (1u << 20) / 4 * (512 + 128));
  EXPECT_EQ(kept(2), 128u * 512 + (1u << 20) / 128 * 512);
  // Keys and gates of positions that no entry has yet, in both series; and the last window's.
  EXPECT_EQ(tree.facts.layers[1].state_bytes, (4 * 4 + 2) * (512u + 128) * 4);
  EXPECT_EQ(tree.facts.layers[2].state_bytes, 2 * 128 * 512u * 4);
}

std::string test_name(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::ranges::replace(name, '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, Family,
                         ::testing::ValuesIn(testing::data_names("tests/model/data", "/tree.txt")),
                         test_name);

}  // namespace
}  // namespace berth
