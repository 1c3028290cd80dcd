"""Berth: decides where every tensor of a model will live before it reads a byte of its weights,
then reads every byte once, straight to its destination.

    tensors = berth.load_file("model.safetensors")      # as safetensors.torch.load_file
    print(berth.plan("models/Llama-3.3-70B", {0: "24GiB", "cpu": "64GiB"}).explain())

Importing this module imports neither torch nor the library, which is opened when something first
needs it. docs/python.md is the guide.
"""

from ._errors import BrokenFile, DoesNotFit, Error, Interrupted, NoSuchFile, UsageError

TYPE_CHECKING = False  # type checkers take it for True; typing's own would take time to import
if TYPE_CHECKING:
    from ._report import LoadedReport
    from .dispatch import load_checkpoint_and_dispatch
    from .files import load_file, safe_open
    from .hub import from_pretrained, transformers
    from .planning import Plan, infer_auto_device_map, plan

__all__ = [
    "BrokenFile",
    "DoesNotFit",
    "Error",
    "Interrupted",
    "LoadedReport",
    "NoSuchFile",
    "Plan",
    "UsageError",
    "from_pretrained",
    "infer_auto_device_map",
    "load_checkpoint_and_dispatch",
    "load_file",
    "plan",
    "safe_open",
    "transformers",
]

_MODULES = {
    "load_checkpoint_and_dispatch": "dispatch",
    "load_file": "files",
    "safe_open": "files",
    "LoadedReport": "_report",
    "from_pretrained": "hub",
    "transformers": "hub",
    "Plan": "planning",
    "infer_auto_device_map": "planning",
    "plan": "planning",
}


def __getattr__(name: str):
    if name == "__version__":
        from ._library import version

        return version()
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list:
    return sorted([*globals(), *_MODULES, "__version__"])
