// The fallback beside the templates: every golden family as a checkpoint whose model_type nobody
// knows. What each layer keeps must be the same by its names, shapes and config as by its template,
// or a note says what could not be told; and never may it be less without a note.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "berth/model.h"
#include "berth/planner.h"
#include "planner/base/json_writer.h"
#include "planner/model/template/complete.h"
#include "planner/model/tree/config.h"
#include "planner/plan/kv_cache.h"
#include "tests/checkpoint/fixtures.h"
#include "tests/data_names.h"

namespace berth {
namespace {

namespace fs = std::filesystem;

fs::path data_folder() { return fs::path(BERTH_SOURCE_DIR) / "tests/model/data"; }

void write_value(JsonWriter& json, const ModelConfig::Value& value) {
  std::visit([&](const auto& held) { json.value(held); }, value);
}

// A config.json of another model_type. Its dotted keys mean the same as nested ones. Where a class
// goes by its lists and ignores num_hidden_layers (Nemotron-H), another number is left out.
std::string renamed(const ModelConfig& config, std::size_t layers) {
  JsonWriter json;
  json.begin_object();
  for (const std::string& key : config.keys("")) {
    if (key == "model_type" || key.ends_with(".model_type")) continue;
    const bool counted =
        config.find_list("layers_block_type") || config.find("hybrid_override_pattern");
    if (counted && key == "num_hidden_layers" &&
        config.integer(key) != static_cast<std::int64_t>(layers))
      continue;
    json.key(key);
    if (const ModelConfig::Value* value = config.find(key)) {
      write_value(json, *value);
      continue;
    }
    json.begin_array();
    for (const ModelConfig::Value& value : *config.find_list(key)) write_value(json, value);
    json.end_array();
  }
  json.member("model_type", "nobody_knows_this");
  json.end_object();
  return json.take();
}

std::vector<test::FakeTensor> tensors_of(const ModelTree& tree, const fs::path& stored) {
  std::vector<test::FakeTensor> tensors;
  std::ifstream in(stored);
  for (std::string name, shape; std::getline(in, name, '\t') && std::getline(in, shape);) {
    Shape sizes;
    std::istringstream numbers(shape.substr(1));
    for (std::uint64_t size = 0; numbers >> size; numbers.ignore()) sizes.push_back(size);
    tensors.push_back({name, tree.tensors[0].stored, sizes});
  }
  if (!tensors.empty()) return tensors;
  for (const ModelTensor& tensor : tree.tensors) {
    if (!tensor.persistent || tensor.tied_to != kNone) continue;
    tensors.push_back({std::string(tensor.name), tensor.stored, tensor.shape});
  }
  return tensors;
}

class NamedFamily : public ::testing::TestWithParam<std::string> {
 protected:
  fs::path folder() const { return data_folder() / GetParam(); }

  ModelTree by_template() const { return open_model(folder() / "config.json", std::nullopt).tree; }

  // `whole`: with what the family's configuration class adds, as transformers saves a config.
  ModelTree by_names(bool whole) const {
    const ModelConfig config = ModelConfig::read(folder() / "config.json");
    const ModelTree known = by_template();
    test::TempFolder made;
    made.write("config.json",
               renamed(whole ? complete_config(config) : config, known.facts.layers.size()));
    test::write_safetensors(made / "model.safetensors", tensors_of(known, folder() / "stored.txt"));
    return open_model(made.path(), std::nullopt).tree;
  }
};

Workload workload_of(std::uint64_t context) {
  Workload workload;
  workload.context = context;
  workload.batch = 2;
  workload.kv_dtype = DType::kBF16;
  return workload;
}

// What each layer is, for messages.
std::string layers_of(const ModelTree& tree) {
  std::ostringstream out;
  for (const LayerFacts& layer : tree.facts.layers) {
    out << layer.kv_elements << " in " << layer.window << (layer.shares_cache ? " shared" : "")
        << " +" << layer.cross_elements << " +" << layer.state_bytes << "; ";
  }
  return out.str();
}

// Whether the layers of the two keep as many bytes; `least`: the first may keep more.
bool keep_alike(const ModelTree& a, const ModelTree& b, bool least) {
  for (const std::uint64_t context : {4u, 18u, 4096u, 100000u}) {
    const Workload workload = workload_of(context);
    for (std::size_t i = 0; i < b.facts.layers.size(); ++i) {
      const std::uint64_t ours = kv_cache_bytes(a.facts.layers[i], workload);
      const std::uint64_t theirs = kv_cache_bytes(b.facts.layers[i], workload);
      if (least ? ours < theirs : ours != theirs) return false;
    }
  }
  return true;
}

TEST_P(NamedFamily, KeepsWhatItsTemplateSaysOrSaysWhatItGuessed) {
  const ModelTree known = by_template();
  const ModelTree named = by_names(true);
  ASSERT_EQ(named.facts.layers.size(), known.facts.layers.size());
  EXPECT_TRUE(keep_alike(named, known, false) || !named.guesses.empty()) << layers_of(named) << "\n"
                                                                         << layers_of(known);
  EXPECT_TRUE(keep_alike(named, known, true)) << layers_of(named) << "\n" << layers_of(known);
  for (const std::string& guess : named.guesses) {
    EXPECT_THAT(named.notes, ::testing::Contains("guessed: " + guess));
  }
}

// A config that leaves out what the class of its family has by default tells less.
TEST_P(NamedFamily, KeepsNoLessWithoutSayingWhereItsConfigIsSparse) {
  const ModelTree known = by_template();
  const ModelTree named = by_names(false);
  ASSERT_EQ(named.facts.layers.size(), known.facts.layers.size());
  EXPECT_TRUE(keep_alike(named, known, true) || !named.guesses.empty()) << layers_of(named) << "\n"
                                                                        << layers_of(known);
}

TEST_P(NamedFamily, ReadsTheShareOfItsExpertsAndNoTower) {
  const ModelTree known = by_template();
  const ModelTree named = by_names(true);
  ASSERT_EQ(named.facts.layers.size(), known.facts.layers.size());
  for (std::size_t i = 0; i < known.facts.layers.size(); ++i) {
    EXPECT_EQ(named.facts.layers[i].experts, known.facts.layers[i].experts) << i;
    // A template says what the config says, also where there are not as many.
    EXPECT_EQ(named.facts.layers[i].experts_per_token,
              std::min(known.facts.layers[i].experts_per_token, known.facts.layers[i].experts));
  }
  const auto for_prompt = [](const ModelTree& tree) {
    std::uint64_t elements = 0;
    for (const ModelTensor& tensor : tree.tensors) {
      const bool counts = tree.modules[tensor.module].prompt_only && tensor.tied_to == kNone;
      if (counts && tensor.persistent) elements += tensor.elements();
    }
    return elements;
  };
  EXPECT_EQ(for_prompt(named), for_prompt(known));
}

std::string test_name(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::ranges::replace(name, '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, NamedFamily,
                         ::testing::ValuesIn(testing::data_names("tests/model/data", "/tree.txt")),
                         test_name);

}  // namespace
}  // namespace berth
