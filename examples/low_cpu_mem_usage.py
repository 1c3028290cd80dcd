#!/usr/bin/env python3
"""What loading a model does to the memory of a process, in three ways side by side.

usage: low_cpu_mem_usage.py MODEL [--tokens N] [--ways plain,frugal,berth]

  plain   builds the model with memory of its own, reads a whole state dict beside it, and copies
  frugal  transformers' from_pretrained(), which builds the model without memory
  berth   the same, with the bytes read and placed by Berth

MODEL is a folder, or the id of a model in the local cache. Each way has a process of its own, which
also generates N tokens. Private (anonymous) memory is what a process has for itself; mapped memory
is pages of the model's files, which the kernel can take back whenever it needs them. The peak is
that of private memory while loading. How little a load takes says nothing of where the weights are
afterwards, so that is said apart.
"""

import argparse
import glob
import os
import subprocess
import sys
import threading
import time

WAYS = ("plain", "frugal", "berth")


def memory():
    """Private and mapped memory of this process, in bytes."""
    found = {"RssAnon": 0, "RssFile": 0}
    with open("/proc/self/status") as status:
        for line in status:
            name, _, rest = line.partition(":")
            if name in found:
                found[name] = int(rest.split()[0]) * 1024
    return found["RssAnon"], found["RssFile"]


class Peak(threading.Thread):
    """The most private memory while it runs."""

    def __init__(self):
        super().__init__(daemon=True)
        self.bytes = memory()[0]
        self.done = threading.Event()
        self.start()

    def run(self):
        while not self.done.wait(0.002):
            self.bytes = max(self.bytes, memory()[0])


def load_plainly(model):
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import cached_file

    config = AutoConfig.from_pretrained(model)
    built = AutoModelForCausalLM.from_config(config, dtype=getattr(config, "dtype", None))
    folder = os.path.dirname(cached_file(model, "config.json"))
    files = glob.glob(os.path.join(folder, "*.safetensors"))
    if not files:
        sys.exit(f"{folder}: the plain way reads *.safetensors, and there are none")
    state = {name: tensor.clone() for file in files for name, tensor in load_file(file).items()}
    with torch.no_grad():
        unexpected = built.load_state_dict(state, strict=False).unexpected_keys
    if unexpected:  # as in mixtures, whose experts transformers stacks: the weights would be random
        sys.exit(f"the plain way renames nothing, and the model has no {unexpected[0]!r}")
    return built.eval()


def load_frugally(model):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model, dtype="auto")


def load_by_berth(model):
    import berth

    return berth.from_pretrained(model, dtype="auto")


def measure(way, model, tokens):
    """Prints one row. The model's code is imported first, so that it is not counted."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    with torch.device("meta"):
        transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(model))
    if way == "berth":
        import berth

        berth.from_pretrained, berth.__version__  # noqa: B018: imported and opened when asked for
    before = memory()
    peak = Peak()
    start = time.perf_counter()
    loaded = {"plain": load_plainly, "frugal": load_frugally, "berth": load_by_berth}[way](model)
    seconds = time.perf_counter() - start
    peak.done.set()
    peak.join()
    after = memory()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(model)
        ids = tokenizer("The memory of a computer", return_tensors="pt").input_ids
    except Exception:
        tokenizer, ids = None, torch.tensor([[1, 2, 3]])
    if tokens:
        out = loaded.generate(ids.to(loaded.device), max_new_tokens=tokens, do_sample=False)
    private, mapped = memory()
    mib = [round(value / 2**20) for value in (
        peak.bytes - before[0], after[0] - before[0], after[1] - before[1], private - before[0],
        mapped - before[1])]
    print(f"{way:8}{seconds:8.2f}" + "".join(f"{value:12,}" for value in mib), flush=True)
    places = sorted({str(parameter.device) for parameter in loaded.parameters()})
    print(f"         the weights are on {', '.join(places)}", flush=True)
    if tokens:
        said = out[0, ids.shape[1]:].tolist()
        print(f"         {tokenizer.decode(said)!r}" if tokenizer else f"         {said}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        return measure(arguments.measure, arguments.model, arguments.tokens)
    print("MiB above what was there before loading; generated tokens last\n")
    print("WAY     SECONDS   LOAD PEAK     PRIVATE      MAPPED   PRIVATE, G   MAPPED, G", flush=True)
    for way in arguments.ways.split(","):
        command = [sys.executable, __file__, arguments.model, "--tokens", str(arguments.tokens)]
        done = subprocess.run([*command, "--measure", way],
                              env={**os.environ, "HF_HUB_OFFLINE": "1"})
        if done.returncode != 0:
            print(f"{way:8}  failed", flush=True)


if __name__ == "__main__":
    main()
