#!/usr/bin/env python3
"""Turns a Llama-architecture GGUF file into a Hugging Face folder of sharded safetensors.

    gguf_to_hf.py IN.gguf OUT_DIR [--dtype bf16|f16|f32] [--shard-size BYTES]

OUT_DIR (new or empty) receives config.json, the shards with their index, tokenizer.json,
tokenizer_config.json and generation_config.json. Weights are dequantized to float32 and rounded to
nearest even. Needs numpy. Handles what the demo model holds (GGUF version 3; F32, Q8_0 and Q4_1
blocks; a byte-level BPE tokenizer of the "smollm" kind) and refuses anything else by name.
"""

import argparse
import json
import math
import mmap
import os
import struct
import sys

import numpy as np

# --- Reading GGUF: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md ---------------------

GGUF_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q",
                11: "<q", 12: "<d"}
GGUF_STRING, GGUF_ARRAY = 8, 9


def dequantize_f32(raw):
    return raw.view("<f4")


def dequantize_q8_0(raw):
    """Blocks of 32: one f16 scale d, then 32 signed bytes q; the weight is d * q."""
    blocks = raw.reshape(-1, 34)
    d = blocks[:, :2].copy().view("<f2").astype(np.float32)
    return d * blocks[:, 2:].view(np.int8).astype(np.float32)


def dequantize_q4_1(raw):
    """Blocks of 32: f16 scale d, f16 minimum m, 16 bytes of nibbles; the weight is d * q + m. The
    low nibbles are weights 0 to 15 of the block, the high ones 16 to 31."""
    blocks = raw.reshape(-1, 20)
    d = blocks[:, 0:2].copy().view("<f2").astype(np.float32)
    m = blocks[:, 2:4].copy().view("<f2").astype(np.float32)
    nibbles = blocks[:, 4:]
    q = np.concatenate([nibbles & 0x0F, nibbles >> 4], axis=1)
    return d * q.astype(np.float32) + m


# ggml type -> (weights in a block, bytes of a block, reader): F32, Q4_1, Q8_0
GGML_TYPES = {0: (1, 4, dequantize_f32), 3: (32, 20, dequantize_q4_1), 8: (32, 34, dequantize_q8_0)}


class Gguf:
    """A GGUF file, mapped: `metadata`, and tensors by name, dequantized when asked for."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._at = 0
        if self._map[:4] != b"GGUF":
            raise ValueError(f"{path}: not a GGUF file")
        self._at = 4
        version = self._scalar("<I")
        if version != 3:
            raise ValueError(f"{path}: GGUF version {version}; only version 3 is read here")
        tensor_count, key_count = self._scalar("<Q"), self._scalar("<Q")
        self.metadata = {}
        for _ in range(key_count):
            key = self._string()
            self.metadata[key] = self._value(self._scalar("<I"))
        self.tensors = {}  # name -> (numpy shape, ggml type, offset in the data section)
        for _ in range(tensor_count):
            name = self._string()
            extents = [self._scalar("<Q") for _ in range(self._scalar("<I"))]
            self.tensors[name] = (extents[::-1], self._scalar("<I"), self._scalar("<Q"))
        alignment = self.metadata.get("general.alignment", 32)
        self._data = -(-self._at // alignment) * alignment

    def _scalar(self, form):
        (value,) = struct.unpack_from(form, self._map, self._at)
        self._at += struct.calcsize(form)
        return value

    def _string(self):
        length = self._scalar("<Q")
        self._at += length
        return self._map[self._at - length:self._at].decode("utf-8")

    def _value(self, kind):
        if kind == GGUF_STRING:
            return self._string()
        if kind == GGUF_ARRAY:
            element, count = self._scalar("<I"), self._scalar("<Q")
            return [self._value(element) for _ in range(count)]
        if kind not in GGUF_SCALARS:
            raise ValueError(f"{self.path}: metadata of unknown kind {kind}")
        return self._scalar(GGUF_SCALARS[kind])

    def weight_count(self, name):
        return math.prod(self.tensors[name][0])

    def read(self, name):
        """The tensor as a float32 array of its logical shape."""
        shape, kind, offset = self.tensors[name]
        if kind not in GGML_TYPES:
            raise ValueError(f"{self.path}: {name}: ggml type {kind} is not read here")
        weights, block_bytes, dequantize = GGML_TYPES[kind]
        size = math.prod(shape) // weights * block_bytes
        raw = np.frombuffer(self._map, np.uint8, size, self._data + offset)
        return dequantize(raw).reshape(shape)


# --- From llama.cpp's names and layout to Hugging Face's ------------------------------------------

# In the order in which transformers registers the modules of a decoder layer.
LAYER_TENSORS = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm"}


def undo_rotary_permutation(weight, heads):
    """llama.cpp rotates neighbouring rows (2i, 2i+1) where transformers rotates row i with row
    i + head_dim/2, so its converter interleaves the two halves of every head of Q and K. This puts
    them back."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.transpose(0, 2, 1, 3).reshape(rows, columns)


def hf_names(gguf):
    """(GGUF name, Hugging Face name, heads to undo the permutation for or None), in the order in
    which the model uses its tensors."""
    meta = gguf.metadata
    heads = {"attn_q": meta["llama.attention.head_count"],
             "attn_k": meta["llama.attention.head_count_kv"]}
    names = [("token_embd.weight", "model.embed_tokens.weight", None)]
    for layer in range(meta["llama.block_count"]):
        for source, target in LAYER_TENSORS.items():
            names.append((f"blk.{layer}.{source}.weight", f"model.layers.{layer}.{target}.weight",
                          heads.get(source)))
    names.append(("output_norm.weight", "model.norm.weight", None))
    if "output.weight" in gguf.tensors:  # absent when the head is tied to the embedding
        names.append(("output.weight", "lm_head.weight", None))
    left_over = set(gguf.tensors) - {source for source, _, _ in names}
    if left_over:
        raise ValueError(f"{gguf.path}: {sorted(left_over)[0]}: no place for this tensor")
    return names


# --- Writing safetensors --------------------------------------------------------------------------

# our name -> (safetensors name, torch name, bytes of one weight)
DTYPES = {"f32": ("F32", "float32", 4), "f16": ("F16", "float16", 2),
          "bf16": ("BF16", "bfloat16", 2)}


def encode(weight, dtype):
    """The array's bytes in `dtype`, rounded to nearest even."""
    weight = np.ascontiguousarray(weight, "<f4")
    if dtype == "f32":
        return weight.tobytes()
    if dtype == "f16":
        return weight.astype("<f2").tobytes()
    bits = weight.view("<u4")
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)  # weights are finite: no NaN can be carried away
    return (rounded >> 16).astype("<u2").tobytes()


def write_shard(path, tensors, dtype):
    """`tensors`: (name, shape, bytes) in file order."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, data in tensors:
        header[name] = {"dtype": DTYPES[dtype][0], "shape": list(shape),
                        "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # keeps the data section aligned
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors:
            file.write(data)


def split_into_shards(sizes, limit):
    """Greedy runs of names whose bytes stay within `limit`; a larger tensor gets its own shard."""
    shards, used = [], limit + 1
    for name, size in sizes.items():
        if used + size > limit:
            shards.append([])
            used = 0
        shards[-1].append(name)
        used += size
    return shards


def write_weights(gguf, out, dtype, shard_size):
    """Writes the shards, and the index where there are several; returns the parameter count and the
    number of shards. Holds one shard in memory at a time."""
    names = {target: (source, heads) for source, target, heads in hf_names(gguf)}
    width = DTYPES[dtype][2]
    sizes = {target: gguf.weight_count(source) * width for target, (source, _) in names.items()}
    shards = split_into_shards(sizes, shard_size)
    weight_map = {}
    for number, targets in enumerate(shards, 1):
        file_name = (f"model-{number:05d}-of-{len(shards):05d}.safetensors" if len(shards) > 1
                     else "model.safetensors")
        tensors = []
        for target in targets:
            source, heads = names[target]
            weight = gguf.read(source)
            if heads:
                weight = undo_rotary_permutation(weight, heads)
            tensors.append((target, weight.shape, encode(weight, dtype)))
            weight_map[target] = file_name
        write_shard(os.path.join(out, file_name), tensors, dtype)
    if len(shards) > 1:
        write_json(out, "model.safetensors.index.json",
                   {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map})
    return sum(sizes.values()) // width, len(shards)


# --- The JSON files beside the weights -------------------------------------------------------------


def write_json(out, name, value, indent=2):
    with open(os.path.join(out, name), "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=indent)
        file.write("\n")


def config(meta, dtype, tied):
    heads, hidden = meta["llama.attention.head_count"], meta["llama.embedding_length"]
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": False,
        "attention_dropout": 0.0, "bos_token_id": meta["tokenizer.ggml.bos_token_id"],
        "eos_token_id": meta["tokenizer.ggml.eos_token_id"],
        "pad_token_id": meta["tokenizer.ggml.padding_token_id"], "head_dim": hidden // heads,
        "hidden_act": "silu", "hidden_size": hidden, "initializer_range": 0.02,
        "intermediate_size": meta["llama.feed_forward_length"],
        "max_position_embeddings": meta["llama.context_length"], "mlp_bias": False,
        "num_attention_heads": heads, "num_hidden_layers": meta["llama.block_count"],
        "num_key_value_heads": meta["llama.attention.head_count_kv"],
        # Stored as float32; the shortest decimal that gives the same float32 is what was meant.
        "rms_norm_eps": float(str(np.float32(meta["llama.attention.layer_norm_rms_epsilon"]))),
        "rope_scaling": None, "rope_theta": meta["llama.rope.freq_base"],
        "tie_word_embeddings": tied, "torch_dtype": DTYPES[dtype][1], "use_cache": True,
        "vocab_size": meta["llama.vocab_size"]}


def tokenizer(meta, path):
    """The byte-level BPE of GPT-2, with every digit a token of its own: what llama.cpp calls the
    "smollm" pre-tokenizer."""
    kind = meta["tokenizer.ggml.model"], meta["tokenizer.ggml.pre"]
    if kind != ("gpt2", "smollm"):
        raise ValueError(f"{path}: tokenizer {kind[0]}/{kind[1]}; only gpt2/smollm is written here")
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": True}
    control = 3  # llama.cpp's token type for special tokens
    tokens, types = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for i, (token, type_) in enumerate(zip(tokens, types)) if type_ == control],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None, "decoder": {**byte_level, "add_prefix_space": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
                  "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: i for i, token in enumerate(tokens)},
                  "merges": meta["tokenizer.ggml.merges"]}}


def special_tokens(meta):
    def token(key):
        return meta["tokenizer.ggml.tokens"][meta[f"tokenizer.ggml.{key}_token_id"]]
    return {"bos_token": token("bos"), "eos_token": token("eos"), "unk_token": token("unknown"),
            "pad_token": token("padding"), "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "model_max_length": meta["llama.context_length"], "tokenizer_class": "GPT2Tokenizer",
            "chat_template": meta["tokenizer.chat_template"]}


def convert(source, out, dtype, shard_size):
    gguf = Gguf(source)
    meta = gguf.metadata
    if meta.get("general.architecture") != "llama":
        raise ValueError(f"{source}: architecture {meta.get('general.architecture')}; only llama "
                         "is converted here")
    os.makedirs(out, exist_ok=True)
    parameters, shards = write_weights(gguf, out, dtype, shard_size)
    tied = "output.weight" not in gguf.tensors
    write_json(out, "config.json", config(meta, dtype, tied))
    write_json(out, "tokenizer.json", tokenizer(meta, source), indent=None)
    write_json(out, "tokenizer_config.json", special_tokens(meta))
    write_json(out, "generation_config.json",
               {key: meta[f"tokenizer.ggml.{name}_token_id"] for key, name in
                (("bos_token_id", "bos"), ("eos_token_id", "eos"), ("pad_token_id", "padding"))})
    print(f"{parameters:,} parameters as {DTYPES[dtype][1]} in {shards} "
          f"{'shards' if shards > 1 else 'file'}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("source", metavar="IN.gguf")
    parser.add_argument("out", metavar="OUT_DIR")
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--shard-size", type=int, default=100_000_000, metavar="BYTES",
                        help="most bytes of weights in a shard (default: 100000000)")
    options = parser.parse_args()
    try:
        convert(options.source, options.out, options.dtype, options.shard_size)
    except (OSError, ValueError) as error:
        sys.exit(f"gguf_to_hf: {error}")
    except (KeyError, struct.error, UnicodeDecodeError) as error:
        sys.exit(f"gguf_to_hf: {options.source}: broken or incomplete GGUF file ({error!r})")


if __name__ == "__main__":
    main()
