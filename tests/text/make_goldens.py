#!/usr/bin/env python3
"""Writes data/NAME.json (a tokenizer.json) and data/NAME.goldens.json for the tokenizer's tests.

Needs tokenizers 0.23; the tests themselves do not. All tokenizers share one small byte-level BPE,
trained on the text below, and differ in what stands around it.
"""
import json
import os

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
TRAINING = ["The planner decides where every tensor of a checkpoint will live before it reads one "
            "byte of weights; the loader then reads every byte once, straight to that place. "
            "They'll plan it, we've read it, I'm sure it's there: 1234 tensors, 567 shards, 89 GiB. "
            "the thinner the other there then them these they naïve café résumé Привет мир 你好世界 "
            "def load(x):\n    return x\n\n\n    if x == 10:\n        pass\n"] * 4

TEXTS = [
    "", "a", " ", "  ", "\n", "\n\n  \n", "The planner reads every byte once.",
    "Hello, y'all! I'm fine; we've, they'll, it'd.", "I'LL DON'T we'Re 'ſ", "tab\tnew\r\nCRLF\x0b\x0c\x85",
    "   leading and trailing   ", "1234567890 12 ٣ Ⅷ ½ x²", "def f(x):\n    return x**2  # square\n",
    "naïve café résumé", "cafe\u0301 e\u0301! é!", "Привет, мир", "你好，世界！", "한국어 हिन्दी ไทย",
    "\u00a0nbsp\u2003em\u200bzero\u2028line", "\x00\x01 control \x1c\x1d", "👍🏽 👨\u200d👩\u200d👧 🏳️",
    "<|end|>", "not<|end|>special", "a <|end|> b  <mask>  c", "word words sword word, word", "ﬁ İ ǅ ß",
    "<|e<|end|>", "<mask><mask> <mask>", "thethethethe", "A" * 40, "they" * 20, "...!!!???", "日本語<x>",
    "a<tool>b", "x  \u2003<mask>\n\ty", "ABC abc ÀÉ", "$100 €50", "a\n\n\nb\n  c", "ab 12 <tool_call>",
]

GPT2 = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
BYTES = dict(GPT2, use_regex=False)
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def split(pattern, behavior="Isolated", invert=False):
    return dict(type="Split", pattern=pattern, behavior=behavior, invert=invert)


def sequence(*steps):
    return dict(type="Sequence", pretokenizers=list(steps))


def added(content, **flags):
    return dict(dict(id=0, content=content, single_word=False, lstrip=False, rstrip=False,
                     normalized=False, special=False), **flags)


END = added("<|end|>", special=True)
VARIANTS = {
    "gpt2": dict(pre_tokenizer=GPT2, added_tokens=[END]),
    "prefix_space": dict(pre_tokenizer=dict(GPT2, add_prefix_space=True), added_tokens=[END]),
    "smollm2": dict(pre_tokenizer=sequence(dict(type="Digits", individual_digits=True), GPT2),
                    added_tokens=[END]),
    "digit_runs": dict(pre_tokenizer=sequence(dict(type="Digits", individual_digits=False), GPT2),
                       added_tokens=[]),
    "llama3": dict(pre_tokenizer=sequence(split(dict(Regex=LLAMA3)), BYTES), ignore_merges=True,
                   pairs=True, added_tokens=[END, added("<tool>"), added("<tool_call>")]),
    "qwen2": dict(pre_tokenizer=sequence(split(dict(Regex=QWEN)), BYTES),
                  normalizer=dict(type="NFC"), added_tokens=[END, added("é!", normalized=True)]),
    "strips": dict(pre_tokenizer=GPT2, added_tokens=[
        END, added("<mask>", lstrip=True, rstrip=True), added("word", single_word=True),
        added("<|e"), added("<x>", rstrip=True, normalized=True)]),
    "lowercase": dict(pre_tokenizer=GPT2, added_tokens=[END, added("ABC", normalized=True)],
                      normalizer=dict(type="Sequence",
                                      normalizers=[dict(type="NFKD"), dict(type="Lowercase")])),
    "falcon": dict(pre_tokenizer=sequence(GPT2, dict(type="Digits", individual_digits=False),
                                          split(dict(Regex="[0-9][0-9][0-9]"))), added_tokens=[]),
}
for behavior in ("Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
    VARIANTS[f"split_{behavior}"] = dict(
        pre_tokenizer=sequence(split(dict(Regex=r"\s|\d"), behavior), BYTES), added_tokens=[])
    VARIANTS[f"split_{behavior}_inverted"] = dict(
        pre_tokenizer=sequence(split(dict(String="the"), behavior, True), BYTES), added_tokens=[])

trained = Tokenizer(models.BPE())
trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
trained.decoder = decoders.ByteLevel()
trained.train_from_iterator(TRAINING, trainers.BpeTrainer(
    vocab_size=420, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
base = json.loads(trained.to_str())
size = len(base["model"]["vocab"])
merges = base["model"]["merges"]

os.makedirs(HERE, exist_ok=True)
for name, variant in VARIANTS.items():
    file = json.loads(json.dumps(base))
    file["pre_tokenizer"] = variant["pre_tokenizer"]
    file["normalizer"] = variant.get("normalizer")
    file["added_tokens"] = [dict(t, id=size + i) for i, t in enumerate(variant["added_tokens"])]
    file["decoder"] = GPT2
    file["model"]["ignore_merges"] = variant.get("ignore_merges", False)
    file["model"]["merges"] = merges if variant.get("pairs") else [" ".join(m) for m in merges]
    text = json.dumps(file, ensure_ascii=False, separators=(",", ":"))
    tokenizer = Tokenizer.from_str(text)
    with open(os.path.join(HERE, name + ".json"), "w", encoding="utf-8") as f:
        f.write(text + "\n")
    cases = []
    for case in TEXTS:
        ids = tokenizer.encode(case, add_special_tokens=False).ids
        cases.append(dict(text=case, ids=ids,
                          decoded=tokenizer.decode(ids, skip_special_tokens=False),
                          plain=tokenizer.decode(ids, skip_special_tokens=True)))
    with open(os.path.join(HERE, name + ".goldens.json"), "w", encoding="utf-8") as f:
        json.dump(dict(vocabulary=tokenizer.get_vocab_size(), cases=cases), f, ensure_ascii=False,
                  separators=(",", ":"))
        f.write("\n")
    print(name, sum(len(c["ids"]) for c in cases))
