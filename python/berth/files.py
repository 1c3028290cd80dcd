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
from ctypes import c_size_t, c_uint32, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any, Iterable, Iterator, Sequence, Union

from . import _into
from ._errors import BrokenFile, Error, UsageError
from ._library import (
    MEMORY_MAP,
    MEMORY_PRIVATE,
    LoadOptions,
    TensorStruct,
    call,
    library,
    path_bytes,
    texts,
)
from ._progress import Watch, interruptible, run_watched
from ._tensors import (
    FLOATS,
    TORCH_NAMES,
    Handed,
    NoDtype,
    stored_name,
    to_numpy,
    to_torch,
    torch_shape,
)

if TYPE_CHECKING:
    import torch

    Path = Union[str, "os.PathLike[str]"]

__all__ = ["load_file", "safe_open"]

_MEMORY = {"mmap": MEMORY_MAP, "private": MEMORY_PRIVATE}
_BACKENDS = {"mmap": "mmap", "pread": "private"}  # what safetensors calls them
# Bytes of which a load takes long enough to be stopped. Less is read on the calling thread.
_LONG = 64 << 20


class _Handle:
    """A berth_files, which is closed when nothing refers to it any more: whoever uses it, on
    whatever thread, keeps it open for that long."""

    __slots__ = ("_as_parameter_", "_close")

    def __init__(self, pointer: c_void_p):
        self._as_parameter_ = pointer  # what ctypes passes on
        self._close = library().berth_close

    def __del__(self) -> None:
        self._close(self._as_parameter_)


class Files:
    """An open berth_files: what the headers say, and loading of what is in the files. Safe for use
    from many threads, also while one of them closes it."""

    def __init__(self, paths: Sequence["Path"]):
        if not paths:
            raise UsageError("no file is named")
        native = library()
        pointer = c_void_p()
        call(native.berth_open, texts([path_bytes(path) for path in paths]), len(paths),
             ctypes.byref(pointer))
        handle = _Handle(pointer)
        count = c_size_t()
        first = native.berth_tensors(handle, ctypes.byref(count))
        self._tensors: Any = ()
        if count.value:
            self._tensors = (TensorStruct * count.value).from_address(first)
            self._tensors.handle = handle  # which owns that memory
        self._handle: Union[_Handle, None] = handle
        self.names = self._read_names()
        self._index: dict[str, int] = {}

    def _read_names(self) -> list[str]:
        tensors = self._tensors
        if not tensors:
            return []
        begin, last = tensors[0].name, tensors[len(tensors) - 1]
        text = ctypes.string_at(begin, last.name + last.name_bytes - begin)
        names = _decoded(text).split("\0")
        if len(names) != len(tensors):  # a name has a zero inside
            names = [_decoded(ctypes.string_at(t.name, t.name_bytes)) for t in tensors]
        return names

    def close(self) -> None:
        """Closes the files, as soon as no call uses them any more."""
        self._handle = None
        self._tensors = ()

    @property
    def handle(self) -> _Handle:
        """For calls of the library. Raises Error when the files are closed."""
        handle = self._handle
        if handle is None:
            raise Error("the file is closed")
        return handle

    @property
    def is_open(self) -> bool:
        return self._handle is not None

    def _tensor(self, i: int) -> TensorStruct:
        tensors = self._tensors
        if not tensors:
            raise Error("the file is closed")
        return tensors[i]

    def index(self, name: str) -> int:
        if not self._index:
            self._index = {name: i for i, name in enumerate(self.names)}
        return self._index[name]

    def dtype(self, i: int) -> str:
        return self._tensor(i).dtype.decode()

    def shape(self, i: int) -> tuple[int, ...]:
        tensor = self._tensor(i)
        return tuple(tensor.shape[: tensor.rank])

    def bytes(self, i: int) -> int:
        """In memory, in the stored dtype."""
        return self._tensor(i).bytes

    def is_aligned(self, i: int) -> bool:
        """Whether a tensor begins in its file where its elements may."""
        tensor = self._tensor(i)
        count = math.prod(tensor.shape[: tensor.rank])
        return count == 0 or tensor.begin * count % tensor.bytes == 0

    def is_mappable(self, i: int) -> bool:
        """Whether a tensor surely needs no reading to be handed out as it is stored: others may stand
        in another order, or not be aligned."""
        tensor = self._tensor(i)
        if tensor.bytes == 0 or not self.is_aligned(i):
            return False
        path = library().berth_file(self.handle, tensor.file)
        return path.endswith(b".safetensors")

    def paths(self) -> Iterator[str]:
        handle = self.handle
        i = 0
        while (path := library().berth_file(handle, i)) is not None:
            yield os.fsdecode(path)
            i += 1

    def dtypes(self) -> set[str]:
        """The stored dtypes that occur."""
        tensors = self._tensors
        if not tensors:
            return set()
        words = ctypes.sizeof(TensorStruct) // 8
        count = words * len(tensors)
        fields = (c_uint64 * count).from_address(ctypes.addressof(tensors))
        pointers = set(fields[1::words])  # each dtype has one text, so there are few
        return {ctypes.string_at(pointer).decode() for pointer in pointers}

    def load(self, indices: Sequence[int], all_of_it: bool, memory: str, dtype: Any,
             show_progress: bool, watch: Union[Watch, None] = None) -> Handed:
        """Tensors as Berth hands them out. With `all_of_it`, `indices` are 0, 1, 2, ...; a `watch` of
        the caller's can stop the load."""
        if memory not in _MEMORY:
            raise UsageError(f"memory={memory!r}: is neither 'mmap' nor 'private'")
        handle = self.handle
        count = len(indices)
        wanted = None if all_of_it else (c_uint32 * count)(*indices)
        options = LoadOptions(struct_size=ctypes.sizeof(LoadOptions), memory=_MEMORY[memory])
        if dtype is not None:
            options.dtype = stored_name(dtype).encode()

        def work(watch=None) -> Handed:
            if watch is not None:
                options.progress = watch.callback
            handed = Handed(count)
            call(library().berth_load, handle, wanted, count, ctypes.byref(options),
                 handed.pointers, None)
            return handed

        if watch is not None:
            return run_watched(work, watch)
        # Mapping takes no time, but what cannot be mapped is read.
        if not all_of_it and sum(map(self.bytes, indices)) < _LONG:
            return work()
        return interruptible(work, show_progress)

    def map_one(self, i: int) -> "torch.Tensor":
        """One tensor as torch's, mapped: the quick way of load() for those who ask one by one."""
        if self.bytes(i) >= _LONG and not self.is_mappable(i):
            return _to_torch(self, (i,), self.load((i,), False, "mmap", None, False),
                             (self.dtype(i),))[0]
        handed = Handed(1)
        call(library().berth_load, self.handle, ctypes.byref(c_uint32(i)), 1, None,
             handed.pointers, None)
        return _to_torch(self, (i,), handed, (self.dtype(i),))[0]

    def info(self, indices: Sequence[int], dtype: Any):
        """What to_torch() and to_numpy() ask of the tensors that load() gave."""
        wanted = None if dtype is None else stored_name(dtype)

        def of(k: int) -> tuple:
            i = indices[k]
            stored = self.dtype(i)
            shape = self.shape(i)
            if wanted is not None and stored in FLOATS:
                size = FLOATS[wanted]
                for extent in shape:
                    size *= extent
                return wanted, shape, size
            return stored, shape, self.bytes(i)

        return of


def _decoded(name: bytes) -> str:
    # PyTorch writes names with half a surrogate pair in them.
    return name.decode("utf-8", "surrogatepass")


def _paths(value: Any) -> list:
    if isinstance(value, (str, bytes, os.PathLike)):
        return [value]
    if hasattr(value, "read") or not hasattr(value, "__iter__"):
        raise UsageError(f"{value!r}: is neither a path nor several of them")
    return list(value)


def _require_float(dtype: Any) -> None:
    if dtype is not None and stored_name(dtype) not in FLOATS:
        raise UsageError(f"dtype={dtype}: tensors become float16, bfloat16, float32 or float64")


def _require_device(device: Any) -> None:
    """Refuses what is no device of torch before a file is opened. Whether it is here, torch says."""
    import torch

    try:
        torch.device(device)
    except (RuntimeError, TypeError, ValueError):
        raise UsageError(f"device={device!r}: is no device of torch") from None


def _memory_of(backend: Any) -> str:
    if backend not in _BACKENDS:
        raise UsageError(f"backend={backend!r}: is neither 'mmap' nor 'pread'")
    return _BACKENDS[backend]


def load_file(
    filename: Union["Path", Sequence["Path"]],
    device: Union[str, int, "torch.device", None] = "cpu",
    *,
    memory: Union[str, None] = None,
    dtype: Union["torch.dtype", str, None] = None,
    show_progress: bool = True,
    backend: str = "mmap",
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
            of it now, into memory of the process: quicker where all of it will be touched. Default:
            what `backend` says.
        dtype: what floating-point tensors become; None leaves them as they are stored. Those are
            then in private memory.
        show_progress: a bar on stderr, if that is a terminal, for loads of more than 2 seconds.
        backend: safetensors' word for `memory`: "mmap", or "pread", which is "private".

    Returns:
        The tensors by name, in the order of the file.

    Raises:
        NoSuchFile, BrokenFile: for the file. DoesNotFit: "private" needs more memory than is free;
        nothing is read then. UsageError: an argument makes no sense. KeyboardInterrupt: Ctrl-C,
        when no thread reads any more.
    """
    memory = _memory_of(backend) if memory is None else memory
    _require_float(dtype)
    if not _is_cpu(device):
        _require_device(device)
    files = Files(_paths(filename))
    names = files.names
    everything = range(len(names))
    gpu = None if _is_cpu(device) else _into.gpu_of(device)
    if gpu is not None and files.dtypes() <= TORCH_NAMES.keys():
        tensors = _load_to_gpu(files, everything, gpu, dtype, show_progress)
        files.close()
        return dict(zip(names, tensors))
    handed = files.load(everything, True, memory, dtype, show_progress)
    occurring = files.dtypes() if dtype is None else files.dtypes() | {stored_name(dtype)}
    tensors = _to_torch(files, everything, handed, occurring, dtype)
    files.close()
    if not _is_cpu(device):
        tensors = [tensor.to(device) for tensor in tensors]
    return dict(zip(names, tensors))


def _to_torch(files: Files, indices: Sequence[int], handed: Handed, occurring: Iterable[str],
              dtype: Any = None) -> list:
    """What load() gave, as torch's. Raises Error, which names a tensor of which there is no dtype."""
    try:
        return to_torch(handed, occurring, files.info(indices, dtype))
    except NoDtype as error:
        raise Error(f"tensor {files.names[indices[error.position]]!r}: {error}") from None


def _load_to_gpu(files: Files, indices: Sequence[int], gpu: int, dtype: Any,
                 show_progress: bool) -> list:
    """Tensors in memory of a GPU that torch allocates."""
    info = files.info(indices, dtype)
    wanted = []
    for k, i in enumerate(indices):
        kind, shape, _ = info(k)
        tensor = _into.empty(torch_shape(shape, kind), kind, gpu)
        wanted.append((tensor, kind, ((i, 0, tensor.numel()),)))
    targets = _into.targets_of(wanted)
    interruptible(lambda watch: _into.fill(files, targets, watch), show_progress)
    return [tensor for tensor, _, _ in wanted]


def _is_cpu(device: Any) -> bool:
    return device is None or str(device) == "cpu"


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
        device: where torch's tensors are to be, as in load_file().
        backend: "mmap", or "pread", which reads tensors into private memory.

    Raises:
        NoSuchFile, BrokenFile: for the file. UsageError: an argument makes no sense.
    """

    def __init__(self, filename: "Path", framework: str = "pt",
                 device: Union[str, int, "torch.device", None] = "cpu", *, backend: str = "mmap"):
        self._framework = _framework_of(framework)
        self._memory = _memory_of(backend)
        self._device = device
        self._on_cpu = _is_cpu(device)
        if self._framework == "pt" and not self._on_cpu:
            _require_device(device)
        self._filename = os.fsdecode(path_bytes(filename))
        self._files = Files([filename])

    def __enter__(self) -> "safe_open":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._files.close()

    def _opened(self) -> Files:
        if not self._files.is_open:
            raise Error(f"{self._filename}: the file is closed")
        return self._files

    def keys(self) -> list[str]:
        """The names of the tensors, sorted."""
        return sorted(self._opened().names)

    def offset_keys(self) -> list[str]:
        """The names of the tensors, in the order of the file."""
        return list(self._opened().names)

    def metadata(self) -> Union[dict[str, str], None]:
        """What a safetensors file says besides its tensors; None where it says nothing. Raises
        BrokenFile where the file has changed so that it cannot be read."""
        for path in self._opened().paths():
            found = _read_metadata(path)
            if found is not None:
                return found
        return None

    def _load(self, indices: Sequence[int]) -> list[Any]:
        files = self._opened()
        occurring = {files.dtype(i) for i in indices}
        if self._framework == "np":
            handed = files.load(indices, False, self._memory, None, False)
            try:
                return to_numpy(handed, files.info(indices, None))
            except NoDtype as error:
                raise Error(f"tensor {files.names[indices[error.position]]!r}: {error}") from None
        gpu = self._gpu_for(sum(map(files.bytes, indices)), occurring)
        if gpu is not None:
            return _load_to_gpu(files, indices, gpu, None, False)
        handed = files.load(indices, False, self._memory, None, False)
        tensors = _to_torch(files, indices, handed, occurring)
        return tensors if self._on_cpu else [tensor.to(self._device) for tensor in tensors]

    def _gpu_for(self, size: int, dtypes: Iterable[str]) -> Union[int, None]:
        """The GPU to whose memory Berth reads `size` bytes; None where they are mapped and copied by
        torch, which is quicker for few."""
        if self._framework != "pt" or self._on_cpu or size < _LONG:
            return None
        return _into.gpu_of(self._device) if all(name in TORCH_NAMES for name in dtypes) else None

    def _find(self, name: str) -> int:
        files = self._opened()
        if not isinstance(name, str):
            raise UsageError(f"{name!r}: is no name of a tensor")
        try:
            return files.index(name)
        except KeyError:
            raise Error(f"{self._filename}: has no tensor {name!r}") from None

    def get_tensor(self, name: str) -> Any:
        """A tensor by its name. Raises Error where there is none."""
        index = self._find(name)
        if self._memory == "mmap" and self._framework == "pt" and self._on_cpu:
            return self._opened().map_one(index)
        return self._load([index])[0]

    def get_tensors(self) -> dict[str, Any]:
        """All tensors by name, in the order of the file."""
        names = self.offset_keys()
        return dict(zip(names, self._load(range(len(names)))))

    def get_slice(self, name: str) -> "Slice":
        """A tensor of which only what is indexed is loaded. Raises Error where there is none."""
        return Slice(self, self._find(name))


def _framework_of(name: Any) -> str:
    kinds = {"pt": "pt", "torch": "pt", "pytorch": "pt", "np": "np", "numpy": "np"}
    if name in ("tf", "tensorflow", "jax", "flax", "mlx", "paddle"):
        raise UsageError(
            f"framework={name!r}: Berth gives tensors of torch ('pt') and arrays of numpy ('np'); "
            f"{name} makes its own of the latter"
        )
    if not isinstance(name, str) or name not in kinds:
        raise UsageError(f"framework={name!r}: is neither 'pt' nor 'np'")
    return kinds[name]


class Slice:
    """A tensor that is indexed before it is loaded: of the file only those pages are read that the
    result is on."""

    def __init__(self, file: safe_open, index: int):
        self._file = file
        self._index = index

    def get_shape(self) -> list[int]:
        """The sizes of the whole tensor, outermost first."""
        return list(self._file._opened().shape(self._index))

    def get_dtype(self) -> str:
        """As safetensors spells it: "BF16"."""
        return self._file._opened().dtype(self._index)

    def __getitem__(self, key: Any) -> Any:
        """What indexing the whole tensor gives, with any index that torch or numpy takes."""
        file, files = self._file, self._file._opened()
        if file._framework == "np" or file._memory != "mmap":
            return file._load([self._index])[0][key]
        part = files.map_one(self._index)[key]
        if file._on_cpu:
            return part
        if part.numel() == math.prod(files.shape(self._index)):  # all of it, and perhaps much
            return file._load([self._index])[0][key]
        return part.to(file._device)


def _read_metadata(path: str) -> Union[dict[str, str], None]:
    try:
        with open(path, "rb") as file:
            head = file.read(9)
            if len(head) < 9 or head[8:9] != b"{":
                return None  # of another format
            size = struct.unpack("<Q", head[:8])[0]
            header = json.loads(b"{" + file.read(size - 1))
        metadata = header.get("__metadata__")
    except (OSError, ValueError, MemoryError, OverflowError, AttributeError) as error:
        raise BrokenFile(f"{path}: changed since its header was read ({error})") from None
    return metadata
