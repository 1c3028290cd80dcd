// GGUF files that are not mapped to a family of transformers: what their layers keep, and their
// trees.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "berth/error.h"
#include "berth/model.h"
#include "berth/planner.h"
#include "planner/model/gguf/gguf.h"
#include "tests/error_of.h"
#include "tests/model/gguf_writer.h"

namespace berth {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::ElementsAre;
using testing::error_of;
using testing::GgufWriter;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::uint32_t kF32 = 0, kF16 = 1, kIQ4_XS = 23, kMXFP4 = 39;

// A model of `layers` layers, 4 heads and 2 for keys and values of 64, 256 wide.
class Made {
 public:
  explicit Made(const std::string& architecture, std::uint32_t layers = 4)
      : architecture_(architecture) {
    file_.text("general.architecture", architecture);
    u32("block_count", layers);
    u32("context_length", 4096);
    u32("embedding_length", 256);
    u32("feed_forward_length", 512);
    u32("attention.head_count", 4);
    u32("attention.key_length", 64);
    u32("attention.value_length", 64);
    add("token_embd.weight", kF16, {100, 256});
    add("output_norm.weight", kF32, {256});
  }

  std::string key(const std::string& name) const { return architecture_ + "." + name; }
  Made& u32(const std::string& name, std::uint32_t value) {
    file_.u32(key(name), value);
    return *this;
  }
  Made& i32s(const std::string& name, const std::vector<std::int32_t>& values) {
    file_.i32s(key(name), values);
    return *this;
  }
  // A tensor of zeros, or one for each of the layers that stand for N in its name.
  Made& add(const std::string& name, std::uint32_t type, const Shape& shape,
            const std::vector<int>& layers = {}) {
    const std::uint64_t elements =
        std::accumulate(shape.begin(), shape.end(), std::uint64_t{1}, std::multiplies<>());
    const std::uint64_t bytes = type == kIQ4_XS  ? elements / 256 * 136
                                : type == kMXFP4 ? elements / 32 * 17
                                : type == kF16   ? elements * 2
                                                 : elements * 4;
    const std::size_t at = name.find('N');
    if (at == name.npos) {
      file_.tensor(name, type, {shape.begin(), shape.end()}, std::string(bytes, '\0'));
    }
    for (const int layer : layers) {
      std::string full = name;
      full.replace(at, 1, std::to_string(layer));
      file_.tensor(full, type, {shape.begin(), shape.end()}, std::string(bytes, '\0'));
    }
    return *this;
  }
  Made& attention(const std::vector<int>& layers) {
    add("blk.N.attn_norm.weight", kF32, {256}, layers);
    add("blk.N.attn_q.weight", kF16, {256, 256}, layers);
    add("blk.N.attn_k.weight", kF16, {128, 256}, layers);
    add("blk.N.attn_v.weight", kF16, {128, 256}, layers);
    return add("blk.N.attn_output.weight", kF16, {256, 256}, layers);
  }
  Made& feed_forward(const std::vector<int>& layers) {
    add("blk.N.ffn_up.weight", kF16, {512, 256}, layers);
    return add("blk.N.ffn_down.weight", kF16, {256, 512}, layers);
  }
  GgufWriter& file() { return file_; }

 private:
  std::string architecture_;
  GgufWriter file_;
};

const std::vector<int> kAll{0, 1, 2, 3};

class GgufLayers : public ::testing::Test {
 protected:
  GgufLayers() {
    std::string name = (fs::temp_directory_path() / "berth-gguf-layers-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~GgufLayers() override { fs::remove_all(folder_); }

  Model open(Made& made, std::optional<DType> dtype = std::nullopt) const {
    made.file().write(folder_ / "m.gguf");
    return open_model(folder_ / "m.gguf", dtype);
  }
  std::string refused(Made& made) const {
    return error_of([&] { open(made); });
  }

  template <typename Member>
  static std::vector<Member> each(const Model& model, Member LayerFacts::*member) {
    std::vector<Member> all;
    for (const LayerFacts& layer : model.tree.facts.layers) all.push_back(layer.*member);
    return all;
  }

  fs::path folder_;
};

TEST_F(GgufLayers, AnArchitectureWithoutAFamilyKeepsItsNames) {
  Made made("glm4");
  made.u32("attention.head_count_kv", 2).attention(kAll).feed_forward(kAll);
  made.add("output.weight", kIQ4_XS, {100, 256});
  const Model model = open(made);
  EXPECT_EQ(model.tree.model_type, "glm4");
  EXPECT_EQ(model.tree.quantization, "GGUF");
  EXPECT_EQ(model.tree.bytes(), model.checkpoint->bytes());
  EXPECT_EQ(model.tree.tensors.size(), model.checkpoint->tensors.size());
  EXPECT_THAT(each(model, &LayerFacts::kv_elements), ElementsAre(256, 256, 256, 256));
  EXPECT_EQ(model.tree.facts.layers[0].head_size, 64u);
  EXPECT_EQ(model.tree.facts.hidden, 256u);
  EXPECT_EQ(model.tree.facts.vocabulary, 100u);
  EXPECT_THAT(model.tree.notes,
              ElementsAre("'glm4' models are not mapped to names of transformers: planned by the "
                          "names and the metadata in the file"));
  const ModelTree& tree = model.tree;
  EXPECT_EQ(tree.modules[tree.facts.embedding].name, "token_embd");
  EXPECT_EQ(tree.modules[tree.facts.head].name, "output");
  EXPECT_EQ(tree.modules[tree.facts.layers[3].module].name, "blk.3");
  EXPECT_TRUE(tree.modules[tree.facts.layers[3].module].no_split);
  std::vector<std::string_view> units;
  for (const ModuleId unit : execution_units(tree)) units.push_back(tree.modules[unit].name);
  EXPECT_THAT(units, ElementsAre("token_embd", "blk.0", "blk.1", "blk.2", "blk.3", "output_norm",
                                 "output"));
}

TEST_F(GgufLayers, AHeadThatIsNotStoredIsTheEmbedding) {
  Made made("glm4");
  made.u32("attention.head_count_kv", 2).attention(kAll);
  const Model model = open(made);
  ASSERT_EQ(model.tree.ties.size(), 1u);
  EXPECT_EQ(model.tree.tensors[model.tree.ties[0][1]].name, "output.weight");
  EXPECT_EQ(model.tree.bytes(), model.checkpoint->bytes());
}

TEST_F(GgufLayers, HeadsMayDifferFromLayerToLayer) {
  Made made("openelm");
  made.i32s("attention.head_count_kv", {2, 0, 4, 1});
  for (const auto& [layer, rows] : {std::pair(0, 128u), {2, 256u}, {3, 64u}}) {
    made.add("blk.N.attn_q.weight", kF16, {256, 256}, {layer});
    made.add("blk.N.attn_k.weight", kF16, {rows, 256}, {layer});
    made.add("blk.N.attn_v.weight", kF16, {rows, 256}, {layer});
  }
  made.feed_forward(kAll);
  EXPECT_THAT(each(open(made), &LayerFacts::kv_elements), ElementsAre(256, 0, 512, 128));
  Made shorter("openelm");
  shorter.i32s("attention.head_count_kv", {2, 4}).attention(kAll);
  EXPECT_THAT(refused(shorter), HasSubstr("openelm.attention.head_count_kv: has 2 elements for 4 "
                                          "layers"));
}

TEST_F(GgufLayers, AFamilyWhoseFileHasMoreGoesByNames) {
  Made heads("qwen2");
  heads.i32s("attention.head_count_kv", {2, 2, 1, 2}).attention(kAll);
  EXPECT_THAT(open(heads).tree.notes,
              Contains(HasSubstr("qwen2.attention.head_count_kv differs from layer to layer: "
                                 "planned by the names")));
  Made surplus("llama");
  surplus.u32("attention.head_count_kv", 2).attention(kAll);
  surplus.add("blk.0.attn_sinks.weight", kF32, {4});
  const Model model = open(surplus);
  EXPECT_THAT(model.tree.notes, Contains(HasSubstr("tensor 'blk.0.attn_sinks.weight' has no place "
                                                   "in a llama model: planned by the names")));
  EXPECT_NE(model.tree.find_module("blk.0.attn_sinks"), nullptr);
}

TEST_F(GgufLayers, WindowsAreWhereThePatternSays) {
  const auto windows = [&](const std::string& architecture,
                           const std::function<void(Made&)>& more) {
    Made made(architecture);
    made.u32("attention.head_count_kv", 2).attention(kAll);
    more(made);
    return open(made);
  };
  const auto window = [](Made& made) { made.u32("attention.sliding_window", 128); };
  EXPECT_THAT(each(windows("gpt-oss", window), &LayerFacts::window), ElementsAre(128, 0, 128, 0));
  EXPECT_THAT(each(windows("cohere2", window), &LayerFacts::window), ElementsAre(128, 128, 128, 0));
  EXPECT_THAT(each(windows("smallthinker", window), &LayerFacts::window),
              ElementsAre(0, 128, 128, 128));
  EXPECT_THAT(each(windows("olmo2", [](Made&) {}), &LayerFacts::window), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(each(windows("llama4", [](Made&) {}), &LayerFacts::window),
              ElementsAre(8192, 8192, 8192, 0));
  EXPECT_THAT(each(windows("unheard-of",
                           [&](Made& made) {
                             window(made);
                             made.u32("attention.sliding_window_pattern", 2);
                           }),
                   &LayerFacts::window),
              ElementsAre(128, 0, 128, 0));
  EXPECT_THAT(
      each(windows(
               "gemma4",
               [&](Made& made) {
                 window(made);
                 made.file().booleans(made.key("attention.sliding_window_pattern"), {1, 0, 0, 1});
               }),
           &LayerFacts::window),
      ElementsAre(128, 0, 0, 128));
  const Model unknown = windows("unheard-of", window);
  EXPECT_THAT(each(unknown, &LayerFacts::window), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(unknown.tree.notes, Contains(HasSubstr("nothing says which layers have the window")));
}

TEST_F(GgufLayers, LastLayersMayReadTheCachesOfOthers) {
  Made made("gemma4");
  made.u32("attention.head_count_kv", 2).u32("attention.shared_kv_layers", 2);
  made.attention({0, 1}).add("blk.N.attn_q.weight", kF16, {256, 256}, {2, 3});
  const Model model = open(made);
  EXPECT_THAT(each(model, &LayerFacts::shares_cache), ElementsAre(false, false, true, true));
  EXPECT_THAT(each(model, &LayerFacts::kv_elements), ElementsAre(256, 256, 256, 256));
  Made many("gemma4");
  many.u32("attention.shared_kv_layers", 5).attention(kAll);
  EXPECT_THAT(refused(many), HasSubstr("shared_kv_layers: is more than there are layers"));
}

TEST_F(GgufLayers, WindowLayersMayHaveHeadsOfTheirOwn) {
  Made made("gemma4");
  made.u32("attention.head_count_kv", 2).u32("attention.sliding_window", 16);
  made.u32("attention.key_length_swa", 32).u32("attention.value_length_swa", 32);
  made.file().booleans(made.key("attention.sliding_window_pattern"), {1, 1, 1, 0});
  made.add("blk.N.attn_qkv.weight", kF16, {384, 256}, {0, 1, 2}).attention({3});
  EXPECT_THAT(each(open(made), &LayerFacts::kv_elements), ElementsAre(128, 128, 128, 256));
}

TEST_F(GgufLayers, LatentAttentionKeepsItsLatent) {
  Made made("deepseek2");
  made.u32("attention.head_count_kv", 1).u32("attention.kv_lora_rank", 96);
  made.u32("attention.key_length_mla", 48).u32("rope.dimension_count", 32);
  made.add("blk.N.attn_kv_a_mqa.weight", kF16, {128, 256}, kAll);
  made.add("blk.N.attn_k_b.weight", kF16, {4, 96, 16}, kAll);
  EXPECT_THAT(each(open(made), &LayerFacts::kv_elements), ElementsAre(128, 128, 128, 128));
  // A file from before llama.cpp kept the latent: keys and values are expanded.
  Made old("deepseek2");
  old.u32("attention.head_count_kv", 4).u32("attention.kv_lora_rank", 96);
  old.add("blk.N.attn_kv_a_mqa.weight", kF16, {128, 256}, kAll);
  old.add("blk.N.attn_kv_b.weight", kF16, {512, 96}, kAll);
  EXPECT_THAT(each(open(old), &LayerFacts::kv_elements), ElementsAre(512, 512, 512, 512));
}

TEST_F(GgufLayers, StatesHaveAConstantSize) {
  Made mamba("mamba2");
  mamba.u32("ssm.conv_kernel", 4).u32("ssm.inner_size", 512).u32("ssm.state_size", 16);
  mamba.u32("ssm.group_count", 2).u32("ssm.time_step_rank", 8);
  mamba.add("blk.N.ssm_conv1d.weight", kF32, {576, 4}, kAll);
  const Model model = open(mamba);
  // F32: 3 positions of 512 + 2 x 2 x 16 channels, and 16 x 512 of the state.
  const std::uint64_t state = 4 * (3 * 576 + 16 * 512);
  EXPECT_THAT(each(model, &LayerFacts::state_bytes), ElementsAre(state, state, state, state));
  EXPECT_THAT(each(model, &LayerFacts::kv_elements), ElementsAre(0, 0, 0, 0));

  Made hybrid("qwen3next");  // three layers of linear attention to one that attends
  hybrid.u32("attention.head_count_kv", 2).u32("ssm.conv_kernel", 4);
  hybrid.u32("ssm.inner_size", 512).u32("ssm.state_size", 16);
  hybrid.add("blk.N.attn_qkv.weight", kF16, {640, 256}, {0, 1, 2});
  hybrid.add("blk.N.ssm_conv1d.weight", kF32, {512, 4}, {0, 1, 2}).attention({3});
  const Model next = open(hybrid);
  EXPECT_THAT(each(next, &LayerFacts::kv_elements), ElementsAre(0, 0, 0, 256));
  EXPECT_EQ(next.tree.facts.layers[0].state_bytes, 4u * (3 * 512 + 16 * 512));
  EXPECT_EQ(next.tree.facts.layers[3].state_bytes, 0u);

  Made both("falcon-h1");  // every layer attends and has a state
  both.u32("attention.head_count_kv", 2).u32("ssm.inner_size", 512).u32("ssm.state_size", 16);
  both.add("blk.N.ssm_conv1d.weight", kF32, {512, 4}, kAll).attention(kAll);
  const Model falcon = open(both);
  EXPECT_EQ(falcon.tree.facts.layers[2].kv_elements, 256u);
  EXPECT_EQ(falcon.tree.facts.layers[2].state_bytes, 4u * (3 * 512 + 16 * 512));

  Made convolutions("lfm2");
  convolutions.i32s("attention.head_count_kv", {0, 0, 2, 0}).u32("shortconv.l_cache", 3);
  convolutions.add("blk.N.shortconv.conv.weight", kF32, {256, 3}, {0, 1, 3}).attention({2});
  EXPECT_THAT(each(open(convolutions), &LayerFacts::state_bytes), ElementsAre(2048, 2048, 0, 2048));

  Made rwkv("rwkv7");
  rwkv.u32("wkv.head_size", 64).add("blk.N.time_mix_key.weight", kF16, {256, 256}, kAll);
  EXPECT_EQ(open(rwkv).tree.facts.layers[0].state_bytes, 4u * 256 * (2 + 64));

  Made silent("mamba");
  silent.u32("ssm.inner_size", 512).add("blk.N.ssm_conv1d.weight", kF32, {512, 4}, kAll);
  EXPECT_THAT(refused(silent), HasSubstr("mamba.ssm.state_size: is missing"));
}

TEST_F(GgufLayers, ExpertsAreReadOnlyInPart) {
  Made made("glm4moe");
  made.u32("attention.head_count_kv", 2).u32("expert_count", 8).u32("expert_used_count", 2);
  made.attention(kAll).feed_forward({0});
  made.add("blk.N.ffn_gate_inp.weight", kF32, {8, 256}, {1, 2, 3});
  made.add("blk.N.ffn_up_exps.weight", kMXFP4, {8, 64, 256}, {1, 2, 3});
  made.add("blk.N.ffn_up_shexp.weight", kF16, {64, 256}, {1, 2, 3});
  const Model model = open(made);
  EXPECT_THAT(each(model, &LayerFacts::experts), ElementsAre(0, 8, 8, 8));
  EXPECT_THAT(each(model, &LayerFacts::experts_per_token), ElementsAre(0, 2, 2, 2));
  EXPECT_TRUE(model.tree.find_module("blk.1.ffn_up_exps")->expert);
  EXPECT_FALSE(model.tree.find_module("blk.1.ffn_up_shexp")->expert);
  EXPECT_FALSE(model.tree.find_module("blk.1.ffn_gate_inp")->expert);

  Made other("glm4moe");
  other.u32("expert_count", 4).attention(kAll);
  other.add("blk.N.ffn_up_exps.weight", kMXFP4, {8, 64, 256}, {1});
  EXPECT_THAT(refused(other), HasSubstr("glm4moe.expert_count: is 4, but layer 1 holds 8 experts"));

  Made unsaid("glm4moe");
  unsaid.attention(kAll).add("blk.N.ffn_up_exps.weight", kMXFP4, {8, 64, 256}, {1});
  const Model all = open(unsaid);
  EXPECT_EQ(all.tree.facts.layers[1].experts_per_token, 8u);
  EXPECT_THAT(all.tree.notes, Contains(HasSubstr("expert_used_count is missing")));
}

TEST_F(GgufLayers, LayersThatPredictFurtherTokensAreLeftOut) {
  Made made("glm4moe");
  made.u32("attention.head_count_kv", 2).u32("nextn_predict_layers", 1).attention(kAll);
  made.add("blk.3.nextn.eh_proj.weight", kF16, {256, 512});
  const Model model = open(made);
  EXPECT_EQ(model.tree.facts.layers.size(), 3u);
  EXPECT_EQ(model.tree.find_module("blk.3"), nullptr);
  EXPECT_EQ(model.tree.bytes() + model.tree.ignored_bytes, model.checkpoint->bytes());
  EXPECT_GT(model.tree.ignored_bytes, 256u * 512 * 2);
  Made none("glm4moe");
  none.u32("nextn_predict_layers", 4).attention(kAll);
  EXPECT_THAT(refused(none), HasSubstr("4 of 4 layers leave no decoder"));
}

TEST_F(GgufLayers, EncodersKeepNothing) {
  Made bert("bert");
  bert.file().boolean("bert.attention.causal", false);
  bert.attention(kAll);
  const Model model = open(bert);
  EXPECT_THAT(each(model, &LayerFacts::kv_elements), ElementsAre(0, 0, 0, 0));
  EXPECT_EQ(model.tree.facts.head, kNone);
  EXPECT_THAT(model.tree.ties, IsEmpty());
}

TEST_F(GgufLayers, AnEncoderBesideADecoderRunsForThePromptAlone) {
  Made made("t5", 2);
  for (const char* side : {"enc", "dec"}) {
    for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_o"}) {
      made.add(std::string(side) + ".blk.N." + name + ".weight", kF16, {256, 256}, {0, 1});
    }
  }
  made.add("dec.blk.N.cross_attn_k.weight", kF16, {256, 256}, {0, 1});
  made.add("dec.blk.N.cross_attn_v.weight", kF16, {256, 256}, {0, 1});
  const Model model = open(made);
  ASSERT_EQ(model.tree.facts.layers.size(), 2u);
  EXPECT_EQ(model.tree.modules[model.tree.facts.layers[0].module].name, "dec.blk.0");
  EXPECT_EQ(model.tree.facts.layers[1].kv_elements, 512u);
  EXPECT_EQ(model.tree.facts.layers[1].cross_elements, 512u * 4096);
  EXPECT_TRUE(model.tree.find_module("enc.blk.1")->prompt_only);
  EXPECT_FALSE(model.tree.find_module("dec.blk.1")->prompt_only);
}

TEST_F(GgufLayers, BlockCountAndTensorsMustAgree) {
  Made beyond("glm4");
  beyond.attention({0, 1, 2, 3, 4});
  EXPECT_THAT(refused(beyond),
              HasSubstr("glm4.block_count is 4, but the file holds tensors of layer 4"));
  Made missing("glm4");
  missing.attention({0, 1, 3});
  EXPECT_THAT(refused(missing),
              HasSubstr("glm4.block_count is 4, but the file holds no tensor of layer 2"));
}

TEST_F(GgufLayers, WhatHasNoLayersOfTheFormatHasTheLongestList) {
  GgufWriter file;
  file.text("general.architecture", "flux");
  for (const char* name : {"double_blocks.0.a", "double_blocks.1.a", "single_blocks.0.a"}) {
    file.floats(std::string(name) + ".weight", {4}, {0, 0, 0, 0});
  }
  file.write(folder_ / "m.gguf");
  const Model model = open_model(folder_ / "m.gguf", std::nullopt);
  ASSERT_EQ(model.tree.facts.layers.size(), 2u);
  EXPECT_EQ(model.tree.modules[model.tree.facts.layers[1].module].name, "double_blocks.1");
  EXPECT_EQ(model.tree.facts.head, kNone);
  EXPECT_THAT(model.tree.notes, Contains(HasSubstr("no KV cache is planned")));
}

TEST_F(GgufLayers, MatricesThatDisagreeWithTheMetadataCountByTheLarger) {
  Made made("glm4");
  made.u32("attention.head_count_kv", 1).attention(kAll);
  const Model model = open(made);
  EXPECT_EQ(model.tree.facts.layers[0].kv_elements, 256u);
  EXPECT_THAT(model.tree.notes, Contains(HasSubstr("the keys and values of layer 0")));
}

TEST_F(GgufLayers, BlocksWithoutAKernelAreRefusedWhereFloatsAreAskedFor) {
  Made made("glm4");
  made.attention(kAll).add("output.weight", kIQ4_XS, {100, 256});
  EXPECT_EQ(open(made).tree.bytes(), open(made).checkpoint->bytes());
  EXPECT_THAT(error_of([&] { open(made, DType::kBF16); }),
              HasSubstr("tensor 'output.weight' is stored as IQ4_XS, which no kernel turns into "
                        "bfloat16"));
}

TEST_F(GgufLayers, WhatStandsBesideAModelIsNoModel) {
  Made made("glm4");
  made.attention(kAll);
  made.file().write(folder_ / "model.gguf");
  GgufWriter projector;
  projector.text("general.architecture", "clip");
  projector.floats("v.blk.0.ln1.weight", {4}, {0, 0, 0, 0});
  projector.write(folder_ / "vision-f16.gguf");
  projector.write(folder_ / "mmproj-f16.gguf");
  GgufWriter importances;
  importances.text("general.type", "imatrix");
  importances.floats("blk.0.attn_q.weight.in_sum2", {4}, {0, 0, 0, 0});
  importances.write(folder_ / "matrix.gguf");
  const Model model = open_model(folder_, std::nullopt);
  EXPECT_EQ(model.tree.model_type, "glm4");
  EXPECT_THAT(model.tree.notes, Contains("'mmproj-f16.gguf' is a projector and left out"));
  EXPECT_THAT(model.tree.notes, Contains("'vision-f16.gguf' is a projector and left out"));
  EXPECT_THAT(model.tree.notes, Contains("'matrix.gguf' is an importance matrix and left out"));
  // Named by itself, each is what it is.
  const Model alone = open_model(folder_ / "vision-f16.gguf", std::nullopt);
  EXPECT_EQ(alone.checkpoint->tensors.size(), 1u);
  EXPECT_THAT(alone.tree.notes,
              Contains(HasSubstr("'vision-f16.gguf' is a projector, not a whole model")));
  made.file().write(folder_ / "second.gguf");
  EXPECT_THAT(error_of([&] { open_model(folder_, std::nullopt); }),
              HasSubstr("name that file to open it alone"));
}

}  // namespace
}  // namespace berth
