"""Models in the local cache of huggingface_hub, by their ids. Nothing is downloaded."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

from ._errors import NoSuchFile
from ._library import path_bytes

# As huggingface_hub takes ids; the revision is ours, and Berth's command line's.
_ID = re.compile(r"(?P<id>\w[\w.-]*(/\w[\w.-]*)?)(@(?P<revision>.+))?")


def cache_folder() -> str:
    """Where huggingface_hub keeps models: where that module is imported, as it found, or else by the
    variables of the environment that it goes by."""
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None and hasattr(constants, "HF_HUB_CACHE"):
        return str(constants.HF_HUB_CACHE)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return os.path.expandvars(os.path.expanduser(os.environ[name]))
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")
    return os.path.join(os.path.expandvars(os.path.expanduser(home)), "hub")


def cached_model(model: Any) -> Any:
    """The folder in the cache of a model that is named by its id; `model` itself where it is a path.
    Raises NoSuchFile, which says what was looked for, where it is neither."""
    path = os.fsdecode(path_bytes(model))
    named = _ID.fullmatch(path)
    if "\0" in path or os.path.lexists(path) or named is None:
        return model
    if path.endswith((".safetensors", ".gguf", ".bin", ".pt", ".pth", ".json", ".yaml", ".yml")):
        return model  # a file that is not there
    before, at, _ = path.rpartition("@")
    if at and os.path.lexists(before):
        return model  # a part of a file, which the library knows
    cache = cache_folder()
    folder = os.path.join(cache, "models--" + named["id"].replace("/", "--"))
    if not os.path.isdir(folder):
        raise NoSuchFile(
            f"{path}: no such file or folder, and no model of the local cache: there is no {folder} "
            f"(download it with `hf download {named['id']}`, or set HF_HUB_CACHE)"
        )
    return folder if named["revision"] is None else f"{folder}@{named['revision']}"
