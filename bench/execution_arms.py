"""The arms of `bench/run execution`. Each is a process that does one work with one form of a model:
`berth run`, or a script of bench/arms for a peer. Right before and right after it, bench/ram_read.cc
reads memory with as many threads, so that a rate of weights is compared with what memory gave in
that minute."""
import functools
import hashlib
import json
import os
import re
import subprocess

import harness as h
from execution_models import BERTH, FIRST, GPU, LLAMA, TEXT, TRANSFORMERS
from harness import Arm

THREADS = os.cpu_count()
READ_BYTES = 1 << 30   # of a plain read of memory
FRESH = 2_000_000_000  # bytes primed before a process whose start is timed
SAMPLE_MS = 0          # no samples of memory, which would take time from the arm
CALIBRATION = h.WORK / "machine.yaml"
ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "", "BERTH_MACHINE_FILE": ""}
SCRIPTS = {TRANSFORMERS: "transformers_run.py", LLAMA: "llama_cpp_run.py"}


def build_tools():
    h.build_tools()
    h.build_tool("ram_read", [os.environ.get("CXX", "c++"), "-std=c++20", "-O2", "-march=native",
                              "-pthread", "-static"])


def read_rate():
    """R: bytes/s of a plain read of memory."""
    said = subprocess.check_output([h.WORK / "bin/ram_read", str(READ_BYTES), str(THREADS)])
    return json.loads(said)["bytes_per_second"]


def calibrate():
    """Measures this machine, and lets all runs and plans use that. Returns what `berth calibrate
    --json` prints. Where it fails they use default speeds."""
    ENVIRONMENT["BERTH_MACHINE_FILE"] = ""
    command = [h.berth_binary(), "calibrate", "--json", "--out", CALIBRATION]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"berth calibrate: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    ENVIRONMENT["BERTH_MACHINE_FILE"] = str(CALIBRATION)
    figures = json.loads(done.stdout)
    figures.pop("file", None)  # where it was written says nothing of the machine
    return figures


def workload(work):
    return ["--batch", str(work.batch), "--context", str(work.prompt + work.new)]


@functools.cache
def plan(form, work):
    """What Berth plans: weights in bytes, and the seconds of the prompt and of each pass."""
    path, options = form.programs[BERTH]
    command = [h.berth_binary(), "plan", path(), "--json", *options, *workload(work),
               "--prompt-tokens", str(work.prompt), "--new-tokens", str(work.new)]
    done = subprocess.run(command, capture_output=True, text=True,
                          env={**os.environ, **ENVIRONMENT})
    if done.returncode != 0:
        raise RuntimeError(f"berth plan: {(done.stderr.strip().splitlines() or ['no fit'])[-1]}")
    said = json.loads(done.stdout)
    return {"weights": sum(device["weights"] for device in said["devices"]),
            "prefill_seconds": said["estimate"]["prefill_seconds"],
            "seconds_per_token": said["estimate"]["seconds_per_token"]}


def arm(form, program, work):
    """`seconds` is what the work took: the passes after the prompt, the prompt, or for the first
    token the whole process. `rate` is tokens/s, of all sequences together."""
    path, options = form.programs[program]

    def measure():
        model = path()
        h.make_warm([model] if model.is_file() else sorted(model.glob("*.safetensors")))
        if work is FIRST:
            h.prime_memory(FRESH)
        before = read_rate()
        generate = berth_run if program in (BERTH, GPU) else peer_run
        run, numbers = generate(program, model, options, work)
        after = read_rate()
        numbers.update(ram_before=before, ram_after=after, process=run.until_answer)
        if work is FIRST:
            numbers["seconds"] = run.until_answer
        elif work.new > 1:
            numbers["seconds"] = numbers["decode_seconds"]
        else:
            numbers["seconds"] = numbers["prompt_seconds"]
        tokens = work.batch * (work.new - 1) or work.prompt
        numbers["rate"] = tokens / numbers["seconds"]
        return numbers
    return Arm(f"{form.label}, {work.name}: {program}", measure)


def berth_run(program, model, options, work):
    environment = dict(ENVIRONMENT)
    if program == GPU:
        del environment["CUDA_VISIBLE_DEVICES"]
    prompt = ["--prompt", TEXT] if work is FIRST else ["--prompt-ids", work.ids, "--prefault"]
    run = h.run([h.berth_binary(), "run", model, *options, *prompt, "-n", str(work.new), "--json",
                 *workload(work)], SAMPLE_MS, environment)
    if program == GPU and not re.search(r"^weights +100 % gpu", run.stderr, re.M):
        raise ValueError("not all weights were on the GPU")
    said = json.loads(run.stdout)
    ids = [sequence["new_ids"] for sequence in said.get("sequences", [said])]
    first, rate = figures(said, "first_token_seconds"), figures(said, "tokens_per_second")
    numbers = {**about_ids(ids), "kernels": re.search(r"^kernels +(.*)", run.stderr, re.M)[1],
               "prompt_seconds": first["measured"] or found(r"prompt .* in ([\d.]+) s", run.stderr)}
    if work.new > 1:
        measured = rate["measured"] or found(r"^new .*\(([\d.]+) tokens/s\)", run.stderr)
        numbers["decode_seconds"] = work.batch * (work.new - 1) / measured
        numbers["planned"] = rate["planned"]
    else:
        numbers["planned"] = first["planned"] and work.batch * work.prompt / first["planned"]
    return run, numbers


def figures(said, key):
    """What `berth run --json` says was planned and measured; builds that do not say it print what
    was measured, with fewer digits."""
    return {"planned": None, "measured": None, **said.get(key, {})}


def found(pattern, text):
    match = re.search(pattern, text, re.M)
    if not match:
        raise ValueError(f"berth run says nothing like /{pattern}/")
    return float(match[1])


def peer_run(program, model, options, work):
    prompt = ["--text", TEXT, "--cold"] if work is FIRST else ["--ids", work.ids]
    run = h.run([h.peer_python(), h.ROOT / "bench/arms" / SCRIPTS[program], model, *options,
                 *prompt, "--batch", str(work.batch), "--new", str(work.new),
                 "--threads", str(THREADS)], SAMPLE_MS, ENVIRONMENT)
    said = json.loads(run.stdout.strip().splitlines()[-1])
    said.update(about_ids(said.pop("new_ids")))
    return run, said


def about_ids(sequences):
    """Which tokens came out, as a digest of the first sequence's; and whether all got the same."""
    text = ",".join(map(str, sequences[0]))
    return {"ids": hashlib.sha256(text.encode()).hexdigest()[:16],
            "sequences_agree": all(sequence == sequences[0] for sequence in sequences)}
