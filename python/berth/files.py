"""Files of weights: load_file() and safe_open(), which are called as safetensors' are.

They take every format that Berth reads: safetensors, PyTorch's .bin, .pt and .pth, folders and
shards of these, and of GGUF what is stored as plain floats.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import struct
import weakref
from ctypes import c_size_t, c_uint32, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any, Iterator, Sequence, Union

from . import _into
from ._errors import Error, UsageError
from ._library import MEMORY_MAP, MEMORY_PRIVATE, LoadOptions, TensorStruct, call, library, texts
from ._progress import Watch, interruptible, run_watched
from ._tensors import TORCH_NAMES, Handed, stored_name, to_numpy, to_torch

if TYPE_CHECKING:
    import torch

    Path = Union[str, "os.PathLike[str]"]

__all__ = ["load_file", "safe_open"]

_MEMORY = {"mmap": MEMORY_MAP, "private": MEMORY_PRIVATE}


class Files:
    """An open berth_files: what the headers say, and loading of what is in the files. Safe for use
    from many threads."""

    def __init__(self, paths: Sequence["Path"]):
        if not paths:
            raise UsageError("no file is named")
        native = library()
        handle = c_void_p()
        call(native.berth_open, texts([os.fsencode(path) for path in paths]), len(paths),
             ctypes.byref(handle))
        self._handle = handle
        self.close = weakref.finalize(self, native.berth_close, handle)
        count = c_size_t()
        first = native.berth_tensors(handle, ctypes.byref(count))
        self._tensors = (TensorStruct * count.value).from_address(first) if count.value else ()
        self.names = self._read_names()
        self._index: dict = {}

    def _read_names(self) -> list:
        tensors = self._tensors
        if not tensors:
            return []
        begin, last = tensors[0].name, tensors[len(tensors) - 1]
        text = ctypes.string_at(begin, last.name + last.name_bytes - begin)
        names = text.decode().split("\0")
        if len(names) != len(tensors):  # a name has a zero inside
            names = [ctypes.string_at(t.name, t.name_bytes).decode() for t in tensors]
        return names

    @property
    def handle(self) -> c_void_p:
        """For calls of the library. Raises Error when the files are closed."""
        if not self.close.alive:
            raise Error("the file is closed")
        return self._handle

    @property
    def is_open(self) -> bool:
        return self.close.alive

    def index(self, name: str) -> int:
        if not self._index:
            self._index = {name: i for i, name in enumerate(self.names)}
        return self._index[name]

    def dtype(self, i: int) -> str:
        return self._tensors[i].dtype.decode()

    def shape(self, i: int) -> tuple:
        tensor = self._tensors[i]
        return tuple(tensor.shape[: tensor.rank])

    def bytes(self, i: int) -> int:
        """In memory, in the stored dtype."""
        return self._tensors[i].bytes

    def is_aligned(self, i: int) -> bool:
        """Whether a tensor begins in its file where its elements may."""
        tensor = self._tensors[i]
        count = math.prod(tensor.shape[: tensor.rank])
        return count == 0 or tensor.begin * count % tensor.bytes == 0

    def is_mappable(self, i: int) -> bool:
        """Whether a tensor surely needs no reading to be handed out as it is stored: others may stand
        in another order, or not be aligned."""
        tensor = self._tensors[i]
        if tensor.bytes == 0 or not self.is_aligned(i):
            return False
        path = library().berth_file(self._handle, tensor.file)
        return path.endswith(b".safetensors")

    def paths(self) -> Iterator[str]:
        for i in range(len(self._tensors) or 1):
            path = library().berth_file(self._handle, i)
            if path is None:
                return
            yield os.fsdecode(path)

    def dtypes(self) -> set:
        """The stored dtypes that occur."""
        if not self._tensors:
            return set()
        words = ctypes.sizeof(TensorStruct) // 8
        count = words * len(self._tensors)
        fields = (c_uint64 * count).from_address(ctypes.addressof(self._tensors))
        pointers = set(fields[1::words])  # each dtype has one text, so there are few
        return {ctypes.string_at(pointer).decode() for pointer in pointers}

    def load(self, indices: Sequence[int], all_of_it: bool, memory: str, dtype: Any,
             show_progress: bool, watch: Union[Watch, None] = None) -> Handed:
        """Tensors as Berth hands them out. With `all_of_it`, `indices` are 0, 1, 2, ...; a `watch` of
        the caller's can stop the load."""
        if memory not in _MEMORY:
            raise UsageError(f"memory={memory!r}: is neither 'mmap' nor 'private'")
        count = len(indices)
        wanted = None if all_of_it else (c_uint32 * count)(*indices)
        options = LoadOptions(struct_size=ctypes.sizeof(LoadOptions), memory=_MEMORY[memory])
        if dtype is not None:
            options.dtype = stored_name(dtype).encode()

        def work(watch=None) -> Handed:
            if watch is not None:
                options.progress = watch.callback
            handed = Handed(count)
            call(library().berth_load, self.handle, wanted, count, ctypes.byref(options),
                 handed.pointers, None)
            return handed

        if watch is not None:
            return run_watched(work, watch)
        # What cannot be mapped is read: of a whole file that may be much.
        if memory == "mmap" and dtype is None and not all_of_it:
            return work()
        return interruptible(work, show_progress)

    def map_one(self, i: int) -> "torch.Tensor":
        """One tensor as torch's, mapped: the quick way of load() for those who ask one by one."""
        handed = Handed(1)
        call(library().berth_load, self.handle, ctypes.byref(c_uint32(i)), 1, None,
             handed.pointers, None)
        return to_torch(handed, (self.dtype(i),), self.info((i,), None))[0]

    def info(self, indices: Sequence[int], dtype: Any):
        """What to_torch() and to_numpy() ask of the tensors that load() gave."""
        wanted = None if dtype is None else stored_name(dtype)

        def of(k: int) -> tuple:
            i = indices[k]
            stored = self.dtype(i)
            shape = self.shape(i)
            if wanted is not None and stored in _FLOATS:
                size = _FLOATS[wanted]
                for extent in shape:
                    size *= extent
                return wanted, shape, size
            return stored, shape, self._tensors[i].bytes

        return of


_FLOATS = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}


def _paths(value: Any) -> list:
    return [value] if isinstance(value, (str, bytes, os.PathLike)) else list(value)


def load_file(
    filename: Union["Path", Sequence["Path"]],
    device: Union[str, int, "torch.device"] = "cpu",
    *,
    memory: str = "mmap",
    dtype: Union["torch.dtype", str, None] = None,
    show_progress: bool = True,
) -> dict[str, "torch.Tensor"]:
    """The tensors of a file, a folder or several files, as safetensors.torch.load_file gives them.

    Each tensor owns its memory: it outlives the dict and the others, and its memory goes with the
    last view of it. Tensors may be written to; the file never changes.

    Args:
        filename: a path, or several whose tensors have different names.
        device: where the tensors are to be, as torch names it. Berth reads straight into memory of
            CUDA GPUs that torch allocates; to other devices, and where Berth finds no CUDA, torch
            copies tensor by tensor.
        memory: "mmap" maps the file copy-on-write, so that bytes are read when they are first
            touched; tensors that are not aligned in the file are read at once. "private" reads all
            of it now, into memory of the process: quicker where all of it will be touched.
        dtype: what floating-point tensors become; None leaves them as they are stored. Those are
            then in private memory.
        show_progress: a bar on stderr, if that is a terminal, for loads of more than 2 seconds.

    Returns:
        The tensors by name, in the order of the file.

    Raises:
        NoSuchFile, BrokenFile: for the file. DoesNotFit: "private" needs more memory than is free;
        nothing is read then. KeyboardInterrupt: Ctrl-C, when no thread reads any more.
    """
    files = Files(_paths(filename))
    everything = range(len(files.names))
    gpu = None if _is_cpu(device) else _into.gpu_of(device)
    if gpu is not None and all(name in TORCH_NAMES for name in files.dtypes()):
        tensors = _load_to_gpu(files, gpu, dtype, show_progress)
        names = files.names
        files.close()
        return dict(zip(names, tensors))
    handed = files.load(everything, True, memory, dtype, show_progress)
    occurring = files.dtypes() if dtype is None else files.dtypes() | {stored_name(dtype)}
    tensors = to_torch(handed, occurring, files.info(everything, dtype))
    names = files.names
    files.close()
    if not _is_cpu(device):
        tensors = [tensor.to(device) for tensor in tensors]
    return dict(zip(names, tensors))


def _load_to_gpu(files: Files, gpu: int, dtype: Any, show_progress: bool) -> list:
    """All tensors, in memory of a GPU that torch allocates."""
    info = files.info(range(len(files.names)), dtype)
    wanted = []
    for i in range(len(files.names)):
        kind, shape, _ = info(i)
        if kind == "F4":  # torch's type holds two of them
            shape = (*shape[:-1], shape[-1] // 2)
        tensor = _into.empty(shape, kind, gpu)
        wanted.append((tensor, kind, ((i, 0, tensor.numel()),)))
    targets = _into.targets_of(wanted)
    interruptible(lambda watch: _into.fill(files, targets, watch), show_progress)
    return [tensor for tensor, _, _ in wanted]


def _is_cpu(device: Any) -> bool:
    return str(device) == "cpu"


class safe_open:
    """A file of weights whose tensors are loaded when they are asked for, as safetensors.safe_open.

        with berth.safe_open("model.safetensors", framework="pt") as file:
            table = file.get_tensor("model.embed_tokens.weight")
            rows = file.get_slice("lm_head.weight")[:8]

    Tensors are copy-on-write mappings that outlive the file; asking twice for one gives the same
    memory. It may be used by several threads.

    Args:
        filename: a file, or a folder of files.
        framework: "pt" (torch) or "np" (numpy).
        device: where torch's tensors are to be.

    Raises:
        NoSuchFile, BrokenFile: for the file.
    """

    def __init__(self, filename: "Path", framework: str = "pt",
                 device: Union[str, int, "torch.device"] = "cpu", *, backend: str = "mmap"):
        kinds = {"pt": "pt", "torch": "pt", "pytorch": "pt", "np": "np", "numpy": "np"}
        if framework not in kinds:
            raise UsageError(f"framework={framework!r}: is neither 'pt' nor 'np'")
        if backend not in ("mmap", "pread"):
            raise UsageError(f"backend={backend!r}: is neither 'mmap' nor 'pread'")
        self._framework = kinds[framework]
        self._device = device
        self._on_cpu = _is_cpu(device)
        self._memory = "mmap" if backend == "mmap" else "private"
        self._filename = filename
        self._files = Files([filename])

    def __enter__(self) -> "safe_open":
        return self

    def __exit__(self, *_exception: Any) -> None:
        self._files.close()

    def _opened(self) -> Files:
        if not self._files.is_open:
            raise Error(f"{os.fspath(self._filename)}: the file is closed")
        return self._files

    def keys(self) -> list[str]:
        """The names of the tensors, sorted."""
        return sorted(self._opened().names)

    def offset_keys(self) -> list[str]:
        """The names of the tensors, in the order of the file."""
        return list(self._opened().names)

    def metadata(self) -> Union[dict[str, str], None]:
        """What a safetensors file says besides its tensors; None where it says nothing."""
        for path in self._opened().paths():
            found = _read_metadata(path)
            if found is not None:
                return found
        return None

    def _load(self, indices: Sequence[int]) -> list:
        files = self._opened()
        handed = files.load(indices, False, self._memory, None, False)
        info = files.info(indices, None)
        if self._framework == "np":
            return to_numpy(handed, info)
        tensors = to_torch(handed, {files.dtype(i) for i in indices}, info)
        return tensors if self._on_cpu else [tensor.to(self._device) for tensor in tensors]

    def _find(self, name: str) -> int:
        try:
            return self._opened().index(name)
        except KeyError:
            raise Error(f"{os.fspath(self._filename)}: has no tensor {name!r}") from None

    def get_tensor(self, name: str) -> Any:
        """A tensor by its name. Raises Error where there is none."""
        index = self._find(name)
        if self._memory == "mmap" and self._framework == "pt" and self._on_cpu:
            return self._files.map_one(index)
        return self._load([index])[0]

    def get_tensors(self) -> dict[str, Any]:
        """All tensors by name, in the order of the file."""
        names = self.offset_keys()
        return dict(zip(names, self._load(range(len(names)))))

    def get_slice(self, name: str) -> "Slice":
        """A tensor of which only what is indexed is loaded. Raises Error where there is none."""
        return Slice(self, self._find(name))


class Slice:
    """A tensor that is indexed before it is loaded: of the file only those pages are read that the
    result is on."""

    def __init__(self, file: safe_open, index: int):
        self._file = file
        self._index = index

    def get_shape(self) -> list[int]:
        return list(self._file._opened().shape(self._index))

    def get_dtype(self) -> str:
        """As safetensors spells it: "BF16"."""
        return self._file._opened().dtype(self._index)

    def __getitem__(self, key: Any) -> Any:
        file, files = self._file, self._file._opened()
        if file._framework == "np" or file._memory != "mmap":
            return file._load([self._index])[0][key]
        part = files.map_one(self._index)[key]
        return part if file._on_cpu else part.to(file._device)


def _read_metadata(path: str) -> Union[dict[str, str], None]:
    with open(path, "rb") as file:
        head = file.read(9)
        if len(head) < 9 or head[8:9] != b"{":
            return None  # of another format
        size = struct.unpack("<Q", head[:8])[0]
        return json.loads(b"{" + file.read(size - 1)).get("__metadata__")
