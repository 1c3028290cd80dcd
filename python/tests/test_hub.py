"""from_pretrained() by Berth gives what transformers gives: state dict, logits and reports, bit for
bit."""

import functools
import inspect
import json
import os
import threading
import types
import warnings

import pytest
import torch

import berth
from berth import _checkpoint, _state_dict, _taken, hub
from berth.files import Files

transformers = pytest.importorskip("transformers", minversion="5.0")
transformers.logging.set_verbosity_error()

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 101,
    "max_position_embeddings": 64,
}
MIXTURES = {
    "mixtral": {"num_local_experts": 5, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
                  "head_dim": 8},
    "qwen2_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
                  "shared_expert_intermediate_size": 16, "decoder_sparse_step": 2},
}
DENSE = {
    "llama": {},
    "qwen2": {"tie_word_embeddings": True},
    "gemma2": {"head_dim": 8},
}
MODELS = {**DENSE, **MIXTURES}


def takes(option):
    """Whether this transformers knows an option of from_pretrained()."""
    return option in inspect.getsource(transformers.PreTrainedModel.from_pretrained)


@pytest.fixture(autouse=True)
def no_warnings_of_ours():
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*without Berth.*|.*stacks experts itself.*")
        yield


def make(folder, kind, dtype=torch.float32, **saving):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **{**SMALL, **MODELS[kind]})
    model = transformers.AutoModelForCausalLM.from_config(config).to(dtype)
    model.save_pretrained(folder, **saving)
    return folder


def rewrite(folder, change):
    """Changes the tensors of a folder's safetensors file: change(tensors by name)."""
    import safetensors.torch

    file = folder / "model.safetensors"
    weights = {name: tensor.clone() for name, tensor in berth.load_file(file).items()}
    change(weights)
    safetensors.torch.save_file(weights, file, metadata={"format": "pt"})


def expect_same(load, why="", **options):
    """What `load` gives without Berth and with it: both models. `why` is what Berth says where it
    leaves the load to transformers."""
    plain, said = load(output_loading_info=True, **options)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with berth.transformers():
            ours, also = load(output_loading_info=True, **options)
    left = [str(each.message) for each in warned if "without Berth" in str(each.message)]
    assert len(left) == bool(why) and (not why or why in left[0]), left
    assert hasattr(ours, "berth_report") == (not why)
    assert said == also
    theirs = plain.state_dict()
    assert list(ours.state_dict()) == list(theirs)
    for name, tensor in ours.state_dict().items():
        assert tensor.dtype == theirs[name].dtype and tensor.device == theirs[name].device, name
        if tensor.device.type != "meta":
            assert torch.equal(tensor, theirs[name]), name
    assert [p.requires_grad for p in ours.parameters()] == [
        p.requires_grad for p in plain.parameters()
    ]
    return plain, ours


def expect_same_logits(plain, ours):
    ids = torch.arange(1, 20)[None]
    with torch.no_grad():
        assert torch.equal(plain(ids).logits, ours(ids).logits)


def causal(folder):
    return lambda **options: transformers.AutoModelForCausalLM.from_pretrained(folder, **options)


def causal_seeded(folder):
    """For what is missing in the files, and made anew."""

    def load(**options):
        torch.manual_seed(1)
        return causal(folder)(**options)

    return load


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("dtype", ["auto", torch.bfloat16])
def test_models_are_the_same(tmp_path, kind, dtype):
    plain, ours = expect_same(causal(make(tmp_path, kind)), dtype=dtype)
    expect_same_logits(plain, ours)
    assert isinstance(ours.berth_report, berth.LoadedReport)
    assert not hasattr(plain, "berth_report")


@pytest.mark.parametrize("kind", ["llama", "qwen3_moe"])
def test_shards_are_the_same(tmp_path, kind):
    make(tmp_path, kind, max_shard_size="30KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    expect_same_logits(*expect_same(causal(tmp_path)))


def torch_files(folder, shards):
    """Turns the safetensors file of a folder into files of PyTorch."""
    weights = {k: t.clone() for k, t in berth.load_file(folder / "model.safetensors").items()}
    (folder / "model.safetensors").unlink()
    names = [f"pytorch_model-{i + 1:05}-of-{shards:05}.bin" for i in range(shards)]
    if shards == 1:
        torch.save(weights, folder / "pytorch_model.bin")
        return
    of = {key: names[i % shards] for i, key in enumerate(weights)}
    for name in names:
        torch.save({key: weights[key] for key in weights if of[key] == name}, folder / name)
    index = {"metadata": {"total_size": 0}, "weight_map": of}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def test_files_of_torch_of_before_1_6_are_the_same(tmp_path):
    torch_files(make(tmp_path, "llama"), 1)
    weights = torch.load(tmp_path / "pytorch_model.bin")
    torch.save(weights, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    _, ours = expect_same(causal(tmp_path))
    assert isinstance(ours.berth_report, berth.LoadedReport)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3_moe"])
@pytest.mark.parametrize("dtype", ["auto", torch.float16])
def test_files_of_torch_are_the_same(tmp_path, kind, shards, dtype):
    torch_files(make(tmp_path, kind), shards)
    plain, ours = expect_same(causal(tmp_path), dtype=dtype)
    expect_same_logits(plain, ours)
    assert ours.berth_report.after_load.keys() == {"cpu"}


def change_torch_file(folder, change):
    file = folder / "pytorch_model.bin"
    weights = torch.load(file)
    torch.save(change(weights), file)


@pytest.mark.parametrize(
    "change, why",
    [
        (lambda weights: {**weights, "epoch": 3}, "'epoch' is no tensor"),
        (lambda weights: {"state_dict": weights}, "'state_dict' is no tensor"),
        (lambda weights: {name: t.t().contiguous().t() if t.dim() == 2 else t
                          for name, t in weights.items()}, "do not stand one after another"),
        (lambda weights: list(weights.values()), "pytorch_model.bin: "),
    ],
)
def test_what_files_of_torch_hold_besides_is_left_to_transformers(tmp_path, change, why):
    """It reports objects that stand beside tensors, and keeps how tensors are laid out."""
    torch_files(make(tmp_path, "llama"), 1)
    change_torch_file(tmp_path, change)
    try:
        causal(tmp_path)()
    except Exception as error:
        with pytest.warns(UserWarning, match=why), berth.transformers():
            with pytest.raises(type(error)):
                causal(tmp_path)()
        return
    plain, ours = expect_same(causal_seeded(tmp_path), why)
    assert [t.stride() for t in ours.parameters()] == [t.stride() for t in plain.parameters()]


def test_a_tensor_of_two_shards_is_that_of_the_last(tmp_path):
    import safetensors.torch

    make(tmp_path / "safetensors", "llama", max_shard_size="30KB")
    first, *_, last = sorted((tmp_path / "safetensors").glob("model-*.safetensors"))
    name, tensor = next(iter(berth.load_file(first).items()))
    weights = {other: t.clone() for other, t in berth.load_file(last).items()}
    safetensors.torch.save_file({**weights, name: tensor + 1}, last, metadata={"format": "pt"})
    _, ours = expect_same(causal(tmp_path / "safetensors"), "is also in")
    assert torch.equal(ours.state_dict()[name], tensor + 1)

    torch_files(make(tmp_path / "torch", "llama"), 2)
    first, last = sorted((tmp_path / "torch").glob("*.bin"))
    name, tensor = next(iter(torch.load(first).items()))
    torch.save({**torch.load(last), name: tensor + 1}, last)
    expect_same(causal(tmp_path / "torch"), "is also in")


@pytest.mark.parametrize("folder", os.environ.get("BERTH_TEST_MODELS", "").split())
@pytest.mark.parametrize("dtype", ["auto", torch.bfloat16])
def test_other_models_are_the_same(folder, dtype):
    """Models of BERTH_TEST_MODELS, folders with spaces between them."""
    try:
        causal(folder)()
    except (ValueError, RuntimeError) as error:
        pytest.skip(f"transformers {transformers.__version__} does not load it: {error}")
    plain, ours = expect_same(causal(folder), dtype=dtype)
    expect_same_logits(plain, ours)
    assert isinstance(ours.berth_report, berth.LoadedReport)


@pytest.mark.parametrize("kind", MIXTURES)
def test_experts_are_read_into_their_stack(tmp_path, kind, monkeypatch):
    """No stored expert is made a tensor of its own, and the model saves what it was made from."""
    make(tmp_path / "in", kind)
    mapped = []
    index = _checkpoint.Mapped.__getitem__
    monkeypatch.setattr(
        _checkpoint.Mapped,
        "__getitem__",
        lambda self, key: mapped.append(self._files.names[self.index]) or index(self, key),
    )
    with berth.transformers():
        model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "in")
    assert mapped and not any(".experts." in name for name in mapped)
    model.save_pretrained(tmp_path / "out")
    before = berth.load_file(tmp_path / "in" / "model.safetensors")
    after = berth.load_file(tmp_path / "out" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def to_bytes(weights):
    for name in weights:
        if ".experts." in name:
            weights[name] = (weights[name] * 100).to(torch.int8)


def to_float8(weights):
    for name in weights:
        if ".experts." in name:
            weights[name] = weights[name].to(torch.float8_e4m3fn)


def mixed(weights):
    for i, name in enumerate(weights):
        weights[name] = weights[name].to([torch.float16, torch.float64, torch.bfloat16][i % 3])


def stacked(weights):
    """As a model is saved whose experts were stacked by hand."""
    for layer in range(SMALL["num_hidden_layers"]):
        prefix = f"model.layers.{layer}.mlp.experts."
        of = {
            part: torch.stack([weights.pop(f"{prefix}{i}.{part}_proj.weight") for i in range(6)])
            for part in ("gate", "up", "down")
        }
        weights[prefix + "gate_up_proj"] = torch.cat([of["gate"], of["up"]], 1)
        weights[prefix + "down_proj"] = of["down"]


@pytest.mark.parametrize("change", [to_bytes, to_float8, mixed, stacked])
def test_experts_that_are_stored_in_other_ways_are_the_same(tmp_path, change):
    rewrite(make(tmp_path, "qwen3_moe"), change)
    plain, ours = expect_same(causal(tmp_path), dtype=torch.bfloat16)
    rules = getattr(plain, "_weight_conversions", None)
    assert repr(rules) == repr(getattr(ours, "_weight_conversions", None))


def test_rules_of_transformers_that_remember_are_asked_by_transformers_alone(tmp_path):
    """Some rename only what comes behind a name that they have seen."""
    from transformers import core_model_loading as core

    class Remembering(core.WeightRenaming):
        __slots__ = ("seen",)

        def rename_source_key(self, key):
            self.seen = [*getattr(self, "seen", []), key]
            return key, None

    rule = Remembering(source_patterns="never", target_patterns="never")
    files = Files([make(tmp_path, "llama") / "model.safetensors"])
    settings = types.SimpleNamespace(weight_mapping=[rule], device_map={"": "cpu"})
    model = causal(tmp_path)(dtype=torch.bfloat16)
    made = _state_dict.StateDict(model, _checkpoint.Source(files), settings)
    assert set(made) == set(files.names) == set(made.targets)
    assert not hasattr(rule, "seen")


def test_rules_that_are_not_known_are_left_to_transformers(tmp_path):
    files = Files([make(tmp_path, "llama") / "model.safetensors"])
    settings = types.SimpleNamespace(
        weight_mapping=[types.SimpleNamespace(operations=[])], device_map=None
    )
    model = causal(tmp_path)(dtype=torch.bfloat16)
    with pytest.warns(UserWarning, match="not known: it stacks experts itself"):
        made = _state_dict.StateDict(model, _checkpoint.Source(files), settings)
    assert set(made) == set(files.names) and _state_dict.private_need(made) > 0


def test_reports_are_the_same(tmp_path):
    """Missing, unexpected and mismatched keys, and heads that are made anew."""

    def change(weights):
        weights["other.weight"] = torch.zeros(3)
        del weights["model.layers.1.mlp.up_proj.weight"]
        weights["model.norm.weight"] = torch.zeros(7)

    rewrite(make(tmp_path, "llama"), change)

    def load(**options):
        torch.manual_seed(1)
        return transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path, ignore_mismatched_sizes=True, **options
        )

    expect_same(load)

    def load_classifier(**options):
        torch.manual_seed(1)
        return transformers.AutoModelForSequenceClassification.from_pretrained(
            tmp_path, ignore_mismatched_sizes=True, num_labels=3, **options
        )

    expect_same(load_classifier)


def test_a_mixture_with_a_missing_expert_is_reported_the_same(tmp_path):
    def change(weights):
        for name in [name for name in weights if "layers.1.mlp.experts.2." in name]:
            del weights[name]

    rewrite(make(tmp_path, "qwen3_moe"), change)

    def load(**options):
        torch.manual_seed(1)
        return causal(tmp_path)(ignore_mismatched_sizes=True, **options)

    expect_same(load)


def test_modules_that_stay_in_float32(tmp_path):
    torch.manual_seed(0)
    config = transformers.T5Config(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
                                   vocab_size=101, feed_forward_proj="gated-gelu")
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)

    def load(**options):
        return transformers.T5ForConditionalGeneration.from_pretrained(tmp_path, **options)

    _, ours = expect_same(load, dtype=torch.float16)
    kinds = {p.dtype for p in ours.parameters()}
    assert kinds == {torch.float16, torch.float32}


@pytest.mark.parametrize("kind", ["llama", "mixtral"])
def test_layers_on_the_disk(tmp_path, kind):
    pytest.importorskip("accelerate")
    make(tmp_path, kind)
    places = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk",
              "model.layers.2": "disk", "model.norm": "cpu", "model.rotary_emb": "cpu",
              "lm_head": "cpu"}
    plain, ours = expect_same(causal(tmp_path), device_map=places,
                              offload_folder=str(tmp_path / "offload"))
    expect_same_logits(plain, ours)
    after = ours.berth_report.after_load
    assert set(after) == {"cpu", "disk"} and after["disk"] > 0
    assert ours.berth_report.nothing_on_gpu


def test_from_pretrained_places_and_reports(tmp_path, capfd):
    make(tmp_path, "qwen2")
    model = berth.from_pretrained(tmp_path, dtype="auto")
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    expect_same_logits(plain, model)
    report = model.berth_report
    if not torch.cuda.is_available():
        assert model.hf_device_map == {"": "cpu"} if hasattr(model, "hf_device_map") else True
        assert report.after_load == {"cpu": sum(p.numel() * 4 for p in model.parameters())}
        assert report.nothing_on_gpu
        assert "nothing is on a GPU" in capfd.readouterr().err
        assert report.mapped == report.after_load["cpu"]  # the head is tied
    assert report.planned_peak == 0
    with pytest.raises(berth.DoesNotFit, match="does not fit"):
        berth.from_pretrained(tmp_path, max_memory={"cpu": 1000, "disk": 1000})


@pytest.mark.parametrize("dtype, size", [("auto", 4), (torch.bfloat16, 2)])
def test_what_a_mixture_takes_is_known_before(tmp_path, dtype, size):
    """Experts that are stacked are private, and so is what is converted; the rest is mapped."""
    make(tmp_path, "mixtral")
    report = berth.from_pretrained(tmp_path, dtype=dtype).berth_report
    assert f"({report.planned_peak / 2**30:.2f} GiB planned)" in str(report)
    weights = berth.load_file(tmp_path / "model.safetensors")
    experts = sum(t.numel() for name, t in weights.items() if ".experts." in name) * size
    others = sum(t.numel() for name, t in weights.items() if ".experts." not in name) * size
    if dtype == "auto":
        assert report.planned_peak == experts and report.mapped == others
    else:
        # What is converted passes through staging.
        assert report.planned_peak == experts + 2 * others and report.mapped == 0


@pytest.mark.parametrize("dim, copies", [(0, 0), (1, 3 + 2)])
def test_what_transformers_makes_of_a_tensor_is_planned(tmp_path, dim, copies):
    """A part of its rows is still in the file; a part of its columns is a copy, of which one more is
    counted while it is made, and the tensor itself."""
    from transformers import core_model_loading as core

    rule = core.WeightConverter(
        source_patterns="mlp.gate_proj.weight", target_patterns="mlp.gate_proj.weight",
        operations=[core.Chunk(dim=dim)],
    )
    files = Files([make(tmp_path, "llama") / "model.safetensors"])
    settings = types.SimpleNamespace(weight_mapping=[rule], device_map=None)
    made = _state_dict.StateDict(causal(tmp_path)(), _checkpoint.Source(files), settings)
    size = 4 * SMALL["hidden_size"] * SMALL["intermediate_size"]
    assert _state_dict.private_need(made) == copies * size


def test_what_is_not_aligned_is_planned_as_private(tmp_path):
    file = make(tmp_path, "llama") / "model.safetensors"
    data = file.read_bytes()
    header = json.dumps(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])).encode()
    header += b" " * (5 - len(header) % 4)
    weights = data[8 + int.from_bytes(data[:8], "little") :]
    file.write_bytes(len(header).to_bytes(8, "little") + header + weights)
    _, ours = expect_same(causal(tmp_path))
    report = ours.berth_report
    assert report.planned_peak == report.after_load["cpu"] == len(weights) and report.mapped == 0


@pytest.mark.parametrize("options", [{}, {"device_map": {"": "cpu"}}, {"device_map": "auto"}])
def test_private_memory_that_is_not_free_is_an_error_before_bytes_move(
    tmp_path, monkeypatch, options
):
    read = []
    fill = _checkpoint._into.fill
    monkeypatch.setattr(_checkpoint._into, "fill", lambda *a: read.append(1) or fill(*a))
    monkeypatch.setattr(hub, "_LEAST_CHECKED", 1)
    make(tmp_path / "mixture", "mixtral")
    make(tmp_path / "dense", "llama")
    need = berth.from_pretrained(tmp_path / "mixture").berth_report.planned_peak
    for free in (need, 0):  # 0: unknown
        monkeypatch.setattr(hub, "_free_host_memory", lambda: free)
        assert berth.from_pretrained(tmp_path / "mixture", **options).berth_report
    monkeypatch.setattr(hub, "_free_host_memory", lambda: need - 7)
    read.clear()
    message = f"the load needs {need} private bytes, {need - 7} are free now, 7 too few"
    with pytest.raises(berth.DoesNotFit, match=message) as error:
        berth.from_pretrained(tmp_path / "mixture", **options)
    assert isinstance(error.value, MemoryError) and not read
    assert berth.from_pretrained(tmp_path / "dense", **options).berth_report  # is mapped


def test_the_library_says_how_much_host_memory_is_free():
    assert 0 < hub._free_host_memory() < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def tied_after_load(model):
    """Bytes of memory that the weights are in."""
    return sum({t.data_ptr(): t.nbytes for t in model.state_dict().values()}.values())


def test_weights_are_counted_as_they_are_tied_in_the_end(tmp_path):
    """Ties that the config asks for and that the files do not have, and the other way round."""

    def head_alone(weights):
        del weights["model.embed_tokens.weight"]

    make(tmp_path / "both", "llama")
    rewrite(make(tmp_path / "head", "llama"), head_alone)
    torch_files(make(tmp_path / "shared", "llama"), 1)
    change_torch_file(
        tmp_path / "shared",
        lambda weights: {**weights, "lm_head.weight": weights["model.embed_tokens.weight"]},
    )
    for folder in ("both", "head", "shared"):
        for tied in (True, False):
            _, ours = expect_same(causal_seeded(tmp_path / folder), tie_word_embeddings=tied)
            assert ours.berth_report.after_load == {"cpu": tied_after_load(ours)}, (folder, tied)


def test_other_classes(tmp_path):
    make(tmp_path, "llama")
    model = berth.from_pretrained(tmp_path, auto_class=transformers.AutoModel, device_map=None)
    assert type(model).__name__ == "LlamaModel"


# ---- What Berth leaves to transformers


@pytest.mark.parametrize(
    "settings, why",
    [
        ({}, ""),
        ({"hf_quantizer": types.SimpleNamespace(
            quantization_config=types.SimpleNamespace(quant_method="gptq"))},
         "it is quantised, and gptq loads in its own way"),
        ({"device_mesh": object()}, "it is loaded by tensor parallelism"),
        ({"disable_mmap": True}, "disable_mmap asks for reading without mappings"),
    ],
)
def test_why_a_load_is_left_to_transformers(settings, why):
    config = types.SimpleNamespace(**{"hf_quantizer": None, **settings})
    assert _taken.why_not(None, None, ["model.safetensors"], config) == why
    assert "neither safetensors" in _taken.why_not(None, {}, ["model.gguf"], config)
    assert _taken.why_not(None, {}, ["model.safetensors"], config) == "it is not made from files"
    assert "neither safetensors" in _taken.why_not(None, None, ["tf_model.h5"], config)


def test_deepspeed_loads_by_itself(monkeypatch):
    import transformers.integrations

    monkeypatch.setattr(transformers.integrations, "is_deepspeed_zero3_enabled", lambda: True)
    config = types.SimpleNamespace(hf_quantizer=None)
    assert _taken.why_not(None, None, ["model.safetensors"], config) == "DeepSpeed loads it"


def test_a_quantised_model_is_loaded_plainly_with_one_warning(tmp_path):
    """transformers asks for the quantizer's package before anything is loaded, so one is made up."""
    from transformers.quantizers import auto, base

    class Quantizer(base.HfQuantizer):
        requires_calibration = False
        is_trainable = True

        def is_serializable(self, *_arguments, **_options):
            return True

    class Config(transformers.utils.quantization_config.QuantizationConfigMixin):
        def __init__(self, quant_method="made_up", **_options):
            self.quant_method = quant_method

    make(tmp_path, "llama")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(auto.AUTO_QUANTIZER_MAPPING, "made_up", Quantizer)
        patch.setitem(auto.AUTO_QUANTIZATION_CONFIG_MAPPING, "made_up", Config)
        with pytest.warns(UserWarning, match="it is quantised, and made_up loads") as said:
            with berth.transformers():
                model = transformers.AutoModelForCausalLM.from_pretrained(
                    tmp_path, quantization_config=Config())
    assert sum("without Berth" in str(warning.message) for warning in said) == 1
    assert not hasattr(model, "berth_report")


def test_a_file_of_torch_that_berth_cannot_read_is_left_to_transformers(tmp_path):
    """Such a file may hold more than Berth takes. This one nobody can read."""
    torch_files(make(tmp_path, "llama"), 1)
    file = tmp_path / "pytorch_model.bin"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="loaded without Berth: .*pytorch_model.bin: "):
        with pytest.raises(Exception) as error, berth.transformers():
            transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert not isinstance(error.value, berth.Error)


def test_a_broken_file_has_the_message_of_the_command(tmp_path):
    make(tmp_path, "llama")
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(berth.BrokenFile, match="model.safetensors: ") as error:
        berth.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not takes("disable_mmap"), reason="this transformers has no disable_mmap")
def test_what_is_not_to_be_mapped_is_loaded_plainly(tmp_path):
    make(tmp_path, "llama")
    with pytest.warns(UserWarning, match="loaded without Berth: disable_mmap"):
        with berth.transformers():
            transformers.AutoModelForCausalLM.from_pretrained(tmp_path, disable_mmap=True)


@pytest.mark.skipif(
    not hasattr(transformers.modeling_utils, "_is_on_hf_mount"),
    reason="this transformers knows no mounts of the Hub",
)
def test_a_mount_of_the_hub_is_not_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr(transformers.modeling_utils, "_is_on_hf_mount", lambda file: True)
    expect_same(causal(make(tmp_path, "llama")), "a mount of the Hub")


def test_who_wraps_the_same_function_meanwhile_keeps_it(tmp_path):
    make(tmp_path, "llama")
    model_class = transformers.PreTrainedModel
    original = inspect.getattr_static(model_class, "_load_pretrained_model")
    calls = []
    with berth.transformers():
        inner = model_class._load_pretrained_model

        @functools.wraps(inner)
        def outer(*arguments, **options):
            calls.append(1)
            return inner(*arguments, **options)

        model_class._load_pretrained_model = staticmethod(outer)
    try:
        assert not hasattr(causal(tmp_path)(), "berth_report")
        for _ in range(2):
            assert isinstance(berth.from_pretrained(tmp_path).berth_report, berth.LoadedReport)
        assert len(calls) == 3
    finally:
        model_class._load_pretrained_model = original


def test_an_unknown_version_loads_plainly(tmp_path, monkeypatch):
    make(tmp_path, "llama")
    plain = transformers.PreTrainedModel._load_pretrained_model
    monkeypatch.setattr(transformers.PreTrainedModel, "_load_pretrained_model",
                        staticmethod(lambda *a, **k: plain(*a, **k)))
    with pytest.warns(UserWarning, match="this version of transformers is not known"):
        with berth.transformers():
            transformers.AutoModelForCausalLM.from_pretrained(tmp_path)


def test_nothing_stays_behind(tmp_path):
    make(tmp_path, "llama")
    before = dict(vars(transformers.PreTrainedModel))
    with pytest.raises(ZeroDivisionError):
        with berth.transformers():
            with berth.transformers():
                1 / 0
    assert dict(vars(transformers.PreTrainedModel)) == before
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert not hasattr(model, "berth_report")


def test_a_model_of_the_local_cache_by_its_id(tmp_path, monkeypatch):
    snapshot = tmp_path / "models--someone--small" / "snapshots" / "0123abc"
    make(snapshot, "llama")
    refs = tmp_path / "models--someone--small" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0123abc")
    model = berth.from_pretrained("someone/small", cache_dir=str(tmp_path), local_files_only=True)
    assert torch.equal(
        model.lm_head.weight, berth.load_file(snapshot / "model.safetensors")["lm_head.weight"]
    )


@pytest.fixture
def loaded_once(tmp_path):
    """A model that has been loaded: transformers keeps a thread for its bars from its first load on."""
    berth.from_pretrained(make(tmp_path, "qwen3_moe"))


def test_ctrl_c_ends_a_load(tmp_path, monkeypatch, loaded_once, ctrl_c_while_reading, held):
    """KeyboardInterrupt comes when nothing reads any more, and nothing stays behind."""
    pressed = ctrl_c_while_reading
    with pytest.raises(KeyboardInterrupt):
        berth.from_pretrained(tmp_path)
        threading.Event().wait(10)  # the signal is on its way, should the load have been quicker
    assert pressed
    monkeypatch.undo()
    assert isinstance(berth.from_pretrained(tmp_path).berth_report, berth.LoadedReport)


def test_what_asks_after_the_end_gets_an_error(tmp_path):
    make(tmp_path, "llama")
    source = _checkpoint.Source(Files([tmp_path / "model.safetensors"]))
    late = _checkpoint.Mapped(source, 0)
    source.end()
    with pytest.raises(berth.Error, match="the file is closed"):
        late[...]


def test_functions_that_are_not_known_load_plainly(tmp_path, monkeypatch):
    from transformers import modeling_utils

    make(tmp_path, "llama")
    monkeypatch.setattr(modeling_utils, "_get_device_map", lambda model, places: places)
    with pytest.warns(UserWarning, match="this version of transformers is not known"):
        with berth.transformers():
            pass


def test_what_berth_cannot_plan_is_placed_by_accelerate(tmp_path, monkeypatch):
    def no_plan(*_arguments, **_options):
        raise berth.Error("torch.int3: is no dtype of weights")

    make(tmp_path, "llama")
    monkeypatch.setattr(hub, "plan", no_plan)
    with pytest.warns(UserWarning, match="placed without Berth: torch.int3"):
        model = berth.from_pretrained(tmp_path, max_memory={"cpu": "1GiB"})
    assert model.berth_report.after_load.keys() == {"cpu"}
