// A model in block formats, run as it is stored, against its own dequantised form run by libtorch.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "berth/loader.h"
#include "berth/planner.h"
#include "cuda/block_format.h"
#include "cuda/cast.h"
#include "runtime/exec/executor.h"
#include "runtime/load/environment.h"
#include "tests/cli/temporary_folder.h"
#include "tests/error_of.h"
#include "tests/model/gguf_writer.h"
#include "tests/program/made_model.h"

namespace berth::testing {
namespace {

using ::testing::HasSubstr;

struct Format {
  const char* name;
  BlockFormat id;
  std::uint32_t ggml;    // its number in GGUF
  std::size_t scale_at;  // of the f16 in a block
  float scale;           // which makes elements of about 0.05
  float minimum = 0;     // another f16, which follows the scale; 0: there is none
};
constexpr Format kFormats[] = {{"Q4_0", BlockFormat::kQ4_0, 2, 0, 0.01F},
                               {"Q4_1", BlockFormat::kQ4_1, 3, 0, 0.01F, -0.075F},
                               {"Q5_0", BlockFormat::kQ5_0, 6, 0, 0.005F},
                               {"Q5_1", BlockFormat::kQ5_1, 7, 0, 0.005F, -0.075F},
                               {"Q8_0", BlockFormat::kQ8_0, 8, 0, 0.0007F},
                               {"Q4_K", BlockFormat::kQ4_K, 12, 0, 0.0003F, 0.0024F},
                               {"Q5_K", BlockFormat::kQ5_K, 13, 0, 0.00015F, 0.0024F},
                               {"Q6_K", BlockFormat::kQ6_K, 14, 208, 0.00004F}};

constexpr std::uint64_t kHidden = 256, kInner = 512, kHeads = 8, kKvHeads = 4, kHeadDim = 32;
constexpr std::uint64_t kVocabulary = 75, kLayers = 2, kExperts = 3;

// Writes a llama model, or one with experts, whose matrices have `format`.
class PackedModel {
 public:
  PackedModel(const Format& format, bool experts) : format_(format), experts_(experts) {}

  void write(const std::filesystem::path& path) {
    file_.text("general.architecture", "llama");
    file_.u32("llama.embedding_length", kHidden);
    file_.u32("llama.block_count", kLayers);
    file_.u32("llama.context_length", 128);
    file_.u32("llama.feed_forward_length", kInner);
    file_.u32("llama.attention.head_count", kHeads);
    file_.u32("llama.attention.head_count_kv", kKvHeads);
    file_.u32("llama.rope.dimension_count", kHeadDim);
    file_.f32("llama.attention.layer_norm_rms_epsilon", 1e-5F);
    if (experts_) {
      file_.u32("llama.expert_count", kExperts);
      file_.u32("llama.expert_used_count", 2);
    }
    matrix("token_embd.weight", {kVocabulary, kHidden});  // and the head
    norm("output_norm.weight");
    for (std::uint64_t i = 0; i < kLayers; ++i) layer("blk." + std::to_string(i) + ".");
    file_.write(path);
  }

 private:
  void layer(const std::string& name) {
    norm(name + "attn_norm.weight");
    norm(name + "ffn_norm.weight");
    matrix(name + "attn_q.weight", {kHeads * kHeadDim, kHidden});
    matrix(name + "attn_k.weight", {kKvHeads * kHeadDim, kHidden});
    matrix(name + "attn_v.weight", {kKvHeads * kHeadDim, kHidden});
    matrix(name + "attn_output.weight", {kHidden, kHeads * kHeadDim});
    if (experts_) {
      file_.floats(name + "ffn_gate_inp.weight", {kExperts, kHidden}, normal(kExperts * kHidden));
      for (const char* which : {"ffn_gate_exps", "ffn_up_exps"}) {
        matrix(name + which + ".weight", {kExperts, kInner, kHidden});
      }
      matrix(name + "ffn_down_exps.weight", {kExperts, kHidden, kInner});
      return;
    }
    matrix(name + "ffn_gate.weight", {kInner, kHidden});
    matrix(name + "ffn_up.weight", {kInner, kHidden});
    matrix(name + "ffn_down.weight", {kHidden, kInner});
  }

  std::vector<float> normal(std::size_t count) {
    std::vector<float> values(count);
    for (float& value : values) value = 0.1F * std::normal_distribution<float>()(random_);
    return values;
  }
  void norm(const std::string& name) {
    std::vector<float> values = normal(kHidden);
    for (float& value : values) value += 1;
    file_.floats(name, {kHidden}, values);
  }

  // Any bits, with scales that make elements of about the size that weights have.
  void matrix(const std::string& name, const std::vector<std::uint64_t>& shape) {
    const auto [elements, size] = block_size(format_.id);
    std::uint64_t count = 1;
    for (const std::uint64_t each : shape) count *= each;
    std::string bytes(count / elements * size, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random_());
    for (std::size_t at = 0; at < bytes.size(); at += size) {
      const float scale = format_.scale * (1 + 0.2F * normal(1)[0]);
      put(scale, bytes.data() + at + format_.scale_at);
      if (format_.minimum != 0) put(format_.minimum, bytes.data() + at + 2);
    }
    file_.tensor(name, format_.ggml, shape, bytes);
  }
  static void put(float value, char* at) {
    cast_reference(&value, FloatFormat::kF32, at, FloatFormat::kF16, 1);
  }

  const Format& format_;
  bool experts_;
  GgufWriter file_;
  std::mt19937 random_{29};
};

using Logits = std::vector<std::vector<float>>;

class PackedRun : public ::testing::TestWithParam<Format> {
 protected:
  // Loads the model with its tensors at `where` and runs a prompt.
  Logits logits(const Model& model, const Where& where, Kernels kernels, bool tile,
                CpuMemory memory = CpuMemory::kPrivate) {
    Plan plan = made_plan(model.tree, where);
    plan.cpu_memory = memory;
    for (DeviceLedger& device : plan.devices) device.capacity = 1u << 30;
    LoadOptions load_options;
    load_options.emulate = true;
    load_options.tile = tile;
    const auto loaded = load(model, plan, load_options, LoadEnvironment{});
    tiled_ = 0;
    for (TensorId id = 0; id < model.tree.tensors.size(); ++id) {
      tiled_ += loaded->tensor(id).tiled_rows > 0;
    }
    RunOptions options;
    options.prompt_ids = {1, 5, 9, 33, 74, 2, 5};
    options.new_tokens = 4;
    options.stop_at_end_of_text = false;
    options.kernels = kernels;
    options.logits_file = folder_.path() / "logits.safetensors";
    new_ids_ = run(model, plan, *loaded, options).new_ids;
    return read_logits(*options.logits_file);
  }

  std::filesystem::path written(bool experts) {
    const auto path = folder_.path() / "model.gguf";
    PackedModel(GetParam(), experts).write(path);
    return path;
  }

  TemporaryFolder folder_;
  std::size_t tiled_ = 0;
  std::vector<std::int64_t> new_ids_;
};

void expect_close(const Logits& found, const Logits& expected) {
  ASSERT_EQ(found.size(), expected.size());
  float most = 0;
  for (const auto& row : expected) {
    for (const float value : row) most = std::max(most, std::fabs(value));
  }
  ASSERT_GT(most, 0.1F);
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_THAT(found[i], ::testing::Pointwise(::testing::FloatNear(1e-4F * most), expected[i]));
  }
}

std::uint32_t on_cpu(const ModelTensor&, TensorId) { return kCpu; }
std::uint32_t by_turns(const ModelTensor&, TensorId id) { return id % 4; }

TEST_P(PackedRun, GivesTheLogitsOfTheDequantisedFormWhereverWeightsAre) {
  for (const bool experts : {false, true}) {
    const auto path = written(experts);
    const Model plain = open_model(path, DType::kF32, Dequantize::kYes);
    const Logits expected = logits(plain, on_cpu, Kernels::kReference, false);
    const std::vector<std::int64_t> ids = new_ids_;
    const Model stored = open_model(path, std::nullopt);
    const Logits tiled = logits(stored, on_cpu, Kernels::kOwn, true);
    EXPECT_EQ(tiled_, experts ? 28 : 16);  // all matrices, and the head once more
    expect_close(tiled, expected);
    EXPECT_EQ(new_ids_, ids);
    EXPECT_EQ(logits(stored, by_turns, Kernels::kOwn, true), tiled);
    EXPECT_EQ(logits(stored, on_cpu, Kernels::kOwn, false), tiled);
    EXPECT_EQ(tiled_, 0);
    EXPECT_EQ(logits(stored, on_cpu, Kernels::kOwn, true, CpuMemory::kMmap), tiled);
    EXPECT_EQ(tiled_, 2 * kLayers) << "rotary rows are put in order, so they are not mapped";
  }
}

TEST_P(PackedRun, IsRefusedWhereNoKernelComputes) {
  const Model stored = open_model(written(false), std::nullopt);
  EXPECT_EQ(why_not_as_stored(stored), "");
  RunOptions options;
  options.prompt_ids = {1};
  options.kernels = Kernels::kReference;
  EXPECT_THAT(error_of([&] { check_run(stored, options); }),
              HasSubstr("cannot be run as they are stored (--kernels reference computes with plain "
                        "weights of one dtype); --dequantize, or --dtype, makes plain ones"));
}

INSTANTIATE_TEST_SUITE_P(Formats, PackedRun, ::testing::ValuesIn(kFormats),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace berth::testing
