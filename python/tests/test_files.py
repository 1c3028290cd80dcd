"""load_file() and safe_open() give what safetensors gives, and more: memory that outlives, may be
written to, and goes tensor by tensor."""

import gc
import json
import os
import pathlib
import struct
import threading

import pytest
import safetensors
import safetensors.torch
import torch

import berth

from conftest import anonymous_bytes

DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.uint16,
    torch.float16,
    torch.bfloat16,
    torch.int32,
    torch.uint32,
    torch.float32,
    torch.float64,
    torch.int64,
    torch.uint64,
    torch.float8_e5m2,
    torch.float8_e4m3fn,
    torch.float8_e8m0fnu,
    torch.complex64,
]


def random_tensor(dtype, *shape):
    if dtype == torch.bool:
        return torch.randint(0, 2, shape).bool()
    if dtype.is_complex:
        return torch.randn(*shape, dtype=dtype)
    size = torch.empty(0, dtype=dtype).element_size()
    data = torch.randint(0, 256, (*shape[:-1], shape[-1] * size), dtype=torch.uint8)
    return data.view(dtype) if dtype != torch.uint8 else data


def same(a, b):
    """Bit for bit, NaNs too."""
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and torch.equal(
            a.contiguous().reshape(-1).view(torch.uint8), b.contiguous().reshape(-1).view(torch.uint8)
        )
    )


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    named = {}
    for i, dtype in enumerate(DTYPES):
        named[f"layer.{i}.weight"] = random_tensor(dtype, 3, 5, 8)
        named[f"layer.{i}.bias"] = random_tensor(dtype, 7)
        named[f"layer.{i}.scale"] = random_tensor(dtype, 1).reshape(())
        named[f"layer.{i}.none"] = torch.empty((0, 4), dtype=dtype)
    named["ünïcode"] = torch.arange(5)
    return named


@pytest.fixture
def file(tensors, tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})
    return path


@pytest.mark.parametrize("memory", ["mmap", "private"])
def test_load_file_equals_safetensors(file, tensors, memory):
    found = berth.load_file(file, memory=memory)
    expected = safetensors.torch.load_file(file)
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert same(found[name], tensor), name
        assert same(found[name], tensors[name]), name
        assert found[name].device.type == "cpu" and found[name].is_contiguous()


def test_load_file_of_plain_dtypes(tmp_path):
    plain = {f"t{i}": torch.randn(i, 3) for i in range(40)}
    path = tmp_path / "plain.safetensors"
    safetensors.torch.save_file(plain, path)
    for _ in range(3):
        found = berth.load_file(str(path))
        assert all(torch.equal(found[name], tensor) for name, tensor in plain.items())


@pytest.mark.parametrize("wanted", [torch.float32, torch.float16, torch.bfloat16, "float64"])
def test_load_file_converts_floats(tmp_path, wanted):
    stored = {
        "a": torch.randn(33, 5),
        "b": torch.randn(9).bfloat16(),
        "c": torch.randn(2, 2, 2).half(),
        "d": torch.arange(4),
    }
    path = tmp_path / "mixed.safetensors"
    safetensors.torch.save_file(stored, path)
    found = berth.load_file(path, dtype=wanted)
    kind = getattr(torch, wanted) if isinstance(wanted, str) else wanted
    for name, tensor in stored.items():
        assert same(found[name], tensor.to(kind) if tensor.is_floating_point() else tensor), name


@pytest.mark.parametrize("memory", ["mmap", "private"])
def test_tensors_outlive_everything_and_are_freed(tmp_path, memory, held):
    path = tmp_path / "model.safetensors"
    large = torch.randn(8 << 20)  # 32 MiB
    safetensors.torch.save_file({"large": large, "small": torch.arange(6)}, path)
    found = berth.load_file(path, memory=memory)
    view = found["large"][1000:2000].view(10, 100)
    small = found["small"]
    del found
    os.remove(path)
    gc.collect()
    assert torch.equal(view.flatten(), large[1000:2000])
    view.fill_(1.0)
    assert torch.equal(small, torch.arange(6))
    del view, small
    gc.collect()


@pytest.mark.parametrize("memory", ["mmap", "private"])
def test_one_tensor_does_not_pin_the_others(tmp_path, memory):
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({f"t{i}": torch.randn(4 << 20) for i in range(4)}, path)
    gc.collect()
    before = anonymous_bytes()
    found = berth.load_file(path, memory=memory)
    for tensor in found.values():
        tensor.add_(1)  # private pages, also of a mapping
    assert anonymous_bytes() - before > 60 << 20
    kept = found["t2"]
    wanted = kept.clone()
    del found, tensor
    gc.collect()
    assert anonymous_bytes() - before < (2 * 16 + 8) << 20  # kept and wanted
    assert torch.equal(kept, wanted)


@pytest.mark.parametrize("memory", ["mmap", "private"])
def test_edits_stay_in_memory(file, memory):
    before = file.read_bytes()
    found = berth.load_file(file, memory=memory)
    for tensor in found.values():
        tensor.zero_()
    assert file.read_bytes() == before
    again = berth.load_file(file)
    assert all(same(again[name], t) for name, t in safetensors.torch.load_file(file).items())


def test_tensors_can_be_trained(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"w": torch.ones(4)}, path)
    weight = torch.nn.Parameter(berth.load_file(path)["w"])
    (weight * 2).sum().backward()
    torch.optim.SGD([weight], lr=0.5).step()
    assert torch.equal(weight.detach(), torch.zeros(4))


def test_folders_shards_and_several_files(tmp_path):
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    parts = [{"a": torch.randn(3)}, {"b": torch.randn(4), "c": torch.randn(2)}]
    for name, part in zip(names, parts):
        safetensors.torch.save_file(part, tmp_path / name)
    index = {key: name for name, part in zip(names, parts) for key in part}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    whole = {**parts[0], **parts[1]}
    for argument in (tmp_path, [tmp_path / name for name in names]):
        found = berth.load_file(argument)
        assert found.keys() == whole.keys()
        assert all(torch.equal(found[key], whole[key]) for key in whole)


def test_files_of_torch(tmp_path):
    base = torch.randn(6, 4)
    stored = {"base": base, "row": base[2], "turned": base.T, "tied": base, "half": base.half()}
    torch.save(stored, tmp_path / "model.bin")
    for memory in ("mmap", "private"):
        found = berth.load_file(tmp_path / "model.bin", memory=memory)
        assert found.keys() == stored.keys()
        for name, tensor in stored.items():
            assert same(found[name], tensor.contiguous()), name


def test_float4(tmp_path):
    if not hasattr(torch, "float4_e2m1fn_x2"):
        pytest.skip("this torch has no float4")
    header = json.dumps({"w": {"dtype": "F4", "shape": [2, 8], "data_offsets": [0, 8]}}).encode()
    path = tmp_path / "four.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(range(8)))
    found = berth.load_file(path)["w"]
    assert found.dtype == torch.float4_e2m1fn_x2 and found.shape == (2, 4)
    assert bytes(found.view(torch.uint8).flatten().tolist()) == bytes(range(8))


# ---- safe_open


def test_safe_open_equals_safetensors(file):
    with berth.safe_open(file, framework="pt") as ours:
        with safetensors.safe_open(file, framework="pt") as theirs:
            assert ours.keys() == list(theirs.keys())
            assert ours.offset_keys() == list(theirs.offset_keys())
            assert ours.metadata() == theirs.metadata() == {"format": "pt"}
            for name in ours.keys():
                assert same(ours.get_tensor(name), theirs.get_tensor(name)), name
                a, b = ours.get_slice(name), theirs.get_slice(name)
                assert a.get_shape() == b.get_shape() and a.get_dtype() == b.get_dtype()
            every = ours.get_tensors()
            assert list(every) == ours.offset_keys()
            kept = ours.get_tensor("layer.9.weight")
    assert same(kept, every["layer.9.weight"])


@pytest.mark.parametrize(
    "key",
    [
        slice(None),
        slice(1, 3),
        (slice(None), slice(2, 4)),
        (slice(0, 2), slice(None), slice(None, None, 2)),
        (1, 2),
        (Ellipsis, 3),
        -1,
    ],
)
def test_slices(file, key):
    with berth.safe_open(file, "pt") as ours, safetensors.safe_open(file, "pt") as theirs:
        for name in ("layer.9.weight", "layer.6.weight"):
            assert same(ours.get_slice(name)[key], theirs.get_slice(name)[key])


def test_safe_open_for_numpy(tmp_path):
    stored = {"a": torch.randn(3, 4), "b": torch.arange(5), "c": torch.randn(2).half()}
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(stored, path)
    with berth.safe_open(path, framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}
        part = file.get_slice("a")[1:, :2]
    gc.collect()
    for name, tensor in stored.items():
        assert (arrays[name] == tensor.numpy()).all()
        arrays[name][...] = 0  # may be written to
    assert part.shape == (2, 2)


def test_a_closed_file_says_so(file):
    with berth.safe_open(file) as opened:
        part = opened.get_slice("layer.0.weight")
    for use in (opened.keys, opened.metadata, lambda: opened.get_tensor("x"), lambda: part[0]):
        with pytest.raises(berth.Error, match="the file is closed"):
            use()


def test_two_threads_read_one_file(file):
    expected = safetensors.torch.load_file(file)
    failures = []

    def work(opened):
        for name in opened.keys() * 5:
            if not same(opened.get_tensor(name), expected[name]):
                failures.append(name)

    with berth.safe_open(file) as opened:
        threads = [threading.Thread(target=work, args=(opened,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


# ---- What goes wrong


def test_errors_have_names(file, tmp_path):
    with pytest.raises(berth.NoSuchFile, match="none.safetensors: no such file") as error:
        berth.load_file(tmp_path / "none.safetensors")
    assert isinstance(error.value, FileNotFoundError)
    with pytest.raises(berth.Error, match="has no tensor 'none'"):
        berth.safe_open(file).get_tensor("none")
    with pytest.raises(berth.UsageError, match="neither 'mmap' nor 'private'"):
        berth.load_file(file, memory="paper")
    with pytest.raises(berth.UsageError):
        berth.load_file(file, dtype=torch.int64)
    with pytest.raises(berth.UsageError, match="float17: is no dtype"):
        berth.load_file(file, dtype="float17")
    with pytest.raises(berth.UsageError, match="no file is named"):
        berth.load_file([])
    with pytest.raises(berth.UsageError, match="has a zero byte inside"):
        berth.load_file(f"{file}\0.txt")
    with pytest.raises(berth.UsageError):
        berth.safe_open(file, framework="tf")


def test_broken_files(file, tmp_path, held):
    whole = file.read_bytes()
    for size in (0, 5, 100, len(whole) - 1):
        broken = tmp_path / "broken.safetensors"
        broken.write_bytes(whole[:size])
        with pytest.raises(berth.BrokenFile, match="broken.safetensors"):
            berth.load_file(broken)
    opened = berth.safe_open(file, backend="pread")
    file.write_bytes(whole[:-10])
    with pytest.raises(berth.BrokenFile, match="changed since its header was read"):
        opened.get_tensor("layer.9.weight")
    del opened
    gc.collect()


def test_too_large_for_this_machine(tmp_path, held):
    """Nothing is read and no memory is taken: the file is a hole."""
    size = 1 << 40
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    try:
        os.truncate(path, 8 + len(header) + size)
    except OSError:
        pytest.skip("this file system has no files of 1 TiB")
    with pytest.raises(berth.DoesNotFit, match="are free now"):
        berth.load_file(path, memory="private")


def test_ctrl_c_stops_a_load(tmp_path, ctrl_c_while_reading, held):
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"w": torch.randn(4 << 20)}, path)
    pressed = ctrl_c_while_reading
    with pytest.raises(KeyboardInterrupt):
        berth.load_file(path, memory="private")
        threading.Event().wait(10)  # the signal is on its way, should the load have been quicker
    assert pressed
    gc.collect()
    assert torch.isfinite(berth.load_file(path, memory="private")["w"]).all()


def test_loads_on_other_threads(file):
    found = []
    thread = threading.Thread(target=lambda: found.append(berth.load_file(file, memory="private")))
    thread.start()
    thread.join()
    assert same(found[0]["ünïcode"], torch.arange(5))


def test_files_of_a_process_that_ends(file):
    """Tensors that live at the end of a process do not disturb it."""
    import subprocess
    import sys

    code = f"""
import sys
sys.path[:0] = {sys.path!r}
import berth
kept = berth.load_file({str(file)!r})
opened = berth.safe_open({str(file)!r})
part = opened.get_tensor("layer.0.weight")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert pathlib.Path(file).exists()
