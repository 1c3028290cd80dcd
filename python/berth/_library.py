"""The C interface (include/berth/berth_c.h) by ctypes: its structs, and calls that raise."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from ctypes import POINTER, c_char, c_char_p, c_double, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from importlib.util import find_spec
from typing import Any, Sequence

from ._errors import BrokenFile, DoesNotFit, Error, Interrupted, NoSuchFile, UsageError
from ._paths import NATIVE

C_VERSION = 1  # BERTH_C_VERSION
MEMORY_MAP, MEMORY_PRIVATE = 0, 1
PLAN_JSON, PLAN_TEXT, PLAN_VERBOSE, PLAN_SVG = range(4)

_KINDS = {2: DoesNotFit, 3: BrokenFile, 4: NoSuchFile, 5: Interrupted, 6: UsageError}

PROGRESS = ctypes.CFUNCTYPE(c_int32, c_uint64, c_uint64, c_double, c_void_p)


class ErrorStruct(ctypes.Structure):
    _fields_ = [("status", c_int32), ("message", c_char * 2044)]


class TensorStruct(ctypes.Structure):
    _fields_ = [
        ("name", c_void_p),
        ("dtype", c_char_p),
        ("shape", POINTER(c_uint64)),
        ("rank", c_uint64),
        ("file", c_uint64),
        ("begin", c_uint64),
        ("end", c_uint64),
        ("bytes", c_uint64),
        ("name_bytes", c_uint64),
    ]


class LoadOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint64),
        ("memory", c_uint32),
        ("emulate", c_uint32),
        ("dtype", c_char_p),
        ("io", c_char_p),
        ("staging", c_uint64),
        ("progress", PROGRESS),
        ("user", c_void_p),
    ]


class Target(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint64),
        ("tensor", c_uint32),
        ("device", c_int32),
        ("data", c_void_p),
        ("bytes", c_uint64),
        ("dtype", c_char_p),
        ("start", POINTER(c_uint64)),
        ("size", POINTER(c_uint64)),
        ("stream", c_void_p),
    ]


class LoadReport(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_uint64),
        ("seconds", c_double),
        ("tensors", c_uint64),
        ("bytes_read", c_uint64),
        ("bytes_mapped", c_uint64),
        ("host_peak_bytes", c_uint64),
        ("planned_peak_bytes", c_uint64),
    ]


_SIGNATURES = {
    "berth_c_version": (c_uint32, []),
    "berth_version": (c_char_p, []),
    "berth_set_configs": (None, [c_char_p]),
    "berth_open": (c_int32, [POINTER(c_char_p), c_size_t, POINTER(c_void_p), POINTER(ErrorStruct)]),
    "berth_close": (None, [c_void_p]),
    "berth_tensors": (c_void_p, [c_void_p, POINTER(c_size_t)]),
    "berth_file": (c_char_p, [c_void_p, c_size_t]),
    "berth_load": (
        c_int32,
        [
            c_void_p,
            POINTER(c_uint32),
            c_size_t,
            POINTER(LoadOptions),
            POINTER(c_void_p),
            POINTER(LoadReport),
            POINTER(ErrorStruct),
        ],
    ),
    "berth_load_into": (
        c_int32,
        [
            c_void_p,
            POINTER(Target),
            c_size_t,
            POINTER(LoadOptions),
            POINTER(LoadReport),
            POINTER(ErrorStruct),
        ],
    ),
    "berth_gpu_count": (c_int32, []),
    "berth_free_host_memory": (c_uint64, []),
    "berth_plan_make": (
        c_int32,
        [c_char_p, POINTER(c_char_p), c_size_t, POINTER(c_void_p), POINTER(ErrorStruct)],
    ),
    "berth_plan_free": (None, [c_void_p]),
    "berth_plan_fits": (c_int32, [c_void_p]),
    "berth_plan_text": (c_int32, [c_void_p, c_uint32, POINTER(c_char_p), POINTER(ErrorStruct)]),
}

_lock = threading.Lock()
_library = None


def _open_cuda_runtime() -> None:
    """Opens CUDA's runtime where torch would, should torch be imported later: Berth's library takes
    one that is open (cuda/late_cudart.cc), and a process must not have two."""
    if "torch" in sys.modules:
        return
    found = find_spec("nvidia")
    for folder in (found and found.submodule_search_locations) or ():
        path = os.path.join(folder, "cu13", "lib", "libcudart.so.13")
        if os.path.exists(path):
            with contextlib.suppress(OSError):
                ctypes.CDLL(path)
            return


def _open() -> ctypes.CDLL:
    _open_cuda_runtime()
    path = os.environ.get("BERTH_LIBRARY") or os.path.join(NATIVE, "lib", "libberth_c.so")
    try:
        opened = ctypes.CDLL(path)
    except OSError as error:
        raise Error(
            f"cannot open Berth's library: {error}; reinstall the package, or set BERTH_LIBRARY to "
            "a libberth_c.so"
        ) from None
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(opened, name)
        function.restype = result
        function.argtypes = arguments
    if opened.berth_c_version() != C_VERSION:
        raise Error(
            f"{path}: has interface {opened.berth_c_version()}, this package needs {C_VERSION}: "
            "install both from one build"
        )
    configs = os.path.join(NATIVE, "share", "berth", "configs")
    if os.path.isdir(configs):
        opened.berth_set_configs(os.fsencode(configs))
    return opened


def library() -> ctypes.CDLL:
    """The library, opened when it is first asked for. Raises Error where it cannot be."""
    global _library
    if _library is None:
        with _lock:
            if _library is None:
                _library = _open()
    return _library


def version() -> str:
    return library().berth_version().decode()


def call(function, *arguments) -> None:
    """Calls a function of the library that returns a status, with an error struct behind
    `arguments`. Raises the exception for it. ctypes releases the GIL meanwhile."""
    error = ErrorStruct()
    status = function(*arguments, ctypes.byref(error))
    if status != 0:
        raise _KINDS.get(status, Error)(error.message.decode("utf-8", "replace"))


def path_bytes(path: Any) -> bytes:
    """A path as the library takes it. Raises UsageError where it cannot be one."""
    try:
        return os.fsencode(path)
    except TypeError:
        raise UsageError(f"{path!r}: is no path") from None
    except UnicodeEncodeError:
        raise UsageError(f"{path!r}: has characters that no path can have") from None


def texts(values: Sequence[bytes]) -> ctypes.Array:
    """Bytes as texts of C, which end with a zero and so can have none inside."""
    for value in values:
        if b"\0" in value:
            raise UsageError(f"{value!r}: has a zero byte inside")
    return (c_char_p * len(values))(*values)
