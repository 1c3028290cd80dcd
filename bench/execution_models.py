"""What `bench/run execution` generates with: models in several weight forms, and the works that are
timed. Files are made on first use, under build-bench/ and models/."""
import functools
import subprocess
from dataclasses import dataclass

import harness as h

BERTH, TRANSFORMERS, LLAMA = "Berth", "transformers", "llama.cpp"
GPU = "Berth on the GPU"
TEXT = "The capital of France is"


@dataclass(frozen=True)
class Work:
    """What an arm computes. Rates are in tokens/s of all sequences together."""
    name: str
    batch: int = 1
    prompt: int = 8  # tokens of each sequence
    new: int = 65    # the first of them comes out of the prompt, so 64 passes are timed

    @property
    def ids(self):
        return ",".join(str((7919 * i + 13) % 49152) for i in range(self.prompt))


BATCH_1 = Work("batch 1")
BATCH_8 = Work("batch 8", batch=8)
PROMPT = Work("prompt of 512", prompt=512, new=1)
FIRST = Work("first token", new=1)  # of TEXT, by a whole process


@dataclass(eq=False)
class Form:
    """A model's weights in one form. `programs`: {program: (function that makes and returns the
    path, options of the program)}."""
    model: str
    name: str
    programs: dict
    works: tuple

    @property
    def label(self):
        return f"{self.model} {self.name}"


@functools.cache
def demo_model(dtype):
    """SmolLM2-135M-Instruct as a folder."""
    out = h.ROOT / "models" / f"SmolLM2-135M-Instruct{'' if dtype == 'bf16' else '-' + dtype}"
    command([h.ROOT / "scripts/fetch-demo-model", "--dtype", dtype, "--out", out])
    return out


def demo_gguf():
    demo_model("bf16")
    return h.ROOT / "models/SmolLM2-135M-Instruct.Q4_1.gguf"


def big_model():
    """Llama-3.2-1B's shapes with random bfloat16 weights. Float32 is made of them as they are
    loaded, by Berth and by transformers."""
    return h.checkpoint("bf16-2.5gb")


def big_gguf(name):
    out = h.WORK / "models" / f"bf16-2.5gb-{name}.gguf"
    if not out.exists():
        h.progress(f"making {out.name}")
        command([h.peer_python(), h.ROOT / "bench/make_gguf.py", big_model(), out, name])
    return out


def command(arguments):
    """Runs a command that makes files. Raises RuntimeError with its last words if it fails."""
    done = subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        raise RuntimeError(f"{arguments[0]}: {words[-1]}")


def forms(gpus):
    """`gpus`: of this machine; where there are any, Berth has arms that use them, too."""
    small = (BATCH_1, BATCH_8, PROMPT, FIRST)
    big = (BATCH_1, BATCH_8, PROMPT)
    f32, bf16 = ["--dtype", "float32"], ["--dtype", "bfloat16"]
    out = []
    for name, short, dtype in (("f32", "f32", f32), ("bf16", "bf16", bf16)):
        path = functools.partial(demo_model, short)
        out.append(Form("SmolLM2", name, {BERTH: (path, []), TRANSFORMERS: (path, dtype)}, small))
    out.append(Form("SmolLM2", "Q4_1", {BERTH: (demo_gguf, []), LLAMA: (demo_gguf, [])}, small))
    out.append(Form("1B", "f32", {BERTH: (big_model, f32), TRANSFORMERS: (big_model, f32)}, big))
    out.append(Form("1B", "bf16", {BERTH: (big_model, []), TRANSFORMERS: (big_model, bf16),
                                   LLAMA: (functools.partial(big_gguf, "bf16"), [])}, big))
    for name in ("Q8_0", "Q4_0", "Q4_1", "Q4_K"):
        path = functools.partial(big_gguf, name.lower())
        out.append(Form("1B", name, {BERTH: (path, []), LLAMA: (path, [])}, big))
    for form in out:
        if gpus and form.label in ("1B bf16", "1B Q4_K"):
            form.programs[GPU] = form.programs[BERTH]
    return out
