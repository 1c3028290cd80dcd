"""Loads into memory of GPUs that torch allocates. Where there is none, the CPU is taken for one that
the library emulates; tests that need a real one say so."""

import pytest
import safetensors.torch
import torch

import berth
from berth import _into, _library

from test_files import random_tensor, same

on_gpu = pytest.mark.skipif(
    not torch.cuda.is_available() or _library.library().berth_gpu_count() == 0,
    reason="no GPU that torch and Berth can use",
)


@pytest.fixture
def fake_gpu(monkeypatch):
    """The CPU is GPU 0. Gives the loads into it: how many targets each had."""
    loads = []
    plain_fill, plain_options = _into.fill, _into.options

    def fill(files, targets, watch=None):
        assert all(target.device == 1000 for target in targets)
        loads.append(len(targets))
        plain_fill(files, targets, watch)

    def options(watch=None):
        made = plain_options(watch)
        made.emulate = 1
        return made

    monkeypatch.setattr(
        _into, "gpu_of", lambda device: 0 if str(device) in ("cpu", "cuda:0", "0") else None
    )
    plain_empty = _into.empty
    monkeypatch.setattr(_into, "empty", lambda shape, dtype, gpu: plain_empty(shape, dtype, None))
    monkeypatch.setattr(_into, "place_of", lambda tensor: (1000, None))
    monkeypatch.setattr(_into, "options", options)
    monkeypatch.setattr(_into, "fill", fill)
    return loads


def written(folder):
    torch.manual_seed(0)
    tensors = {
        "a": random_tensor(torch.float32, 300, 7),
        "b": random_tensor(torch.bfloat16, 1000),
        "c": random_tensor(torch.int64, 3, 5),
        "d": random_tensor(torch.float8_e4m3fn, 64, 64),
        "e": torch.empty(0, 4),
        "f": torch.tensor(3.0),
    }
    safetensors.torch.save_file(tensors, folder / "w.safetensors")
    return folder / "w.safetensors", tensors


def test_the_library_counts_gpus():
    assert _library.library().berth_gpu_count() >= 0


def test_devices_without_cuda_are_left_to_torch():
    for device in ("cpu", "disk", "meta", torch.device("cpu")):
        assert _into.gpu_of(device) is None
    if _library.library().berth_gpu_count() == 0:
        assert _into.gpu_of("cuda") is None and _into.gpu_of(0) is None


def test_load_file_fills_memory_of_torch(tmp_path, fake_gpu):
    file, tensors = written(tmp_path)
    found = berth.load_file(file, device="cuda:0")
    assert fake_gpu == [6]
    assert set(found) == set(tensors)
    assert all(same(found[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16, torch.float16])
def test_load_file_converts_on_the_way(tmp_path, fake_gpu, wanted):
    file, tensors = written(tmp_path)
    found = berth.load_file(file, device="cuda:0", dtype=wanted)
    for name in ("a", "b", "f"):
        assert found[name].dtype == wanted
        expected = tensors[name].to(wanted)
        assert torch.equal(found[name].nan_to_num(), expected.nan_to_num())
    assert same(found["c"], tensors["c"])


def test_a_gpu_that_is_not_here_is_named(tmp_path, monkeypatch):
    file, _ = written(tmp_path)
    monkeypatch.setattr(_into, "gpu_of", lambda device: 0)
    plain_empty = _into.empty
    monkeypatch.setattr(_into, "empty", lambda shape, dtype, gpu: plain_empty(shape, dtype, None))
    monkeypatch.setattr(_into, "place_of", lambda tensor: (1000, None))
    with pytest.raises(berth.Error, match="device 1000 is not on this machine"):
        berth.load_file(file, device="cuda:0")


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mixtral"])
@pytest.mark.parametrize("dtype", ["auto", torch.bfloat16])
def test_a_model_is_read_in_one_load(tmp_path, fake_gpu, kind, dtype):
    hub = pytest.importorskip("test_hub")
    load = hub.causal(hub.make(tmp_path, kind))
    plain, ours = hub.expect_same(load, dtype=dtype, device_map={"": "cpu"})
    hub.expect_same_logits(plain, ours)
    stored = berth.safe_open(tmp_path / "model.safetensors").keys()
    assert fake_gpu == [len(stored)]


def test_modules_that_stay_in_float32_are_read_as_they_are(tmp_path, fake_gpu, monkeypatch):
    hub = pytest.importorskip("test_hub")
    import transformers

    monkeypatch.setattr(
        transformers.LlamaForCausalLM, "_keep_in_fp32_modules_strict", {"norm"}, raising=False
    )
    load = hub.causal(hub.make(tmp_path, "llama"))
    hub.expect_same(load, dtype=torch.bfloat16, device_map={"": "cpu"})
    assert len(fake_gpu) == 1


def test_safe_open_reads_large_tensors_straight(tmp_path, fake_gpu, monkeypatch):
    """Small ones are mapped, and copied by torch."""
    from berth import files

    file, tensors = written(tmp_path)
    monkeypatch.setattr(files, "_is_cpu", lambda device: False)
    monkeypatch.setattr(files, "_LONG", 1000)
    with berth.safe_open(file, device="cpu") as opened:
        large = [name for name in tensors if tensors[name].nbytes >= 1000]
        for name, tensor in tensors.items():
            assert same(opened.get_tensor(name), tensor), name
            assert same(opened.get_slice(name)[...], tensor), name
        assert fake_gpu == [1] * 2 * len(large)
        assert same(opened.get_slice("a")[3:5], tensors["a"][3:5])
        assert len(fake_gpu) == 2 * len(large)
        assert all(same(found, tensors[name]) for name, found in opened.get_tensors().items())
        assert fake_gpu[-1] == len(tensors)


def test_a_gpu_that_is_full_is_named(tmp_path, fake_gpu, monkeypatch):
    file, _ = written(tmp_path)

    def full(*_shape, **_options):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20 MiB")

    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(berth.DoesNotFit, match="CUDA out of memory. Tried to allocate"):
        berth.load_file(file, device="cuda:0")


def test_a_dtype_of_integers_is_refused_on_gpus_too(tmp_path, fake_gpu):
    file, _ = written(tmp_path)
    with pytest.raises(berth.UsageError, match="tensors become float16"):
        berth.load_file(file, device="cuda:0", dtype=torch.int64)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_dispatched_model_is_read_in_one_load(tmp_path, fake_gpu, dtype):
    dispatch = pytest.importorskip("test_dispatch")
    torch.manual_seed(0)
    model = dispatch.transformers.AutoModelForCausalLM.from_config(dispatch.config()).eval()
    model.save_pretrained(tmp_path)
    ours = berth.load_checkpoint_and_dispatch(
        dispatch.empty(), tmp_path, device_map={"": "cpu"}, dtype=dtype
    )
    assert fake_gpu == [len(model.state_dict())]
    found = ours.state_dict()
    for name, tensor in model.state_dict().items():
        assert same(found[name], tensor if dtype is None else tensor.to(dtype)), name
    assert ours.berth_report.planned_peak > 0  # the staging


@on_gpu
def test_load_file_to_a_gpu(tmp_path):
    file, tensors = written(tmp_path)
    before = torch.cuda.memory_allocated()
    found = berth.load_file(file, device="cuda:0")
    assert torch.cuda.memory_allocated() > before
    for name, tensor in tensors.items():
        assert found[name].device == torch.device("cuda", 0)
        assert same(found[name].cpu(), tensor)


@on_gpu
def test_memory_that_work_still_uses_is_waited_for(tmp_path):
    file, tensors = written(tmp_path)
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(20):
            torch.ones(1 << 26, device="cuda:0").fill_(7)  # freed at once, still being written to
        found = berth.load_file(file, device="cuda:0")
    assert same(found["a"].cpu(), tensors["a"])


@on_gpu
def test_from_pretrained_to_a_gpu(tmp_path):
    hub = pytest.importorskip("test_hub")
    load = hub.causal(hub.make(tmp_path, "llama"))
    hub.expect_same_logits(*(m.cpu() for m in hub.expect_same(load, device_map={"": 0})))
