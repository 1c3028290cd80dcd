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
  family.rotary.restarts = true;
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

// Phi-3.5-MoE.
constexpr Family phimoe() {
  Family family = like(mixtral(), "phimoe");
  family.norms.kind = Norm::kLayer;
  family.rotary.scaled_by_length = true;
  family.rotary.restarts = true;
  family.mixture.router = "mlp.router";
  family.mixture.score = RouterScore::kSparseMixer;
  family.mixture.jitter_key = "router_jitter_noise";
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

// DeepSeek-V3's routing beside attention of the usual kind.
constexpr Family with_corrected_experts(Family family, std::string_view model_type) {
  family.model_type = model_type;
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

constexpr Family glm4_moe() {
  Family family = with_corrected_experts(qwen3(), "glm4_moe");
  family.attention.layer_types = false;
  family.rotary.partial = true;
  return family;
}

constexpr Family gpt_oss() {
  Family family = like(kLlama, "gpt_oss");
  family.attention.layer_types = true;
  family.attention.sinks = "self_attn.sinks";
  family.mixture.router = "mlp.router";
  family.mixture.layout = ExpertLayout::kFusedTransposed;
  family.mixture.clamped = true;
  family.mixture.up = "gate_up_proj";
  family.mixture.down = "down_proj";
  return family;
}

// Kimi K2 is DeepSeek-V3 with other sizes.
constexpr Family deepseek_v3() {
  Family family = like(glm4_moe(), "deepseek_v3");
  family.attention.latent = true;
  family.rotary.neighbours_key = "rope_interleave";
  family.rotary.partial = false;
  return family;
}

constexpr Family deepseek_v2() {
  Family family = like(deepseek_v3(), "deepseek_v2");
  family.rotary.neighbours_key = "";
  family.rotary.neighbours = true;
  family.mixture.score = RouterScore::kSoftmax;
  family.mixture.correction = "";
  family.mixture.normalize_key = "";  // known to the config, and not used
  family.mixture.normalized = false;
  family.mixture.best_of_group = 1;
  family.mixture.method_key = "topk_method";
  return family;
}

// GLM-4.7-Flash.
constexpr Family glm4_moe_lite() {
  Family family = like(deepseek_v3(), "glm4_moe_lite");
  family.rotary.partial = true;
  return family;
}

constexpr Family minimax_m2() {
  Family family = like(mixtral(), "minimax_m2");
  family.attention.query_norm = "self_attn.q_norm";
  family.attention.key_norm = "self_attn.k_norm";
  family.attention.head_norm = HeadNorm::kWhole;
  family.rotary.partial = true;
  family.mixture.score = RouterScore::kSigmoid;
  family.mixture.correction = "mlp.e_score_correction_bias";
  return family;
}

constexpr Family gemma() {
  Family family = like(kLlama, "gemma");
  family.ends.root_scale = true;
  family.norms.kind = Norm::kRmsPlusOne;
  family.feed_forward.gelu_is_tanh = true;
  return family;
}

constexpr Family gemma2() {
  Family family = like(gemma(), "gemma2");
  family.feed_forward.gelu_is_tanh = false;
  family.ends.logit_cap_key = "final_logit_softcapping";
  family.norms.attention_out = "post_attention_layernorm";
  family.norms.feed_forward = "pre_feedforward_layernorm";
  family.norms.feed_forward_out = "post_feedforward_layernorm";
  family.attention.layer_types = true;
  family.attention.needs_window = true;
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

constexpr Family vaultgemma() {
  Family family = like(gemma2(), "vaultgemma");
  family.norms.attention_out = "";
  family.norms.feed_forward_out = "";
  return family;
}

constexpr Family gemma3_text() {
  Family family = like(gemma2(), "gemma3_text");
  family.attention.query_norm = "self_attn.q_norm";
  family.attention.key_norm = "self_attn.k_norm";
  family.rotary.by_layer_type = true;
  return family;
}

// Norms have neither weights nor a setting.
constexpr Family olmo() {
  Family family = like(kLlama, "olmo");
  family.norms.kind = Norm::kLayer;
  family.norms.epsilon_key = "";
  family.norms.epsilon = 1e-5;
  family.attention.clip_key = "clip_qkv";
  return family;
}

constexpr Family olmo2() {
  Family family = like(kLlama, "olmo2");
  family.norms.attention = "";
  family.norms.attention_out = "post_attention_layernorm";
  family.norms.feed_forward = "";
  family.norms.feed_forward_out = "post_feedforward_layernorm";
  family.attention.query_norm = "self_attn.q_norm";
  family.attention.key_norm = "self_attn.k_norm";
  family.attention.head_norm = HeadNorm::kWhole;
  return family;
}

constexpr Family olmo3() {
  Family family = like(olmo2(), "olmo3");
  family.attention.layer_types = true;
  family.attention.needs_window = true;
  family.rotary.by_layer_type = true;
  return family;
}

constexpr Family exaone4() {
  Family family = like(olmo2(), "exaone4");
  family.attention.head_norm = HeadNorm::kEach;
  family.attention.layer_types = true;
  family.rotary.rotates = Rotates::kWindowedIfSet;
  return family;
}

constexpr Family granite() {
  Family family = like(kLlama, "granite");
  family.ends.embedding_scale_key = "embedding_multiplier";
  family.ends.logit_divisor_key = "logits_scaling";
  family.residual.scale_key = "residual_multiplier";
  family.attention.scale_key = "attention_multiplier";
  return family;
}

constexpr Family hyperclovax() {
  Family family = like(granite(), "hyperclovax");
  family.ends.logit_divisor_key = "";
  family.ends.logit_scale_key = "logits_scaling";
  family.norms.attention_out = "post_norm1";
  family.norms.feed_forward_out = "post_norm2";
  return family;
}

constexpr Family cohere() {
  Family family = like(kLlama, "cohere");
  family.ends.logit_scale_key = "logit_scale";
  family.norms.kind = Norm::kLayer;
  family.norms.epsilon_key = "layer_norm_eps";
  family.norms.feed_forward = "";
  family.residual.parallel = true;
  family.attention.query_norm = "self_attn.q_norm";
  family.attention.key_norm = "self_attn.k_norm";
  family.attention.head_norm = HeadNorm::kOwn;
  family.rotary.neighbours = true;
  return family;
}

constexpr Family cohere2() {
  Family family = like(cohere(), "cohere2");
  family.attention.layer_types = true;
  family.attention.needs_window = true;
  family.rotary.rotates = Rotates::kWindowed;
  return family;
}

constexpr Family smollm3() {
  Family family = like(kLlama, "smollm3");
  family.attention.layer_types = true;
  family.rotary.rotates = Rotates::kListed;
  return family;
}

// Llama whose pairs of rotating dimensions are neighbours.
constexpr Family with_neighbours(std::string_view model_type) {
  Family family = like(kLlama, model_type);
  family.rotary.neighbours = true;
  return family;
}

constexpr Family glm() {
  Family family = with_neighbours("glm");
  family.rotary.partial = true;
  family.feed_forward.kind = FeedForward::kFusedGated;
  family.feed_forward.up = "gate_up_proj";
  return family;
}

constexpr Family glm4() {
  Family family = like(glm(), "glm4");
  family.norms.attention_out = "post_self_attn_layernorm";
  family.norms.feed_forward_out = "post_mlp_layernorm";
  return family;
}

constexpr Family starcoder2() {
  Family family = like(kLlama, "starcoder2");
  family.norms.kind = Norm::kLayer;
  family.norms.epsilon_key = "norm_epsilon";
  family.feed_forward.kind = FeedForward::kPlain;
  family.feed_forward.up = "c_fc";
  family.feed_forward.down = "c_proj";
  return family;
}

constexpr Family stablelm() {
  Family family = like(kLlama, "stablelm");
  family.norms.kind = Norm::kLayer;
  family.norms.epsilon_key = "layer_norm_eps";
  family.residual.parallel_key = "use_parallel_residual";
  family.attention.query_norm = "self_attn.q_layernorm";
  family.attention.key_norm = "self_attn.k_layernorm";
  family.attention.head_norm = HeadNorm::kModule;
  family.rotary.partial = true;
  return family;
}

constexpr Family phi() {
  Family family = like(kLlama, "phi");
  family.ends.final_norm = "model.final_layernorm";
  family.norms.kind = Norm::kLayer;
  family.norms.epsilon_key = "layer_norm_eps";
  family.norms.feed_forward = "";
  family.residual.parallel = true;
  family.attention.query_norm = "self_attn.q_layernorm";
  family.attention.key_norm = "self_attn.k_layernorm";
  family.attention.out = "self_attn.dense";
  family.rotary.partial = true;
  family.feed_forward.kind = FeedForward::kPlain;
  family.feed_forward.up = "fc1";
  family.feed_forward.down = "fc2";
  return family;
}

constexpr Family hunyuan_v1_dense() {
  Family family = like(kLlama, "hunyuan_v1_dense");
  family.attention.query_norm = "self_attn.query_layernorm";
  family.attention.key_norm = "self_attn.key_layernorm";
  family.attention.norm_after_rotation = true;
  family.rotary.alpha = true;
  return family;
}

// Llama whose feed-forward block has no gate.
constexpr Family without_gate(Family family, std::string_view model_type) {
  family.model_type = model_type;
  family.feed_forward.kind = FeedForward::kPlain;
  return family;
}

constexpr Family nemotron() {
  Family family = without_gate(kLlama, "nemotron");
  family.norms.kind = Norm::kLayerPlusOne;
  family.norms.epsilon_key = "norm_eps";
  family.rotary.partial = true;
  return family;
}

constexpr Family jais2() {
  Family family = without_gate(kLlama, "jais2");
  family.norms.kind = Norm::kLayer;
  family.norms.epsilon_key = "layer_norm_eps";
  return family;
}

constexpr Family apertus() {
  Family family = without_gate(kLlama, "apertus");
  family.norms.attention = "attention_layernorm";
  family.norms.feed_forward = "feedforward_layernorm";
  family.attention.query_norm = "self_attn.q_norm";
  family.attention.key_norm = "self_attn.k_norm";
  family.feed_forward.activation = "act_fn";
  return family;
}

// Code World Model.
constexpr Family cwm() {
  Family family = like(kLlama, "cwm");
  family.attention.layer_types = true;
  return family;
}

// One matrix makes queries, keys and values, key by key.
constexpr Family gpt_neox() {
  Family family = without_gate(kLlama, "gpt_neox");
  family.ends.embedding = "gpt_neox.embed_in";
  family.ends.final_norm = "gpt_neox.final_layer_norm";
  family.norms.kind = Norm::kLayer;
  family.norms.epsilon_key = "layer_norm_eps";
  family.residual.parallel_key = "use_parallel_residual";
  family.attention.fused = "attention.query_key_value";
  family.attention.fused_by_key = true;
  family.attention.heads_divide_stream = true;
  family.attention.out = "attention.dense";
  family.rotary.partial = true;
  family.feed_forward.up = "dense_h_to_4h";
  family.feed_forward.down = "dense_4h_to_h";
  return family;
}

constexpr Family persimmon() {
  Family family = like(gpt_neox(), "persimmon");
  family.ends = kLlama.ends;
  family.ends.final_norm = "model.final_layernorm";
  family.residual = kLlama.residual;
  family.attention.fused = "self_attn.query_key_value";
  family.attention.out = "self_attn.dense";
  family.attention.query_norm = "self_attn.q_layernorm";
  family.attention.key_norm = "self_attn.k_layernorm";
  return family;
}

constexpr Family falcon() {
  Family family = like(gpt_neox(), "falcon");
  family.ends.embedding = "transformer.word_embeddings";
  family.ends.final_norm = "transformer.ln_f";
  family.norms.epsilon_key = "layer_norm_epsilon";
  family.norms.paired_attention = "ln_attn";
  family.norms.paired_feed_forward = "ln_mlp";
  family.residual.parallel_key = "parallel_attn";
  family.residual.grouped_key = "new_decoder_architecture";
  family.attention.fused = "self_attention.query_key_value";
  family.attention.out = "self_attention.dense";
  family.rotary.partial = false;
  family.feed_forward.activation_key = "activation";
  return family;
}

// Layers with short convolutions beside those with attention; config.json says which.
constexpr Family lfm2() {
  Family family = like(kLlama, "lfm2");
  family.ends.final_norm = "model.embedding_norm";
  family.norms.epsilon_key = "norm_eps";
  family.norms.attention = "operator_norm";
  family.norms.feed_forward = "ffn_norm";
  family.attention.query_norm = "self_attn.q_layernorm";
  family.attention.key_norm = "self_attn.k_layernorm";
  family.attention.out = "self_attn.out_proj";
  family.feed_forward.activation_key = "";
  family.feed_forward.block = "feed_forward";
  family.feed_forward.gate = "w1";
  family.feed_forward.up = "w3";
  family.feed_forward.down = "w2";
  return family;
}

constexpr Family lfm2_moe() {
  Family family = like(lfm2(), "lfm2_moe");
  family.mixture.router = "feed_forward.gate";
  family.mixture.experts = "feed_forward.experts";
  family.mixture.gate = "w1";
  family.mixture.up = "w3";
  family.mixture.down = "w2";
  family.mixture.score = RouterScore::kSigmoid;
  family.mixture.correction = "feed_forward.expert_bias";
  family.mixture.added_to_sum = 1e-6;
  family.mixture.normalize_key = "norm_topk_prob";
  family.mixture.scale_key = "routed_scaling_factor";
  return family;
}

constexpr Family olmoe() {
  Family family = like(kLlama, "olmoe");
  family.attention.query_norm = "self_attn.q_norm";
  family.attention.key_norm = "self_attn.k_norm";
  family.attention.head_norm = HeadNorm::kWhole;
  family.attention.clip_key = "clip_qkv";
  family.mixture.router = "mlp.gate";
  family.mixture.normalize_key = "norm_topk_prob";
  return family;
}

constexpr Family flex_olmo() {
  Family family = like(olmo2(), "flex_olmo");
  family.mixture = olmoe().mixture;
  return family;
}

constexpr Family granitemoe() {
  Family family = like(granite(), "granitemoe");
  family.mixture.router = "block_sparse_moe.router";
  family.mixture.layout = ExpertLayout::kFused;
  family.mixture.experts = "block_sparse_moe.experts";
  family.mixture.up = "gate_up_proj";
  return family;
}

constexpr Family granitemoeshared() {
  Family family = like(granitemoe(), "granitemoeshared");
  family.mixture.shared.kind = FeedForward::kFusedGated;
  family.mixture.shared.block = "shared_mlp";
  family.mixture.shared.up = "input_linear";
  family.mixture.shared.down = "output_linear";
  return family;
}

constexpr Family ernie4_5_moe() {
  Family family = with_neighbours("ernie4_5_moe");
  family.mixture.router = "mlp.gate";
  family.mixture.shared.block = "mlp.shared_experts";
  family.mixture.correction = "mlp.gate.moe_statics.e_score_correction_bias";
  family.mixture.least_sum_key = "moe_norm_min";
  return family;
}

constexpr Family hunyuan_v1_moe() {
  Family family = like(hunyuan_v1_dense(), "hunyuan_v1_moe");
  family.mixture.router = "mlp.gate.wg";
  family.mixture.shared.block = "mlp.shared_mlp";
  return family;
}

constexpr Family qwen3_next() {
  Family family = like(qwen3_5_text(), "qwen3_next");
  family.mixture = qwen2_moe().mixture;
  return family;
}

constexpr Family qwen3_5_moe_text() {
  Family family = like(qwen3_next(), "qwen3_5_moe_text");
  family.mixture.normalize_key = "";
  family.mixture.layout = ExpertLayout::kFused;
  family.mixture.up = "gate_up_proj";
  return family;
}

// The text model within one that also sees. A prompt of text alone has the same position in all
// three directions of their rotary embedding, which then is the usual one.
constexpr Family beside_vision(Family family, std::string_view model_type) {
  family.model_type = model_type;
  family.ends.embedding = "model.language_model.embed_tokens";
  family.ends.final_norm = "model.language_model.norm";
  return family;
}

constexpr Family ministral3() {
  Family family = like(kLlama, "ministral3");
  family.rotary.queries_grow = true;
  return family;
}

// Mistral Small 3.1 and later, and Ministral 3.
constexpr Family mistral3(const Family& text) {
  Family family = beside_vision(text, "mistral3");
  family.text_type = text.model_type;
  return family;
}

constexpr Family qwen3_vl() {
  Family family = beside_vision(qwen3(), "qwen3_vl");
  family.attention.layer_types = false;
  return family;
}

constexpr Family qwen3_vl_moe() {
  Family family = beside_vision(qwen3_moe(), "qwen3_vl_moe");
  family.mixture.normalize_key = "";
  family.mixture.layout = ExpertLayout::kFused;
  family.mixture.up = "gate_up_proj";
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
    gpt2(),
    kLlama,
    like(kLlama, "mistral"),
    like(qwen2(), "ministral"),
    ministral3(),
    mistral3(like(kLlama, "mistral")),
    mistral3(ministral3()),
    like(kLlama, "seed_oss"),
    qwen2(),
    qwen3(),
    phi(),
    phi3(),
    gemma(),
    gemma2(),
    vaultgemma(),
    gemma3_text(),
    beside_vision(gemma3_text(), "gemma3"),
    olmo(),
    olmo2(),
    olmo3(),
    exaone4(),
    granite(),
    hyperclovax(),
    cohere(),
    cohere2(),
    smollm3(),
    glm(),
    glm4(),
    with_neighbours("ernie4_5"),
    with_neighbours("helium"),
    without_gate(kLlama, "arcee"),
    nemotron(),
    jais2(),
    apertus(),
    cwm(),
    like(kLlama, "exaone"),
    like(kLlama, "internlm3"),
    like(kLlama, "iquestcoder"),
    gpt_neox(),
    persimmon(),
    falcon(),
    lfm2(),
    hunyuan_v1_dense(),
    starcoder2(),
    stablelm(),
    mixtral(),
    phimoe(),
    qwen2_moe(),
    qwen3_moe(),
    glm4_moe(),
    with_corrected_experts(qwen3(), "dots1"),
    with_corrected_experts(kLlama, "solar_open"),
    minimax_m2(),
    olmoe(),
    flex_olmo(),
    granitemoe(),
    granitemoeshared(),
    ernie4_5_moe(),
    hunyuan_v1_moe(),
    lfm2_moe(),
    qwen3_5_text(),
    qwen3_next(),
    qwen3_5_moe_text(),
    beside_vision(qwen3_5_text(), "qwen3_5"),
    beside_vision(qwen3_5_moe_text(), "qwen3_5_moe"),
    qwen3_vl(),
    qwen3_vl_moe(),
    gpt_oss(),
    deepseek_v2(),
    deepseek_v3(),
    like(deepseek_v3(), "kimi_k2"),
    glm4_moe_lite(),
};

}  // namespace

std::span<const Family> families() { return kFamilies; }

}  // namespace berth
