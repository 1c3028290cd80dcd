"""What the main table of `bench/run loaders` does not show: models under 1 GB, the cost of one
tensor, mapping of any size, and the memory that a load needs under a hard limit. Each function
returns sections of the page, lines for the targets, and raw figures."""
import json
import os

import harness as h
from harness import Arm
from limits import MemoryLimit
from loaders import FRESH, LAZY, MAPPED, NO_GPU, PRIVATE, STAGING, berth_arm, peer_arm

# A load promises to need no more than SLACK above what stays and the staging. A cgroup that is
# HEADROOM larger than what stays and the staging must do for it.
SLACK = 64 << 20
HEADROOM = 128 << 20
SHARDED = ("llama-3.3-70b", "--shards", "200")  # 141 GB of holes in 199 files


def shards_of(folder):
    return sorted(folder.glob("*.safetensors"))


def row(arm, count=None):
    load = arm.median("seconds")
    cells = [arm.label, f"{load * 1000:.1f}", h.spread([1000 * s for s in arm.values("seconds")])]
    if count:
        cells.append(f"{load / count * 1e6:.2f}")
    return cells + [h.mib(arm.median("private_peak")), h.mib(arm.median("mapped_peak"))]


def small(repetitions):
    """Models under 1 GB, warm: Berth and safetensors, each both mapped and copied."""
    parts, lines, data = [], [], {}
    for preset, words in (("small", "0.27 GB of bfloat16 in one file"),
                          ("many-tensors", "0.10 GB in 18,867 tensors and 14 shards")):
        folder = h.checkpoint(preset)
        files = shards_of(folder)
        count = 18_867 if preset == "many-tensors" else None
        arms = [berth_arm(MAPPED, folder, "--cpu-memory", "mmap", "--prefault"),
                peer_arm("safetensors load_file, touched", "safetensors_mapped", folder),
                berth_arm(PRIVATE, folder, "--cpu-memory", "private"),
                peer_arm("safetensors load_file + clone", "safetensors_copy", folder),
                berth_arm(LAZY, folder, "--cpu-memory", "mmap")]
        for round_ in range(repetitions):
            h.interleave_round(arms, round_, lambda files=files: h.make_warm(files), f"{preset}, ")
        head = ["", "load ms", "from to"] + (["us a tensor"] if count else []) + \
               ["private peak MiB", "mapped peak MiB"]
        parts.append(f"### {words}, warm\n\n" +
                     h.markdown_table(head, [row(a, count) for a in arms if a.runs]))
        times = [a.median("seconds") for a in arms]
        lines.append(h.verdict(f"{words}, mapped and resident: times safetensors",
                               h.ratio(times[1], times[0]), 1))
        lines.append(h.verdict(f"{words}, private: times safetensors with a copy",
                               h.ratio(times[3], times[2]), 1))
        if count:
            for label, seconds in ((PRIVATE, times[2]), (LAZY, times[4])):
                lines.append(h.verdict(f"{label}: a tensor of {count:,}",
                                       seconds and seconds / count * 1e6, 5, at_least=False,
                                       unit=" us"))
        lines += h.failures(arms, f"{preset}, ")
        data[preset] = h.raw(arms)
    return parts, lines, data


def sharded(repetitions):
    """141 GB in 199 files: mapped, and streamed once through the staging ring."""
    folder = h.checkpoint(*SHARDED)
    mapped = berth_arm("mmap, 141 GB in 199 shards", folder, "--policy", "sequential",
                       "--max-memory", "cpu=200GB", "--cpu-memory", "mmap")  # more than the RAM
    out = h.WORK / "checksums.json"

    def measure():
        run = h.run([h.berth_binary(), "checksum", folder, "--out", out], env=NO_GPU)
        return {"seconds": run.wall, "private_peak": run.peak(h.private),
                "mapped_peak": run.peak(lambda s: s.file)}
    streamed = Arm("all 141 GB through the staging ring (berth checksum)", measure)
    for round_ in range(repetitions):
        h.interleave_round([mapped], round_)
    h.interleave_round([streamed], 0)
    out.unlink(missing_ok=True)
    arms = [mapped, streamed]
    part = ("### 141 GB of holes in 199 files\n\n" +
            h.markdown_table(["", "load ms", "from to", "private peak MiB", "mapped peak MiB"],
                             [row(a) for a in arms if a.runs]))
    said = [r["said_peak"] for r in mapped.runs]
    lines = [h.verdict("mmap of 141 GB", mapped.median("seconds"), 0.05, at_least=False, unit=" s"),
             h.verdict("mmap of 141 GB: anonymous memory above the start",
                       max(said) / 2**20 if said else None, 2, at_least=False, unit=" MiB"),
             h.verdict("141 GB streamed: peak over staging",
                       streamed.runs and (max(streamed.values("private_peak")) - STAGING) / 2**20
                       or None, SLACK >> 20, at_least=False, unit=" MiB")]
    return [part], lines + h.failures(arms), {"sharded": h.raw(arms)}


def limited_arm(label, folder, stays, *options):
    def measure():
        with MemoryLimit(stays + STAGING + HEADROOM) as limit:
            h.prime_memory(FRESH)
            command = limit.command([h.berth_binary(), "load", folder, "--json", *options])
            run = h.run(command, env=NO_GPU)
            measured = json.loads(run.stdout)["measured"]
            return {"seconds": measured["seconds"], "private_peak": run.peak(h.private),
                    "charged": limit.peak() or 0, "io": measured["io"][0]}
    return Arm(label, measure)


def footprint(repetitions):
    """Loads inside a cgroup of what stays plus staging plus 128 MiB; the page cache counts, too."""
    folder = h.checkpoint("bf16-2.5gb")
    files = shards_of(folder)
    stays = sum(os.path.getsize(f) for f in files)
    gpu = ["--emulate", "--max-memory", "0=3GB", "--policy", "sequential", "--context", "512",
           "--prompt-tokens", "64"]  # a small KV cache, because the host needs space for it, too
    private = ["--cpu-memory", "private"]
    rows, lines, data = [], [], {}
    for state, prepare in (("cold", h.make_cold), ("warm", h.make_warm)):
        arms = [limited_arm("private, auto", folder, stays, *private),
                limited_arm("private, buffered", folder, stays, *private, "--io", "buffered"),
                limited_arm("emulated GPU, auto", folder, stays, *gpu),
                limited_arm("emulated GPU, buffered", folder, stays, *gpu, "--io", "buffered")]
        for round_ in range(repetitions):
            h.interleave_round(arms, round_, lambda: prepare(files), f"limited, {state}, ")
        for arm in arms:
            if not arm.runs:
                continue
            peak = max(arm.values("private_peak"))
            rows.append([f"{arm.label}, {state}", f"{arm.median('seconds'):.3f}", h.mib(peak),
                         h.mib(max(arm.values("charged"))), arm.runs[-1]["io"].split(": ", 1)[1]])
            over = (peak - stays - STAGING) / 2**20
            lines.append(h.verdict(f"limited, {arm.label}, {state}: peak over what stays and staging",
                                   over, SLACK >> 20, at_least=False, unit=" MiB"))
        lines += h.failures(arms, f"limited, {state}, ")
        data[state] = h.raw(arms)
    part = (f"### In a cgroup of {h.mib(stays + STAGING + HEADROOM)} MiB: what stays, staging and "
            f"128 MiB\n\n" +
            h.markdown_table(["", "load s", "private peak MiB", "charged MiB", "first shard"], rows))
    return [part], lines, {"limited": data}


PARTS = (small, sharded, footprint)
