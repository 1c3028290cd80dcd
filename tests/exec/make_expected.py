#!/usr/bin/env python3
"""Writes data/NAME/{config.json, expected.txt}: what transformers computes for tiny models.

Needs torch and transformers 5.23.0; the tests themselves do not. Weights are a function of a
tensor's name and an element's index, which made_model.cc computes alike, so none are stored.
expected.txt: prompt ids, 8 greedy ids, then the logits of each prompt position, a line each.
"""
import json
import os

import numpy as np
import torch
import transformers

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
PROMPT = [1, 17, 43, 4, 50, 62, 31, 8, 8, 20, 2, 45]
SMALL = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, vocab_size=64, max_position_embeddings=40, dtype="float32",
             bos_token_id=1, eos_token_id=2, pad_token_id=0)


def rope(kind="default", **more):
    return dict(rope_type=kind, rope_theta=10000.0, **more)


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
    "gemma2": dict(SMALL, model_type="gemma2", head_dim=16, query_pre_attn_scalar=24,
                   sliding_window=4, attn_logit_softcapping=2.0, final_logit_softcapping=3.0,
                   hidden_activation="gelu_pytorch_tanh", rope_parameters=rope(),
                   layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
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


def fill(model):
    state = {}
    for name, parameter in model.named_parameters():
        if name.endswith("mlp.experts.gate_up_proj"):  # the tree keeps experts apart, as stored
            base, (n, wide, hidden) = name[: -len("gate_up_proj")], parameter.shape
            value = torch.stack([torch.cat([made(f"{base}{e}.{w}.weight", (wide // 2, hidden))
                                            for w in ("w1", "w3")]) for e in range(n)])
        elif name.endswith("mlp.experts.down_proj"):
            base, shape = name[: -len("down_proj")], parameter.shape
            value = torch.stack([made(f"{base}{e}.w2.weight", shape[1:]) for e in range(shape[0])])
        else:
            value = made(name, parameter.shape)
        state[name] = value
    model.load_state_dict(state, strict=False)


for name, fields in MODELS.items():
    folder = os.path.join(HERE, name)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(fields, f, indent=1)
        f.write("\n")
    config = transformers.AutoConfig.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    fill(model.float().eval())
    ids = list(PROMPT)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
        for _ in range(8):
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    with open(os.path.join(folder, "expected.txt"), "w") as f:
        print(*ids[: len(PROMPT)], file=f)
        print(*ids[len(PROMPT):], file=f)
        for row in logits.tolist():
            print(*(f"{x:.6g}" for x in row), file=f)
    print(name, ids[len(PROMPT):], float(logits.abs().max()))
