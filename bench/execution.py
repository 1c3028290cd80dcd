"""Generating tokens on the CPU: `berth run` against transformers and llama.cpp, beside the rate at
which memory can be read. The works and the forms of the models are in execution_models.py, the arms
in execution_arms.py, the correctness guard and the targets in execution_checks.py."""
import re
from pathlib import Path

import execution_checks as checks
import harness as h
from execution_arms import THREADS, arm, build_tools, calibrate
from execution_models import BATCH_1, BATCH_8, FIRST, PROMPT, forms
from execution_results import Results

ABOUT = """\
Decoding: {threads} threads, a prompt of {prompt} tokens, then {passes} passes of one token a \
sequence, greedily. *GB/s*: bytes of weights that the passes read a second (both models tie the head \
to the embedding, so a pass reads every weight once). *of R*: their share of what a plain read of \
1 GiB by {threads} threads gave right before and after the same run; R was {ram} GB/s in the median \
of all runs, {range}. *first token*: from the start of the process, with its imports and its load, \
until the token was printed. Weights were in the page cache. Medians of {rounds} interleaved runs, \
each a process of its own. 1B has the shapes of Llama-3.2-1B and random weights."""


def row(results, form, program):
    """Rates of batch 1 and 8 with their shares of R, the prompt's rate and the first token."""
    def figure(value, digits=1):
        return f"{value:.{digits}f}" if value else "-"
    key = (form, program)
    one, eight = results.median(*key, BATCH_1), results.median(*key, BATCH_8)
    rates, weights = results.rates(*key, BATCH_1), results.weight_rate(*key, BATCH_1)
    return [f"{form.name}, {program}", figure(one), h.spread(rates) if rates else "-",
            h.gb(weights) if weights else "-", figure(results.share(*key, BATCH_1), 2),
            figure(eight), h.times(h.ratio(eight, one)), figure(results.share(*key, BATCH_8), 2),
            figure(results.median(*key, PROMPT), 0),
            figure(results.median(*key, FIRST, "seconds"), 2)]


def tables(results):
    head = ["", "batch 1 tokens/s", "from to", "GB/s", "of R", "batch 8 tokens/s", "of batch 1",
            "of R", "prompt of 512 tokens/s", "first token s"]
    parts = []
    for model in dict.fromkeys(form.model for form in results.forms):
        keys = dict.fromkeys((form, program) for form, program, work in results.by_key
                             if form.model == model and results.runs(form, program, work))
        if keys:
            parts += [f"### {model}", h.markdown_table(head, [row(results, *key) for key in keys])]
    return parts


def flags():
    """The instructions that decide the speed, as the processor lists them."""
    found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    has = found[1].split() if found else []
    named = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")
    return [flag for flag in named if flag in has]


def llama_build():
    try:
        built = (h.PEERS / "llama-build.txt").read_text().strip()
    except OSError:
        return []
    return [f"llama.cpp was built with {built}"]


def about(results, rounds):
    rates = [rate / 1e9 for rate in results.ram()]
    if not rates:
        return "Nothing was measured."
    return ABOUT.format(threads=THREADS, prompt=BATCH_1.prompt, passes=BATCH_1.new - 1,
                        ram=f"{h.median(rates):.1f}", range=h.spread(rates), rounds=rounds)


def chosen_arms(pattern):
    """{(form, program, work): Arm} of all whose name has the regular expression."""
    every = {(form, program, work): arm(form, program, work)
             for form in forms(h.machine()["gpus"])
             for program in form.programs for work in form.works}
    chosen = {key: each for key, each in every.items() if re.search(pattern, each.label)}
    if not chosen:
        names = "; ".join(each.label for each in every.values())
        raise h.Unavailable(f"no arm's name has /{pattern}/. They are: {names}")
    return chosen


def main(options, out):
    build_tools()
    arms = chosen_arms(options.only or "")
    results, notes = Results(arms), []
    for round_ in range(options.repetitions):
        # Once a round, because how fast memory is changes within minutes where others use it too.
        h.progress(f"{round_ + 1}: berth calibrate")
        try:
            results.calibrations.append(calibrate())
        except (h.Unavailable, RuntimeError, ValueError) as error:
            notes.append(f"round {round_ + 1}: estimates are not calibrated: {error}")
        h.interleave_round(results.arms, round_, words=f"{round_ + 1}: ")

    wrong, guarded = checks.same_ids(results)
    planned, planned_rows = checks.planned(results)
    body = [f"**WRONG TOKENS: {line}**" for line in wrong]
    body += [about(results, options.repetitions), *tables(results),
             "### Targets", checks.targets(results, planned_rows),
             "### Planned against measured", planned,
             "### The same tokens", "\n".join(f"- {line}" for line in guarded)]
    notes += h.failures(results.arms) + llama_build() + [f"The processor has {', '.join(flags())}."]
    body += ["### Notes", "\n".join(f"- {note}" for note in notes)]
    h.publish("execution", "Generating tokens", "\n\n".join(body),
              {"calibrations": results.calibrations, "wrong": wrong, "planned": planned_rows,
               "arms": h.raw(results.arms)}, out)
    if wrong:
        raise h.Unavailable("the tokens are wrong: " + "; ".join(wrong))
