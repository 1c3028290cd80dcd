"""Ways to get a model's weights into CPU memory in Python: the plain way, and the frugal one.

  frugal.py pytorch_naive FOLDER BIN      build the model, torch.load the state dict, copy it in
  frugal.py safetensors_naive FOLDER      the same, the state dict read by safetensors
  frugal.py transformers_frugal FOLDER    from_pretrained: meta skeleton, tensors assigned as read
  frugal.py save_bin FOLDER BIN           write the state dict that torch.load reads

`build_seconds` is the part of the plain way that makes the model before a byte is read.
"""
import glob
import importlib
import json
import os
import sys
import time

import probe


def imports(folder):
    import torch
    import transformers
    import safetensors.torch  # noqa: F401
    transformers.utils.logging.disable_progress_bar()
    with open(os.path.join(folder, "config.json")) as config:
        family = json.load(config)["model_type"]
    importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    return torch, transformers


def naive(folder, files, read):
    torch, transformers = imports(folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    with probe.Timed() as timed:
        begin = time.monotonic()
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=config.dtype)
        built = time.monotonic() - begin
        state = read(torch)
        missing, unexpected = model.load_state_dict(state, strict=False)
        del state
    tensors = dict(model.named_parameters(remove_duplicate=False))
    probe.check(files, tensors)
    timed.report(build_seconds=built, unexpected=unexpected,
                 missing=[name for name in missing if name != "lm_head.weight"])


def pytorch_naive(folder, files, bin_file):
    naive(folder, files, lambda torch: torch.load(bin_file, map_location="cpu", weights_only=True))


def safetensors_naive(folder, files):
    def read(torch):
        from safetensors.torch import load_file
        state = {}
        for file in files:
            state.update(load_file(file))
        return state
    naive(folder, files, read)


def transformers_frugal(folder, files):
    _, transformers = imports(folder)
    with probe.Timed() as timed:
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        tensors = dict(model.named_parameters(remove_duplicate=False))
        probe.touch(tensors.values())
    probe.check(files, tensors)
    timed.report(build_seconds=0)


def save_bin(folder, files, bin_file):
    import torch
    from safetensors.torch import load_file
    state = {}
    for file in files:
        state.update(load_file(file))
    torch.save(state, bin_file)


if __name__ == "__main__":
    arm, folder, *rest = sys.argv[1:]
    shards = sorted(glob.glob(os.path.join(folder, "*.safetensors")))
    {f.__name__: f for f in (pytorch_naive, safetensors_naive, transformers_frugal,
                             save_bin)}[arm](folder, shards, *rest)
