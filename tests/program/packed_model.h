// Small GGUF files whose matrices are in block formats.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "cuda/block_format.h"
#include "cuda/cast.h"
#include "tests/model/gguf_writer.h"

namespace berth::testing {

struct PackedFormat {
  const char* name;
  BlockFormat id;
  std::uint32_t ggml;    // its number in GGUF
  std::size_t scale_at;  // of the f16 in a block
  float scale;           // which makes elements of about 0.05
  float minimum = 0;     // another f16, which follows the scale; 0: there is none
};
inline constexpr PackedFormat kPackedFormats[] = {
    {"Q4_0", BlockFormat::kQ4_0, 2, 0, 0.01F},
    {"Q4_1", BlockFormat::kQ4_1, 3, 0, 0.01F, -0.075F},
    {"Q5_0", BlockFormat::kQ5_0, 6, 0, 0.005F},
    {"Q5_1", BlockFormat::kQ5_1, 7, 0, 0.005F, -0.075F},
    {"Q8_0", BlockFormat::kQ8_0, 8, 0, 0.0007F},
    {"Q4_K", BlockFormat::kQ4_K, 12, 0, 0.0003F, 0.0024F},
    {"Q5_K", BlockFormat::kQ5_K, 13, 0, 0.00015F, 0.0024F},
    {"Q6_K", BlockFormat::kQ6_K, 14, 208, 0.00004F}};

// Writes a llama model, or one with experts, whose matrices have `format`.
class PackedModel {
 public:
  static constexpr std::uint64_t kHidden = 256, kInner = 512;
  static constexpr std::uint64_t kHeads = 8, kKvHeads = 4, kHeadDim = 32;
  static constexpr std::uint64_t kVocabulary = 75, kLayers = 2, kExperts = 3;

  PackedModel(const PackedFormat& format, bool experts) : format_(format), experts_(experts) {}

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

  const PackedFormat& format_;
  bool experts_;
  GgufWriter file_;
  std::mt19937 random_{29};
};

}  // namespace berth::testing
