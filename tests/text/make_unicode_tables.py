#!/usr/bin/env python3
"""Writes runtime/text/reference_unicode_tables.cc: where the character classes of the Oniguruma
inside Hugging Face's tokenizers differ from those of Debian's, which Berth links.

Needs tokenizers 0.23 (its Oniguruma has the classes of Unicode 16.0) and Debian 12's libonig5
(6.9.8: Unicode 14.0). Each class that libonig5 has a name for is compared on every code point that
either of the two knows; inside the big blocks of ideographs and syllables, and where nothing is
assigned, on one in 64. Takes about two minutes.
"""
import ctypes
import os
import re

from tokenizers import Regex, normalizers, pre_tokenizers

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                   "../../runtime/text/reference_unicode_tables.cc")
SAMPLED = [(0x3400, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xF8FF), (0x17000, 0x18D08), (0x20000, 0x2A6DF),
           (0x2A700, 0x2B738), (0x2B740, 0x2EBE0), (0x30000, 0x3134A), (0xE0200, 0x10FFFF)]

onig = ctypes.CDLL("libonig.so.5")


class Encoding(ctypes.Structure):  # OnigEncodingType as far as it is needed here
    _fields_ = [(name, ctypes.c_void_p) for name in (
        "mbc_enc_len", "name", "lengths", "is_mbc_newline", "mbc_to_code", "code_to_mbclen", "code_to_mbc",
        "mbc_case_fold", "apply_all_case_fold", "get_case_fold_codes_by_str", "property_name_to_ctype",
        "is_code_ctype", "get_ctype_code_range")]


utf8 = Encoding.in_dll(onig, "OnigEncodingUTF8")
name_to_ctype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    utf8.property_name_to_ctype)
code_range = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_uint32),
                              ctypes.POINTER(ctypes.POINTER(ctypes.c_uint32)))(utf8.get_ctype_code_range)


def library_file():
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return next(line.split()[-1] for line in maps if "libonig.so" in line)


def class_names():
    """One name, the longest, of each class; blocks, whose extent does not change, left out."""
    names = {}
    with open(library_file(), "rb") as file:
        words = set(re.findall(rb"[a-z0-9]+(?=\0)", file.read()))
    words |= {word[at:] for word in words for at in range(1, min(4, len(word)))}
    for word in sorted(words):
        word = ctypes.create_string_buffer(word)
        begin = ctypes.addressof(word)
        ctype = name_to_ctype(ctypes.addressof(utf8), word, begin + len(word.value))
        if ctype >= 0 and len(word.value) > len(names.get(ctype, b"")):
            names[ctype] = word.value
    return {ctype: name.decode() for ctype, name in sorted(names.items())
            if not name.startswith(b"in") or name == b"inherited"}


def library_members(ctype):
    ranges, first = ctypes.POINTER(ctypes.c_uint32)(), ctypes.c_uint32()
    assert code_range(ctype, ctypes.byref(first), ctypes.byref(ranges)) == 0
    return {c for i in range(ranges[0]) for c in range(ranges[1 + 2 * i], ranges[2 + 2 * i] + 1)}


def reference_members(pattern, points):
    text, members, at = "".join(map(chr, points)), set(), 0
    for _, (begin, end) in pre_tokenizers.Split(Regex(pattern), "removed").pre_tokenize_str(text):
        members.update(points[at:begin])
        at = end
    return members | set(points[at:])


def ranges_of(members):
    ranges = []
    for c in sorted(members):
        if ranges and ranges[-1][1] == c - 1:
            ranges[-1][1] = c
        else:
            ranges.append([c, c])
    return ranges


def probed_points(names):
    everywhere = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    unassigned = reference_members(r"\p{Cn}+", everywhere)
    known = library_members(next(ctype for ctype, name in names.items() if name == "unassigned"))
    new = known - unassigned
    sampled = {c for first, last in SAMPLED for c in range(first, last + 1)} | (unassigned & known)
    return [c for c in everywhere if c in new or c not in sampled or c % 64 == 0]


def case_pairs(points, cased):
    """Letters, one of them new, that (?i) takes for each other."""
    pairs = set()
    for c in sorted(cased):
        pattern = normalizers.Replace(Regex("(?i)" + chr(c)), "")
        for other in (c - 0x1B, c - 1, c + 1, c + 0x20, 0x19B, 0x264):
            if not pattern.normalize_str(chr(other)):
                upper, lower = (c, other) if chr(c) in upper_text else (other, c)
                pairs.add((upper, lower))
    return sorted(pairs)


names = class_names()
points = probed_points(names)
sets, rows, cased, upper_text = {}, [], set(), ""


def name_of_set(members):
    key = tuple(map(tuple, ranges_of(members)))
    return sets.setdefault(key, f"kSet{len(sets)}") if key else "{}"


for ctype, name in names.items():
    ours = library_members(ctype) & set(points)
    theirs = reference_members(r"\p{%s}+" % name, points)
    # Below 0x100 Oniguruma has tables of its own for some classes; regex.cc says what is done there.
    added, removed = ({c for c in a - b if c >= 0x100} for a, b in ((theirs, ours), (ours, theirs)))
    if added or removed:
        rows.append((name, name_of_set(added), name_of_set(removed)))
    if name == "changeswhencasefolded":
        cased = added
        upper_text = "".join(map(chr, added))

pairs = case_pairs(points, cased)
with open(OUT, "w", encoding="utf-8") as out:
    print("// Written by tests/text/make_unicode_tables.py from tokenizers 0.23 (Unicode 16.0) and libonig\n"
          "// 6.9.8 (Unicode 14.0); not to be edited.\n"
          "// clang-format off\n"
          '#include "runtime/text/reference_unicode_tables.h"\n\n'
          "namespace berth {\nnamespace {\n", file=out)
    for key, name in sets.items():
        print(f"constexpr CodeRange {name}[] = {{", file=out)
        cells = [f"{{0x{first:X}, 0x{last:X}}}," for first, last in key]
        for at in range(0, len(cells), 4):
            print("    " + " ".join(cells[at:at + 4]), file=out)
        print("};\n", file=out)
    print("constexpr ClassChange kChanges[] = {", file=out)
    for name, added, removed in rows:
        print(f'    {{"{name}", {added}, {removed}}},', file=out)
    print("};\n\nconstexpr CasePair kPairs[] = {", file=out)
    cells = [f"{{0x{upper:X}, 0x{lower:X}}}," for upper, lower in pairs]
    for at in range(0, len(cells), 4):
        print("    " + " ".join(cells[at:at + 4]), file=out)
    print("};\n\n}  // namespace\n\n"
          "std::span<const ClassChange> reference_class_changes() { return kChanges; }\n\n"
          "std::span<const CasePair> reference_case_pairs() { return kPairs; }\n\n"
          "}  // namespace berth", file=out)
print(len(points), "code points,", len(names), "classes,", len(rows), "changed,", len(sets), "sets,", len(pairs),
      "pairs")
