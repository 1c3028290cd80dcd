"""The plugin for vLLM, against a stand-in of vLLM's interface as published (0.10 and newer)."""

import dataclasses
import pathlib
import sys
import types

import pytest
import safetensors.torch
import torch

from berth import vllm as plugin


@dataclasses.dataclass
class LoadConfig:
    load_format: str = "auto"
    download_dir: str = ""


class DefaultModelLoader:
    """What Berth's loader uses of vLLM's."""

    @dataclasses.dataclass
    class Source:
        model_or_path: str
        revision: str = None
        subfolder: str = None
        prefix: str = ""
        fall_back_to_pt: bool = True
        allow_patterns_overrides: list = None

    def __init__(self, load_config):
        self.load_config = load_config

    def _prepare_weights(self, model_name_or_path, subfolder, revision, fall_back_to_pt,
                         allow_patterns_overrides):
        if self.load_config.load_format != "auto":
            raise ValueError(f"Unknown load_format: {self.load_config.load_format}")
        folder = pathlib.Path(model_name_or_path, subfolder or "")
        for pattern in allow_patterns_overrides or ["*.safetensors", "*.bin"]:
            files = sorted(str(file) for file in folder.glob(pattern))
            if files:
                return str(folder), files, pattern == "*.safetensors"
        raise RuntimeError("Cannot find any model weights")

    def _get_weights_iterator(self, source):
        return iter([(source.prefix + "plain", None)])

    def get_all_weights(self, model_config, model):
        yield from self._get_weights_iterator(self.Source(model_config.model))
        for source in getattr(model, "secondary_weights", ()):
            yield from self._get_weights_iterator(source)

    def load_weights(self, model, model_config):
        model.load_weights(self.get_all_weights(model_config, model))


class OlderModelLoader(DefaultModelLoader):
    """Before vLLM had subfolders."""

    def _prepare_weights(self, model_name_or_path, revision, fall_back_to_pt,
                         allow_patterns_overrides):
        return super()._prepare_weights(model_name_or_path, None, revision, fall_back_to_pt,
                                        allow_patterns_overrides)


class NewerModelLoader(DefaultModelLoader):
    def _prepare_weights(self, where):
        raise AssertionError("nobody knows where")


@pytest.fixture
def vllm(monkeypatch):
    """The modules of a vLLM with a given default loader; returns the loader for a format."""
    formats = {}

    def register_model_loader(name):
        def register(loader):
            assert name not in formats, "vLLM would warn that a load format is replaced"
            formats[name] = loader
            return loader

        return register

    def install(default_loader=DefaultModelLoader):
        module = types.ModuleType("vllm.model_executor.model_loader")
        module.register_model_loader = register_model_loader
        module.DefaultModelLoader = default_loader
        module._LOAD_FORMAT_TO_MODEL_LOADER = formats
        parent = types.ModuleType("vllm.model_executor")
        parent.model_loader = module
        for name, found in {"vllm": types.ModuleType("vllm"), "vllm.model_executor": parent,
                            "vllm.model_executor.model_loader": module}.items():
            monkeypatch.setitem(sys.modules, name, found)
        plugin.register()
        plugin.register()  # each process calls plugins again
        return formats["berth"](LoadConfig("berth", "somewhere"))

    return install


class Model:
    secondary_weights = ()

    def load_weights(self, weights):
        self.loaded = {name: tensor.clone() for name, tensor in weights}


def load(loader, folder, secondary=()):
    model = Model()
    model.secondary_weights = secondary
    loader.load_weights(model, types.SimpleNamespace(model=str(folder)))
    return model.loaded


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    parts = [{f"{part}.{i}": torch.randn(7, 5, dtype=torch.bfloat16) for i in range(5)}
             for part in range(2)]
    for i, part in enumerate(parts):
        safetensors.torch.save_file(part, tmp_path / f"model-{i}.safetensors")
    return {**parts[0], **parts[1]}


@pytest.mark.parametrize("default_loader", [DefaultModelLoader, OlderModelLoader])
@pytest.mark.parametrize("chunk_bytes", [1, 100, 512 << 20])
def test_a_model_gets_all_tensors(vllm, weights, tmp_path, monkeypatch, default_loader, chunk_bytes,
                                  held):
    monkeypatch.setattr(plugin, "_CHUNK_BYTES", chunk_bytes)
    loader = vllm(default_loader)
    assert isinstance(loader, default_loader) and loader.load_config.download_dir == "somewhere"
    loaded = load(loader, tmp_path)
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())


def test_other_sources_have_prefixes_and_folders(vllm, weights, tmp_path):
    (tmp_path / "tower").mkdir()
    torch.save({"w": torch.ones(3)}, tmp_path / "tower" / "pytorch_model.bin")
    tower = DefaultModelLoader.Source(str(tmp_path), subfolder="tower", prefix="vision.")
    loaded = load(vllm(), tmp_path, [tower])
    assert loaded.keys() == {*weights, "vision.w"} and torch.equal(loaded["vision.w"], torch.ones(3))


def test_a_reader_that_stops_early_leaves_nothing(weights, tmp_path, monkeypatch, held):
    monkeypatch.setattr(plugin, "_CHUNK_BYTES", 100)
    tensors = plugin.tensors_of(sorted(map(str, tmp_path.glob("*.safetensors"))))
    name, tensor = next(tensors)
    tensors.close()
    assert torch.equal(tensor, weights[name])


def test_what_berth_cannot_take_is_read_by_vllm(vllm, tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"no archive")
    source = DefaultModelLoader.Source(str(tmp_path), prefix="x.")
    with pytest.warns(UserWarning, match="loaded without Berth: .*pytorch_model.bin"):
        assert list(vllm()._get_weights_iterator(source)) == [("x.plain", None)]


def test_an_unknown_version_reads_by_itself(vllm, tmp_path):
    source = DefaultModelLoader.Source(str(tmp_path))
    with pytest.warns(UserWarning, match="this version of vLLM is not known"):
        assert list(vllm(NewerModelLoader)._get_weights_iterator(source)) == [("plain", None)]


def test_the_package_names_the_plugin():
    text = (pathlib.Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert '[project.entry-points."vllm.general_plugins"]\nberth = "berth.vllm:register"\n' in text
    assert callable(plugin.register)
