"""transformers' from_pretrained() with Berth's bytes and places.

transformers still finds files, builds the model, renames, ties, computes buffers and reports keys.
Berth takes the place of what reads: `PreTrainedModel._load_pretrained_model` gets a state dict
whose tensors are mapped when they are asked for, and experts that transformers would stack are read
straight into the stacked tensor. That function is private, so its signature is looked at, and
whatever Berth cannot take is loaded as transformers does it, with one warning that says why.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import os
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any, Iterator, Union

from ._checkpoint import Source
from ._errors import DoesNotFit, Error, UsageError
from ._library import library
from ._report import LoadedReport, PeakSampler, places_of, report_of
from ._state_dict import StateDict, private_need
from ._taken import open_files, why_not
from .planning import plan

if TYPE_CHECKING:
    import transformers as hf

__all__ = ["LoadedReport", "from_pretrained", "transformers"]

# The functions of transformers that are wrapped, and the arguments that they are known to take.
_LOADING_TAKES = ["model", "state_dict", "checkpoint_files", "load_config"]
_PLACING_TAKES = ["model", "device_map", "max_memory", "hf_quantizer"]
# What ties weights after loading, in older and newer versions, and its first arguments.
_FINISHING = ["_finalize_load_state_dict", "_finalize_model_loading"]
_FINISHING_TAKES = ["model", "load_config"]

# The least bytes of private memory for which a load looks at what is free.
_LEAST_CHECKED = 64 << 20


class _State(threading.local):
    """Of this thread: whether it loads by Berth, which is None, or the arguments with which plan()
    places; and where the weights are mapped that it has loaded last."""

    plan_arguments: Union[dict, None] = None
    mappings: Union[list, None] = None


_state = _State()
_hook_lock = threading.Lock()
_hooks: list = []  # those that are there
_users = 0  # how many are in transformers(); the last who leaves removes them


def _free_host_memory() -> int:
    """Bytes that this process can take; 0 where that is not known."""
    return library().berth_free_host_memory()


def _require_space(model: Any, need: int) -> None:
    """Raises DoesNotFit where host memory is too short for the private memory of a load."""
    if need < _LEAST_CHECKED:
        return
    free = _free_host_memory()
    if 0 < free < need:
        raise DoesNotFit(
            f"{type(model).__name__}: host memory: the load needs {need} private bytes, {free} are "
            f"free now, {need - free} too few; free some, or give parts of the model to other "
            "devices by device_map"
        )


# ---- The hooks


def _takes(function: Any, arguments: list) -> bool:
    """Whether the first arguments of a function have these names."""
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return False
    return names[: len(arguments)] == arguments


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keeps Python from looking for cycles meanwhile. A load makes many objects that all stay, which
    Python takes for a reason to look at every object of the process: 150 ms where torch is loaded."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _loading(plain: Any) -> Any:
    @functools.wraps(plain)
    def load(model: Any, state_dict: Any, checkpoint_files: Any, load_config: Any,
             *rest: Any, **more: Any) -> Any:
        if _state.plan_arguments is None or isinstance(state_dict, StateDict):
            return plain(model, state_dict, checkpoint_files, load_config, *rest, **more)
        files = None
        try:
            why = why_not(model, state_dict, checkpoint_files, load_config)
        except (AttributeError, ImportError) as error:
            why = f"this version of transformers is not known ({error})"
        if not why:
            files, why = open_files(checkpoint_files)
        if files is None:
            warnings.warn(f"{type(model).__name__}: loaded without Berth: {why}", stacklevel=3)
            return plain(model, state_dict, checkpoint_files, load_config, *rest, **more)
        source = Source(files)
        with _no_collection(), PeakSampler() as sampler:
            try:
                ours = StateDict(model, source, load_config)
                planned = private_need(ours)
                _require_space(model, planned)
                result = plain(model, ours, checkpoint_files, load_config, *rest, **more)
            finally:
                source.end()
        before = getattr(model, "berth_report", None)
        _state.mappings = source.mappings if before is None else None  # there are others, too
        report = report_of(model, planned, sampler, load_config.device_map, _state.mappings)
        model.berth_report = report if before is None else before.and_then(report)
        return result

    return load


def _finishing(plain: Any) -> Any:
    @functools.wraps(plain)
    def finish(model: Any, load_config: Any, *rest: Any, **more: Any) -> Any:
        result = plain(model, load_config, *rest, **more)
        report = getattr(model, "berth_report", None)
        if _state.plan_arguments is not None and report is not None:
            after_load, mapped = places_of(model, load_config.device_map, _state.mappings)
            model.berth_report = report._replace(after_load=after_load, mapped=mapped)
        return result

    return finish


def _placing(plain: Any) -> Any:
    @functools.wraps(plain)
    def get_device_map(model: Any, device_map: Any, max_memory: Any, hf_quantizer: Any,
                       *rest: Any, **more: Any) -> Any:
        arguments = _state.plan_arguments
        if arguments is None or device_map != "auto" or hf_quantizer is not None:
            return plain(model, device_map, max_memory, hf_quantizer, *rest, **more)
        try:
            made = plan(model, max_memory, **arguments)
        except (DoesNotFit, UsageError):
            raise
        except Error as error:
            warnings.warn(f"{type(model).__name__}: placed without Berth: {error}", stacklevel=3)
            return plain(model, device_map, max_memory, hf_quantizer, *rest, **more)
        if not made.fits:
            missing = made.shortfall or {}
            raise DoesNotFit(
                f"{type(model).__name__} does not fit: {missing['bytes']} bytes are missing: "
                f"{missing['cause']}"
            )
        return made.device_map

    return get_device_map


class _Hook:
    """A function of transformers that is wrapped while anybody is in transformers()."""

    def __init__(self, owner: Any, name: str, takes: list, wrap: Any):
        self._owner, self._name, self._wrap = owner, name, wrap
        self._plain = inspect.getattr_static(owner, name, None)  # with its staticmethod
        self._ours: Any = None
        self.is_known = _takes(getattr(owner, name, None), takes)

    def put(self) -> None:
        wrapped = self._wrap(getattr(self._owner, self._name))
        self._ours = staticmethod(wrapped) if isinstance(self._owner, type) else wrapped
        setattr(self._owner, self._name, self._ours)

    def remove(self) -> None:
        """Leaves it where somebody else has wrapped it meanwhile: outside it only passes on."""
        if inspect.getattr_static(self._owner, self._name, None) is self._ours:
            setattr(self._owner, self._name, self._plain)


def _put_hooks() -> list:
    """Raises nothing: where a function is not what Berth knows, it warns and wraps none."""
    from transformers import modeling_utils

    model_class = modeling_utils.PreTrainedModel
    hooks = [
        _Hook(model_class, "_load_pretrained_model", _LOADING_TAKES, _loading),
        _Hook(modeling_utils, "_get_device_map", _PLACING_TAKES, _placing),
    ]
    if not all(hook.is_known for hook in hooks):
        warnings.warn(
            "this version of transformers is not known: models are loaded without Berth",
            stacklevel=4,
        )
        return []
    finishing = [_Hook(model_class, name, _FINISHING_TAKES, _finishing) for name in _FINISHING]
    hooks += [hook for hook in finishing if hook.is_known]
    for hook in hooks:
        hook.put()
    return hooks


@contextlib.contextmanager
def transformers(**plan_arguments: Any) -> Iterator[None]:
    """Inside, from_pretrained() of transformers loads by Berth, also in code that must not change:

        with berth.transformers():
            model = AutoModelForCausalLM.from_pretrained("HuggingFaceTB/SmolLM2-135M")

    device_map="auto" places by Berth's planner. What Berth cannot take is loaded as transformers
    does it, with one warning that says why; so is everything with a transformers whose inner
    functions Berth does not know. It is for the thread that enters it.

    Args:
        plan_arguments: those of plan() that place, such as policy="throughput".
    """
    global _hooks, _users

    with _hook_lock:
        if _users == 0:
            _hooks = _put_hooks()
        _users += 1
    before, _state.plan_arguments = _state.plan_arguments, plan_arguments
    try:
        yield
    finally:
        _state.plan_arguments = before
        with _hook_lock:
            _users -= 1
            if _users == 0:
                for hook in _hooks:
                    hook.remove()
                _hooks = []


def from_pretrained(
    pretrained_model_name_or_path: Union[str, "os.PathLike[str]"],
    *arguments: Any,
    auto_class: Any = None,
    device_map: Any = "auto",
    plan_arguments: Union[dict, None] = None,
    **options: Any,
) -> "hf.PreTrainedModel":
    """transformers' from_pretrained(), with Berth's bytes and places. At its end one line on stderr
    says what the load took, and where the weights are; `model.berth_report` has it, too.

    Args:
        pretrained_model_name_or_path: a folder, or the id of a model. One in the local cache works
            offline.
        auto_class: the class that makes the model. Default: AutoModelForCausalLM.
        device_map: as transformers takes it. "auto" (the default) places by Berth's planner.
        plan_arguments: those of plan() that place, such as {"policy": "throughput"}.
        options: those of transformers' from_pretrained().

    Raises:
        DoesNotFit: before bytes move. Whatever transformers raises.
    """
    if auto_class is None:
        from transformers import AutoModelForCausalLM as auto_class
    with transformers(**(plan_arguments or {})):
        model = auto_class.from_pretrained(
            pretrained_model_name_or_path, *arguments, device_map=device_map, **options
        )
    loaded = model[0] if isinstance(model, tuple) else model
    report = getattr(loaded, "berth_report", None)
    if report is not None and sys.stderr is not None:
        print(f"berth: {type(loaded).__name__}: {report}", file=sys.stderr)
    return model
