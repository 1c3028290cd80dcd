#!/usr/bin/env python3
"""Write the seed corpora: one small file for each rule, and a few valid ones.

usage: make_corpus.py [FOLDER]      default: corpus/ beside this script

corpus_test.cc says what the parser must answer to each file.
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
    """A file with this header (bytes, or an object) and this many data bytes."""
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
    "ok_space_around": whole(b" \n" + text({"a": F32}) + b"\t\r\n ", 8),
    "ok_metadata_null": whole({"__metadata__": None, "a": F32}, 8),
    "ok_metadata_key_twice": whole(b'{"__metadata__":{"a":"b","a":"c"}}'),
    "ok_entry_unknown_key": whole({"a": {**F32, "strides": [[1], {"b": 2}], "more": None}}, 8),
    "ok_name_twice": whole(b'{"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},'
                           b'"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
                           b'"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}', 2),
    # The frame.
    "file_empty": b"",
    "file_seven_bytes": bytes(7),
    "length_over_limit": whole(b"{}", length=100_000_001),
    "length_wraps": whole(b"{}", length=2**64 - 5),
    "length_past_end": whole(b"{}", length=3),
    "first_byte": whole(b"x{}"),
    "only_space": whole(b"  "),
    "header_empty": whole(b""),
    "padding_not_spaces": whole(b"{}\x0b"),
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
    "metadata_nul": whole(b'{"__metadata__":nul}'),
    "metadata_null_twice": whole(b'{"__metadata__":null,"__metadata__":{}}'),
    # Entries.
    "entry_not_object": whole({"a": [1]}),
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
    "ok_map_twice": b'{"weight_map":{"a":"m.safetensors"},"weight_map":{"b":"m.safetensors"}}',
    "ok_tensor_twice": b'{"weight_map":{"a":"m.safetensors","a":"n.safetensors"}}',
    "ok_folder": index({"a": "sub/m.safetensors", "b": "./n.safetensors"}),
    "not_json": b"{",
    "not_object": b"[]",
    "no_map": text({"metadata": {}}),
    "map_not_object": text({"weight_map": []}),
    "map_empty": index({}),
    "shard_not_string": index({"a": 1}),
    "shard_empty": index({"a": ""}),
    "shard_parent": index({"a": "../m.safetensors"}),
    "shard_dots": index({"a": ".."}),
    "shard_absolute": index({"a": "/m.safetensors"}),
    "shard_up_inside": index({"a": "sub/../../m.safetensors"}),
    "shard_nul": b'{"weight_map":{"a":"m\\u0000.safetensors"}}',
    "shard_bin": index({"a": "pytorch_model.bin"}),
    "trailing": index({"a": "m.safetensors"}) + b"}",
}


# GGUF. Numbers of metadata types and of ggml types as its specification has them.
U8, U32, F32_VALUE, STRING, ARRAY, U64 = 0, 4, 6, 8, 9, 10
GGML_F32, GGML_Q4_0, GGML_Q4_2, GGML_Q2_K = 0, 2, 4, 10


def string(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(key, kind, payload):
    return string(key) + struct.pack("<I", kind) + payload


def u32(key, number):
    return value(key, U32, struct.pack("<I", number))


def tensor(name="a", dims=(2,), kind=GGML_F32, offset=0):
    return (string(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
            + struct.pack("<IQ", kind, offset))


def gguf(values=(), tensors=(), data=0, magic=b"GGUF", version=3, value_count=None,
         tensor_count=None, alignment=32):
    """A file with these values and tensors, padded, and this many data bytes."""
    head = magic + struct.pack("<IQQ", version,
                               len(tensors) if tensor_count is None else tensor_count,
                               len(values) if value_count is None else value_count)
    head += b"".join(values) + b"".join(tensors)
    return head + bytes(-len(head) % alignment + data if data else 0)


ARRAY_OF_TWO = struct.pack("<IQ", U8, 2) + b"\1\2"

GGUF = {
    # Valid.
    "ok_empty": gguf(),
    "ok_version_2": gguf(version=2),
    "ok_values": gguf([u32("a", 1), value("b", STRING, string("text")),
                       value("c", ARRAY, ARRAY_OF_TWO),
                       value("d", ARRAY, struct.pack("<IQ", STRING, 2) + string("x") + string(""))]),
    "ok_tensors": gguf([], [tensor(), tensor("b", (32, 2), GGML_Q4_0, 32), tensor("c", (), offset=96)],
                       100),
    "ok_any_order": gguf([], [tensor("b", offset=32), tensor("a")], 40),
    "ok_hole": gguf([], [tensor(), tensor("b", offset=64)], 72),
    "ok_zero_size": gguf([], [tensor("a", (0, 3)), tensor("b")], 8),
    "ok_alignment": gguf([u32("general.alignment", 8)], [tensor(), tensor("b", offset=8)], 16,
                         alignment=8),
    # The frame.
    "file_empty": b"",
    "file_short": gguf()[:23],
    "magic": gguf(magic=b"GGML"),
    "version_1": gguf(version=1),
    "version_4": gguf(version=4),
    "big_endian": gguf(version=3 << 24),
    "tensor_count": gguf(tensor_count=2**64 - 1),
    "tensor_count_one_more": gguf([], [tensor()], tensor_count=2),
    "value_count": gguf(value_count=2**61),
    "value_count_one_more": gguf([u32("a", 1)], value_count=2),
    # Metadata.
    "key_empty": gguf([u32("", 1)]),
    "key_length_wraps": gguf([struct.pack("<Q", 2**64 - 8) + bytes(16)]),
    "key_past_end": gguf([struct.pack("<Q", 60000) + bytes(16)]),
    "key_twice": gguf([u32("a", 1), u32("a", 1)]),
    "value_type": gguf([value("a", 13, bytes(8))]),
    "value_truncated": gguf([value("a", U64, bytes(4))]),
    "string_length_wraps": gguf([value("a", STRING, struct.pack("<Q", 2**64 - 1))]),
    "string_past_end": gguf([value("a", STRING, struct.pack("<Q", 5) + b"four")]),
    "array_count_wraps": gguf([value("a", ARRAY, struct.pack("<IQ", U64, 2**61))]),
    "array_of_strings_count": gguf([value("a", ARRAY, struct.pack("<IQ", STRING, 2**60))]),
    "array_of_strings_past_end": gguf([value("a", ARRAY, struct.pack("<IQQ", STRING, 1, 2**63))]),
    "array_nested": gguf([value("a", ARRAY, struct.pack("<IQ", ARRAY, 1) + ARRAY_OF_TWO)]),
    "array_type": gguf([value("a", ARRAY, struct.pack("<IQ", 99, 1))]),
    "alignment_zero": gguf([u32("general.alignment", 0)]),
    "alignment_odd": gguf([u32("general.alignment", 24)]),
    "alignment_huge": gguf([value("general.alignment", U64, struct.pack("<Q", 2**63))], [tensor()], 8),
    "alignment_float": gguf([value("general.alignment", F32_VALUE, struct.pack("<f", 32))]),
    # Tensors.
    "name_empty": gguf([], [tensor("")], 8),
    "name_length_wraps": gguf([], [struct.pack("<Q", 2**64 - 1) + bytes(24)]),
    "name_twice": gguf([], [tensor(), tensor(offset=32)], 40),
    "rank": gguf([], [tensor("a", (1, 1, 1, 1, 2))], 8),
    "rank_huge": gguf([], [string("a") + struct.pack("<I", 2**32 - 1) + bytes(32)]),
    "ok_q2_k": gguf([], [tensor("a", (256,), GGML_Q2_K)], 84),
    "type_removed": gguf([], [tensor("a", (256,), GGML_Q4_2)], 160),
    "type_unknown": gguf([], [tensor("a", (256,), 2**32 - 1)], 84),
    "shape_wraps": gguf([], [tensor("a", (2**32, 2**32))], 8),
    "shape_wraps_by_type": gguf([], [tensor("a", (2**62,))], 8),
    "row_cuts_block": gguf([], [tensor("a", (48, 2), GGML_Q4_0)], 54),
    "scalar_of_blocks": gguf([], [tensor("a", (), GGML_Q4_0)], 18),
    "offset_unaligned": gguf([], [tensor(offset=8)], 16),
    "offset_past_end": gguf([], [tensor(offset=2**40)], 8),
    "offset_wraps": gguf([], [tensor(offset=2**64 - 32)], 8),
    "offset_and_size_wrap": gguf([], [tensor("a", (2**58,), offset=2**64 - 2**60)], 8),
    "overlap": gguf([], [tensor("a", (16,)), tensor("b", offset=32)], 64),
    "same_place": gguf([], [tensor(), tensor("b")], 8),
    "data_truncated": gguf([], [tensor()], 8)[:-1],
    "no_data": gguf([], [tensor()]),
}


# A form, its rows and columns, and the bytes that its stored tensors are filled with.
STATE = b'{"nested_offset": 0.0456, "blocksize":64'
WEIGHT_TABLES = {
    "gptq": bytes([0, 0, 0]) + bytes(4),
    "gptq_group_negative": bytes([0, 0, 0]) + b"\xff" * 4,
    "gptq_group_too_large": bytes([0, 0, 0]) + b"\x02" * 4,
    "awq": bytes([1, 1, 1]) + bytes(range(1, 60)),
    "fp8_blocks": bytes([2, 3, 1]) + bytes(range(200)),
    "packed": bytes([3, 1, 0]) + bytes(4),
    "nvfp4": bytes([4, 2, 1]) + bytes(range(100, 140)),
    # The text stands at byte 1356 of a weight of 8 x 64.
    "bnb4_offset": bytes([5, 0, 0]) + STATE[-1356 % 40 :] + STATE[: -1356 % 40],
    "bnb4_no_offset": bytes([5, 0, 0]) + b"x" * 40,
    "bnb8": bytes([6, 7, 3]) + bytes(range(31)),
    "int8_zeros": bytes([7, 1, 1]) + bytes(range(90, 130)),
    "mxfp4": bytes([8, 4, 2]) + bytes(range(256)),
}


def checksums(shards=None, tensors=None, **changes):
    """A checksum file for the model in checksums_model.h: two F32 scalars in m.safetensors."""
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
    for folder, files in (
        ("safetensors", SAFETENSORS),
        ("shard_index", SHARD_INDEX),
        ("gguf", GGUF),
        ("weight_tables", WEIGHT_TABLES),
        ("checksums", CHECKSUMS),
    ):
        os.makedirs(os.path.join(root, folder), exist_ok=True)
        for name, data in files.items():
            with open(os.path.join(root, folder, name), "wb") as out:
                out.write(data)


if __name__ == "__main__":
    main()
