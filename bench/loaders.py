"""Load of a 2.47 GB bfloat16 checkpoint in five shards to resident CPU memory, cold and warm.

Every arm is a process of its own. `load` is the arm's own clock, from before it opens the first
file until the last page of the last tensor is resident; `process` is from the start of the process,
with its imports, until then. Peaks are sampled from outside every 5 ms: private is anonymous and
shared memory, mapped is pages of files. Peers are charged what they use above what they held when
the clock started; Berth is charged for everything.
"""
import json
import os

import harness as h
from harness import Arm

NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}  # all arms end in CPU memory
FRESH = 6_000_000_000  # bytes primed before every clock: more than page cache and copies take
STAGING = 128 << 20
PRIVATE = "Berth, private, auto"
MAPPED = "Berth, mmap + prefault"
LAZY = "Berth, mmap (not resident)"
RAW_DISK = "raw O_DIRECT, reused buffers"
RAW_PAGES = "raw, fresh huge pages"


def berth_arm(label, folder, *options):
    def measure():
        berth = h.berth_binary()
        h.prime_memory(FRESH)
        run = h.run([berth, "load", folder, "--json", *options], env=NO_GPU)
        measured = json.loads(run.stdout)["measured"]
        return {"seconds": measured["seconds"], "process": run.until_answer,
                "private_peak": run.peak(h.private), "mapped_peak": run.peak(lambda s: s.file),
                "said_peak": measured["host_peak_bytes"]}
    return Arm(label, measure)


def peer_arm(label, name, folder):
    script = h.ROOT / "bench/arms/load.py"

    def measure():
        run = h.run([h.peer_python(), script, name, folder],
                    env={**NO_GPU, **h.prime_later(FRESH)})
        return peer_numbers(run)
    return Arm(label, measure)


def peer_numbers(run):
    """What a peer's arm reported. Peaks are above what it held before, while its clock ran."""
    said = json.loads(run.stdout.strip().splitlines()[-1])
    before, begin, end = said["before"], said["start_ns"], said["end_ns"]
    window = (begin, end + 10_000_000)
    private = run.peak(h.private, *window) - before["RssAnon"] - before["RssShmem"]
    mapped = run.peak(lambda s: s.file, *window) - before["RssFile"]
    after = said["after"]
    process = (end - run.start_ns) / 1e9 - said["prime_seconds"]
    return {"seconds": said["seconds"], "process": process,
            "private_peak": max(private, after["RssAnon"] - before["RssAnon"], 0),
            "mapped_peak": max(mapped, after["RssFile"] - before["RssFile"], 0),
            "build_seconds": said.get("build_seconds", 0), "before": before, "after": after}


def raw_arm(label, files, *options):
    def measure():
        h.prime_memory(FRESH)
        run = h.run([h.WORK / "bin/raw_read", *options, *files])
        return {"seconds": json.loads(run.stdout)["seconds"], "process": run.until_answer,
                "private_peak": run.peak(h.private), "mapped_peak": run.peak(lambda s: s.file)}
    return Arm(label, measure)


def best_depth(files, prepare, *options):
    """The threads and the chunk with which raw_read is fastest on this machine, as its options."""
    best = None
    for threads in (2, 4, 8):
        for chunk in (1 << 20, 8 << 20):
            chosen = ["--threads", str(threads), "--chunk", str(chunk)]
            prepare()
            h.prime_memory(FRESH)
            run = h.run([h.WORK / "bin/raw_read", *options, *chosen, *files])
            seconds = json.loads(run.stdout)["seconds"]
            if best is None or seconds < best[0]:
                best = seconds, chosen
    return best[1]


def arms_of(folder, files, engines, raw_options):
    arms = [berth_arm(PRIVATE, folder, "--cpu-memory", "private")]
    arms += [berth_arm(f"Berth, private, {e}", folder, "--cpu-memory", "private", "--io", e)
             for e in engines]
    arms += [
        berth_arm(MAPPED, folder, "--cpu-memory", "mmap", "--prefault"),
        berth_arm(LAZY, folder, "--cpu-memory", "mmap"),
        peer_arm("transformers from_pretrained", "transformers_default", folder),
        peer_arm("safetensors load_file, touched", "safetensors_mapped", folder),
        peer_arm("safetensors load_file + clone", "safetensors_copy", folder),
        peer_arm("accelerate load_checkpoint_in_model", "accelerate_load", folder),
        peer_arm("fastsafetensors (CPU)", "fastsafetensors", folder),
        peer_arm("Run:ai streamer (CPU)", "runai_streamer", folder),
        peer_arm("InstantTensor", "instanttensor", folder)]
    return arms + [raw_arm(label, files, *options) for label, options in raw_options.items()]


def table(arms, size):
    berth = next(a for a in arms if a.label == PRIVATE).median("seconds")
    rows = []
    for arm in arms:
        if not arm.runs:
            continue
        load = arm.median("seconds")
        resident = arm.label != LAZY
        rows.append([arm.label, f"{load:.3f}", h.spread(arm.values("seconds")),
                     h.gb(size / load) if resident else "-",
                     h.times(h.ratio(load, berth)) if resident else "-",
                     f"{arm.median('process'):.2f}", h.gb(arm.median("private_peak")),
                     h.gb(arm.median("mapped_peak"))])
    return h.markdown_table(["", "load s", "from to", "GB/s", "of Berth's time", "process s",
                             "private peak GB", "mapped peak GB"], rows)


def verdicts(cold, warm, size):
    def seconds(arms, label):
        return next(a for a in arms if a.label == label).median("seconds")
    c, w = lambda label: seconds(cold, label), lambda label: seconds(warm, label)
    transformers, copy = "transformers from_pretrained", "safetensors load_file + clone"
    lines = [
        h.verdict("cold, private: share of the raw O_DIRECT rate",
                  h.ratio(c(RAW_DISK), c(PRIVATE)), 0.95),
        h.verdict("cold, private: times transformers", h.ratio(c(transformers), c(PRIVATE)), 8),
        h.verdict("warm, private: share of plain parallel pread into fresh huge pages",
                  h.ratio(w(RAW_PAGES), w(PRIVATE)), 0.9),
        h.verdict("warm, private: times transformers", h.ratio(w(transformers), w(PRIVATE)), 2),
        h.verdict("warm, private: times safetensors with a copy", h.ratio(w(copy), w(PRIVATE)), 5),
        h.verdict("cold, mapped and resident: times transformers (mapped, too)",
                  h.ratio(c(transformers), c(MAPPED)), 1),
        h.verdict("warm, mapped and resident: times transformers (mapped, too)",
                  h.ratio(w(transformers), w(MAPPED)), 1),
        h.verdict("mmap, cold, not resident", c(LAZY), 0.05, at_least=False, unit=" s")]
    for state, arms in (("cold", cold), ("warm", warm)):
        arm = next(a for a in arms if a.label == PRIVATE)
        over = None
        if arm.runs:
            over = (max(arm.values("private_peak")) - size - STAGING) / 2**20
        lines.append(h.verdict(f"{state}, private: peak over weights and staging", over, 64,
                               at_least=False, unit=" MiB"))
    return lines


def main(options, out):
    h.build_tools()
    folder = h.checkpoint("bf16-2.5gb")
    files = sorted(folder.glob("*.safetensors"))
    size = sum(os.path.getsize(f) for f in files)
    h.progress("looking for the depth at which raw reads are fastest")
    direct = best_depth(files, lambda: h.make_cold(files), "--direct")
    pages = best_depth(files, lambda: h.make_warm(files), "--fresh")
    raw_cold = {RAW_DISK: ["--direct", *direct], RAW_PAGES: ["--direct", "--fresh", *direct]}
    raw_warm = {RAW_PAGES: ["--fresh", *pages]}
    engines = ["buffered", "direct", "uring"]
    cold = arms_of(folder, files, engines, raw_cold)
    warm = arms_of(folder, files, engines, raw_warm)
    for round_ in range(options.repetitions):
        h.interleave_round(cold, round_, lambda: h.make_cold(files), "cold, ")
        h.interleave_round(warm, round_, lambda: h.make_warm(files), "warm, ")

    body = [f"{h.gb(size)} GB of bfloat16 in {len(files)} shards to resident CPU memory, medians "
            f"of {options.repetitions} interleaved runs, each a process of its own. *load*: the arm's "
            "own clock, imports not counted; *process*: with start and imports. *private*: "
            "anonymous and shared memory; *mapped*: pages of files. transformers and a plain "
            "load_file leave the weights mapped: the like of Berth's mmap, not of its private.",
            "### Cold (page cache emptied of these files and checked)", table(cold, size),
            "### Warm (all in the page cache, checked)", table(warm, size),
            ]
    import gpu
    import loader_rows  # which needs this module
    lines, data = verdicts(cold, warm, size), {}
    for part in (*loader_rows.PARTS, gpu.rows):
        texts, more, figures = part(options.repetitions)
        body += texts
        lines += more
        data.update(figures)
    body += ["### Targets", "\n".join(f"- {line}" for line in lines)]
    notes = h.failures(cold, "cold, ") + h.failures(warm, "warm, ")
    if notes:
        body += ["### Notes", "\n".join(f"- {line}" for line in notes)]
    body.append(f"Raw reads: O_DIRECT {' '.join(direct)}; page cache {' '.join(pages)}.")
    h.publish("loaders", "Loaders", "\n\n".join(body),
              {"bytes": size, "cold": h.raw(cold), "warm": h.raw(warm), **data}, out)
