// Pipelines of diffusers: which folders are one, what they hold, and what is said of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "berth/error.h"
#include "berth/model.h"
#include "berth/planner.h"
#include "planner/model/open/formats.h"
#include "tests/checkpoint/fixtures.h"
#include "tests/error_of.h"

namespace berth {
namespace {

namespace fs = std::filesystem;
using test::TempFolder;
using ::testing::Contains;
using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr std::uint64_t kMiB = 1 << 20;

// A folder with the components of a small FLUX: two text encoders, a transformer in two shards and
// a VAE.
class Pipeline : public ::testing::Test {
 protected:
  Pipeline() {
    folder_.write("model_index.json", R"({
      "_class_name": "FluxPipeline", "_diffusers_version": "0.32.0", "_name_or_path": "x",
      "feature_extractor": [null, null], "image_encoder": [null, null], "requires_aesthetics": false,
      "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
      "text_encoder": ["transformers", "CLIPTextModel"],
      "text_encoder_2": ["transformers", "T5EncoderModel"],
      "tokenizer": ["transformers", "CLIPTokenizer"],
      "tokenizer_2": ["transformers", "T5TokenizerFast"],
      "transformer": ["diffusers", "FluxTransformer2DModel"],
      "vae": ["diffusers", "AutoencoderKL"]})");
    add("text_encoder", R"({"architectures": ["CLIPTextModel"], "model_type": "clip_text_model"})");
    weights("text_encoder/model.safetensors", "text_model.embeddings.token_embedding.weight",
            {1, kMiB});
    add("text_encoder_2", R"({"architectures": ["T5EncoderModel"], "model_type": "t5"})");
    weights("text_encoder_2/model.safetensors", "shared.weight", {8, kMiB});
    add("transformer", kTransformer);
    weights("transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
            "transformer_blocks.0.attn.to_q.weight", {16, kMiB});
    weights("transformer/diffusion_pytorch_model-00002-of-00002.safetensors",
            "transformer_blocks.10.attn.to_q.weight", {16, kMiB});
    folder_.write("transformer/diffusion_pytorch_model.safetensors.index.json",
                  test::index_json({{"transformer_blocks.0.attn.to_q.weight",
                                     "diffusion_pytorch_model-00001-of-00002.safetensors"},
                                    {"transformer_blocks.10.attn.to_q.weight",
                                     "diffusion_pytorch_model-00002-of-00002.safetensors"}}));
    add("vae", R"({"_class_name": "AutoencoderKL", "block_out_channels": [128, 256]})");
    weights("vae/diffusion_pytorch_model.safetensors", "decoder.conv_in.weight", {4, kMiB});
    fs::create_directory(folder_ / "scheduler");
    fs::create_directory(folder_ / "tokenizer");
  }

  void add(const std::string& component, const std::string& config) {
    fs::create_directory(folder_ / component);
    folder_.write(component + "/config.json", config);
  }
  void weights(const std::string& file, const std::string& tensor, Shape shape,
               DType dtype = DType::kBF16) {
    test::write_safetensors(folder_ / file, {{tensor, dtype, shape}});
  }
  Model open(std::optional<DType> dtype = std::nullopt) const {
    return open_model(folder_.path(), dtype);
  }
  std::string refusal() const {
    const std::string message = error_of([&] { open(); });
    const std::string at = folder_.path().string() + "/";
    return message.starts_with(at) ? message.substr(at.size()) : message;
  }

  static constexpr const char* kTransformer =
      R"({"_class_name": "FluxTransformer2DModel", "num_attention_heads": 24, "hidden_size": 3072,
          "num_hidden_layers": 19, "head_dim": 128})";
  TempFolder folder_;
};

std::vector<std::string> unit_names(const ModelTree& tree) {
  std::vector<std::string> names;
  for (const ModuleId id : execution_units(tree)) names.emplace_back(tree.modules[id].name);
  return names;
}

TEST_F(Pipeline, IsItsComponentsInTheOrderInWhichTheyRun) {
  const Model model = open();
  EXPECT_THAT(model.components,
              ElementsAre("text_encoder", "text_encoder_2", "transformer", "vae"));
  EXPECT_THAT(unit_names(model.tree), ::testing::ElementsAreArray(model.components));
  EXPECT_EQ(model.tree.model_type, "FluxPipeline");
  EXPECT_EQ(model.tree.bytes(), (1 + 8 + 32 + 4) * 2 * kMiB);
  EXPECT_EQ(model.checkpoint->shards.size(), 5u);
  const Module* transformer = model.tree.find_module("transformer");
  ASSERT_NE(transformer, nullptr);
  EXPECT_EQ(transformer->cls, "FluxTransformer2DModel");
  EXPECT_TRUE(transformer->no_split);
  EXPECT_FALSE(transformer->prompt_only) << "it runs at every step";
  EXPECT_TRUE(model.tree.find_module("vae")->prompt_only);
  EXPECT_TRUE(model.tree.find_module("text_encoder_2")->prompt_only);
  EXPECT_NE(model.tree.find_module("transformer.transformer_blocks.10.attn.to_q"), nullptr);
  EXPECT_THAT(model.tree.facts.layers, IsEmpty()) << "nothing of it keeps a KV cache";
  EXPECT_EQ(open(DType::kF32).tree.bytes(), (1 + 8 + 32 + 4) * 4 * kMiB);
}

TEST_F(Pipeline, SaysWhatOffloadingNeedsAndWhatIsNotCounted) {
  const std::vector<std::string> notes = open().tree.notes;
  EXPECT_THAT(notes,
              Contains(HasSubstr("text_encoder 2.0 MiB, text_encoder_2 16.0 MiB, transformer "
                                 "64.0 MiB, vae 8.0 MiB")));
  EXPECT_THAT(notes,
              Contains(HasSubstr("the largest of which is transformer with 64.0 MiB, and "
                                 "host RAM all 90.0 MiB; with enable_sequential_cpu_offload() "
                                 "the gpu holds one layer at a time, 32.0 MiB at most")));
  EXPECT_THAT(notes, Contains(HasSubstr("activations")));
  EXPECT_THAT(notes, Contains(HasSubstr("each step runs transformer;")));
}

TEST_F(Pipeline, KeepsComponentsWholeAndTheTransformerOnTheGpuFirst) {
  const Model model = open();
  Machine machine;
  machine.source = "a test";
  Device device;
  device.name = "0";
  device.capacity = device.total = (512 + 66) * kMiB;  // a context, and the transformer
  machine.devices.push_back(device);
  device.name = "cpu";
  device.kind = DeviceKind::kCpu;
  device.capacity = device.total = 1024 * kMiB;
  machine.devices.push_back(device);
  fill_defaults(machine);
  const Plan plan = make_plan(model.tree, machine, {});
  ASSERT_TRUE(plan.fits());
  EXPECT_EQ(*lookup(plan.device_map, "transformer"), "0");
  EXPECT_EQ(*lookup(plan.device_map, "text_encoder_2"), "cpu");
  for (const DeviceLedger& row : plan.devices) EXPECT_EQ(row.kv_cache, 0u);
  EXPECT_EQ(plan.estimate.score_seconds, 0) << "no time is claimed";
}

TEST_F(Pipeline, IsOneCheckpointForChecksums) {
  const Checkpoint stored = open_stored(folder_.path());
  ASSERT_EQ(stored.tensors.size(), 5u);
  EXPECT_EQ(stored.tensors[0].name, "text_encoder.text_model.embeddings.token_embedding.weight");
  EXPECT_EQ(stored.tensors[4].name, "vae.decoder.conv_in.weight");
  EXPECT_EQ(stored.tensors[4].shard, 4u);
  EXPECT_EQ(checksum_file(folder_.path(), stored), folder_ / "berth.checksums.json");
}

TEST_F(Pipeline, TakesTheVariantThatIsThereAlone) {
  fs::remove_all(folder_ / "vae");
  add("vae", R"({"_class_name": "AutoencoderKL"})");
  weights("vae/diffusion_pytorch_model.fp16.safetensors", "decoder.conv_in.weight", {4, kMiB},
          DType::kF16);
  Model model = open();
  EXPECT_EQ(model.tree.find_module("vae.decoder.conv_in")->tensors.size(), 1u);
  EXPECT_THAT(model.tree.notes, Contains(HasSubstr("vae: holds the variant 'fp16'")));
  // With plain weights beside them these are taken, as diffusers does.
  weights("vae/diffusion_pytorch_model.safetensors", "decoder.conv_in.weight", {4, kMiB},
          DType::kF32);
  model = open();
  EXPECT_EQ(model.tree.bytes(), (1 + 8 + 32) * 2 * kMiB + 16 * kMiB);
  EXPECT_THAT(model.tree.notes, Not(Contains(HasSubstr("variant"))));
  fs::remove(folder_ / "vae/diffusion_pytorch_model.safetensors");
  weights("vae/diffusion_pytorch_model.bf16.safetensors", "decoder.conv_in.weight", {4, kMiB});
  EXPECT_EQ(refusal(),
            "vae: holds the variants 'bf16' and 'fp16' of its weights, and none without: keep one "
            "of them there");
}

TEST_F(Pipeline, TakesVariantsInShards) {
  const auto shard = [&](const char* name, const char* tensor) {
    weights(std::string("transformer/") + name, tensor, {16, kMiB}, DType::kF16);
  };
  // The older spelling, with and without its index, and the newer one.
  for (const bool newer : {false, true}) {
    fs::remove_all(folder_ / "transformer");
    add("transformer", kTransformer);
    shard(newer ? "diffusion_pytorch_model.fp16-00001-of-00002.safetensors"
                : "diffusion_pytorch_model-00001-of-00002.fp16.safetensors",
          "a.weight");
    EXPECT_THAT(refusal(), HasSubstr("is missing (1 of 2 are here)")) << newer;
    shard(newer ? "diffusion_pytorch_model.fp16-00002-of-00002.safetensors"
                : "diffusion_pytorch_model-00002-of-00002.fp16.safetensors",
          "b.weight");
    EXPECT_EQ(open().checkpoint->shards.size(), 5u) << newer;
  }
  folder_.write("transformer/diffusion_pytorch_model.safetensors.index.fp16.json",
                test::index_json({{"a.weight",
                                   "diffusion_pytorch_model.fp16-00003-of-00003."
                                   "safetensors"}}));
  EXPECT_THAT(refusal(), HasSubstr("index.fp16.json: shard"));
}

TEST_F(Pipeline, NamesWhatIsMissingOrMalformed) {
  fs::remove(folder_ / "vae/diffusion_pytorch_model.safetensors");
  EXPECT_THAT(refusal(), HasSubstr("vae: holds no .safetensors file"));
  fs::remove_all(folder_ / "vae");
  EXPECT_EQ(
      refusal(),
      "model_index.json: vae: the component 'AutoencoderKL' is missing: no folder 'vae' beside "
      "the file");
  const auto with_index = [&](const std::string& text) {
    folder_.write("model_index.json", text);
    return refusal();
  };
  EXPECT_EQ(with_index(R"({"vae": ["diffusers", "AutoencoderKL"]})"),
            "model_index.json: '_class_name' is missing");
  EXPECT_EQ(with_index(R"({"_class_name": "X", "vae": ["diffusers"]})"),
            "model_index.json: vae: a component is a list of a library and a class");
  EXPECT_EQ(with_index(R"({"_class_name": "X", "../vae": ["diffusers", "AutoencoderKL"]})"),
            "model_index.json: ../vae: '../vae' is no name of a folder");
  EXPECT_EQ(with_index(R"({"_class_name": "X", "scheduler": ["diffusers", "DDIMScheduler"]})"),
            "model_index.json: names no component that has weights");
  EXPECT_THAT(with_index("{"), HasSubstr("not valid JSON"));
}

// A component by itself: its blocks are units, and what its config is called like in language
// models means nothing.
TEST_F(Pipeline, ComponentsOpenByThemselves) {
  const Model model = open_model(folder_ / "transformer", std::nullopt);
  EXPECT_EQ(model.tree.model_type, "FluxTransformer2DModel");
  EXPECT_THAT(unit_names(model.tree), ElementsAre("transformer_blocks.0", "transformer_blocks.10"));
  EXPECT_THAT(model.tree.facts.layers, IsEmpty());
  EXPECT_THAT(model.components, IsEmpty());
  EXPECT_THAT(model.tree.notes, Contains(HasSubstr("a component of a diffusers pipeline")));
  EXPECT_EQ(
      open_model(folder_ / "vae/diffusion_pytorch_model.safetensors", std::nullopt).tree.model_type,
      "AutoencoderKL");
  EXPECT_THAT(
      error_of([&] { open_model(folder_ / "transformer/config.json", std::nullopt); }),
      HasSubstr("the config of FluxTransformer2DModel, a component of a diffusers pipeline"));
}

}  // namespace
}  // namespace berth
