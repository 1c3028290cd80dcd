"""A checkpoint as transformers' converter takes it: tensors that are mapped when they are asked for,
and experts that transformers would stack, which are read straight into the stacked tensor."""

from __future__ import annotations

import math
import os
import threading
import warnings
from typing import TYPE_CHECKING, Any, Union

from . import _into
from ._progress import Watch
from ._report import place_of
from ._tensors import TORCH_NAMES, stored_name
from .files import Files

if TYPE_CHECKING:
    import torch

__all__ = ["Source", "private_need", "state_dict_of"]


class Source:
    """The files of one load. transformers asks for their tensors on threads of its own, which still
    run when a load ends by an exception."""

    def __init__(self, files: Files):
        self.files = files
        self.watch = Watch(False)
        self._changed = threading.Condition()
        self._users = 0

    def __enter__(self) -> Files:
        with self._changed:
            self._users += 1
        return self.files

    def __exit__(self, *_exception: Any) -> None:
        with self._changed:
            self._users -= 1
            self._changed.notify_all()

    def end(self) -> None:
        """Stops what is being read, waits for that and closes the files. What asks later gets an
        Error."""
        self.watch.stop = True
        with self._changed:
            self._changed.wait_for(lambda: self._users == 0)
            self.files.close()


class _Mapped:
    """A stored tensor, which is mapped when it is indexed, as safetensors' slices are."""

    def __init__(self, source: Source, index: int):
        self._source, self._index = source, index
        self._files = source.files

    def get_shape(self) -> list:
        return list(self._files.shape(self._index))

    def get_dtype(self) -> str:
        return self._files.dtype(self._index)

    @property
    def shape(self) -> tuple:
        return self._files.shape(self._index)

    @property
    def places(self) -> list:
        return [(self._index, 0, math.prod(self.shape))]

    def __getitem__(self, key: Any) -> "torch.Tensor":
        with self._source as files:
            return files.map_one(self._index)[key]


class _Stacked:
    """Stored tensors that make up one, each at a place of its own in it. They are read there when
    it is known of which dtype it is to be."""

    def __init__(self, source: Source, places: list, shape: tuple):
        self._source, self.places = source, places
        self.shape = shape

    def get_shape(self) -> list:
        return list(self.shape)

    def get_dtype(self) -> str:
        return self._source.files.dtype(self.places[0][0])

    def __getitem__(self, key: Any) -> Any:
        return self if key is Ellipsis else self.to()[key]

    def to(self, device: Any = "cpu", dtype: Any = None) -> "torch.Tensor":
        kind = self.get_dtype() if dtype is None else stored_name(dtype)
        found = _into.empty(self.shape, kind, _into.gpu_of(device))
        with self._source as files:
            _into.fill(files, _into.targets_of([(found, kind, self.places)]), self._source.watch)
        return found.to(device)


class _Batch:
    """What goes to GPUs: all of it is read in one load, when the first tensor is asked for."""

    def __init__(self, source: Source):
        self._source = source
        self._lock = threading.Lock()
        self._waiting: list = []
        self._loaded: dict = {}
        self._failure: Union[BaseException, None] = None

    def add(self, later: "_OnGpu") -> None:
        self._waiting.append(later)

    def take(self, later: "_OnGpu") -> Union["torch.Tensor", None]:
        """The tensor; None where it has been taken."""
        with self._lock:
            if self._failure is not None:
                raise self._failure
            try:
                self._load()
            except BaseException as failure:
                self._failure = failure
                raise
            return self._loaded.pop(later, None)

    def _load(self) -> None:
        wanted, self._waiting = self._waiting, []
        if not wanted:
            return
        tensors = [
            (_into.empty(each.shape, each.kind, each.gpu), each.kind, each.places) for each in wanted
        ]
        with self._source as files:
            _into.fill(files, _into.targets_of(tensors), self._source.watch)
        self._loaded.update((each, tensor) for each, (tensor, _, _) in zip(wanted, tensors))


class _OnGpu:
    """A tensor of a batch: `later`, which is to be on a GPU, as a stored dtype."""

    def __init__(self, batch: _Batch, later: Any, gpu: int, kind: str):
        self._batch, self._later, self.gpu, self.kind = batch, later, gpu, kind
        self.shape, self.places = later.shape, later.places
        batch.add(self)

    def get_shape(self) -> list:
        return self._later.get_shape()

    def get_dtype(self) -> str:
        return self._later.get_dtype()

    def __getitem__(self, key: Any) -> Any:
        return self if key is Ellipsis else self._later[key]

    def to(self, device: Any = None, dtype: Any = None) -> "torch.Tensor":
        kind = self.kind if dtype is None else stored_name(dtype)
        if device is not None and _into.gpu_of(device) == self.gpu and kind == self.kind:
            found = self._batch.take(self)
            if found is not None:
                return found
        return self._later[...].to(device=device, dtype=dtype)


def _stack_of(converter: Any) -> bool:
    """Whether all that a converter does is to stack experts, and to put two stacks side by side."""
    from transformers.core_model_loading import Concatenate, MergeModulelist

    operations = converter.operations
    if getattr(converter, "force_cpu", False) or len(converter.target_patterns) != 1 or not operations:
        return False
    if type(operations[0]) is not MergeModulelist or operations[0].dim != 0:
        return False
    if len(converter.source_patterns) == 1:
        return len(operations) == 1
    return len(operations) == 2 and type(operations[1]) is Concatenate and operations[1].dim == 1


def _places(files: Files, by_pattern: dict, patterns: list, shape: tuple) -> Union[list, None]:
    """Where each stored tensor begins in a stack of `shape` and how many elements it has, if all
    together are just that stack."""
    if len(shape) < 2 or set(by_pattern) != set(patterns):
        return None
    experts = shape[0]
    if any(len(indices) != experts for indices in by_pattern.values()):
        return None
    inner = 1
    for extent in shape[2:]:
        inner *= extent
    row = 0
    found = []
    for pattern in patterns:
        rows = files.shape(by_pattern[pattern][0])[0] if files.shape(by_pattern[pattern][0]) else 0
        for expert, index in enumerate(by_pattern[pattern]):
            stored = files.shape(index)
            if len(stored) != len(shape) - 1 or stored != (rows, *shape[2:]):
                return None
            found.append((index, (expert * shape[1] + row) * inner, rows * inner))
        row += rows
    return found if row == shape[1] else None


def state_dict_of(model: Any, source: Source, load_config: Any) -> dict:
    """The checkpoint for transformers' converter: tensors by their stored names, but stacks of
    experts by the names that they have in the model."""
    tensors: dict = {name: _Mapped(source, i) for i, name in enumerate(source.files.names)}
    try:
        stacked = _with_stacks(dict(tensors), model, source, load_config)
        return _with_gpus(stacked, model, source, load_config)
    except (AttributeError, ImportError, TypeError) as error:
        warnings.warn(
            f"this version of transformers is not known: it stacks experts itself ({error})",
            stacklevel=4,
        )
        return tensors


def _with_stacks(tensors: dict, model: Any, source: Source, load_config: Any) -> dict:
    from transformers import core_model_loading as core

    files = source.files
    mapping = load_config.weight_mapping or []
    converters = [entry for entry in mapping if isinstance(entry, core.WeightConverter)]
    if not any(map(_stack_of, converters)):
        return tensors
    renamings = [entry for entry in mapping if isinstance(entry, core.WeightRenaming)]
    by_source = {pattern: c for c in converters for pattern in c.source_patterns}
    meta = model.state_dict()

    def renamed(name: str) -> tuple:
        return core.rename_source_key(name, renamings, converters, model.base_model_prefix, meta)

    stacks: dict = {}
    for name in sorted(files.names, key=core.dot_natural_key):
        key, pattern = renamed(name)
        if pattern is None or key not in meta or not _stack_of(by_source[pattern]):
            continue
        stacks.setdefault((key, id(by_source[pattern])), (by_source[pattern], {}))[1].setdefault(
            pattern, []
        ).append(name)
    for (key, _), (converter, names) in stacks.items():
        indices = {p: [files.index(name) for name in all_of] for p, all_of in names.items()}
        places = _places(files, indices, list(converter.source_patterns), tuple(meta[key].shape))
        if places is None or key in tensors or renamed(key) != (key, None):
            continue  # transformers knows what to do, or to say
        for all_of in names.values():
            for name in all_of:
                del tensors[name]
        tensors[key] = _Stacked(source, places, tuple(meta[key].shape))
    return tensors


# What needs no care on its way to a GPU: one element of the file is one of torch's.
_FLOATS = frozenset("F16 BF16 F32 F64".split())
_PLAIN = _FLOATS | frozenset("BOOL U8 I8 I16 I32 I64".split())


def _with_gpus(tensors: dict, model: Any, source: Source, load_config: Any) -> dict:
    """The same, where what a GPU gets unchanged but for its dtype is read straight into its memory."""
    from transformers import core_model_loading as core

    places = load_config.device_map or {}
    if all(_into.gpu_of(place) is None for place in places.values()):
        return tensors
    mapping = load_config.weight_mapping or []
    converters = [entry for entry in mapping if isinstance(entry, core.WeightConverter)]
    renamings = [entry for entry in mapping if isinstance(entry, core.WeightRenaming)]
    meta = model.state_dict()
    batch = _Batch(source)
    found: dict = {}
    for name, later in tensors.items():
        key, pattern = core.rename_source_key(
            name, renamings, converters, model.base_model_prefix, meta
        )
        found[name] = later
        if pattern is not None or key not in meta:
            continue
        gpu = _into.gpu_of(place_of(key, meta[key], places))
        stored = later.get_dtype()
        if gpu is None or stored not in _PLAIN:
            continue
        kind = stored_name(meta[key].dtype)
        found[name] = _OnGpu(batch, later, gpu, kind if kind in _FLOATS and stored in _FLOATS else stored)
    return found


# Threads of transformers that make tensors ready.
_THREADS = min(4, os.cpu_count() or 4)


def private_need(model: Any, tensors: dict, device_map: Any) -> int:
    """The most private host memory that the load of `tensors` takes, in bytes. On the CPU those are
    private that are stacked, or stored in another dtype than the model's; the others are mapped.
    Stacks for other devices pass through host memory, one for each thread; what is read straight to
    GPUs passes through staging. Where transformers renames a tensor, it counts as mapped."""
    private = 0
    passing = []
    staged = 0
    for name, wanted in model.state_dict().items():
        tensor = tensors.get(name)
        if tensor is None:
            continue
        size = wanted.numel() * wanted.element_size()
        if isinstance(tensor, _OnGpu):
            staged += size
            continue
        on_cpu = place_of(name, wanted, device_map) == "cpu"
        stacked = isinstance(tensor, _Stacked)
        dtype = str(wanted.dtype).removeprefix("torch.")
        if on_cpu and (stacked or TORCH_NAMES.get(tensor.get_dtype()) != dtype):
            private += size
        elif stacked:
            passing.append(size)
    return private + sum(sorted(passing)[-_THREADS:]) + min(staged, _into.STAGING)
