#!/usr/bin/env python3
"""Writes data/NAME/{config.json, expected.txt}: what transformers computes for tiny models.

usage: make_expected.py [NAME ...]

Needs torch and transformers 5.24.0; the tests themselves do not. Weights are a function of a
tensor's name and an element's index, which made_model.cc computes alike, so none are stored.
expected.txt: prompt ids, 8 greedy ids, then the logits of each prompt position, a line each.
"""
import json
import os
import sys

import numpy as np
import torch
import transformers

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
PROMPT = [1, 17, 43, 4, 50, 62, 31, 8, 8, 20, 2, 45]
SMALL = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, vocab_size=64, max_position_embeddings=40, dtype="float32",
             bos_token_id=1, eos_token_id=2, pad_token_id=0)

NEOX = {k: v for k, v in SMALL.items() if k != "num_key_value_heads"}
MOE = dict(num_experts=5, num_experts_per_tok=2, moe_intermediate_size=20)
LATENT = dict(num_key_value_heads=4, kv_lora_rank=24, qk_nope_head_dim=12, qk_rope_head_dim=6,
              v_head_dim=10, n_routed_experts=6, num_experts_per_tok=3, moe_intermediate_size=20,
              first_k_dense_replace=1)
LINEAR = dict(linear_num_key_heads=2, linear_num_value_heads=6, linear_key_head_dim=8,
              linear_value_head_dim=5, linear_conv_kernel_dim=3,
              layer_types=["linear_attention", "full_attention", "linear_attention"])


def rope(kind="default", **more):
    return {"rope_type": kind, "rope_theta": 10000.0, **more}


PIXTRAL = dict(model_type="pixtral", hidden_size=8, intermediate_size=16, num_hidden_layers=1,
               num_attention_heads=2, image_size=8, patch_size=4, head_dim=4)
MINISTRAL = rope("yarn", factor=4.0, original_max_position_embeddings=5, llama_4_scaling_beta=0.3,
                 mscale=1.0, mscale_all_dim=1.0)


def around(text, **vision):
    """A model that also sees, around a text model."""
    return dict(model_type=text["model_type"].removesuffix("_text"), dtype="float32", text_config=text,
                vision_config=dict(depth=1, hidden_size=8, intermediate_size=16, num_heads=2, patch_size=4,
                                   out_hidden_size=32, num_position_embeddings=16, **vision))


MODELS = {
    "gpt2": dict(model_type="gpt2", n_embd=32, n_layer=3, n_head=4, n_positions=40, vocab_size=64,
                 scale_attn_by_inverse_layer_idx=True, dtype="float32", bos_token_id=1,
                 eos_token_id=2, tie_word_embeddings=True),
    "llama": dict(SMALL, model_type="llama", attention_bias=True, mlp_bias=True, head_dim=16,
                  tie_word_embeddings=False, rope_parameters=rope("linear", factor=4.0)),
    "llama3": dict(SMALL, model_type="llama", tie_word_embeddings=True,
                   rope_parameters=rope("llama3", factor=8.0, low_freq_factor=1.0,
                                        high_freq_factor=4.0, original_max_position_embeddings=16)),
    "mistral": dict(SMALL, model_type="mistral", sliding_window=5, rope_parameters=rope()),
    "qwen2": dict(SMALL, model_type="qwen2", use_sliding_window=True, sliding_window=4,
                  layer_types=["sliding_attention", "full_attention", "sliding_attention"],
                  rope_parameters=rope()),
    "qwen3": dict(SMALL, model_type="qwen3", head_dim=16, rope_parameters=rope()),
    "phi3": dict(SMALL, model_type="phi3", sliding_window=6, original_max_position_embeddings=40,
                 rope_parameters=rope(partial_rotary_factor=0.5)),
    "mixtral": dict(SMALL, model_type="mixtral", num_local_experts=4, num_experts_per_tok=2,
                    sliding_window=None, rope_parameters=rope()),
    "qwen2_moe": dict(SMALL, **MOE, model_type="qwen2_moe", shared_expert_intermediate_size=20,
                      norm_topk_prob=False, use_sliding_window=True, sliding_window=5,
                      layer_types=["full_attention", "sliding_attention", "full_attention"],
                      mlp_only_layers=[2], rope_parameters=rope()),
    "qwen3_moe": dict(SMALL, **MOE, model_type="qwen3_moe", head_dim=16, attention_bias=True,
                      norm_topk_prob=True, decoder_sparse_step=2, rope_parameters=rope()),
    "qwen3_moe_window": dict(SMALL, **MOE, model_type="qwen3_moe", norm_topk_prob=False,
                             use_sliding_window=True, sliding_window=6, tie_word_embeddings=True,
                             rope_parameters=rope()),
    "glm4_moe": dict(SMALL, model_type="glm4_moe", head_dim=16, attention_bias=True, use_qk_norm=True,
                     n_routed_experts=8, num_experts_per_tok=3, n_shared_experts=2, n_group=4,
                     topk_group=2, moe_intermediate_size=20, first_k_dense_replace=1,
                     routed_scaling_factor=1.5, norm_topk_prob=True,
                     rope_parameters=rope(partial_rotary_factor=0.5)),
    "glm4_moe_plain": dict(SMALL, model_type="glm4_moe", n_routed_experts=4, num_experts_per_tok=2,
                           moe_intermediate_size=20, first_k_dense_replace=2, norm_topk_prob=False,
                           rope_parameters=rope(partial_rotary_factor=0.5)),
    "dots1": dict(SMALL, model_type="dots1", head_dim=16, n_routed_experts=6, num_experts_per_tok=2,
                  n_shared_experts=1, n_group=3, topk_group=2, moe_intermediate_size=20,
                  first_k_dense_replace=1, routed_scaling_factor=2.5, norm_topk_prob=True,
                  sliding_window=5, max_window_layers=1, attention_bias=True, rope_parameters=rope()),
    "solar_open": dict(SMALL, model_type="solar_open", head_dim=16, n_routed_experts=4,
                       num_experts_per_tok=2, n_shared_experts=1, moe_intermediate_size=20,
                       routed_scaling_factor=1.5, attention_bias=True, rope_parameters=rope()),
    "minimax_m2": dict(SMALL, model_type="minimax_m2", head_dim=16, num_local_experts=5,
                       num_experts_per_tok=2, rotary_dim=8, rope_theta=10000.0),
    "olmoe": dict(SMALL, model_type="olmoe", num_experts=5, num_experts_per_tok=2, clip_qkv=0.8,
                  attention_bias=True, rope_parameters=rope()),
    "flex_olmo": dict(SMALL, model_type="flex_olmo", num_experts=5, num_experts_per_tok=2,
                      norm_topk_prob=True, rope_parameters=rope()),
    "granitemoe": dict(SMALL, model_type="granitemoe", num_local_experts=5, num_experts_per_tok=2,
                       embedding_multiplier=3.0, logits_scaling=2.0, residual_multiplier=0.4,
                       attention_multiplier=0.3, rope_parameters=rope()),
    "granitemoeshared": dict(SMALL, model_type="granitemoeshared", num_local_experts=5,
                             num_experts_per_tok=2, shared_intermediate_size=20,
                             attention_multiplier=0.3, attention_bias=True, rope_parameters=rope()),
    "ernie4_5_moe": dict(SMALL, model_type="ernie4_5_moe", moe_num_experts=5, moe_k=2,
                         moe_intermediate_size=20, moe_num_shared_experts=2, moe_layer_start_index=1,
                         use_bias=True, rope_parameters=rope()),
    "hunyuan_v1_moe": dict(SMALL, model_type="hunyuan_v1_moe", head_dim=16, num_experts=5, moe_topk=2,
                           rope_parameters=rope()),
    "gemma": dict(SMALL, model_type="gemma", head_dim=16, attention_bias=True, hidden_act="gelu",
                  tie_word_embeddings=False, rope_parameters=rope()),
    "gemma3_text": dict(SMALL, model_type="gemma3_text", num_hidden_layers=4, head_dim=16,
                        query_pre_attn_scalar=24, sliding_window=4, final_logit_softcapping=3.0,
                        hidden_activation="gelu_pytorch_tanh", sliding_window_pattern=3,
                        rope_parameters=dict(full_attention=rope("linear", factor=2.0, rope_theta=700.0),
                                             sliding_attention=rope(rope_theta=50.0))),
    "gemma3_older": dict(SMALL, model_type="gemma3_text", head_dim=8, sliding_window=5,
                         sliding_window_pattern=2, rope_theta=900.0, rope_local_base_freq=80.0,
                         rope_scaling=dict(rope_type="linear", factor=4.0)),
    "gemma3": dict(model_type="gemma3", tie_word_embeddings=True, dtype="float32", text_config=dict(
        SMALL, model_type="gemma3_text", head_dim=16, sliding_window=5, sliding_window_pattern=2,
        query_pre_attn_scalar=24), vision_config=dict(
        hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        image_size=8, patch_size=4)),
    "olmo": dict(SMALL, model_type="olmo", clip_qkv=0.4, attention_bias=True, rope_parameters=rope()),
    "olmo2": dict(SMALL, model_type="olmo2", attention_bias=True, rope_parameters=rope()),
    "olmo3": dict(SMALL, model_type="olmo3", num_hidden_layers=4, sliding_window=5, rope_theta=900.0,
                  rope_scaling=rope("yarn", factor=4.0, original_max_position_embeddings=10,
                                    attention_factor=1.3, rope_theta=900.0)),
    "exaone4": dict(SMALL, model_type="exaone4", num_hidden_layers=4, sliding_window=5,
                    sliding_window_pattern=3, rope_parameters=rope()),
    "exaone4_plain": dict(SMALL, model_type="exaone4", head_dim=16, sliding_window=None,
                          layer_types=["full_attention"] * 3, rope_parameters=rope()),
    "granite": dict(SMALL, model_type="granite", attention_bias=True, mlp_bias=True,
                    embedding_multiplier=3.0, logits_scaling=2.0, residual_multiplier=0.4,
                    attention_multiplier=0.3, tie_word_embeddings=True, rope_parameters=rope()),
    "cohere": dict(SMALL, model_type="cohere", logit_scale=0.5, use_qk_norm=True, attention_bias=True,
                   rope_parameters=rope()),
    "cohere2": dict(SMALL, model_type="cohere2", num_hidden_layers=4, sliding_window=5,
                    sliding_window_pattern=3, logit_scale=0.25, rope_parameters=rope()),
    "smollm3": dict(SMALL, model_type="smollm3", num_hidden_layers=4, no_rope_layer_interval=2,
                    use_sliding_window=True, sliding_window=5, attention_bias=True, mlp_bias=True,
                    rope_parameters=rope()),
    "smollm3_listed": dict(SMALL, model_type="smollm3", no_rope_layers=[0, 1, 1], rope_parameters=rope()),
    "glm": dict(SMALL, model_type="glm", head_dim=16, rope_parameters=rope(partial_rotary_factor=0.5)),
    "glm4": dict(SMALL, model_type="glm4", head_dim=16, attention_bias=False,
                 rope_parameters=rope(partial_rotary_factor=0.25)),
    "ernie4_5": dict(SMALL, model_type="ernie4_5", head_dim=16, use_bias=True, tie_word_embeddings=True,
                     rope_parameters=rope()),
    "helium": dict(SMALL, model_type="helium", head_dim=8, attention_bias=True, mlp_bias=True,
                   rope_parameters=rope()),
    "hunyuan_v1_dense": dict(SMALL, model_type="hunyuan_v1_dense", head_dim=16, attention_bias=True,
                             rope_parameters=rope()),
    "hunyuan_alpha": dict(SMALL, model_type="hunyuan_v1_dense", head_dim=16, max_position_embeddings=64,
                          rope_parameters=rope("dynamic", factor=1.0, alpha=50.0)),
    "starcoder2": dict(SMALL, model_type="starcoder2", sliding_window=5, use_bias=True,
                       hidden_act="gelu_pytorch_tanh", rope_parameters=rope()),
    "stablelm": dict(SMALL, model_type="stablelm", use_qkv_bias=True, qk_layernorm=True,
                     use_parallel_residual=True, rope_parameters=rope(partial_rotary_factor=0.5)),
    "stablelm_serial": dict(SMALL, model_type="stablelm", rope_parameters=rope(partial_rotary_factor=0.25)),
    "phi": dict(SMALL, model_type="phi", qk_layernorm=True, hidden_act="gelu_new",
                rope_parameters=rope(partial_rotary_factor=0.5)),
    "ministral": dict(SMALL, model_type="ministral", head_dim=16, sliding_window=5,
                      layer_types=["full_attention", "sliding_attention", "sliding_attention"],
                      rope_parameters=rope()),
    "seed_oss": dict(SMALL, model_type="seed_oss", head_dim=16, attention_bias=True,
                     attention_out_bias=True, mlp_bias=True, rope_parameters=rope()),
    "llama_yarn": dict(SMALL, model_type="llama", head_dim=16, rope_parameters=rope(
        "yarn", factor=4.0, original_max_position_embeddings=10)),
    "llama_yarn_settings": dict(SMALL, model_type="llama", head_dim=16, rope_parameters=rope(
        "yarn", factor=8.0, original_max_position_embeddings=20, beta_fast=16.0, beta_slow=2.0,
        mscale=0.7, mscale_all_dim=1.4, truncate=False)),
    "llama_dynamic": dict(SMALL, model_type="llama", max_position_embeddings=8, rope_parameters=rope(
        "dynamic", factor=4.0)),
    "phi3_longrope": dict(SMALL, model_type="phi3", sliding_window=None,
                          original_max_position_embeddings=30, rope_parameters=rope(
        "longrope", short_factor=[1.0, 1.5], long_factor=[2.0, 3.0], partial_rotary_factor=0.5)),
    "phi3_longrope_crossing": dict(SMALL, model_type="phi3", sliding_window=None,
                                   original_max_position_embeddings=13, rope_parameters=rope(
        "longrope", short_factor=[1.0, 1.5, 2.0, 4.0], long_factor=[0.1, 0.2, 7.0, 40.0],
        attention_factor=3.0)),
    "phi3_longrope_long": dict(SMALL, model_type="phi3", sliding_window=None,
                               original_max_position_embeddings=10, rope_parameters=rope(
        "longrope", short_factor=[1.0, 1.5, 2.0, 4.0], long_factor=[2.0, 3.0, 5.0, 7.0])),
    "gemma2": dict(SMALL, model_type="gemma2", head_dim=16, query_pre_attn_scalar=24,
                   sliding_window=4, attn_logit_softcapping=2.0, final_logit_softcapping=3.0,
                   hidden_activation="gelu_pytorch_tanh", rope_parameters=rope(),
                   layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
    "hyperclovax": dict(SMALL, model_type="hyperclovax", embedding_multiplier=3.0, logits_scaling=0.5,
                        residual_multiplier=0.4, attention_multiplier=0.3, rope_parameters=rope()),
    "hyperclovax_plain": dict(SMALL, model_type="hyperclovax", use_post_norm=False, rope_parameters=rope()),
    "vaultgemma": dict(SMALL, model_type="vaultgemma", head_dim=16, query_pre_attn_scalar=24,
                       sliding_window=4, attn_logit_softcapping=2.0, final_logit_softcapping=3.0,
                       attention_bias=True, rope_parameters=rope()),
    "ministral3": dict(SMALL, model_type="ministral3", head_dim=16, sliding_window=6,
                       rope_parameters=MINISTRAL),
    "mistral3": dict(model_type="mistral3", dtype="float32", vision_config=PIXTRAL, text_config=dict(
        SMALL, model_type="mistral", head_dim=16, sliding_window=None, rope_parameters=rope())),
    "mistral3_ministral3": dict(model_type="mistral3", dtype="float32", vision_config=PIXTRAL,
                                text_config=dict(SMALL, model_type="ministral3", head_dim=16,
                                                 rope_parameters=MINISTRAL)),
    "qwen3_5": around(dict(SMALL, **LINEAR, model_type="qwen3_5_text", head_dim=16,
                           rope_parameters=rope(partial_rotary_factor=0.5, mrope_section=[2, 1, 1]))),
    "qwen3_5_moe": around(dict(SMALL, **MOE, **LINEAR, model_type="qwen3_5_moe_text", head_dim=16,
                               shared_expert_intermediate_size=12,
                               rope_parameters=rope(partial_rotary_factor=0.5, mrope_section=[2, 1, 1]))),
    "qwen3_vl": around(dict(SMALL, model_type="qwen3_vl_text", head_dim=16, attention_bias=True,
                            rope_parameters=rope(mrope_section=[4, 2, 2])), deepstack_visual_indexes=[0]),
    "qwen3_vl_moe": around(dict(SMALL, **MOE, model_type="qwen3_vl_moe_text", head_dim=16,
                                mlp_only_layers=[1], rope_parameters=rope(mrope_section=[4, 2, 2])),
                           deepstack_visual_indexes=[0]),
    "arcee": dict(SMALL, model_type="arcee", attention_bias=True, mlp_bias=True, rope_parameters=rope()),
    "nemotron": dict(SMALL, model_type="nemotron", attention_bias=True, mlp_bias=True, norm_eps=1e-3,
                     rope_parameters=rope(partial_rotary_factor=0.5)),
    "jais2": dict(SMALL, model_type="jais2", head_dim=16, rope_parameters=rope()),
    "apertus": dict(SMALL, model_type="apertus", attention_bias=True, rope_parameters=rope(
        "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=16)),
    "cwm": dict(SMALL, model_type="cwm", head_dim=16, sliding_window=5, num_hidden_layers=5,
                mlp_bias=True, rope_parameters=rope("linear", factor=2.0)),
    "exaone": dict(SMALL, model_type="exaone", num_layers=2, activation_function="gelu",
                   layer_norm_epsilon=1e-3, rope_parameters=rope()),
    "internlm3": dict(SMALL, model_type="internlm3", head_dim=16, bias=True, qkv_bias=True,
                      rope_parameters=rope()),
    "iquestcoder": dict(SMALL, model_type="iquestcoder", head_dim=16, rope_parameters=rope()),
    "gpt_neox": dict(NEOX, model_type="gpt_neox", rotary_pct=0.5, hidden_act="gelu_new"),
    "gpt_neox_serial": dict(NEOX, model_type="gpt_neox", use_parallel_residual=False,
                            attention_bias=False, rope_parameters=rope(partial_rotary_factor=1.0)),
    "persimmon": dict(NEOX, model_type="persimmon", rope_parameters=rope(partial_rotary_factor=0.5)),
    "falcon": dict(NEOX, model_type="falcon", bias=True, activation="relu"),
    "falcon_serial": dict(NEOX, model_type="falcon", multi_query=False, parallel_attn=False,
                          ffn_hidden_size=40, tie_word_embeddings=False),
    "falcon_grouped": dict(NEOX, model_type="falcon", new_decoder_architecture=True, num_kv_heads=2),
    "falcon_grouped_one_norm": dict(NEOX, model_type="falcon", new_decoder_architecture=True,
                                    num_kv_heads=2, num_ln_in_parallel_attn=1),
    "phimoe": dict(SMALL, model_type="phimoe", num_local_experts=5, attention_bias=True,
                   lm_head_bias=True, router_jitter_noise=0.2, sliding_window=5, rope_parameters=rope()),
    "phimoe_longrope": dict(SMALL, model_type="phimoe", num_local_experts=4,
                            original_max_position_embeddings=14, rope_parameters=rope(
        "longrope", short_factor=[1.0, 1.5, 2.0, 4.0], long_factor=[2.0, 3.0, 5.0, 7.0],
        original_max_position_embeddings=14, short_mscale=1.1, long_mscale=1.4)),
    "lfm2": dict(SMALL, model_type="lfm2", conv_bias=True, conv_L_cache=4, block_multiple_of=8,
                 layer_types=["conv", "full_attention", "conv"], rope_parameters=rope()),
    "lfm2_moe": dict(SMALL, model_type="lfm2_moe", num_experts=5, num_experts_per_tok=2,
                     num_dense_layers=1, moe_intermediate_size=20, routed_scaling_factor=1.5,
                     num_hidden_layers=4, layer_types=["conv", "full_attention", "conv", "full_attention"],
                     rope_parameters=rope()),
    "deepseek_v3": dict(SMALL, **LATENT, model_type="deepseek_v3", q_lora_rank=20, n_shared_experts=2,
                        n_group=3, topk_group=2, norm_topk_prob=True, attention_bias=True,
                        rope_parameters=rope("yarn", factor=8.0, mscale=1.5, mscale_all_dim=0.7,
                                             original_max_position_embeddings=8, beta_fast=4,
                                             beta_slow=1)),
    "deepseek_v3_halves": dict(SMALL, **LATENT, model_type="deepseek_v3", q_lora_rank=None,
                               n_shared_experts=1, n_group=1, topk_group=1, norm_topk_prob=False,
                               rope_interleave=False, routed_scaling_factor=0.5,
                               rms_norm_eps=1e-3, rope_parameters=rope()),
    "deepseek_v2": dict(SMALL, **LATENT, model_type="deepseek_v2", q_lora_rank=20, n_shared_experts=1,
                        topk_method="group_limited_greedy", n_group=3, topk_group=2,
                        routed_scaling_factor=1.5, mlp_bias=True, rope_parameters=rope()),
    "deepseek_v2_greedy": dict(SMALL, **LATENT, model_type="deepseek_v2", q_lora_rank=None,
                               n_shared_experts=2, tie_word_embeddings=True,
                               rope_parameters=rope("linear", factor=2.0, mscale_all_dim=0.5)),
    "glm4_moe_lite": dict(SMALL, **LATENT, model_type="glm4_moe_lite", q_lora_rank=20,
                          n_shared_experts=1, mlp_layer_types=["sparse", "dense", "sparse"],
                          rope_parameters=rope()),
    "gpt_oss": dict(SMALL, model_type="gpt_oss", head_dim=12, num_local_experts=5,
                    num_experts_per_tok=2, intermediate_size=20, sliding_window=5, swiglu_limit=0.2,
                    swiglu_alpha=1.3, rope_parameters=rope("yarn", factor=4.0, truncate=False,
                                                           original_max_position_embeddings=10)),
    "qwen3_next": dict(SMALL, **MOE, **LINEAR, model_type="qwen3_next", head_dim=16,
                       shared_expert_intermediate_size=12, norm_topk_prob=True,
                       mlp_only_layers=[1], attention_bias=True,
                       rope_parameters=rope(partial_rotary_factor=0.25)),
    "qwen3_5_moe_text": dict(SMALL, **MOE, **LINEAR, model_type="qwen3_5_moe_text", head_dim=16,
                             shared_expert_intermediate_size=12, tie_word_embeddings=True,
                             rope_parameters=rope(partial_rotary_factor=0.5)),
    "qwen3_5_text": dict(SMALL, **LINEAR, model_type="qwen3_5_text", head_dim=16,
                         rope_parameters=rope(partial_rotary_factor=0.5)),
}


def made(name, shape):
    """Splitmix64 of FNV-1a of the name plus the index; norms around 1, the rest around 0."""
    mask = (1 << 64) - 1
    seed = 0xCBF29CE484222325
    for c in name.encode():
        seed = (seed ^ c) * 0x100000001B3 & mask
    with np.errstate(over="ignore"):
        z = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(seed)
        z = (z + np.uint64(0x9E3779B97F4A7C15))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    x = (z >> np.uint64(48)).astype(np.float32) / np.float32(65536) - np.float32(0.5)
    norm = name.endswith(".weight") and ("norm" in name or "ln_" in name)
    x = np.float32(1) + x / np.float32(4) if norm else x / np.float32(2)
    return torch.from_numpy(x.reshape(shape).copy())


def fill(model, family):
    """The tree keeps experts apart, as checkpoints do, unless the family stores them in one tensor."""
    state = {}
    fused = family in ("gpt_oss", "qwen3_5_moe_text", "qwen3_5_moe", "qwen3_vl_moe")
    gate, up, down = ("w1", "w3", "w2") if family in ("mixtral", "minimax_m2", "phimoe", "lfm2_moe") else ("gate_proj", "up_proj", "down_proj")
    for name, value in model.state_dict().items():
        base, _, last = name.rpartition(".")
        if fused or not base.endswith((".mlp.experts", ".feed_forward.experts")):
            state[name] = made(name, value.shape)
        elif last == "gate_up_proj":
            n, wide, hidden = value.shape
            state[name] = torch.stack([torch.cat([made(f"{base}.{e}.{w}.weight", (wide // 2, hidden))
                                                  for w in (gate, up)]) for e in range(n)])
        else:
            state[name] = torch.stack([made(f"{base}.{e}.{down}.weight", value.shape[1:])
                                       for e in range(value.shape[0])])
    if model.config.tie_word_embeddings:
        state["lm_head.weight"] = state[first_tied(model)]
    model.load_state_dict(state)


def first_tied(model):
    embedding = model.get_input_embeddings().weight
    return next(name for name, parameter in model.named_parameters() if parameter is embedding)


names = sys.argv[1:] or list(MODELS)
for name in names:
    fields = MODELS[name]
    folder = os.path.join(HERE, name)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(fields, f, indent=1)
        f.write("\n")
    config = transformers.AutoConfig.from_pretrained(folder)
    # Some of the text models have a class of their own, which leaves out what is around them.
    sees = hasattr(config, "vision_config")
    auto = transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
    model = auto.from_config(config, attn_implementation="eager")
    fill(model.float().eval(), config.model_type)
    prompt = torch.tensor([PROMPT])
    model.generation_config.eos_token_id = None
    with torch.no_grad():
        logits = model(prompt).logits[0]
        ids = model.generate(prompt, max_new_tokens=8, min_new_tokens=8, do_sample=False)[0].tolist()
    with open(os.path.join(folder, "expected.txt"), "w") as f:
        print(*ids[: len(PROMPT)], file=f)
        print(*ids[len(PROMPT):], file=f)
        for row in logits.tolist():
            print(*(f"{x:.6g}" for x in row), file=f)
    print(name, ids[len(PROMPT):], float(logits.abs().max()))
