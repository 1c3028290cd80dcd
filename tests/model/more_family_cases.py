"""Small configs of further families, as those of family_cases.py."""

from family_cases import TINY

ENCODER = dict(vocab_size=160, hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
    intermediate_size=112, max_position_embeddings=256)
BOTH = dict(vocab_size=160, max_position_embeddings=256, encoder_layers=2, encoder_ffn_dim=72,
    encoder_attention_heads=4, decoder_layers=2, decoder_ffn_dim=80, decoder_attention_heads=4, d_model=64)
LATENT = dict(kv_lora_rank=20, q_lora_rank=24, qk_rope_head_dim=4, v_head_dim=12, qk_nope_head_dim=8)
ROUTED = dict(moe_intermediate_size=24, num_experts_per_tok=2, n_routed_experts=5)
EXPERTS = dict(moe_intermediate_size=24, num_experts_per_tok=2, num_experts=5)

CASES = {
    "afmoe": [
        dict(TINY, **EXPERTS, head_dim=16, sliding_window=8),
        dict(TINY, **EXPERTS, head_dim=16, sliding_window=8, tie_word_embeddings=True, attention_bias=True)],
    "albert": [
        dict(vocab_size=160, embedding_size=36, hidden_size=64, num_hidden_layers=4, num_hidden_groups=2,
          num_attention_heads=4, intermediate_size=112, inner_group_num=2, max_position_embeddings=256,
          architectures=["AlbertForMaskedLM"]),
        dict(vocab_size=160, embedding_size=36, hidden_size=64, num_hidden_layers=4, num_hidden_groups=2,
          num_attention_heads=4, intermediate_size=112, inner_group_num=2, max_position_embeddings=256,
          tie_word_embeddings=False, architectures=["AlbertForMaskedLM"])],
    "big_bird": [
        dict(ENCODER, architectures=["BigBirdForMaskedLM"]),
        dict(ENCODER, use_bias=False, tie_word_embeddings=False, architectures=["BigBirdForMaskedLM"])],
    "biogpt": [
        ENCODER,
        dict(ENCODER, tie_word_embeddings=False)],
    "bitnet": [
        TINY,
        dict(TINY, tie_word_embeddings=True, attention_bias=True)],
    "blenderbot": [
        dict(vocab_size=160, max_position_embeddings=256, encoder_ffn_dim=72, encoder_attention_heads=4,
          decoder_layers=2, decoder_ffn_dim=80, decoder_attention_heads=4, d_model=64,
          architectures=["BlenderbotForConditionalGeneration"]),
        dict(vocab_size=160, max_position_embeddings=256, encoder_ffn_dim=72, encoder_attention_heads=4,
          decoder_layers=2, decoder_ffn_dim=80, decoder_attention_heads=4, d_model=64,
          tie_word_embeddings=False, architectures=["BlenderbotForConditionalGeneration"])],
    "blenderbot-small": [
        dict(BOTH, architectures=["BlenderbotSmallForConditionalGeneration"]),
        dict(BOTH, tie_word_embeddings=False, architectures=["BlenderbotSmallForConditionalGeneration"])],
    "codegen": [
        dict(vocab_size=160, n_positions=256, n_embd=64, n_layer=3, n_head=4, rotary_dim=8),
        dict(vocab_size=160, n_positions=256, n_embd=64, n_layer=3, n_head=4, rotary_dim=8,
          tie_word_embeddings=True)],
    "cohere2_moe": [
        dict(TINY, head_dim=16, sliding_window=8, num_experts=5, num_shared_experts=2, mlp_layer_types=["dense",
          "sparse", "sparse"], prefix_dense_intermediate_size=96),
        dict(TINY, head_dim=16, sliding_window=8, num_experts=5, num_shared_experts=2, mlp_layer_types=["dense",
          "sparse", "sparse"], prefix_dense_intermediate_size=96, tie_word_embeddings=False,
          attention_bias=True)],
    "cwm": [
        dict(TINY, head_dim=16, sliding_window=8),
        dict(TINY, head_dim=16, sliding_window=8, tie_word_embeddings=True, mlp_bias=True)],
    "deberta-v2": [
        dict(ENCODER, relative_attention=True, position_biased_input=False, pooler_hidden_size=64,
          position_buckets=16, norm_rel_ebd="layer_norm", share_att_key=False, pos_att_type=["p2c", "c2p"],
          architectures=["DebertaV2ForMaskedLM"]),
        dict(ENCODER, relative_attention=False, position_biased_input=True, pooler_hidden_size=64,
          position_buckets=16, norm_rel_ebd="layer_norm", share_att_key=True, pos_att_type=["p2c", "c2p"],
          tie_word_embeddings=False, architectures=["DebertaV2ForMaskedLM"])],
    "diffllama": [
        dict(TINY, head_dim=16),
        dict(TINY, head_dim=16, tie_word_embeddings=True, attention_bias=True)],
    "distilbert": [
        dict(vocab_size=160, max_position_embeddings=256, n_layers=3, n_heads=4, dim=64, hidden_dim=112,
          architectures=["DistilBertForMaskedLM"]),
        dict(vocab_size=160, max_position_embeddings=256, n_layers=3, n_heads=4, dim=64, hidden_dim=112,
          tie_word_embeddings=False, architectures=["DistilBertForMaskedLM"])],
    "doge": [
        dict(TINY, num_experts=5, num_experts_per_tok=2),
        dict(TINY, num_experts=5, num_experts_per_tok=2, tie_word_embeddings=True, attention_bias=True,
          mlp_bias=True)],
    "electra": [
        dict(vocab_size=160, embedding_size=36, hidden_size=64, num_hidden_layers=3, intermediate_size=112,
          max_position_embeddings=256, architectures=["ElectraForPreTraining"])],
    "ernie": [
        dict(ENCODER, architectures=["ErnieForMaskedLM"]),
        dict(ENCODER, use_task_id=True, tie_word_embeddings=False, architectures=["ErnieForMaskedLM"])],
    "eurobert": [
        dict(TINY, head_dim=16, architectures=["EuroBertForMaskedLM"]),
        dict(TINY, head_dim=16, tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
          architectures=["EuroBertForMaskedLM"])],
    "exaone": [
        dict(TINY, head_dim=16),
        dict(TINY, head_dim=16, tie_word_embeddings=True, attention_bias=True, mlp_bias=True)],
    "exaone_moe": [
        dict(TINY, **EXPERTS, sliding_window=8),
        dict(TINY, **EXPERTS, sliding_window=8, tie_word_embeddings=True)],
    "falcon_mamba": [
        dict(vocab_size=160, hidden_size=64, state_size=10, num_hidden_layers=3, time_step_rank=4),
        dict(vocab_size=160, hidden_size=64, state_size=10, num_hidden_layers=3, time_step_rank=4, use_bias=True,
          use_conv_bias=False, tie_word_embeddings=False)],
    "flex_olmo": [
        dict(TINY, num_experts_per_tok=2, num_experts=5),
        dict(TINY, num_experts_per_tok=2, num_experts=5, tie_word_embeddings=True, attention_bias=True)],
    "glm": [
        dict(ENCODER, head_dim=16),
        dict(ENCODER, head_dim=16, tie_word_embeddings=True, attention_bias=False)],
    "gpt_neo": [
        dict(vocab_size=160, max_position_embeddings=256, hidden_size=64, num_layers=4, num_heads=4, window_size=8,
          attention_types=[[["global", "local"], 2]]),
        dict(vocab_size=160, max_position_embeddings=256, hidden_size=64, num_layers=4, num_heads=4, window_size=8,
          attention_types=[[["global", "local"], 2]], tie_word_embeddings=False)],
    "gptj": [
        dict(vocab_size=160, n_positions=256, n_embd=64, n_layer=3, n_head=4, rotary_dim=8),
        dict(vocab_size=160, n_positions=256, n_embd=64, n_layer=3, n_head=4, rotary_dim=8,
          tie_word_embeddings=True)],
    "granitemoeshared": [
        dict(TINY, num_local_experts=5, shared_intermediate_size=40),
        dict(TINY, num_local_experts=5, shared_intermediate_size=40, tie_word_embeddings=True, attention_bias=True)],
    "helium": [
        dict(TINY, head_dim=16),
        dict(TINY, head_dim=16, tie_word_embeddings=True, attention_bias=True, mlp_bias=True)],
    "hy_v3": [
        dict(TINY, **EXPERTS, head_dim=16),
        dict(TINY, **EXPERTS, head_dim=16, tie_word_embeddings=True, attention_bias=True, mlp_bias=True)],
    "jais2": [
        dict(TINY, head_dim=16),
        dict(TINY, head_dim=16, tie_word_embeddings=True, attention_bias=False, mlp_bias=False)],
    "longcat_flash": [
        dict(**LATENT, vocab_size=160, hidden_size=64, num_layers=3, num_attention_heads=4, num_key_value_heads=2,
          max_position_embeddings=256, head_dim=4, qk_head_dim=12, n_routed_experts=5),
        dict(**LATENT, vocab_size=160, hidden_size=64, num_layers=3, num_attention_heads=4, num_key_value_heads=2,
          max_position_embeddings=256, head_dim=4, qk_head_dim=12, n_routed_experts=5,
          tie_word_embeddings=True, attention_bias=True)],
    "longformer": [
        dict(ENCODER, attention_window=4, architectures=["LongformerForMaskedLM"]),
        dict(ENCODER, attention_window=4, tie_word_embeddings=False, architectures=["LongformerForMaskedLM"])],
    "m2m_100": [
        dict(BOTH, architectures=["M2M100ForConditionalGeneration"]),
        dict(BOTH, tie_word_embeddings=False, architectures=["M2M100ForConditionalGeneration"])],
    "mamba": [
        dict(vocab_size=160, hidden_size=64, state_size=10, num_hidden_layers=3, time_step_rank=4),
        dict(vocab_size=160, hidden_size=64, state_size=10, num_hidden_layers=3, time_step_rank=4, use_bias=True,
          use_conv_bias=False, tie_word_embeddings=False)],
    "marian": [
        dict(BOTH, architectures=["MarianMTModel"]),
        dict(BOTH, share_encoder_decoder_embeddings=False, tie_word_embeddings=False,
          architectures=["MarianMTModel"])],
    "mbart": [
        dict(BOTH, architectures=["MBartForConditionalGeneration"]),
        dict(BOTH, tie_word_embeddings=False, architectures=["MBartForConditionalGeneration"])],
    "megatron-bert": [
        dict(ENCODER, architectures=["MegatronBertForMaskedLM"]),
        dict(ENCODER, tie_word_embeddings=False, architectures=["MegatronBertForMaskedLM"])],
    "mimo_v2_flash": [
        dict(TINY, **ROUTED, head_dim=16, v_head_dim=12, sliding_window=8),
        dict(TINY, **ROUTED, head_dim=16, v_head_dim=12, sliding_window=8, tie_word_embeddings=True,
          attention_bias=True)],
    "minicpm3": [
        dict(TINY, **LATENT, head_dim=16),
        dict(TINY, **LATENT, head_dim=16, tie_word_embeddings=False, attention_bias=True, mlp_bias=True)],
    "minimax": [
        dict(TINY, num_local_experts=5, head_dim=16),
        dict(TINY, num_local_experts=5, head_dim=16, tie_word_embeddings=True)],
    "mpnet": [
        dict(ENCODER, architectures=["MPNetForMaskedLM"]),
        dict(ENCODER, tie_word_embeddings=False, architectures=["MPNetForMaskedLM"])],
    "mpt": [
        dict(d_model=64, n_heads=4, n_layers=3, vocab_size=160),
        dict(d_model=64, n_heads=4, n_layers=3, vocab_size=160, tie_word_embeddings=False)],
    "nemotron": [
        dict(TINY, head_dim=16),
        dict(TINY, head_dim=16, tie_word_embeddings=True, attention_bias=True, mlp_bias=True)],
    "olmo": [
        TINY,
        dict(TINY, tie_word_embeddings=True, attention_bias=True)],
    "olmoe": [
        dict(TINY, num_experts_per_tok=2, num_experts=5),
        dict(TINY, num_experts_per_tok=2, num_experts=5, tie_word_embeddings=True, attention_bias=True)],
    "pegasus": [
        dict(BOTH, architectures=["PegasusForConditionalGeneration"]),
        dict(BOTH, tie_word_embeddings=False, architectures=["PegasusForConditionalGeneration"])],
    "persimmon": [
        ENCODER,
        dict(ENCODER, tie_word_embeddings=True, qk_layernorm=False)],
    "phi": [
        dict(TINY, qk_layernorm=True),
        dict(TINY, qk_layernorm=False, tie_word_embeddings=True)],
    "plbart": [
        dict(BOTH, architectures=["PLBartForConditionalGeneration"]),
        dict(BOTH, tie_word_embeddings=False, architectures=["PLBartForConditionalGeneration"])],
    "rembert": [
        dict(ENCODER, input_embedding_size=36, output_embedding_size=44, architectures=["RemBertForMaskedLM"])],
    "solar_open": [
        dict(**ROUTED, vocab_size=160, hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
          num_key_value_heads=2, max_position_embeddings=256, head_dim=16),
        dict(**ROUTED, vocab_size=160, hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
          num_key_value_heads=2, max_position_embeddings=256, head_dim=16, tie_word_embeddings=True,
          attention_bias=True)],
    "vaultgemma": [
        dict(TINY, head_dim=16, sliding_window=8),
        dict(TINY, head_dim=16, sliding_window=8, tie_word_embeddings=False, attention_bias=True)],
    "xglm": [
        dict(vocab_size=160, max_position_embeddings=256, d_model=64, ffn_dim=112, num_layers=3, attention_heads=4),
        dict(vocab_size=160, max_position_embeddings=256, d_model=64, ffn_dim=112, num_layers=3, attention_heads=4,
          tie_word_embeddings=False)],
    "youtu": [
        dict(TINY, **LATENT),
        dict(TINY, **LATENT, tie_word_embeddings=False, attention_bias=True)],
}

CLIP = dict(model_type="clip_vision_model", hidden_size=40, intermediate_size=72, num_hidden_layers=2,
            num_attention_heads=2, image_size=28, patch_size=7)
SIGLIP = dict(CLIP, model_type="siglip_vision_model")
EYES = dict(hidden_size=40, intermediate_size=72, num_hidden_layers=2, num_attention_heads=2, image_size=28,
            patch_size=7)
SIGLIP2 = dict(model_type="siglip2_vision_model", hidden_size=40, intermediate_size=72, num_hidden_layers=2,
               num_attention_heads=2, num_patches=9, patch_size=7)
MOON = dict(hidden_size=40, intermediate_size=72, num_hidden_layers=2, num_attention_heads=2, patch_size=14,
            pos_emb_height=5, pos_emb_width=6, pos_emb_time=3)
GLM_EYES = dict(depth=2, hidden_size=40, num_heads=2, image_size=28, patch_size=7, out_hidden_size=64,
                intermediate_size=72)
GENERATES = "ForConditionalGeneration"


def sees(prefix, text, vision, **more):
    return dict(architectures=[prefix + GENERATES], text_config=text, vision_config=vision, **more)


LLAMA = dict(TINY, model_type="llama")
QWEN2 = dict(TINY, model_type="qwen2")
DEEPSEEK = dict(TINY, **LATENT, **ROUTED, model_type="deepseek_v3", num_key_value_heads=4, n_group=1, topk_group=1,
                first_k_dense_replace=1)
CASES |= {
    "llava": [sees("Llava", LLAMA, CLIP), sees("Llava", dict(QWEN2, model_type="qwen3", head_dim=16), SIGLIP,
              tie_word_embeddings=True, vision_feature_layer=[-2, -1], multimodal_projector_bias=False),
              dict(sees("Llava", LLAMA, CLIP), architectures=["LlavaModel"])],
    "llava_next": [sees("LlavaNext", dict(LLAMA, model_type="mistral"), CLIP, image_grid_pinpoints=[[28, 28]])],
    "llava_next_video": [sees("LlavaNextVideo", LLAMA, CLIP, image_grid_pinpoints=[[28, 28]])],
    "llava_onevision": [sees("LlavaOnevision", QWEN2, SIGLIP)],
    "aya_vision": [sees("AyaVision", dict(TINY, model_type="cohere2", sliding_window=8), SIGLIP,
                        alignment_intermediate_size=56)],
    "cohere2_vision": [sees("Cohere2Vision", dict(TINY, model_type="cohere2", sliding_window=8), SIGLIP,
                            alignment_intermediate_size=56)],
    "paligemma": [sees("PaliGemma", dict(TINY, model_type="gemma", head_dim=16), SIGLIP, projection_dim=64),
                  sees("PaliGemma", dict(TINY, model_type="gemma2", head_dim=16, sliding_window=8), SIGLIP,
                       projection_dim=64)],
    "idefics3": [sees("Idefics3", LLAMA, EYES, scale_factor=3)],
    "smolvlm": [sees("SmolVLM", LLAMA, EYES, tie_word_embeddings=True)],
    "lfm2_vl": [sees("Lfm2Vl", dict(TINY, model_type="lfm2", full_attn_idxs=[1]), SIGLIP2, projector_hidden_size=52),
                sees("Lfm2Vl", dict(TINY, model_type="lfm2", full_attn_idxs=[1]), SIGLIP2, projector_hidden_size=52,
                     projector_use_layernorm=False, projector_bias=False, downsample_factor=1)],
    "kimi_k25": [sees("Kimi_K25", DEEPSEEK, MOON, projection_hidden_size=40, tie_word_embeddings=False)],
    "glm4v": [sees("Glm4v", TINY, GLM_EYES)],
    "glm46v": [sees("Glm46V", TINY, dict(GLM_EYES, attention_bias=True))],
    "glm4v_moe": [sees("Glm4vMoe", dict(TINY, **ROUTED, first_k_dense_replace=1, n_group=1, topk_group=1,
                                        partial_rotary_factor=0.5), GLM_EYES)],
    "qwen2_vl": [sees("Qwen2VL", TINY, dict(depth=2, embed_dim=40, hidden_size=64, num_heads=2),
                      tie_word_embeddings=True)],
}
CASES |= {
    "phi4_multimodal": [
        dict(TINY, vision_config=dict(EYES, crop_size=28),
             audio_config=dict(hidden_size=32, intermediate_size=56, num_blocks=2, num_attention_heads=2,
                               ext_pw_out_channel=32, depthwise_separable_out_channel=32, nemo_conv_channels=16,
                               bias_max_distance=20, input_size=40, nemo_final_size=5)),
        dict(TINY, vision_config=dict(EYES, image_size=35),
             audio_config=dict(hidden_size=32, intermediate_size=56, num_blocks=2, num_attention_heads=2,
                               ext_pw_out_channel=32, depthwise_separable_out_channel=32, nemo_conv_channels=16,
                               bias_max_distance=20, bias_symmetric=True, input_size=40, nemo_final_size=5))],
}
CASES |= {  # the tower for pictures has one size
    "gemma3n": [dict(architectures=["Gemma3n" + GENERATES], vision_config=dict(vocab_size=20, vocab_offset=162),
                     text_config=dict(TINY, num_hidden_layers=7, head_dim=16, sliding_window=8, vocab_size_per_layer_input=162,
                                      hidden_size_per_layer_input=12, laurel_rank=6, num_kv_shared_layers=2),
                     audio_config=dict(vocab_size=21, vocab_offset=182, input_feat_size=40, hidden_size=48,
                                       conf_num_attention_heads=4, conf_num_hidden_layers=2, sscp_conv_channel_size=[16, 8]))],
}
CASES["deberta-v2"] += [dict(ENCODER, relative_attention=True, position_buckets=-1, norm_rel_ebd="layer_norm", share_att_key=True,
                             pos_att_type=["p2c", "c2p"], conv_kernel_size=3, architectures=["DebertaV2ForMaskedLM"]),
                        dict(ENCODER, architectures=["DebertaV2ForSequenceClassification"], pooler_hidden_size=64)]
HEADS = ("Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM")
for family, prefix in dict(electra="Electra", mpnet="MPNet", albert="Albert", ernie="Ernie", rembert="RemBert", longformer="Longformer",
                           distilbert="DistilBert", roberta="Roberta", camembert="Camembert", eurobert="EuroBert",
                           big_bird="BigBird").items():
    first = CASES.setdefault(family, [dict(ENCODER, architectures=[prefix + "ForMaskedLM"])])[0]
    CASES[family] += [dict(first, architectures=[prefix + head]) for head in HEADS[:3]]
CASES["megatron-bert"] += [dict(CASES["megatron-bert"][0], architectures=["MegatronBertForSequenceClassification"])]

LATENTS = dict(TINY, num_key_value_heads=4, q_lora_rank=24, kv_lora_rank=18, qk_nope_head_dim=8, qk_rope_head_dim=4,
               v_head_dim=13, moe_intermediate_size=24, n_group=1, topk_group=1)
FULL, LINEAR_LAYER = "full_attention", "linear_attention"
CASES |= {
    "lfm2_moe": [dict(TINY, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24, layer_types=["conv", FULL, "conv"]),
                 dict(TINY, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24, num_dense_layers=1, conv_bias=True,
                      use_expert_bias=False, conv_L_cache=4, tie_word_embeddings=False, layer_types=[FULL, "conv", FULL])],
    "bamba": [dict(TINY, mamba_n_heads=8, mamba_d_state=10, attn_layer_indices=[1]),
              dict(TINY, mamba_n_heads=8, mamba_d_state=12, mamba_n_groups=2, mamba_d_conv=3, mamba_conv_bias=False,
                   mamba_proj_bias=True, attention_bias=True, mlp_bias=True, tie_word_embeddings=True,
                   attn_layer_indices=[0, 2])],
    "olmo_hybrid": [dict(TINY, num_hidden_layers=5, linear_key_head_dim=12, linear_value_head_dim=12),
                    dict(TINY, num_hidden_layers=3, rope_parameters=dict(rope_type="default", rope_theta=None)),
                    dict(TINY, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=10,
                         linear_value_head_dim=14, linear_conv_kernel_dim=3, attention_bias=True, tie_word_embeddings=True,
                         rope_parameters=dict(rope_type="default", rope_theta=700.0)),
                    dict(TINY, layer_types=[FULL, LINEAR_LAYER, FULL])],
    "kimi_linear": [dict(LATENTS, num_hidden_layers=5, q_lora_rank=None, num_experts=4, num_experts_per_token=2,
                         num_shared_experts=2, model_max_length=256,
                         linear_attn_config=dict(full_attn_layers=[2, 5], kda_layers=[1, 3, 4], head_dim=12, num_heads=3,
                                                 short_conv_kernel_size=3)),
                    dict(LATENTS, num_hidden_layers=5, num_experts=4, num_experts_per_token=2, linear_head_dim=12,
                         linear_num_heads=3, attention_bias=True, first_k_dense_replace=2),
                    dict(LATENTS, num_experts=4, num_experts_per_token=2, linear_head_dim=12, linear_num_heads=3,
                         layer_types=[FULL, LINEAR_LAYER, FULL], mlp_layer_types=["sparse", "dense", "sparse"])],
    "bailing_hybrid": [dict(LATENTS, num_hidden_layers=5, q_lora_rank=None, num_experts=4, num_experts_per_token=2,
                            num_shared_experts=2, model_max_length=256, head_dim=12, layer_group_size=2),
                       dict(LATENTS, num_experts=4, num_experts_per_token=2, head_dim=12, short_conv_kernel_size=3,
                            attention_bias=True, layer_types=[FULL, LINEAR_LAYER, FULL],
                            mlp_layer_types=["sparse", "dense", "sparse"])],
    "mistral4": [dict(LATENTS, n_routed_experts=4, num_experts_per_tok=2, architectures=["Mistral4ForCausalLM"]),
                 dict(LATENTS, n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=2, first_k_dense_replace=1,
                      q_lora_rank=None, attention_bias=True, tie_word_embeddings=True, architectures=["Mistral4ForCausalLM"])],
}

SPEAKS = dict(d_model=40, d_kv=12, d_ff=72, num_layers=2, num_decoder_layers=3, num_heads=4, vocab_size=160,
              relative_attention_num_buckets=9)
GATED = dict(SPEAKS, feed_forward_proj="gated-gelu")
for family, prefix in dict(mt5="MT5", umt5="UMT5").items():
    CASES[family] = [dict(SPEAKS, architectures=[prefix + GENERATES], feed_forward_proj="relu"),
                     dict(GATED, architectures=[prefix + GENERATES])]
    CASES[family] += [dict(GATED, architectures=[prefix + bare]) for bare in ("EncoderModel", "Model")]
CASES |= {
    "internlm3": [dict(TINY, head_dim=20), dict(TINY, qkv_bias=True, bias=True, tie_word_embeddings=True)],
    "iquestcoder": [dict(TINY, head_dim=20), dict(TINY, attention_bias=True, mlp_bias=True, tie_word_embeddings=True)],
    "hyperclovax": [TINY, dict(TINY, head_dim=20, use_post_norm=False, attention_bias=True, mlp_bias=True,
                               tie_word_embeddings=True)],
    "ministral": [dict(TINY, head_dim=20, sliding_window=8, layer_types=[FULL, "sliding_attention", FULL]),
                  dict(TINY, head_dim=20, sliding_window=8, tie_word_embeddings=True)],
    "gpt_bigcode": [dict(vocab_size=160, n_positions=50, n_embd=64, n_layer=3, n_head=4),
                    dict(vocab_size=160, n_positions=50, n_embd=64, n_layer=3, n_head=4, n_inner=100, multi_query=False,
                         tie_word_embeddings=False)],
}
ROUTES = dict(num_experts_per_tok=2, moe_intermediate_size=24)
CASES |= {
    "deepseek_v4": [dict(vocab_size=160, hidden_size=64, moe_intermediate_size=24, num_hidden_layers=5, num_attention_heads=4,
                         head_dim=20, q_lora_rank=28, n_routed_experts=5, num_experts_per_tok=2, o_groups=2, o_lora_rank=18,
                         index_n_heads=3, index_head_dim=12, index_topk=4, sliding_window=8, hc_mult=3, qk_rope_head_dim=4,
                         num_hash_layers=1, architectures=["DeepseekV4ForCausalLM"], **more)
                    for more in (dict(), dict(compress_ratios=[0, 4, 128, 4, 0], compress_rate_csa=5, compress_rate_hca=7,
                                              mlp_bias=True, tie_word_embeddings=True),
                                 dict(layer_types=["sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention",
                                                   "compressed_sparse_attention", "sliding_attention"],
                                      mlp_layer_types=["moe", "hash_moe", "moe", "moe", "moe"], partial_rotary_factor=0.5,
                                      compress_rates=dict(compressed_sparse_attention=3, heavily_compressed_attention=6)))],
    "internvl": [sees("InternVL", QWEN2, dict(EYES, image_size=[28, 42], patch_size=[7, 14])),
                 sees("InternVL", dict(QWEN2, model_type="qwen3", head_dim=20), dict(
                     EYES, use_qk_norm=True, attention_bias=True, norm_type="rms_norm", use_mask_token=True, use_mean_pooling=False,
                     use_absolute_position_embeddings=False), downsample_ratio=0.25, tie_word_embeddings=False)],
    "mellum": [dict(TINY, **ROUTES, num_experts=5, head_dim=20),
               dict(TINY, **ROUTES, num_local_experts=5, head_dim=20, attention_bias=True, tie_word_embeddings=True, sliding_window=8,
                    layer_types=[FULL, "sliding_attention", FULL], mlp_layer_types=["dense", "sparse", "sparse"])],
    "laguna": [dict(TINY, **ROUTES, num_experts=5, head_dim=20, shared_expert_intermediate_size=28),
               dict(TINY, **ROUTES, num_experts=5, head_dim=20, gating="per-element", attention_bias=True, tie_word_embeddings=True,
                    sliding_window=8, layer_types=[FULL, "sliding_attention", FULL], num_attention_heads_per_layer=[4, 6, 2],
                    mlp_layer_types=["sparse", "dense", "sparse"])],
    "axk1": [dict(LATENTS, n_routed_experts=5, num_experts_per_tok=2),
             dict(LATENTS, n_routed_experts=5, num_experts_per_tok=2, num_hidden_layers=5, first_k_dense_replace=2, moe_layer_freq=2,
                  n_shared_experts=2, attention_bias=True, tie_word_embeddings=True)],
    "sarvam_mla": [dict({k: v for k, v in LATENTS.items() if k != "q_lora_rank"}, num_experts=5, num_experts_per_tok=2),
                   dict(LATENTS, num_experts=5, num_experts_per_tok=2, num_shared_experts=2, first_k_dense_replace=2,
                        attention_bias=True, tie_word_embeddings=True)],
}
CASES |= {
    "vipllava": [sees("VipLlava", LLAMA, CLIP), sees("VipLlava", LLAMA, CLIP, vision_feature_layer=[-2, -1]),
                 sees("VipLlava", LLAMA, CLIP, vision_feature_layer=-2)],
    "voxtral": [dict(architectures=["Voxtral" + GENERATES], text_config=dict(LLAMA, head_dim=20),
                     audio_config=dict(hidden_size=40, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4,
                                       num_mel_bins=20, max_source_positions=30))],
    "lighton_ocr": [sees("LightOnOcr", dict(QWEN2, model_type="qwen3", head_dim=20), dict(EYES, model_type="pixtral")),
                    sees("LightOnOcr", dict(QWEN2, model_type="qwen3", head_dim=20), dict(EYES, model_type="pixtral", patch_size=5),
                         spatial_merge_size=3, tie_word_embeddings=False)],
    "deepseek_vl": [sees("DeepseekVL", LLAMA, SIGLIP), sees("DeepseekVL", QWEN2, dict(SIGLIP, vision_use_head=False),
                                                            tie_word_embeddings=False)],
    "video_llava": [sees("VideoLlava", LLAMA, CLIP), sees("VideoLlava", LLAMA, SIGLIP, multimodal_projector_bias=False)],
    "paddleocr_vl": [sees("PaddleOCRVL", dict(TINY, head_dim=20), EYES),
                     sees("PaddleOCRVL", dict(TINY, head_dim=20, use_bias=True, tie_word_embeddings=False),
                          dict(EYES, spatial_merge_size=3), tie_word_embeddings=False)],
    "glm_ocr": [sees("GlmOcr", dict(TINY, head_dim=20), dict(GLM_EYES, temporal_patch_size=3)),
                sees("GlmOcr", dict(TINY, tie_word_embeddings=True), dict(GLM_EYES, attention_bias=False, spatial_merge_size=3))],
}
CASES["gpt_neo"] += [dict(vocab_size=160, max_position_embeddings=64, hidden_size=64, num_layers=3, num_heads=4, attention_types=[[["global"], 3]])]
CASES["cohere2_moe"] += [dict(TINY, num_hidden_layers=5, num_experts=4, num_experts_per_tok=2, head_dim=16, sliding_window=8)]
