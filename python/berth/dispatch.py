"""accelerate's load_checkpoint_and_dispatch() with Berth's bytes and places: accelerate's hooks
move what is offloaded, and take it from Berth's mappings instead of copies on the disk."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Iterator, Sequence, Union

from ._errors import Error, UsageError
from ._report import PeakSampler, place_of, report_of
from ._tensors import TORCH_NAMES, stored_name
from .files import Files
from .planning import infer_auto_device_map

if TYPE_CHECKING:
    import torch

    Path = Union[str, "os.PathLike[str]"]
    Device = Union[int, str]
    Size = Union[int, str]

__all__ = ["load_checkpoint_and_dispatch"]


class _Offloaded(Mapping):
    """Tensors by name, mapped whenever they are asked for."""

    def __init__(self, files: Files, dtypes: dict):
        self._files, self._dtypes = files, dtypes  # of each tensor: what it becomes

    def __getitem__(self, name: str) -> "torch.Tensor":
        return self._files.map_one(self._files.index(name)).to(self._dtypes[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._dtypes)

    def __len__(self) -> int:
        return len(self._dtypes)

    def __contains__(self, name: object) -> bool:
        return name in self._dtypes


def load_checkpoint_and_dispatch(
    model: "torch.nn.Module",
    checkpoint: "Path",
    device_map: Union[str, Mapping[str, "Device"], None] = "auto",
    max_memory: Union[Mapping["Device", "Size"], None] = None,
    no_split_module_classes: Union[Sequence[str], None] = None,
    offload_buffers: bool = False,
    dtype: Union["torch.dtype", str, None] = None,
    skip_keys: Union[str, Sequence[str], None] = None,
    preload_module_classes: Union[Sequence[str], None] = None,
    force_hooks: bool = False,
    strict: bool = False,
) -> "torch.nn.Module":
    """Loads a checkpoint into a model of torch, which may be on the meta device, and adds the hooks
    with which it runs over several devices, as accelerate.load_checkpoint_and_dispatch does.

    Layers that are offloaded to the disk stay in the checkpoint, and those on the CPU are mapped
    from it: nothing is written, so there is no `offload_folder`. The checkpoint must stay where it
    is as long as the model lives. `model.berth_report` says what the load took.

    Args:
        model: its state dict has the names of the checkpoint.
        checkpoint: a file, a folder, or the index of a folder.
        device_map: modules and where they go; "auto" lets Berth's planner place them, and so do
            "balanced", "balanced_low_0" and "sequential" by accelerate's rules. None: the CPU.
        max_memory: the most bytes of weights on each device.
        no_split_module_classes: classes whose modules stay on one device. Default: the model's own.
        offload_buffers: whether buffers of offloaded modules are offloaded, too.
        dtype: what floating-point weights become. Default: as they are stored.
        skip_keys, preload_module_classes, force_hooks: as in accelerate.dispatch_model().
        strict: whether names that only one of model and checkpoint has are an Error.

    Raises:
        DoesNotFit, NoSuchFile, BrokenFile. Error: a tensor has another shape than the model's.
    """
    from accelerate import dispatch_model
    from accelerate.utils import find_tied_parameters, retie_parameters, set_module_tensor_to_device

    if isinstance(device_map, str):
        policies = ("auto", "balanced", "balanced_low_0", "sequential")
        if device_map not in policies:
            raise UsageError(f"device_map={device_map!r}: is none of {', '.join(policies)}")
        device_map = infer_auto_device_map(
            model, max_memory, no_split_module_classes, dtype, policy=device_map
        )
    places: dict = {"": "cpu"} if device_map is None else dict(device_map)
    others = [place for place in places.values() if str(place) not in ("cpu", "disk")]
    main_device = others[0] if others else "cpu"

    tied = find_tied_parameters(model)
    known = model.state_dict()
    buffers = {name for name, _ in model.named_buffers()}
    path = pathlib.Path(checkpoint)
    files = Files([path.parent if path.name.endswith(".index.json") else path])
    if strict:
        _require_same(set(known), set(files.names), tied)
    offloaded: dict = {}
    planned_peak = 0  # what is not on the CPU, or mapped there, needs no private memory
    with PeakSampler() as sampler:
        for i, name in enumerate(files.names):
            if name not in known:
                continue
            shape = files.shape(i)
            if shape != tuple(known[name].shape):
                raise Error(
                    f"{checkpoint}: tensor {name!r} has shape {list(shape)}, that of the model "
                    f"{list(known[name].shape)}"
                )
            kind = _dtype_of(files.dtype(i), dtype)
            place = place_of(name, known[name], places)
            away = place == "disk" or (place == "cpu" and main_device != "cpu")
            if away and (offload_buffers or name not in buffers):
                offloaded[name] = kind
                set_module_tensor_to_device(model, name, "meta", dtype=kind)
            else:
                device = main_device if away else place
                if device == "cpu" and TORCH_NAMES[files.dtype(i)] != str(kind).removeprefix("torch."):
                    planned_peak += known[name].numel() * kind.itemsize
                set_module_tensor_to_device(model, name, device, value=files.map_one(i), dtype=kind)
        retie_parameters(model, tied)
    model.berth_report = report_of(model, planned_peak, sampler, places)
    if device_map is None:
        return model
    return dispatch_model(
        model,
        device_map=places,
        state_dict=_Offloaded(files, offloaded) if offloaded else None,
        offload_index={} if offloaded else None,
        offload_buffers=offload_buffers,
        skip_keys=skip_keys,
        preload_module_classes=preload_module_classes,
        force_hooks=force_hooks,
    )


def _dtype_of(stored: str, wanted: Any) -> Any:
    import torch

    if wanted is not None and stored in ("F16", "BF16", "F32", "F64"):
        stored = stored_name(wanted)
    return getattr(torch, TORCH_NAMES[stored])


def _require_same(model: set, checkpoint: set, tied: Sequence[Sequence[str]]) -> None:
    missing = model - checkpoint
    for group in tied:
        if not checkpoint.isdisjoint(group):
            missing.difference_update(group)
    for names, what in ((missing, "the checkpoint lacks"), (checkpoint - model, "the model lacks")):
        if names:
            raise Error(f"{what} {len(names)} tensors, such as {min(names)!r}")
