#!/usr/bin/env python3
"""Write the seed corpora: one small file for each rule, and a few valid ones.

usage: make_corpus.py [FOLDER]      default: corpus/ beside this script

safetensors_corpus_test.cc says what the parser must answer to each file.
"""
import json
import os
import struct
import sys

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def entry(**changes):
    return {k: v for k, v in {**F32, **changes}.items() if v is not None}


def text(tensors):
    return json.dumps(tensors, separators=(",", ":")).encode()


def whole(header, data=0, length=None):
    """A file with this header (bytes, or an object) and so many data bytes."""
    raw = header if isinstance(header, bytes) else text(header)
    return struct.pack("<Q", len(raw) if length is None else length) + raw + bytes(data)


SAFETENSORS = {
    # Valid.
    "ok_empty": whole(b"{}"),
    "ok_metadata": whole({"__metadata__": {"format": "pt"}, "a": F32}, 8),
    "ok_padded": whole(text({"a": F32}) + b"   ", 8),
    "ok_scalar": whole({"a": entry(shape=[], data_offsets=[0, 4])}, 4),
    "ok_zero_size": whole({"a": entry(shape=[0, 3], data_offsets=[0, 0]), "b": F32}, 8),
    "ok_any_order": whole({"b": entry(data_offsets=[8, 16]), "a": F32}, 16),
    "ok_unaligned": whole({"a": entry(dtype="U8", shape=[3], data_offsets=[0, 3]),
                           "b": entry(data_offsets=[3, 11])}, 11),
    "ok_f4": whole({"a": entry(dtype="F4", shape=[3, 2], data_offsets=[0, 3])}, 3),
    "ok_escaped_name": whole(b'{"a\\u0062":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1),
    # The frame.
    "file_empty": b"",
    "file_seven_bytes": bytes(7),
    "length_over_limit": whole(b"{}", length=100_000_001),
    "length_wraps": whole(b"{}", length=2**64 - 5),
    "length_past_end": whole(b"{}", length=3),
    "first_byte": whole(b" {}"),
    "header_empty": whole(b""),
    "padding_not_spaces": whole(b"{}\n"),
    "padding_nul": whole(b"{}\0"),
    "not_utf8": whole(b'{"a\xff":1}'),
    "not_json": whole(b'{"a":}'),
    "unclosed": whole(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}', 1),
    "second_object": whole(b"{}{}"),
    "array": whole(b"[]"),
    # Metadata.
    "metadata_not_object": whole({"__metadata__": 1}),
    "metadata_not_strings": whole({"__metadata__": {"a": 1}}),
    "metadata_nested": whole({"__metadata__": {"a": {"b": "c"}}}),
    "metadata_twice": whole(b'{"__metadata__":{},"__metadata__":{}}'),
    "metadata_key_twice": whole(b'{"__metadata__":{"a":"b","a":"c"}}'),
    # Entries.
    "entry_not_object": whole({"a": [1]}),
    "entry_unknown_key": whole({"a": {**F32, "strides": [1]}}, 8),
    "entry_key_twice": whole(b'{"a":{"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,1]}}', 1),
    "entry_no_dtype": whole({"a": entry(dtype=None)}, 8),
    "entry_no_shape": whole({"a": entry(shape=None)}, 8),
    "entry_no_offsets": whole({"a": entry(data_offsets=None)}, 8),
    "name_empty": whole({"": F32}, 8),
    "name_long": whole({"n" * 5000: F32}, 8),
    "name_twice": whole(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
                        b'"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}', 2),
    "name_twice_escaped": whole(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
                                b'"\\u0061":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}', 2),
    "dtype_unknown": whole({"a": entry(dtype="I4")}, 8),
    "dtype_not_string": whole({"a": entry(dtype=32)}, 8),
    "shape_not_array": whole({"a": entry(shape=2)}, 8),
    "shape_negative": whole({"a": entry(shape=[-2])}, 8),
    "shape_float": whole({"a": entry(shape=[2.0])}, 8),
    "shape_exponent": whole(b'{"a":{"dtype":"F32","shape":[2e0],"data_offsets":[0,8]}}', 8),
    "shape_string": whole({"a": entry(shape=["2"])}, 8),
    "shape_nested": whole({"a": entry(shape=[[2]])}, 8),
    "shape_too_big": whole(b'{"a":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,8]}}', 8),
    "shape_rank": whole({"a": entry(shape=[1] * 64 + [2])}, 8),
    "shape_wraps_to_zero": whole({"a": entry(shape=[2**32, 2**32], data_offsets=[0, 0])}),
    "shape_bits_wrap": whole({"a": entry(shape=[2**60], data_offsets=[0, 0])}),
    "f4_odd": whole({"a": entry(dtype="F4", shape=[2, 3], data_offsets=[0, 3])}, 3),
    "f6_part_byte": whole({"a": entry(dtype="F6_E2M3", shape=[3], data_offsets=[0, 2])}, 2),
    # Offsets.
    "offsets_not_array": whole({"a": entry(data_offsets=8)}, 8),
    "offsets_one": whole({"a": entry(data_offsets=[8])}, 8),
    "offsets_three": whole({"a": entry(data_offsets=[0, 8, 8])}, 8),
    "offsets_negative": whole({"a": entry(data_offsets=[-8, 0])}, 8),
    "offsets_float": whole({"a": entry(data_offsets=[0, 8.5])}, 8),
    "offsets_backwards": whole({"a": entry(data_offsets=[8, 0])}, 8),
    "offsets_span": whole({"a": entry(data_offsets=[0, 7])}, 7),
    "offsets_begin_late": whole({"a": entry(data_offsets=[4, 12])}, 12),
    "offsets_hole": whole({"a": F32, "b": entry(data_offsets=[12, 20])}, 20),
    "offsets_overlap": whole({"a": F32, "b": entry(data_offsets=[4, 12])}, 12),
    "offsets_same": whole({"a": F32, "b": F32}, 8),
    "offsets_wrap": whole(b'{"a":{"dtype":"U8","shape":[18446744073709551615],'
                          b'"data_offsets":[0,18446744073709551615]}}'),
    "data_truncated": whole({"a": F32}, 7),
    "data_surplus": whole({"a": F32}, 9),
}


def index(weight_map):
    return text({"metadata": {"total_size": 8}, "weight_map": weight_map})


SHARD_INDEX = {
    "ok": index({"a": "m-1.safetensors", "b": "m-2.safetensors"}),
    "not_json": b"{",
    "not_object": b"[]",
    "no_map": text({"metadata": {}}),
    "map_twice": b'{"weight_map":{"a":"m.safetensors"},"weight_map":{"b":"m.safetensors"}}',
    "map_not_object": text({"weight_map": []}),
    "map_empty": index({}),
    "shard_not_string": index({"a": 1}),
    "shard_empty": index({"a": ""}),
    "shard_parent": index({"a": "../m.safetensors"}),
    "shard_dots": index({"a": ".."}),
    "shard_absolute": index({"a": "/m.safetensors"}),
    "shard_folder": index({"a": "sub/m.safetensors"}),
    "shard_nul": b'{"weight_map":{"a":"m\\u0000.safetensors"}}',
    "shard_bin": index({"a": "pytorch_model.bin"}),
    "tensor_twice": b'{"weight_map":{"a":"m.safetensors","a":"m.safetensors"}}',
    "trailing": index({"a": "m.safetensors"}) + b"}",
}


def checksums(shards=None, tensors=None, **changes):
    """Of the model in checksums_model.h: two F32 scalars in m.safetensors."""
    whole = {"format": "berth-checksums-1",
             "algorithm": "xxh3-128 of the xxh3-128 of each 262144-byte block",
             "shards": [{"file": "m.safetensors", "bytes": 24}] if shards is None else shards,
             "tensors": [tensor_sum("a", 16), tensor_sum("b", 20)] if tensors is None else tensors}
    whole.update(changes)
    return text({key: value for key, value in whole.items() if value is not None})


def tensor_sum(name, begin, **changes):
    return {"name": name, "shard": 0, "begin": begin, "end": begin + 4, "dtype": "F32",
            "xxh3": "99aa06d3014798d86001c324468d497f", **changes}


CHECKSUMS = {
    "ok": checksums(),
    "not_json": b"{",
    "array": b"[]",
    "other_format": checksums(format="berth-checksums-2"),
    "other_algorithm": checksums(algorithm="md5"),
    "no_format": checksums(format=None),
    "no_shards": checksums(shards={}),
    "shard_missing": checksums(shards=[]),
    "shard_renamed": checksums(shards=[{"file": "n.safetensors", "bytes": 24}]),
    "shard_grew": checksums(shards=[{"file": "m.safetensors", "bytes": 23}]),
    "shard_twice": checksums(shards=[{"file": "m.safetensors", "bytes": 24}] * 2),
    "shard_negative": checksums(shards=[{"file": "m.safetensors", "bytes": -24}]),
    "tensor_missing": checksums(tensors=[tensor_sum("a", 16)]),
    "tensor_surplus": checksums(tensors=[tensor_sum("a", 16), tensor_sum("b", 20), tensor_sum("c", 24)]),
    "tensor_moved": checksums(tensors=[tensor_sum("a", 16), tensor_sum("b", 21)]),
    "tensor_dtype": checksums(tensors=[tensor_sum("a", 16, dtype="I32"), tensor_sum("b", 20)]),
    "digest_short": checksums(tensors=[tensor_sum("a", 16, xxh3="99aa"), tensor_sum("b", 20)]),
    "digest_number": checksums(tensors=[tensor_sum("a", 16, xxh3=1), tensor_sum("b", 20)]),
}


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")
    for folder, files in (("safetensors", SAFETENSORS), ("shard_index", SHARD_INDEX),
                          ("checksums", CHECKSUMS)):
        os.makedirs(os.path.join(root, folder), exist_ok=True)
        for name, data in files.items():
            with open(os.path.join(root, folder, name), "wb") as out:
                out.write(data)


if __name__ == "__main__":
    main()
