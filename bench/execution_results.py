"""Looks up what the arms of `bench/run execution` measured. Everything is None that was not."""
import harness as h
from execution_arms import plan
from execution_models import GPU


class Results:
    def __init__(self, arms):
        """`arms`: {(form, program, work): Arm}."""
        self.by_key = arms
        self.arms = list(arms.values())
        self.forms = list(dict.fromkeys(form for form, _, _ in arms))
        self.calibrations = []  # what `berth calibrate --json` said, round by round

    @property
    def gpu_memory(self):
        rates = [figure["value"] for calibration in self.calibrations
                 for figure in calibration.get("figures", []) if figure["what"] == "memory read"]
        return h.median(rates) if rates else None

    def form(self, model, name):
        return next((f for f in self.forms if (f.model, f.name) == (model, name)), None)

    def runs(self, form, program, work):
        found = self.by_key.get((form, program, work))
        return found.runs if found else []

    def rates(self, form, program, work):
        return [run["rate"] for run in self.runs(form, program, work)]

    def median(self, form, program, work, key="rate"):
        values = [run[key] for run in self.runs(form, program, work)]
        return h.median(values) if values else None

    def weight_rate(self, form, program, work):
        """Bytes of weights that passes read a second. The form decides how many there are, not the
        program: all read the same file, or make the same of it."""
        rate = self.median(form, program, work)
        return rate and rate / work.batch * plan(form, work)["weights"]

    def share(self, form, program, work):
        """Median of weight_rate by R, each run by its own R; on a GPU by its memory's rate."""
        runs = self.runs(form, program, work)
        if not runs or (program == GPU and not self.gpu_memory):
            return None
        weights = plan(form, work)["weights"]

        def share(run):
            ram = (run["ram_before"] + run["ram_after"]) / 2
            return run["rate"] / work.batch * weights / (self.gpu_memory if program == GPU else ram)
        return h.median([share(run) for run in runs])

    def ram(self):
        """Every R that was measured, bytes/s."""
        return [run[key] for each in self.arms for run in each.runs
                for key in ("ram_before", "ram_after")]
