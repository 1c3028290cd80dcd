"""A checkpoint as transformers' converter takes it: tensors that are mapped when they are asked for,
and experts that transformers would stack, which are read straight into the stacked tensor."""

from __future__ import annotations

import math
import os
import threading
import warnings
from typing import TYPE_CHECKING, Any, Callable, Union

from . import _into
from ._progress import Watch, run_watched
from ._report import place_of
from ._tensors import TORCH_NAMES, stored_name, to_torch
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
        self.mapped: dict = {}  # by index: tensors that are mapped already
        self.mappings: Union[list, None] = []  # their addresses; None: there are others, too
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

    def map(self, indices: list) -> None:
        """Maps tensors: all at once takes a microsecond for each, one by one takes several."""
        wanted = [i for i in indices if self.files.is_mappable(i)]
        handed = self.files.load(wanted, False, "mmap", None, False)
        dtypes = {self.files.dtype(i) for i in wanted}
        tensors = to_torch(handed, dtypes, self.files.info(wanted, None))
        self.mapped.update(zip(wanted, tensors))
        self.mappings += [(t.data_ptr(), t.data_ptr() + self.files.bytes(i))
                          for i, t in self.mapped.items()]

    def map_one(self, index: int) -> "torch.Tensor":
        tensor = self.mapped.get(index)
        if tensor is None:
            with self as files:
                self.mappings = None
                return files.map_one(index)
        return tensor

    def end(self) -> None:
        """Stops what is being read, waits for that and closes the files. What asks later gets an
        Error."""
        self.watch.stop = True
        self.mapped.clear()
        with self._changed:
            self._changed.wait_for(lambda: self._users == 0)
            self.files.close()


class _Mapped:
    """A stored tensor, which is mapped when it is indexed, as safetensors' slices are, or before."""

    def __init__(self, source: Source, index: int):
        self._source, self.index = source, index
        self._files = source.files

    def get_shape(self) -> list:
        return list(self._files.shape(self.index))

    def get_dtype(self) -> str:
        return self._files.dtype(self.index)

    @property
    def shape(self) -> tuple:
        return self._files.shape(self.index)

    @property
    def places(self) -> list:
        return [(self.index, 0, math.prod(self.shape))]

    def __getitem__(self, key: Any) -> "torch.Tensor":
        tensor = self._source.map_one(self.index)
        return tensor if key is Ellipsis else tensor[key]


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
    """What goes to GPUs, and what is converted on the CPU: all of it is read together, when the
    first tensor is asked for."""

    def __init__(self, source: Source):
        self._source = source
        self._lock = threading.Lock()
        self._waiting: list = []
        self._loaded: dict = {}
        self._failure: Union[BaseException, None] = None

    def add(self, later: "_InBatch") -> None:
        self._waiting.append(later)

    def take(self, later: "_InBatch") -> Union["torch.Tensor", None]:
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
        to_gpus = [each for each in wanted if each.gpu is not None]
        if to_gpus:
            self._read_to_gpus(to_gpus)
        kinds = {each.kind for each in wanted if each.gpu is None}
        for kind in sorted(kinds):
            self._convert([each for each in wanted if each.gpu is None and each.kind == kind], kind)

    def _read_to_gpus(self, wanted: list) -> None:
        tensors = [
            (_into.empty(each.shape, each.kind, each.gpu), each.kind, each.places) for each in wanted
        ]
        targets = _into.targets_of(tensors)
        with self._source as files:
            run_watched(lambda watch: _into.fill(files, targets, watch), self._source.watch)
        self._loaded.update((each, tensor) for each, (tensor, _, _) in zip(wanted, tensors))

    def _convert(self, wanted: list, kind: str) -> None:
        """To memory of Berth's, of which each tensor owns its own: on large pages it is filled
        quicker than torch's."""
        indices = [each.places[0][0] for each in wanted]
        with self._source as files:
            handed = files.load(indices, False, "private", kind, False, self._source.watch)
            tensors = to_torch(handed, (kind,), files.info(indices, kind))
        self._loaded.update(zip(wanted, tensors))


class _InBatch:
    """A tensor of a batch: `later`, which is to be on a GPU, or None for the CPU, as a stored dtype."""

    def __init__(self, batch: _Batch, later: Any, gpu: Union[int, None], kind: str):
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
        if kind == self.kind and self._is_for(device):
            found = self._batch.take(self)
            if found is not None:
                return found
        return self._later[...].to(device=device, dtype=dtype)

    def _is_for(self, device: Any) -> bool:
        if self.gpu is None:
            return device is None or str(device) == "cpu"
        return device is not None and _into.gpu_of(device) == self.gpu


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


def state_dict_of(model: Any, meta: dict, source: Source, load_config: Any) -> dict:
    """The checkpoint for transformers' converter: tensors by their stored names, but stacks of
    experts by the names that they have in the model, whose state dict is `meta`."""
    tensors: dict = {name: _Mapped(source, i) for i, name in enumerate(source.files.names)}
    try:
        stacked = _with_stacks(dict(tensors), model, meta, source, load_config)
        found = _with_batch(stacked, model, meta, source, load_config)
        source.map([each.index for each in found.values() if isinstance(each, _Mapped)])
        return found
    except (AttributeError, ImportError, TypeError) as error:
        warnings.warn(
            f"this version of transformers is not known: it stacks experts itself ({error})",
            stacklevel=4,
        )
        return tensors


def _with_stacks(tensors: dict, model: Any, meta: dict, source: Source, load_config: Any) -> dict:
    from transformers import core_model_loading as core

    files = source.files
    mapping = load_config.weight_mapping or []
    converters = [entry for entry in mapping if isinstance(entry, core.WeightConverter)]
    if not any(map(_stack_of, converters)):
        return tensors
    renamings = [entry for entry in mapping if isinstance(entry, core.WeightRenaming)]
    by_source = {pattern: c for c in converters for pattern in c.source_patterns}

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


def _with_batch(tensors: dict, model: Any, meta: dict, source: Source, load_config: Any) -> dict:
    """The same, where what a GPU gets unchanged but for its dtype is read straight into its memory,
    and what the CPU gets in another dtype than the stored one is converted while it is read."""
    from transformers import core_model_loading as core

    places = load_config.device_map or {}
    if all(_into.gpu_of(place) is None for place in places.values()):
        dtypes = {TORCH_NAMES.get(stored) for stored in source.files.dtypes()}
        if {str(tensor.dtype).removeprefix("torch.") for tensor in meta.values()} == dtypes:
            return tensors  # the usual case: all of one dtype
    mapping = load_config.weight_mapping or []
    converters = [entry for entry in mapping if isinstance(entry, core.WeightConverter)]
    renamings = [entry for entry in mapping if isinstance(entry, core.WeightRenaming)]
    kept = _kept_dtypes(model, load_config)
    batch = _Batch(source)
    found: dict = {}
    for name, later in tensors.items():
        found[name] = later
        stored = later.get_dtype()
        if stored not in _PLAIN:
            continue
        key, pattern = core.rename_source_key(
            name, renamings, converters, model.base_model_prefix, meta
        )
        if pattern is not None or key not in meta:
            continue
        place = place_of(key, meta[key], places)
        gpu = _into.gpu_of(place)
        kind = stored_name(kept(key) or meta[key].dtype)
        if kind not in _FLOATS or stored not in _FLOATS:
            kind = stored
        converted = gpu is None and str(place) == "cpu" and kind != stored
        if gpu is not None or (converted and isinstance(later, _Mapped)):
            found[name] = _InBatch(batch, later, gpu, kind)
    return found


def _kept_dtypes(model: Any, load_config: Any) -> Callable[[str], Any]:
    """The function that says which dtype a parameter keeps whatever the model's is; None where it
    keeps none."""
    from transformers import core_model_loading as core

    # transformers 5.0 has it in the model.
    kept = getattr(load_config, "dtype_plan", None) or getattr(model, "dtype_plan", None)
    if not kept:
        return lambda name: None
    pattern, globs, _ = core.build_glob_alternation(list(kept))

    def dtype_of(name: str) -> Any:
        match = pattern.search(name)
        return kept[globs[match.lastgroup]] if match else None

    return dtype_of


# Threads of transformers that make tensors ready.
_THREADS = min(4, os.cpu_count() or 4)


def private_need(meta: dict, tensors: dict, device_map: Any) -> int:
    """The most private host memory that the load of `tensors` takes, in bytes, for a model whose
    state dict is `meta`. On the CPU those are
    private that are stacked, or stored in another dtype than the model's; the others are mapped.
    Stacks for other devices pass through host memory, one for each thread; what is read straight to
    GPUs, or converted, passes through staging. Where transformers renames a tensor, it counts as
    mapped."""
    private = 0
    passing = []
    staged = 0
    for name, wanted in meta.items():
        tensor = tensors.get(name)
        if tensor is None:
            continue
        size = wanted.numel() * wanted.element_size()
        if isinstance(tensor, _InBatch):
            staged += size
            private += 0 if tensor.gpu is not None else size
            continue
        on_cpu = place_of(name, wanted, device_map) == "cpu"
        stacked = isinstance(tensor, _Stacked)
        dtype = str(wanted.dtype).removeprefix("torch.")
        if on_cpu and (stacked or TORCH_NAMES.get(tensor.get_dtype()) != dtype):
            private += size
        elif stacked:
            passing.append(size)
    return private + sum(sorted(passing)[-_THREADS:]) + min(staged, _into.STAGING)
