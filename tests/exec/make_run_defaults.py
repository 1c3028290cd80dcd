#!/usr/bin/env python3
"""Writes run_defaults.txt: what transformers computes with where a config.json leaves out all it can.

usage: make_run_defaults.py        with torch and transformers 5.24.0; the tests themselves need neither

One block a family that Berth runs: "= {config.json}", then lines of what a model of this config
computes with, as defaults_test.cc prints them. The config has nothing but what the family needs, and
few layers. Models are made on the meta device, so they take no memory.
"""
import json
import math
import os

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

transformers.logging.set_verbosity_error()
HERE = os.path.dirname(os.path.abspath(__file__))
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=8192)
# What transformers or Berth cannot do without, beside the number of layers.
NEEDS = {
    "apertus": dict(rope_parameters=LLAMA3), "cwm": dict(rope_parameters=LLAMA3),
    "gpt_oss": dict(rope_parameters=dict(rope_type="default")),
    "ministral3": dict(rope_parameters=dict(rope_type="yarn", factor=16.0, llama_4_scaling_beta=0.1,
                                            original_max_position_embeddings=16384)),
    "dots1": dict(n_routed_experts=8, num_experts_per_tok=2, n_shared_experts=1),
    "hunyuan_v1_dense": dict(head_dim=128), "hunyuan_v1_moe": dict(head_dim=128), "ministral": dict(head_dim=128),
    "deepseek_v2": dict(num_experts_per_tok=6), "glm4_moe": dict(head_dim=128),
    "nemotron": dict(num_key_value_heads=8),
    "lfm2_moe": dict(layer_types=["conv", "full_attention", "conv", "full_attention"]),
    "lfm2": dict(full_attn_idxs=[1]),
}
# Models that also see, and the text models within.
SEEING = {"gemma3": "gemma3_text", "mistral3": "mistral", "qwen3_5": "qwen3_5_text", "qwen3_5_moe": "qwen3_5_moe_text",
          "qwen3_vl": "qwen3_vl_text", "qwen3_vl_moe": "qwen3_vl_moe_text"}
CLASSES = {"kimi_k2": "deepseek_v3"}  # by whose class it is run
LATENT = ("deepseek_v2", "deepseek_v3", "kimi_k2", "glm4_moe_lite")
WINDOW_IN_ALL = ("mistral", "ministral3", "mistral3", "mixtral", "phimoe", "phi3", "starcoder2", "qwen3_moe")
ATTENTIONS = ("self_attn", "attn", "attention", "self_attention")
FINAL_NORMS = ("model.norm", "transformer.ln_f", "model.final_layernorm", "gpt_neox.final_layer_norm",
               "model.embedding_norm", "model.language_model.norm")


def number(x):
    return f"{x:.6g}"


def folded(word, values):
    """As FoldedLines in default_cases.h: a line for each value, with the layers that have it."""
    for value in dict.fromkeys(values):
        layers = [i for i, v in enumerate(values) if v == value]
        runs = []
        for i in layers:
            if runs and runs[-1][1] == i - 1:
                runs[-1][1] = i
            else:
                runs.append([i, i])
        where = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
        yield f"run {word} {{{where}}} {value}"


def rope_lines(model, config):
    found = [m for name, m in model.named_modules() if name.rsplit(".", 1)[-1] in ("rotary_emb", "pos_emb")
             and ".vis" not in name]
    if not found:
        return
    rotary = type(found[0])(config=config)
    kinds = [f"{kind}_inv_freq" for kind in ("full_attention", "sliding_attention")]
    for name in [k for k in kinds if hasattr(rotary, k)] or ["inv_freq"]:
        values = [number(x) for x in getattr(rotary, name).tolist()]
        yield f"run rope {len(values)}: " + " ".join(values[:8] + values[8:][-2:])


def lines_of(family, model, config):
    modules = {name: m for name, m in model.named_modules() if ".vis" not in name and "multi_modal" not in name}
    attention = [getattr(m, name) for m in modules.values() for name in ATTENTIONS
                 if isinstance(getattr(m, name, None), torch.nn.Module)]
    heads = config.num_attention_heads
    if family not in LATENT:
        yield f"run heads {heads}"
        dim = getattr(attention[0], "head_dim", None) or attention[0].head_size
        yield f"run head_dim {dim}"
        if family not in ("gpt2", "gpt_neox", "persimmon", "falcon"):
            yield f"run kv_heads {config.num_key_value_heads or heads}"
        scale = getattr(attention[0], "scaling", None) or getattr(attention[0], "inv_norm_factor", None)
        yield from folded("scale", [number(scale)] * config.num_hidden_layers)
    norm = next(modules[name] for name in FINAL_NORMS if name in modules)
    eps = getattr(norm, "variance_epsilon", None) or getattr(norm, "eps", None)
    if eps is not None:
        yield f"run eps {number(eps)}"
    act = next((m for name, m in modules.items() if name.rsplit(".", 1)[-1] in ("act_fn", "act", "activation_fn")), None)
    if act is not None and family != "apertus":
        yield "run activation " + " ".join(number(v) for v in act(torch.tensor([-2.0, -0.5, 0.5, 2.0], device="cpu")).tolist())
    yield from rope_lines(model, config)
    gemma = "gemma" in family
    caps = [getattr(config, f"{k}_logit_softcapping", None) if gemma else None for k in ("attn", "final")]
    yield "run caps " + " ".join(number(c or 0) for c in caps)
    scale = math.sqrt(config.hidden_size) if gemma else getattr(config, "embedding_multiplier", 1)
    yield f"run embedding_scale {number(scale)}"
    yield f"run residual_scale {number(getattr(config, 'residual_multiplier', 1))}"
    scaling = getattr(config, "logits_scaling", 1)
    scaling = getattr(config, "logit_scale", 1) * (scaling if family == "hyperclovax" else 1 / scaling)
    yield f"run logit_scale {number(scaling)}"
    yield f"run clip {number(getattr(config, 'clip_qkv', None) or 0)}"
    types = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None) or 0
    slides = [types[i] == "sliding_attention" if types else family in WINDOW_IN_ALL
              for i in range(config.num_hidden_layers)]
    yield from folded("window", [window if s else 0 for s in slides])
    if any(name.endswith(".experts") for name in modules):
        picked = next(getattr(config, k) for k in ("num_experts_per_tok", "moe_topk", "moe_k") if hasattr(config, k))
        count = next(getattr(config, k) for k in ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
                     if isinstance(getattr(config, k, None), int))
        yield f"run experts {picked} of {count}"
        yield f"run routed_scale {number(getattr(config, 'routed_scaling_factor', 1))}"
        if family != "deepseek_v2":
            if hasattr(config, "norm_topk_prob"):
                yield f"run norm_topk {int(config.norm_topk_prob)}"
            yield f"run groups {getattr(config, 'topk_group', 1) or 1} of {getattr(config, 'n_group', 1) or 1}"
    ends = getattr(config, "eos_token_id", None)
    if not isinstance(ends, list):  # which no template can give
        yield f"run ends {json.dumps(ends)}"


def families():
    """The model types of the table, by the configs of data/: each family has one there."""
    kinds = set()
    for name in os.listdir(os.path.join(HERE, "data")):
        path = os.path.join(HERE, "data", name, "config.json")
        if os.path.exists(path):
            kinds.add(json.load(open(path))["model_type"])
    return sorted(kinds | set(CLASSES))


with open(os.path.join(HERE, "run_defaults.txt"), "w") as out:
    for family in families():
        values = dict(model_type=family, num_hidden_layers=4, **NEEDS.get(family, {}))
        if family == "gpt2":
            values["n_layer"] = values.pop("num_hidden_layers")
        if family in SEEING:
            values = dict(model_type=family, text_config=dict(model_type=SEEING[family], num_hidden_layers=4),
                          vision_config=dict(depth=1) if "qwen" in family else dict(num_hidden_layers=1))
        config = AutoConfig.for_model(**(json.loads(json.dumps(values)) | {"model_type": CLASSES.get(family, family)}))
        with torch.device("meta"):
            model = (AutoModelForImageTextToText if family in SEEING else AutoModelForCausalLM).from_config(config)
        print("= " + json.dumps(values), *lines_of(family, model, config.get_text_config()), sep="\n", file=out)
        print(family)
