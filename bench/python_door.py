"""Berth's Python package against the calls that it stands for (docs/python.md), each arm a process of
its own (bench/arms/door.py). Cold and warm, medians, peaks beside. Arms that load one model must
agree in what they loaded, or the table is not made."""
import json
import os

import harness as h
from harness import Arm
from loaders import FRESH, NO_GPU, peer_numbers

LIBRARY = "build/libberth_c.so"


def door_arm(label, name, folder, on_gpu=False):
    script = h.ROOT / "bench/arms/door.py"
    environment = {"PYTHONPATH": str(h.ROOT / "python"), "HF_HUB_OFFLINE": "1",
                   "BERTH_LIBRARY": os.environ.get("BERTH_LIBRARY", str(h.ROOT / LIBRARY))}

    def measure():
        run = h.run([h.peer_python(), script, name, folder],
                    env={**environment, **({} if on_gpu else NO_GPU), **h.prime_later(FRESH)})
        said = json.loads(run.stdout.strip().splitlines()[-1])
        return {**peer_numbers(run), "weights": said.get("weights", 0), "digest": said.get("digest"),
                "gpu_bytes": said["gpu_bytes"]}
    return Arm(label, measure)


class Group:
    """Arms that do the same, Berth's first. `cold`: whether they are measured cold, too."""

    def __init__(self, title, preset, names, cold=True, on_gpu=False):
        self.title, self.preset, self.names = title, preset.split(), names
        self.states, self.on_gpu = (["cold", "warm"] if cold else ["warm"]), on_gpu
        self.arms = {}

    def measure(self, repetitions):
        folder = h.checkpoint(*self.preset)
        files = sorted(folder.glob("*.safetensors"))
        prepare = {"cold": lambda: h.make_cold(files), "warm": lambda: h.make_warm(files)}
        for state in self.states:
            self.arms[state] = [door_arm(label, name, folder, self.on_gpu)
                                for label, name in self.names.items()]
        for round_ in range(repetitions):
            for state, arms in self.arms.items():
                h.interleave_round(arms, round_, prepare[state], f"{self.title}, {state}, ")
        self.require_agreement()

    def require_agreement(self):
        digests = {run["digest"] for arms in self.arms.values() for arm in arms for run in arm.runs}
        if len(digests) > 1:
            raise h.Unavailable(f"{self.title}: the arms loaded different weights")

    def table(self):
        rows = []
        for state, arms in self.arms.items():
            own = arms[0].median("seconds")
            rows += [[arm.label, state, f"{arm.median('seconds'):.3f}",
                      h.spread(arm.values("seconds")), h.times(h.ratio(arm.median("seconds"), own)),
                      h.mib(arm.median("private_peak")), h.mib(arm.median("mapped_peak")),
                      f"{arm.median('process'):.2f}"] for arm in arms if arm.runs]
        return h.markdown_table(["", "page cache", "seconds", "from to", "of Berth's time",
                                 "private peak MiB", "mapped peak MiB", "process s"], rows)

    def times(self, label, state="warm"):
        """How many times as long as Berth an arm takes; None where one of them has no run."""
        arms = {arm.label: arm for arm in self.arms.get(state, [])}
        if label not in arms:
            return None
        return h.ratio(arms[label].median("seconds"), self.arms[state][0].median("seconds"))


MANY = Group("load_file, 18,867 tensors, mapped", "many-tensors", {
    "berth.load_file": "berth_mapped", "safetensors": "safetensors_mapped"})
PRIVATE = Group("load_file, 2.47 GB, private", "bf16-2.5gb", {
    "berth.load_file": "berth_private", "safetensors + clone": "safetensors_private",
    "Run:ai + clone": "runai_private", "fastsafetensors": "fastsafetensors_private"})
DENSE = Group("from_pretrained, 2.47 GB, mapped and touched", "bf16-2.5gb", {
    "berth.from_pretrained": "berth_model", "transformers": "transformers_model"})
CONVERTED = Group("load_file, 4.94 GB of float32 to bfloat16", "bf16-2.5gb --dtype=float32", {
    "berth.load_file(dtype=)": "berth_converted", "safetensors + to()": "safetensors_converted"})
CONVERTED_MODEL = Group("from_pretrained, 4.94 GB of float32 to bfloat16",
                        "bf16-2.5gb --dtype=float32", {
                            "berth.from_pretrained": "berth_converted_model",
                            "transformers": "transformers_converted_model"})
MIXTURE = Group("from_pretrained, a mixture of 1.44 GB", "mixture-1.4gb", {
    "berth.from_pretrained": "berth_model", "transformers": "transformers_model"})
OFFLOADED = Group("one token through 30 layers on the disk", "small", {
    "berth.load_checkpoint_and_dispatch": "berth_offloaded", "accelerate": "accelerate_offloaded"},
    cold=False)
GPU = Group("from_pretrained, 16.1 GB to one GPU", "llama-3.1-8b", {
    "berth.from_pretrained": "berth_gpu", "transformers": "transformers_gpu"}, on_gpu=True)


def verdicts():
    mixture_peak = None
    own = MIXTURE.arms["warm"][0]
    if own.runs:
        mixture_peak = max(own.values("private_peak")) / own.median("weights")
    share = h.ratio(1, OFFLOADED.times("accelerate"))
    return [
        h.verdict("18,867 tensors, warm: times safetensors", MANY.times("safetensors"), 6),
        h.verdict("2.47 GB private, warm: times safetensors with a copy",
                  PRIVATE.times("safetensors + clone"), 1.7),
        h.verdict("2.47 GB private, warm: times Run:ai", PRIVATE.times("Run:ai + clone"), 2),
        h.verdict("2.47 GB private, warm: times fastsafetensors", PRIVATE.times("fastsafetensors"), 2),
        h.verdict("2.47 GB by from_pretrained, warm: times transformers",
                  DENSE.times("transformers"), 1),
        h.verdict("2.47 GB by from_pretrained, cold: times transformers",
                  DENSE.times("transformers", "cold"), 1),
        h.verdict("float32 to bfloat16 by load_file, warm: times safetensors",
                  CONVERTED.times("safetensors + to()"), 1),
        h.verdict("float32 to bfloat16 by from_pretrained, warm: times transformers",
                  CONVERTED_MODEL.times("transformers"), 1),
        h.verdict("mixture, warm: times transformers", MIXTURE.times("transformers"), 2),
        h.verdict("mixture, warm: private peak over the weights", mixture_peak, 1.05,
                  at_least=False),
        h.verdict("layers on the disk: share of accelerate's time", share, 0.75, at_least=False),
        h.verdict("one GPU, warm: times transformers", GPU.times("transformers"), 5)]


def main(options, out):
    h.build_tools()
    if not os.path.exists(os.environ.get("BERTH_LIBRARY", h.ROOT / LIBRARY)):
        raise h.Unavailable(f"{LIBRARY} is not built (scripts/build berth_c)")
    groups = [MANY, PRIVATE, DENSE, CONVERTED, CONVERTED_MODEL, MIXTURE, OFFLOADED]
    if h.machine()["gpus"]:
        groups.append(GPU)
    for group in groups:
        group.measure(options.repetitions)
    body = [f"Medians of {options.repetitions} interleaved runs, each a process of its own; imports "
            "are not counted, but for *process*. Loads end when every page has been touched, but for "
            "those of 18,867 tensors, which end when all tensors are there. Peaks are above what the "
            "process held when the clock started: *private* is anonymous and shared memory, *mapped* "
            "is pages of files."]
    for group in groups:
        body += [f"### {group.title}", group.table()]
    body += ["### Targets", "\n".join(f"- {line}" for line in verdicts())]
    notes = [line for group in groups for state, arms in group.arms.items()
             for line in h.failures(arms, f"{group.title}, {state}, ")]
    if notes:
        body += ["### Notes", "\n".join(f"- {line}" for line in notes)]
    data = {group.title: {state: h.raw(arms) for state, arms in group.arms.items()}
            for group in groups}
    h.publish("python", "Python programs", "\n\n".join(body), data, out)
