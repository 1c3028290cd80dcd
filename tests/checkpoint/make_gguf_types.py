#!/usr/bin/env python3
"""Writes data/gguf_types.txt: the tensor types of GGUF as the `gguf` package has them (PyPI,
0.19.0): a line each with the number, the name, the elements of a block and its bytes.

usage: make_gguf_types.py
"""
import os

from gguf.constants import GGML_QUANT_SIZES


def main():
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
    with open(os.path.join(folder, "gguf_types.txt"), "w") as out:
        for kind, (elements, size) in sorted(GGML_QUANT_SIZES.items()):
            out.write(f"{int(kind)} {kind.name} {elements} {size}\n")


if __name__ == "__main__":
    main()
