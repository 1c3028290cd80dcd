"""`berth plan` as a whole process, against accelerate doing the same: import, meta skeleton, device
map. Two weightless checkpoints: Llama-3.3-70B, and DeepSeek-V3 with its 45,395 tensors."""
import json
from dataclasses import dataclass, field

import harness as h
from harness import Arm

GIB = 1 << 30
SHARED_POLICIES = ["balanced", "balanced_low_0", "sequential"]
OWN_POLICIES = ["auto", "throughput"]


@dataclass
class Case:
    preset: str        # a preset of scripts/make_checkpoint.py
    title: str
    words: str         # what is planned, and for which machine
    budgets: dict      # for --max-memory, in bytes
    milliseconds: int  # targets for the whole process
    rss_mib: int
    berth: dict = field(default_factory=dict)  # Berth's arms by policy
    peers: dict = field(default_factory=dict)

    @property
    def arms(self):
        return [*self.berth.values(), *self.peers.values()]


def cases():
    return [
        Case("llama-3.3-70b", "Llama-3.3-70B",
             "723 tensors, 30 shards, 131 GiB, for two 24 GiB GPUs and 128 GiB of host RAM",
             {"0": 24 * GIB, "1": 24 * GIB, "cpu": 128 * GIB}, 10, 15),
        Case("deepseek-v3", "DeepSeek-V3",
             "45,395 tensors in bfloat16, 1.22 TiB, for eight 141 GiB GPUs and 512 GiB of host RAM",
             {**{str(gpu): 141 * GIB for gpu in range(8)}, "cpu": 512 * GIB}, 60, 64),
    ]


def berth_arm(case, folder, policy):
    budgets = ",".join(f"{device}={size}" for device, size in case.budgets.items())

    def measure():
        run = h.run([h.berth_binary(), "plan", folder, "--policy", policy, "--max-memory", budgets,
                     "--print-device-map"], sample_ms=0)
        return {"seconds": run.wall, "rss": run.maxrss, "map": json.loads(run.stdout)}
    return Arm(f"{case.title}: berth plan --policy {policy}", measure)


def accelerate_arm(case, folder, policy):
    script = h.ROOT / "bench/arms/accelerate_plan.py"

    def measure():
        run = h.run([h.peer_python(), script, folder, policy, json.dumps(case.budgets)],
                    sample_ms=0, env={"CUDA_VISIBLE_DEVICES": ""})
        return {"seconds": run.wall, "rss": run.maxrss, "map": json.loads(run.stdout)}
    return Arm(f"{case.title}: accelerate, {policy}", measure)


def device_of(device_map, tensor):
    """The device of a tensor: the longest key that is a dotted prefix of its name."""
    name = tensor
    while name not in device_map:
        if not name:
            return None
        name = name.rpartition(".")[0]
    return str(device_map[name])


def agreement(folder, ours, theirs):
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    tensors = list(index["weight_map"])
    same = sum(device_of(ours, t) == device_of(theirs, t) is not None for t in tensors)
    return f"{same}/{len(tensors)}"


def measure(case, repetitions):
    folder = h.checkpoint(case.preset)
    case.berth = {p: berth_arm(case, folder, p) for p in SHARED_POLICIES + OWN_POLICIES}
    case.peers = {p: accelerate_arm(case, folder, p) for p in SHARED_POLICIES}
    for round_ in range(repetitions):
        h.interleave_round(list(case.peers.values()), round_)
        for inner in range(4):  # our runs take milliseconds, so more of them cost nothing
            h.interleave_round(list(case.berth.values()), 4 * round_ + inner)
    return folder


def table(case, folder):
    """The case's rows, and a line for each of its targets."""
    rows, lines = [], []
    for policy, arm in case.berth.items():
        peer = case.peers.get(policy, case.peers["balanced"])
        if not arm.runs:
            continue
        ours, theirs = arm.median("seconds"), peer.median("seconds")
        same = "-"
        if policy in case.peers and peer.runs:
            same = agreement(folder, arm.runs[0]["map"], peer.runs[0]["map"])
        rows.append([f"`{policy}`", f"{1e3 * ours:.1f}", h.mib(arm.median("rss")),
                     f"{theirs:.2f}" if theirs else "-",
                     h.mib(peer.median("rss")) if peer.runs else "-",
                     h.times(h.ratio(theirs, ours)), same])
        lines.append(h.verdict(f"{case.title}, {policy}: time", 1e3 * ours, case.milliseconds,
                               at_least=False, unit=" ms"))
        lines.append(h.verdict(f"{case.title}, {policy}: RSS", arm.median("rss") / 2**20,
                               case.rss_mib, at_least=False, unit=" MiB"))
    if not rows:
        return h.markdown_table(["", "s", "RSS MiB"],
                                [[a.label, f"{a.median('seconds'):.2f}", h.mib(a.median("rss"))]
                                 for a in case.peers.values() if a.runs]), lines
    return h.markdown_table(["policy", "berth ms", "RSS MiB", "accelerate s", "RSS MiB", "faster",
                             "same placement"], rows), lines


def main(options, out):
    h.build_tools()
    body = [f"Whole processes, medians of {options.repetitions} (accelerate) and "
            f"{4 * options.repetitions} runs, warm cache. accelerate knows no `auto` and no "
            "`throughput` of this kind: these rows stand against its `balanced`."]
    targets, arms = [], []
    for case in cases():
        folder = measure(case, options.repetitions)
        text, lines = table(case, folder)
        body += [f"### {case.title}", f"{case.words}.", text]
        targets += lines
        arms += case.arms
    body += ["### Targets", "\n".join(f"- {line}" for line in targets)]
    notes = h.failures(arms)
    if notes:
        body += ["### Notes", "\n".join(f"- {line}" for line in notes)]
    for arm in arms:
        for r in arm.runs:
            r.pop("map")
    h.publish("plan", "Planning as a whole process", "\n\n".join(body), h.raw(arms), out)
