#include "runtime/program/family.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "berth/error.h"
#include "planner/base/join.h"
#include "planner/base/quote.h"
#include "planner/model/tree/config.h"

namespace berth {
namespace {

constexpr Family kLlama{
    .model_type = "llama",
    .embedding = "model.embed_tokens",
    .positions = "",
    .final_norm = "model.norm",
    .head = "lm_head",
    .norm = Norm::kRms,
    .norm_eps_key = "rms_norm_eps",
    .kv_heads_key = "num_key_value_heads",
    .partial_rotary = false,
    .layer_types = false,
    .scales_scores = false,
    .query_scalar_key = "",
    .attention_cap_key = "",
    .logit_cap_key = "",
    .attention_norm = "input_layernorm",
    .query = "self_attn.q_proj",
    .key = "self_attn.k_proj",
    .value = "self_attn.v_proj",
    .fused_qkv = "",
    .query_norm = "",
    .key_norm = "",
    .attention_out = "self_attn.o_proj",
    .attention_out_norm = "",
    .feed_forward_norm = "post_attention_layernorm",
    .feed_forward = FeedForward::kGated,
    .gate = "mlp.gate_proj",
    .up = "mlp.up_proj",
    .down = "mlp.down_proj",
    .feed_forward_out_norm = "",
    .activation_key = "hidden_act",
    .transposed_weights = false,
};

constexpr Family like_llama(std::string_view model_type) {
  Family family = kLlama;
  family.model_type = model_type;
  return family;
}

constexpr Family qwen2() {
  Family family = like_llama("qwen2");
  family.layer_types = true;
  return family;
}

constexpr Family qwen3() {
  Family family = qwen2();
  family.model_type = "qwen3";
  family.query_norm = "self_attn.q_norm";
  family.key_norm = "self_attn.k_norm";
  return family;
}

constexpr Family phi3() {
  Family family = like_llama("phi3");
  family.partial_rotary = true;
  family.query = family.key = family.value = "";
  family.fused_qkv = "self_attn.qkv_proj";
  family.feed_forward = FeedForward::kFusedGated;
  family.gate = "";
  family.up = "mlp.gate_up_proj";
  return family;
}

constexpr Family mixtral() {
  Family family = like_llama("mixtral");
  family.feed_forward = FeedForward::kExperts;
  family.gate = "w1";
  family.up = "w3";
  family.down = "w2";
  return family;
}

constexpr Family gemma2() {
  Family family = like_llama("gemma2");
  family.norm = Norm::kRmsPlusOne;
  family.layer_types = true;
  family.query_scalar_key = "query_pre_attn_scalar";
  family.attention_cap_key = "attn_logit_softcapping";
  family.logit_cap_key = "final_logit_softcapping";
  family.attention_out_norm = "post_attention_layernorm";
  family.feed_forward_norm = "pre_feedforward_layernorm";
  family.feed_forward_out_norm = "post_feedforward_layernorm";
  family.activation_key = "hidden_activation";
  return family;
}

constexpr Family gpt2() {
  Family family = like_llama("gpt2");
  family.embedding = "transformer.wte";
  family.positions = "transformer.wpe";
  family.final_norm = "transformer.ln_f";
  family.norm = Norm::kLayer;
  family.norm_eps_key = "layer_norm_epsilon";
  family.kv_heads_key = "";
  family.scales_scores = true;
  family.attention_norm = "ln_1";
  family.query = family.key = family.value = "";
  family.fused_qkv = "attn.c_attn";
  family.attention_out = "attn.c_proj";
  family.feed_forward_norm = "ln_2";
  family.feed_forward = FeedForward::kPlain;
  family.gate = "";
  family.up = "mlp.c_fc";
  family.down = "mlp.c_proj";
  family.activation_key = "activation_function";
  family.transposed_weights = true;
  return family;
}

constexpr std::array kFamilies{gpt2(),    kLlama,  like_llama("mistral"), qwen2(), qwen3(), phi3(),
                               mixtral(), gemma2()};

const Family& find_family(const ModelConfig& config) {
  for (const Family& family : kFamilies) {
    if (family.model_type == config.model_type()) return family;
  }
  throw Error(config.source() + ": model_type " + quote(config.model_type()) +
              " cannot be run (these can: " + join(kFamilies, ", ", &Family::model_type) + ")");
}

[[noreturn]] void fail(const ModelConfig& config, std::string_view key, const std::string& what) {
  throw Error(config.source() + ": " + std::string(key) + ": " + what);
}

std::string require_text(const ModelConfig& config, std::string_view key) {
  const auto value = config.text(key);
  if (!value) fail(config, key, "missing");
  return *value;
}

Activation find_activation(const ModelConfig& config, const Family& family) {
  const std::string name = require_text(config, family.activation_key);
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "gelu") return Activation::kGelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") {
    return Activation::kGeluTanh;  // three names of one formula
  }
  if (name == "relu") return Activation::kRelu;
  fail(config, family.activation_key,
       quote(name) + " cannot be run (silu, gelu, gelu_new, gelu_pytorch_tanh and relu can)");
}

// Throws Error for fields that change what a model computes in ways that the code here cannot.
void refuse_unsupported(const ModelConfig& config, const ModelTree& tree) {
  for (const char* key : {"add_cross_attention", "use_bidirectional_attention"}) {
    if (config.boolean(key).value_or(false)) {
      throw Error(config.source() + ": " + key + ": true cannot be run");
    }
  }
  const bool packed = std::any_of(
      tree.tensors.begin(), tree.tensors.end(),
      [](const ModelTensor& tensor) { return !tensor.buffer && !is_convertible(tensor.dtype); });
  if (!tree.quantization.empty() && packed) {
    throw Error(config.source() + ": " + tree.quantization +
                " weights cannot be run as they are stored; --dequantize makes plain ones of them");
  }
}

std::int64_t require_positive(const ModelConfig& config, std::string_view key, std::int64_t value) {
  if (value > 0) return value;
  fail(config, key, "must be positive, not " + std::to_string(value));
}

// A cap on scores or logits; 0 where there is none, which a null says too.
double cap(const ModelConfig& config, std::string_view key) {
  const auto value = key.empty() ? std::nullopt : config.number(key);
  if (!value) return 0;
  if (!(*value > 0)) fail(config, key, "must be positive, or null for none");
  return *value;
}

double attention_scale(const ModelConfig& config, const Family& family, std::int64_t head_dim,
                       std::size_t layer) {
  auto dimensions = static_cast<double>(head_dim);
  if (!family.query_scalar_key.empty()) {
    dimensions = config.require_number(family.query_scalar_key);
    if (!(dimensions > 0)) fail(config, family.query_scalar_key, "must be positive");
  }
  if (!family.scales_scores) return 1 / std::sqrt(dimensions);
  double scale =
      config.boolean("scale_attn_weights").value_or(true) ? 1 / std::sqrt(dimensions) : 1;
  if (config.boolean("scale_attn_by_inverse_layer_idx").value_or(false)) {
    scale /= static_cast<double>(layer + 1);
  }
  return scale;
}

// Throws Error where `layer_types` asks for attention of another kind than the layers have.
void check_layer_types(const ModelConfig& config, const Family& family,
                       const std::vector<LayerFacts>& layers) {
  const auto* types = config.find_list("layer_types");
  for (std::size_t i = 0; types != nullptr && i < std::min(types->size(), layers.size()); ++i) {
    const auto* name = std::get_if<std::string>(&(*types)[i]);
    const bool slides = name != nullptr && *name == "sliding_attention";
    const std::string layer = "layer " + std::to_string(i);
    if (slides && layers[i].window == 0) {
      fail(config, "layer_types",
           layer +
               " is 'sliding_attention', but sliding_window is missing, or switched off by "
               "use_sliding_window");
    }
    if (family.layer_types && !slides && (name == nullptr || *name != "full_attention")) {
      fail(config, "layer_types",
           layer + " is neither 'full_attention' nor 'sliding_attention', so it cannot be run");
    }
  }
}

void set_heads(const ModelConfig& config, const ModelTree& tree, Recipe& recipe) {
  const Family& family = *recipe.family;
  const std::string_view kv_key =
      family.kv_heads_key.empty() ? "num_attention_heads" : family.kv_heads_key;
  recipe.heads = require_positive(config, "num_attention_heads",
                                  config.require_integer("num_attention_heads"));
  recipe.kv_heads = require_positive(config, kv_key, config.integer(kv_key).value_or(recipe.heads));
  if (recipe.heads % recipe.kv_heads != 0) {
    fail(config, kv_key,
         std::to_string(recipe.kv_heads) + " does not divide " + std::to_string(recipe.heads) +
             " heads");
  }
  // The architecture template knows how each family finds head_dim, and the size of the KV cache
  // shows it.
  recipe.head_dim = require_positive(
      config, "head_dim",
      static_cast<std::int64_t>(tree.facts.layers.front().kv_elements) / (2 * recipe.kv_heads));
}

void set_experts(const ModelConfig& config, const LayerFacts& layer, Recipe& recipe) {
  recipe.experts = static_cast<std::int64_t>(layer.experts);
  recipe.experts_per_token = static_cast<std::int64_t>(layer.experts_per_token);
  if (recipe.experts_per_token <= 0 || recipe.experts_per_token > recipe.experts) {
    fail(config, "num_experts_per_tok",
         std::to_string(recipe.experts_per_token) + " of " + std::to_string(recipe.experts) +
             " experts");
  }
}

}  // namespace

Recipe make_recipe(const Model& model) {
  if (!model.config) {
    // The last note says what weights without a config are, and what makes a model of them.
    const bool noted = model.checkpoint && !model.checkpoint->notes.empty();
    throw Error(model.path.string() + ": cannot be run without a config.json" +
                (noted ? " (" + model.checkpoint->notes.back() + ")" : ""));
  }
  const ModelConfig& config = *model.config;
  const ModelTree& tree = model.tree;
  Recipe recipe;
  recipe.family = &find_family(config);
  const Family& family = *recipe.family;
  refuse_unsupported(config, tree);
  if (tree.find_module(family.head) == nullptr) {
    throw Error(config.source() + ": architectures: " +
                quote(std::string(tree.modules.front().cls)) + " has no head (" +
                std::string(family.head) + ") that gives logits of tokens, so it cannot be run");
  }
  if (tree.facts.layers.empty()) throw Error(config.source() + ": the model has no layers");
  set_heads(config, tree, recipe);
  recipe.norm_eps = config.require_number(family.norm_eps_key);
  recipe.activation = find_activation(config, family);
  if (family.positions.empty()) recipe.rotary = make_rotary(config, family, recipe.head_dim);
  check_layer_types(config, family, tree.facts.layers);
  for (const LayerFacts& layer : tree.facts.layers) {
    recipe.layers.push_back(
        {std::string(tree.modules[layer.module].name), layer.window,
         attention_scale(config, family, recipe.head_dim, recipe.layers.size())});
  }
  if (family.norm == Norm::kRmsPlusOne) {
    recipe.embedding_scale = std::sqrt(static_cast<double>(tree.facts.hidden));
  }
  recipe.attention_softcap = cap(config, family.attention_cap_key);
  recipe.logit_softcap = cap(config, family.logit_cap_key);
  if (family.feed_forward == FeedForward::kExperts) {
    set_experts(config, tree.facts.layers.front(), recipe);
  }
  recipe.max_positions = tree.facts.max_positions;
  return recipe;
}

}  // namespace berth
