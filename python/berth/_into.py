"""Reading into tensors that torch has allocated: on GPUs, Berth streams straight into that memory."""

from __future__ import annotations

import ctypes
import mmap
from ctypes import c_size_t, c_void_p
from typing import TYPE_CHECKING, Any, Sequence, Union

from ._errors import DoesNotFit
from ._library import LoadOptions, Target, call, library
from ._tensors import TORCH_NAMES

STAGING = 128 << 20  # the most bytes of host memory that a load passes through, Berth's default

if TYPE_CHECKING:
    import torch

    from ._progress import Watch
    from .files import Files


def gpu_of(device: Any) -> Union[int, None]:
    """The number of the GPU that `device` names and that Berth can fill memory of; None for any
    other device, and where Berth finds no CUDA: then it is for torch to copy."""
    import torch

    if str(device) in ("cpu", "disk", "meta"):
        return None
    named = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    if named.type != "cuda":
        return None
    count = library().berth_gpu_count()
    if count == 0:
        return None
    index = torch.cuda.current_device() if named.index is None else named.index
    return index if index < count else None


def empty(shape: Sequence[int], dtype: str, gpu: Union[int, None]) -> "torch.Tensor":
    """Memory of torch's own allocator for a tensor of the stored dtype; None means the CPU. Raises
    DoesNotFit where a GPU has too little."""
    import torch

    device = "cpu" if gpu is None else torch.device("cuda", gpu)
    try:
        made = torch.empty(shape, dtype=getattr(torch, TORCH_NAMES[dtype]), device=device)
    except torch.cuda.OutOfMemoryError as error:
        raise DoesNotFit(f"GPU {gpu}: " + " ".join(str(error).split())) from None
    if device == "cpu":
        _ask_for_large_pages(made.data_ptr(), made.numel() * made.element_size())
    return made


# From this size on malloc() maps memory for each request, which goes back as a whole: what is said of
# its pages is said of nobody else's.
_MAPPED_BY_MALLOC = 32 << 20
_PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None)


def _ask_for_large_pages(address: int, size: int) -> None:
    """Memory on large pages is filled in half the time: the kernel clears them one by one."""
    if size <= _MAPPED_BY_MALLOC:
        return
    begin = -(-address // _PAGE) * _PAGE
    end = (address + size) // _PAGE * _PAGE
    _libc.madvise(c_void_p(begin), c_size_t(end - begin), mmap.MADV_HUGEPAGE)


def place_of(tensor: "torch.Tensor") -> tuple:
    """The device of a tensor for the library, and the stream whose work may still use its memory:
    torch hands memory out again as soon as the work that used it is enqueued."""
    import torch

    if tensor.device.type != "cuda":
        return -1, None
    return tensor.device.index, torch.cuda.current_stream(tensor.device).cuda_stream


def options(watch: Union["Watch", None] = None) -> LoadOptions:
    made = LoadOptions(struct_size=ctypes.sizeof(LoadOptions))
    if watch is not None:
        made.progress = watch.callback
    return made


def targets_of(wanted: Sequence[tuple]) -> ctypes.Array:
    """What fill() is to read. `wanted` are (tensor, its stored dtype, places), a place being the index
    of a stored tensor, the first element and the number of elements that are its in `tensor`. To be
    called on the thread that allocated the tensors: torch's current stream is the thread's."""
    targets = (Target * sum(len(places) for _, _, places in wanted))()
    at = iter(targets)
    for tensor, dtype, places in wanted:
        device, stream = place_of(tensor)
        element = tensor.element_size()
        base = tensor.data_ptr()
        name = dtype.encode()
        for index, first, count in places:
            target = next(at)
            target.struct_size = ctypes.sizeof(Target)
            target.tensor = index
            target.device = device
            target.data = base + first * element
            target.bytes = count * element
            target.dtype = name
            target.stream = stream
    return targets


def fill(files: "Files", targets: ctypes.Array, watch: Union["Watch", None] = None) -> None:
    """Reads into tensors, in one load. All bytes are there when this returns."""
    call(library().berth_load_into, files.handle, targets, len(targets),
         ctypes.byref(options(watch)), None)
