"""accelerate's load_checkpoint_and_dispatch() with Berth's bytes and places: accelerate's hooks
move what is offloaded, and take it from Berth's mappings instead of copies on the disk."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Iterator, NamedTuple, Sequence, Union

from . import _into
from ._errors import BrokenFile, Error, UsageError
from ._library import path_bytes
from ._progress import interruptible
from ._report import PeakSampler, place_of, report_of
from ._tensors import FLOATS, STORED_NAMES, TORCH_NAMES, torch_shape
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
    offload_folder: Union["Path", None] = None,
    offload_buffers: bool = False,
    dtype: Union["torch.dtype", str, None] = None,
    offload_state_dict: Union[bool, None] = None,
    skip_keys: Union[str, Sequence[str], None] = None,
    preload_module_classes: Union[Sequence[str], None] = None,
    force_hooks: bool = False,
    strict: bool = False,
    full_state_dict: bool = True,
    broadcast_from_rank0: bool = False,
) -> "torch.nn.Module":
    """Loads a checkpoint into a model of torch, which may be on the meta device, and adds the hooks
    with which it runs over several devices, as accelerate.load_checkpoint_and_dispatch does.

    Layers that are offloaded to the disk stay in the checkpoint, and those on the CPU are mapped
    from it: nothing is written. The checkpoint must stay where it is as long as the model lives.
    What goes to GPUs is read in one load straight into memory that torch allocates.
    `model.berth_report` says what the load took.

    Args:
        model: its state dict has the names of the checkpoint.
        checkpoint: a file, a folder, or the index of shards.
        device_map: modules and where they go; "auto" lets Berth's planner place them, and
            "balanced", "balanced_low_0" and "sequential" place them by accelerate's rules. None:
            where the model's tensors are, which is the CPU for those on the meta device; no hooks.
        max_memory: the most bytes of weights on each device.
        no_split_module_classes: classes whose modules stay on one device. Default: the model's own.
        offload_folder: of accelerate, and without effect: nothing is written.
        offload_state_dict: weights on the CPU keep their stored dtype, as accelerate's do then.
        offload_buffers: whether buffers of offloaded modules are offloaded, too.
        dtype: what floating-point weights become. Default: what the model has; where weights go to
            the disk, what is stored.
        skip_keys, preload_module_classes, force_hooks: as in accelerate.dispatch_model().
        strict: whether names that only one of model and checkpoint has are an Error. If not, a
            warning names those that only the checkpoint has.
        full_state_dict, broadcast_from_rank0: for distributed models, which Berth does not load:
            UsageError if they are not the defaults.

    Raises:
        DoesNotFit, NoSuchFile, BrokenFile. UsageError: an argument makes no sense. Error: a tensor
        has another shape than the model's. KeyboardInterrupt: Ctrl-C.
    """
    from accelerate import dispatch_model
    from accelerate.utils import find_tied_parameters, retie_parameters

    if broadcast_from_rank0 or not full_state_dict:
        raise UsageError("broadcast_from_rank0, full_state_dict: Berth loads no distributed models")
    kind = None if dtype is None else _float_named(dtype)
    files = _open(checkpoint)
    if isinstance(device_map, str):
        policies = ("auto", "balanced", "balanced_low_0", "sequential")
        if device_map not in policies:
            raise UsageError(f"device_map={device_map!r}: is none of {', '.join(policies)}")
        device_map = infer_auto_device_map(
            model, max_memory, no_split_module_classes, dtype, policy=device_map
        )
    places: Union[dict[str, Any], None] = None if device_map is None else dict(device_map)
    tied = find_tied_parameters(model)
    if strict:
        _require_same(model, files, tied)
    with PeakSampler() as sampler:
        wanted = _wanted(model, files, checkpoint, places, offload_buffers, kind,
                         bool(offload_state_dict))
        planned_peak = _set(model, files, wanted)
        retie_parameters(model, tied)
    model.berth_report = report_of(model, planned_peak, sampler, places)
    if places is None:
        return model
    offloaded = {each.name: each.dtype for each in wanted if each.device == "meta"}
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


class _Wanted(NamedTuple):
    """A tensor of the model that the checkpoint has."""

    name: str
    index: int  # in the files
    device: Any  # "meta": it is offloaded; None: it is copied into the tensor that is there
    dtype: "torch.dtype"


def _open(checkpoint: Any) -> Files:
    path = os.fsdecode(path_bytes(checkpoint))
    if not path.endswith(".json") or not os.path.isfile(path):
        return Files([path])
    try:
        with open(path, encoding="utf-8") as file:
            index = json.load(file)
        if "weight_map" in index:
            index = index["weight_map"]
        shards = sorted(set(index.values()))
        if not shards or not all(isinstance(shard, str) for shard in shards):
            raise TypeError("it names no shards")
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise BrokenFile(f"{path}: is no index of shards: {error}") from None
    return Files([os.path.join(os.path.dirname(path), shard) for shard in shards])


def _float_named(dtype: Any) -> "torch.dtype":
    import torch

    if not isinstance(dtype, torch.dtype):
        name = str(dtype).removeprefix("torch.")
        dtype = getattr(torch, TORCH_NAMES.get(name, name), None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise UsageError(f"dtype={dtype}: weights become a floating-point dtype")
    return dtype


def _wanted(model: Any, files: Files, checkpoint: Any, places: Union[dict[str, Any], None],
            offload_buffers: bool, dtype: Any, cpu_as_stored: bool) -> list[_Wanted]:
    """Where each tensor goes that model and checkpoint have. Raises Error for those that have no
    place or another shape than in the model, and warns of those that the model lacks."""
    known = model.state_dict()
    buffers = {name for name, _ in model.named_buffers()}
    names = {str(place) for place in (places or {}).values()}
    others = [place for place in (places or {}).values() if str(place) not in ("cpu", "disk")]
    main_device = others[0] if others else "cpu"
    found = []
    surplus = []
    for i, name in enumerate(files.names):
        if name not in known:
            surplus.append(name)
            continue
        tensor = known[name]
        shape = torch_shape(files.shape(i), files.dtype(i))
        if shape != tuple(tensor.shape):
            raise Error(
                f"{os.fspath(checkpoint)}: tensor {name!r} has shape {list(shape)}, that of the "
                f"model {list(tensor.shape)}"
            )
        stored = _stored_dtype(files, i)
        if places is None:
            device: Any = "cpu" if tensor.device.type == "meta" else None
            found.append(_Wanted(name, i, device, _becomes(stored, dtype, tensor.dtype)))
            continue
        if not _has_place(name, places):
            raise UsageError(f"device_map: says nothing of {name!r} (the key \"\" means everything)")
        place = place_of(name, tensor, places)
        away = place == "disk" or (place == "cpu" and main_device != "cpu")
        offloads = away and (offload_buffers or name not in buffers)
        device = "meta" if offloads else main_device if away else place
        as_stored = "disk" in names or (cpu_as_stored and place == "cpu")
        usual = stored if as_stored else tensor.dtype
        found.append(_Wanted(name, i, device, _becomes(stored, dtype, usual)))
    if surplus:
        warnings.warn(
            f"{os.fspath(checkpoint)}: {len(surplus)} tensors are not those of "
            f"{type(model).__name__} and were left out, such as {surplus[0]!r}",
            stacklevel=3,
        )
    return found


def _set(model: Any, files: Files, wanted: Sequence[_Wanted]) -> int:
    """Puts the tensors into the model. Gives the private memory that this was to take, in bytes."""
    import torch
    from accelerate.utils import set_module_tensor_to_device

    need = 0  # what is not on the CPU, or mapped there, needs no private memory
    to_gpus = _read_to_gpus(files, wanted)
    staged = sum(tensor.numel() * tensor.element_size() for tensor in to_gpus.values())
    there = model.state_dict()
    for each in wanted:
        if each.device is None:
            with torch.no_grad():
                there[each.name].copy_(files.map_one(each.index))
            continue
        if each.device == "meta":
            set_module_tensor_to_device(model, each.name, "meta", dtype=each.dtype)
            continue
        value = to_gpus.pop(each.index, None)
        if value is None:
            value = files.map_one(each.index)
            if str(each.device) == "cpu" and value.dtype != each.dtype:
                need += value.numel() * each.dtype.itemsize
            value = value.to(each.dtype)  # accelerate would leave integers
        set_module_tensor_to_device(model, each.name, each.device, value=value, dtype=each.dtype)
    return need + min(staged, _into.STAGING)


def _read_to_gpus(files: Files, wanted: Sequence[_Wanted]) -> dict[int, "torch.Tensor"]:
    """What goes to GPUs that Berth can fill, read in one load: tensors by index."""
    found: dict[int, Any] = {}
    targets = []
    for each in wanted:
        gpu = None if each.device in (None, "meta") else _into.gpu_of(each.device)
        stored = files.dtype(each.index)
        kind = STORED_NAMES.get(str(each.dtype).removeprefix("torch."), "")
        if gpu is None or (kind != stored and not {kind, stored} <= FLOATS.keys()):
            continue  # torch copies it, and converts it if need be
        tensor = _into.empty(torch_shape(files.shape(each.index), stored), kind, gpu)
        targets.append((tensor, kind, ((each.index, 0, tensor.numel()),)))
        found[each.index] = tensor
    if targets:
        made = _into.targets_of(targets)
        interruptible(lambda watch: _into.fill(files, made, watch), True)
    return found


def _stored_dtype(files: Files, i: int) -> "torch.dtype":
    import torch

    stored = files.dtype(i)
    found = getattr(torch, TORCH_NAMES.get(stored, ""), None)
    if found is None:
        raise Error(f"tensor {files.names[i]!r}: torch has no dtype for {stored}")
    return found


def _becomes(stored: "torch.dtype", asked: Union["torch.dtype", None],
             usual: "torch.dtype") -> "torch.dtype":
    """What a tensor becomes: what is floating-point the dtype that the caller asked for, if one."""
    if asked is None:
        return usual
    return asked if stored.is_floating_point else stored


def _has_place(name: str, places: Mapping[str, Any]) -> bool:
    while name and name not in places:
        name = name.rpartition(".")[0]
    return name in places


def _require_same(model: Any, files: Files, tied: Sequence[Sequence[str]]) -> None:
    known, stored = set(model.state_dict()), set(files.names)
    missing = known - stored
    for group in tied:
        if not stored.isdisjoint(group):
            missing.difference_update(group)
    for names, what in ((missing, "the checkpoint lacks"), (stored - known, "the model lacks")):
        if names:
            raise Error(f"{what} {len(names)} tensors, such as {min(names)!r}")
