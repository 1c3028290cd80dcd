"""The state dict of a checkpoint that transformers' converter gets, and the memory that its load
takes: experts that transformers would stack are read straight into the stacked tensor."""

from __future__ import annotations

import copy
import math
import os
import warnings
from typing import Any, Callable, Iterable, Iterator, NamedTuple, Union

from . import _into
from ._checkpoint import Batch, InBatch, Mapped, Source, Stacked
from ._report import place_of
from ._tensors import FLOATS, STORED_NAMES, TORCH_NAMES
from .files import Files

__all__ = ["StateDict", "private_need"]


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


def _renamed(
    names: Iterable[str], model: Any, meta: dict, load_config: Any
) -> tuple[dict, list]:
    """What transformers will make of stored names: for each its name in the model, and the pattern
    of the converter that takes it, or None. Its rules remember what they have matched, and some go
    by that; so copies are asked, in the order in which it asks. Returns these, too."""
    from transformers import core_model_loading as core

    mapping = copy.deepcopy(load_config.weight_mapping or [])
    renamings = [entry for entry in mapping if isinstance(entry, core.WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, core.WeightConverter)]
    found = {
        name: core.rename_source_key(name, renamings, converters, model.base_model_prefix, meta)
        for name in sorted(names, key=core.dot_natural_key)
    }
    return found, mapping


class StateDict(dict):
    """The checkpoint for transformers' converter: tensors by their stored names, but stacks of
    experts by the names that they have in the model.

    Attributes:
        meta: the model's own state dict, before anything is loaded.
        targets: for each name, that of the tensor in the model and the pattern of the converter
            that takes it, or None. Empty where all tensors are mapped as they are, and where this
            version of transformers is not known.
    """

    def __init__(self, model: Any, source: Source, load_config: Any):
        super().__init__((name, Mapped(source, i)) for i, name in enumerate(source.files.names))
        self.meta = model.state_dict()
        self.targets: dict = {}
        self._source, self._places = source, load_config.device_map or {}
        stored = dict(self)
        try:
            self._kept = _kept_dtypes(model, load_config)
            self._converters = {
                pattern: rule for rule in load_config.weight_mapping or []
                if hasattr(rule, "operations") for pattern in rule.source_patterns
            }
            if not self._is_all_mapped():
                self.targets, used = _renamed(self, model, self.meta, load_config)
                self._stack(model, load_config, used)
                self._batch()
        except (AttributeError, ImportError, TypeError) as error:
            self.clear()
            self.update(stored)
            self.targets = {}
            self._kept = lambda name: None
            warnings.warn(
                f"this version of transformers is not known: it stacks experts itself ({error})",
                stacklevel=4,
            )
        source.map([each.index for name, each in self.items()
                    if isinstance(each, Mapped) and self._is_wanted(name)])

    def _is_all_mapped(self) -> bool:
        """The usual case, of which no names need be known: all of one dtype, and on the CPU."""
        if self._converters:
            return False
        if any(_into.gpu_of(place) is not None for place in self._places.values()):
            return False
        stored = {TORCH_NAMES.get(each) for each in self._source.files.dtypes()}
        return {_name_of(tensor.dtype) for tensor in self.meta.values()} == stored

    def _is_wanted(self, name: str) -> bool:
        """Whether transformers may ask for a tensor: not for those that the model lacks."""
        return not self.targets or self.targets[name][0] in self.meta

    def is_converted(self, name: str) -> bool:
        """Whether transformers makes something else of a tensor of the checkpoint, which is then no
        longer where it was."""
        key, pattern = self.targets.get(name, (name, None))
        if pattern is None:
            return False
        same_shape = key in self.meta and self[name].shape == tuple(self.meta[key].shape)
        operations = self._converters[pattern].operations
        return not all(_is_view(operation, same_shape) for operation in operations)

    def dtype_of(self, name: str) -> str:
        """What torch calls the dtype that a tensor of the checkpoint will have."""
        key = self.targets.get(name, (name, None))[0]
        if key in self.meta:
            return _name_of(self._kept(key) or self.meta[key].dtype)
        return TORCH_NAMES.get(self[name].get_dtype(), "uint8")

    def place_of(self, name: str) -> Union[int, str]:
        """Where a tensor of the checkpoint goes: the number of a GPU, "cpu" or "disk"."""
        key = self.targets.get(name, (name, None))[0]
        return place_of(key, self.meta.get(key), self._places)

    def _stack(self, model: Any, load_config: Any, used: list) -> None:
        """Takes stacks in the place of their experts, where transformers then does just the same
        with everything else."""
        source = self._source
        stacks = _stacks(self.targets, self.meta, source.files, self._converters)
        if not stacks:
            return
        targets = {key: (key, None) for key in stacks}
        taken = {index for places in stacks.values() for index, _, _ in places}
        targets.update(
            (name, target) for name, target in self.targets.items() if self[name].index not in taken
        )
        found, used_then = _renamed(targets, model, self.meta, load_config)
        if found != targets or any(_newly_used(used, used_then)):
            return
        for index in taken:
            del self[source.files.names[index]]
        for key, places in stacks.items():
            self[key] = Stacked(source, places, tuple(self.meta[key].shape))
        self.targets = targets
        # What matched experts counts as used: transformers saves a model by that.
        for entry, copied in zip(load_config.weight_mapping, used):
            if getattr(copied, "_was_used", False):
                entry._was_used = True

    def _batch(self) -> None:
        """What a GPU gets unchanged but for its dtype is read straight into its memory, and what the
        CPU gets in another dtype than the stored one is converted while it is read."""
        batch = Batch(self._source)
        for name, (key, pattern) in self.targets.items():
            later = self[name]
            stored = later.get_dtype()
            if pattern is not None or key not in self.meta or stored not in _PLAIN:
                continue
            place = self.place_of(name)
            gpu = _into.gpu_of(place)
            kind = STORED_NAMES.get(self.dtype_of(name), stored)
            if kind not in FLOATS or stored not in FLOATS:
                kind = stored
            converted = gpu is None and place == "cpu" and kind != stored
            if gpu is not None or (converted and isinstance(later, Mapped)):
                self[name] = InBatch(batch, later, gpu, kind)


def _name_of(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _newly_used(before: list, now: list) -> Iterator[bool]:
    """Whether a rule of transformers has matched now, and had not before."""
    for one, other in zip(before, now):
        yield getattr(other, "_was_used", False) and not getattr(one, "_was_used", False)


def _stacks(targets: dict, meta: dict, files: Files, by_source: dict) -> dict:
    """The stacks that can be read in one piece: their names in the model, and where each expert
    begins and how many elements it has. `by_source` are the converters by their patterns."""
    stackers = {pattern for pattern, converter in by_source.items() if _stack_of(converter)}
    if not stackers:
        return {}
    sources: dict = {}  # by the name in the model: indices by pattern
    left: set = set()  # what else makes up a tensor of the model is for transformers to say
    for name, (key, pattern) in targets.items():
        if pattern in stackers and key in meta and files.dtype(files.index(name)) in FLOATS:
            sources.setdefault(key, {}).setdefault(pattern, []).append(files.index(name))
        else:
            left.add(key)
    found = {}
    for key, indices in sources.items():
        of = {id(by_source[pattern]): by_source[pattern] for pattern in indices}
        if key in left or key in targets or len(of) != 1:
            continue
        (converter,) = of.values()
        places = _places(files, indices, list(converter.source_patterns), tuple(meta[key].shape))
        if places is not None:
            found[key] = places
    return found


# What needs no care on its way to a GPU: one element of the file is one of torch's.
_PLAIN = FLOATS.keys() | frozenset("BOOL U8 I8 I16 I32 I64".split())


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


def _is_view(operation: Any, same_shape: bool) -> bool:
    """Whether what an operation of transformers gives is in the memory of what it is given, as far as
    that is known. `same_shape`: whether that has the shape of the result."""
    kind = type(operation).__name__
    if kind in ("Chunk", "Split"):
        return operation.dim == 0
    if kind == "Transpose":  # of what may stand in either order
        return same_shape and getattr(operation, "check_dims", False)
    return kind == "Force16BytesAlignment"


class _Need(NamedTuple):
    """The host memory that a tensor takes: bytes that stay private, those that pass through on
    their way to another device, those that go straight to a GPU, and those of what transformers
    makes it of, which are there until it is made."""

    private: int = 0
    passing: int = 0
    staged: int = 0
    sources: int = 0


def _need_of(tensor: Any, wanted: str, converted: bool, place: Any) -> _Need:
    import torch

    size = math.prod(tensor.shape) * getattr(torch, wanted).itemsize
    if isinstance(tensor, InBatch):
        return _Need(private=0 if tensor.gpu is not None else size, staged=size)
    if not converted and tensor.is_mapped and TORCH_NAMES.get(tensor.get_dtype()) == wanted:
        return _Need()
    sources = size if converted else 0
    return _Need(private=size, sources=sources) if place == "cpu" else _Need(0, size, 0, sources)


def private_need(tensors: StateDict) -> int:
    """The most private host memory that the load of `tensors` takes, in bytes. On the CPU those are
    private that are stacked or otherwise converted, stored in another dtype than the model's, or
    not aligned in their file; the others are mapped. What is private and goes elsewhere passes
    through host memory, one tensor for each thread; what is read straight to GPUs, or converted
    while it is read, passes through staging. While transformers makes a tensor of others, those are
    there, too."""
    private = staged = 0
    passing: dict = {}
    sources: dict = {}
    for name, tensor in tensors.items():
        key, _ = tensors.targets.get(name, (name, None))
        if tensors.targets and key not in tensors.meta:
            continue
        need = _need_of(
            tensor, tensors.dtype_of(name), tensors.is_converted(name), tensors.place_of(name)
        )
        private += need.private
        staged += need.staged
        passing[key] = passing.get(key, 0) + need.passing
        sources[key] = sources.get(key, 0) + need.sources
    together = sum(sorted(passing.values())[-_THREADS:])
    return private + together + 2 * max(sources.values(), default=0) + min(staged, _into.STAGING)
