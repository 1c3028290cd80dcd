#include "runtime/program/family.h"

#include <array>

namespace berth {
namespace {

constexpr Family kLlama;

constexpr Family like(Family family, std::string_view model_type) {
  family.model_type = model_type;
  return family;
}

constexpr Family qwen2() {
  Family family = like(kLlama, "qwen2");
  family.attention.layer_types = true;
  return family;
}

constexpr Family qwen3() {
  Family family = like(qwen2(), "qwen3");
  family.attention.query_norm = "self_attn.q_norm";
  family.attention.key_norm = "self_attn.k_norm";
  return family;
}

constexpr Family phi3() {
  Family family = like(kLlama, "phi3");
  family.rotary.partial = true;
  family.attention.fused = "self_attn.qkv_proj";
  family.feed_forward.kind = FeedForward::kFusedGated;
  family.feed_forward.up = "gate_up_proj";
  return family;
}

constexpr Family mixtral() {
  Family family = like(kLlama, "mixtral");
  family.mixture.router = "mlp.gate";
  family.mixture.gate = "w1";
  family.mixture.up = "w3";
  family.mixture.down = "w2";
  return family;
}

constexpr Family qwen2_moe() {
  Family family = like(qwen2(), "qwen2_moe");
  family.mixture.router = "mlp.gate";
  family.mixture.normalize_key = "norm_topk_prob";
  family.mixture.shared.block = "mlp.shared_expert";
  family.mixture.shared_gate = "mlp.shared_expert_gate";
  return family;
}

constexpr Family qwen3_moe() {
  Family family = like(qwen3(), "qwen3_moe");
  family.attention.layer_types = false;
  family.mixture.router = "mlp.gate";
  family.mixture.normalize_key = "norm_topk_prob";
  return family;
}

constexpr Family glm4_moe() {
  Family family = like(qwen3(), "glm4_moe");
  family.attention.layer_types = false;
  family.rotary.partial = true;
  family.mixture.router = "mlp.gate";
  family.mixture.shared.block = "mlp.shared_experts";
  family.mixture.score = RouterScore::kSigmoid;
  family.mixture.correction = "mlp.gate.e_score_correction_bias";
  family.mixture.normalize_key = "norm_topk_prob";
  family.mixture.groups_key = "n_group";
  family.mixture.picked_groups_key = "topk_group";
  family.mixture.scale_key = "routed_scaling_factor";
  return family;
}

constexpr Family gemma2() {
  Family family = like(kLlama, "gemma2");
  family.ends.root_scale = true;
  family.ends.logit_cap_key = "final_logit_softcapping";
  family.norms.kind = Norm::kRmsPlusOne;
  family.norms.attention_out = "post_attention_layernorm";
  family.norms.feed_forward = "pre_feedforward_layernorm";
  family.norms.feed_forward_out = "post_feedforward_layernorm";
  family.attention.layer_types = true;
  family.attention.query_scalar_key = "query_pre_attn_scalar";
  family.attention.cap_key = "attn_logit_softcapping";
  family.feed_forward.activation_key = "hidden_activation";
  return family;
}

// Layers with linear attention beside those with attention; config.json says which.
constexpr Family qwen3_5_text() {
  Family family = like(qwen3(), "qwen3_5_text");
  family.norms.kind = Norm::kRmsPlusOne;
  family.attention.layer_types = false;
  family.attention.gated = true;
  family.rotary.partial = true;
  return family;
}

constexpr Family gpt2() {
  Family family = like(kLlama, "gpt2");
  family.ends.embedding = "transformer.wte";
  family.ends.positions = "transformer.wpe";
  family.ends.final_norm = "transformer.ln_f";
  family.norms.kind = Norm::kLayer;
  family.norms.epsilon_key = "layer_norm_epsilon";
  family.norms.attention = "ln_1";
  family.norms.feed_forward = "ln_2";
  family.attention.kv_heads_key = "";
  family.attention.fused = "attn.c_attn";
  family.attention.out = "attn.c_proj";
  family.attention.scales_scores = true;
  family.feed_forward.kind = FeedForward::kPlain;
  family.feed_forward.activation_key = "activation_function";
  family.feed_forward.up = "c_fc";
  family.feed_forward.down = "c_proj";
  family.transposed_weights = true;
  return family;
}

constexpr std::array kFamilies{
    gpt2(),     kLlama,      like(kLlama, "mistral"),
    qwen2(),    qwen3(),     phi3(),
    mixtral(),  qwen2_moe(), qwen3_moe(),
    glm4_moe(), gemma2(),    qwen3_5_text(),
};

}  // namespace

std::span<const Family> families() { return kFamilies; }

}  // namespace berth
