#!/usr/bin/env python3
"""Write the seed corpus of PyTorch files, and what torch reads from the valid ones.

usage: make_torch_corpus.py [FOLDER]      default: corpus/torch beside this script

The valid files (ok_*) come from torch.save; the others break one rule each, and torch_corpus_test.cc
says what the reader must answer. Beside the folder, torch_expected.txt holds the tensors of the
valid files as torch.load gives them: file, name, dtype, shape, bytes. Needs torch.
"""
import collections
import io
import os
import pickle
import struct
import sys
import zipfile
import zlib

import torch


# ---- pickles, opcode by opcode (pickletools.py) ----
def text(s):
    raw = s.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(n):
    if 0 <= n < 256:
        return b"K" + bytes([n])
    if -2**31 <= n < 2**31:
        return b"J" + struct.pack("<i", n)
    raw = n.to_bytes((n.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def many(*parts):
    return b"(" + b"".join(parts) + b"t"


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def storage(key="0", kind=name("torch", "FloatStorage"), elements=2):
    return many(text("storage"), kind, text(key), text("cpu"), number(elements)) + b"Q"


HOOKS = name("collections", "OrderedDict") + b")R"


def tensor(of=None, offset=0, shape=(2,), strides=(1,), dtype=None, metadata=None):
    parts = [storage() if of is None else of, number(offset), many(*map(number, shape)), many(*map(number, strides)),
             b"\x89", HOOKS]
    rebuild = "_rebuild_tensor_v2"
    if dtype is not None:
        rebuild, parts = "_rebuild_tensor_v3", parts + [dtype]
    if metadata is not None:
        parts = parts + [metadata]
    return name("torch._utils", rebuild) + many(*parts) + b"R"


def state(**tensors):
    return b"}(" + b"".join(text(k) + v for k, v in tensors.items()) + b"u"


def flags(**values):
    """A tensor's metadata: a dict of booleans."""
    return b"}(" + b"".join(text(k) + (b"\x88" if v else b"\x89") for k, v in values.items()) + b"u"


def pickled(body):
    return b"\x80\x02" + body + b"."


# ---- zip archives, field by field (APPNOTE.TXT) ----
class Entry:
    def __init__(self, name, data, **changes):
        self.name, self.data = name.encode(), data
        self.method, self.flags = 0, 0x800
        self.packed = self.unpacked = None     # what the directory says; None: the truth
        self.local_name, self.local_method, self.local_packed = None, None, None
        self.header = None
        self.__dict__.update(changes)


def archive(entries, count=None, directory_bytes=None, directory_at=None, comment=b"", extra=b"", zip64=None):
    out = b""
    directory = b""
    for e in entries:
        at = len(out)
        local = e.name if e.local_name is None else e.local_name
        packed = len(e.data) if e.local_packed is None else e.local_packed
        out += struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, e.flags, e.method if e.local_method is None else e.local_method,
                           0, 0, zlib.crc32(e.data), packed, packed, len(local), 0) + local + e.data
        size = len(e.data)
        directory += struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, e.flags, e.method, 0, 0, zlib.crc32(e.data),
                                 size if e.packed is None else e.packed, size if e.unpacked is None else e.unpacked,
                                 len(e.name), len(extra), 0, 0, 0, 0, at if e.header is None else e.header)
        directory += e.name + extra
    start, n = len(out), len(entries)
    out += directory
    if zip64 is not None:
        at = len(out)
        values = {"count": n, "size": len(directory), "start": start, "at": at, "mark": 0x06064B50, **zip64}
        out += struct.pack("<IQHHIIQQQQ", values["mark"], 44, 45, 45, 0, 0, values["count"], values["count"],
                           values["size"], values["start"])
        out += struct.pack("<IIQI", 0x07064B50, 0, values["at"], 1)
    n = n if count is None else count
    return out + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, n, n,
                             len(directory) if directory_bytes is None else directory_bytes,
                             start if directory_at is None else directory_at, len(comment)) + comment


EIGHT = struct.pack("<2f", 1.0, -2.0)


def entries(body=None, data=EIGHT, raw=None, **changes):
    pkl = pickled(state(a=tensor()) if body is None else body) if raw is None else raw
    return [Entry("m/data.pkl", pkl), Entry("m/byteorder", b"little"), Entry("m/version", b"3\n"),
            Entry("m/data/0", data, **changes)]


def whole(body=None, data=EIGHT, raw=None, **changes):
    return archive(entries(body, data, raw, **changes))


# ---- the older format ----
MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."


def legacy(version=1001, system=None, keys=b"](" + text("0") + b"e", elements=2, data=EIGHT, part=b"N", metadata=None):
    stored = many(text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), number(2), part) + b"Q"
    body = state(a=tensor(stored, metadata=metadata))
    system = b"}" + text("little_endian") + b"\x88s" if system is None else system
    return (MAGIC + pickled(number(version)) + pickled(system) + pickled(body) + pickled(keys) +
            struct.pack("<q", elements) + data)


def saved(value, **options):
    out = io.BytesIO()
    torch.save(value, out, **options)
    return out.getvalue()


def valid():
    torch.manual_seed(0)
    a = torch.arange(12, dtype=torch.float32).reshape(3, 4) - 5
    module = torch.nn.Linear(3, 2)
    shared = {"wte": a, "head": a, "rows": a[1:], "row": a[1], "part": a.view(-1)[5:7], "one": a[2, 3],
              "column": a[:, :1][:1]}
    dtypes = {str(t)[6:]: (a.abs() + 1).to(t) for t in
              (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
               torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2,
               torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu, torch.uint16, torch.uint32,
               torch.uint64)}
    odd = {"scalar": torch.tensor(3.5), "empty": torch.zeros(0, 3), "parameter": torch.nn.Parameter(a[0].clone()),
           "buffer": torch.nn.Buffer(a[1].clone()), "none": None, "step": 7, "text": "x", "rate": 0.5, "big": 2**70,
           "list": [1, 2], "tuple": (1, 2, 3, 4)}
    wrapped = {"state_dict": dict(shared), "epoch": 3, "optimizer": {"state": {0: {"step": torch.tensor(1.0)}},
                                                                    "param_groups": [{"lr": 0.1, "params": [0]}]}}
    m = torch.arange(240, dtype=torch.float32).reshape(12, 20)
    wide = torch.arange(48, dtype=torch.int16)
    strided = {"transposed": m.t(), "half": m.half().t(), "cast": m.to(torch.uint8).t(),
               "channels_last": torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).reshape(2, 3, 4, 5)
                                     .contiguous(memory_format=torch.channels_last),
               "permuted": wide.reshape(2, 3, 8).permute(2, 0, 1), "expanded": wide[:3].view(3, 1, 1).expand(3, 4, 2),
               "one_for_all": torch.ones(1).expand(5), "columns": m[:, 3:7], "every_other": m[1::2, ::3],
               "diagonal": m.diagonal(), "windows": wide.unfold(0, 5, 2), "overlap": wide.as_strided((3, 4, 2), (1, 1, 2), 7),
               "inner": m.t()[4:9, 2], "flags": (m > 100).t(), "scalar": m.t()[3, 4], "one_row": m.t()[:1],
               "none_left": m.t()[:0], "none_past_end": m[12:, 20:], "parameter": torch.nn.Parameter(m.t())}
    objects = collections.OrderedDict(
        device=torch.device("cuda", 1), cpu=torch.device("cpu"), size=torch.Size([2, 3]), dtype=torch.bfloat16,
        other_dtype=torch.complex32, narrow=torch.uint4, seen={1, 2}, raw=bytearray(b"ab"), bytes=b"cd", complex=1 + 2j,
        counts=collections.Counter("aab"), nested=collections.OrderedDict(x=collections.OrderedDict(y=1)),
        scheme=torch.per_tensor_affine, weight=a, sparse_beside={"deep": {"deeper": a.to_sparse()}})
    objects[7] = a[0]
    training = {"rng_state": torch.arange(5, dtype=torch.uint8), "state_dict": dict(shared), "device": torch.device("cpu"),
                "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}, "sparse": a.to_sparse()}
    attributed = torch.nn.Parameter(a.clone())
    attributed.note = "kept"
    tagged = a[1:].clone()
    tagged.note = "kept"
    return {
        "ok_strided": saved(strided),
        "ok_strided_legacy": saved(strided, _use_new_zipfile_serialization=False),
        "ok_objects": saved(objects),
        "ok_objects_protocol_4": saved({"seen": {1, 2}, "frozen": frozenset([3]), "w": a}, pickle_protocol=4),
        "ok_attributes": saved({"parameter": attributed, "tensor": tagged}),
        "ok_training": saved(training),
        "ok_module": saved(module.state_dict()),
        "ok_shared": saved(shared),
        "ok_dtypes": saved(dtypes),
        "ok_odd": saved(odd),
        "ok_wrapped": saved(wrapped),
        "ok_protocol_4": saved(shared, pickle_protocol=4),
        "ok_legacy": saved(shared, _use_new_zipfile_serialization=False),
        **{f"ok_legacy_protocol_{n}": saved(shared, _use_new_zipfile_serialization=False, pickle_protocol=n)
           for n in (3, 4, 5)},
        "ok_legacy_module": saved(module.state_dict(), _use_new_zipfile_serialization=False),
        "ok_legacy_empty": saved({"e": torch.zeros(0)}, _use_new_zipfile_serialization=False),
        # Written here, opcode by opcode: what torch can read, but does not write today.
        "ok_comment": archive(entries(), comment=b"kept by some tool"),
        "ok_directory_64": archive(entries(), zip64={}, count=65535, directory_bytes=0xFFFFFFFF, directory_at=0xFFFFFFFF),
        "ok_metadata": whole(state(a=tensor(metadata=b"}"), b=tensor(metadata=b"N"))),
        "ok_py2_texts": whole(raw=b"\x80\x02}U\x01a" + tensor() + b"s."),
        "ok_py2_dict": whole(name("collections", "OrderedDict") + b"](](" + text("a") + tensor() + b"ee\x85R"),
        "ok_cuda_storage": whole(state(a=tensor(storage(kind=name("torch.cuda", "FloatStorage"))))),
        "ok_name_number": whole(b"}" + number(1) + tensor() + b"s"),
        "ok_expanded": whole(state(a=tensor(shape=(4,), strides=(0,)))),
        "ok_legacy_part": legacy(part=many(text("v"), number(0), number(2))),
    }


def broken():
    deep = b"(" * 5000 + b"l" * 5000
    pool = b"".join(b"(" + b"h\x00" * 40 + b"tq\x00" for _ in range(40))  # a tuple of tuples of tuples
    return {
        # Which file it is.
        "file_empty": b"",
        "file_pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "file_web_page": b"<!DOCTYPE html>\n<html><body>Not found</body></html>\n",
        "file_plain_pickle": pickle.dumps({"a": 1}, protocol=2),
        "file_safetensors": struct.pack("<Q", 2) + b"{}",
        # The archive.
        "zip_cut": whole()[:-30],
        "zip_other": archive([Entry("readme.txt", b"hello")]),
        "zip_torchscript": archive(entries() + [Entry("m/constants.pkl", b"")]),
        "zip_two_roots": archive(entries() + [Entry("n/data.pkl", b"")]),
        "zip_compressed_pickle": archive([Entry("m/data.pkl", b"\x03\x00", method=8, unpacked=2)]),
        "zip_compressed_storage": whole(data=b"\x03\x00", method=8, unpacked=8),
        "zip_bomb": whole(data=b"\x03\x00", method=8, unpacked=0xFFFFFFF0),
        "zip_encrypted": whole(flags=0x801),
        "zip_twice": archive(entries() + [Entry("m/data/0", EIGHT)]),
        "zip_sizes_differ": whole(unpacked=80),
        "zip_local_name": whole(local_name=b"m/data/1"),
        "zip_local_method": whole(local_method=8),
        "zip_local_size": whole(local_packed=4),
        "zip_header_far": whole(header=0x7FFFFFFF),
        "zip_header_wrong": whole(header=1),
        "zip_header_shared": archive([*entries(state(a=tensor(), b=tensor(storage("1")))),
                                      Entry("m/data/1", EIGHT, header=0)]),
        "zip_past_end": whole(packed=1 << 20, unpacked=1 << 20, local_packed=1 << 20),
        "zip_overlap": archive(entries(state(a=tensor(), b=tensor(storage("1"))), packed=20, unpacked=20,
                                       local_packed=20) + [Entry("m/data/1", EIGHT)]),
        "zip_parts": whole()[:-18] + b"\x01\x00" + whole()[-16:],
        "zip_count": archive(entries(), count=60000),
        "zip_directory_far": archive(entries(), directory_at=1 << 30),
        "zip_directory_wrong": archive(entries(), directory_at=1),
        "zip_entry_runs_out": archive(entries(), directory_bytes=220),
        "zip_extra_runs_out": archive(entries(packed=0xFFFFFFFF, unpacked=0xFFFFFFFF), extra=b"\x01\x00\xff\xff"),
        "zip_name_long": archive([Entry("m/" + "n" * 5000, b"")]),
        "zip64_missing": whole(packed=0xFFFFFFFF, unpacked=0xFFFFFFFF),
        "zip64_at": archive(entries(), zip64={"at": 1 << 40}),
        "zip64_mark": archive(entries(), zip64={"mark": 0}),
        "zip64_wraps": archive(entries(), zip64={"start": 2**64 - 8, "size": 16}),
        "zip64_directory_big": archive(entries(), zip64={"count": 2**60}),
        "big_endian": archive([Entry("m/data.pkl", pickled(state(a=tensor()))), Entry("m/byteorder", b"big"),
                               Entry("m/data/0", EIGHT)]),
        # What a pickle may not do.
        "global_system": whole(raw=b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00lstR."),
        "global_builtin": whole(raw=b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93."),
        "global_load": whole(name("torch.storage", "_load_from_bytes") + b")R"),
        "global_script": whole(name("__torch__.net", "Net") + b")\x81"),
        "global_numpy": whole(name("numpy.core.multiarray", "_reconstruct")),
        "global_complex128": whole(state(a=tensor(storage(kind=name("torch", "ComplexDoubleStorage"))))),
        "global_no_line": whole(raw=b"\x80\x02cos"),
        "call_class": whole(name("torch", "FloatStorage") + b")R"),
        "call_text": whole(text("a") + b")R"),
        "opcode_newobj": whole(name("torch", "Tensor") + b")\x81"),
        "dict_of_texts": whole(name("collections", "OrderedDict") + text("a") + b"\x85R"),
        "dict_copied": whole(raw=b"\x80\x02}q\x00(" + b"".join(number(i % 256) + b"N" for i in range(1000)) + b"u" +
                             name("collections", "Counter") + b"q\x01" + b"h\x01h\x00\x85R" * 2200 + b"."),
        "opcode_inst": whole(raw=b"\x80\x02(ios\nsystem\n."),
        "opcode_obj": whole(raw=b"\x80\x02(o."),
        "opcode_ext": whole(raw=b"\x80\x02\x82\x01."),
        "opcode_bytes": whole(raw=b"\x80\x03C\x01a."),
        "opcode_text_int": whole(raw=b"I1\n."),
        "opcode_unknown": whole(raw=b"\x80\x02\xff."),
        "protocol": whole(raw=b"\x80\x09N."),
        "build_tensor": whole(state(a=tensor() + b"}b")),
        # The stack and the memo.
        "no_stop": whole(raw=b"\x80\x02}"),
        "pickle_empty": whole(raw=b""),
        "stack_empty": whole(raw=b"\x80\x02."),
        "stack_two": whole(raw=b"\x80\x02NN."),
        "stack_underflow": whole(raw=b"\x80\x02\x85."),
        "mark_missing": whole(raw=b"\x80\x02t."),
        "mark_left": whole(raw=b"\x80\x02N(."),
        "mark_guards": whole(raw=b"\x80\x02N(\x85."),
        "memo_missing": whole(raw=b"\x80\x02h\x05."),
        "memo_far": whole(raw=b"\x80\x02Nr\xff\xff\xff\x7f."),
        "memo_nothing": whole(raw=b"\x80\x02q\x00."),
        "append_text": whole(raw=b"\x80\x02" + text("a") + b"Na."),
        "setitem_list": whole(raw=b"\x80\x02]NNs."),
        "setitems_odd": whole(raw=b"\x80\x02}(Nu."),
        "text_long": whole(raw=b"\x80\x02X\xff\xff\xff\xff."),
        "text_long_8": whole(raw=b"\x80\x04\x8d" + b"\xff" * 8 + b"."),
        "long_long": whole(raw=b"\x80\x02\x8b\xff\xff\xff\x7f."),
        "nested_deep": whole(raw=b"\x80\x02" + deep + b"."),
        "nested_tuples": whole(raw=b"\x80\x02(Nq\x00" + pool + b"t."),
        "contains_itself": whole(raw=b"\x80\x02}q\x00" + text("model") + b"h\x00s."),
        # Persistent ids.
        "id_text": whole(raw=b"\x80\x02" + text("0") + b"Q."),
        "id_short": whole(raw=b"\x80\x02" + text("storage") + b"\x85Q."),
        "id_module": whole(many(text("module"), b"N", b"N", b"N", b"N") + b"Q"),
        "id_class": whole(many(text("storage"), name("torch", "Size"), text("0"), text("cpu"), number(2)) + b"Q"),
        "id_key": whole(many(text("storage"), name("torch", "FloatStorage"), number(0), text("cpu"), number(2)) + b"Q"),
        "id_negative": whole(state(a=tensor(storage(elements=-2)))),
        "id_huge": whole(state(a=tensor(storage(elements=2**62)))),
        # Tensors.
        "tensor_arguments": whole(name("torch._utils", "_rebuild_tensor_v2") + b"N\x85R"),
        "tensor_no_storage": whole(state(a=tensor(of=b"N"))),
        "tensor_offset_negative": whole(state(a=tensor(offset=-1))),
        "tensor_offset_wraps": whole(state(a=tensor(offset=2**62))),
        "tensor_shape_none": whole(name("torch._utils", "_rebuild_tensor_v2") + many(storage(), number(0), b"N", b"N", b"\x89", HOOKS) + b"R"),
        "tensor_shape_negative": whole(state(a=tensor(shape=(-2,)))),
        "tensor_shape_wraps": whole(state(a=tensor(shape=(2**32, 2**32), strides=(2**32, 1)))),
        "tensor_shape_bits": whole(state(a=tensor(shape=(2**60,)))),
        "tensor_rank": whole(state(a=tensor(shape=(1,) * 65, strides=(1,) * 65))),
        "tensor_strides_fewer": whole(state(a=tensor(shape=(1, 2), strides=(1,)))),
        "tensor_strided_past_storage": whole(state(a=tensor(shape=(2, 2), strides=(1, 2)))),
        "tensor_stride_negative": whole(state(a=tensor(shape=(2,), strides=(-1,)))),
        "tensor_stride_wraps": whole(state(a=tensor(shape=(3, 2), strides=(2**63 - 1, 1)))),
        "tensor_expanded_far": whole(state(a=tensor(shape=(2**40, 2**40), strides=(0, 0)))),
        "tensor_sparse": saved({"w": torch.eye(2).to_sparse()}),
        "tensor_quantized": saved({"w": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}),
        "tensor_meta": saved({"w": torch.empty(2, device="meta")}),
        "tensor_complex128": saved({"w": torch.ones(2, dtype=torch.complex128)}),
        "tensor_complex32": saved({"w": torch.zeros(2, dtype=torch.complex32)}),
        "tensor_past_storage": whole(state(a=tensor(offset=1))),
        "tensor_untyped": whole(state(a=tensor(storage(kind=name("torch.storage", "UntypedStorage"), elements=8)))),
        "tensor_dtype": whole(state(a=tensor(storage(kind=name("torch.storage", "UntypedStorage"), elements=8), dtype=b"N"))),
        "tensor_from_type": whole(name("torch._tensor", "_rebuild_from_type_v2") + many(b"N", b"N", b")", b"N") + b"R"),
        "tensor_negated": saved({"w": torch._neg_view(torch.arange(6.0))}),
        "tensor_conjugated": saved({"z": torch.ones(3, dtype=torch.complex64).conj()}),
        "tensor_both_bits": saved({"z": torch._neg_view(torch.ones(3, dtype=torch.complex64).conj())}),
        "tensor_negated_v3": whole(state(a=tensor(storage(kind=name("torch.storage", "UntypedStorage"), elements=8),
                                                  dtype=name("torch", "float32"), metadata=flags(neg=True)))),
        "tensor_metadata": whole(state(a=tensor(metadata=b"\x88"))),
        "tensor_metadata_key": whole(state(a=tensor(metadata=b"}" + number(1) + b"\x88s"))),
        "tensor_metadata_unknown": whole(state(a=tensor(metadata=flags(zeroed=True)))),
        "parameter_of_nothing": whole(name("torch._utils", "_rebuild_parameter") + b"N\x85R"),
        "storage_missing": whole(state(a=tensor(storage("7")))),
        "storage_short": whole(data=EIGHT[:6]),
        # Names and dicts.
        "name_empty": whole(state(**{"": tensor()})),
        "name_long": whole(state(**{"n" * 5000: tensor()})),
        "name_twice": whole(b"}(" + 2 * (text("a") + tensor()) + b"u"),
        "name_tuple": whole(b"}" + number(1) + b"\x85" + tensor() + b"s"),
        "name_number_twice": whole(b"}(" + number(1) + tensor() + text("1") + tensor() + b"u"),
        "root_tensor": whole(tensor()),
        "root_list": whole(b"]" + tensor() + b"a"),
        "root_nothing": whole(b"}" + text("epoch") + number(3) + b"s"),
        "root_several": whole(b"}(" + text("generator") + state(a=tensor()) + text("critic") + state(a=tensor()) + b"u"),
        "root_both": whole(b"}(" + text("model") + state(a=tensor()) + text("state_dict") + state(a=tensor()) + b"u"),
        # The older format.
        "legacy_cut": legacy()[:60],
        "legacy_version": legacy(version=1002),
        "legacy_big_endian": legacy(system=b"}" + text("little_endian") + b"\x89s"),
        "legacy_system": legacy(system=b"N"),
        "legacy_keys": legacy(keys=b"N"),
        "legacy_key_unknown": legacy(keys=b"](" + text("1") + b"e"),
        "legacy_key_twice": legacy(keys=b"](" + text("0") * 2 + b"e", data=EIGHT + struct.pack("<q", 2) + EIGHT),
        "legacy_key_missing": legacy(keys=b"]"),
        "legacy_count": legacy(elements=3),
        "legacy_count_huge": legacy(elements=-1),
        "legacy_data_cut": legacy(data=EIGHT[:4]),
        "legacy_count_cut": legacy()[:-12],
        "legacy_protocol_1": saved({"a": torch.ones(2)}, _use_new_zipfile_serialization=False, pickle_protocol=1),
        "legacy_protocol_6": b"\x80\x06" + legacy()[2:],
        "legacy_conjugated": legacy(metadata=flags(conj=True)),
        "legacy_part_short": legacy(part=many(text("v"), number(0), number(1))),
        "legacy_part_far": legacy(part=many(text("v"), number(2), number(1))),
        "legacy_part_odd": legacy(part=text("v")),
    }


def expected(files):
    lines = []
    for file in sorted(files):
        # Its restricted reader knows protocol 2 alone, and texts of Python 2 as bytes.
        only = "protocol" not in file and "py2_texts" not in file
        loaded = torch.load(io.BytesIO(files[file]), weights_only=only, map_location="cpu")
        if "state_dict" in loaded:
            loaded = loaded["state_dict"]
        for key, value in loaded.items():
            if not isinstance(value, torch.Tensor):
                continue
            raw = bytes(value.detach().contiguous().reshape(-1).view(torch.uint8).tolist()) if value.numel() else b""
            shape = ",".join(map(str, value.shape))
            lines.append(f"{file} {key} {str(value.dtype)[6:]} [{shape}] {raw.hex()}\n")
    return "".join(lines)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "corpus", "torch")
    os.makedirs(folder, exist_ok=True)
    good = valid()
    for file, data in {**good, **broken()}.items():
        with open(os.path.join(folder, file), "wb") as out:
            out.write(data)
    with open(os.path.join(os.path.dirname(folder), "torch_expected.txt"), "w") as out:
        out.write(expected(good))


if __name__ == "__main__":
    main()
