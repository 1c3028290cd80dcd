"""Another build of Berth beside this one, in one run: whole plans, the policy `auto` alone, and loads to
host memory. For changes that must cost nothing, such as a restructure. The other build stands in
a folder like build/, with berth, its libraries and berth_bench (see README.md)."""
import json
import os
import subprocess
from pathlib import Path

import harness as h
import loaders
import planning
from harness import Arm

STATES = ["cold", "warm"]
LOADS = {"private": ["--cpu-memory", "private"],
         "private, buffered": ["--cpu-memory", "private", "--io", "buffered"],
         "private, O_DIRECT": ["--cpu-memory", "private", "--io", "direct"],
         "mapped and resident": ["--cpu-memory", "mmap", "--prefault"],
         "mapped": ["--cpu-memory", "mmap"]}


class Pair:
    """The same work by both builds."""

    def __init__(self, label, before, after):
        self.label, self.before, self.after = label, Arm(f"{label}, before", before), Arm(label, after)

    @property
    def arms(self):
        return [self.before, self.after]

    def ratio(self):
        return h.ratio(self.after.median("seconds"), self.before.median("seconds"))

    def row(self):
        cells = [self.label]
        for arm in self.arms:
            cells += [f"{1000 * arm.median('seconds'):.3g}", spread_ms(arm)] if arm.runs else ["-"] * 2
        return [*cells, f"{self.ratio():.3f}" if self.ratio() else "-"]


def spread_ms(arm):
    return h.spread([1000 * seconds for seconds in arm.values("seconds")])


def table(pairs):
    return h.markdown_table(["", "before ms", "from to", "after ms", "from to", "after / before"],
                            [pair.row() for pair in pairs])


def plan_command(binary, folder, policy, budgets):
    command = [binary, "plan", folder, "--policy", policy, "--max-memory", budgets,
               "--print-device-map"]

    def measure():
        run = h.run(command, sample_ms=0)
        return {"seconds": run.wall, "rss": run.maxrss}
    return measure


def plan_pairs(before, after):
    pairs = []
    for case in planning.cases():
        folder = h.checkpoint(case.preset)
        budgets = ",".join(f"{device}={size}" for device, size in case.budgets.items())
        for policy in planning.SHARED_POLICIES + planning.OWN_POLICIES:
            pairs.append(Pair(f"{case.title}, {policy}",
                              *(plan_command(b, folder, policy, budgets) for b in (before, after))))
    return pairs


def grow(binary, benchmark):
    def measure():
        done = subprocess.run([Path(binary).parent / "berth_bench",
                               f"--benchmark_filter=^{benchmark}$", "--benchmark_format=json"],
                              capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"berth_bench: {done.stderr.strip().splitlines()[-1:]}")
        entry = json.loads(done.stdout)["benchmarks"][0]
        assert entry["time_unit"] == "ms", entry
        return {"seconds": entry["real_time"] / 1000}
    return measure


def growth_pairs(before, after):
    listed = subprocess.check_output([Path(after).parent / "berth_bench", "--benchmark_list_tests",
                                      "--benchmark_filter=^BM_(AutoGrows|AutoSpills|OpenConfig)/"],
                                     text=True).split()
    return [Pair(name, grow(before, name), grow(after, name)) for name in listed]


def load_command(binary, folder, options):
    def measure():
        h.prime_memory(loaders.FRESH)
        run = h.run([binary, "load", folder, "--json", *options], env=loaders.NO_GPU)
        return {"seconds": json.loads(run.stdout)["measured"]["seconds"], "process": run.until_answer,
                "private_peak": run.peak(h.private)}
    return measure


def load_pairs(before, after, folder):
    return [Pair(label, *(load_command(b, folder, options) for b in (before, after)))
            for label, options in LOADS.items()]


def measure(pairs, repetitions, prepare=lambda: None, words=""):
    arms = [arm for pair in pairs for arm in pair.arms]
    for round_ in range(repetitions):
        h.interleave_round(arms, round_, prepare, words)


def main(options, out):
    if "BERTH_BEFORE" not in os.environ:
        raise h.Unavailable("BERTH_BEFORE names the berth of the other build, with berth_bench beside it")
    before, after = str(Path(os.environ["BERTH_BEFORE"]).resolve()), h.berth_binary()
    h.build_tools()
    folder = h.checkpoint("bf16-2.5gb")
    files = sorted(folder.glob("*.safetensors"))
    parts = {"Plans, whole processes": plan_pairs(before, after),
             "The policy auto alone": growth_pairs(before, after)}
    for pairs in parts.values():
        measure(pairs, options.repetitions)
    for state, prepare in zip(STATES, (h.make_cold, h.make_warm)):
        title = f"Loads of {h.gb(sum(map(os.path.getsize, files)))} GB, {state}"
        parts[title] = load_pairs(before, after, folder)
        measure(parts[title], options.repetitions, lambda: prepare(files), f"{state}, ")
    body = [f"Medians of {options.repetitions} interleaved runs."]
    for title, pairs in parts.items():
        body += [f"### {title}", table(pairs)]
    arms = [arm for pairs in parts.values() for pair in pairs for arm in pair.arms]
    notes = h.failures(arms)
    if notes:
        body += ["### Notes", "\n".join(f"- {line}" for line in notes)]
    h.publish("before", "Before and after", "\n\n".join(body),
              {title: h.raw([a for p in pairs for a in p.arms]) for title, pairs in parts.items()}, out)
