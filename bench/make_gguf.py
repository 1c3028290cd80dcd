#!/usr/bin/env python3
"""A Hugging Face folder of a Llama in bfloat16 as a GGUF file, all matrices in one format, so that
Berth and llama.cpp can be measured on the same file. Runs in the peers' environment (numpy, gguf).

  make_gguf.py FOLDER OUT.gguf FORMAT      bf16, q8_0, q4_0, q4_1 or q4_k

The file has no tokenizer. OUT appears when it is complete and not before.
"""
import json
import os
import sys
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

FORMATS = {"bf16": Type.BF16, "q8_0": Type.Q8_0, "q4_0": Type.Q4_0, "q4_1": Type.Q4_1,
           "q4_k": Type.Q4_K}
LAYER = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
         "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down"}
OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
SUPER = 256  # elements of a Q4_K block, in eight groups of 32


def bf16_tensors(folder):
    """(name, array of uint16) of every tensor, the bits of bfloat16; arrays are mapped."""
    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        data = np.memmap(path, np.uint8, "r", 8 + length)
        header.pop("__metadata__", None)
        for name, entry in header.items():
            if entry["dtype"] != "BF16":
                sys.exit(f"{path}: {name}: dtype {entry['dtype']}, and only BF16 is read here")
            begin, end = entry["data_offsets"]
            yield name, data[begin:end].view(np.uint16).reshape(entry["shape"])


def gguf_name(name):
    module = name.removesuffix(".weight")
    if module in OUTER:
        return OUTER[module] + ".weight"
    _, _, layer, rest = module.split(".", 3)  # model.layers.N.…
    return f"blk.{layer}.{LAYER[rest]}.weight"


def rotary_order(weight, heads):
    """llama.cpp turns neighbours where Hugging Face turns halves: row pairs change places."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def to_f32(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def q4_k_blocks(values):
    """Blocks of Q4_K from rows of float32: scale and minimum of each group from its range. ggml
    searches for better ones; the layout, and so the speed, is the same.

    Layout (ggml-common.h, block_q4_K): f16 d, f16 dmin, 12 bytes with eight 6-bit scales and eight
    6-bit minimums, 128 bytes with two groups side by side in low and high nibbles. An element is
    d * scale * code - dmin * minimum."""
    groups = values.reshape(-1, 8, 32)
    low = np.minimum(groups.min(axis=2), 0)
    steps = (np.maximum(groups.max(axis=2), 0) - low) / 15
    d = (steps.max(axis=1, keepdims=True) / 63).astype(np.float16)
    dmin = (-low.min(axis=1, keepdims=True) / 63).astype(np.float16)
    scales = six_bits(steps, d)
    minimums = six_bits(-low, dmin)
    step = (d.astype(np.float32) * scales)[..., None]
    offset = (dmin.astype(np.float32) * minimums)[..., None]
    codes = np.divide(groups + offset, step, out=np.zeros_like(groups), where=step != 0)
    codes = np.clip(np.rint(codes), 0, 15).astype(np.uint8).reshape(-1, 4, 2, 32)
    nibbles = codes[:, :, 0] | codes[:, :, 1] << 4
    packed = np.concatenate([scales[:, :4] | scales[:, 4:] >> 4 << 6,
                             minimums[:, :4] | minimums[:, 4:] >> 4 << 6,
                             scales[:, 4:] & 15 | minimums[:, 4:] << 4], axis=1)
    blocks = np.concatenate([d.view(np.uint8), dmin.view(np.uint8), packed,
                             nibbles.reshape(-1, 128)], axis=1)
    return blocks.reshape(values.shape[0], -1)


def six_bits(values, unit):
    unit = unit.astype(np.float32)
    whole = np.divide(values, unit, out=np.zeros_like(values), where=unit != 0)
    return np.clip(np.rint(whole), 0, 63).astype(np.uint8)


def stored(bits, wanted):
    """The bytes of a matrix in the wanted format, a row each. A few rows at a time, because an
    embedding in float32 has several copies on the way."""
    if wanted == Type.BF16:
        return np.ascontiguousarray(bits).view(np.uint8)
    convert = q4_k_blocks if wanted == Type.Q4_K else lambda v: gguf.quants.quantize(v, wanted)
    rows = max(1, (4 << 20) // bits.shape[1])
    return np.concatenate([convert(to_f32(bits[at:at + rows]))
                           for at in range(0, bits.shape[0], rows)])


def write_settings(writer, config):
    rope = config.get("rope_parameters") or {}
    heads = config["num_attention_heads"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config.get("head_dim") or config["hidden_size"] // heads)
    writer.add_rope_freq_base(rope.get("rope_theta") or config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")


def main():
    folder, out, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    wanted = FORMATS[name]
    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] != "llama":
        sys.exit(f"{folder}: model_type {config['model_type']}, and only llama is known here")
    partial = out.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "llama")
    write_settings(writer, config)
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for tensor, bits in bf16_tensors(folder):
        if bits.ndim == 1:
            writer.add_tensor(gguf_name(tensor), to_f32(bits))
            continue
        projection = tensor.split(".")[-2]
        if projection in heads:
            bits = rotary_order(bits, heads[projection])
        writer.add_tensor(gguf_name(tensor), stored(bits, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.rename(partial, out)


if __name__ == "__main__":
    main()
