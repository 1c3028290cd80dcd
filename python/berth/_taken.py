"""What Berth takes of the loads of transformers, and why it leaves the others to it."""

from __future__ import annotations

import os
from typing import Any, Union

from ._errors import BrokenFile
from .files import Files

__all__ = ["open_files", "why_not"]


def why_not(model: Any, state_dict: Any, checkpoint_files: Any, load_config: Any) -> str:
    """Why Berth leaves a load to transformers; "" where it does not."""
    if not all(str(file).endswith((".safetensors", ".bin")) for file in checkpoint_files or ()):
        return "its files are neither safetensors nor PyTorch's"
    if state_dict is not None or not checkpoint_files:
        return "it is not made from files"
    if getattr(load_config, "disable_mmap", False):
        return "disable_mmap asks for reading without mappings"
    from transformers import modeling_utils

    on_mount = getattr(modeling_utils, "_is_on_hf_mount", None)
    if on_mount is not None and any(map(on_mount, checkpoint_files)):
        return "its files are on a mount of the Hub, which must not be mapped"
    quantizer = load_config.hf_quantizer
    if quantizer is not None:
        method = getattr(quantizer.quantization_config, "quant_method", "a quantizer")
        return f"it is quantised, and {getattr(method, 'value', method)} loads in its own way"
    if getattr(load_config, "device_mesh", None) is not None:
        return "it is loaded by tensor parallelism"
    from transformers.integrations import is_deepspeed_zero3_enabled

    if is_deepspeed_zero3_enabled():
        return "DeepSpeed loads it"
    return ""


def open_files(checkpoint_files: list) -> tuple[Union[Files, None], str]:
    """The files, or None and why Berth leaves them to transformers: it may take what Berth does not,
    such as two files with tensors of the same name, or objects of Python in a file of PyTorch.

    Raises:
        BrokenFile, NoSuchFile: nobody can read them.
    """
    paths = [os.fspath(file) for file in checkpoint_files]
    try:
        files = Files(paths)
    except BrokenFile as error:
        if paths[0].endswith(".safetensors") and not _are_sound(paths):
            raise
        return None, str(error)
    why = _what_else(paths, files)
    return (None, why) if why else (files, "")


def _are_sound(paths: list) -> bool:
    """Whether safetensors reads the headers of these files, as transformers has it do."""
    import safetensors

    try:
        for path in paths:
            with safetensors.safe_open(path, framework="pt"):
                pass
    except Exception:  # of whatever kind: then transformers cannot load them
        return False
    return True


def _what_else(paths: list, files: Files) -> str:
    """What files of PyTorch are besides tensors by name, one element after another: transformers
    reports objects that stand there, and keeps how a tensor is laid out. "" where nothing."""
    import torch

    names: set = set()
    for path in paths:
        if path.endswith(".safetensors"):
            continue
        try:
            stored = torch.load(path, map_location="meta", weights_only=True)
        except Exception as error:  # of whatever kind: transformers says it in its own words
            return f"{path}: torch does not read it: {str(error).splitlines()[0]}"
        if not isinstance(stored, dict):
            return f"{path}: holds no dict of tensors"
        for name, tensor in stored.items():
            if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
                return f"{path}: {name!r} is no tensor, or a sparse one"
            if not tensor.is_contiguous():
                return f"{path}: the elements of tensor {name!r} do not stand one after another"
        names.update(stored)
    if names and names != set(files.names):
        return f"{paths[0]}: not all of its tensors have names of their own"
    return ""
