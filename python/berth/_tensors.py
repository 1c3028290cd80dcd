"""Tensors of the library as torch's and numpy's: no byte is copied, and each keeps its own memory.

Most come by DLPack, in one call of torch each. What torch cannot take that way (8 bits and less)
is made of its bytes.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_uint8, c_uint16, c_uint64, c_void_p
from itertools import repeat

from ._errors import Error, UsageError

# The types that are converted into each other, and the bytes of an element.
FLOATS = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}

# What torch calls the types that safetensors has, "BF16" and the like.
TORCH_NAMES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F4": "float4_e2m1fn_x2",  # two elements each
}
STORED_NAMES = {name: stored for stored, name in TORCH_NAMES.items()}
# These come by DLPack whatever the version of torch.
_BY_DLPACK = frozenset(
    "BOOL U8 I8 I16 F16 BF16 I32 F32 C64 F64 I64".split()
)


class _DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("code", c_uint8),
        ("bits", c_uint8),
        ("lanes", c_uint16),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    ]


class _DLManagedTensor(ctypes.Structure):
    pass


_DELETER = ctypes.CFUNCTYPE(None, POINTER(_DLManagedTensor))
_DLManagedTensor._fields_ = [("tensor", _DLTensor), ("context", c_void_p), ("deleter", _DELETER)]

_CAPSULE_NAME = b"dltensor"  # capsules keep a pointer to it
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [c_void_p, c_char_p, c_void_p]
_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.restype = c_int32
_is_valid.argtypes = [ctypes.py_object, c_char_p]


def _give_back(pointer: int) -> None:
    managed = ctypes.cast(pointer, POINTER(_DLManagedTensor))
    managed.contents.deleter(managed)


class NoDtype(Error):
    """torch or numpy has no dtype for a tensor, which stands at `position` of those asked for."""

    position = 0


class _Owner:
    """Gives a tensor back when nothing refers to it any more."""

    __slots__ = ("_pointer",)

    def __init__(self, pointer: int):
        self._pointer = pointer

    def __del__(self):
        _give_back(self._pointer)


class Handed:
    """Tensors that the library has handed out, until something else owns them: pointers to
    DLManagedTensor, of which those that are still here at the end are given back."""

    def __init__(self, count: int):
        self.pointers = (c_void_p * count)()

    def take(self, i: int) -> int:
        pointer = self.pointers[i]
        self.pointers[i] = None
        return pointer

    def __del__(self):
        for pointer in self.pointers:
            if pointer:
                _give_back(pointer)


def _buffer(pointer: int, size: int):
    """The bytes of a tensor as a buffer that owns them."""
    owner = _Owner(pointer)
    managed = ctypes.cast(pointer, POINTER(_DLManagedTensor)).contents
    buffer = (c_uint8 * size).from_address(managed.tensor.data or 0)
    buffer.owner = owner  # whatever is made of the buffer keeps it, and so the owner
    return buffer


def torch_shape(shape: tuple[int, ...], dtype: str) -> tuple[int, ...]:
    """The shape that torch gives to a tensor of a stored dtype: its F4 holds two elements."""
    return (*shape[:-1], shape[-1] // 2) if dtype == "F4" else shape


def _torch_from_bytes(pointer: int, dtype: str, shape, size: int):
    import torch

    if dtype not in TORCH_NAMES or not hasattr(torch, TORCH_NAMES[dtype]):
        _give_back(pointer)
        raise NoDtype(f"torch {torch.__version__} has no dtype for {dtype}")
    kind = getattr(torch, TORCH_NAMES[dtype])
    shape = torch_shape(shape, dtype)
    if size == 0:
        _give_back(pointer)
        return torch.empty(shape, dtype=kind)
    return torch.frombuffer(_buffer(pointer, size), dtype=torch.uint8).view(kind).view(shape)


def to_torch(handed: Handed, dtypes, info):
    """`handed` as a list of torch.Tensor. `dtypes` are the stored names that occur; info(i) is
    (dtype, shape, bytes) of a tensor."""
    import torch

    from_dlpack = torch._C._from_dlpack
    if _BY_DLPACK.issuperset(dtypes):
        tensors = []
        capsules = map(_new_capsule, handed.pointers, repeat(_CAPSULE_NAME), repeat(None))
        try:
            # One call of C for all, so that no signal comes between a tensor and the list.
            tensors.extend(map(from_dlpack, capsules))
        finally:
            # What torch has taken is no longer ours.
            ctypes.memset(handed.pointers, 0, ctypes.sizeof(c_void_p) * len(tensors))
        return tensors
    tensors = []
    for i in range(len(handed.pointers)):
        dtype, shape, size = info(i)
        pointer = handed.take(i)
        if dtype in _BY_DLPACK:
            capsule = _new_capsule(pointer, _CAPSULE_NAME, None)
            try:
                tensors.append(from_dlpack(capsule))
            except BaseException:
                if _is_valid(capsule, _CAPSULE_NAME):  # torch has not taken it
                    _give_back(pointer)
                raise
        else:
            try:
                tensors.append(_torch_from_bytes(pointer, dtype, shape, size))
            except NoDtype as error:
                error.position = i
                raise
    return tensors


def to_numpy(handed: Handed, info):
    """`handed` as a list of numpy.ndarray, which may be written to."""
    import numpy

    arrays = []
    for i in range(len(handed.pointers)):
        dtype, shape, size = info(i)
        try:
            kind = _numpy_dtype(dtype)
        except NoDtype as error:
            error.position = i
            raise
        pointer = handed.take(i)
        if size == 0:
            _give_back(pointer)
            arrays.append(numpy.empty(shape, kind))
        else:
            arrays.append(numpy.frombuffer(_buffer(pointer, size), kind).reshape(shape))
    return arrays


def _numpy_dtype(stored: str):
    import numpy

    name = TORCH_NAMES.get(stored, "")
    if name == "bfloat16" or name.startswith("float8"):
        try:
            import ml_dtypes

            return numpy.dtype(getattr(ml_dtypes, name))
        except (ImportError, AttributeError):
            raise NoDtype(
                f"numpy has no dtype for {stored}; install ml_dtypes, or use torch"
            ) from None
    if not name or name.startswith("float4"):
        raise NoDtype(f"numpy has no dtype for {stored}")
    return numpy.dtype(name)


def stored_name(dtype) -> str:
    """The stored name of a torch.dtype, or of its name."""
    name = str(dtype).removeprefix("torch.")
    if name in TORCH_NAMES:
        return name
    if name not in STORED_NAMES:
        raise UsageError(f"{dtype}: is no dtype of weights")
    return STORED_NAMES[name]
