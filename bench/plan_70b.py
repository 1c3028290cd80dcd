"""`berth plan` as a whole process on the 131 GiB Llama-3.3-70B sample, for two 24 GiB GPUs and
128 GiB of host RAM, against accelerate doing the same: import, meta skeleton, device map."""
import json

import harness as h
from harness import Arm

GIB = 1 << 30
BUDGETS = {"0": 24 * GIB, "1": 24 * GIB, "cpu": 128 * GIB}
SHARED_POLICIES = ["balanced", "balanced_low_0", "sequential"]
OWN_POLICIES = ["auto", "throughput"]


def berth_arm(folder, policy):
    budgets = ",".join(f"{device}={size}" for device, size in BUDGETS.items())

    def measure():
        run = h.run([h.berth_binary(), "plan", folder, "--policy", policy, "--max-memory", budgets,
                     "--print-device-map"], sample_ms=0)
        return {"seconds": run.wall, "rss": run.maxrss, "map": json.loads(run.stdout)}
    return Arm(f"berth plan --policy {policy}", measure)


def accelerate_arm(folder, policy):
    script = h.ROOT / "bench/arms/accelerate_plan.py"

    def measure():
        run = h.run([h.peer_python(), script, folder, policy, json.dumps(BUDGETS)], sample_ms=0,
                    env={"CUDA_VISIBLE_DEVICES": ""})
        return {"seconds": run.wall, "rss": run.maxrss, "map": json.loads(run.stdout)}
    return Arm(f"accelerate, {policy}", measure)


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


def main(options, out):
    h.build_tools()
    folder = h.checkpoint("llama-3.3-70b")
    berth = {p: berth_arm(folder, p) for p in SHARED_POLICIES + OWN_POLICIES}
    peers = {p: accelerate_arm(folder, p) for p in SHARED_POLICIES}
    for round_ in range(options.repetitions):
        h.interleave_round(list(peers.values()), round_)
        for inner in range(4):  # ours takes milliseconds: more runs cost nothing
            h.interleave_round(list(berth.values()), 4 * round_ + inner)

    rows, lines = [], []
    for policy, arm in berth.items():
        peer = peers.get(policy, peers["balanced"])
        if not arm.runs:
            continue
        ours, theirs = arm.median("seconds"), peer.median("seconds")
        same = "-"
        if policy in peers and peer.runs:
            same = agreement(folder, arm.runs[0]["map"], peer.runs[0]["map"])
        rows.append([f"`{policy}`", f"{1e3 * ours:.1f}", h.mib(arm.median("rss")),
                     f"{theirs:.2f}" if theirs else "-",
                     h.mib(peer.median("rss")) if peer.runs else "-",
                     h.times(h.ratio(theirs, ours)), same])
        lines.append(h.verdict(f"{policy}: time", 1e3 * ours, 10, at_least=False, unit=" ms"))
        lines.append(h.verdict(f"{policy}: RSS", arm.median("rss") / 2**20, 15, at_least=False,
                               unit=" MiB"))
    arms = [*berth.values(), *peers.values()]
    body = ["723 tensors, 30 shards, 131 GiB, planned for two 24 GiB GPUs and 128 GiB of host RAM "
            f"by whole processes, medians of {options.repetitions} (accelerate) and "
            f"{4 * options.repetitions} runs, warm cache. accelerate knows no `auto` and no "
            "`throughput` of this kind: these rows stand against its `balanced`.",
            h.markdown_table(["policy", "berth ms", "RSS MiB", "accelerate s", "RSS MiB", "faster",
                              "same placement"], rows) if rows else
            h.markdown_table(["", "s", "RSS MiB"],
                             [[a.label, f"{a.median('seconds'):.2f}", h.mib(a.median("rss"))]
                              for a in peers.values() if a.runs]),
            "### Targets", "\n".join(f"- {line}" for line in lines)]
    notes = h.failures(arms)
    if notes:
        body += ["### Notes", "\n".join(f"- {line}" for line in notes)]
    for arm in arms:
        for r in arm.runs:
            r.pop("map")
    h.publish("plan", "Planning 70 billion parameters", "\n\n".join(body), h.raw(arms), out)
