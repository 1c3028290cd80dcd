#!/usr/bin/env python3
"""Writes data/block_formats.txt: random blocks of every GGUF format that Berth reads, and what the
`gguf` package (PyPI, 0.19.0) makes of them. One line each: name, blocks in hex, F32 values in hex.

usage: make_block_goldens.py
"""
import os

import numpy as np
from gguf import GGMLQuantizationType, quants

# name -> (bytes of a block, offsets of its f16 fields)
FORMATS = {"Q4_0": (18, [0]), "Q4_1": (20, [0, 2]), "Q5_0": (22, [0]), "Q5_1": (24, [0, 2]),
           "Q8_0": (34, [0]), "Q4_K": (144, [0, 2]), "Q5_K": (176, [0, 2]), "Q6_K": (210, [208])}
BLOCKS = 3


def main():
    random = np.random.default_rng(20)
    lines = []
    for name, (size, fields) in FORMATS.items():
        blocks = random.integers(0, 256, (BLOCKS, size), np.uint8)
        for field in fields:
            # Normal, tiny (a denormal half) and negative.
            scales = np.array([random.uniform(0.001, 0.1), 3e-6, -random.uniform(0.5, 2)], np.float16)
            blocks[:, field:field + 2] = scales.view(np.uint8).reshape(BLOCKS, 2)
        values = quants.dequantize(blocks, GGMLQuantizationType[name]).astype("<f4")
        lines.append(f"{name} {blocks.tobytes().hex()} {values.tobytes().hex()}\n")
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
    with open(os.path.join(folder, "block_formats.txt"), "w") as out:
        out.writelines(lines)


if __name__ == "__main__":
    main()
