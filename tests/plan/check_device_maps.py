#!/usr/bin/env python3
"""Ask Accelerate whether it takes the device maps that berth prints, on transformers' own models.

usage: check_device_maps.py BERTH [FOLDER ...]     with torch, transformers 5.24 and accelerate 1.15

Each FOLDER holds folders with a config.json; without one it is tests/model/data. For each config the
model is built on the meta device, berth plans it from config.json alone by several policies on two
GPUs, a CPU and a disk that each hold a part, and accelerate.utils.check_device_map is run on every
map. It must neither raise nor warn of keys that are no modules, but for keys of parameters and
buffers, which Accelerate makes itself. Also required: every buffer has a device, stored or not.
A folder with a checkpoint (.safetensors) is planned from that as well. Prints n/n at the end.
"""
import json
import os
import subprocess
import sys
import warnings

import torch
import transformers
from accelerate.utils import check_device_map
from transformers import AutoConfig, AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "model"))
import family_cases  # noqa: E402

POLICIES = ("auto", "throughput", "balanced", "balanced_low_0", "sequential")


def meta_model(file):
    with open(file) as text:
        values = json.load(text)
    family = values.pop("model_type")
    config = AutoConfig.for_model(family_cases.CLASSES.get(family, family), **values)
    name = (values.get("architectures") or [None])[0]
    with torch.device("meta"):
        model = getattr(transformers, name)(config) if hasattr(transformers, name or "-") else AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    return model


def sizes(model):
    total = sum(p.numel() * 2 for p in model.parameters())
    return f"0={total * 2 // 5},1={total * 2 // 5},cpu={total},disk={total}"


def maps(berth, path, model):
    first = next(n for n, m in model.named_modules() if type(m).__name__ in (model._no_split_modules or []))
    for policy in POLICIES:
        for extra in ([], ["--override", f"{first}=cpu"]):
            command = [berth, "plan", path, "--policy", policy, "--max-memory", sizes(model), *extra, "--print-device-map"]
            yield policy, subprocess.run(command, capture_output=True, text=True)


def complaints(model, device_map):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            check_device_map(model, device_map)
        except ValueError as error:
            yield str(error)
    tensors = dict(model.state_dict(keep_vars=True)) | dict(model.named_buffers())
    modules = dict(model.named_modules())
    odd = [key for key in device_map if key and key not in modules and key not in tensors]
    if odd:
        yield f"no modules, and no tensors: {odd[:3]}"
    elif any("do not match" in str(w.message) for w in caught) and all(k in modules or not k for k in device_map):
        yield str(caught[0].message)
    bare = [n for n in tensors if not any(k == "" or n == k or n.startswith(k + ".") for k in device_map)]
    if bare:
        yield f"no device for {bare[:3]}"


def check(berth, folder):
    model = meta_model(os.path.join(folder, "config.json"))
    paths = [os.path.join(folder, "config.json")]
    if any(name.endswith(".safetensors") for name in os.listdir(folder)):
        paths.append(folder)
    taken, count = 0, 0
    for path in paths:
        for policy, answer in maps(berth, path, model):
            count += 1
            try:
                said = list(complaints(model, json.loads(answer.stdout)))
            except ValueError:
                said = [answer.stderr.strip().splitlines()[0]]
            taken += not said
            for words in said[:1]:
                print(f"FAILS {os.path.basename(folder)} {policy}: {words[:300]}", flush=True)
    return taken, count


def main():
    transformers.logging.set_verbosity_error()
    roots = sys.argv[2:] or [os.path.join(HERE, "..", "model", "data")]
    good, all_maps = 0, 0
    for root in roots:
        for name in sorted(os.listdir(root)):
            if os.path.exists(os.path.join(root, name, "config.json")):
                taken, count = check(sys.argv[1], os.path.join(root, name))
                good, all_maps = good + taken, all_maps + count
    print(f"{good}/{all_maps} device maps are taken by accelerate")
    return 0 if good == all_maps else 1


if __name__ == "__main__":
    sys.exit(main())
