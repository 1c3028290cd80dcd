#include "runtime/exec/family.h"

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
    .norm_eps = 1e-6,
    .rope_theta = 10000,
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
    .activation = "silu",
    .transposed_weights = false,
};

constexpr Family like_llama(std::string_view model_type) {
  Family family = kLlama;
  family.model_type = model_type;
  return family;
}

constexpr Family qwen3() {
  Family family = like_llama("qwen3");
  family.query_norm = "self_attn.q_norm";
  family.key_norm = "self_attn.k_norm";
  return family;
}

constexpr Family phi3() {
  Family family = like_llama("phi3");
  family.norm_eps = 1e-5;
  family.query = family.key = family.value = "";
  family.fused_qkv = "self_attn.qkv_proj";
  family.feed_forward = FeedForward::kFusedGated;
  family.gate = "";
  family.up = "mlp.gate_up_proj";
  return family;
}

constexpr Family mixtral() {
  Family family = like_llama("mixtral");
  family.norm_eps = 1e-5;
  family.rope_theta = 1e6;
  family.feed_forward = FeedForward::kExperts;
  family.gate = "w1";
  family.up = "w3";
  family.down = "w2";
  return family;
}

constexpr Family gemma2() {
  Family family = like_llama("gemma2");
  family.norm = Norm::kRmsPlusOne;
  family.attention_out_norm = "post_attention_layernorm";
  family.feed_forward_norm = "pre_feedforward_layernorm";
  family.feed_forward_out_norm = "post_feedforward_layernorm";
  family.activation_key = "hidden_activation";
  family.activation = "gelu_pytorch_tanh";
  return family;
}

constexpr Family gpt2() {
  Family family = like_llama("gpt2");
  family.embedding = "transformer.wte";
  family.positions = "transformer.wpe";
  family.final_norm = "transformer.ln_f";
  family.norm = Norm::kLayer;
  family.norm_eps_key = "layer_norm_epsilon";
  family.norm_eps = 1e-5;
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
  family.activation = "gelu_new";
  family.transposed_weights = true;
  return family;
}

constexpr std::array kFamilies{
    gpt2(),    kLlama,  like_llama("mistral"), like_llama("qwen2"), qwen3(), phi3(),
    mixtral(), gemma2()};

const Family& find_family(const ModelConfig& config) {
  for (const Family& family : kFamilies) {
    if (family.model_type == config.model_type()) return family;
  }
  throw Error(config.source() + ": model_type " + quote(config.model_type()) +
              " cannot be run (these can: " + join(kFamilies, ", ", &Family::model_type) + ")");
}

Activation find_activation(const ModelConfig& config, const Family& family) {
  const std::string name =
      config.text(family.activation_key).value_or(std::string(family.activation));
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "gelu") return Activation::kGelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") {
    return Activation::kGeluTanh;  // three names of one formula
  }
  if (name == "relu") return Activation::kRelu;
  throw Error(config.source() + ": " + std::string(family.activation_key) + ": " + quote(name) +
              " cannot be run (silu, gelu, gelu_new, gelu_pytorch_tanh and relu can)");
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

std::int64_t require_either(const ModelConfig& config, const char* key, const char* other) {
  const auto value = config.integer(key);
  return value ? *value : config.require_integer(other);
}

std::int64_t require_positive(const ModelConfig& config, const char* what, std::int64_t value) {
  if (value > 0) return value;
  throw Error(config.source() + ": " + what + ": must be positive, not " + std::to_string(value));
}

double attention_scale(const ModelConfig& config, std::int64_t head_dim, std::size_t layer) {
  const double dimensions =
      config.number("query_pre_attn_scalar").value_or(static_cast<double>(head_dim));
  double scale =
      config.boolean("scale_attn_weights").value_or(true) ? 1 / std::sqrt(dimensions) : 1;
  if (config.boolean("scale_attn_by_inverse_layer_idx").value_or(false)) {
    scale /= static_cast<double>(layer + 1);
  }
  return scale;
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
  refuse_unsupported(config, tree);
  recipe.heads = require_positive(config, "num_attention_heads",
                                  require_either(config, "n_head", "num_attention_heads"));
  recipe.kv_heads = require_positive(config, "num_key_value_heads",
                                     config.integer("num_key_value_heads").value_or(recipe.heads));
  if (tree.facts.layers.empty()) throw Error(config.source() + ": the model has no layers");
  if (recipe.heads % recipe.kv_heads != 0) {
    throw Error(config.source() + ": num_key_value_heads: " + std::to_string(recipe.kv_heads) +
                " does not divide " + std::to_string(recipe.heads) + " heads");
  }
  // The architecture template knows each family's default of head_dim, and the size of the KV cache
  // shows it.
  recipe.head_dim = require_positive(
      config, "head_dim",
      static_cast<std::int64_t>(tree.facts.layers.front().kv_elements) / (2 * recipe.kv_heads));
  recipe.norm_eps = config.number(recipe.family->norm_eps_key).value_or(recipe.family->norm_eps);
  recipe.activation = find_activation(config, *recipe.family);
  if (recipe.family->positions.empty()) {
    recipe.rotary = make_rotary(config, recipe.head_dim, recipe.family->rope_theta);
  }
  for (const LayerFacts& layer : tree.facts.layers) {
    recipe.layers.push_back({std::string(tree.modules[layer.module].name), layer.window,
                             attention_scale(config, recipe.head_dim, recipe.layers.size())});
  }
  if (recipe.family->norm == Norm::kRmsPlusOne) {
    recipe.embedding_scale = std::sqrt(static_cast<double>(tree.facts.hidden));
  }
  recipe.attention_softcap = config.number("attn_logit_softcapping").value_or(0);
  recipe.logit_softcap = config.number("final_logit_softcapping").value_or(0);
  if (recipe.family->feed_forward == FeedForward::kExperts) {
    recipe.experts = static_cast<std::int64_t>(tree.facts.layers.front().experts);
    recipe.experts_per_token =
        static_cast<std::int64_t>(tree.facts.layers.front().experts_per_token);
    if (recipe.experts_per_token <= 0 || recipe.experts_per_token > recipe.experts) {
      throw Error(config.source() +
                  ": num_experts_per_tok: " + std::to_string(recipe.experts_per_token) + " of " +
                  std::to_string(recipe.experts) + " experts");
    }
  }
  recipe.max_positions = tree.facts.max_positions;
  return recipe;
}

}  // namespace berth
