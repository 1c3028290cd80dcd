#!/usr/bin/env python3
"""Write data/FAMILY-N/{config.json,tree.txt,cache.txt}: what transformers builds for small configs.

usage: make_goldens.py [FAMILY ...]     in an environment with torch and transformers 5.24.0

Made are the families of CASES here, with whole configs, and those of family_cases.py, with sparse
ones. A line of tree.txt is a module, "name<TAB>class", or below it a tensor,
"  name<TAB>shape<TAB>kind". The last line counts parameters. Inside a fused list of experts nothing is
listed where checkpoints store experts apart: the templates do as checkpoints do. A line of cache.txt
is the bytes that a layer of a running model keeps in bfloat16 after 18 positions of 2 sequences.
stored.txt, "name<TAB>shape", is what transformers saves where its names are others than the tree's.
maps.json has Accelerate's device maps of the family's first config in bfloat16 (accelerate 1.15.0).
"""
import json
import os
import sys

import torch
import transformers
from accelerate.utils import get_balanced_memory, infer_auto_device_map
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.core_model_loading import revert_weight_conversion

import family_cases
import more_family_cases

SMALL = dict(hidden_size=64, intermediate_size=112, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, vocab_size=160, max_position_embeddings=256)
ODD = dict(hidden_size=60, intermediate_size=100, num_hidden_layers=4, num_attention_heads=6,
           num_key_value_heads=3, vocab_size=163, max_position_embeddings=256)
OPT = dict(hidden_size=64, ffn_dim=100, num_hidden_layers=2, num_attention_heads=4, vocab_size=160,
           max_position_embeddings=50)
GPT2 = dict(n_embd=64, n_layer=2, n_head=4, vocab_size=160, n_positions=50)
BLOOM = dict(hidden_size=64, n_layer=2, n_head=4, vocab_size=160)
FALCON = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=160)
DEEPSEEK = dict(SMALL, q_lora_rank=24, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4,
                v_head_dim=12, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=20,
                n_shared_experts=2, first_k_dense_replace=2, n_group=1, topk_group=1)
MOE = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24)


def of_class(name, config, **more):
    return dict(config, architectures=[name], **more)


def without_kv(config):
    return {k: v for k, v in config.items() if k != "num_key_value_heads"}


CASES = {
    "gpt2": [dict(n_embd=64, n_layer=2, n_head=4, vocab_size=160, n_positions=50),
             dict(n_embd=64, n_layer=2, n_head=4, vocab_size=160, n_inner=100, tie_word_embeddings=False),
             of_class("GPT2Model", GPT2), of_class("GPT2ForSequenceClassification", GPT2)],
    "llama": [SMALL, dict(ODD, head_dim=16, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
              of_class("LlamaModel", dict(SMALL, tie_word_embeddings=True)),
              of_class("LlamaForSequenceClassification", SMALL, num_labels=3),
              of_class("LlamaForTokenClassification", SMALL, num_labels=5)],
    "mistral": [dict(ODD, head_dim=16, sliding_window=32), of_class("MistralModel", ODD),
                of_class("MistralForSequenceClassification", ODD)],
    "mixtral": [dict(SMALL, num_local_experts=4), of_class("MixtralModel", dict(SMALL, num_local_experts=4))],
    "qwen2": [SMALL, dict(ODD, use_sliding_window=True, sliding_window=16, max_window_layers=3,
                          tie_word_embeddings=True)],
    "qwen2_moe": [dict(SMALL, **MOE, shared_expert_intermediate_size=40, decoder_sparse_step=2),
                  dict(ODD, **MOE, shared_expert_intermediate_size=40, mlp_only_layers=[1, 3], qkv_bias=False)],
    "qwen3": [dict(ODD, head_dim=16, attention_bias=True), of_class("Qwen3Model", dict(ODD, head_dim=16)),
              of_class("Qwen3ForSequenceClassification", dict(ODD, head_dim=16, num_labels=1,
                                                              tie_word_embeddings=True))],
    "qwen3_moe": [dict(ODD, **MOE, mlp_only_layers=[0], head_dim=16)],
    "gemma": [dict(SMALL, head_dim=16)],
    "gemma2": [dict(ODD, head_dim=16, sliding_window=8),
               of_class("Gemma2ForSequenceClassification", dict(ODD, head_dim=16))],
    "gemma3_text": [dict(ODD, num_hidden_layers=7, head_dim=16, sliding_window=8),
                    of_class("Gemma3TextModel", dict(ODD, head_dim=16)),
                    of_class("Gemma3TextForSequenceClassification", dict(ODD, head_dim=16))],
    "phi3": [dict(ODD, sliding_window=20, pad_token_id=0)],
    "opt": [OPT, dict(OPT, word_embed_proj_dim=32, do_layer_norm_before=False),
            dict(OPT, enable_bias=False, layer_norm_elementwise_affine=False),
            of_class("OPTModel", OPT), of_class("OPTForSequenceClassification", OPT)],
    "gpt_neox": [without_kv(SMALL), dict(without_kv(ODD), attention_bias=False, tie_word_embeddings=True),
                 dict(without_kv(SMALL), hidden_size=16, rotary_pct=0.25)],  # one rotary dimension
    "bloom": [BLOOM, of_class("BloomModel", BLOOM), of_class("BloomForSequenceClassification", BLOOM)],
    "falcon": [FALCON, dict(FALCON, new_decoder_architecture=True, num_kv_heads=2, bias=True),
               dict(FALCON, multi_query=False, parallel_attn=False, bias=True, alibi=True)],
    "deepseek_v2": [dict(DEEPSEEK, q_lora_rank=None, attention_bias=True)],
    "deepseek_v3": [DEEPSEEK, of_class("DeepseekV3Model", DEEPSEEK)],
    "gpt_oss": [dict(SMALL, num_local_experts=4, num_experts_per_tok=2, head_dim=16)],
}


# Accelerate fails; LongCat's tensors are larger than stored; a Longformer's layers stay whole here.
NO_MAPS = {"xlm-roberta", "longcat_flash", "longformer"}
OWN_CLASSES = {"Dropout", "LayerNorm"}  # without tensors, but named as they are


APART = {"KimiLinearForCausalLM", "BailingHybridForCausalLM", "OlmoHybridForCausalLM"}


def tree_lines(model, fused):
    for name, module in model.named_modules():
        if ".experts." in name:
            continue
        if name.endswith(".conv1d") and type(model).__name__ in APART:  # one matrix here, three in its checkpoints
            yield from kernels_apart(name, module, model.get_submodule(name.rsplit(".", 1)[0]))
            continue
        if name.endswith(".attn.k_proj") and "Kimi" in type(model).__name__:  # its checkpoints store one matrix
            yield from fused_attention(name.rsplit(".", 1)[0], module)
        if name.endswith((".attn.q_proj", ".attn.k_proj", ".attn.v_proj")) and "Kimi" in type(model).__name__:
            continue
        plain = not any(True for _ in module.parameters()) and not any(True for _ in module.buffers())
        # The class of an activation depends on the config; the templates call them all the same.
        leaf = plain and not any(True for _ in module.children()) and type(module).__name__ not in OWN_CLASSES
        yield f"{name}\t{'Activation' if leaf else type(module).__name__}"
        if fused and name.endswith(".experts"):
            continue
        for tensor, value in module.named_parameters(recurse=False, remove_duplicate=False):
            yield f"  {tensor}\t{list(value.shape)}\tparameter"
        for tensor, value in module.named_buffers(recurse=False):
            kind = "computed" if tensor in module._non_persistent_buffers_set else "buffer"
            yield f"  {tensor}\t{list(value.shape)}\t{kind}"
    yield f"{sum(p.numel() for p in model.parameters()) - identities(model)} parameters"


def fused_attention(name, key):
    yield f"{name}.wqkv\tLinear"
    rows, columns = key.weight.shape
    yield f"  weight\t{[3 * rows, columns]}\tparameter"
    yield f"  bias\t{[3 * rows]}\tparameter"


def kernels_apart(name, kernel, attention):
    for letter in "qkv":
        rows = getattr(attention, f"{letter}_proj").weight.shape[0]
        yield f"{name.removesuffix('conv1d')}{letter}_conv1d\tConv1d"
        yield f"  weight\t{[rows, *kernel.weight.shape[1:]]}\tparameter"


def identities(model):
    """LongCat's experts that compute nothing have rows in its fused tensor, and none in checkpoints."""
    return sum(m.gate_up_proj[m.num_routed_experts:].numel() for m in model.modules() if hasattr(m, "zero_expert_num"))


BATCH, POSITIONS = 2, 18  # of cache.txt: more positions than the windows of these configs
FUSED = {"gpt_oss", "granitemoe", "granitemoehybrid", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_vl_moe",
         "gemma4", "gemma4_text", "llama4", "llama4_text", "granitemoeshared"}  # whose checkpoints store experts together


def layer_bytes(layer):
    """What a layer of a cache keeps. transformers drops one position of a window that is full."""
    kept = [t for name, t in vars(layer).items() if isinstance(t, torch.Tensor) and not name.startswith("_")]
    window = getattr(layer, "sliding_window", None)
    full = window is not None and POSITIONS >= window
    size = sum(t.nbytes // (window - 1) * window if full else t.nbytes for t in kept)
    for states in (value for value in vars(layer).values() if isinstance(value, dict)):
        size += sum(t.nbytes for t in states.values() if isinstance(t, torch.Tensor))
    return size


def cache_lines(config):
    config._experts_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    with torch.no_grad():
        out = model(input_ids=torch.randint(3, 160, (BATCH, POSITIONS)), use_cache=True)
    cache = out.get("past_key_values") or out.get("cache_params")
    sizes = [layer_bytes(layer) for layer in cache.layers]
    for i, state in enumerate(getattr(cache, "linear_cache", [])):  # MiniMax's, beside the layers
        sizes[i] += state.nbytes if isinstance(state, torch.Tensor) else 0
    if config.model_type == "longcat_flash":  # LongCat's layers have two blocks of attention
        sizes = [a + b for a, b in zip(sizes[::2], sizes[1::2], strict=True)]
    return [str(size) for size in sizes + [0] * (config.get_text_config().num_hidden_layers - len(sizes))]


def stored_lines(config, architecture):
    """What save_pretrained() writes, or nothing where it differs only by taking experts apart."""
    model = build(config, architecture, "cpu")
    saved = {key: value for key, value in model.state_dict().items() if key not in (model.all_tied_weights_keys or {})}
    stored = revert_weight_conversion(model, dict(saved))
    renamed = [key for key in stored if key not in saved]
    if not any(".experts." not in key or key.split(".experts.")[0] + ".experts" not in
               {name.split(".experts.")[0] + ".experts" for name in saved if ".experts." in name} for key in renamed):
        return []
    if config.model_type == "kimi_k25":  # what is published; transformers 5.24 reverts some names too far
        stored = {key.replace("language_model.model.blocks.", "language_model.model.layers.").replace(
            "vision_tower.encoder.patch_embed.", "vision_tower.patch_embed."): value for key, value in stored.items()}
    return sorted(f"{key}\t{list(value.shape)}" for key, value in stored.items())


def maps(model):
    """What Accelerate places where, on two devices that hold two thirds of the model, and a CPU."""
    model = model.to(torch.bfloat16)
    kept_whole = sorted(model._no_split_modules or [])
    whole = sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])
    for policy, low_zero in (("sequential", False), ("balanced", False), ("balanced_low_0", True)):
        budgets = {0: whole * 2 // 5, 1: whole * 4 // 15, "cpu": 10 * whole}
        memory = dict(budgets)
        if policy != "sequential":
            memory = get_balanced_memory(model, max_memory=memory, no_split_module_classes=kept_whole,
                                         dtype=torch.bfloat16, low_zero=low_zero)
        placed = infer_auto_device_map(model, max_memory=memory, no_split_module_classes=kept_whole, dtype=torch.bfloat16)
        yield {"policy": policy, "max_memory": budgets, "device_map": placed}


def build(config, architecture, device="meta"):
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config) if architecture is None else getattr(transformers, architecture)(config)
    model.tie_weights()
    return model


def write(folder, name, lines):
    with open(os.path.join(folder, name), "w") as out:
        out.write("\n".join(lines) + "\n")


def make(family, folder, values, sparse):
    architecture = values.get("architectures", [None])[0]
    config = AutoConfig.for_model(family_cases.CLASSES.get(family, family), **values)
    model = build(config, architecture)
    os.makedirs(folder, exist_ok=True)
    write(folder, "tree.txt", tree_lines(model, family not in FUSED))
    if not sparse:
        config.save_pretrained(folder)
        return
    with open(os.path.join(folder, "config.json"), "w") as out:
        json.dump({"model_type": family, "architectures": [type(model).__name__], "dtype": "bfloat16"} | values, out, indent=1)
        out.write("\n")
    if architecture is None:
        write(folder, "cache.txt", cache_lines(config))
    if folder.endswith("-0") and model._no_split_modules and family not in NO_MAPS:
        placed = ",\n".join(json.dumps(one, separators=(",", ":")) for one in maps(model))
        write(folder, "maps.json", [f"[\n{placed}\n]"])
    if lines := stored_lines(config, architecture) if folder.endswith("-0") else []:
        write(folder, "stored.txt", lines)


def main():
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
    transformers.logging.set_verbosity_error()
    for cases, sparse in ((CASES, False), (family_cases.CASES | more_family_cases.CASES, True)):
        for family, configs in cases.items():
            if sys.argv[1:] and family not in sys.argv[1:]:
                continue
            for number, values in enumerate(configs):
                make(family, os.path.join(root, f"{family}-{number}"), values | family_cases.TOKENS if sparse else values, sparse)
            print(family)


if __name__ == "__main__":
    main()
