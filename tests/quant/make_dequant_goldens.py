#!/usr/bin/env python3
"""Writes data/*.safetensors: small quantised weights as tools store them, and beside each
what its reference makes of it, in three dtypes.

    python -m venv venv && venv/bin/pip install torch safetensors transformers compressed-tensors bitsandbytes
    venv/bin/python tests/quant/make_dequant_goldens.py

References: torch (FP8 casts), transformers (FP8 blocks, MXFP4 experts), compressed-tensors,
bitsandbytes. GPTQ and AWQ have no package that installs without a GPU: what their Linear layers
compute on a CPU is written out below, in the scales' half precision.
"""

import pathlib

import torch
from compressed_tensors.compressors.naive_quantized.base import NaiveQuantizationCompressor
from compressed_tensors.compressors.nvfp4.base import NVFP4PackedCompressor
from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from safetensors.torch import save_file
from transformers.integrations.finegrained_fp8 import Fp8Dequantize
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

import bitsandbytes.functional as bnb

OUT = pathlib.Path(__file__).parent / "data"
ROWS, COLUMNS = 16, 64
DTYPES = [torch.bfloat16, torch.float16, torch.float32]
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def write(name, parts, expected):
    """`expected`: a function of a dtype, or a tensor that is cast to each."""
    tensors = {key: value.contiguous() for key, value in parts.items()}
    for dtype in DTYPES:
        value = expected(dtype) if callable(expected) else expected.to(dtype)
        tensors["expected." + str(dtype).split(".")[1]] = value.contiguous()
    OUT.mkdir(parents=True, exist_ok=True)
    save_file(tensors, OUT / f"{name}.safetensors")


def weight():
    return torch.randn(ROWS, COLUMNS) * 0.05


def packed(values, bits, order=None):
    """int64 [..., n] to int32 words, the lowest bits first."""
    count = 32 // bits
    words = torch.zeros(*values.shape[:-1], values.shape[-1] // count, dtype=torch.int64)
    for i in range(count):
        words |= values[..., (order[i] if order else i) :: count] << (bits * i)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def gptq(name, bits, group, act_order=False, v2=False):
    groups = COLUMNS // group
    index = torch.arange(COLUMNS) // group
    if act_order:
        index = index[torch.randperm(COLUMNS)]
    codes = torch.randint(0, 2**bits, (COLUMNS, ROWS))
    # Zero points from 1 on; version 2 of the format can also say 0.
    zeros = torch.randint(0 if v2 else 1, 2**bits, (groups, ROWS))
    scales = (torch.rand(groups, ROWS) * 0.02 + 0.001).half()
    parts = {
        "qweight": packed(codes.t(), bits).t(),
        "qzeros": packed(zeros if v2 else zeros - 1, bits),
        "scales": scales,
        "g_idx": index.to(torch.int32),
    }
    write(name, parts, (scales[index] * (codes - zeros[index])).t())


def awq(name, gemv):
    group = 32
    groups = COLUMNS // group
    rows = 32  # fewer could be of 3 bits
    codes = torch.randint(0, 16, (rows, COLUMNS))
    zeros = torch.randint(0, 16, (rows, groups))
    scales = (torch.rand(rows, groups) * 0.02 + 0.001).half()
    spread = lambda table: table.repeat_interleave(group, 1)
    expected = (codes - spread(zeros)) * spread(scales)
    if gemv:
        width = 4  # words, as AutoAWQ pads the groups of 32
        pad = width * 8 - groups
        parts = {
            "qweight": packed(codes, 4),
            "qzeros": packed(torch.nn.functional.pad(zeros, (0, pad)), 4),
            "scales": torch.nn.functional.pad(scales, (0, pad)),
        }
    else:
        parts = {
            "qweight": packed(codes.t(), 4, AWQ_ORDER),
            "qzeros": packed(zeros.t(), 4, AWQ_ORDER),
            "scales": scales.t(),
        }
    write(name, parts, expected)


def compressed(name, compressor, scale, zero=None, global_scale=None, **args):
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**args))
    state = {"weight": weight(), "weight_scale": scale}
    if zero is not None:
        state["weight_zero_point"] = zero
    if global_scale is not None:
        state["weight_global_scale"] = global_scale
    state = compressor.compress(state, scheme)
    value = compressor.decompress(dict(state), scheme)["weight"]
    write(name, state, value)


def fp8_casts():
    codes = torch.arange(256, dtype=torch.uint8)
    for dtype in ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"]:
        stored = codes.view(getattr(torch, dtype))
        write(dtype, {"weight": stored}, stored)


def fp8_blocks():
    reference = Fp8Dequantize(None)
    codes = (weight() * 2000).to(torch.float8_e4m3fn)
    for name, scales in [
        ("fp8_blocks", torch.rand(2, 4) * 1e-3),
        ("fp8_blocks_bf16", (torch.rand(2, 4) * 1e-3).bfloat16()),
        ("fp8_row_inv", torch.rand(ROWS, 1) * 1e-3),
    ]:
        write(
            name,
            {"weight": codes, "weight_scale_inv": scales},
            lambda dtype, s=scales: reference._dequantize_one(codes, s, output_dtype=dtype),
        )


def mxfp4():
    """Every code under every scale; 255 is none."""
    experts, out, groups = 2, 8, 16
    blocks = torch.randint(0, 256, (experts, out, groups, 16), dtype=torch.uint8)
    scales = torch.arange(256, dtype=torch.uint8).reshape(experts, out, groups)
    scales[scales == 255] = 120
    # The reference writes one dtype; others are casts of it.
    write("mxfp4", {"weight_blocks": blocks, "weight_scales": scales}, convert_moe_packed_tensors(blocks, scales))


def bitsandbytes():
    for name, kind, nested in [("nf4", "nf4", False), ("nf4_nested", "nf4", True), ("fp4", "fp4", False)]:
        codes, state = bnb.quantize_4bit(weight(), quant_type=kind, compress_statistics=nested)
        parts = {"weight." + key: value for key, value in state.as_dict(packed=True).items()}
        # Adding 0 makes -0 0: the quant_map that is stored has no -0, some of its kernels do.
        write(name, {"weight": codes, **parts}, bnb.dequantize_4bit(codes, state) + 0)
    codes, scb, _ = bnb.int8_vectorwise_quant(weight().half())
    write("llm_int8", {"weight": codes, "SCB": scb}, bnb.int8_vectorwise_dequant(codes, scb))


def main():
    torch.manual_seed(7)
    fp8_casts()
    fp8_blocks()
    gptq("gptq4", 4, 32)
    gptq("gptq4_act_order", 4, 32, act_order=True)
    gptq("gptq4_v2", 4, 32, v2=True)
    gptq("gptq2", 2, 16)
    gptq("gptq8", 8, 64)
    awq("awq", gemv=False)
    awq("awq_gemv", gemv=True)
    scale = lambda *shape: (torch.rand(*shape) * 1e-3 + 1e-3).bfloat16()
    channel = {"type": "int", "strategy": "channel", "num_bits": 8}
    compressed("int8_channel", NaiveQuantizationCompressor, scale(ROWS, 1), **channel)
    compressed(
        "int8_asymmetric",
        NaiveQuantizationCompressor,
        scale(ROWS, 1),
        torch.randint(-99, 99, (ROWS, 1), dtype=torch.int8),
        symmetric=False,
        **channel,
    )
    compressed(
        "int8_half", NaiveQuantizationCompressor, (torch.rand(ROWS, 1) * 1e-3 + 1e-3).half(), **channel
    )
    compressed(
        "fp8_channel", NaiveQuantizationCompressor, scale(ROWS, 1), type="float", strategy="channel", num_bits=8
    )
    compressed(
        "fp8_tensor",
        NaiveQuantizationCompressor,
        torch.tensor([0.0007]),
        type="float",
        strategy="tensor",
        num_bits=8,
    )
    group = {"type": "int", "strategy": "group", "group_size": 16}
    zeros = torch.randint(-8, 8, (ROWS, COLUMNS // 16), dtype=torch.int8)
    wide = lambda: (torch.rand(ROWS, COLUMNS // 16) * 0.01 + 0.01).bfloat16()
    compressed("packed4", PackedQuantizationCompressor, wide(), num_bits=4, **group)
    compressed("packed4_asymmetric", PackedQuantizationCompressor, wide(), zeros, num_bits=4, symmetric=False, **group)
    compressed("packed8", PackedQuantizationCompressor, scale(ROWS, COLUMNS // 16), num_bits=8, **group)
    values = weight()
    everything = torch.tensor([448 * 6 / values.abs().max()])
    compressed(
        "nvfp4",
        NVFP4PackedCompressor,
        (torch.rand(ROWS, COLUMNS // 16) * 400 + 40),
        global_scale=everything,
        num_bits=4,
        type="float",
        strategy="tensor_group",
        group_size=16,
        symmetric=True,
    )
    mxfp4()
    bitsandbytes()


if __name__ == "__main__":
    main()
