"""What `bench/run execution` holds its figures to: that the tokens are right, the targets, and that
plans say what is measured."""
import json
import os
import subprocess

import harness as h
from execution_arms import ENVIRONMENT, SCRIPTS, THREADS, plan
from execution_models import (BATCH_1, BATCH_8, BERTH, FIRST, GPU, LLAMA, PROMPT, TRANSFORMERS,
                              demo_model)

PROMPTS = {"The capital of France is": "504,3575,282,4649,314",
           "Once upon a time": "6403,1980,253,655",
           "The future of AI is": "504,1774,282,5646,314"}
NEW = 20
FORMATS = ("f32", "bf16", "Q8_0", "Q4_0", "Q4_1", "Q4_K")
WITHIN = 0.15  # of a plan, as a share of what was measured


# --- tokens --------------------------------------------------------------------------------------

def answer(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True,
                          env={**os.environ, **ENVIRONMENT})
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1])
    return json.loads(done.stdout.strip())


def greedy(folder, ids):
    """New ids of Berth and of transformers, both in float32."""
    ours = answer([h.berth_binary(), "run", folder, "--prompt-ids", ids, "-n", NEW, "--json"])
    theirs = answer([h.peer_python(), h.ROOT / "bench/arms" / SCRIPTS[TRANSFORMERS], folder,
                     "--dtype", "float32", "--ids", ids, "--new", NEW, "--threads", THREADS])
    return ours["new_ids"], theirs["new_ids"][0]


def same_ids(results):
    """(lines about tokens that are wrong, lines about what was compared)."""
    wrong, lines = [], []
    for prompt, ids in PROMPTS.items():
        try:
            ours, theirs = greedy(demo_model("f32"), ids)
        except (h.Unavailable, RuntimeError, ValueError, KeyError) as error:
            lines.append(f"SmolLM2 f32, '{prompt}': not compared: {error}")
            continue
        if ours == theirs:
            lines.append(f"SmolLM2 f32, '{prompt}': {NEW} new ids, the same as transformers'")
        else:
            at = next((i for i, pair in enumerate(zip(ours, theirs)) if pair[0] != pair[1]),
                      min(len(ours), len(theirs)))
            wrong.append(f"SmolLM2 f32, '{prompt}': Berth's new id {at + 1} is not transformers': "
                         f"{ours} against {theirs}")
    for form in results.forms:
        alone = {run["ids"] for run in results.runs(form, BERTH, BATCH_1)}
        batched = results.runs(form, BERTH, BATCH_8)
        if not alone or not batched:
            continue
        agree = all(run["sequences_agree"] for run in batched)
        if agree and len(alone | {run["ids"] for run in batched}) == 1:
            lines.append(f"{form.label}: the same ids alone and in a batch of {BATCH_8.batch}")
        else:
            wrong.append(f"{form.label}: other ids in a batch of {BATCH_8.batch} than alone, or "
                         "from run to run")
    return wrong, lines


# --- plans ---------------------------------------------------------------------------------------

def planned_rate(form, work, runs):
    """Tokens/s as `berth run` said that they were planned, else as `berth plan` says."""
    said = [run["planned"] for run in runs if run.get("planned")]
    if said:
        return h.median(said)
    estimate = plan(form, work)
    if work.new > 1:
        return h.ratio(work.batch, estimate["seconds_per_token"])
    return h.ratio(work.batch * work.prompt, estimate["prefill_seconds"])


def planned(results):
    """(a table of what was planned beside what was measured, its rows as dicts)."""
    rows = []
    for (form, program, work) in results.by_key:
        measured = results.median(form, program, work)
        if program != BERTH or work is FIRST or not measured:
            continue
        rate = planned_rate(form, work, results.runs(form, program, work))
        rows.append({"of": f"{form.label}, {work.name}", "planned": rate, "measured": measured,
                     "ratio": h.ratio(rate, measured)})
    if not rows:
        return "Not measured.", rows
    cells = [[row["of"], f"{row['planned']:.1f}" if row["planned"] else "-",
              f"{row['measured']:.1f}", f"{row['ratio']:.2f}" if row["ratio"] else "-"]
             for row in rows]
    return h.markdown_table(["", "planned tokens/s", "measured", "planned / measured"], cells), rows


# --- targets -------------------------------------------------------------------------------------

def targets(results, planned_rows):
    """A table: work, what was measured, the target, whether it is met."""
    rows = []

    def line(words, value, limit, at_least=True, unit=""):
        sign = "at least" if at_least else "at most"
        met = "not measured"
        if value is not None:
            met = "met" if (value >= limit if at_least else value <= limit) else "**NOT MET**"
        rows.append([words, "-" if value is None else f"{value:.2f}{unit}",
                     f"{sign} {limit:g}{unit}", met])

    def versus(model, name, work, peer, limit):
        form = results.form(model, name)
        line(f"{model} {name}, {work.name}: times {peer}",
             h.ratio(results.median(form, BERTH, work), results.median(form, peer, work)), limit)

    def own(name, limit, words=""):
        form = results.form("1B", name)
        line(f"1B {name}, batch 8: times its own batch 1{words}",
             h.ratio(results.median(form, BERTH, BATCH_8), results.median(form, BERTH, BATCH_1)),
             limit)

    for name in FORMATS:
        if name != "Q4_0":
            line(f"1B {name}, batch 1: share of R",
                 results.share(results.form("1B", name), BERTH, BATCH_1), 0.8)
    versus("1B", "bf16", BATCH_1, TRANSFORMERS, 1.4)
    versus("1B", "bf16", BATCH_1, LLAMA, 1.3)
    for name, limit in (("Q8_0", 1), ("Q4_1", 1), ("Q4_0", 1.3), ("Q4_K", 1.3)):
        versus("1B", name, BATCH_1, LLAMA, limit)
    versus("SmolLM2", "bf16", BATCH_1, TRANSFORMERS, 2.5)
    versus("SmolLM2", "f32", BATCH_1, TRANSFORMERS, 1.4)
    versus("SmolLM2", "Q4_1", BATCH_1, LLAMA, 1)
    own("bf16", 6, " (the target counts on AMX)")
    for name in ("Q4_0", "Q4_1", "Q4_K"):
        own(name, 4.5)
    versus("1B", "bf16", BATCH_8, TRANSFORMERS, 1.6)
    for name in FORMATS[1:]:
        versus("1B", name, BATCH_8, LLAMA, 2)
    versus("1B", "bf16", PROMPT, TRANSFORMERS, 1)
    versus("1B", "bf16", PROMPT, TRANSFORMERS, 1.3)
    for name in FORMATS[1:]:
        versus("1B", name, PROMPT, LLAMA, 2)
    line("SmolLM2 bf16: first token of a whole process",
         results.median(results.form("SmolLM2", "bf16"), BERTH, FIRST, "seconds"), 0.4, False, " s")
    errors = [abs(row["ratio"] - 1) for row in planned_rows if row["ratio"]]
    inside = sum(error <= WITHIN for error in errors)
    line(f"planned within 15 % of measured: share of {len(errors)} rows",
         inside / len(errors) if errors else None, 1)
    bf16, q4_k = results.form("1B", "bf16"), results.form("1B", "Q4_K")
    line("one GPU, 1B bf16, batch 1: share of its memory's rate",
         results.share(bf16, GPU, BATCH_1), 0.8)
    line("one GPU, batch 1: tokens/s of 1B Q4_K times bf16's",
         h.ratio(results.median(q4_k, GPU, BATCH_1), results.median(bf16, GPU, BATCH_1)), 2.5)
    return h.markdown_table(["", "measured", "target", ""], rows)
