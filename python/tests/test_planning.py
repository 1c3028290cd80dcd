"""berth.plan() and berth.infer_auto_device_map(): of files and of models of torch."""

import copy
import inspect
import json
import os
import pickle
import re
import shutil
import subprocess
import sys

import pytest
import torch

import berth
from berth import _hub_cache
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


def test_arguments_of_the_wrong_kind_are_refused(config):
    for wrong, what in [
        ({"max_memory": 3}, "max_memory=3: is no dict"),
        ({"max_memory": [(0, "1GiB")]}, "is no dict"),
        ({"priority": 1}, "priority=1: is no dict"),
        ({"overrides": "lm_head=cpu"}, "is no dict"),
        ({"exclude": {0: 1}}, "is no list"),
        ({"no_split": 1.5}, "is no list"),
        ({"machine": 3}, "3: is no path"),
        ({"policy": "ballanced"}, "did you mean 'balanced'"),
        ({"dtype": "bfloat"}, "did you mean 'bfloat16'"),
        ({"context": 1.5}, "'1.5' is not a whole number"),
        ({"machine": "2x409"}, "no such machine file, .*did you mean '2x4090'"),
        ({"no_split": ["Foo"]}, "no_split 'Foo': matches no module"),
        ({"overrides": {"lm_hea": "cpu"}}, "'lm_hea': matches no module and no tensor"),
        ({"max_memory": {0: "1GiB"}, "reserve": {7: "1KiB"}}, "reserve: device '7' is not on"),
        ({"max_memory": {0: "1GiB"}, "priority": {7: 1}}, "priority: device '7' is not on"),
        ({"io": "direkt"}, "did you mean 'direct'|direkt"),
    ]:
        with pytest.raises(berth.UsageError, match=what):
            berth.plan(config, **wrong)


def test_arguments_may_be_what_programs_compute(config):
    budgets = {0: "1GiB", "cpu": "1GiB"}
    plain = berth.plan(config, budgets, context=256)
    same = {"0": float(1 << 30), torch.device("cpu"): 1 << 30}
    assert berth.plan(config, same, context=256.0).device_map == plain.device_map
    devices = {"model": torch.device("cuda", 0), "lm_head": torch.device("cpu")}
    placed = berth.plan(config, budgets, device_map=devices)
    assert placed.device_map["lm_head"] == "cpu" and set(placed.after_load) == {0, "cpu"}
    assert berth.plan(config, budgets, exclude=0).nothing_on_gpu
    assert berth.plan(os.fsencode(config), budgets, context=256) == plain


def test_every_option_of_the_command_is_an_argument():
    """But those that choose an output, and those that make many plans."""
    command = os.path.join(os.path.dirname(os.environ.get("BERTH_LIBRARY", "")), "berth")
    if not os.access(command, os.X_OK):
        pytest.skip("the command is not here")
    text = subprocess.run([command, "plan", "--help"], capture_output=True, text=True).stdout
    options = set(re.findall(r"^  --([a-z-]+)", text, re.M))
    outputs = set(re.findall(r"^  --([a-z-]+)", text[text.index("Output:"):], re.M))
    many = {"across", "dtypes", "want"}
    words = {name.replace("_", "-") for name in inspect.signature(berth.plan).parameters}
    assert {"max-memory", "mtp", "io"} < options - outputs - many
    assert options - outputs - many <= words | {"override"} and "overrides" in words


def test_a_plan_prints_what_the_command_prints(config):
    command = os.path.join(os.path.dirname(os.environ.get("BERTH_LIBRARY", "")), "berth")
    if not os.access(command, os.X_OK):
        pytest.skip("the command is not here")
    flags = ["--max-memory", "0=1MiB,cpu=1GiB", "--dtype", "bfloat16", "--context", "128"]
    plan = berth.plan(config, {0: "1MiB", "cpu": "1GiB"}, dtype=torch.bfloat16, context=128)

    def printed(*more):
        return subprocess.run([command, "plan", config, *flags, *more], capture_output=True,
                              text=True, check=True).stdout

    assert printed() == plan.explain()
    assert printed("--verbose") == plan.explain(verbose=True)
    assert printed("--json") == plan.to_json()
    assert printed("--svg", "-") == plan.svg()


def test_plans_are_copied_and_pickled(config):
    plan = berth.plan(config, {"cpu": "1GiB"})
    for other in (pickle.loads(pickle.dumps(plan)), copy.copy(plan), copy.deepcopy(plan)):
        assert other == plan and hash(other) == hash(plan) and repr(other) == repr(plan)
        assert other.explain() == plan.explain() and other.svg() == plan.svg()
        assert other.explain(verbose=True) == plan.explain(verbose=True)
        assert pickle.loads(pickle.dumps(other)) == plan
    assert plan != berth.plan(config, {"cpu": "2GiB"}) and plan != 1


def test_a_folder_with_a_config_alone_is_planned(config, tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "training_args.bin").write_text("of no model")
    assert berth.plan(tmp_path, {"cpu": "1GiB"}) == berth.plan(config, {"cpu": "1GiB"})
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}))
    with pytest.raises(berth.Error, match="shard 'model-00001-of-00001.safetensors' is missing"):
        berth.plan(tmp_path, {"cpu": "1GiB"})


# ---- Models of the Hub's cache


def cached(cache, commits, main, name="models--org--tiny"):
    for commit, layers in commits.items():
        snapshot = cache / name / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": layers}))
    (cache / name / "refs").mkdir()
    (cache / name / "refs" / "main").write_text(main)


def layers_of(model):
    return json.loads(berth.plan(model, {"cpu": "1GiB"}).to_json())["model"]["layers"]


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME",
                                      "XDG_CACHE_HOME", "HOME"])
def test_a_model_of_the_cache_is_named_by_its_id(tmp_path, monkeypatch, variable):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "huggingface_hub.constants", raising=False)
    below = {"HF_HOME": "hub", "XDG_CACHE_HOME": "huggingface/hub",
             "HOME": ".cache/huggingface/hub"}.get(variable, "")
    monkeypatch.setenv(variable, str(tmp_path))
    cache = tmp_path / below
    cached(cache, {"aaa111": 3, "bbb222": 4}, "aaa111")
    assert layers_of("org/tiny") == layers_of("org/tiny@main") == 3
    assert layers_of("org/tiny@bbb222") == 4
    cached(cache, {"ccc333": 5}, "ccc333", "models--tiny")
    assert layers_of("tiny") == 5
    looked_for = re.escape(str(cache / "models--org--other"))
    with pytest.raises(berth.NoSuchFile, match=f"org/other: no such .* there is no {looked_for}"):
        berth.plan("org/other")
    with pytest.raises(berth.Error, match="'dev' is no revision in the cache"):
        berth.plan("org/tiny@dev")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "tiny").mkdir(parents=True)  # a folder here comes first, as in transformers
    shutil.copy(cache / "models--org--tiny/snapshots/bbb222/config.json", tmp_path / "org/tiny")
    assert layers_of("org/tiny") == 4


def test_the_cache_is_where_huggingface_hub_has_it():
    constants = pytest.importorskip("huggingface_hub.constants")
    assert _hub_cache.cache_folder() == constants.HF_HUB_CACHE


@pytest.mark.parametrize("path", ["none.safetensors", "a/b/c", "/none", "./none", "a b", "x/y.gguf"])
def test_what_is_no_id_is_a_path(path):
    with pytest.raises(berth.Error, match="no such file|cannot be opened|No such file") as error:
        berth.plan(path)
    assert "cache" not in str(error.value)


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


def test_calls_of_accelerates_infer_auto_device_map_work_unchanged():
    accelerate = pytest.importorskip("accelerate")
    theirs = inspect.signature(accelerate.infer_auto_device_map).parameters
    ours = inspect.signature(berth.infer_auto_device_map).parameters
    assert [name for name in ours if name != "options"][: len(theirs)] == list(theirs)
    assert [p.default for p in theirs.values()] == [ours[name].default for name in theirs]
    found = berth.infer_auto_device_map(meta_model(), {"cpu": "1GiB"}, None, None, None, False, False,
                                        True, True)
    assert found == {"": "cpu"}


def blocks():
    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.up = torch.nn.Linear(10, 20)
            self.norm = torch.nn.BatchNorm1d(20)
            self.scale = torch.nn.Parameter(torch.zeros(7))
            self.list = torch.nn.ParameterList([torch.zeros(3) for _ in range(3)])

    with torch.device("meta"):
        model = torch.nn.Module()
        model.first = Block()
        model.second = Block()
        model.named = torch.nn.ModuleDict({"third": Block()})
        model.top = torch.nn.Parameter(torch.zeros(11))
    return model


@pytest.mark.parametrize("policy", ["sequential", "balanced", "balanced_low_0"])
@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.3, 0.4, 0.3), (2,), (0.05, 0.7)])
@pytest.mark.parametrize("dtype", [None, torch.float16])
@pytest.mark.parametrize("kind", ["plain", "tied", "blocks"])
def test_accelerates_policies_give_its_maps(policy, shares, dtype, kind):
    accelerate = pytest.importorskip("accelerate")
    model = blocks() if kind == "blocks" else meta_model(tie_word_embeddings=kind == "tied")
    classes = ["Block"] if kind == "blocks" else ["LlamaDecoderLayer"]
    total = sum(p.numel() * p.element_size() for p in model.parameters())
    budgets = {i: int(total * share) for i, share in enumerate(shares)} | {"cpu": 10 * total}
    theirs = dict(budgets)
    if policy != "sequential":
        theirs = accelerate.utils.get_balanced_memory(
            model, theirs, classes, dtype, low_zero=policy == "balanced_low_0")
    expected = accelerate.infer_auto_device_map(model, theirs, classes, dtype)
    assert berth.infer_auto_device_map(model, budgets, classes, dtype, policy=policy) == expected


def test_special_dtypes_count():
    model = torch.nn.Sequential(*(torch.nn.Linear(100, 100, bias=False) for _ in range(2)))
    budgets = {0: 60000, "cpu": "1GiB"}  # of 80000 bytes
    assert "cpu" in berth.infer_auto_device_map(model, budgets).values()
    less = {"0.weight": torch.float16, "1.weight": "int8"}
    assert berth.infer_auto_device_map(model, budgets, special_dtypes=less) == {"": 0}
    more = {"1.weight": torch.float32}  # 20000 and 40000
    found = berth.infer_auto_device_map(model, budgets, dtype=torch.float16, special_dtypes=more)
    assert found == {"": 0}
    assert berth.infer_auto_device_map(model, {0: 50000, "cpu": "1GiB"}, dtype=torch.float16,
                                       special_dtypes=more) != {"": 0}


def test_verbose_prints_the_plan(capsys):
    berth.infer_auto_device_map(meta_model(), {"cpu": "1GiB"}, verbose=True)
    assert "model.layers.5" in capsys.readouterr().out


def test_tensors_of_two_elements_a_byte_and_lazy_modules():
    if hasattr(torch, "float4_e2m1fn_x2"):
        model = torch.nn.Module()
        model.w = torch.nn.Parameter(torch.empty(4, 8, dtype=torch.float4_e2m1fn_x2, device="meta"),
                                     requires_grad=False)
        assert berth.plan(model, {"cpu": "1GiB"}).after_load == {"cpu": 32}
    with pytest.raises(berth.Error, match="weight: its shape is not known yet"):
        berth.plan(torch.nn.LazyLinear(3))
