"""berth.plan() and berth.infer_auto_device_map(): of files and of models of torch."""

import json

import pytest
import torch

import berth
from berth.planning import module_tree

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 512,
    "dtype": "float32",
    "tie_word_embeddings": False,
}


@pytest.fixture
def config(tmp_path):
    """A config.json, which is planned before its weights are there."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps(CONFIG))
    return file


def test_a_plan_has_what_the_command_prints(config):
    plan = berth.plan(config, {0: "1MiB", "cpu": "1GiB"}, policy="sequential", context=256)
    assert plan.fits and plan.shortfall is None
    values = json.loads(plan.to_json())
    assert values["policy"] == "sequential" and values["request"]["context"] == 256
    assert plan.device_map == values["device_map"]
    assert set(plan.device_map.values()) == {0, "cpu"}
    assert plan.load_peak.host_bytes == values["load_peak"]["host_bytes"]
    assert plan.load_peak.naive_host_bytes > 0
    assert sum(plan.after_load.values()) == values["model"]["bytes"]
    assert plan.after_load.keys() == {0, "cpu"} and plan.after_load[0] <= 1 << 20
    assert not plan.nothing_on_gpu
    assert berth.plan(config, {"cpu": "1GiB"}).nothing_on_gpu
    assert "load peak" in plan.explain() and "after load" in plan.explain()
    assert "model.layers.5" in plan.explain(verbose=True)
    assert "<svg" in plan.svg() and plan._repr_svg_() == plan.svg()
    assert "fits" in repr(plan)
    assert isinstance(plan.notes, list)


def test_a_plan_that_does_not_fit_is_a_value(config):
    plan = berth.plan(config, {0: "1KiB", "cpu": 1024, "disk": "1KiB"})
    assert not plan.fits
    assert plan.shortfall["bytes"] > 0 and plan.shortfall["cause"]
    assert "does not fit" in repr(plan)


def test_arguments_reach_the_planner(config):
    plan = berth.plan(
        config,
        machine="2x4090",
        dtype=torch.bfloat16,
        overrides={"lm_head": "cpu", "model.layers.5": 1},
        priority={1: -1},
        no_split=["LlamaDecoderLayer"],
        reserve={0: "1GiB"},
        batch=2,
        prompt_tokens=64,
        new_tokens=16,
        kv_dtype="bfloat16",
        cpu_memory="private",
        staging="64MiB",
    )
    values = json.loads(plan.to_json())
    assert values["request"]["dtype"] == "bfloat16" and values["request"]["batch"] == 2
    assert plan.device_map["lm_head"] == "cpu" and plan.device_map["model.layers.5"] == 1


def test_a_device_map_may_be_given(config):
    wanted = {"model": 0, "lm_head": "cpu"}
    plan = berth.plan(config, {0: "1GiB", "cpu": "1GiB"}, device_map=wanted)
    assert plan.device_map["lm_head"] == "cpu"
    assert set(plan.device_map.values()) == {0, "cpu"}


def test_errors_have_names(config, tmp_path):
    with pytest.raises(berth.NoSuchFile, match="none: no such file"):
        berth.plan(tmp_path / "none")
    with pytest.raises(berth.UsageError, match="quick"):
        berth.plan(config, policy="quick")
    with pytest.raises(berth.UsageError, match="neither a path nor a model"):
        berth.plan(17)
    config.write_text("{")
    with pytest.raises(berth.Error, match="config.json"):
        berth.plan(config)


def test_a_dtype_that_no_file_has_is_an_error():
    model = torch.nn.Linear(2, 2)
    model.odd = torch.nn.Parameter(torch.zeros(2, dtype=torch.complex128))
    with pytest.raises(berth.Error, match="odd: torch.complex128: is no dtype of weights") as error:
        berth.plan(model)
    assert not isinstance(error.value, berth.UsageError)


# ---- Models of torch


def meta_model(**changes):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(**{**CONFIG, **changes})
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    model.tie_weights()  # transformers 5.0 leaves that to the load
    return model


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_on_the_meta_device_takes_as_much_as_its_config(config, tied):
    config.write_text(json.dumps({**CONFIG, "tie_word_embeddings": tied}))
    model = meta_model(tie_word_embeddings=tied)
    ours = berth.plan(model, {0: "1GiB", "cpu": "1GiB"}, dtype="float32")
    theirs = berth.plan(config, {0: "1GiB", "cpu": "1GiB"}, dtype="float32")
    assert ours.fits
    parameters = sum(p.numel() * 4 for p in model.parameters())
    buffers = sum(b.numel() * 4 for b in model.buffers())
    assert parameters <= ours.after_load[0] <= parameters + buffers
    assert abs(ours.after_load[0] - theirs.after_load[0]) <= buffers


def test_a_module_tree_has_ties_and_classes():
    tree = module_tree(meta_model(tie_word_embeddings=True))
    assert tree["no_split_classes"] == ["LlamaDecoderLayer"]
    assert tree["ties"] == [["model.embed_tokens.weight", "lm_head.weight"]]
    assert [child["name"] for child in tree["root"]["children"]] == ["model", "lm_head"]


def test_infer_auto_device_map_covers_the_model_and_keeps_the_budgets():
    accelerate = pytest.importorskip("accelerate")
    model = meta_model()
    total = sum(p.numel() * p.element_size() for p in model.parameters())
    budgets = {0: total // 3, 1: total // 3, "cpu": total}
    found = berth.infer_auto_device_map(model, budgets)
    accelerate.utils.modeling.check_device_map(model, found)
    used = {}
    for name, parameter in model.named_parameters():
        place = next(found[key] for key in sorted(found, key=len, reverse=True)
                     if key == "" or name == key or name.startswith(key + "."))
        used[place] = used.get(place, 0) + parameter.numel() * parameter.element_size()
    assert len(used) > 1
    assert all(used[device] <= budgets[device] for device in used)
    for layer in model.model.layers:
        assert type(layer).__name__ == "LlamaDecoderLayer"
    assert not any(".self_attn" in key or ".mlp" in key for key in found)  # no layer is split


def test_infer_auto_device_map_of_custom_modules():
    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.up = torch.nn.Linear(10, 20)
            self.down = torch.nn.Linear(20, 10)

    model = torch.nn.Sequential(*(Block() for _ in range(4)))
    one = sum(p.numel() * 4 for p in model[0].parameters())
    found = berth.infer_auto_device_map(model, {0: 2 * one, "cpu": 2 * one}, "Block")
    assert found == {"0": 0, "1": 0, "2": "cpu", "3": "cpu"}
    with pytest.raises(berth.DoesNotFit, match="Sequential does not fit: .* bytes are missing"):
        berth.infer_auto_device_map(model, {0: one, "cpu": one, "disk": 0}, ["Block"])
