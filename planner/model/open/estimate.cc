#include "planner/model/open/estimate.h"

#include <algorithm>
#include <optional>
#include <set>
#include <string_view>

#include "berth/error.h"
#include "planner/base/join.h"
#include "planner/base/quote.h"
#include "planner/model/open/named_experts.h"
#include "planner/model/tree/layer_keys.h"
#include "planner/model/tree/tree_builder.h"

namespace berth {
namespace {

constexpr std::string_view kExpertSize[] = {"moe_intermediate_size", "expert_intermediate_size",
                                            "expert_ffn_hidden_size", "moe_ffn_hidden_size",
                                            "ffn_config.ffn_hidden_size"};
constexpr std::string_view kSharedExperts[] = {"n_shared_experts", "num_shared_experts",
                                               "num_shared_expert", "moe_num_shared_experts"};
constexpr std::string_view kSharedSize[] = {"shared_expert_intermediate_size",
                                            "moe_shared_expert_intermediate_size",
                                            "shared_intermediate_size"};
constexpr std::string_view kTowerLayers[] = {"num_hidden_layers", "depth",  "encoder_layers",
                                             "num_layers",        "layers", "n_layer"};
constexpr std::string_view kTowerHidden[] = {"embed_dim", "hidden_size", "d_model", "width"};
constexpr std::string_view kTowerInner[] = {"intermediate_size", "encoder_ffn_dim", "mlp_dim"};
constexpr std::uint64_t kMostLayers = 4096;
constexpr std::uint64_t kMostExperts = 65536;

class Estimate {
 public:
  explicit Estimate(const ModelConfig& config) : config_(config), keys_(config) {}

  EstimatedTensors make() {
    check_layer_keys(keys_);
    dtype_ = dtype_of();
    out_.refused = refusal();
    if (!out_.refused.empty()) return std::move(out_);
    add("model.embed_tokens.weight", {vocabulary_, hidden_});
    for (std::uint64_t i = 0; i < layers_; ++i) add_layer(i);
    add("model.norm.weight", {hidden_});
    add("lm_head.weight", {vocabulary_, hidden_});
    out_.tied = keys_.flag("tie_word_embeddings") == true;
    for (const std::string& tower : towers_) add_tower(tower);
    note();
    return std::move(out_);
  }

 private:
  DType dtype_of() const {
    std::string name = keys_.text("dtype");
    if (name.empty()) name = keys_.text("torch_dtype");
    const auto dtype = parse_torch_dtype(name.empty() ? "float32" : name);
    if (!dtype) throw Error(config_.source() + ": dtype: unknown dtype " + quote(name));
    return *dtype;
  }

  std::uint64_t require(KeyNames names, std::vector<std::string>& missing) const {
    const auto value = keys_.count(names);
    if (!value) missing.emplace_back(names[0]);
    return value.value_or(0);
  }

  // Why the numbers do not tell the weights, or "". Reads them.
  std::string refusal() {
    std::vector<std::string> missing;
    hidden_ = require(keys::kHidden, missing);
    layers_ = require(keys::kLayers, missing);
    heads_ = require(keys::kHeads, missing);
    vocabulary_ = require(keys::kVocabulary, missing);
    experts_ = experts_told(keys_, 0, 0);
    expert_inner_ = keys_.whole(kExpertSize).value_or(0);
    inner_ = keys_.whole(keys::kIntermediate).value_or(expert_inner_);
    if (inner_ == 0) missing.emplace_back(keys::kIntermediate[0]);
    if (!missing.empty()) return "lacks " + join(missing, ", ");
    if (layers_ > kMostLayers || experts_ > kMostExperts) return "has more layers than any model";
    if (expert_inner_ == 0) expert_inner_ = inner_;
    if (keys_.flag("is_encoder_decoder") == true) return "is of an encoder and a decoder";
    said_ = read_layer_keys(keys_, layers_);
    for (const LayerSaid& layer : said_.layers) {
      if (layer.kind == LayerKind::kRecurrent || layer.kind == LayerKind::kHybrid ||
          layer.kind == LayerKind::kCross || layer.kind == LayerKind::kNoAttention) {
        return "has layers other than those of attention, whose weights it does not tell";
      }
    }
    for (const char* key : {"ssm_state_size", "mamba_d_state", "state_size", "linear_key_head_dim",
                            "linear_attn_config.head_dim", "lru_width"}) {
      if (!keys_.find(key).empty()) return "speaks of recurrent layers (" + std::string(key) + ")";
    }
    return towers();
  }

  // The nested configs of towers, each of which must tell its size.
  std::string towers() {
    std::set<std::string> nested;
    for (const std::string& key : config_.keys("")) {
      const std::size_t dot = key.find("_config.");
      if (dot != key.npos) nested.insert(key.substr(0, dot + 8));
    }
    for (const std::string& prefix : nested) {
      if (keys_.prefix().starts_with(prefix) || prefix.starts_with(keys_.prefix() + "rope"))
        continue;
      if (!in_tower(prefix, kTowerLayers) && !in_tower(prefix, kTowerHidden)) {
        constexpr std::string_view kSenses[] = {"vision", "audio", "speech", "visual", "image"};
        if (std::ranges::none_of(kSenses,
                                 [&](auto word) { return prefix.find(word) != prefix.npos; }))
          continue;
      }
      const auto depth = in_tower(prefix, kTowerLayers);
      if (!depth || !in_tower(prefix, kTowerHidden) || *depth > kMostLayers) {
        return "does not tell the size of " + prefix.substr(0, prefix.size() - 1);
      }
      towers_.push_back(prefix);
    }
    return "";
  }

  std::optional<std::uint64_t> in_tower(const std::string& prefix, KeyNames names) const {
    for (const std::string_view name : names) {
      const ModelConfig::Value* value = config_.find(prefix + std::string(name));
      const auto whole = value == nullptr ? std::nullopt : whole_value(*value);
      if (whole && *whole > 0 && *whole < (std::int64_t{1} << 32)) {
        return static_cast<std::uint64_t>(*whole);
      }
    }
    return std::nullopt;
  }

  void add(const std::string& name, Shape shape) {
    TensorInfo info;
    info.name = name;
    info.dtype = dtype_;
    const auto bytes = tensor_bytes(dtype_, shape);
    if (!bytes || __builtin_add_overflow(end_, *bytes, &end_) || end_ >> 62 != 0) {
      throw Error(config_.source() + ": the sizes of all tensors together overflow");
    }
    info.shape = std::move(shape);
    info.begin = end_ - *bytes;
    info.end = end_;
    out_.checkpoint.tensors.push_back(std::move(info));
  }

  void add_layer(std::uint64_t i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    add(layer + "input_layernorm.weight", {hidden_});
    if (keys_.whole("kv_lora_rank").value_or(0) > 0) {
      add_latent(layer + "self_attn.");
    } else {
      add_attention(layer + "self_attn.", i);
    }
    add(layer + "post_attention_layernorm.weight", {hidden_});
    if (is_sparse(i)) return add_mixture(layer + "mlp.", i);
    add_feed_forward(layer + "mlp.",
                     keys_.of_layer(keys::kIntermediate, i, layers_).value_or(inner_));
  }

  std::uint64_t of_layer(KeyNames names, std::uint64_t i, std::uint64_t otherwise) const {
    const auto value = keys_.of_layer(names, i, layers_);
    return value && *value > 0 ? *value : otherwise;
  }

  void add_attention(const std::string& at, std::uint64_t i) {
    const std::uint64_t heads = of_layer(keys::kHeads, i, heads_);
    const std::uint64_t dim = keys_.count(keys::kHeadDim).value_or(hidden_ / heads_);
    const std::uint64_t value_dim = keys_.whole("v_head_dim").value_or(dim);
    const std::uint64_t kv_heads = of_layer(keys::kKvHeads, i, heads);
    add(at + "q_proj.weight", {heads * dim, hidden_});
    add(at + "k_proj.weight", {kv_heads * dim, hidden_});
    add(at + "v_proj.weight", {kv_heads * value_dim, hidden_});
    add(at + "o_proj.weight", {hidden_, heads * value_dim});
  }

  void add_latent(const std::string& at) {
    const std::uint64_t rank = *keys_.whole("kv_lora_rank");
    const std::uint64_t rope = keys_.whole("qk_rope_head_dim").value_or(64);
    const std::uint64_t plain = keys_.whole("qk_nope_head_dim").value_or(128);
    const std::uint64_t value = keys_.whole("v_head_dim").value_or(128);
    const std::uint64_t query = keys_.whole("q_lora_rank").value_or(0);
    const std::uint64_t queries = heads_ * (plain + rope);
    if (query > 0) add(at + "q_a_proj.weight", {query, hidden_});
    add(at + (query > 0 ? "q_b_proj.weight" : "q_proj.weight"),
        {queries, query > 0 ? query : hidden_});
    add(at + "kv_a_proj_with_mqa.weight", {rank + rope, hidden_});
    add(at + "kv_b_proj.weight", {heads_ * (plain + value), rank});
    add(at + "o_proj.weight", {hidden_, heads_ * value});
    if (const auto index = keys_.whole("index_head_dim"); index && *index > 0) {
      add(at + "indexer.wk.weight", {*index, hidden_});
      add(at + "indexer.wq_b.weight",
          {*index * keys_.whole("index_n_heads").value_or(1), query > 0 ? query : hidden_});
    }
  }

  void add_feed_forward(const std::string& at, std::uint64_t inner) {
    if (inner == 0) return;
    add(at + "gate_proj.weight", {inner, hidden_});
    add(at + "up_proj.weight", {inner, hidden_});
    add(at + "down_proj.weight", {hidden_, inner});
  }

  // Which layers have a mixture, where a key says so; else all of them do.
  bool is_sparse(std::uint64_t i) const {
    if (experts_told(keys_, i, layers_) < 2) return false;
    if (i < keys_.whole("first_k_dense_replace").value_or(0)) return false;
    if (const auto* kinds = keys_.list("mlp_layer_types"); kinds != nullptr && i < kinds->size()) {
      return (*kinds)[i] == ModelConfig::Value("sparse");
    }
    if (const auto* dense = keys_.list("mlp_only_layers")) {
      for (const auto& entry : *dense) {
        if (whole_value(entry) == static_cast<std::int64_t>(i)) return false;
      }
    }
    if (const auto* each = keys_.list("moe_layer_freq"); each != nullptr && i < each->size()) {
      return whole_value((*each)[i]).value_or(1) != 0;
    }
    for (const char* key : {"decoder_sparse_step", "interleave_moe_layer_step"}) {
      const auto step = keys_.whole(key);
      if (step && *step > 1 && (i + 1) % *step != 0) return false;
    }
    return true;
  }

  void add_mixture(const std::string& at, std::uint64_t i) {
    const std::uint64_t experts = experts_told(keys_, i, layers_);
    const std::uint64_t inner = of_layer(kExpertSize, i, expert_inner_);
    add(at + "gate.weight", {experts, hidden_});
    add(at + "experts.gate_up_proj", {experts, 2 * inner, hidden_});
    add(at + "experts.down_proj", {experts, hidden_, inner});
    const std::uint64_t shared = keys_.whole(kSharedExperts).value_or(0) * inner;
    add_feed_forward(at + "shared_experts.",
                     std::max(shared, keys_.whole(kSharedSize).value_or(0)));
  }

  // A tower of plain blocks: attention, and a feed-forward block of two matrices.
  void add_tower(const std::string& prefix) {
    const std::uint64_t size = *in_tower(prefix, kTowerHidden);
    const std::uint64_t inner = in_tower(prefix, kTowerInner).value_or(4 * size);
    const std::uint64_t depth = *in_tower(prefix, kTowerLayers);
    const std::string name = prefix.substr(0, prefix.find("_config.")) + "_tower";
    for (std::uint64_t i = 0; i < depth; ++i) {
      const std::string block = name + ".blocks." + std::to_string(i) + ".";
      add(block + "norm.weight", {2, size});
      add(block + "attn.qkv.weight", {3 * size, size});
      add(block + "attn.proj.weight", {size, size});
      add(block + "mlp.fc1.weight", {inner, size});
      add(block + "mlp.fc2.weight", {size, inner});
    }
    out_.guesses.push_back(prefix.substr(0, prefix.size() - 1) + " is taken for " +
                           std::to_string(depth) + " plain blocks of width " +
                           std::to_string(size));
  }

  void note() {
    std::vector<std::string>& guesses = out_.guesses;
    guesses.insert(guesses.begin(),
                   "no template for model_type " + quote(config_.model_type()) +
                       ": its weights are estimated by the numbers of its config alone, as if it "
                       "were built as Llama is; its checkpoint would tell them");
    if (experts_ > 1 && keys_.whole(kExpertSize).value_or(0) == 0) {
      guesses.push_back("no key says how wide an expert is: counted as wide as intermediate_size");
    }
    if (!config_.keys("quantization_config.").empty()) {
      guesses.push_back("quantization_config is not counted: all weights are " +
                        std::string(torch_dtype_name(dtype_)));
    }
  }

  const ModelConfig& config_;
  TextKeys keys_;
  DType dtype_ = DType::kF32;
  std::uint64_t hidden_ = 0;
  std::uint64_t layers_ = 0;
  std::uint64_t heads_ = 0;
  std::uint64_t vocabulary_ = 0;
  std::uint64_t inner_ = 0;
  std::uint64_t experts_ = 0;
  std::uint64_t expert_inner_ = 0;
  LayersSaid said_;
  std::vector<std::string> towers_;  // prefixes of their configs
  std::uint64_t end_ = 0;            // bytes so far
  EstimatedTensors out_;
};

}  // namespace

EstimatedTensors estimate_tensors(const ModelConfig& config) { return Estimate(config).make(); }

}  // namespace berth
