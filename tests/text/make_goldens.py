#!/usr/bin/env python3
"""Writes data/NAME.json (a tokenizer.json) and data/NAME.goldens.json for the tokenizer's tests.

Needs tokenizers 0.23; the tests themselves do not. All tokenizers share a small byte-level BPE, or
one like SentencePiece's, trained on the text below, and differ in what stands around it.
"""
import json
import os

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

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
SPACES = [added("<x>", rstrip=True), added("  "), added("<y>", lstrip=True, rstrip=True), added("word", single_word=True)]
CAPITALS = dict(Regex=r"(?i)\p{Lu}+|[\p{Lt}]+|ꟊ+|[ƛσ]+|ss")
NEWER_VARIANTS = {
    "newer_words": dict(pre_tokenizer=sequence(split(dict(Regex=r"\w+|[[:punct:]]+")), BYTES), added_tokens=SPACES),
    "newer_negated": dict(pre_tokenizer=sequence(split(dict(Regex=r"[^\w[:punct:]]+|\p{Punct}+|[\p{Word}&&\W]")), BYTES),
                          added_tokens=[dict(token, normalized=True) for token in SPACES]),
    "newer_capitals": dict(pre_tokenizer=sequence(split(CAPITALS), BYTES), added_tokens=[]),
    "newer_llama3": dict(pre_tokenizer=sequence(split(dict(Regex=LLAMA3)), BYTES), added_tokens=[]),
    "newer_digits": dict(pre_tokenizer=sequence(dict(type="Digits", individual_digits=True), GPT2), added_tokens=[]),
    "newer_nfc": dict(pre_tokenizer=GPT2, normalizer=dict(type="NFC"), added_tokens=[]),
    "newer_nfkd": dict(pre_tokenizer=GPT2, added_tokens=[],
                       normalizer=dict(type="Sequence", normalizers=[dict(type="NFKD"), dict(type="Lowercase")])),
}
for behavior in ("Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
    VARIANTS[f"split_{behavior}"] = dict(
        pre_tokenizer=sequence(split(dict(Regex=r"\s|\d"), behavior), BYTES), added_tokens=[])
    VARIANTS[f"split_{behavior}_inverted"] = dict(
        pre_tokenizer=sequence(split(dict(String="the"), behavior, True), BYTES), added_tokens=[])

# What the engines of patterns and their tables of characters differ in: classes, case, and letters,
# digits and marks of Unicode 10 to 17.
NEWER_TEXTS = [
    "x² ½kg m³ 10¼ ①②", "a+b=c $5 <x> ^_^ `~|", "€5 ©2024 №7 +−×÷", "ABCdef ÀÉàé ΣΑΣ ǅǆ", "STRASSE Straße ſt ﬅ",
    "\ua7dcx\u019b \ua7cb\u0264 \u1c89\u1c8a", "\U00010d50\U00010d65\U00010d70\U00010d85 \U00010d4a\U00010d40\U00010d41",
    "\u0897\u0cf3\u0ece a\U00011f00\U00011f02 \U0001e4d0\U0001e4eb", "\U000323af\U00031350\U0002ebf0 \U00020000",
    "1\U0001e4f0\U0001e5f1\U0001ccf0 \U00011de0\U00011de9 \U00016ff4", "\U0001fae8\U0001fadf \u2427 \U0001f6dc!",
    "\U00016ea0\U00016ebb \ua7ce\ua7cf \u0130i", "\u32ff \U0001f16c \ua7f2 \U00010781 \u3358",
    "a\u0316\u1df6\u0300 a\u0315\u08d3\u0334 e\u0897\u0323\u0301", "\U00011938 \U00011935\U00011930 \u0344\u0385",
    "word\U0001e4f0 word\u0897 word\U00011de0 word² word", "<x>  the", "<x>   the <x> \n the", "<x>     \t  the  ",
    "the  the   <x>", "<x>    ", "<y>  <x>  <y>",
]

MARK = "\u2581"
SPM_TEXTS = [
    MARK, " " + MARK + "a", "</s>", "a</s> b", "<s>the", "  <s> the", "the<s>", "<0x41>", "\t\tx",
    "[INST] Hi [/INST]", "the[INST]the", "<|user|>\n the <|user|> the", "e\u0301\ufb01", "ΩΩ₿Ω₿₿", "₿", "₿₿a",
    "    x = 10\n        pass", "the  the   the    the     the", "\u3000the", " \n the", "ab the", "word  word",
]
BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]
UNKNOWN, BOS, EOS = (added(t, special=True) for t in ("<unk>", "<s>", "</s>"))
PREPEND = dict(type="Prepend", prepend=MARK)


def replace(pattern, content):
    return dict(type="Replace", pattern=pattern, content=content)


def normalizers(*steps):
    return dict(type="Sequence", normalizers=list(steps))


def metaspace(scheme, split=False):
    return dict(type="Metaspace", replacement=MARK, prepend_scheme=scheme, split=split)


def strip(start, stop=0, content=" "):
    return dict(type="Strip", content=content, start=start, stop=stop)


def decoder(*steps):
    return dict(type="Sequence", decoders=list(steps))


def template(*pieces):
    single = [dict(Sequence=dict(id="A", type_id=0)) if piece == "A" else
              dict(SpecialToken=dict(id=piece, type_id=0)) for piece in pieces]
    return dict(type="TemplateProcessing", single=single,
                pair=single + [dict(Sequence=dict(id="B", type_id=1))],
                special_tokens={t: dict(id=t, ids=[i], tokens=[t])
                                for i, t in enumerate(("<unk>", "<s>", "</s>"))})


TO_MARK = replace(dict(String=" "), MARK)
TO_TEXT = [replace(dict(String=MARK), " "), dict(type="ByteFallback"), dict(type="Fuse")]
LATE = [TO_TEXT[0], TO_TEXT[2]]
SPM_VARIANTS = {
    "llama2": dict(normalizer=normalizers(PREPEND, TO_MARK), decoder=decoder(*TO_TEXT, strip(1)),
                   post_processor=template("<s>", "A"), added_tokens=[UNKNOWN, BOS, EOS]),
    # Of files written before tokens of their own were looked for in the text as given.
    "llama2_old": dict(normalizer=normalizers(PREPEND, TO_MARK), decoder=decoder(*TO_TEXT, strip(1)),
                       post_processor=template("<s>", "A", "</s>"),
                       added_tokens=[dict(token, normalized=True) for token in (UNKNOWN, BOS, EOS)] +
                       [added("word", normalized=True)]),
    "mistral": dict(pre_tokenizer=metaspace("first"), decoder=decoder(*TO_TEXT, strip(1)),
                    post_processor=dict(type="Sequence", processors=[
                        GPT2, template("A"), template("</s>", "<s>", "A", "<unk>"), GPT2]),
                    added_tokens=[UNKNOWN, BOS, EOS, added("[INST]"), added("[/INST]"),
                                  added("<|user|>", rstrip=True, special=True)]),
    "gemma": dict(normalizer=TO_MARK, decoder=decoder(*TO_TEXT), by_position=True,
                  post_processor=template("<s>", "A"), added_tokens=[UNKNOWN, BOS, EOS]),
    "metaspace": dict(pre_tokenizer=dict(type="Metaspace", replacement=MARK, add_prefix_space=True),
                      normalizer=dict(type="Strip", strip_left=True, strip_right=True),
                      post_processor=dict(type="RobertaProcessing", cls=["<s>", 1], sep=["</s>", 2],
                                          trim_offsets=True, add_prefix_space=True),
                      decoder=dict(type="Metaspace", replacement=MARK, add_prefix_space=True),
                      byte_fallback=False, fuse_unk=False, added_tokens=[UNKNOWN, BOS, EOS]),
    "metaspace_never": dict(pre_tokenizer=sequence(metaspace("never", True)), byte_fallback=False,
                            normalizer=normalizers(replace(dict(Regex=" {2,}"), "  "),
                                                   replace(dict(Regex="x*"), "-")),
                            decoder=dict(metaspace("never", True), str_rep=MARK),
                            added_tokens=[UNKNOWN, BOS, EOS]),
    # What stands where the text begins, once it has been rewritten and cut.
    "metaspace_first": dict(pre_tokenizer=sequence(split(dict(Regex=r"[\d\n]+"), "Removed"),
                                                   metaspace("first", True)),
                            normalizer=normalizers(dict(type="Strip", strip_left=True, strip_right=False),
                                                   replace(dict(String="Th"), "th"),
                                                   replace(dict(String="a"), ""),
                                                   replace(dict(String="é"), "e")),
                            decoder=decoder(replace(dict(Regex=MARK + "+"), " "),
                                            strip(0, 1, content="e"), dict(type="ByteFallback")),
                            added_tokens=[UNKNOWN, BOS, EOS]),
    # A vocabulary with half of the bytes: an unknown token and bytes in one text.
    "some_bytes": dict(normalizer=TO_MARK, decoder=decoder(strip(1, content=MARK), *TO_TEXT),
                       without=BYTE_TOKENS[0x80:0xB0], added_tokens=[UNKNOWN, BOS, EOS]),
    "some_bytes_unfused": dict(normalizer=TO_MARK, decoder=decoder(*LATE, strip(1)), fuse_unk=False,
                               without=BYTE_TOKENS[0x80:0xB0], added_tokens=[UNKNOWN, BOS, EOS]),
}

trained = Tokenizer(models.BPE())
trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
trained.decoder = decoders.ByteLevel()
trained.train_from_iterator(TRAINING, trainers.BpeTrainer(
    vocab_size=420, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
base = json.loads(trained.to_str())
size = len(base["model"]["vocab"])
merges = base["model"]["merges"]

spm_trained = Tokenizer(models.BPE())
spm_trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
spm_trained.train_from_iterator(TRAINING, trainers.BpeTrainer(
    vocab_size=440, show_progress=False,
    special_tokens=["<unk>", "<s>", "</s>"] + BYTE_TOKENS))
spm_vocab = dict(sorted(json.loads(spm_trained.to_str())["model"]["vocab"].items(), key=lambda t: t[1]))
for length in (2, 3, 4):  # Gemma has pieces for runs of spaces
    spm_vocab[MARK * length] = len(spm_vocab)
NEVER_MERGED = {"<unk>", "<s>", "</s>", *BYTE_TOKENS}
# Less for later pieces, as SentencePiece does it, but with ties and with some out of order.
SPM_SCORES = {token: 0.0 if token in NEVER_MERGED else -float(id // 3 + 7 * (id % 5 == 0))
              for token, id in spm_vocab.items()}


def merges_of(vocab, scores):
    """Every way to put a piece together of two, the best piece first (transformers' generate_merges)."""
    found = [(scores[piece], at, len(piece) - at, piece[:at], piece[at:])
             for piece in vocab if piece not in NEVER_MERGED for at in range(1, len(piece))
             if all(part in vocab and part not in NEVER_MERGED for part in (piece[:at], piece[at:]))]
    return [list(merge[3:]) for merge in sorted(found, key=lambda merge: merge[:3], reverse=True)]


def byte_level_file(variant):
    file = json.loads(json.dumps(base))
    file["pre_tokenizer"] = variant["pre_tokenizer"]
    file["normalizer"] = variant.get("normalizer")
    file["added_tokens"] = [dict(t, id=size + i) for i, t in enumerate(variant["added_tokens"])]
    file["decoder"] = GPT2
    file["model"]["ignore_merges"] = variant.get("ignore_merges", False)
    file["model"]["merges"] = merges if variant.get("pairs") else [" ".join(m) for m in merges]
    return file


def spm_file(variant):
    vocab = {token: id for token, id in spm_vocab.items() if token not in variant.get("without", [])}
    scores = {token: -id for token, id in vocab.items()} if variant.get("by_position") else SPM_SCORES
    fresh = iter(range(len(spm_vocab), len(spm_vocab) + 100))
    return dict(
        version="1.0", truncation=None, padding=None,
        added_tokens=[dict(t, id=vocab[t["content"]] if t["content"] in vocab else next(fresh))
                      for t in variant["added_tokens"]],
        normalizer=variant.get("normalizer"), pre_tokenizer=variant.get("pre_tokenizer"),
        post_processor=variant.get("post_processor"), decoder=variant["decoder"],
        model=dict(type="BPE", dropout=None, unk_token="<unk>", continuing_subword_prefix=None,
                   end_of_word_suffix=None, fuse_unk=variant.get("fuse_unk", True),
                   byte_fallback=variant.get("byte_fallback", True), ignore_merges=False,
                   vocab=vocab, merges=merges_of(vocab, scores)))


# Runs of bytes as byte tokens: whole characters, parts of some, and both.
BYTE_RUNS = ["A", "你", "你好", b"\xe4\xbd", b"\xe4\xbd\xa0\xe2\x82", b"\xff", b"\xc0\xaf", b"\x80 \x80", "\n\n", "👍"]


def decoded(tokenizer, ids, keeps_special):
    texts = dict(decoded=tokenizer.decode(ids, skip_special_tokens=False))
    if not keeps_special:
        texts["plain"] = tokenizer.decode(ids, skip_special_tokens=True)
    return texts


def decodes(tokenizer, keeps_special):
    """Ids that no text gives, decoded: runs of bytes between words and special tokens."""
    word, end = tokenizer.token_to_id(MARK + "the"), tokenizer.token_to_id("</s>")
    found = []
    for run in BYTE_RUNS:
        run = run.encode() if isinstance(run, str) else run
        run = [tokenizer.token_to_id(BYTE_TOKENS[byte]) for byte in run]
        if None in run:
            continue
        for ids in (run, [word] + run + [word, word], run[:1] + [end] + run[1:] + [word, 99999]):
            found.append(dict(ids=ids, **decoded(tokenizer, ids, keeps_special)))
    return found


def write(name, file, texts, spm):
    text = json.dumps(file, ensure_ascii=False, separators=(",", ":"))
    tokenizer = Tokenizer.from_str(text)
    with open(os.path.join(HERE, name + ".json"), "w", encoding="utf-8") as f:
        f.write(text + "\n")
    # tokenizers 0.23 forgets that a token is special where the normalizer changes it.
    keeps_special = any(t["special"] and t["normalized"] for t in file["added_tokens"])
    cases = []
    for case in texts:
        ids = tokenizer.encode(case, add_special_tokens=False).ids
        cases.append(dict(text=case, ids=ids, **decoded(tokenizer, ids, keeps_special)))
        if spm:
            cases[-1]["prompt"] = tokenizer.encode(case).ids
    goldens = dict(vocabulary=tokenizer.get_vocab_size(), cases=cases)
    if spm:
        goldens["decodes"] = decodes(tokenizer, keeps_special)
    if name == "llama2":
        goldens["scores"] = list(SPM_SCORES.values())
    with open(os.path.join(HERE, name + ".goldens.json"), "w", encoding="utf-8") as f:
        json.dump(goldens, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")
    print(name, sum(len(c["ids"]) for c in cases))


os.makedirs(HERE, exist_ok=True)
for name, variant in VARIANTS.items():
    write(name, byte_level_file(variant), TEXTS, spm=False)
for name, variant in NEWER_VARIANTS.items():
    write(name, byte_level_file(variant), TEXTS[:30] + NEWER_TEXTS, spm=False)
for name, variant in SPM_VARIANTS.items():
    write(name, spm_file(variant), TEXTS + SPM_TEXTS, spm=True)

# Classes whose members, of all code points, are compared.
CLASSES = [
    r"\p{L}", r"\p{Lu}", r"\p{Ll}", r"\p{Lt}", r"\p{Lm}", r"\p{Lo}", r"\p{M}", r"\p{Mn}", r"\p{N}", r"\p{Nd}", r"\p{No}", r"\p{P}",
    r"\p{S}", r"\p{Z}", r"\p{C}", r"\p{Cn}", r"\p{Alphabetic}", r"\p{Punct}", r"\p{Word}", r"\p{Han}", r"\p{Latin}", r"\p{Cyrillic}",
    r"\p{Emoji}", r"\w", r"\W", r"\s", r"\d", r"\h", r"[\w]", r"[^\s\p{L}\p{N}]", r"[[:punct:]]", r"[[:^punct:]]", r"[[:alpha:]]",
    r"[[:upper:]]", r"[[:lower:]]", r"[[:graph:]]", r"[[:word:]]", r"(?i)\p{Lu}", r"(?i)[\p{Lu}]", r"(?i)[^\p{Ll}]", r"(?i)[[:upper:]]",
]
ALL = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)


def digest(pattern):
    """How many runs of code points a class has, and FNV-1a over their first and last code points,
    four bytes each, the lowest first."""
    runs, value, at = 0, 0xCBF29CE484222325, 0
    gaps = pre_tokenizers.Split(Regex(f"(?:{pattern})+"), "removed").pre_tokenize_str(ALL)
    for begin, end in [offsets for _, offsets in gaps] + [(len(ALL), len(ALL))]:
        runs += at < begin
        for c in (ord(ALL[at]), ord(ALL[begin - 1])) if at < begin else ():
            for shift in (0, 8, 16, 24):
                value = (value ^ (c >> shift & 0xFF)) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
        at = end
    return dict(pattern=pattern, runs=runs, digest=f"{value:016x}")


with open(os.path.join(HERE, "classes.goldens.json"), "w", encoding="utf-8") as f:
    json.dump(dict(classes=[digest(pattern) for pattern in CLASSES]), f, ensure_ascii=False, indent=1)
    f.write("\n")
