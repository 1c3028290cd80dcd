#include "planner/model/gguf/layers.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "berth/error.h"
#include "planner/base/quote.h"
#include "planner/base/saturating.h"
#include "planner/model/gguf/keys.h"
#include "planner/model/gguf/layer_tensors.h"
#include "planner/model/gguf/windows.h"

namespace berth {
namespace {

// Architectures for which llama.cpp keeps nothing between tokens, whatever the file says
// (llama_model::create_memory): encoders, and models that write a whole text at once.
constexpr std::string_view kEncoders[] = {
    "bert",      "modern-bert",     "nomic-bert",   "nomic-bert-moe",
    "neo-bert",  "jina-bert-v2",    "jina-bert-v3", "eurobert",
    "t5encoder", "gemma-embedding", "llama-embed",  "wavtokenizer-dec"};
constexpr std::string_view kWholeTexts[] = {"dream", "llada", "llada-moe", "rnd1"};

constexpr std::uint64_t kMostLayers = 65'536;
constexpr std::uint64_t kStateElementBytes = 4;    // llama.cpp keeps recurrent states in F32
constexpr std::uint64_t kOwnCachesOfGemma3n = 20;  // where the file does not say how many

bool is_one_of(std::string_view name, std::span<const std::string_view> names) {
  return std::ranges::find(names, name) != names.end();
}

class LayerReader {
 public:
  LayerReader(const GgufHeader& header, const std::vector<TensorInfo>& tensors)
      : header_(header),
        architecture_(header.text("general.architecture").value_or("")),
        keys_(header, architecture_),
        all_(tensors) {}

  GgufLayers read() {
    for (const std::string_view list : {"dec.blk", "blk", "enc.blk"}) {
      out_.list = list;
      tensors_ = gguf_layer_tensors(all_, out_.list);
      if (!tensors_.empty()) break;
    }
    read_model();
    if (!count_layers()) return std::move(out_);
    read_lists();
    for (std::uint64_t i = 0; i < layers_; ++i) out_.facts.layers.push_back(read_layer(i));
    note_unread();
    return std::move(out_);
  }

 private:
  void read_model() {
    ModelFacts& facts = out_.facts;
    facts.hidden = keys_.find("embedding_length").value_or(0);
    facts.intermediate = keys_.greatest("feed_forward_length");
    if (facts.intermediate == 0) {
      facts.intermediate = times(keys_.greatest("expert_feed_forward_length"),
                                 std::max<std::uint64_t>(1, keys_.greatest("expert_used_count")));
    }
    facts.heads = keys_.greatest("attention.head_count");
    facts.max_positions = keys_.find("context_length").value_or(0);
    facts.vocabulary = keys_.find("vocab_size").value_or(0);
    const auto embedding = std::ranges::find(all_, "token_embd.weight", &TensorInfo::name);
    if (embedding != all_.end() && embedding->shape.size() == 2) {
      facts.vocabulary = embedding->shape[0];
      if (facts.hidden == 0) facts.hidden = embedding->shape[1];
    }
    const bool causal = header_.boolean(keys_.key("attention.causal")).value_or(true);
    keeps_nothing_ =
        !causal || is_one_of(architecture_, kEncoders) || is_one_of(architecture_, kWholeTexts);
    out_.language_model = embedding != all_.end() && !is_one_of(architecture_, kEncoders) &&
                          (causal || is_one_of(architecture_, kWholeTexts));
  }

  // How many layers the decoder has, and how many follow it that predict further tokens. False for
  // a file that has none.
  bool count_layers() {
    const bool decoder = out_.list == "dec.blk";
    std::optional<std::uint64_t> count;
    if (decoder) count = keys_.find("decoder_block_count");
    if (!count) count = keys_.find("block_count");
    if (tensors_.empty() && (!count || all_.empty())) {
      if (all_.empty()) throw Error(header_.source() + ": holds no tensors");
      out_.list.clear();
      out_.notes.push_back(keys_.key("block_count") +
                           " is missing: the longest list of modules counts as the layers, and "
                           "no KV cache is planned");
      return false;
    }
    if (!count) {
      out_.notes.push_back(keys_.key("block_count") + " is missing: planned with the " +
                           std::to_string(tensors_.size()) + " layers that have tensors");
    }
    blocks_ = count.value_or(tensors_.size());
    if (blocks_ > kMostLayers) keys_.fail("block_count", "is more than a model may have");
    const std::uint64_t prediction = decoder ? 0 : keys_.find("nextn_predict_layers").value_or(0);
    if (prediction >= blocks_ && prediction > 0) {
      keys_.fail("nextn_predict_layers", std::to_string(prediction) + " of " +
                                             std::to_string(blocks_) + " layers leave no decoder");
    }
    out_.prediction_layers = prediction;
    // Counted in block_count, as llama.cpp's converter has it, unless the tensors say otherwise.
    layers_ = tensors_.size() > blocks_ ? blocks_ : blocks_ - prediction;
    check_layers(layers_ + prediction);
    return true;
  }

  void check_layers(std::uint64_t most) {
    const std::string said = keys_.key("block_count") + " is " + std::to_string(blocks_);
    if (tensors_.size() > most) {
      throw Error(header_.source() + ": " + said + ", but the file holds tensors of layer " +
                  std::to_string(tensors_.size() - 1));
    }
    for (std::uint64_t i = 0; i < layers_; ++i) {
      if (i < tensors_.size() && !tensors_[i].empty()) continue;
      if (architecture_ == "deci") continue;  // a NAS may leave nothing of a layer
      throw Error(header_.source() + ": " + said + ", but the file holds no tensor of layer " +
                  std::to_string(i));
    }
    tensors_.resize(std::max<std::uint64_t>(tensors_.size(), layers_));
  }

  void read_lists() {
    const std::uint64_t count = blocks_;
    key_heads_ = keys_.by_layer("attention.head_count_kv", count);
    if (key_heads_.empty()) key_heads_ = keys_.by_layer("attention.head_count", count);
    experts_ = keys_.by_layer("expert_count", count);
    used_experts_ = keys_.by_layer("expert_used_count", count);
    if (!keeps_nothing_) windows_ = gguf_windows(keys_, architecture_, count, out_.notes);
    windows_.resize(count, 0);
    const std::uint64_t heads = keys_.first_of("attention.head_count").value_or(0);
    const std::uint64_t otherwise = heads == 0 ? 0 : out_.facts.hidden / heads;
    key_lengths_ = keys_.by_layer("attention.key_length", count);
    value_lengths_ = keys_.by_layer("attention.value_length", count);
    if (key_lengths_.empty()) key_lengths_.assign(count, otherwise);
    if (value_lengths_.empty()) value_lengths_.assign(count, otherwise);
    const bool gemma3n = architecture_ == "gemma3n" && layers_ > kOwnCachesOfGemma3n;
    shared_ = keys_.find("attention.shared_kv_layers")
                  .value_or(gemma3n ? layers_ - kOwnCachesOfGemma3n : 0);
    if (shared_ > layers_) {
      keys_.fail("attention.shared_kv_layers", "is more than there are layers");
    }
  }

  LayerFacts read_layer(std::uint64_t i) {
    LayerFacts layer;
    read_experts(i, layer);
    if (keeps_nothing_) return layer;
    layer.state_bytes = times(state_elements(i), kStateElementBytes);
    if (!attends(i)) return layer;
    layer.window = windows_[i];
    layer.shares_cache = i >= layers_ - shared_;
    read_attention(i, layer);
    const GgufLayerTensors& tensors = tensors_[i];
    if (tensors.has("cross_attn_k")) {
      layer.cross_elements = times(plus(tensors.rows("cross_attn_k"), tensors.rows("cross_attn_v")),
                                   out_.facts.max_positions);
    }
    return layer;
  }

  // Whether a layer keeps keys and values of the positions. Qwen's linear attention has one matrix
  // for queries, keys and values, too.
  bool attends(std::uint64_t i) const {
    if (!key_heads_.empty() && key_heads_[i] == 0) return false;
    const GgufLayerTensors& tensors = tensors_[i];
    if (tensors.has_any({"attn_k", "attn_kv_a_mqa", "attn_kv"})) return true;
    if (tensors.has("attn_qkv")) return !tensors.has_prefix("ssm_");
    return i >= layers_ - shared_ && tensors.has("attn_q");
  }

  void read_attention(std::uint64_t i, LayerFacts& layer) {
    const GgufLayerTensors& tensors = tensors_[i];
    const auto latent = keys_.find("attention.kv_lora_rank");
    const bool absorbed =
        keys_.header().has(keys_.key("attention.key_length_mla")) || tensors.has("attn_k_b");
    if (latent && absorbed && tensors.has("attn_kv_a_mqa")) {
      layer.kv_elements = tensors.rows("attn_kv_a_mqa");
      if (layer.kv_elements == 0) {
        layer.kv_elements = plus(*latent, keys_.find("rope.dimension_count").value_or(0));
      }
      layer.head_size = layer.kv_elements;
      if (tensors.has_prefix("indexer.")) {
        layer.kv_elements =
            plus(layer.kv_elements, keys_.find("attention.indexer.key_length").value_or(0));
      }
      return;
    }
    std::uint64_t key = key_lengths_[i];
    std::uint64_t value = value_lengths_[i];
    if (layer.window > 0) {
      key = keys_.find("attention.key_length_swa").value_or(key);
      value = keys_.find("attention.value_length_swa").value_or(value);
    }
    const std::uint64_t heads = key_heads_.empty() ? 0 : key_heads_[i];
    layer.kv_elements = times(heads, plus(key, value));
    layer.head_size = std::gcd(key, value);
    compare_with_tensors(i, layer);
  }

  // Keys and values have as many elements as their matrices have rows.
  void compare_with_tensors(std::uint64_t i, LayerFacts& layer) {
    const std::uint64_t keys = tensors_[i].rows("attn_k");
    const std::uint64_t values = tensors_[i].rows("attn_v");
    if (keys == 0 || values == 0 || plus(keys, values) == layer.kv_elements) return;
    if (layer.kv_elements == 0) {
      unknown_heads_ = true;
    } else if (!odd_layer_) {
      odd_layer_ = i;
    }
    layer.kv_elements = std::max(layer.kv_elements, plus(keys, values));
    layer.head_size = 0;
  }

  // Of what a layer keeps whatever the context, as n_embd_r() and n_embd_s() in llama-hparams.cpp.
  std::uint64_t state_elements(std::uint64_t i) const {
    const GgufLayerTensors& tensors = tensors_[i];
    const std::uint64_t hidden = out_.facts.hidden;
    if (tensors.has_prefix("time_mix_")) {  // RWKV
      const std::uint64_t shifts = keys_.find("token_shift_count").value_or(2);
      return times(hidden, plus(shifts, require("wkv.head_size")));
    }
    if (tensors.has_prefix("shortconv.")) {
      return times(hidden, less_one(kernel(i, "shortconv.l_cache", "shortconv.conv")));
    }
    if (tensors.has("ssm_conv1d_q")) {  // Kimi's delta attention
      const std::uint64_t size = require("kda.head_dim");
      const std::uint64_t inner = times(keys_.greatest("attention.head_count"), size);
      const std::uint64_t taps = less_one(kernel(i, "ssm.conv_kernel", "ssm_conv1d_q"));
      return plus(times(times(3, taps), inner), times(inner, size));
    }
    if (!tensors.has("ssm_conv1d")) return 0;
    const std::uint64_t inner = require("ssm.inner_size");
    const std::uint64_t state = require("ssm.state_size");
    const std::uint64_t groups = keys_.find("ssm.group_count").value_or(0);
    const std::uint64_t wide = plus(inner, times(2, times(groups, state)));
    const std::uint64_t taps = less_one(kernel(i, "ssm.conv_kernel", "ssm_conv1d"));
    return plus(times(taps, wide), times(state, inner));
  }

  static std::uint64_t less_one(std::uint64_t number) { return number == 0 ? 0 : number - 1; }

  std::uint64_t require(std::string_view name) const {
    const auto value = keys_.find(name);
    if (!value)
      keys_.fail(name, "is missing, and the states of the layers have no size without it");
    return *value;
  }

  // How many positions a convolution reads: by its key, else by its weight [channels, kernel].
  std::uint64_t kernel(std::uint64_t i, std::string_view name, std::string_view module) const {
    if (const auto value = keys_.find(name)) return *value;
    const TensorInfo* weight = tensors_[i].find(module);
    return weight == nullptr || weight->shape.empty() ? require(name) : weight->shape.back();
  }

  void read_experts(std::uint64_t i, LayerFacts& layer) {
    layer.experts = tensors_[i].experts();
    if (layer.experts == 0) return;
    if (!experts_.empty() && experts_[i] != layer.experts) {
      keys_.fail("expert_count", "is " + std::to_string(experts_[i]) + ", but layer " +
                                     std::to_string(i) + " holds " + std::to_string(layer.experts) +
                                     " experts");
    }
    const std::uint64_t used = used_experts_.empty() ? 0 : used_experts_[i];
    if (used > layer.experts) {
      keys_.fail("expert_used_count", "is more than there are experts");
    }
    all_experts_ = all_experts_ || used == 0;
    layer.experts_per_token = used == 0 ? layer.experts : used;
  }

  void note_unread() {
    if (all_experts_) {
      out_.notes.push_back(keys_.key("expert_used_count") +
                           " is missing: planned as if a token read all experts");
    }
    if (unknown_heads_) {
      out_.notes.push_back(keys_.key("attention.head_count") +
                           " is missing: keys and values are as large as their matrices");
    }
    if (odd_layer_) {
      out_.notes.push_back("the keys and values of layer " + std::to_string(*odd_layer_) +
                           " have other sizes by their matrices than by " +
                           keys_.key("attention.head_count_kv") + ": planned with the larger ones");
    }
  }

  const GgufHeader& header_;
  std::string architecture_;
  GgufKeys keys_;
  const std::vector<TensorInfo>& all_;
  std::vector<GgufLayerTensors> tensors_;  // by layer, those that predict included
  GgufLayers out_;
  std::uint64_t blocks_ = 0;  // as the file counts layers
  std::uint64_t layers_ = 0;  // of the decoder
  std::uint64_t shared_ = 0;  // the last so many read the caches of others
  // By layer; empty where the file does not say.
  std::vector<std::uint64_t> key_heads_, key_lengths_, value_lengths_;
  std::vector<std::uint64_t> experts_, used_experts_, windows_;
  bool keeps_nothing_ = false;
  bool all_experts_ = false;
  bool unknown_heads_ = false;
  std::optional<std::uint64_t> odd_layer_;
};

}  // namespace

GgufLayers gguf_layers(const GgufHeader& header, const std::vector<TensorInfo>& tensors) {
  return LayerReader(header, tensors).read();
}

}  // namespace berth
