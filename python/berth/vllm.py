"""vllm serve MODEL --load-format berth: vLLM's weights, read by Berth.

vLLM calls register() by the entry point `vllm.general_plugins` of the installed package, in each of
its processes. vLLM still finds or downloads the files, and its models take the tensors as they come;
Berth reads them, many at a time, while the model copies those before.

Written for vLLM's interface as published (register_model_loader and DefaultModelLoader of
vllm.model_executor.model_loader, 0.10 and newer) and tested against a stand-in of it. A run with
vLLM itself was not measured.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Iterator, Sequence

from ._errors import Error
from ._tensors import to_torch
from .files import Files

if TYPE_CHECKING:
    import torch

__all__ = ["register"]

LOAD_FORMAT = "berth"
# Tensors that are read together; at most twice as many bytes are in private memory at a time.
_CHUNK_BYTES = 512 << 20


def register() -> None:
    """Makes `berth` a load format of vLLM. To call it again does nothing."""
    from vllm.model_executor import model_loader

    if LOAD_FORMAT not in getattr(model_loader, "_LOAD_FORMAT_TO_MODEL_LOADER", {}):
        model_loader.register_model_loader(LOAD_FORMAT)(_loader_class(model_loader.DefaultModelLoader))


def tensors_of(paths: Sequence[str]) -> Iterator[tuple[str, "torch.Tensor"]]:
    """The tensors of files with their names, in private memory, in the order of the files. The next
    ones are read while the caller uses those that it has.

    Raises:
        NoSuchFile, BrokenFile: when this is called. DoesNotFit: when tensors are asked for.
    """
    return _stream(Files(paths))


def _stream(files: Files) -> Iterator[tuple[str, "torch.Tensor"]]:
    def read(chunk: Sequence[int]) -> list:
        handed = files.load(chunk, False, "private", None, False)
        return to_torch(handed, {files.dtype(i) for i in chunk}, files.info(chunk, None))

    with contextlib.closing(files), ThreadPoolExecutor(1, "berth-vllm") as reader:
        chunks = list(_chunks(files))
        coming = reader.submit(read, chunks[0]) if chunks else None
        for k, chunk in enumerate(chunks):
            tensors = coming.result()
            coming = reader.submit(read, chunks[k + 1]) if k + 1 < len(chunks) else None
            for position, i in enumerate(chunk):
                tensor, tensors[position] = tensors[position], None  # the caller's alone now
                yield files.names[i], tensor
                del tensor


def _chunks(files: Files) -> Iterator[list]:
    chunk: list = []
    size = 0
    for i in range(len(files.names)):
        if chunk and size + files.bytes(i) > _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(i)
        size += files.bytes(i)
    if chunk:
        yield chunk


def _loader_class(default_loader: type) -> type:
    """A loader of vLLM that leaves to its default one all but the reading."""

    class BerthModelLoader(default_loader):
        def __init__(self, load_config: Any):
            # As "auto" the default loader chooses files, and reads those that Berth leaves to it.
            super().__init__(dataclasses.replace(load_config, load_format="auto"))

        def _get_weights_iterator(self, source: Any) -> Iterator[tuple[str, "torch.Tensor"]]:
            paths, why = _files_of(self, source)
            if not why:
                try:
                    tensors = tensors_of(paths)
                    return ((source.prefix + name, tensor) for name, tensor in tensors)
                except Error as error:  # such as files of PyTorch with more in them than tensors
                    why = str(error)
            warnings.warn(f"loaded without Berth: {why}", stacklevel=2)
            return super()._get_weights_iterator(source)

    return BerthModelLoader


def _files_of(loader: Any, source: Any) -> tuple[list, str]:
    """The files of a source, or why they are not known. The function that finds them is a private
    one of vLLM, whose arguments have changed from version to version: each is a member of the
    source."""
    members = {**vars(source), "model_name_or_path": source.model_or_path}
    members.setdefault("subfolder", None)
    try:
        wanted = list(inspect.signature(loader._prepare_weights).parameters)
        found = loader._prepare_weights(**{name: members[name] for name in wanted})
    except (AttributeError, KeyError) as error:
        return [], f"this version of vLLM is not known ({error!r})"
    return list(found[1]), ""
