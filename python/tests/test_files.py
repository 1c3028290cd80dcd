"""load_file() and safe_open() give what safetensors gives, and more: memory that outlives, may be
written to, and goes tensor by tensor."""

import gc
import json
import os
import pathlib
import pickle
import signal
import struct
import subprocess
import sys
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


def written(path, header, data=b""):
    """A safetensors file of a header that no writer would write."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


# ---- Calls as they are made of safetensors


def test_load_file_takes_what_safetensors_takes(file):
    for options in ({"backend": "pread"}, {"backend": "mmap"}, {"device": None}):
        ours, theirs = berth.load_file(file, **options), safetensors.torch.load_file(file, **options)
        assert list(ours) == list(theirs)
        assert all(same(ours[name], theirs[name]) for name in theirs)
    with berth.safe_open(file, "pt", None, backend="pread") as opened:
        assert same(opened.get_tensor("ünïcode"), torch.arange(5))


@pytest.mark.parametrize("device", ["disk", "CPU", "cuda:x", -1, 1.5, "npu:0"])
def test_what_is_no_device_is_refused(file, device):
    for call in (lambda: berth.load_file(file, device=device),
                 lambda: berth.safe_open(file, device=device)):
        with pytest.raises(berth.UsageError, match="is no device of torch"):
            call()


@pytest.mark.parametrize("framework", ["tf", "tensorflow", "jax", "flax", "mlx", "paddle"])
def test_other_frameworks_are_told_what_to_do(file, framework):
    with pytest.raises(berth.UsageError, match=f"{framework} makes its own of the latter"):
        berth.safe_open(file, framework)


@pytest.mark.parametrize("value", [None, 3, 1.5, object(), [3], [None]])
def test_what_is_no_path_is_refused(value):
    with pytest.raises(berth.UsageError, match="is no path|is neither a path nor several"):
        berth.load_file(value)
    with pytest.raises(berth.UsageError, match="is no path"):
        berth.safe_open(value)


def test_paths_that_cannot_be(file):
    for empty in ("", b""):
        for call in (berth.load_file, berth.safe_open, berth.plan):
            with pytest.raises(berth.NoSuchFile, match="'': the name of the .* is empty"):
                call(empty)
    with pytest.raises(berth.UsageError, match="has characters that no path can have"):
        berth.load_file("\ud800")
    with open(file, "rb") as opened, pytest.raises(berth.UsageError, match="is neither a path"):
        berth.load_file(opened)


def test_names_that_are_no_texts_are_refused(file):
    with berth.safe_open(file) as opened:
        for name in (3, None, ["a"]):
            for call in (opened.get_tensor, opened.get_slice):
                with pytest.raises(berth.UsageError, match="is no name of a tensor"):
                    call(name)


@pytest.mark.parametrize("name", ["a\0b", "\0", "a\nb", "a b", "😀", "a.b[0]", "'", "a" * 500, "/..//"])
def test_odd_names(tmp_path, name):
    path = tmp_path / "odd.safetensors"
    safetensors.torch.save_file({name: torch.arange(3), "plain": torch.ones(2)}, path)
    assert list(berth.load_file(path)) == list(safetensors.torch.load_file(path))
    with berth.safe_open(path) as opened:
        assert torch.equal(opened.get_tensor(name), torch.arange(3))


def test_names_with_half_a_surrogate_pair(tmp_path):
    """PyTorch writes what is no UTF-8."""
    torch.save({"a\ud800": torch.arange(3)}, tmp_path / "odd.bin")
    assert list(berth.load_file(tmp_path / "odd.bin")) == ["a\ud800"]


@pytest.mark.parametrize("header, expected", [
    ({}, None), ({"__metadata__": {}}, {}), ({"__metadata__": None}, None),
    ({"__metadata__": {"a": "1", "ü": "\n"}}, {"a": "1", "ü": "\n"}),
    (b'{"__metadata__":{"a":"1","a":"2"}}', {"a": "2"}), (b"{}   ", None),
])
def test_files_without_tensors(tmp_path, header, expected):
    path = written(tmp_path / "none.safetensors", header)
    assert berth.load_file(path) == safetensors.torch.load_file(path) == {}
    with berth.safe_open(path) as ours, safetensors.safe_open(path, "pt") as theirs:
        assert ours.metadata() == theirs.metadata() == expected
        assert ours.keys() == [] and ours.get_tensors() == {}


def test_a_tensor_that_torch_has_no_dtype_for_is_named(tmp_path):
    header = {"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
              "six": {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [1, 4]}}
    path = written(tmp_path / "six.safetensors", header, b"xxxx")
    with pytest.raises(berth.Error, match="tensor 'six': torch .* has no dtype for F6_E2M3"):
        berth.load_file(path)
    for framework in ("pt", "np"):
        with berth.safe_open(path, framework) as opened:
            assert opened.get_tensor("a")[0] == ord("x")
            with pytest.raises(berth.Error, match="tensor 'six': .* has no dtype for F6_E2M3"):
                opened.get_tensor("six")
            assert opened.get_slice("six").get_dtype() == "F6_E2M3"


@pytest.mark.parametrize("header, data", [
    ({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}, b"xy"),
    ({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}, b"xy"),
    ({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
      "b": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]}}, b"xyz"),
    (b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
     b'"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}', b"xy"),
    (b'{"__metadata__":{"a":1}}', b""), (b'{"a\xff":{}}', b""), (b"<html>", b""), (b"{}\0", b""),
    ({"a": {"dtype": "U9", "shape": [1], "data_offsets": [0, 1]}}, b"x"),
])
def test_what_safetensors_refuses_is_refused(tmp_path, header, data):
    path = written(tmp_path / "broken.safetensors", header, data)
    with pytest.raises(safetensors.SafetensorError):
        safetensors.torch.load_file(path)
    with pytest.raises(berth.BrokenFile, match="broken.safetensors"):
        berth.load_file(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    with pytest.raises(berth.BrokenFile, match="pipe.safetensors"):
        berth.load_file(tmp_path / "pipe.safetensors")


# ---- Open files


def test_an_open_file_is_found_from_another_folder(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    opened = berth.safe_open(file.name)
    private = berth.safe_open(file.name, backend="pread")
    monkeypatch.chdir("/")
    assert opened.metadata() == {"format": "pt"}
    for each in (opened, private):
        assert same(each.get_tensor("ünïcode"), torch.arange(5))


def test_metadata_of_a_file_that_is_gone(file):
    opened = berth.safe_open(file)
    file.unlink()
    with pytest.raises(berth.BrokenFile, match="changed since its header was read"):
        opened.metadata()


def test_a_file_may_be_closed_while_others_read(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({f"t{i}": torch.full((1000,), i) for i in range(50)}, path)
    wrong = []

    def read(opened):
        try:
            while True:
                for i, name in enumerate(opened.offset_keys()):
                    opened.get_slice(name).get_shape()
                    if opened.get_tensor(name)[0] != int(name[1:]):
                        wrong.append(name)
        except berth.Error as error:
            if "is closed" not in str(error):
                wrong.append(error)
        except BaseException as error:
            wrong.append(error)

    for backend in ("mmap", "pread") * 5:
        opened = berth.safe_open(path, backend=backend)
        threads = [threading.Thread(target=read, args=(opened,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        opened.get_tensor("t0")
        opened.__exit__(None, None, None)
        for thread in threads:
            thread.join()
    assert not wrong


def test_tensors_are_sent_to_other_processes(file):
    tensors = berth.load_file(file)
    plain = {name: tensors[name] for name in ("layer.9.weight", "layer.6.bias", "ünïcode")}
    again = pickle.loads(pickle.dumps(plain))
    assert all(same(again[name], plain[name]) for name in plain)
    child = os.fork()
    if child == 0:  # a load works in a fork, and what it writes stays there
        found = berth.load_file(file, memory="private")
        good = all(same(found[name], tensors[name]) for name in found)
        tensors["layer.9.bias"].zero_()
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert same(tensors["layer.9.bias"], safetensors.torch.load_file(file)["layer.9.bias"])


def test_saving_one_tensor_writes_one(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({f"t{i}": torch.randn(1 << 16) for i in range(8)}, path)
    for memory in ("mmap", "private"):
        tensor = berth.load_file(path, memory=memory)["t3"]
        assert tensor.untyped_storage().nbytes() == tensor.nbytes
        torch.save(tensor, tmp_path / "one.pt")
        assert (tmp_path / "one.pt").stat().st_size < 2 * tensor.nbytes


# ---- Signals and threads


class Rung(Exception):
    pass


def test_what_another_handler_raises_stops_a_load(tmp_path, monkeypatch, held):
    """Such as an alarm's: nothing reads on behind it."""
    from berth import _progress

    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"w": torch.randn(4 << 20)}, path)
    report = _progress.Watch._report
    rung = []

    def ring(watch, *arguments):
        if not rung:
            rung.append(True)
            os.kill(os.getpid(), signal.SIGUSR1)
        return report(watch, *arguments)

    def raise_rung(*_):
        raise Rung

    monkeypatch.setattr(_progress.Watch, "_report", ring)
    before = signal.signal(signal.SIGUSR1, raise_rung)
    try:
        with pytest.raises(Rung):
            berth.load_file(path, memory="private")
            threading.Event().wait(10)
    finally:
        assert signal.signal(signal.SIGUSR1, before) is raise_rung
    gc.collect()


@pytest.mark.parametrize("backend", ["mmap", "pread"])
def test_ctrl_c_stops_a_large_tensor(tmp_path, monkeypatch, ctrl_c_while_reading, held, backend):
    """Also one that is not aligned in its file, and so is read."""
    from berth import files

    monkeypatch.setattr(files, "_LONG", 1 << 20)
    size = 16 << 20
    path = written(tmp_path / "odd.safetensors", {
        "a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [1, 1 + size]},
    }, bytes(1 + size))
    with berth.safe_open(path, backend=backend) as opened:
        with pytest.raises(KeyboardInterrupt):
            opened.get_tensor("w")
            threading.Event().wait(10)
    assert ctrl_c_while_reading
    del opened
    gc.collect()


def test_a_load_without_a_usable_stderr(file, monkeypatch):
    class OnlyWrites:
        def write(self, text):
            pass

    closed = open(os.devnull, "w")
    closed.close()
    for stream in (None, OnlyWrites(), closed):
        monkeypatch.setattr(sys, "stderr", stream)
        assert "ünïcode" in berth.load_file(file, memory="private")


def test_files_are_loaded_when_python_ends(file):
    """No thread can be had then."""
    code = f"""
import atexit, sys
sys.path[:0] = {sys.path!r}
import berth, torch
atexit.register(lambda: print(len(berth.load_file({str(file)!r}, memory="private"))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) == len(safetensors.torch.load_file(file))


def test_other_threads_run_while_a_file_is_read(tmp_path):
    """Python is told to change threads only where one waits, or gives up the GIL."""
    from berth import files

    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"w": torch.zeros(32 << 20, dtype=torch.uint8)}, path)
    stop = threading.Event()
    counted = [0]

    def count():
        while not stop.is_set():
            counted[0] += 1
            os.sched_yield()

    opened = files.Files([path])
    thread = threading.Thread(target=count)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(100)
    thread.start()
    try:
        before = counted[0]
        opened.load((0,), False, "private", None, False)
        assert counted[0] > before
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        thread.join()
