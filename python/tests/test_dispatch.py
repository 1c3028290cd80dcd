"""load_checkpoint_and_dispatch() gives the logits of accelerate's, from Berth's memory."""

import json

import pytest
import safetensors.torch
import torch

import berth

accelerate = pytest.importorskip("accelerate")
transformers = pytest.importorskip("transformers", minversion="5.0")
transformers.logging.set_verbosity_error()

IDS = torch.arange(1, 20)[None]


def config(**changes):
    return transformers.LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=101, max_position_embeddings=64, **changes,
    )


def empty(dtype=torch.float32, **changes):
    with accelerate.init_empty_weights():
        model = transformers.AutoModelForCausalLM.from_config(config(**changes), dtype=dtype)
    model.tie_weights()
    return model.eval()


@pytest.fixture(params=[False, True], ids=["plain", "tied"])
def saved(request, tmp_path):
    torch.manual_seed(0)
    changes = {"tie_word_embeddings": request.param}
    model = transformers.AutoModelForCausalLM.from_config(config(**changes)).eval()
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        return tmp_path, changes, model(IDS).logits


SPREAD = {"model.embed_tokens": "cpu", "lm_head": "cpu", "model.norm": "cpu",
          "model.rotary_emb": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk",
          "model.layers.2": "disk", "model.layers.3": "cpu"}


@pytest.mark.parametrize("places", [None, {"": "cpu"}, SPREAD], ids=["none", "cpu", "spread"])
@pytest.mark.parametrize("name", ["", "model.safetensors"])
def test_logits_are_the_same(saved, places, name):
    folder, changes, logits = saved
    model = berth.load_checkpoint_and_dispatch(empty(**changes), folder / name, device_map=places)
    for _ in range(2):  # hooks offload again what they have loaded
        with torch.no_grad():
            assert torch.equal(model(IDS).logits, logits)
    places_used = {"cpu", "disk"} if places is SPREAD else {"cpu"}
    assert set(model.berth_report.after_load) == places_used
    held = sum(p.numel() * 4 for p in model.parameters() if p.device.type != "meta")
    assert held == model.berth_report.after_load["cpu"]


def test_it_is_what_accelerate_gives(saved, tmp_path):
    folder, changes, _ = saved
    theirs = accelerate.load_checkpoint_and_dispatch(
        empty(**changes), str(folder / "model.safetensors"), device_map=dict(SPREAD),
        offload_folder=str(tmp_path / "offload"), dtype=torch.bfloat16,
    )
    ours = berth.load_checkpoint_and_dispatch(
        empty(**changes), folder, device_map=SPREAD, dtype=torch.bfloat16
    )
    with torch.no_grad():
        assert torch.equal(ours(IDS).logits, theirs(IDS).logits)
    for (name, a), (other, b) in zip(ours.named_parameters(), theirs.named_parameters()):
        assert (name, a.dtype, a.device) == (other, b.dtype, b.device)


def test_the_planner_places(saved):
    folder, changes, logits = saved
    layer = sum(p.numel() * 4 for p in empty(**changes).model.layers[0].parameters())
    total = sum(p.numel() * 4 for p in empty(**changes).parameters())
    model = berth.load_checkpoint_and_dispatch(
        empty(**changes), folder, max_memory={"cpu": total - layer, "disk": total}
    )
    assert "disk" in model.hf_device_map.values()
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, logits)
    with pytest.raises(berth.DoesNotFit):
        berth.load_checkpoint_and_dispatch(
            empty(**changes), folder, max_memory={"cpu": layer, "disk": layer}
        )


def test_a_model_that_is_no_transformer(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8)).eval()
    torch.save(model.state_dict(), tmp_path / "model.bin")
    with torch.device("meta"):
        other = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8)).eval()
    berth.load_checkpoint_and_dispatch(
        other, tmp_path / "model.bin", device_map={"0": "disk", "1": "cpu"}, strict=True
    )
    x = torch.randn(3, 4)
    with torch.no_grad():
        assert torch.equal(other(x), model(x))


def test_errors_have_names(saved, tmp_path):
    folder, changes, _ = saved
    with pytest.raises(berth.UsageError, match="is none of auto"):
        berth.load_checkpoint_and_dispatch(empty(**changes), folder, device_map="quick")
    with pytest.raises(berth.NoSuchFile):
        berth.load_checkpoint_and_dispatch(empty(**changes), tmp_path / "none", device_map=None)
    small = torch.nn.Linear(2, 2)
    torch.save({"weight": torch.zeros(3, 3), "bias": torch.zeros(2)}, tmp_path / "small.bin")
    with pytest.raises(berth.Error, match=r"'weight' has shape \[3, 3\]"):
        berth.load_checkpoint_and_dispatch(small, tmp_path / "small.bin", device_map=None)
    torch.save({"bias": torch.zeros(2)}, tmp_path / "small.bin")
    with pytest.raises(berth.Error, match="the checkpoint lacks 1 tensors, such as 'weight'"):
        berth.load_checkpoint_and_dispatch(small, tmp_path / "small.bin", device_map=None,
                                           strict=True)


def test_calls_of_accelerate_work_unchanged(saved, tmp_path):
    import inspect

    theirs = inspect.signature(accelerate.load_checkpoint_and_dispatch).parameters
    ours = inspect.signature(berth.load_checkpoint_and_dispatch).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    folder, changes, logits = saved
    model = berth.load_checkpoint_and_dispatch(
        empty(**changes), str(folder), dict(SPREAD), None, ["LlamaDecoderLayer"],
        str(tmp_path / "never"), False, None, True, None, None, False, True, True, False,
    )
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, logits)
    assert not (tmp_path / "never").exists()
    with pytest.raises(berth.UsageError, match="no distributed models"):
        berth.load_checkpoint_and_dispatch(empty(**changes), folder, broadcast_from_rank0=True)


@pytest.mark.parametrize("places", [{"": "cpu"}, SPREAD], ids=["cpu", "spread"])
@pytest.mark.parametrize("stored, models", [(torch.bfloat16, None), (torch.float32, torch.bfloat16)])
@pytest.mark.parametrize("options", [{}, {"dtype": torch.float16}, {"offload_buffers": True}],
                         ids=["plain", "dtype", "buffers"])
def test_dtypes_and_hooks_are_those_of_accelerate(tmp_path, places, stored, models, options):
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config()).to(stored).save_pretrained(tmp_path)
    made = []
    for load in (accelerate.load_checkpoint_and_dispatch, berth.load_checkpoint_and_dispatch):
        model = empty() if models is None else empty(dtype=models)
        made.append(load(model, str(tmp_path / "model.safetensors"), device_map=dict(places),
                         offload_folder=str(tmp_path / "offload"), **options))
    theirs, ours = made

    def facts(model):
        hooks = {
            name: (type(module._hf_hook).__name__, getattr(module._hf_hook, "execution_device", None))
            for name, module in model.named_modules() if hasattr(module, "_hf_hook")
        }
        tensors = [*model.named_parameters(), *model.named_buffers()]
        return model.hf_device_map, hooks, [(n, t.dtype, t.device) for n, t in tensors]

    assert facts(ours) == facts(theirs)
    with torch.no_grad():
        assert torch.equal(ours(IDS).logits, theirs(IDS).logits)


def shards_of_torch(folder, state):
    names = list(state)
    parts = [names[: len(names) // 2], names[len(names) // 2:]]
    index = {}
    for k, part in enumerate(parts):
        file = f"pytorch_model-0000{k + 1}-of-00002.bin"
        torch.save({name: state[name] for name in part}, folder / file)
        index.update({name: file for name in part})
    return index


@pytest.mark.parametrize("bare", [False, True])
def test_the_index_that_is_named_is_followed(tmp_path, bare):
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
    index = shards_of_torch(tmp_path, model.state_dict())
    file = tmp_path / "pytorch_model.bin.index.json"
    file.write_text(json.dumps(index if bare else {"metadata": {}, "weight_map": index}))
    safetensors.torch.save_file({"0.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    other = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
    berth.load_checkpoint_and_dispatch(other, file, device_map={"": "cpu"}, strict=True)
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), model.parameters()))
    file.write_text("[]")
    with pytest.raises(berth.BrokenFile, match="is no index of shards"):
        berth.load_checkpoint_and_dispatch(other, file, device_map=None)


def test_without_a_map_tensors_stay_what_they_are(tmp_path):
    """An optimizer may have them already."""
    source = torch.nn.Linear(3, 2)
    torch.save(source.state_dict(), tmp_path / "w.bin")
    model = torch.nn.Linear(3, 2).double()
    weight = model.weight
    assert berth.load_checkpoint_and_dispatch(model, tmp_path / "w.bin", device_map=None) is model
    assert model.weight is weight and weight.dtype == torch.float64 and weight.requires_grad
    assert torch.equal(weight.float(), source.weight)
    assert not hasattr(model, "hf_device_map")


def test_names_that_only_the_checkpoint_has_are_warned_of(tmp_path):
    torch.save({"weight": torch.ones(2, 2), "bias": torch.zeros(2), "more": torch.zeros(2)},
               tmp_path / "w.bin")
    with pytest.warns(UserWarning, match="1 tensors are not those of Linear .* such as 'more'"):
        berth.load_checkpoint_and_dispatch(torch.nn.Linear(2, 2), tmp_path / "w.bin", {"": "cpu"})
    with pytest.raises(berth.Error, match="the model lacks 1 tensors, such as 'more'"):
        berth.load_checkpoint_and_dispatch(torch.nn.Linear(2, 2), tmp_path / "w.bin", {"": "cpu"},
                                           strict=True)


def test_a_map_that_leaves_something_out_is_refused(saved):
    folder, changes, _ = saved
    with pytest.raises(berth.UsageError, match="device_map: says nothing of 'model.norm.weight'"):
        places = {key: "cpu" for key in SPREAD if key != "model.norm"}
        berth.load_checkpoint_and_dispatch(empty(**changes), folder, device_map=places)


def test_float8_becomes_what_is_asked_for(tmp_path):
    stored = torch.randn(4, 4).to(torch.float8_e4m3fn)
    safetensors.torch.save_file({"weight": stored}, tmp_path / "w.safetensors")
    for dtype in (torch.bfloat16, "bfloat16", "torch.bfloat16"):
        model = torch.nn.Linear(4, 4, bias=False, device="meta")
        berth.load_checkpoint_and_dispatch(model, tmp_path, {"": "cpu"}, dtype=dtype)
        assert torch.equal(model.weight, stored.to(torch.bfloat16))
    with pytest.raises(berth.UsageError, match="weights become a floating-point dtype"):
        berth.load_checkpoint_and_dispatch(model, tmp_path, {"": "cpu"}, dtype=torch.int8)
