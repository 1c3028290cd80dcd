#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "berth/error.h"
#include "berth/model.h"
#include "berth/planner.h"
#include "planner/model/open/build_model_tree.h"
#include "planner/model/tree/config.h"
#include "tests/checkpoint/fixtures.h"

namespace berth {
namespace {

namespace fs = std::filesystem;
using test::FakeTensor;
using test::TempFolder;
using test::write_safetensors;
using testing::AllOf;
using testing::HasSubstr;

std::string open_error(const fs::path& path) {
  try {
    open_model(path, std::nullopt);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

constexpr const char* kGpt2 =
    R"({"model_type":"gpt2","n_embd":8,"n_layer":2,"n_head":2,"n_positions":16,"vocab_size":32)";
constexpr const char* kLlama =
    R"({"model_type":"llama","hidden_size":8,"intermediate_size":12,"num_hidden_layers":2,
        "num_attention_heads":2,"vocab_size":32,"max_position_embeddings":16)";

// The tensors that a model of this config stores. They are worked out from the config alone.
std::vector<FakeTensor> stored_tensors(const std::string& config) {
  const ModelConfig parsed = ModelConfig::parse(config, "config.json");
  const ModelTree tree = build_model_tree("m", &parsed, nullptr, std::nullopt);
  std::vector<FakeTensor> tensors;
  for (const ModelTensor& tensor : tree.tensors) {
    if (tensor.persistent && tensor.tied_to == kNone) {
      tensors.push_back({std::string(tensor.name), DType::kF16, tensor.shape});
    }
  }
  return tensors;
}

// Writes a checkpoint folder with this config and these tensors.
void write_model(const TempFolder& folder, const std::string& config,
                 const std::vector<FakeTensor>& tensors) {
  folder.write("config.json", config);
  write_safetensors(folder / "model.safetensors", tensors);
}

std::string open_error_of(const std::string& config) {
  try {
    const ModelConfig parsed = ModelConfig::parse(config, "config.json");
    build_model_tree("m", &parsed, nullptr, std::nullopt);
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

std::uint64_t parameters_of(const std::string& config) {
  const ModelConfig parsed = ModelConfig::parse(config, "config.json");
  return build_model_tree("m", &parsed, nullptr, std::nullopt).parameters();
}

TEST(ModelTree, CountsParametersAsTransformersDoes) {
  EXPECT_EQ(parameters_of(R"({"model_type":"llama","hidden_size":576,"intermediate_size":1536,
      "num_hidden_layers":30,"num_attention_heads":9,"num_key_value_heads":3,"vocab_size":49152,
      "max_position_embeddings":8192,"tie_word_embeddings":true})"),
            134'515'008u);
  EXPECT_EQ(parameters_of(R"({"model_type":"gpt2","n_embd":1024,"n_layer":24,"n_head":16,
      "n_positions":1024,"vocab_size":50257})"),
            354'823'168u);
}

TEST(ModelTree, TakesTheConfigsDtypeWithoutACheckpoint) {
  const auto dtype_of = [](const std::string& rest, std::optional<DType> wanted) {
    const ModelConfig config = ModelConfig::parse(std::string(kLlama) + rest + "}", "config.json");
    return build_model_tree("m", &config, nullptr, wanted).tensors[0].dtype;
  };
  EXPECT_EQ(dtype_of("", std::nullopt), DType::kF32);
  EXPECT_EQ(dtype_of(R"(,"torch_dtype":"float16")", std::nullopt), DType::kF16);
  EXPECT_EQ(dtype_of(R"(,"dtype":"bfloat16")", std::nullopt), DType::kBF16);
  EXPECT_EQ(dtype_of(R"(,"dtype":"bfloat16")", DType::kF32), DType::kF32);
}

TEST(ModelTree, ConvertsOnlyWhatIsReadAndFloating) {
  TempFolder folder;
  folder.write("config.json", R"({"model_type":"unheard_of"})");
  write_safetensors(folder / "model.safetensors", {{"a.weight", DType::kBF16, {4}},
                                                   {"a.ids", DType::kI64, {4}},
                                                   {"a.scale", DType::kF8E4M3, {4}}});
  const ModelTree tree = open_model(folder.path(), DType::kF32).tree;
  EXPECT_EQ(tree.tensors[0].stored, DType::kBF16);
  EXPECT_EQ(tree.tensors[0].dtype, DType::kF32);
  EXPECT_EQ(tree.tensors[1].dtype, DType::kI64);
  EXPECT_EQ(tree.tensors[2].dtype, DType::kF8E4M3);
  EXPECT_EQ(tree.bytes(), 16u + 32u + 4u);
}

TEST(ModelTree, ReadsTheNamesOfTheHubsGpt2Files) {
  TempFolder folder;
  const std::string config = std::string(kGpt2) + "}";
  std::vector<FakeTensor> tensors = stored_tensors(config);
  for (FakeTensor& tensor : tensors) tensor.name = tensor.name.substr(12);  // "transformer."
  tensors.push_back({"h.0.attn.bias", DType::kF32, {1, 1, 16, 16}});
  tensors.push_back({"h.1.attn.masked_bias", DType::kF32, {}});
  write_model(folder, config, tensors);
  const Model model = open_model(folder.path(), std::nullopt);
  EXPECT_EQ(model.tree.ignored_bytes, 1024u + 4u);
  EXPECT_EQ(model.tree.bytes() + model.tree.ignored_bytes, model.checkpoint->bytes());
  const ModelTensor& first = model.tree.tensors[0];
  EXPECT_EQ(first.name, "transformer.wte.weight");
  EXPECT_EQ(model.checkpoint->tensors[first.source].name, "wte.weight");
}

TEST(ModelTree, DoesNotIgnoreABiasThatOnlyLooksLikeAMask) {
  TempFolder folder;
  std::vector<FakeTensor> tensors = stored_tensors(std::string(kGpt2) + "}");
  tensors.push_back({"transformer.h.7.attn.c_attn.bias", DType::kF32, {24}});
  write_model(folder, std::string(kGpt2) + "}", tensors);
  const Model model = open_model(folder.path(), std::nullopt);
  ASSERT_EQ(model.tree.notes.size(), 1u);
  EXPECT_THAT(model.tree.notes[0], HasSubstr("'transformer.h.7.attn.c_attn.bias'"));
}

TEST(ModelTree, StoresTiedWeightsOnce) {
  TempFolder folder;
  const std::string config = std::string(kLlama) + R"(,"tie_word_embeddings":true})";
  write_model(folder, config, stored_tensors(config));
  const Model model = open_model(folder.path(), std::nullopt);
  ASSERT_EQ(model.tree.ties.size(), 1u);
  const auto& group = model.tree.ties[0];
  EXPECT_EQ(model.tree.tensors[group[0]].name, "model.embed_tokens.weight");
  EXPECT_EQ(model.tree.tensors[group[1]].name, "lm_head.weight");
  EXPECT_EQ(model.tree.tensors[group[1]].tied_to, group[0]);
  EXPECT_EQ(model.tree.bytes(), model.checkpoint->bytes());
}

TEST(ModelTree, IgnoresACopyOfTheEmbeddingThatTheConfigTies) {
  TempFolder folder;
  const std::string config = std::string(kLlama) + R"(,"tie_word_embeddings":true})";
  std::vector<FakeTensor> tensors = stored_tensors(config);
  tensors.push_back({"lm_head.weight", DType::kF16, {32, 8}});
  write_model(folder, config, tensors);
  const Model model = open_model(folder.path(), std::nullopt);
  EXPECT_EQ(model.tree.ignored_bytes, 512u);
  EXPECT_EQ(model.checkpoint->tensors[model.tree.tensors[0].source].name,
            "model.embed_tokens.weight");
}

TEST(ModelTree, TakesTheHeadWhereOnlyItIsStored) {
  TempFolder folder;
  const std::string config = std::string(kLlama) + R"(,"tie_word_embeddings":true})";
  std::vector<FakeTensor> tensors = stored_tensors(config);
  tensors[0].name = "lm_head.weight";
  write_model(folder, config, tensors);
  const Model model = open_model(folder.path(), std::nullopt);
  EXPECT_EQ(model.tree.tensors[0].name, "model.embed_tokens.weight");
  EXPECT_EQ(model.checkpoint->tensors[model.tree.tensors[0].source].name, "lm_head.weight");
}

TEST(ModelTree, NamesATensorThatTheCheckpointLacks) {
  TempFolder folder;
  std::vector<FakeTensor> tensors = stored_tensors(std::string(kLlama) + "}");
  tensors.erase(tensors.begin() + 1, tensors.begin() + 4);
  write_model(folder, std::string(kLlama) + "}", tensors);
  EXPECT_THAT(
      open_error(folder.path()),
      AllOf(HasSubstr("lacks tensor 'model.layers.0.self_attn.q_proj.weight' [8, 8], and 2 more"),
            HasSubstr("config.json asks for")));
}

// transformers reports what it does not know and goes on.
TEST(ModelTree, NotesATensorThatTheModelDoesNotKnow) {
  TempFolder folder;
  std::vector<FakeTensor> tensors = stored_tensors(std::string(kLlama) + "}");
  tensors.push_back({"model.layers.2.self_attn.q_proj.weight", DType::kF16, {8, 8}});
  tensors.push_back({"model.vision.weight", DType::kF16, {8}});
  tensors.push_back({"model.layers.0.self_attn.q_proj.bias", DType::kF16, {8}});
  write_model(folder, std::string(kLlama) + "}", tensors);
  const Model model = open_model(folder.path(), std::nullopt);
  EXPECT_EQ(model.tree.ignored_bytes, (64 + 8 + 8) * sizeof(std::uint16_t));
  ASSERT_EQ(model.tree.notes.size(), 1u);
  EXPECT_THAT(model.tree.notes[0],
              AllOf(HasSubstr("tensor 'model.layers.2.self_attn.q_proj.weight' [8, 8], and 2 more"),
                    HasSubstr("not part of the llama model that config.json describes: left out")));
}

TEST(ModelTree, RefusesWhatBelongsToAWeightAndIsNotKnown) {
  TempFolder folder;
  std::vector<FakeTensor> tensors = stored_tensors(std::string(kLlama) + "}");
  tensors.push_back({"model.layers.0.self_attn.q_proj.codebook", DType::kF16, {8, 8}});
  write_model(folder, std::string(kLlama) + "}", tensors);
  EXPECT_THAT(open_error(folder.path()),
              AllOf(HasSubstr("tensor 'model.layers.0.self_attn.q_proj.codebook' [8, 8]"),
                    HasSubstr("not part of the llama model")));
}

TEST(ModelTree, TakesScalesOfTheCacheWhereverTheyStand) {
  for (const char* module : {"k_proj", "qkv_proj", "attn"}) {
    TempFolder folder;
    std::vector<FakeTensor> tensors = stored_tensors(std::string(kLlama) + "}");
    const std::string name = "model.layers.0.self_attn." + std::string(module) + ".k_scale";
    tensors.push_back({name, DType::kF32, {}});
    write_model(folder, std::string(kLlama) + "}", tensors);
    const Model model = open_model(folder.path(), std::nullopt);
    EXPECT_TRUE(std::ranges::any_of(model.tree.tensors, [&](const ModelTensor& tensor) {
      return tensor.name == name;
    })) << module;
  }
}

TEST(ModelTree, NamesBothShapesWhereTheyDiffer) {
  TempFolder folder;
  std::vector<FakeTensor> tensors = stored_tensors(std::string(kLlama) + "}");
  tensors[0].shape = {33, 8};
  write_model(folder, std::string(kLlama) + "}", tensors);
  EXPECT_THAT(open_error(folder.path()),
              AllOf(HasSubstr("'model.embed_tokens.weight' has shape [33, 8]"),
                    HasSubstr("asks for [32, 8]")));
}

TEST(ModelTree, TurnsAbsurdConfigsIntoOneLine) {
  const auto error_of = [](const std::string& config) {
    try {
      const ModelConfig parsed = ModelConfig::parse(config, "config.json");
      build_model_tree("m", &parsed, nullptr, std::nullopt);
      return std::string();
    } catch (const Error& error) {
      return std::string(error.what());
    }
  };
  const auto llama = [](const std::string& layers, const std::string& hidden,
                        const std::string& heads, const std::string& vocabulary) {
    return R"({"model_type":"llama","hidden_size":)" + hidden +
           R"(,"intermediate_size":12,"num_hidden_layers":)" + layers +
           R"(,"num_attention_heads":)" + heads + R"(,"vocab_size":)" + vocabulary + "}";
  };
  EXPECT_EQ(error_of(llama("2", "8", "2", "32")), "");
  EXPECT_THAT(error_of(llama("-1", "8", "2", "32")),
              HasSubstr("num_hidden_layers: -1 is negative"));
  EXPECT_THAT(error_of(llama("0", "8", "2", "32")), HasSubstr("num_hidden_layers: 0, but"));
  EXPECT_THAT(error_of(llama("1000000000", "8", "2", "32")),
              HasSubstr("num_hidden_layers: 1000000000 is more than any model has"));
  EXPECT_THAT(error_of(llama("2", "8", "0", "32")), HasSubstr("num_attention_heads: 0, but"));
  EXPECT_THAT(error_of(llama("2", "-8", "2", "32")), HasSubstr("hidden_size: -8 is negative"));
  EXPECT_THAT(error_of(llama("2", "4000000000000000000", "2", "4000000000000000000")),
              HasSubstr("hidden_size: 4000000000000000000 is more than any model has"));
  EXPECT_THAT(error_of(llama("2", "\"8\"", "2", "32")), HasSubstr("hidden_size: not an integer"));
  EXPECT_THAT(error_of(llama("2", "null", "2", "32")),
              HasSubstr("hidden_size: null, but a llama model needs a value"));
  EXPECT_THAT(error_of(llama("2", "8", "2", R"(32,"dtype":"int3")")), HasSubstr("'int3'"));
}

// The tensors of a whole Llama, but for its head, under names that begin with `prefix`.
std::vector<FakeTensor> headless(const std::string& prefix) {
  std::vector<FakeTensor> tensors = stored_tensors(std::string(kLlama) + "}");
  std::erase_if(tensors, [](const FakeTensor& tensor) { return tensor.name == "lm_head.weight"; });
  for (FakeTensor& tensor : tensors) {
    tensor.name = prefix + tensor.name.substr(std::string("model.").size());
  }
  return tensors;
}

TEST(ModelTree, ABaseModelIsReadWhicheverModelItWasSavedFrom) {
  const std::string config = std::string(kLlama) + R"(,"architectures":["LlamaModel"]})";
  for (const char* prefix : {"", "model."}) {
    const TempFolder folder;
    write_model(folder, config, headless(prefix));
    const Model model = open_model(folder.path(), std::nullopt);
    EXPECT_EQ(model.tree.modules.front().cls, "LlamaModel") << prefix;
    EXPECT_NE(model.tree.find_module("layers.1.mlp"), nullptr) << prefix;
    EXPECT_EQ(model.tree.bytes(), model.checkpoint->bytes()) << prefix;
  }
  const TempFolder folder;
  write_model(folder, config, stored_tensors(std::string(kLlama) + "}"));
  EXPECT_EQ(open_model(folder.path(), std::nullopt).tree.ignored_bytes, 32u * 8 * 2);  // the head
}

TEST(ModelTree, AClassifierHasAsManyScoresAsLabels) {
  const std::string classifier = R"(,"architectures":["LlamaForSequenceClassification"])";
  const auto scores = [&](const std::string& more) {
    const ModelConfig config =
        ModelConfig::parse(std::string(kLlama) + classifier + more + "}", "config.json");
    const ModelTree tree = build_model_tree("m", &config, nullptr, std::nullopt);
    return tree.tensors[tree.find_module("score")->tensors.at(0)].shape;
  };
  EXPECT_EQ(scores(""), (Shape{2, 8}));
  EXPECT_EQ(scores(R"(,"num_labels":3)"), (Shape{3, 8}));
  EXPECT_EQ(scores(R"(,"num_labels":3,"id2label":{"0":"bad"})"), (Shape{1, 8}));
  std::vector<FakeTensor> tensors = headless("model.");
  tensors.push_back({"score.weight", DType::kF16, {2, 8}});
  const TempFolder folder;
  write_model(folder, std::string(kLlama) + classifier + "}", tensors);
  const Model model = open_model(folder.path(), std::nullopt);
  EXPECT_EQ(model.tree.bytes(), model.checkpoint->bytes());
}

TEST(ModelTree, AClassThatIsNotKnownStandsForTheFamilysOwn) {
  const std::string other = std::string(kLlama) + R"(,"architectures":["MyLlama"]})";
  EXPECT_EQ(parameters_of(other), parameters_of(std::string(kLlama) + "}"));
}

TEST(ModelTree, NotesASettingThatHasNoEffect) {
  const auto notes = [](const std::string& config) {
    const ModelConfig parsed = ModelConfig::parse(config, "config.json");
    return build_model_tree("m", &parsed, nullptr, std::nullopt).notes;
  };
  EXPECT_THAT(notes(std::string(kLlama) + R"(,"partial_rotary_factor":0.5})"),
              testing::ElementsAre("config.json: rope_parameters.partial_rotary_factor has no "
                                   "effect on a llama model, as in transformers"));
  EXPECT_THAT(notes(std::string(kLlama) + R"(,"partial_rotary_factor":1.0})"), testing::IsEmpty());
}

TEST(ModelTree, RefusesLayerTypesForAnotherNumberOfLayers) {
  EXPECT_THAT(open_error_of(std::string(kLlama) + R"(,"layer_types":["full_attention"]})"),
              HasSubstr("layer_types: 1 entries for num_hidden_layers 2"));
}

TEST(ModelTree, FindsModulesByName) {
  const ModelConfig config = ModelConfig::parse(std::string(kLlama) + "}", "config.json");
  const ModelTree tree = build_model_tree("m", &config, nullptr, std::nullopt);
  ASSERT_NE(tree.find_module("model.layers.1.mlp"), nullptr);
  EXPECT_EQ(tree.find_module("model.layers.1.mlp")->cls, "LlamaMLP");
  EXPECT_EQ(tree.find_module("")->parent, kNone);
  EXPECT_EQ(tree.find_module("model.layers.10"), nullptr);
  EXPECT_EQ(tree.find_module("model.lay"), nullptr);
}

TEST(OpenModel, PlansAFolderThatHasAConfigAlone) {
  TempFolder folder;
  folder.write("config.json", std::string(kLlama) + "}");
  folder.write("tokenizer.json", "{}");
  folder.write("training_args.bin", "of no model");
  const Model ours = open_model(folder.path(), std::nullopt);
  const Model alone = open_model(folder / "config.json", std::nullopt);
  EXPECT_FALSE(ours.checkpoint);
  EXPECT_EQ(ours.tree.name, alone.tree.name);
  EXPECT_EQ(ours.tree.tensors.size(), alone.tree.tensors.size());
  EXPECT_EQ(ours.tree.notes, alone.tree.notes);
  // Weights that cannot be opened are not passed over.
  for (const char* name : {"model.safetensors.index.json", "tf_model.h5", "weights.safetensors"}) {
    folder.write(name, "");
    EXPECT_NE(open_error(folder.path()), "") << name;
    std::filesystem::remove(folder / name);
  }
}

TEST(OpenModel, SaysWhatAFolderLacks) {
  TempFolder folder;
  EXPECT_THAT(open_error(folder.path()), HasSubstr("holds no .safetensors file"));
  write_safetensors(folder / "model.safetensors", {{"a.weight", DType::kF32, {2}}});
  const Model model = open_model(folder.path(), std::nullopt);
  EXPECT_EQ(model.tree.tensors[0].name, "a.weight");
  ASSERT_EQ(model.tree.notes.size(), 1u);
  EXPECT_THAT(model.tree.notes[0], HasSubstr("holds no config.json, so the model goes by the names "
                                             "of its tensors; put the model's config.json there"));
}

TEST(OpenModel, SaysWhatAFolderHoldsThatIsNoModel) {
  TempFolder folder;
  folder.write("adapter_config.json", R"({"base_model_name_or_path": "org/tiny"})");
  write_safetensors(folder / "adapter_model.safetensors", {{"a.lora_A.weight", DType::kF32, {2}}});
  const auto note = [&](const fs::path& path) {
    const Model model = open_model(path, std::nullopt);
    EXPECT_EQ(model.config, nullptr);
    return model.tree.notes.empty() ? "" : model.tree.notes[0];
  };
  const auto adapter = HasSubstr(
      "'adapter_model.safetensors' is an adapter of 'org/tiny', not a "
      "whole model: PEFT merges it into one");
  EXPECT_THAT(note(folder.path()), adapter);
  folder.write("config.json", std::string(kLlama) + "}");  // describes the base model
  EXPECT_THAT(note(folder.path()), adapter);
  EXPECT_EQ(note(folder / "adapter_model.safetensors"), "");
  fs::remove(folder / "adapter_model.safetensors");
  write_safetensors(folder / "consolidated.safetensors", {{"tok.weight", DType::kF32, {2}}});
  EXPECT_THAT(note(folder.path()),
              HasSubstr("'consolidated.safetensors' holds weights in their maker's own form"));
}

TEST(OpenModel, ACacheFolderIsCalledAsItsModelIs) {
  TempFolder folder;
  const std::string snapshot = "models--org--tiny/snapshots/0123abcd";
  fs::create_directories(folder / snapshot);
  folder.write(snapshot + "/config.json", std::string(kLlama) + "}");
  write_safetensors(folder / (snapshot + "/model.safetensors"),
                    stored_tensors(std::string(kLlama) + "}"));
  for (const fs::path& path : {folder / "models--org--tiny", folder / snapshot}) {
    const Model model = open_model(path, std::nullopt);
    EXPECT_EQ(model.tree.name, "org/tiny");
    EXPECT_EQ(model.tree.model_type, "llama");
    EXPECT_EQ(model.path, path);
  }
  fs::copy(folder / (snapshot + "/config.json"), folder / "4567cdef");  // as in blobs/
  EXPECT_EQ(open_model(folder / "4567cdef", std::nullopt).tree.model_type, "llama");
}

TEST(OpenModel, PlansABareFileByItsNames) {
  TempFolder folder;
  write_safetensors(folder / "weights.safetensors", {{"wte.weight", DType::kF32, {2, 2}}});
  const Model model = open_model(folder / "weights.safetensors", std::nullopt);
  EXPECT_EQ(model.tree.name, "weights");
  EXPECT_FALSE(model.config);
  EXPECT_EQ(model.tree.modules[1].cls, "Embedding");
}

TEST(OpenModel, NamesAModelAfterItsFolder) {
  TempFolder folder;
  const std::string config = std::string(kLlama) + "}";
  write_model(folder, config, stored_tensors(config));
  EXPECT_EQ(open_model(folder / "", std::nullopt).tree.name, folder.path().filename());
  EXPECT_EQ(open_model(folder / "config.json", std::nullopt).tree.name, folder.path().filename());
}

TEST(OpenModel, RefusesOtherFiles) {
  TempFolder folder;
  folder.write("model.gguf", "GGUF");
  folder.write("other.json", "{}");
  folder.write("odd.json", R"({"model_type":"unheard_of"})");
  folder.write("escape.json", R"({"model_type":"../architectures/llama"})");
  EXPECT_THAT(open_error(folder / "model.gguf"), HasSubstr("too few for a GGUF header"));
  EXPECT_THAT(open_error(folder / "other.json"), HasSubstr("'model_type' is missing"));
  EXPECT_THAT(open_error(folder / "odd.json"), HasSubstr("'unheard_of' has no template"));
  EXPECT_THAT(open_error(folder / "escape.json"), HasSubstr("has no template"));
  EXPECT_THAT(open_error(folder / "absent"), HasSubstr("no such file"));
}

}  // namespace
}  // namespace berth
