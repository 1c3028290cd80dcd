// GGUF files as models: names, shapes, forms, config and tokenizer, and what is refused.
#include "planner/model/gguf/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>

#include "berth/error.h"
#include "berth/model.h"
#include "berth/planner.h"
#include "planner/model/gguf/piece_merges.h"
#include "planner/model/template/complete.h"
#include "planner/model/tree/config.h"
#include "tests/error_of.h"
#include "tests/model/gguf_writer.h"

namespace berth {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using testing::error_of;
using testing::GgufWriter;
using ::testing::HasSubstr;
using ::testing::Not;

class Gguf : public ::testing::Test {
 protected:
  Gguf() {
    std::string name = (fs::temp_directory_path() / "berth-gguf-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~Gguf() override { fs::remove_all(folder_); }

  fs::path write(const GgufWriter& file, const std::string& name = "model.gguf") const {
    file.write(folder_ / name);
    return folder_ / name;
  }

  fs::path folder_;
};

constexpr std::uint32_t kF32 = 0, kF16 = 1, kQ8_0 = 8;

void add_sizes(GgufWriter& file, const std::string& architecture) {
  file.text("general.architecture", architecture);
  for (const auto& [key, value] :
       {std::pair("embedding_length", 64), std::pair("block_count", 1),
        std::pair("context_length", 128), std::pair("feed_forward_length", 32),
        std::pair("attention.head_count", 4)}) {
    file.u32(architecture + "." + key, static_cast<std::uint32_t>(value));
  }
}

void add_tensor(GgufWriter& file, const std::string& name, std::uint32_t type, Shape shape) {
  const DType dtype = type == kF32 ? DType::kF32 : type == kF16 ? DType::kF16 : DType::kQ8_0;
  file.tensor(name, type, {shape.begin(), shape.end()},
              std::string(*tensor_bytes(dtype, shape), '\0'));
}

// A Llama of one layer. `keep` says which tensors are in this file.
GgufWriter llama(const std::function<bool(const std::string&)>& keep = {}, bool head = true) {
  GgufWriter file;
  add_sizes(file, "llama");
  file.u32("llama.attention.head_count_kv", 2);
  file.f32("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  file.f32("llama.rope.freq_base", 500000);
  file.u32("tokenizer.ggml.eos_token_id", 7);
  file.u32("tokenizer.ggml.eot_token_id", 9);
  const auto add = [&](const std::string& name, std::uint32_t type, const Shape& shape) {
    if (!keep || keep(name)) add_tensor(file, name, type, shape);
  };
  add("token_embd.weight", kQ8_0, {10, 64});
  if (head) add("output.weight", kQ8_0, {10, 64});
  add("output_norm.weight", kF32, {64});
  add("blk.0.attn_norm.weight", kF32, {64});
  add("blk.0.ffn_norm.weight", kF32, {64});
  add("blk.0.attn_q.weight", kQ8_0, {64, 64});
  add("blk.0.attn_k.weight", kQ8_0, {32, 64});
  add("blk.0.attn_v.weight", kQ8_0, {32, 64});
  add("blk.0.attn_output.weight", kQ8_0, {64, 64});
  add("blk.0.ffn_gate.weight", kQ8_0, {32, 64});
  add("blk.0.ffn_up.weight", kQ8_0, {32, 64});
  add("blk.0.ffn_down.weight", kQ8_0, {64, 32});
  return file;
}

const TensorInfo& find(const Checkpoint& checkpoint, std::string_view name) {
  const auto found = std::ranges::find(checkpoint.tensors, name, &TensorInfo::name);
  if (found == checkpoint.tensors.end()) throw Error("no " + std::string(name));
  return *found;
}

TEST_F(Gguf, IsACheckpointInTheNamesOfTransformers) {
  const GgufModel model = open_gguf(write(llama()));
  const Checkpoint& checkpoint = model.checkpoint;
  EXPECT_EQ(checkpoint.format, CheckpointFormat::kGguf);
  EXPECT_EQ(checkpoint.tensors.size(), 12u);
  const TensorInfo& down = find(checkpoint, "model.layers.0.mlp.down_proj.weight");
  EXPECT_THAT(down.shape, ElementsAre(64, 32));
  EXPECT_EQ(down.dtype, DType::kQ8_0);
  EXPECT_EQ(checkpoint.form_of(down), nullptr);
  const StoredForm* query =
      checkpoint.form_of(find(checkpoint, "model.layers.0.self_attn.q_proj.weight"));
  const StoredForm* key =
      checkpoint.form_of(find(checkpoint, "model.layers.0.self_attn.k_proj.weight"));
  ASSERT_NE(query, nullptr);
  ASSERT_NE(key, nullptr);
  // Heads, halves, pairs, rows of 64: stored are the two rows of each pair side by side.
  EXPECT_EQ(*query, (StoredForm{.sizes = {4, 2, 8, 64}, .strides = {1024, 64, 128, 1}}));
  EXPECT_EQ(*key, (StoredForm{.sizes = {2, 2, 8, 64}, .strides = {1024, 64, 128, 1}}));
}

constexpr std::uint32_t kInTiles = 0x42540000;

// A Llama whose tensor `name` is in tiles, as Berth itself writes them.
GgufWriter in_tiles(const std::string& name, std::uint32_t type, const Shape& shape) {
  GgufWriter file = llama([&](const std::string& other) { return other != name; });
  file.u32("berth.tiles", 1);
  const DType dtype = type == kF32 ? DType::kF32 : DType::kQ8_0;
  file.tensor(name, kInTiles + type, {shape.begin(), shape.end()},
              std::string(*tensor_bytes(dtype, shape), '\0'));
  return file;
}

// Their rows are in the order of transformers, also those that llama.cpp interleaves.
TEST_F(Gguf, TilesAreAFormOfTheirOwn) {
  const GgufModel model = open_gguf(write(in_tiles("blk.0.attn_q.weight", kQ8_0, {64, 64})));
  const TensorInfo& query = find(model.checkpoint, "model.layers.0.self_attn.q_proj.weight");
  EXPECT_EQ(query.dtype, DType::kQ8_0);
  ASSERT_NE(model.checkpoint.form_of(query), nullptr);
  EXPECT_EQ(*model.checkpoint.form_of(query), StoredForm{.tiled = true});
  EXPECT_TRUE(has_tiles(model.checkpoint));
  EXPECT_FALSE(has_tiles(open_gguf(write(llama())).checkpoint));
  EXPECT_THAT(open_gguf(write(in_tiles("output.weight", kQ8_0, {10, 64}))).checkpoint.notes,
              ElementsAre(HasSubstr("weights are in tiles")));
}

TEST_F(Gguf, TilesOfAnotherKindAreRefused) {
  const auto error = [&](const GgufWriter& file) {
    return error_of([&] { open_gguf(write(file)); });
  };
  const std::string q = "blk.0.attn_q.weight";
  GgufWriter unversioned = llama([&](const std::string& name) { return name != q; });
  unversioned.tensor(q, kInTiles + kQ8_0, {64, 64}, std::string(64 * 68, '\0'));
  EXPECT_THAT(error(unversioned),
              HasSubstr("tensor '" + q + "': is in tiles, but the file has no berth.tiles"));
  GgufWriter newer = llama();
  newer.u32("berth.tiles", 2);
  EXPECT_THAT(error(newer), HasSubstr("model.gguf: berth.tiles: version 2 of tiles is not the one "
                                      "that this Berth computes on (1): convert"));
  EXPECT_THAT(
      error(in_tiles(q, kF32, {64, 64})),
      HasSubstr("is in tiles, which only matrices of a block format and lists of them can"));
  EXPECT_THAT(
      error(in_tiles("output_norm.weight", kQ8_0, {64})),
      HasSubstr("is in tiles, which only matrices of a block format and lists of them can"));
  EXPECT_THAT(error(in_tiles(q, kQ8_0, {1, 64, 64})),
              HasSubstr("is in tiles, which it cannot be in a llama model"));
  EXPECT_THAT(error(in_tiles("blk.0.other.weight", kQ8_0, {64, 64})),
              HasSubstr("is in tiles, which it can be only in a model of a known family"));
}

TEST_F(Gguf, ConfigSaysWhatTheMetadataSays) {
  const ModelConfig config =
      ModelConfig::parse(open_gguf(write(llama({}, false))).config_json, "config");
  EXPECT_EQ(config.model_type(), "llama");
  EXPECT_EQ(config.integer("hidden_size"), 64);
  EXPECT_EQ(config.integer("num_key_value_heads"), 2);
  EXPECT_EQ(config.integer("head_dim"), 16);
  EXPECT_EQ(config.integer("vocab_size"), 10);
  EXPECT_EQ(config.number("rms_norm_eps"),
            1e-5);  // the number that was meant, not the nearest float
  EXPECT_EQ(config.number("rope_parameters.rope_theta"), 500000);
  EXPECT_EQ(config.boolean("tie_word_embeddings"), true);
  EXPECT_EQ(config.list("eos_token_id").size(), 2u);
}

// The completed config of a Llama with this beside its sizes.
ModelConfig config_with(const fs::path& folder, const std::function<void(GgufWriter&)>& more) {
  GgufWriter file = llama();
  more(file);
  file.write(folder / "model.gguf");
  return complete_config(
      ModelConfig::parse(open_gguf(folder / "model.gguf").config_json, "config"));
}

TEST_F(Gguf, ScalesRotaryFrequenciesAsLlamaCppDoes) {
  const auto with = [&](const std::function<void(GgufWriter&)>& more) {
    const ModelConfig config = config_with(folder_, more);
    return config.text("rope_parameters.rope_type").value_or("") + " " +
           std::to_string(config.number("rope_parameters.factor").value_or(0));
  };
  const auto factor = [](const char* key, float value) {
    return [=](GgufWriter& file) { file.f32(std::string("llama.rope.") + key, value); };
  };
  EXPECT_EQ(with(factor("scaling.factor", 4)), "linear 4.000000");
  EXPECT_EQ(with(factor("scale_linear", 4)), "linear 4.000000");
  EXPECT_EQ(with(factor("scaling.factor", 1)), "default 0.000000");
  EXPECT_EQ(with(factor("scaling.factor", 0)), "default 0.000000");
  EXPECT_EQ(with([](GgufWriter& file) {
              file.text("llama.rope.scaling.type", "none");
              file.f32("llama.rope.scaling.factor", 4);
            }),
            "default 0.000000");
  EXPECT_EQ(with([](GgufWriter& file) { file.text("llama.rope.scaling.type", "linear"); }),
            "default 0.000000");
  EXPECT_EQ(with([](GgufWriter& file) {
              file.text("llama.rope.scaling.type", "yarn");
              file.f32("llama.rope.scale_linear", 4);
            }),
            "yarn 4.000000");
}

TEST_F(Gguf, TakesNoDefaultOfTransformersWhereLlamaCppHasAnother) {
  GgufWriter mixtral;
  add_sizes(mixtral, "llama");
  mixtral.u32("llama.expert_count", 2);
  mixtral.u32("llama.expert_used_count", 1);
  add_tensor(mixtral, "token_embd.weight", kF32, {10, 64});
  const ModelConfig config =
      complete_config(ModelConfig::parse(open_gguf(write(mixtral)).config_json, "config"));
  EXPECT_EQ(config.number("rope_parameters.rope_theta"), 10000);
  EXPECT_FALSE(config.has("eos_token_id"));
  GgufWriter gemma3;
  add_sizes(gemma3, "gemma3");
  add_tensor(gemma3, "token_embd.weight", kF32, {10, 64});
  EXPECT_FALSE(complete_config(ModelConfig::parse(open_gguf(write(gemma3)).config_json, "config"))
                   .has("sliding_window"));
}

TEST_F(Gguf, WindowsOfGemmaAreWhereTheFileSays) {
  GgufWriter file;
  add_sizes(file, "gemma3");
  file.u32("gemma3.attention.sliding_window", 16);
  file.booleans("gemma3.attention.sliding_window_pattern", {0});
  add_tensor(file, "token_embd.weight", kF32, {10, 64});
  const auto config = [&] {
    return ModelConfig::parse(open_gguf(write(file)).config_json, "config");
  };
  EXPECT_EQ(config().list("layer_types").at(0), ModelConfig::Value("full_attention"));
  GgufWriter silent;
  add_sizes(silent, "gemma3");
  silent.u32("gemma3.attention.sliding_window", 16);
  add_tensor(silent, "token_embd.weight", kF32, {10, 64});
  file = silent;
  EXPECT_FALSE(config().has("layer_types"));
}

TEST_F(Gguf, CapsOfGemma2AreThoseOfTransformersWhereTheFileHasNone) {
  GgufWriter file;
  add_sizes(file, "gemma2");
  add_tensor(file, "token_embd.weight", kF32, {10, 64});
  const ModelConfig config =
      complete_config(ModelConfig::parse(open_gguf(write(file)).config_json, "config"));
  EXPECT_EQ(config.number("attn_logit_softcapping"), 50);
  EXPECT_EQ(config.number("final_logit_softcapping"), 30);
  EXPECT_EQ(config.integer("sliding_window"), 4096);
}

TEST_F(Gguf, ReadsTheFactorsOfLongContexts) {
  GgufWriter file;
  add_sizes(file, "phi3");
  add_tensor(file, "token_embd.weight", kF32, {10, 64});
  file.floats("rope_factors_short.weight", {8}, std::vector<float>(8, 1));
  file.floats("rope_factors_long.weight", {8}, std::vector<float>(8, 2));
  const ModelConfig config =
      complete_config(ModelConfig::parse(open_gguf(write(file)).config_json, "config"));
  EXPECT_EQ(config.text("rope_parameters.rope_type"), "longrope");
  EXPECT_EQ(config.list("rope_parameters.short_factor").size(), 8u);
  EXPECT_EQ(config.list("rope_parameters.long_factor").at(7), ModelConfig::Value(2.0));
  GgufWriter odd;
  add_sizes(odd, "phi3");
  odd.floats("rope_factors_long.weight", {3}, {1, 1, 1});
  EXPECT_THAT(error_of([&] { open_gguf(write(odd)); }),
              HasSubstr("tensor 'rope_factors_long.weight' is not F32 of 8 elements"));
}

TEST_F(Gguf, PlansStoredBytesAndFloatsWhereAsked) {
  const fs::path path = write(llama());
  const Model stored = open_model(path, std::nullopt);
  EXPECT_EQ(stored.tree.quantization, "GGUF");
  EXPECT_EQ(stored.tree.bytes(), stored.checkpoint->bytes());
  const Model floats = open_model(path, DType::kBF16);
  EXPECT_EQ(floats.tree.bytes(), 2 * floats.tree.parameters());
  EXPECT_EQ(floats.tree.parameters(), stored.tree.parameters());
}

TEST_F(Gguf, MayBeTheOnlyModelOfAFolder) {
  write(llama());
  EXPECT_EQ(open_model(folder_, std::nullopt).tree.model_type, "llama");
  std::ofstream(folder_ / "config.json")
      << "{}";  // many repositories have one beside the GGUF file
  EXPECT_EQ(open_model(folder_, std::nullopt).tree.model_type, "llama");
  write(llama(), "other.gguf");
  EXPECT_THAT(error_of([&] { open_model(folder_, std::nullopt); }),
              HasSubstr("but 'model.gguf': name that file to open it alone"));
}

TEST_F(Gguf, MayBeSplit) {
  for (std::uint32_t part = 0; part < 2; ++part) {
    GgufWriter file = llama(
        [&](const std::string& name) { return (name.find("ffn") != name.npos) == (part == 1); });
    file.u32("split.no", part);
    file.u32("split.count", 2);
    write(file, "m-0000" + std::to_string(part + 1) + "-of-00002.gguf");
  }
  const fs::path second = folder_ / "m-00002-of-00002.gguf";
  for (const fs::path& path : {folder_ / "m-00001-of-00002.gguf", second, folder_}) {
    const Model model = open_model(path, std::nullopt);
    EXPECT_EQ(model.checkpoint->shards.size(), 2u);
    EXPECT_EQ(model.checkpoint->tensors.size(), 12u);
  }
  fs::remove(second);
  EXPECT_THAT(error_of([&] { open_gguf(folder_ / "m-00001-of-00002.gguf"); }),
              HasSubstr("split 'm-00002-of-00002.gguf' is missing"));
}

TEST_F(Gguf, ExpertsAreTensorsOfTheirOwn) {
  GgufWriter file = llama([](const std::string& name) {
    return name.find("blk.0.ffn_g") == name.npos && name.find("blk.0.ffn_u") == name.npos &&
           name.find("blk.0.ffn_d") == name.npos;
  });
  file.u32("llama.expert_count", 3);
  file.u32("llama.expert_used_count", 2);
  add_tensor(file, "blk.0.ffn_gate_inp.weight", kF32, {3, 64});
  add_tensor(file, "blk.0.ffn_gate_exps.weight", kQ8_0, {3, 32, 64});
  add_tensor(file, "blk.0.ffn_up_exps.weight", kQ8_0, {3, 32, 64});
  add_tensor(file, "blk.0.ffn_down_exps.weight", kQ8_0, {3, 64, 32});
  const Model model = open_model(write(file), std::nullopt);
  EXPECT_EQ(model.tree.model_type, "mixtral");
  const auto expert = [&](int number) {
    return find(*model.checkpoint,
                "model.layers.0.block_sparse_moe.experts." + std::to_string(number) + ".w1.weight");
  };
  EXPECT_EQ(expert(1).begin, expert(0).end);
  EXPECT_EQ(expert(2).bytes(), *tensor_bytes(DType::kQ8_0, Shape{32, 64}));
}

TEST_F(Gguf, BlocksThatATransposedMatrixCutsBecomeFloats) {
  GgufWriter file;
  add_sizes(file, "gpt2");
  add_tensor(file, "token_embd.weight", kQ8_0, {10, 64});
  add_tensor(file, "position_embd.weight", kF32, {128, 64});
  for (const char* norm : {"output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"}) {
    add_tensor(file, std::string(norm) + ".weight", kF32, {64});
    add_tensor(file, std::string(norm) + ".bias", kF32, {64});
  }
  const std::pair<const char*, Shape> matrices[] = {{"attn_qkv", {192, 64}},
                                                    {"attn_output", {64, 64}},
                                                    {"ffn_up", {32, 64}},
                                                    {"ffn_down", {64, 32}}};
  for (const auto& [name, shape] : matrices) {
    add_tensor(file, "blk.0." + std::string(name) + ".weight", kQ8_0, shape);
    add_tensor(file, "blk.0." + std::string(name) + ".bias", kF32, {shape[0]});
  }
  const Model model = open_model(write(file), std::nullopt);
  for (const ModelTensor& tensor : model.tree.tensors) {
    if (tensor.name == "transformer.wte.weight") {
      EXPECT_EQ(tensor.dtype, DType::kQ8_0);
    }
    if (tensor.name != "transformer.h.0.attn.c_attn.weight") continue;
    EXPECT_THAT(tensor.shape, ElementsAre(64, 192));
    EXPECT_EQ(tensor.dtype, DType::kF16);
  }
}

TEST_F(Gguf, WhatIsNotUnderstoodIsRefusedByName) {
  const auto refused = [&](const GgufWriter& file) {
    const fs::path path = write(file);
    const std::string message = error_of([&] { open_model(path, std::nullopt); });
    EXPECT_THAT(message, HasSubstr(path.string()));
    EXPECT_THAT(message, Not(HasSubstr("\n")));
    return message;
  };
  GgufWriter nothing;
  add_sizes(nothing, "mamba");
  EXPECT_THAT(refused(nothing), HasSubstr("holds no tensors"));
  EXPECT_THAT(refused(GgufWriter()), HasSubstr("general.architecture: is missing"));
  EXPECT_THAT(refused(llama([](const std::string& name) { return name != "blk.0.attn_v.weight"; })),
              HasSubstr("lacks tensor 'model.layers.0.self_attn.v_proj.weight'"));
  GgufWriter odd = llama([](const std::string& name) { return name != "blk.0.attn_q.weight"; });
  add_tensor(odd, "blk.0.attn_q.weight", kF32, {60, 64});
  EXPECT_THAT(refused(odd), HasSubstr("has 60 rows, which 4 heads"));
  GgufWriter sizes;
  sizes.text("general.architecture", "llama");
  sizes.u32("llama.attention.head_count", 0);
  EXPECT_THAT(refused(sizes), HasSubstr("head_count: is not one positive number"));
}

TEST_F(Gguf, TokenizersOfAnotherKindAreRefusedByName) {
  GgufWriter file;
  EXPECT_THAT(error_of([&] { gguf_tokenizer_json(write(file)); }),
              HasSubstr("tokenizer.ggml.model: is missing"));
  file.text("tokenizer.ggml.model", "t5");
  EXPECT_THAT(error_of([&] { gguf_tokenizer_json(write(file)); }),
              HasSubstr("tokenizer.ggml.tokens: is missing or empty"));
  file.texts("tokenizer.ggml.tokens", {"a"});
  EXPECT_THAT(error_of([&] { gguf_tokenizer_json(write(file)); }),
              HasSubstr("tokenizer.ggml.model: 't5' is not supported (byte-level BPE, 'gpt2', and "
                        "SentencePiece's, 'llama', are; --prompt-ids needs no tokenizer"));
  GgufWriter bpe;
  bpe.text("tokenizer.ggml.model", "gpt2");
  bpe.text("tokenizer.ggml.pre", "viking");
  bpe.texts("tokenizer.ggml.tokens", {"a", "b"});
  EXPECT_THAT(error_of([&] { gguf_tokenizer_json(write(bpe)); }),
              HasSubstr("tokenizer.ggml.pre: 'viking' is not supported (gpt-2, smollm"));
  GgufWriter guess;
  guess.text("tokenizer.ggml.model", "gpt2");
  guess.texts("tokenizer.ggml.tokens", {"a", "b"});
  EXPECT_THAT(error_of([&] { gguf_tokenizer_json(write(guess)); }),
              HasSubstr("'default' is not supported"));
  guess.text("general.architecture", "gpt2");
  EXPECT_THAT(gguf_tokenizer_json(write(guess)), HasSubstr(R"("use_regex": true)"));
  GgufWriter types;
  types.text("tokenizer.ggml.model", "gpt2");
  types.text("tokenizer.ggml.pre", "gpt-2");
  types.texts("tokenizer.ggml.tokens", {"a", "b"});
  types.i32s("tokenizer.ggml.token_type", {1});
  EXPECT_THAT(error_of([&] { gguf_tokenizer_json(write(types)); }),
              HasSubstr("has 1 elements for 2 tokens"));
}

TEST_F(Gguf, TokenizerSaysWhatTheVocabularySays) {
  GgufWriter file;
  file.text("tokenizer.ggml.model", "gpt2");
  file.text("tokenizer.ggml.pre", "llama-bpe");
  file.texts("tokenizer.ggml.tokens", {"\"", "b", "\"b", "<|end|>", "<tool>"});
  file.i32s("tokenizer.ggml.token_type", {1, 1, 1, 3, 4});
  file.texts("tokenizer.ggml.merges", {"\" b"});
  const std::string json = gguf_tokenizer_json(write(file));
  EXPECT_THAT(json,
              HasSubstr(R"("vocab": {"\"": 0, "b": 1, "\"b": 2, "<|end|>": 3, "<tool>": 4})"));
  EXPECT_THAT(json, HasSubstr(R"("merges": ["\" b"])"));
  EXPECT_THAT(json, HasSubstr(R"("ignore_merges": true)"));
  EXPECT_THAT(json, HasSubstr(R"({"id": 3, "content": "<|end|>")"));
  EXPECT_THAT(json, HasSubstr(R"("special": false})"));
  EXPECT_THAT(json, HasSubstr(R"(\\p{N}{1,3})"));
}

// A SentencePiece vocabulary: <unk>, <s>, </s>, a byte and letters.
GgufWriter sentencepiece(const std::function<void(GgufWriter&)>& more = {}) {
  GgufWriter file;
  file.text("tokenizer.ggml.model", "llama");
  file.texts("tokenizer.ggml.tokens", {"<unk>", "<s>", "</s>", "<0x0A>", "a", "b", "ab", "<t>"});
  file.i32s("tokenizer.ggml.token_type", {2, 3, 3, 6, 1, 1, 1, 4});
  file.u32("tokenizer.ggml.bos_token_id", 1);
  file.u32("tokenizer.ggml.eos_token_id", 2);
  if (more) more(file);
  return file;
}

void add_scores(GgufWriter& file) {
  file.f32s("tokenizer.ggml.scores", {0, 0, 0, 0, -1, -2, -3, 0});
}

TEST_F(Gguf, SentencePieceTokenizerSaysWhatTheVocabularySays) {
  const std::string json = gguf_tokenizer_json(write(sentencepiece(add_scores)));
  EXPECT_THAT(json, HasSubstr(R"("unk_token": "<unk>")"));
  EXPECT_THAT(json, HasSubstr(R"("byte_fallback": true)"));
  EXPECT_THAT(json, HasSubstr(R"("fuse_unk": true)"));
  EXPECT_THAT(json, HasSubstr(R"("merges": [["a", "b"]])"));
  EXPECT_THAT(json, HasSubstr(R"({"id": 0, "content": "<unk>")"));
  EXPECT_THAT(json, Not(HasSubstr(R"({"id": 3)")));
  EXPECT_THAT(json, HasSubstr(R"("content": "<t>", "single_word": false, "lstrip": false, )"
                              R"("rstrip": false, "normalized": false, "special": false)"));
  EXPECT_THAT(json, HasSubstr(R"({"type": "Prepend", "prepend": "▁"})"));
  EXPECT_THAT(json, HasSubstr(R"({"type": "Strip", "content": " ", "start": 1, "stop": 0})"));
  EXPECT_THAT(json, HasSubstr(R"("single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, )"
                              R"({"Sequence": {"id": "A", "type_id": 0}}])"));
  EXPECT_THAT(
      json,
      HasSubstr(R"("special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}})"));
}

TEST_F(Gguf, SentencePieceTokenizerHasTheOptionsOfTheFile) {
  const std::string json = gguf_tokenizer_json(write(sentencepiece([](GgufWriter& file) {
    add_scores(file);
    file.boolean("tokenizer.ggml.add_space_prefix", false);
    file.boolean("tokenizer.ggml.add_bos_token", false);
    file.boolean("tokenizer.ggml.add_eos_token", true);
  })));
  EXPECT_THAT(json, Not(HasSubstr("Prepend")));
  EXPECT_THAT(json, Not(HasSubstr("Strip")));
  EXPECT_THAT(json, HasSubstr(R"("single": [{"Sequence": {"id": "A", "type_id": 0}}, )"
                              R"({"SpecialToken": {"id": "</s>", "type_id": 0}}])"));
}

TEST_F(Gguf, SentencePieceTokenizersThatAreNotUnderstoodAreRefusedByKey) {
  const auto refused = [&](const std::function<void(GgufWriter&)>& more) {
    return error_of([&] { gguf_tokenizer_json(write(sentencepiece(more))); });
  };
  EXPECT_THAT(refused({}), HasSubstr("tokenizer.ggml.scores: has 0 elements for 8 tokens"));
  EXPECT_THAT(refused([](GgufWriter& file) {
                file.f32s("tokenizer.ggml.scores", std::vector<float>(8, NAN));
              }),
              HasSubstr("tokenizer.ggml.scores: holds NaN"));
  EXPECT_THAT(
      refused([](GgufWriter& file) { file.i32s("tokenizer.ggml.precompiled_charsmap", {}); }),
      HasSubstr("tokenizer.ggml.precompiled_charsmap: is not supported"));
  EXPECT_THAT(refused([](GgufWriter& file) {
                file.boolean("tokenizer.ggml.remove_extra_whitespaces", true);
              }),
              HasSubstr("tokenizer.ggml.remove_extra_whitespaces: is not supported"));
  GgufWriter outside;
  outside.text("tokenizer.ggml.model", "llama");
  outside.texts("tokenizer.ggml.tokens", {"a"});
  outside.f32s("tokenizer.ggml.scores", {0});
  outside.u32("tokenizer.ggml.bos_token_id", 1);
  EXPECT_THAT(error_of([&] { gguf_tokenizer_json(write(outside)); }),
              HasSubstr("tokenizer.ggml.bos_token_id: is outside the vocabulary"));
  GgufWriter slow;
  slow.text("tokenizer.ggml.model", "llama");
  slow.texts("tokenizer.ggml.tokens", {std::string(1000, 'a')});
  slow.f32s("tokenizer.ggml.scores", {0});
  EXPECT_THAT(error_of([&] { gguf_tokenizer_json(write(slow)); }),
              HasSubstr("tokenizer.ggml.tokens: token 0 has 1000 bytes, more than a piece"));
}

TEST_F(Gguf, ByteLevelTokenizersAddTheTokensThatTheFileNames) {
  const auto json = [&](const char* pre, const std::function<void(GgufWriter&)>& more) {
    GgufWriter file;
    file.text("tokenizer.ggml.model", "gpt2");
    file.text("tokenizer.ggml.pre", pre);
    file.texts("tokenizer.ggml.tokens", {"a", "<|begin|>"});
    if (more) more(file);
    return gguf_tokenizer_json(write(file));
  };
  const auto with_id = [](GgufWriter& file) { file.u32("tokenizer.ggml.bos_token_id", 1); };
  const auto asked = [&](GgufWriter& file) {
    with_id(file);
    file.boolean("tokenizer.ggml.add_bos_token", true);
  };
  const auto refused = [&](GgufWriter& file) {
    with_id(file);
    file.boolean("tokenizer.ggml.add_bos_token", false);
  };
  const auto none = HasSubstr(R"("post_processor": null)");
  const auto begins =
      HasSubstr(R"("single": [{"SpecialToken": {"id": "<|begin|>", "type_id": 0}})");
  EXPECT_THAT(json("smollm", with_id), none);
  EXPECT_THAT(json("qwen2", with_id), none);
  EXPECT_THAT(json("smollm", asked), begins);
  EXPECT_THAT(json("llama-bpe", with_id), begins);  // as in llama.cpp, and in Llama 3's own file
  EXPECT_THAT(json("llama-bpe", refused), none);
  EXPECT_THAT(json("llama-bpe", {}), none);
  EXPECT_THAT(error_of([&] {
                json("smollm",
                     [](GgufWriter& file) { file.boolean("tokenizer.ggml.add_bos_token", true); });
              }),
              HasSubstr("tokenizer.ggml.bos_token_id: is missing, though add_bos_token is true"));
}

TEST_F(Gguf, SettingsBesideTheTokenizerAreThoseOfTheFile) {
  GgufWriter file = llama();
  file.texts("tokenizer.ggml.tokens", {"<unk>", "<s>", "b", "c", "d", "e", "f", "</s>", "h", "i"});
  file.u32("tokenizer.ggml.bos_token_id", 1);
  file.u32("tokenizer.ggml.unknown_token_id", 0);
  file.boolean("tokenizer.ggml.add_bos_token", true);
  file.text("tokenizer.chat_template", "{{ \"hi\" }}\n");
  const fs::path path = write(file);
  const ModelConfig tokenizer = ModelConfig::parse(gguf_tokenizer_config_json(path), "tokenizer");
  EXPECT_EQ(tokenizer.text("tokenizer_class"), "PreTrainedTokenizerFast");
  EXPECT_EQ(tokenizer.text("bos_token"), "<s>");
  EXPECT_EQ(tokenizer.text("eos_token"), "</s>");
  EXPECT_EQ(tokenizer.text("unk_token"), "<unk>");
  EXPECT_FALSE(tokenizer.has("pad_token"));
  EXPECT_EQ(tokenizer.boolean("add_bos_token"), true);
  EXPECT_FALSE(tokenizer.has("add_eos_token"));
  EXPECT_EQ(tokenizer.integer("model_max_length"), 128);
  EXPECT_EQ(tokenizer.text("chat_template"), "{{ \"hi\" }}\n");
  const ModelConfig generation = ModelConfig::parse(gguf_generation_config_json(path), "text");
  EXPECT_EQ(generation.integer("bos_token_id"), 1);
  EXPECT_EQ(generation.list("eos_token_id").size(), 2u);
  EXPECT_THAT(open_gguf(path).config_json, HasSubstr(R"("architectures": ["LlamaForCausalLM"])"));

  file.u32("tokenizer.ggml.padding_token_id", 10);
  EXPECT_THAT(error_of([&] { gguf_tokenizer_config_json(write(file)); }),
              HasSubstr("tokenizer.ggml.padding_token_id: is outside the vocabulary"));
}

std::vector<std::string> joined(const std::vector<ScoredPiece>& pieces) {
  std::vector<std::string> merges;
  for (const auto& [left, right] : piece_merges(pieces)) {
    merges.push_back(std::string(left) + "|" + std::string(right));
  }
  return merges;
}

TEST(PieceMerges, AreInTheOrderOfTransformers) {
  const std::vector<ScoredPiece> pieces{{"<s>", 0, false}, {"a", -1},   {"b", -1}, {"ab", -3},
                                        {"ba", -2},        {"aba", -3}, {"é", -1}, {"éa", -3}};
  EXPECT_THAT(joined(pieces), ElementsAre("b|a", "ab|a", "a|ba", "a|b", "é|a"));
}

TEST(PieceMerges, AreBounded) {
  std::vector<std::string> texts;  // each of them can be made of two shorter ones in many ways
  for (std::size_t length = 1; length <= 256; ++length) texts.emplace_back(length, 'a');
  std::vector<ScoredPiece> pieces;
  for (const std::string& text : texts) pieces.push_back({text, 0});
  EXPECT_THAT(error_of([&] { piece_merges(pieces); }), HasSubstr("more merges than"));
}

}  // namespace
}  // namespace berth
