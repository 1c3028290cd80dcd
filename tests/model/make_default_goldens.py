#!/usr/bin/env python3
"""Write data/defaults/FAMILY.txt: what transformers makes of a config.json that leaves a key out.

usage: make_default_goldens.py [FAMILY ...]     with torch and transformers 5.24.0; Gemma 3n also with timm

A file begins with a whole config.json, "= KEY<TAB>VALUE"; the keys of a nested config are dotted. The
first "case" changes nothing and is followed by all lines that describe the model. Every other one
changes the config: "-KEY" leaves a key out, "KEY=VALUE" sets it, null included. Below it are the lines
that it adds ("+") and the lines of the first case that it lacks ("-"); of "parameters", "tensors" and
"positions" the added line replaces the other. "each" stands for one case for each of its words, all
with the same outcome. "fails" stands alone: transformers refuses the config.

  tensor NAME SHAPE            {1-3} in a name stands for these layers
  parameters N                 tied ones once
  cache {LAYERS} N of WINDOW   elements a position of a sequence, and the window (0: all)
  experts of a token N
  positions N
  run ...                      what a family that Berth runs computes with: see run_lines()
  run fails                    the model can be made and not be run

The families of BASES have their lines in full. Those of family_cases.py have these instead:

  tensors HASH                 of the sorted "tensor" lines: FNV-1a of 64 bits
  keeps {LAYERS} N             bytes after 18 positions of 2 sequences in bfloat16, as in cache.txt
  window {LAYERS} N            of the layer's cache (0: all)
  ~tensor NAME SHAPE           one of those that a case adds, to show what is different
  too large                    beside other lines: such a model was not run, so that what its layers
                               keep was not recorded; nor was it where one has "run fails"
Nothing is recorded of what a layer keeps where a model has no cache or cannot be run on tokens alone:
encoders, and models with an encoder.
"""
import dataclasses
import json
import math
import os
import sys

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, PreTrainedConfig
from transformers.initialization import no_init_weights

import family_cases
import make_goldens
import more_family_cases
from make_goldens import CASES

transformers.logging.set_verbosity_error()
RUN = ["gpt2", "llama", "mistral", "qwen2", "qwen3", "phi3", "mixtral", "gemma2"]
PROMPT = 18  # tokens; longer than the windows of these configs, shorter than all positions

SMALL = dict(hidden_size=64, intermediate_size=112, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, vocab_size=160, max_position_embeddings=256, rms_norm_eps=1e-4,
             eos_token_id=7, pad_token_id=3, bos_token_id=5)
TALL = dict(SMALL, num_hidden_layers=4)
THETA = dict(rope_theta=50000.0, rope_type="default")
WINDOWED = dict(use_sliding_window=True, sliding_window=16, max_window_layers=1)
MOE = dict(num_experts=4, num_experts_per_tok=3, moe_intermediate_size=24, norm_topk_prob=True)
DEEPSEEK = dict(CASES["deepseek_v3"][0], num_key_value_heads=4, max_position_embeddings=256, num_experts_per_tok=3)

# Values differ from transformers' defaults wherever that is possible, so that a default shows.
BASES = {
    "gpt2": dict(n_embd=64, n_layer=3, n_head=4, vocab_size=160, n_positions=50, n_inner=100,
                 activation_function="relu", layer_norm_epsilon=1e-4, tie_word_embeddings=False,
                 scale_attn_weights=False, scale_attn_by_inverse_layer_idx=True, bos_token_id=5,
                 eos_token_id=7, pad_token_id=3),
    "llama": dict(SMALL, head_dim=20, hidden_act="gelu", attention_bias=True, mlp_bias=True,
                  tie_word_embeddings=True, rope_parameters=THETA),
    "mistral": dict(SMALL, head_dim=20, hidden_act="gelu", sliding_window=16, tie_word_embeddings=True,
                    num_attention_heads=8, rope_parameters=THETA),
    "mixtral": dict(SMALL, head_dim=20, hidden_act="gelu", num_local_experts=4, num_experts_per_tok=3,
                    sliding_window=16, tie_word_embeddings=True, num_attention_heads=8,
                    rope_parameters=THETA),
    "qwen2": dict(SMALL, **WINDOWED, hidden_act="gelu", tie_word_embeddings=True, rope_parameters=THETA),
    "qwen2_moe": dict(TALL, **WINDOWED, **MOE, shared_expert_intermediate_size=40, qkv_bias=False,
                      decoder_sparse_step=2, mlp_only_layers=[3], tie_word_embeddings=True),
    "qwen3": dict(SMALL, **WINDOWED, head_dim=20, attention_bias=True, hidden_act="gelu",
                  tie_word_embeddings=True, rope_parameters=THETA),
    "qwen3_moe": dict(TALL, **MOE, head_dim=20, attention_bias=True, use_sliding_window=True,
                      sliding_window=16, decoder_sparse_step=2, mlp_only_layers=[3],
                      tie_word_embeddings=True, num_attention_heads=8),
    "gemma": dict(SMALL, head_dim=20, attention_bias=True, tie_word_embeddings=False),
    "gemma2": dict(SMALL, head_dim=20, attention_bias=True, sliding_window=16, query_pre_attn_scalar=24,
                   attn_logit_softcapping=2.0, final_logit_softcapping=3.0, hidden_activation="relu",
                   tie_word_embeddings=False, rope_parameters=THETA,
                   layer_types=["full_attention", "sliding_attention", "sliding_attention"]),
    "gemma3_text": dict(SMALL, head_dim=20, num_hidden_layers=7, attention_bias=True, sliding_window=16,
                        tie_word_embeddings=False, layer_types=["full_attention", "sliding_attention"] * 3
                        + ["full_attention"]),
    "phi3": dict(SMALL, hidden_size=128, hidden_act="gelu", sliding_window=16, tie_word_embeddings=True,
                 original_max_position_embeddings=100,
                 rope_parameters=dict(THETA, partial_rotary_factor=0.5)),
    "opt": dict(CASES["opt"][0], word_embed_proj_dim=32, do_layer_norm_before=False, enable_bias=False,
                layer_norm_elementwise_affine=False, tie_word_embeddings=False),
    "gpt_neox": dict(hidden_size=128, intermediate_size=112, num_hidden_layers=3, num_attention_heads=4,
                     vocab_size=160, max_position_embeddings=256, attention_bias=False,
                     tie_word_embeddings=True, rope_parameters=dict(THETA, partial_rotary_factor=0.5)),
    "bloom": dict(hidden_size=96, n_layer=3, n_head=4, vocab_size=160, tie_word_embeddings=False),
    "falcon": dict(hidden_size=64, num_hidden_layers=3, num_attention_heads=4, vocab_size=160,
                   multi_query=False, parallel_attn=False, bias=True, alibi=True,
                   ffn_hidden_size=100, max_position_embeddings=256, tie_word_embeddings=False),
    "deepseek_v2": dict(DEEPSEEK, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "deepseek_v3": dict(DEEPSEEK, attention_bias=True, tie_word_embeddings=True),
    "gpt_oss": dict(SMALL, num_local_experts=4, num_experts_per_tok=3, head_dim=20, sliding_window=16,
                    attention_bias=False, tie_word_embeddings=True, num_attention_heads=8,
                    layer_types=["full_attention", "sliding_attention", "sliding_attention"]),
}

LEFT_OUT = object()
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)
YARN = dict(rope_type="yarn", factor=4.0)
BARE = dict(rope_parameters=LEFT_OUT)
# Where rotary settings may stand, and which of two places wins.
ROPE = [
    dict(rope_scaling=dict(type="linear", factor=4.0)),
    dict(rope_scaling=dict(rope_type="linear", type="llama3", factor=4.0, rope_theta=700.0)),
    dict(rope_scaling=dict(YARN, original_max_position_embeddings=64)),
    dict(rope_scaling=dict(YARN, original_max_position_embeddings=64), rope_parameters=LEFT_OUT),
    dict(rope_scaling={}), dict(rope_scaling=None), dict(rope_theta=700.0),
    dict(BARE, rope_theta=700.0), dict(BARE, rope_theta=700),
    dict(BARE, rope_theta=700.0, rope_scaling=None),
    dict(BARE, rope_theta=700.0, rope_scaling=dict(type="linear", factor=4)),
    dict(BARE, rope_theta=700.0, rope_scaling=dict(type="default")),
    dict(BARE, rope_theta=700.0, rope_scaling=dict(factor=4.0)),
    dict(BARE, rope_scaling=dict(type="linear", factor=4.0)),
    dict(BARE, rope_theta=None), dict(rope_parameters={}), dict(rope_parameters=dict(rope_type="linear")),
    dict(rope_parameters=dict(rope_type="linear", factor=4.0), rope_theta=700.0),
    dict(rope_parameters=dict(rope_theta=None, rope_type="default")),
    dict(rope_parameters=dict(type="linear", factor=2.0, rope_theta=700.0)),
    dict(rope_parameters=dict(THETA, factor=8.0)),
    dict(rope_parameters=LLAMA3), dict(rope_parameters=dict(LLAMA3, original_max_position_embeddings=64)),
    dict(rope_parameters=LLAMA3, original_max_position_embeddings=32),
    dict(rope_parameters=dict(LLAMA3, original_max_position_embeddings=64), original_max_position_embeddings=32),
    dict(BARE, rope_scaling=LLAMA3, original_max_position_embeddings=32, max_position_embeddings=LEFT_OUT),
    dict(BARE, rope_scaling=dict(LLAMA3, original_max_position_embeddings=64), rope_theta=700.0),
    dict(BARE, rope_scaling=dict(LLAMA3, low_freq_factor=LEFT_OUT)),
    dict(BARE, rope_scaling=dict(LLAMA3, high_freq_factor=LEFT_OUT)),
    dict(BARE, rope_scaling=dict(LLAMA3, factor=LEFT_OUT)),
    dict(partial_rotary_factor=0.5), dict(partial_rotary_factor=1.0),
    dict(rope_parameters=dict(THETA, partial_rotary_factor=0.5)),
    dict(rope_parameters=dict(THETA, partial_rotary_factor=0.25), partial_rotary_factor=0.5),
    dict(rope_parameters=dict(THETA, rope_type="linear", factor=4.0), partial_rotary_factor=0.5),
    dict(BARE, rope_theta=700.0, partial_rotary_factor=0.5),
    dict(rope_parameters=dict(full_attention=THETA, sliding_attention=dict(THETA, rope_theta=700.0))),
]
OWN_TYPES = [dict(rope_parameters=dict(full_attention=THETA, sliding_attention=THETA),
                  layer_types=["full_attention", "sliding_attention", "full_attention"])]
BIASES = [dict(attention_bias=True), dict(mlp_bias=True), dict(attention_bias=False, mlp_bias=False)]
NO_TYPES = dict(layer_types=LEFT_OUT)
WINDOWS = [dict(NO_TYPES, use_sliding_window=LEFT_OUT), dict(NO_TYPES, sliding_window=LEFT_OUT),
           dict(NO_TYPES, sliding_window=None), dict(NO_TYPES, max_window_layers=LEFT_OUT),
           dict(NO_TYPES, use_sliding_window=False), dict(use_sliding_window=False),
           dict(layer_types=["full_attention"] * 3), dict(NO_TYPES, max_window_layers=0),
           dict(sliding_window=8)]
VARIANTS = {
    "gpt2": [dict(hidden_size=128, n_embd=LEFT_OUT), dict(hidden_size=128), dict(num_attention_heads=2),
             dict(num_hidden_layers=2), dict(max_position_embeddings=30), dict(n_ctx=20),
             dict(n_positions=LEFT_OUT, n_ctx=20), dict(hidden_size=128, num_attention_heads=2, n_embd=LEFT_OUT,
             n_head=LEFT_OUT), dict(add_cross_attention=True), dict(head_dim=8), dict(num_key_value_heads=2),
             dict(layer_norm_eps=0.5), dict(hidden_act="silu")],
    "llama": ROPE + OWN_TYPES + BIASES + [dict(sliding_window=16), dict(head_dim=LEFT_OUT, num_key_value_heads=LEFT_OUT),
                              dict(num_key_value_heads=3), dict(query_pre_attn_scalar=9.0),
                              dict(attn_logit_softcapping=2.0), dict(final_logit_softcapping=2.0),
                              dict(hidden_activation="relu"), dict(scale_attn_weights=False),
                              dict(num_experts_per_tok=2), dict(hidden_size=60), dict(layer_norm_eps=0.5)],
    "mistral": ROPE + OWN_TYPES + BIASES + [dict(head_dim=LEFT_OUT), dict(num_attention_heads=4, num_key_value_heads=LEFT_OUT),
                                dict(layer_types=["full_attention"] * 3), dict(use_sliding_window=False)],
    "mixtral": ROPE + OWN_TYPES + BIASES + [dict(num_local_experts=LEFT_OUT, num_experts=5), dict(num_experts=5),
                                dict(num_experts_per_tok=9), dict(norm_topk_prob=False)],
    "qwen2": ROPE + BIASES + WINDOWS, "qwen3": ROPE + BIASES + WINDOWS,
    "qwen2_moe": BIASES + WINDOWS + [dict(num_local_experts=5), dict(norm_topk_prob=False)],
    "qwen3_moe": BIASES + WINDOWS + [dict(num_local_experts=5), dict(num_local_experts=5, num_experts=LEFT_OUT)],
    "gemma": BIASES, "gemma3_text": BIASES + [dict(NO_TYPES, sliding_window_pattern=2), dict(NO_TYPES),
                                              dict(use_bidirectional_attention=True)],
    "gemma2": ROPE + BIASES + [dict(NO_TYPES, sliding_window_pattern=3), dict(hidden_act="silu"),
                               dict(hidden_act="silu", hidden_activation=LEFT_OUT),
                               dict(use_bidirectional_attention=True), dict(query_pre_attn_scalar=LEFT_OUT,
                               attn_logit_softcapping=LEFT_OUT, final_logit_softcapping=LEFT_OUT)],
    "phi3": ROPE + OWN_TYPES + BIASES + [dict(head_dim=20)] + [dict(rope_parameters=LEFT_OUT, rope_scaling=dict(
        type=kind, original_max_position_embeddings=64, factor=2.0, short_factor=[1.0] * 16,
        long_factor=[2.0] * 16)) for kind in ("yarn", "longrope")],
    "opt": [dict(_remove_final_layer_norm=True, do_layer_norm_before=True)],
    "gpt_neox": [dict(BARE, rotary_pct=1.0), dict(BARE, rotary_emb_base=700, rotary_pct=0.5),
                 dict(rotary_pct=1.0), dict(BARE, rotary_pct=None),
                 dict(BARE, rope_scaling=dict(type="linear", factor=2.0))],
    "bloom": [dict(n_embed=128), dict(n_embed=128, hidden_size=LEFT_OUT), dict(num_hidden_layers=2),
              dict(num_attention_heads=2), dict(num_attention_heads=2, n_head=LEFT_OUT)],
    "falcon": [dict(n_embed=128), dict(n_layer=2, num_hidden_layers=LEFT_OUT), dict(n_layer=2),
               dict(n_head=2), dict(new_decoder_architecture=True), dict(new_decoder_architecture=True,
               num_kv_heads=LEFT_OUT), dict(multi_query=True), dict(parallel_attn=True),
               dict(new_decoder_architecture=True, num_ln_in_parallel_attn=1), dict(alibi=False),
               dict(parallel_attn=True, num_ln_in_parallel_attn=2), dict(n_head_kv=1),
               dict(new_decoder_architecture=True, n_head_kv=1, num_kv_heads=LEFT_OUT)],
    "deepseek_v2": [dict(q_lora_rank=None), dict(num_experts=5), dict(num_local_experts=5),
                    dict(num_local_experts=5, n_routed_experts=LEFT_OUT), dict(head_dim=20)],
    "deepseek_v3": [dict(q_lora_rank=None), dict(num_local_experts=5), dict(mlp_bias=True), dict(head_dim=20),
                    dict(num_local_experts=5, n_routed_experts=LEFT_OUT)],
    "gpt_oss": [dict(num_experts=5), dict(num_experts=5, num_local_experts=LEFT_OUT), dict(NO_TYPES),
                dict(experts_per_token=2), dict(experts_per_token=2, num_experts_per_tok=LEFT_OUT)],
}
IRRELEVANT = {"model_type", "transformers_version", "architectures", "id2label", "label2id", "dtype", "use_cache",
              "return_dict", "output_hidden_states", "chunk_size_feed_forward", "is_encoder_decoder",
              "problem_type", "initializer_range", "bos_token_id", "init_std", "_name_or_path",
              "output_router_logits", "router_aux_loss_coef", "router_jitter_noise", "classifier_dropout",
              "slow_but_exact", "layerdrop", "output_attentions", "pretraining_tp", "qk_head_dim"}
FIXED = {"model_type", "pad_token_id"}  # kept as they are: a padding id beyond the vocabulary fails


def base_config(family):
    whole = AutoConfig.for_model(family, **BASES[family]).to_dict()
    keys = {k: v for k, v in whole.items() if k not in IRRELEVANT and "pdrop" not in k and "dropout" not in k
            and not k.startswith("summary_")}
    if family.startswith("deepseek"):
        del keys["head_dim"]  # follows from another key
    return json.loads(json.dumps({k: v for k, v in keys.items() if v is not None} | {"model_type": family}))


def changed(base, change):
    def strip(value):
        return {k: strip(v) for k, v in value.items() if v is not LEFT_OUT} if isinstance(value, dict) else value
    return strip({**base, **change})


def folded(entries):
    """(prefix, layer, suffix) with the same text become one line: model.layers.{0-2}.mlp ..."""
    groups = {}
    for head, layer, tail in entries:
        groups.setdefault((head, tail), []).append(layer)
    for (head, tail), layers in groups.items():
        if layers == [None]:
            yield head + tail
            continue
        runs, start = [], 0
        for i in range(1, len(layers) + 1):
            if i == len(layers) or layers[i] != layers[i - 1] + 1:
                first, last = layers[start], layers[i - 1]
                runs.append(f"{first}-{last}" if first != last else str(first))
                start = i
        yield head + "{" + ",".join(runs) + "}" + tail


def tree_lines(model, family):
    entries = []
    for name, module in model.named_modules():
        if ".experts." in name or (name.endswith(".experts") and family != "gpt_oss"):
            continue  # as in make_goldens.py
        tensors = list(module.named_parameters(recurse=False, remove_duplicate=False))
        for tensor, value in tensors + list(module.named_buffers(recurse=False)):
            whole = f"{name}.{tensor}"
            shape = f" {list(value.shape)}"
            parts = whole.split(".")
            at = next((i for i, p in enumerate(parts) if p.isdigit()), None)
            if at is None:
                entries.append((f"tensor {whole}", None, shape))
            else:
                entries.append((f"tensor {'.'.join(parts[:at])}.", int(parts[at]), "." + ".".join(parts[at + 1:]) + shape))
    yield from folded(entries)
    yield f"parameters {sum(p.numel() for p in model.parameters())}"


def attentions(model):
    names = ("self_attn", "attn", "attention", "self_attention")
    for module in model.modules():
        for name in names:
            if type(module).__name__.endswith(("Layer", "Block")) and hasattr(module, name):
                yield getattr(module, name)
                break


class Observer:
    """Sees by which mask, of all or of a window, each layer attends; and what enters the cache."""

    def __init__(self, model, config):
        self.config, self.sliding, self.windows = config, [], []
        module = sys.modules[type(model).__module__]
        self.patched = []
        for name in ("create_sliding_window_causal_mask",):
            if hasattr(module, name):
                original = getattr(module, name)
                self.patched.append((module, name, original))
                setattr(module, name, self.wrapped(original))
        self.hooks = [a.register_forward_pre_hook(self.seen, with_kwargs=True) for a in attentions(model)]

    def wrapped(self, original):
        def make(*args, **kwargs):
            mask = original(*args, **kwargs)
            self.sliding.append(mask)
            return mask
        return make

    def seen(self, module, args, kwargs):
        mask = kwargs.get("attention_mask")
        slides = any(mask is m for m in self.sliding if m is not None)
        self.windows.append(self.config.sliding_window if slides else 0)

    def close(self):
        for hook in self.hooks:
            hook.remove()
        for module, name, original in self.patched:
            setattr(module, name, original)


def number(x):
    return f"{x:.6g}"


def run_lines(family, model, config):
    layers = list(attentions(model))
    heads = config.num_attention_heads
    yield f"run heads {heads}"
    kv_heads = None if family == "gpt2" else config.num_key_value_heads
    yield f"run kv_heads {kv_heads or heads}"
    yield f"run head_dim {layers[0].head_dim}"
    scales = [number(a.scaling) for a in layers]
    yield from folded([("run scale ", i, " " + s) for i, s in enumerate(scales)])
    norm = model.transformer.ln_f if family == "gpt2" else model.model.norm
    yield f"run eps {number(getattr(norm, 'variance_epsilon', None) or getattr(norm, 'eps'))}"
    act = next(m for n, m in model.named_modules() if n.rsplit(".", 1)[-1] in ("act_fn", "act", "activation_fn"))
    values = act(torch.tensor([-2.0, -0.5, 0.5, 2.0])).tolist()
    yield "run activation " + " ".join(number(v) for v in values)
    if family != "gpt2":
        rotary = model.model.rotary_emb
        yield f"run rope_type {rotary.rope_type}"
        if rotary.rope_type in ("default", "linear", "llama3"):
            frequencies = [number(v) for v in rotary.inv_freq.tolist()]
            yield f"run rope {len(frequencies)}: " + " ".join(frequencies[:8] + frequencies[8:][-2:])
    soft = [getattr(layers[0], "attn_logit_softcapping", None), getattr(config, "final_logit_softcapping", None)]
    if family != "gemma2":
        soft = [None, None]
    yield "run caps " + " ".join(number(s or 0) for s in soft)
    if family == "mixtral":
        yield f"run experts {model.model.layers[0].mlp.gate.top_k} of {config.num_local_experts}"
    scale = math.sqrt(config.hidden_size) if family == "gemma2" else 1
    yield f"run embedding_scale {number(scale)}"
    yield f"run ends {json.dumps(config.eos_token_id)}"


def described(family, values):
    try:
        config = AutoConfig.for_model(**json.loads(json.dumps(values)))
        with torch.device("meta"):
            tree = AutoModelForCausalLM.from_config(config)
        tree.tie_weights()
    except Exception as error:
        return {"fails": f"{type(error).__name__}: {error}"}
    lines = list(tree_lines(tree, family))
    chosen = getattr(config, "num_experts_per_tok", None)
    if chosen is not None and any(".experts" in name for name, _ in tree.named_modules()):
        lines.append(f"experts of a token {chosen}")
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None:
        lines.append(f"positions {positions}")
    with no_init_weights():
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    observer = Observer(model, config)
    why = None
    try:
        if family in RUN:
            lines += list(run_lines(family, model, config))
        cache = DynamicCache(config=config)
        with torch.no_grad():
            model(torch.ones(1, PROMPT, dtype=torch.long), cache=cache, use_cache=True)
        if not family.startswith("deepseek"):  # transformers keeps what is made of the latent
            shape = [(layer.keys.shape, layer.values.shape) for layer in cache.layers]
            sizes = [k[1] * k[3] + v[1] * v[3] for k, v in shape]
            lines += folded([("cache ", i, f" {n} of {w or 0}") for i, (n, w) in enumerate(zip(sizes, observer.windows))])
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        lines = [line for line in lines if not line.startswith("run ")] + ["run fails"]
    observer.close()
    return {"lines": lines, "why": why}


def case_word(key, value):
    return f"-{key}" if value is LEFT_OUT else f"{key}={json.dumps(changed({}, {key: value})[key])}"


def case_line(change):
    return "\t".join(["case", *(case_word(key, value) for key, value in change.items())])


def write_in_full(family, out):
    base = base_config(family)
    for key, value in base.items():
        print(f"= {key}\t{json.dumps(value)}", file=out)
    first = described(family, base)
    if "fails" in first:
        sys.exit(first["fails"])
    whole = first["lines"]
    assert first["why"] is None, first["why"]
    print("case", *(" " + line for line in whole), sep="\n", file=out)
    keys = [k for k in base if k not in FIXED]
    changes = [{k: LEFT_OUT} for k in keys] + [{k: None} for k in keys if base[k] is not None] + VARIANTS.get(family, [])
    for change in changes:
        print(case_line(change), file=out)
        found = described(family, changed(base, change))
        if "fails" in found:
            print(" fails", file=out)
        else:
            print(*(f" -{line}" for line in whole if line not in found["lines"]),
                  *(f" +{line}" for line in found["lines"] if line not in whole), sep="\n", file=out, end="")
            if set(whole) != set(found["lines"]):
                print(file=out)
        if "fails" in found or found["why"]:
            print(family, case_line(change), found.get("fails") or found["why"], sep="\n  ")


# ---- The other families: a base is made from the first config of family_cases.py, and recorded briefly.

OTHER = {"qwen2_5_vl": 1, "gemma4": 2}  # whose first config is not the one to begin with
BRIEF = {family: configs[OTHER.get(family, 0)] for family, configs in (family_cases.CASES | more_family_cases.CASES).items()
         if family not in BASES}
# What the config lacks: keys that are null by default, or that no other value can be guessed for.
WINDOW = dict(sliding_window=8)
MORE = {
    "arcee": dict(head_dim=20), "codegen": dict(n_inner=100), "gptj": dict(n_inner=100),
    "gpt_neo": dict(intermediate_size=100), "t5": dict(num_decoder_layers=3, feed_forward_proj="gated-gelu"),
    "gemma4_text": dict(num_experts=4, top_k_experts=2, moe_intermediate_size=24),
    "smollm3": WINDOW, "starcoder2": WINDOW, "phimoe": WINDOW, "minimax": WINDOW, "ministral3": WINDOW,
    "doge": WINDOW, "jamba": dict(mamba_dt_rank=5), "falcon_h1": dict(mamba_d_head=8),
    "nemotron_h": dict(moe_latent_size=32), "phi": dict(hidden_size=128),
    "gemma4": {"text_config.global_head_dim": 24},
    "longcat_flash": dict(ffn_hidden_size=112, expert_ffn_hidden_size=24, moe_topk=2, zero_expert_num=3),
    "granitemoehybrid": dict(mamba_d_head=16, position_embedding_type="rope"),
    "mllama": {"text_config.cross_attention_layers": [1, 2],
               "vision_config.supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]]},
}
# What transformers makes of these (it refuses most of them), no template does.
UNLIKE = {"glm4v_moe": ["text_config.partial_rotary_factor=null"],
          "gemma4": ["vision_config.use_clipped_linears=null", "vision_config.standardize=null"],
          "llama4": ["text_config.tie_word_embeddings=null"],
          "deepseek_v4": ["num_hash_layers=null"], "mellum": ["num_mtp_layers=null"],
          # Its default is no number of experts, which transformers cannot build; checkpoints of that kind are dense.
          "dots1": ["-n_routed_experts", "n_routed_experts=null"],
          # These contradict the lists of layers beside them.
          "kimi_linear": ["-num_hidden_layers", "linear_attn_config=null"],
          "gemma3n": ["audio_config.conf_attention_context_right=null"],
          "qwen3_vl": ["vision_config.deepstack_visual_indexes=null"],
          "qwen3_vl_moe": ["vision_config.deepstack_visual_indexes=null"]}
NOT_RUN = {"deepseek_v4"}  # keeps compressed positions, which are no tensors of a plain layer
LARGE = 4_000_000  # parameters; a larger model is not run
EXPERTS = ("num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts", "experts_per_token")
CLASS_KEYS = {f.name for f in dataclasses.fields(PreTrainedConfig)}
PLAIN = (bool, int, float)
AS_THEY_ARE = ("heads", "time_reduction", "legacy", "add_cross_attention")  # no value but the default goes with the other keys


def matters(key):
    return key not in (IRRELEVANT | CLASS_KEYS) - {"qk_head_dim"} and not any(
        word in key for word in ("dropout", "pdrop", "token_id", "token_index", "initializer", "_coef", "layerdrop", "_init_"))


def parts_of(config):
    """The config itself as "", and each nested one by its key."""
    yield "", config
    for key in sorted(config.sub_configs):
        if isinstance(getattr(config, key, None), PreTrainedConfig):
            yield key + ".", getattr(config, key)


def nested(flat):
    """{"text_config.hidden_size": 64} as {"text_config": {"hidden_size": 64}}"""
    whole = {}
    for key, value in flat.items():
        head, dot, tail = key.partition(".")
        if dot:
            whole.setdefault(head, {})[tail] = value
        else:
            whole[key] = value
    return whole


def flattened(values, inner):
    return {**{k: v for k, v in values.items() if k not in inner},
            **{f"{key}.{k}": v for key in inner for k, v in values.get(key, {}).items()}}


def config_of(values):
    values = json.loads(json.dumps(values))
    kind = values.pop("model_type")
    return AutoConfig.for_model(family_cases.CLASSES.get(kind, kind), **values)


def said_and_default(values):
    """A whole config, flat: what `values` says, and the default of every other key unless that is null.
    And the keys that are null by default."""
    config = config_of(values)
    inner = [prefix[:-1] for prefix, _ in parts_of(config) if prefix]
    flat = flattened(values, inner)
    nulls = []
    for prefix, part in parts_of(config):
        if prefix:
            flat.setdefault(prefix + "model_type", part.model_type)
        for field in dataclasses.fields(part):
            key = prefix + field.name
            if key in flat or field.name in inner or not matters(field.name) or field.name == "rope_parameters":
                continue
            if prefix + part.attribute_map.get(field.name, "") in flat:
                continue  # another name of a key that is there
            if any(alias in flat for alias in (prefix + a for a, k in part.attribute_map.items() if k == field.name)):
                continue
            value = field.default if field.default is not dataclasses.MISSING else None
            if field.default_factory is not dataclasses.MISSING:
                value = field.default_factory()
            if value is None:
                nulls.append(key)
            else:
                flat[key] = json.loads(json.dumps(value))
    return flat, nulls


def model_of(values, known=None):
    """The config, and the model unless the config is `known` already."""
    config = config_of(values)
    if known is not None and config.to_json_string(use_diff=False) == known:
        return config, None
    return config, make_goldens.build(config, values.get("architectures", [None])[0])


def whole_tensor_lines(model, family):
    """As tree_lines(), of the tensors that make_goldens.py lists."""
    entries, module = [], ""
    for line in make_goldens.tree_lines(model, family not in make_goldens.FUSED):
        words = line.removeprefix("  ").split("\t")
        if not line.startswith("  "):
            module = words[0]
            continue
        parts = (f"{module}.{words[0]}" if module else words[0]).split(".")
        at = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        if at is None:
            entries.append((f"tensor {'.'.join(parts)}", None, " " + words[1]))
        else:
            entries.append((f"tensor {'.'.join(parts[:at])}.", int(parts[at]), f".{'.'.join(parts[at + 1:])} {words[1]}"))
    return sorted(folded(entries))


def hashed(lines):
    value = 0xCBF29CE484222325
    for byte in "".join(line + "\n" for line in lines).encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def kept_lines(model, config):
    """What each layer keeps. The values of the weights do not matter, so they are zeros."""
    model = model.to(torch.bfloat16).to_empty(device="cpu").eval()
    for tensor in [*model.parameters(), *model.buffers()]:
        tensor.data.zero_()
    ids = torch.full((make_goldens.BATCH, make_goldens.POSITIONS), 3)
    with torch.no_grad():
        out = model(input_ids=ids, use_cache=True)
    cache = out.get("past_key_values") or out.get("cache_params")
    sizes = [make_goldens.layer_bytes(layer) for layer in cache.layers]
    windows = [getattr(layer, "sliding_window", None) or 0 for layer in cache.layers]
    for i, state in enumerate(getattr(cache, "linear_cache", [])):
        sizes[i] += state.nbytes if isinstance(state, torch.Tensor) else 0
    if config.model_type == "longcat_flash":
        sizes = [a + b for a, b in zip(sizes[::2], sizes[1::2], strict=True)]
        windows = windows[::2]
    yield from folded([("keeps ", i, f" {n}") for i, n in enumerate(sizes)])
    yield from folded([("window ", i, f" {n}") for i, n in enumerate(windows)])


def described_briefly(family, values, with_cache, first=None):
    """Of a config that transformers completes to the same as the first one, `first` again."""
    try:
        config, model = model_of(values, first and first["config"])
    except Exception as error:
        return {"fails": f"{type(error).__name__}: {error}"}
    if model is None:
        return first
    tensors = whole_tensor_lines(model, family)
    count = sum(p.numel() for p in model.parameters()) - make_goldens.identities(model)
    lines = [f"parameters {count}", f"tensors {hashed(tensors)}"]
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    if isinstance(positions, int):
        lines.append(f"positions {positions}")
    chosen = next((getattr(text, key) for key in EXPERTS if getattr(text, key, None) is not None), None)
    if chosen is not None and any(".experts" in name for name, _ in model.named_modules()):
        lines += sorted({f"experts of a token {n}" for n in (chosen if isinstance(chosen, list) else [chosen])})
    completed = config.to_json_string(use_diff=False)
    why = "too large" if count > LARGE else None
    if with_cache and not why:
        try:
            config._experts_implementation = "eager"
            lines += kept_lines(model, config)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
    return {"lines": lines, "tensors": tensors, "why": why if with_cache else None, "config": completed}


def others(value):
    """Values of the same type that may be valid in place of a default."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [2 * value or 1, value - 1, value + 1] if value > 0 else [1]
    return [value / 2]


def varied(family, flat, fixed):
    """Gives every key that has its default another value, if that makes another model."""
    found = described_briefly(family, nested(flat), True)
    if "fails" in found:
        raise ValueError(f"{family}: {found['fails']}")
    why = "not run" if family in NOT_RUN else found["why"]
    if why:
        print(family, "has no cache here:", why)
    with_cache = why is None
    if family in NOT_RUN:
        found = described_briefly(family, nested(flat), False)
    for key in sorted(flat, key=lambda k: not isinstance(flat[k], bool)):
        if key in fixed or not isinstance(flat[key], PLAIN) or key.rpartition(".")[2].endswith(AS_THEY_ARE):
            continue
        for value in others(flat[key]):
            other = described_briefly(family, nested({**flat, key: value}), with_cache)
            if "fails" in other or other["why"]:
                continue
            if other["lines"] != found["lines"]:
                flat, found = {**flat, key: value}, other
                break
    return flat, found, with_cache


def outcome(found, first):
    if "fails" in found:
        return (" fails",)
    lines = found["lines"]
    whole = [line for line in first["lines"] if not found["why"] or not line.startswith(("keeps", "window"))]
    single = ("parameters", "tensors", "positions")
    kinds = {line.split()[0] for line in lines}
    out = [f" -{line}" for line in whole if line not in lines and
           (line.split()[0] not in single or line.split()[0] not in kinds)]
    out += [f" +{line}" for line in lines if line not in whole]
    if found["why"]:
        out.append(" too large" if found["why"] == "too large" else " run fails")
    return tuple(out)


def telling(found, first):
    new = [line for line in found.get("tensors", []) if line not in set(first.get("tensors", []))]
    return [f" ~{line}" for line in new[:1] + new[1:][-1:] if len(line) < 100]


def write_briefly(family, out):
    values = {**BRIEF[family], "model_type": family}
    for key, value in family_cases.TOKENS.items():
        values.setdefault(key, value)
    flat, nulls = said_and_default({**values, "dtype": "bfloat16"})
    flat |= MORE.get(family, {})
    nulls = [key for key in nulls if key not in flat]
    fixed = set(flattened(values, [k for k, v in values.items() if isinstance(v, dict)])) | set(MORE.get(family, {}))
    flat, first, with_cache = varied(family, flat, fixed)
    for key, value in flat.items():
        print(f"= {key}\t{json.dumps(value)}", file=out)
    print("case", *(" " + line for line in first["lines"]), sep="\n", file=out)
    keys = [k for k in flat if matters(k.rpartition(".")[2]) and k.rpartition(".")[2] != "model_type"]
    groups, shown = {}, {}
    for key, value in [(k, LEFT_OUT) for k in keys] + [(k, None) for k in keys + nulls]:
        if case_word(key, value) in UNLIKE.get(family, []):
            continue
        found = described_briefly(family, nested({k: v for k, v in {**flat, key: value}.items() if v is not LEFT_OUT}),
                                  with_cache, first)
        after = outcome(found, first)
        groups.setdefault(after, []).append(case_word(key, value))
        shown.setdefault(after, telling(found, first))
        if why := found.get("fails") or found["why"]:
            print("  ", case_word(key, value), why.replace("\n", " ")[:200])
    for after, words in groups.items():
        print("\t".join(["each", *words]), *after, *shown[after], sep="\n", file=out)


def main():
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "defaults")
    os.makedirs(root, exist_ok=True)
    for family in sys.argv[1:] or [*BASES, *BRIEF]:
        with open(os.path.join(root, f"{family}.txt"), "w") as out:
            (write_in_full if family in BASES else write_briefly)(family, out)
        print(family, os.path.getsize(out.name), flush=True)


if __name__ == "__main__":
    main()
