"""How models of transformers get to the CPU: what is to have another dtype is converted while it is
read, all of it in one load for each dtype, and the rest is mapped at once."""

import gc

import pytest
import safetensors.torch
import torch

import berth
from berth import _into, _report
from berth.files import Files

hub = pytest.importorskip("test_hub")
import transformers  # noqa: E402


@pytest.fixture
def conversions(monkeypatch):
    """The loads that convert: the dtype of each, and how many tensors it had."""
    loads = []
    plain = Files.load

    def load(self, indices, all_of_it, memory, dtype, *rest):
        if dtype is not None:
            loads.append((dtype, len(indices)))
        return plain(self, indices, all_of_it, memory, dtype, *rest)

    monkeypatch.setattr(Files, "load", load)
    return loads


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mixtral"])
@pytest.mark.parametrize("stored, wanted, name", [
    (torch.float32, torch.bfloat16, "BF16"), (torch.float32, torch.float16, "F16"),
    (torch.bfloat16, torch.float32, "F32"), (torch.float16, torch.bfloat16, "BF16")])
def test_a_model_is_converted_in_one_load(tmp_path, conversions, kind, stored, wanted, name):
    load = hub.causal(hub.make(tmp_path, kind, stored))
    plain, ours = hub.expect_same(load, dtype=wanted)
    hub.expect_same_logits(plain, ours)
    with berth.safe_open(tmp_path / "model.safetensors") as file:
        experts = [key for key in file.keys() if ".experts." in key]
        assert conversions == [(name, len(file.keys()) - len(experts))]


def test_nothing_is_read_where_nothing_is_converted(tmp_path, conversions):
    hub.expect_same(hub.causal(hub.make(tmp_path, "llama", torch.bfloat16)), dtype=torch.bfloat16)
    assert conversions == []


def test_modules_that_stay_in_float32_are_mapped(tmp_path, conversions, monkeypatch):
    monkeypatch.setattr(
        transformers.LlamaForCausalLM, "_keep_in_fp32_modules_strict", ["norm"], raising=False
    )
    folder = hub.make(tmp_path, "llama")
    hub.expect_same(hub.causal(folder), dtype=torch.bfloat16)
    with berth.safe_open(folder / "model.safetensors") as file:
        norms = [key for key in file.keys() if "norm" in key]
        assert norms and conversions == [("BF16", len(file.keys()) - len(norms))]


def test_modules_that_stay_in_float32_are_converted_to_it(tmp_path, conversions, monkeypatch):
    monkeypatch.setattr(
        transformers.LlamaForCausalLM, "_keep_in_fp32_modules_strict", ["norm"], raising=False
    )
    folder = hub.make(tmp_path, "llama", torch.bfloat16)
    hub.expect_same(hub.causal(folder), dtype=torch.float16)
    assert [dtype for dtype, _ in conversions] == ["F16", "F32"]


def test_a_converted_tensor_owns_its_memory(tmp_path):
    hub.make(tmp_path, "llama")
    with berth.transformers():
        model = hub.causal(tmp_path)(dtype=torch.bfloat16)
    weight = model.lm_head.weight.detach()
    expected = weight.clone()
    del model
    gc.collect()
    assert torch.equal(weight.add_(0), expected)


def test_what_is_converted_is_counted(tmp_path):
    hub.make(tmp_path, "llama")
    with berth.transformers():
        model = hub.causal(tmp_path)(dtype=torch.bfloat16)
    converted = sum(p.numel() * p.element_size() for p in model.parameters())
    assert model.berth_report.mapped == 0
    assert model.berth_report.planned_peak >= converted


def test_a_model_that_is_mapped_whole_says_so_without_asking_the_kernel(tmp_path, monkeypatch):
    hub.make(tmp_path, "llama")
    monkeypatch.setattr(_report, "_mapped_files", lambda: pytest.fail("asked the kernel"))
    with berth.transformers():
        model = hub.causal(tmp_path)()
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    assert model.berth_report.mapped == weights
    assert model.berth_report.planned_peak == 0


def test_the_collector_of_cycles_runs_again_after_a_load(tmp_path):
    hub.make(tmp_path, "llama")
    seen = []
    plain = Files.load

    def load(*arguments):
        seen.append(gc.isenabled())
        return plain(*arguments)

    for wanted in (True, False):
        (gc.enable if wanted else gc.disable)()
        try:
            with pytest.MonkeyPatch.context() as patch, berth.transformers():
                patch.setattr(Files, "load", load)
                hub.causal(tmp_path)()
            assert gc.isenabled() == wanted
        finally:
            gc.enable()
    assert seen == [False, False]


@pytest.mark.parametrize("count", [1 << 20, 20 << 20])
def test_memory_for_large_tensors_is_filled_as_any(tmp_path, count):
    tensor = torch.arange(count, dtype=torch.int32).view(torch.bfloat16).view(2, -1)
    safetensors.torch.save_file({"a": tensor}, tmp_path / "w.safetensors")
    files = Files([tmp_path / "w.safetensors"])
    made = _into.empty(tensor.shape, "BF16", None)
    _into.fill(files, _into.targets_of([(made, "BF16", [(0, 0, tensor.numel())])]))
    assert torch.equal(made.view(torch.int32), tensor.view(torch.int32))
