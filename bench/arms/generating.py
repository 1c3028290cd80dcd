"""What the arms that generate tokens share: their command line, the clock, and greedy decoding.

  ARM MODEL (--ids 1,2,3 | --text TEXT) [--batch N] [--new N] [--dtype NAME] [--threads N] [--cold]

The prompt is computed for N sequences at once, then new tokens one position at a time, each the
likeliest. One pass over the prompt warms up first, so that what a first pass sets up (pages, thread
pools, kernels) is not timed; with --cold there is none. Standard output is one JSON object.
"""
import argparse
import json
import os
import time


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--ids", type=lambda text: [int(i) for i in text.split(",")])
    prompt.add_argument("--text")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--new", type=int, default=1, help="tokens of each sequence")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--cold", action="store_true")
    return parser.parse_args()


def generate(make_engine):
    """`make_engine(arguments)` loads the model. What it returns has encode(text) -> ids,
    prompt(ids) -> the next id of each sequence, step(ids) -> the next ones, and `about`, a dict."""
    arguments = parse_arguments()
    engine = make_engine(arguments)
    prompt = arguments.ids or engine.encode(arguments.text)
    if not arguments.cold:
        engine.prompt(prompt)
    begin = time.monotonic()
    ids = engine.prompt(prompt)  # a sequence's first new token comes out of its prompt
    prompt_seconds = time.monotonic() - begin
    made = [ids]
    begin = time.monotonic()
    for _ in range(arguments.new - 1):
        ids = engine.step(ids)
        made.append(ids)
    decode_seconds = time.monotonic() - begin
    print(json.dumps({"prompt_seconds": prompt_seconds, "decode_seconds": decode_seconds,
                      "new_ids": [list(sequence) for sequence in zip(*made)], **engine.about}),
          flush=True)
