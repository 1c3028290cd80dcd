"""GPT-2 medium's shapes in float32 (354,823,168 parameters, 1.42 GB): the plain way of loading,
which builds the model, reads a whole state dict beside it and copies, and the frugal way."""
import json
import os

import harness as h
from harness import Arm
from loaders import FRESH, NO_GPU, peer_numbers

NAIVE = "PyTorch plain: model + torch.load"
BERTH = "Berth, private"
BERTH_MAPPED = "Berth, mmap + prefault"
BERTH_NAIVE = "the plain way in C++"


def python_arm(label, name, *arguments):
    script = h.ROOT / "bench/arms/frugal.py"

    def measure():
        run = h.run([h.peer_python(), script, name, *arguments],
                    env={**NO_GPU, **h.prime_later(FRESH)})
        numbers = peer_numbers(run)
        before, after = numbers["before"], numbers["after"]
        return {**numbers, "rss_before": before["VmRSS"], "rss_after": after["VmRSS"],
                "anonymous_after": after["RssAnon"] + after["RssShmem"],
                "mapped_after": after["RssFile"]}
    return Arm(label, measure)


def berth_arm(label, folder, *options):
    def measure():
        berth = h.berth_binary()
        h.prime_memory(FRESH)
        run = h.run([berth, "load", folder, "--json", *options], env=NO_GPU)
        measured = json.loads(run.stdout)["measured"]
        # What stays: the last sample before the process frees its memory.
        held = max(run.samples, key=lambda s: s.anonymous + s.shared + s.file)
        return {"seconds": measured["seconds"], "process": run.until_answer, "build_seconds": 0,
                "private_peak": run.peak(h.private), "mapped_peak": run.peak(lambda s: s.file),
                "rss_before": measured["rss_before"], "rss_after": measured["rss_after"],
                "anonymous_after": h.private(held), "mapped_after": held.file}
    return Arm(label, measure)


def berth_naive_arm(folder):
    """The plain way without Python and random initialisation: the process that `--compare-naive`
    starts for it, called by itself so that its memory is primed like everyone's."""
    def measure():
        berth = h.berth_binary()
        h.prime_memory(FRESH)
        run = h.run([berth, "load", folder, "--measure", "naive"], env=NO_GPU)
        naive = json.loads(run.stdout)
        return {"seconds": naive["seconds"], "process": run.until_answer, "build_seconds": 0,
                "private_peak": run.peak(h.private), "mapped_peak": run.peak(lambda s: s.file),
                "rss_before": naive["rss_before"], "rss_after": naive["rss_after"],
                "anonymous_after": naive["anonymous_after"], "mapped_after": naive["file_after"]}
    return Arm(BERTH_NAIVE, measure)


def state_dict_file(folder):
    """The same weights as torch.load reads them, made on first use."""
    path = h.WORK / "models" / f"{folder.name}-bin" / "pytorch_model.bin"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        h.run([h.peer_python(), h.ROOT / "bench/arms/frugal.py", "save_bin", folder, partial])
        os.rename(partial, path)
    return path


def verdicts(arms):
    by = {arm.label: arm for arm in arms}
    lines = []
    for naive in (NAIVE, BERTH_NAIVE):
        for frugal in (BERTH, BERTH_MAPPED):
            a, b = by[naive], by[frugal]
            saving = time = None
            if a.runs and b.runs:
                saving = 100 * (1 - b.median("private_peak") / a.median("private_peak"))
                time = b.median("seconds") / (a.median("seconds") - a.median("build_seconds"))
            lines.append(h.verdict(f"{frugal} against {naive}: saving at the peak", saving, 45,
                                   unit=" %"))
            lines.append(h.verdict(f"{frugal} against {naive}: load time, building not counted",
                                   time, 1, at_least=False, unit="x"))
    return lines


def main(options, out):
    h.build_tools()
    folder = h.checkpoint("gpt2-medium")
    files = sorted(folder.glob("*.safetensors"))
    try:
        files_read = files + [state_dict_file(folder)]
    except h.Unavailable:
        files_read = files + [files[0]]
    arms = [
        python_arm(NAIVE, "pytorch_naive", folder, files_read[-1]),
        python_arm("PyTorch plain: model + safetensors", "safetensors_naive", folder),
        berth_naive_arm(folder),
        python_arm("transformers from_pretrained", "transformers_frugal", folder),
        berth_arm(BERTH, folder, "--cpu-memory", "private"),
        berth_arm(BERTH_MAPPED, folder, "--cpu-memory", "mmap", "--prefault")]
    for round_ in range(options.repetitions):
        h.interleave_round(arms, round_, lambda: h.make_warm(files_read))

    naive_peak = arms[0].median("private_peak")
    rows = []
    for arm in arms:
        if not arm.runs:
            continue
        m = arm.median
        saving = f"{100 * (1 - m('private_peak') / naive_peak):.1f}" if naive_peak else "-"
        after = [h.gb(m(key)) if m(key) else "-"
                 for key in ("rss_before", "rss_after", "anonymous_after", "mapped_after")]
        rows.append([arm.label, *after, h.gb(m("private_peak")), h.gb(m("mapped_peak")), saving,
                     f"{m('seconds') - m('build_seconds'):.2f}",
                     f"{m('build_seconds'):.2f}", f"{m('process'):.2f}"])
    head = ["", "RSS before GB", "RSS after GB", "anonymous after", "mapped after", "private peak",
            "mapped peak", "saving %", "load s", "build s", "process s"]
    body = ["354,823,168 parameters in float32, random weights, 1.42 GB, warm page cache, medians "
            f"of {options.repetitions} interleaved runs, each a process of its own. Peaks are above "
            "what the process held before; *private* is anonymous and shared memory, *mapped* is "
            "pages of the checkpoint, which the kernel can take back. *saving* is of the private "
            "peak, against the first row. *build*: making a model with random weights before "
            "anything is read; *process*: all, with start and imports.",
            h.markdown_table(head, rows),
            "### Targets", "\n".join(f"- {line}" for line in verdicts(arms))]
    notes = h.failures(arms)
    if notes:
        body += ["### Notes", "\n".join(f"- {line}" for line in notes)]
    h.publish("naive", "Plain and frugal loading", "\n\n".join(body), h.raw(arms), out)
