#!/usr/bin/env python3
"""Make a Hugging Face checkpoint folder out of a config alone.

The names, shapes and dtypes follow from the config, as the architecture defines them; headers,
shards and index are real safetensors. The weights are holes (`--fill none`: a 131 GiB model takes
a few MB of disk and reads as zeros) or finite seeded random numbers (`--fill random`).

  scripts/make_checkpoint.py llama-3.3-70b OUT                 a preset, weightless
  scripts/make_checkpoint.py gpt2-medium OUT                   a preset, random float32
  scripts/make_checkpoint.py path/to/config.json OUT --fill random --seed 7 --shards 3

Only the standard library is used. OUT appears when it is complete and not before.
"""
import argparse
import json
import multiprocessing
import os
import random
import re
import shutil
import struct
import sys
from pathlib import Path

BYTES = {"F32": 4, "F16": 2, "BF16": 2}
TORCH_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


# --- what an architecture stores: lists of (name, shape) ---------------------------------------

def linear(name, out, into, bias=False):
    return [(f"{name}.weight", [out, into])] + ([(f"{name}.bias", [out])] if bias else [])


def norm(name, size, bias=False):
    return [(f"{name}.weight", [size])] + ([(f"{name}.bias", [size])] if bias else [])


def gated_mlp(name, hidden, inner, bias=False):
    return (linear(f"{name}.gate_proj", inner, hidden, bias)
            + linear(f"{name}.up_proj", inner, hidden, bias)
            + linear(f"{name}.down_proj", hidden, inner, bias))


def attention(c, name):
    """Separate q, k, v and o projections with grouped heads."""
    hidden, heads = c["hidden_size"], c["num_attention_heads"]
    head_dim = c.get("head_dim") or hidden // heads
    kv = (c.get("num_key_value_heads") or heads) * head_dim
    bias = c["model_type"] in ("qwen2", "qwen2_moe") or bool(c.get("attention_bias"))
    tensors = (linear(f"{name}.q_proj", heads * head_dim, hidden, bias)
               + linear(f"{name}.k_proj", kv, hidden, bias)
               + linear(f"{name}.v_proj", kv, hidden, bias)
               + linear(f"{name}.o_proj", hidden, heads * head_dim, bool(c.get("attention_bias"))))
    if c["model_type"] in ("qwen3", "qwen3_moe"):
        tensors += norm(f"{name}.q_norm", head_dim) + norm(f"{name}.k_norm", head_dim)
    return tensors


def latent_attention(c, name):
    """DeepSeek's: queries and keys go through low-rank projections."""
    hidden, heads = c["hidden_size"], c["num_attention_heads"]
    nope, rope, value = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
    rank = c["kv_lora_rank"]
    if c.get("q_lora_rank"):
        queries = (linear(f"{name}.q_a_proj", c["q_lora_rank"], hidden)
                   + norm(f"{name}.q_a_layernorm", c["q_lora_rank"])
                   + linear(f"{name}.q_b_proj", heads * (nope + rope), c["q_lora_rank"]))
    else:
        queries = linear(f"{name}.q_proj", heads * (nope + rope), hidden)
    return (queries + linear(f"{name}.kv_a_proj_with_mqa", rank + rope, hidden)
            + norm(f"{name}.kv_a_layernorm", rank)
            + linear(f"{name}.kv_b_proj", heads * (nope + value), rank)
            + linear(f"{name}.o_proj", hidden, heads * value))


def feed_forward(c, layer, name):
    hidden, family = c["hidden_size"], c["model_type"]
    if family == "mixtral":
        name = name.replace(".mlp", ".block_sparse_moe")
        tensors = linear(f"{name}.gate", c["num_local_experts"], hidden)
        for e in range(c["num_local_experts"]):
            expert = f"{name}.experts.{e}"
            tensors += (linear(f"{expert}.w1", c["intermediate_size"], hidden)
                        + linear(f"{expert}.w2", hidden, c["intermediate_size"])
                        + linear(f"{expert}.w3", c["intermediate_size"], hidden))
        return tensors
    if family == "qwen3_moe":
        tensors = linear(f"{name}.gate", c["num_experts"], hidden)
        for e in range(c["num_experts"]):
            tensors += gated_mlp(f"{name}.experts.{e}", hidden, c["moe_intermediate_size"])
        return tensors
    if family == "deepseek_v3" and layer >= c["first_k_dense_replace"]:
        inner = c["moe_intermediate_size"]
        tensors = linear(f"{name}.gate", c["n_routed_experts"], hidden)
        tensors.append((f"{name}.gate.e_score_correction_bias", [c["n_routed_experts"]]))
        for e in range(c["n_routed_experts"]):
            tensors += gated_mlp(f"{name}.experts.{e}", hidden, inner)
        return tensors + gated_mlp(f"{name}.shared_experts", hidden, inner * c["n_shared_experts"])
    if family == "phi3":
        return (linear(f"{name}.gate_up_proj", 2 * c["intermediate_size"], hidden)
                + linear(f"{name}.down_proj", hidden, c["intermediate_size"]))
    return gated_mlp(name, hidden, c["intermediate_size"], bool(c.get("mlp_bias")))


def llama_like(c):
    """llama and the families that share its skeleton."""
    hidden, family = c["hidden_size"], c["model_type"]
    tensors = [("model.embed_tokens.weight", [c["vocab_size"], hidden])]
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        if family == "deepseek_v3":
            tensors += latent_attention(c, f"{layer}.self_attn")
        elif family == "phi3":
            heads = c["num_attention_heads"]
            fused = (heads + 2 * c["num_key_value_heads"]) * (hidden // heads)
            tensors += (linear(f"{layer}.self_attn.qkv_proj", fused, hidden)
                        + linear(f"{layer}.self_attn.o_proj", hidden, hidden))
        else:
            tensors += attention(c, f"{layer}.self_attn")
        tensors += feed_forward(c, i, f"{layer}.mlp")
        tensors += norm(f"{layer}.input_layernorm", hidden)
        tensors += norm(f"{layer}.post_attention_layernorm", hidden)
    tensors += norm("model.norm", hidden)
    if not c.get("tie_word_embeddings", False):
        tensors.append(("lm_head.weight", [c["vocab_size"], hidden]))
    return tensors


def gpt2(c):
    hidden = c["n_embd"]
    inner = c.get("n_inner") or 4 * hidden
    conv = lambda name, into, out: [(f"{name}.weight", [into, out]), (f"{name}.bias", [out])]
    tensors = [("transformer.wte.weight", [c["vocab_size"], hidden]),
               ("transformer.wpe.weight", [c["n_positions"], hidden])]
    for i in range(c["n_layer"]):
        layer = f"transformer.h.{i}"
        tensors += (norm(f"{layer}.ln_1", hidden, bias=True)
                    + conv(f"{layer}.attn.c_attn", hidden, 3 * hidden)
                    + conv(f"{layer}.attn.c_proj", hidden, hidden)
                    + norm(f"{layer}.ln_2", hidden, bias=True)
                    + conv(f"{layer}.mlp.c_fc", hidden, inner)
                    + conv(f"{layer}.mlp.c_proj", inner, hidden))
    return tensors + norm("transformer.ln_f", hidden, bias=True)


def gpt_neox(c):
    hidden, inner = c["hidden_size"], c["intermediate_size"]
    tensors = [("gpt_neox.embed_in.weight", [c["vocab_size"], hidden])]
    for i in range(c["num_hidden_layers"]):
        layer = f"gpt_neox.layers.{i}"
        tensors += (norm(f"{layer}.input_layernorm", hidden, bias=True)
                    + norm(f"{layer}.post_attention_layernorm", hidden, bias=True)
                    + linear(f"{layer}.attention.query_key_value", 3 * hidden, hidden, bias=True)
                    + linear(f"{layer}.attention.dense", hidden, hidden, bias=True)
                    + linear(f"{layer}.mlp.dense_h_to_4h", inner, hidden, bias=True)
                    + linear(f"{layer}.mlp.dense_4h_to_h", hidden, inner, bias=True))
    tensors += norm("gpt_neox.final_layer_norm", hidden, bias=True)
    if not c.get("tie_word_embeddings", False):
        tensors.append(("lm_head.weight", [c["vocab_size"], hidden]))
    return tensors


FAMILIES = {family: llama_like for family in
            ("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "phi3", "deepseek_v3")}
FAMILIES.update(gpt2=gpt2, gpt_neox=gpt_neox)


# --- presets: published shapes, with the parameter count that they must come to -----------------

def llama_config(**sizes):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16",
            "hidden_act": "silu", "rms_norm_eps": 1e-5, "max_position_embeddings": 131072,
            "rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"},
            "vocab_size": 128256, **sizes}


PRESETS = {
    # Llama-3.3-70B's shapes: 723 tensors, 131 GiB.
    "llama-3.3-70b": dict(
        config=llama_config(hidden_size=8192, intermediate_size=28672, num_hidden_layers=80,
                            num_attention_heads=64, num_key_value_heads=8, head_dim=128,
                            tie_word_embeddings=False),
        parameters=70_553_706_496),
    # GPT-2 medium's shapes in float32: the example that is quoted for loading frugally.
    "gpt2-medium": dict(
        config={"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "dtype": "float32",
                "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "n_embd": 1024,
                "n_head": 16, "n_layer": 24, "n_positions": 1024, "vocab_size": 50257,
                "bos_token_id": 50256, "eos_token_id": 50256, "tie_word_embeddings": True},
        parameters=354_823_168, fill="random"),
    # Llama-3.2-1B's shapes: 2.47 GB of bfloat16.
    "bf16-2.5gb": dict(
        config=llama_config(hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
                            num_attention_heads=32, num_key_value_heads=8, head_dim=64,
                            tie_word_embeddings=True),
        parameters=1_235_814_400, fill="random", shards=5),
    # Llama-3.1-8B's shapes: 16.1 GB of bfloat16.
    "llama-3.1-8b": dict(
        config=llama_config(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
                            num_attention_heads=32, num_key_value_heads=8, head_dim=128,
                            tie_word_embeddings=False),
        parameters=8_030_261_248, fill="random", shards=16),
    # A mixture like Mixtral, whose experts transformers stacks while it loads: 1.44 GB of bfloat16.
    "mixture-1.4gb": dict(
        config={"architectures": ["MixtralForCausalLM"], "model_type": "mixtral",
                "dtype": "bfloat16", "hidden_size": 1024, "intermediate_size": 1792,
                "num_hidden_layers": 8, "num_attention_heads": 16, "num_key_value_heads": 4,
                "num_local_experts": 16, "num_experts_per_tok": 2, "hidden_act": "silu",
                "rms_norm_eps": 1e-5, "max_position_embeddings": 4096,
                "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
                "vocab_size": 2048, "tie_word_embeddings": False},
        fill="random", shards=3),
    # SmolLM2-135M's shapes: 0.27 GB of bfloat16 in one file.
    "small": dict(
        config=llama_config(hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                            num_attention_heads=9, num_key_value_heads=3, head_dim=64,
                            vocab_size=49152, tie_word_embeddings=True),
        parameters=134_515_008, fill="random", shards=1),
    # DeepSeek-V3's shapes in bfloat16: 45,395 tensors, 1.3 TB.
    "deepseek-v3": dict(
        config={"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3",
                "dtype": "bfloat16", "hidden_size": 7168, "intermediate_size": 18432,
                "moe_intermediate_size": 2048, "num_hidden_layers": 61, "num_attention_heads": 128,
                "num_key_value_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512,
                "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
                "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8,
                "n_group": 8, "topk_group": 4, "first_k_dense_replace": 3,
                "routed_scaling_factor": 2.5, "norm_topk_prob": True, "hidden_act": "silu",
                "rms_norm_eps": 1e-6, "max_position_embeddings": 4096, "rope_interleave": True,
                "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
                "vocab_size": 129280, "tie_word_embeddings": False},
        parameters=671_026_419_200, shard_size=8_000_000_000),
    # Qwen3-30B-A3B's 18,867 tensors with narrow matrices: what one tensor costs a loader.
    "many-tensors": dict(
        config={"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe",
                "dtype": "bfloat16", "hidden_size": 64, "intermediate_size": 192,
                "moe_intermediate_size": 24, "num_hidden_layers": 48, "num_attention_heads": 32,
                "num_key_value_heads": 4, "head_dim": 8, "num_experts": 128,
                "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": [],
                "norm_topk_prob": True, "hidden_act": "silu", "rms_norm_eps": 1e-6,
                "max_position_embeddings": 40960,
                "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
                "vocab_size": 151936, "tie_word_embeddings": False},
        fill="random", shards=16),
}


# --- writing ------------------------------------------------------------------------------------

def parse_size(text):
    match = re.fullmatch(r"(\d+)\s*([KMGT]i?B)?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size (try 5GB or 512MiB)")
    unit = match[2] or ""
    power = " KMGT".index(unit[0]) if unit else 0
    return int(match[1]) * (1024 if "i" in unit else 1000) ** power


def product(shape):
    count = 1
    for extent in shape:
        count *= extent
    return count


def split(tensors, shard_bytes, shards):
    """Lists of tensors, one a shard, in order: `shards` even ones, else none above shard_bytes."""
    out, size, offset = [[]], 0, 0
    total = sum(nbytes for *_, nbytes in tensors)
    for tensor in tensors:
        nbytes = tensor[-1]
        if shards:
            full = (offset + nbytes / 2) * shards >= total * len(out)
        else:
            full = size + nbytes > shard_bytes
        if out[-1] and full:
            out.append([])
            size = 0
        out[-1].append(tensor)
        size += nbytes
        offset += nbytes
    return out


class RandomWeights:
    """Finite values of both signs, magnitudes from 2^-9 to 2^-5: random sign, mantissa and two low
    exponent bits, the rest of the exponent fixed. About as compressible as trained weights."""

    CHUNK = 4 << 20  # bytes; a multiple of every element size
    BITS = {"F32": (32, 0x81FFFFFF, 0x3B000000), "BF16": (16, 0x81FF, 0x3B00),
            "F16": (16, 0x8FFF, 0x1800)}

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.masks = {}
        for dtype, (width, keep, put) in self.BITS.items():
            count = self.CHUNK * 8 // width
            self.masks[dtype] = tuple(
                int.from_bytes(word.to_bytes(width // 8, "little") * count, "little")
                for word in (keep, put))

    def write(self, file, dtype, nbytes):
        keep, put = self.masks[dtype]
        for left in range(nbytes, 0, -self.CHUNK):
            size = min(left, self.CHUNK)
            spare = (self.CHUNK - size) * 8  # the masks repeat: any stretch of them will do
            bits = (self.random.getrandbits(size * 8) & (keep >> spare)) | (put >> spare)
            file.write(bits.to_bytes(size, "little"))


def write_shard(path, tensors, seed):
    """`seed` None: holes."""
    weights = None if seed is None else RandomWeights(seed)
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape, nbytes in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + nbytes]}
        offset += nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        if weights is None:
            file.truncate(8 + len(text) + offset)
        else:
            for _, dtype, _, nbytes in tensors:
                weights.write(file, dtype, nbytes)


def list_tensors(config, source):
    """(name, dtype, shape, bytes) of every tensor that a checkpoint of this config stores."""
    family = config.get("model_type")
    if family not in FAMILIES:
        sys.exit(f"{source}: model_type: '{family}' is not known here ({', '.join(FAMILIES)})")
    named = config.get("dtype") or config.get("torch_dtype") or "float32"
    if named not in TORCH_DTYPES:
        sys.exit(f"{source}: dtype: '{named}' is not one of {', '.join(TORCH_DTYPES)}")
    dtype = TORCH_DTYPES[named]
    try:
        shapes = FAMILIES[family](config)
    except KeyError as missing:
        sys.exit(f"{source}: {missing.args[0]}: missing, and '{family}' needs it")
    return [(name, dtype, shape, product(shape) * BYTES[dtype]) for name, shape in shapes]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", help=f"config.json, a folder with one, or {', '.join(PRESETS)}")
    parser.add_argument("out", type=Path, help="folder to make; must not exist unless --force")
    parser.add_argument("--fill", choices=["none", "random"], help="default: none, or the preset's")
    parser.add_argument("--seed", type=int, default=1, help="of the random weights (default 1)")
    parser.add_argument("--shard-size", type=parse_size, metavar="SIZE",
                        help="start a shard before one grows past SIZE (default 5GB)")
    parser.add_argument("--shards", type=int,
                        help="that many of even size instead; fewer where a tensor fills several")
    parser.add_argument("--dtype", choices=list(TORCH_DTYPES), help="instead of the config's")
    parser.add_argument("--force", action="store_true", help="replace OUT")
    return parser.parse_args()


def main():
    a = parse_arguments()
    preset = PRESETS.get(a.model, {})
    if preset:
        config = dict(preset["config"])
    else:
        path = Path(a.model)
        path = path / "config.json" if path.is_dir() else path
        try:
            config = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            sys.exit(f"{path}: {error}")
    if a.dtype:
        config["dtype"] = a.dtype
    tensors = list_tensors(config, a.model)
    parameters = sum(product(shape) for _, _, shape, _ in tensors)
    if parameters != preset.get("parameters", parameters):
        sys.exit(f"{a.model}: {parameters} parameters, but it must have {preset['parameters']}")

    fill = a.fill or preset.get("fill", "none")
    if a.out.exists() and not a.force:
        sys.exit(f"{a.out}: exists already (--force replaces it)")
    partial = a.out.with_name(a.out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    shard_size = a.shard_size or preset.get("shard_size", 5_000_000_000)
    shards = split(tensors, shard_size, a.shards or (not a.shard_size and preset.get("shards")))
    weight_map, total = {}, sum(nbytes for *_, nbytes in tensors)
    with multiprocessing.Pool(min(len(shards), os.cpu_count())) as pool:
        jobs = []
        for i, shard in enumerate(shards):
            file = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
            file = "model.safetensors" if len(shards) == 1 else file
            seed = f"{a.seed}, shard {i}" if fill == "random" else None
            jobs.append(pool.apply_async(write_shard, (partial / file, shard, seed)))
            weight_map.update((name, file) for name, *_ in shard)
        for job in jobs:
            job.get()
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (partial / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    shutil.rmtree(a.out, ignore_errors=True)
    os.rename(partial, a.out)
    print(f"{a.out}: {len(tensors)} tensors, {parameters} parameters, {total} bytes, "
          f"{len(shards)} shard{'s' if len(shards) > 1 else ''}, weights: {fill}")


if __name__ == "__main__":
    main()
