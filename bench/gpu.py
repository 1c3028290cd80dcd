"""Load of a 16.1 GB bfloat16 checkpoint in 16 shards onto one GPU, warm and cold.

Every arm is a process of its own. Its clock starts when everything is imported and the GPU has a
context, and stops when the last copy has arrived. The same run measures two limits and lists them
beside the arms: the rate of copies from page-locked memory to the GPU, and the rate of the disk.
"""
import json
import os
import shutil
import tempfile
from pathlib import Path

import harness as h
from harness import Arm

DEVICE = "cuda:0"
MODEL = "llama-3.1-8b"
STAGING = 128 << 20
SLACK = 64 << 20
BERTH = "Berth, auto"
PEERS = {"transformers from_pretrained": "transformers_default",
         "safetensors load_file": "safetensors_mapped",
         "fastsafetensors": "fastsafetensors",
         "Run:ai streamer": "runai_streamer",
         "InstantTensor": "instanttensor"}
AHEAD_OF = ("InstantTensor", "fastsafetensors", "safetensors load_file")
RAW_WARM = "raw, page cache through pinned slots"
RAW_COLD = "raw, O_DIRECT through pinned slots"
RAW_DISK = "raw O_DIRECT, not to the GPU"


def berth_arm(label, folder, *options):
    def measure():
        run = h.run([h.berth_binary(), "load", folder, "--json", "--never-offload", *options])
        said = json.loads(run.stdout)
        measured, gpu = said["measured"], said["measured"]["gpu"]["0"]
        if gpu["emulated"]:
            raise RuntimeError("it was loaded to an emulated GPU")
        return {"seconds": measured["seconds"], "process": run.until_answer,
                "host_peak": measured["host_peak_bytes"],
                "gpu_bytes": gpu["used_after"] - gpu["used_before"], "io": measured["io"][0],
                "notes": measured["notes"]}
    return Arm(label, measure)


def peer_arm(label, name, folder):
    def measure():
        run = h.run([h.peer_python(), h.ROOT / "bench/arms/load.py", name, folder, DEVICE])
        said = json.loads(run.stdout.strip().splitlines()[-1])
        before, begin, end = said["before"], said["start_ns"], said["end_ns"]
        private = run.peak(h.private, begin, end + 10_000_000)
        return {"seconds": said["seconds"], "process": (end - run.start_ns) / 1e9,
                "host_peak": max(private - before["RssAnon"] - before["RssShmem"], 0),
                "gpu_bytes": said["gpu_bytes"], "before": before, "after": said["after"]}
    return Arm(label, measure)


def raw_arm(label, tool, files, *options):
    def measure():
        run = h.run([h.WORK / "bin" / tool, *options, *files])
        said = json.loads(run.stdout)
        return {"seconds": said["seconds"], "process": run.until_answer,
                "host_peak": 2 * said["threads"] * said["chunk"] if tool == "raw_gpu" else 0,
                "gpu_bytes": said["bytes"] if tool == "raw_gpu" else 0}
    return Arm(label, measure)


def best_options(tool, files, prepare, threads, chunks, *options):
    """Returns the threads and the chunk with which a raw tool is fastest on this machine."""
    best = None
    for count in threads:
        for chunk in chunks:
            chosen = ["--threads", str(count), "--chunk", str(chunk)]
            prepare()
            run = h.run([h.WORK / "bin" / tool, *options, *chosen, *files])
            seconds = json.loads(run.stdout)["seconds"]
            if best is None or seconds < best[0]:
                best = seconds, chosen
    return best[1]


def pinned():
    """Returns what raw_gpu says about page-locked memory, and the best rate of its copies."""
    said = json.loads(h.run([h.WORK / "bin/raw_gpu", "pinned"]).stdout)
    return said, max(v for k, v in said.items() if k.endswith("bytes_per_second"))


def table(arms, size):
    berth = arms[0].median("seconds")
    rows = []
    for arm in arms:
        if not arm.runs:
            continue
        load = arm.median("seconds")
        extra = arm.median("gpu_bytes") - size
        rows.append([arm.label, f"{load:.3f}", h.spread(arm.values("seconds")),
                     h.gb(size / load), h.times(h.ratio(load, berth)),
                     f"{arm.median('process'):.2f}", h.mib(arm.median("host_peak")),
                     h.mib(max(extra, 0)) if arm.median("gpu_bytes") else "-"])
    return h.markdown_table(["", "load s", "from to", "GB/s", "of Berth's time", "process s",
                             "host peak MiB", "GPU MiB besides"], rows)


def ahead(arms, words):
    berth = arms[0].median("seconds")
    return [h.verdict(f"{words}: times {arm.label}", h.ratio(arm.median("seconds"), berth), 1)
            for arm in arms if arm.label in AHEAD_OF]


def footprint(arms, words):
    peak = max(arms[0].values("host_peak"), default=None) if arms[0].runs else None
    over = None if peak is None else (peak - STAGING) / 2**20
    return h.verdict(f"{words}: host peak over staging", over, SLACK >> 20, at_least=False,
                     unit=" MiB")


def large(repetitions):
    """The model that the targets are about."""
    folder = h.checkpoint(MODEL)
    files = sorted(folder.glob("*.safetensors"))
    size = sum(os.path.getsize(f) for f in files)
    limits, rate = pinned()
    h.make_warm(files)
    pages = best_options("raw_gpu", files, lambda: None, (8, 16), (2 << 20, 4 << 20), "stream")
    peers = [peer_arm(label, name, folder) for label, name in PEERS.items()]
    warm = [berth_arm(BERTH, folder), *peers, raw_arm(RAW_WARM, "raw_gpu", files, "stream", *pages)]
    for round_ in range(repetitions):
        h.interleave_round(warm, round_, lambda: h.make_warm(files), "GPU, warm, ")
    few = files[:len(files) // 5 + 1]
    direct = best_options("raw_read", few, lambda: h.make_cold(few), (4, 8), (512 << 10, 1 << 20),
                          "--direct")
    cold = [berth_arm(BERTH, folder),
            *[peer_arm(label, PEERS[label], folder) for label in AHEAD_OF],
            raw_arm(RAW_COLD, "raw_gpu", files, "stream", "--direct", *direct),
            raw_arm(RAW_DISK, "raw_read", files, "--direct", *direct)]
    for round_ in range(max(1, repetitions - 1)):
        h.interleave_round(cold, round_, lambda: h.make_cold(files), "GPU, cold, ")
    ram, why_no_ram = in_ram(folder, pages, repetitions)
    limit = size / rate
    disk = cold[-1].median("seconds")
    parts = [f"### {h.gb(size)} GB of bfloat16 in {len(files)} shards to one GPU, warm\n\n" +
             table(warm, size) + f"\n\nPage-locked memory goes to this GPU at {h.gb(rate)} GB/s: "
             f"{limit:.3f} s for the weights alone.",
             "### The same, cold (page cache emptied of these files and checked)\n\n" +
             table(cold, size)]
    if ram:
        parts.append("### The same files on tmpfs\n\n" + table(ram, size))
    lines = [h.verdict("GPU, warm: share of the measured pinned rate",
                       h.ratio(limit, warm[0].median("seconds")), 0.9),
             h.verdict("GPU, cold: share of the slower of disk and pinned rate",
                       h.ratio(max(disk or 0, limit), cold[0].median("seconds")), 0.95)]
    lines += ahead(warm, "GPU, warm") + ahead(cold, "GPU, cold")
    lines += ahead(ram, "GPU, tmpfs") if ram else [f"GPU, tmpfs: not measured: {why_no_ram}"]
    lines += [footprint(warm, "GPU, warm"), footprint(cold, "GPU, cold")]
    lines += h.failures(warm, "GPU, warm, ") + h.failures(cold, "GPU, cold, ")
    lines += h.failures(ram, "GPU, tmpfs, ")
    return parts, lines, {"bytes": size, "pinned": limits, "warm": h.raw(warm),
                          "cold": h.raw(cold), "tmpfs": h.raw(ram),
                          "raw_options": {"warm": pages, "cold": direct}}


def in_ram(folder, raw_options, repetitions):
    """Arms on a copy in RAM, for loaders that read past the page cache even where it has the files;
    or no arms, and why."""
    size = sum(f.stat().st_size for f in folder.iterdir())
    shm = Path("/dev/shm")
    free = shutil.disk_usage(shm).free if shm.is_dir() else 0
    if free < size + (1 << 30):
        return [], f"{shm} has {h.gb(free)} GB free, the files take {h.gb(size)}"
    with tempfile.TemporaryDirectory(dir=shm, prefix="berth-bench-") as made:
        copy = Path(made) / folder.name
        shutil.copytree(folder, copy)
        files = sorted(copy.glob("*.safetensors"))
        arms = [berth_arm(BERTH, copy), *[peer_arm(label, PEERS[label], copy) for label in AHEAD_OF],
                raw_arm(RAW_WARM, "raw_gpu", files, "stream", *raw_options)]
        for round_ in range(repetitions):
            h.interleave_round(arms, round_, lambda: None, "GPU, tmpfs, ")
    return arms, None


def small(repetitions):
    """Models under 1 GB, warm, compared with safetensors."""
    parts, lines, data = [], [], {}
    for preset, words in (("small", "0.27 GB in one file"),
                          ("many-tensors", "0.10 GB in 18,867 tensors and 14 shards")):
        folder = h.checkpoint(preset)
        files = sorted(folder.glob("*.safetensors"))
        size = sum(os.path.getsize(f) for f in files)
        arms = [berth_arm(BERTH, folder),
                peer_arm("safetensors load_file", "safetensors_mapped", folder)]
        for round_ in range(repetitions):
            h.interleave_round(arms, round_, lambda files=files: h.make_warm(files),
                               f"GPU, {preset}, ")
        parts.append(f"### {words} to one GPU, warm\n\n" + table(arms, size))
        lines.append(h.verdict(f"GPU, {words}: times safetensors",
                               h.ratio(arms[1].median("seconds"), arms[0].median("seconds")), 1))
        if preset == "many-tensors":
            seconds = arms[0].median("seconds")
            lines.append(h.verdict("GPU: a tensor of 18,867", seconds and seconds / 18_867 * 1e6, 5,
                                   at_least=False, unit=" us"))
        lines += h.failures(arms, f"GPU, {preset}, ")
        data[preset] = h.raw(arms)
    return parts, lines, data


def why_not():
    """Says why this machine can give no rows for a GPU; None if it can."""
    if not h.machine()["gpus"]:
        return "this machine has no GPU"
    try:
        h.build_gpu_tool()
    except h.Unavailable as reason:
        return str(reason)
    return None


def rows(repetitions):
    """Sections, lines for the targets and raw figures, which `bench/run loaders` adds."""
    reason = why_not()
    if reason:
        owed = ("warm, share of the pinned rate", "cold, share of the disk",
                "times InstantTensor, fastsafetensors and safetensors")
        return [], [f"one GPU, {what}: not measured: {reason}" for what in owed], {}
    parts, lines, data = large(repetitions)
    more_parts, more_lines, more = small(repetitions)
    return parts + more_parts, lines + more_lines, {"gpu": {**data, **more}}


def main(options, out):
    reason = why_not()
    if reason:
        raise h.Unavailable(reason)
    h.build_tools()
    parts, lines, data = rows(options.repetitions)
    h.publish("gpu", "Loaders, one GPU", "\n\n".join(
        [f"Medians of {options.repetitions} interleaved runs, each a process of its own. *load*: the "
         "arm's own clock, imports and the GPU's context not counted; *process*: with them. *host "
         "peak*: anonymous and shared memory above what the process held when its clock started. "
         "*GPU besides*: memory of the whole GPU in use after the load, above before and above the "
         "weights.", *parts, "### Targets", "\n".join(f"- {line}" for line in lines)]), data, out)
