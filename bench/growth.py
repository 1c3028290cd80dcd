"""What `auto` costs as models and machines grow. Measures the planner alone, with the metadata in
memory, in the process of `berth_bench`. Models are Llama-3.3-70B's config with another number of
layers."""
import json
import statistics
import subprocess

import harness as h

TARGET_MS = 50  # 80 layers over eight unlike GPUs, the CPU and the disk
SPILLS = {0: "all fits on the GPUs", 1: "a third on the CPU", 2: "and some on the disk"}


def run_bench(repetitions):
    """Returns {(name, arguments): [milliseconds]} for every benchmark that the tables need, and why
    those that are missing could not run."""
    command = [h.bench_binary(), "--benchmark_filter=^BM_(AutoGrows|AutoSpills|OpenConfig)/",
               f"--benchmark_repetitions={repetitions}", "--benchmark_format=json",
               "--benchmark_enable_random_interleaving=true"]
    h.progress("  " + " ".join(str(c) for c in command[1:]))
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"berth_bench: {done.stderr.strip().splitlines()[-1:]}")
    runs, failures = {}, {}
    for entry in json.loads(done.stdout)["benchmarks"]:
        if entry["run_type"] != "iteration":
            continue
        if entry["time_unit"] != "ms":
            raise RuntimeError(f"berth_bench: {entry['name']} is in {entry['time_unit']}, not ms")
        if entry.get("error_occurred"):
            failures[entry["run_name"]] = entry["error_message"]
            continue
        name, *arguments = entry["run_name"].split("/")
        key = name, tuple(int(a.partition(":")[2]) for a in arguments)
        runs.setdefault(key, []).append(entry["real_time"])
    return runs, [f"{name}: not measured: {reason}" for name, reason in failures.items()]


def milliseconds(values):
    return f"{statistics.median(values):.3g}" if values else "-"


def growth_table(runs):
    layers = sorted({k[1][0] for k in runs if k[0] == "BM_AutoGrows"})
    gpus = sorted({k[1][1] for k in runs if k[0] == "BM_AutoGrows"})
    rows = [[f"{n:,}", milliseconds(runs.get(("BM_OpenConfig", (n,))))] +
            [milliseconds(runs.get(("BM_AutoGrows", (n, g)))) for g in gpus] for n in layers]
    return h.markdown_table(["layers", "open ms"] + [f"{g} GPU{'s' if g > 1 else ''} ms"
                                                     for g in gpus], rows)


def main(options, out):
    h.build_tools()
    runs, failures = run_bench(options.repetitions)
    spills = sorted(k[1] for k in runs if k[0] == "BM_AutoSpills")
    rows = [[SPILLS[spill], milliseconds(runs["BM_AutoSpills", (n, g, spill)])]
            for n, g, spill in spills]
    lines = [h.verdict(f"80 layers, {SPILLS[spill]}",
                       statistics.median(runs["BM_AutoSpills", (n, g, spill)]), TARGET_MS,
                       at_least=False, unit=" ms") for n, g, spill in spills]
    body = ["`auto` without opening the model, in milliseconds: medians of "
            f"{options.repetitions} repetitions, in random order.",
            "### 80 layers over eight unlike GPUs, the CPU and the disk",
            h.markdown_table(["the model", "ms"], rows),
            "### As it grows",
            "Unlike GPUs that hold two thirds of the model, and a CPU for the rest. *open*: the "
            "model from its config.json alone.", growth_table(runs),
            "### Targets", "\n".join(f"- {line}" for line in lines)]
    if failures:
        body += ["### Notes", "\n".join(f"- {line}" for line in failures)]
    raw = {"/".join([name, *map(str, arguments)]): {"milliseconds": values}
           for (name, arguments), values in runs.items()}
    h.publish("growth", "Planning as models and machines grow", "\n\n".join(body), raw, out)
