"""The tensors of a checkpoint as transformers' converter takes them: mapped when they are asked for,
or read, with others, straight to where they are to be."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any, Union

from . import _into
from ._progress import Watch, run_watched
from ._tensors import stored_name, to_torch
from .files import Files

if TYPE_CHECKING:
    import torch

__all__ = ["Batch", "InBatch", "Mapped", "Source", "Stacked"]


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


class Mapped:
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

    @property
    def is_mapped(self) -> bool:
        """Whether it takes no private memory. What is not aligned in its file is read."""
        return self._files.is_aligned(self.index)

    def __getitem__(self, key: Any) -> "torch.Tensor":
        tensor = self._source.map_one(self.index)
        return tensor if key is Ellipsis else tensor[key]


class Stacked:
    """Stored tensors that make up one, each at a place of its own in it. They are read there when
    it is known of which dtype it is to be."""

    is_mapped = False

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


class Batch:
    """What goes to GPUs, and what is converted on the CPU: all of it is read together, when the
    first tensor is asked for."""

    def __init__(self, source: Source):
        self._source = source
        self._lock = threading.Lock()
        self._waiting: list = []
        self._loaded: dict = {}
        self._failure: Union[BaseException, None] = None

    def add(self, later: "InBatch") -> None:
        self._waiting.append(later)

    def take(self, later: "InBatch") -> Union["torch.Tensor", None]:
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


class InBatch:
    """A tensor of a batch: `later`, which is to be on a GPU, or None for the CPU, as a stored dtype."""

    def __init__(self, batch: Batch, later: Any, gpu: Union[int, None], kind: str):
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
