"""transformers' from_pretrained() with Berth's bytes and places.

transformers still finds files, builds the model, renames, ties, computes buffers and reports keys.
Berth takes the place of what reads: `PreTrainedModel._load_pretrained_model` gets a state dict
whose tensors are mapped when they are asked for, and experts that transformers would stack are read
straight into the stacked tensor. That function is private, so its signature is looked at, and
whatever Berth cannot take is loaded as transformers does it, with one warning that says why.
"""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import functools
import inspect
import os
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any, Iterator, NamedTuple, Union

from ._errors import BrokenFile, DoesNotFit, Error, UsageError
from ._library import LoadOptions, Target, call, library
from ._progress import Watch
from ._tensors import TORCH_NAMES, stored_name
from .files import Files
from .planning import plan

if TYPE_CHECKING:
    import torch
    import transformers as hf

__all__ = ["LoadedReport", "from_pretrained", "transformers"]

# The functions of transformers that are wrapped, and the arguments that they are known to take.
_LOADING_TAKES = ["model", "state_dict", "checkpoint_files", "load_config"]
_PLACING_TAKES = ["model", "device_map", "max_memory", "hf_quantizer"]


class LoadedReport(NamedTuple):
    """What a load did. Sizes are bytes. str() of it is one line."""

    planned_peak: int  # the private host memory that the load was to take, known before it began
    measured_peak: int  # the most private host memory above what was in use before
    private: int  # private host memory that is in use now, above what was before
    mapped: int  # weights that are mapped from their files, and not private
    after_load: dict  # weights by device: the number of a GPU, "cpu", "disk"

    @property
    def nothing_on_gpu(self) -> bool:
        return not any(isinstance(device, int) for device in self.after_load)

    def __str__(self) -> str:
        def size(count: int) -> str:
            return f"{count / 2**30:.2f} GiB"

        places = ", ".join(
            f"{size(count)} on {'gpu ' if isinstance(device, int) else ''}{device}"
            for device, count in self.after_load.items()
        )
        gpu = "; nothing is on a GPU" if self.nothing_on_gpu else ""
        return (
            f"load peak {size(self.measured_peak)} of host memory ({size(self.planned_peak)} planned); "
            f"after load {places}, "
            f"{size(self.mapped)} of it mapped from files{gpu}"
        )


class _State(threading.local):
    """What is loaded by Berth on this thread: None, or how."""

    how: Any = None


_state = _State()
_hook_lock = threading.Lock()
_hooks: list = []  # what to put back, by the last who leaves


class _How:
    def __init__(self, plan_arguments: Union[dict, None]):
        self.plan_arguments = plan_arguments


# ---- Tensors that are asked for later


class _Source:
    """The files of one load. transformers asks for their tensors on threads of its own, which still
    run when a load ends by an exception."""

    def __init__(self, files: Files):
        self.files = files
        self.watch = Watch(False)
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

    def end(self) -> None:
        """Stops what is being read, waits for that and closes the files. What asks later gets an
        Error."""
        self.watch.stop = True
        with self._changed:
            self._changed.wait_for(lambda: self._users == 0)
            self.files.close()


class _Mapped:
    """A stored tensor, which is mapped when it is indexed, as safetensors' slices are."""

    def __init__(self, source: _Source, index: int):
        self._source, self._index = source, index
        self._files = source.files

    def get_shape(self) -> list:
        return list(self._files.shape(self._index))

    def get_dtype(self) -> str:
        return self._files.dtype(self._index)

    @property
    def shape(self) -> tuple:
        return self._files.shape(self._index)

    def __getitem__(self, key: Any) -> "torch.Tensor":
        with self._source as files:
            return files.map_one(self._index)[key]


class _Stacked:
    """Stored tensors that make up one, each at a place of its own in it. They are read there when
    it is known of which dtype it is to be."""

    def __init__(self, source: _Source, places: list, shape: tuple):
        self._source, self._places = source, places
        self.shape = shape

    def get_shape(self) -> list:
        return list(self.shape)

    def get_dtype(self) -> str:
        return self._source.files.dtype(self._places[0][0])

    def __getitem__(self, key: Any) -> Any:
        return self if key is Ellipsis else self.to()[key]

    def to(self, device: Any = "cpu", dtype: Any = None) -> "torch.Tensor":
        import torch

        name = self.get_dtype() if dtype is None else stored_name(dtype)
        found = torch.empty(self.shape, dtype=getattr(torch, TORCH_NAMES[name]))
        element = found.element_size()
        targets = (Target * len(self._places))()
        for target, (index, at, count) in zip(targets, self._places):
            target.struct_size = ctypes.sizeof(Target)
            target.tensor = index
            target.device = -1
            target.data = found.data_ptr() + at * element
            target.bytes = count * element
            target.dtype = name.encode()
        options = LoadOptions(struct_size=ctypes.sizeof(LoadOptions))
        options.progress = self._source.watch.callback
        with self._source as files:
            call(library().berth_load_into, files.handle, targets, len(targets),
                 ctypes.byref(options), None)
        return found.to(device)


# ---- The state dict


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


def _state_dict(model: Any, source: _Source, load_config: Any) -> dict:
    """The checkpoint for transformers' converter: tensors by their stored names, but stacks of
    experts by the names that they have in the model."""
    tensors: dict = {name: _Mapped(source, i) for i, name in enumerate(source.files.names)}
    try:
        return _with_stacks(dict(tensors), model, source, load_config)
    except (AttributeError, ImportError, TypeError) as error:
        warnings.warn(
            f"this version of transformers is not known: it stacks experts itself ({error})",
            stacklevel=4,
        )
        return tensors


def _with_stacks(tensors: dict, model: Any, source: _Source, load_config: Any) -> dict:
    from transformers import core_model_loading as core

    files = source.files
    mapping = load_config.weight_mapping or []
    converters = [entry for entry in mapping if isinstance(entry, core.WeightConverter)]
    if not any(map(_stack_of, converters)):
        return tensors
    renamings = [entry for entry in mapping if isinstance(entry, core.WeightRenaming)]
    by_source = {pattern: c for c in converters for pattern in c.source_patterns}
    meta = model.state_dict()

    def renamed(name: str) -> tuple:
        return core.rename_source_key(name, renamings, converters, model.base_model_prefix, meta)

    stacks: dict = {}
    for name in sorted(files.names, key=core.dot_natural_key):
        key, pattern = renamed(name)
        if pattern is None or key not in meta or not _stack_of(by_source[pattern]):
            continue
        stacks.setdefault((key, id(by_source[pattern])), (by_source[pattern], {}))[1].setdefault(
            pattern, []
        ).append(name)
    for (key, _), (converter, names) in stacks.items():
        indices = {p: [files.index(name) for name in all_of] for p, all_of in names.items()}
        places = _places(files, indices, list(converter.source_patterns), tuple(meta[key].shape))
        if places is None or key in tensors or renamed(key) != (key, None):
            continue  # transformers knows what to do, or to say
        for all_of in names.values():
            for name in all_of:
                del tensors[name]
        tensors[key] = _Stacked(source, places, tuple(meta[key].shape))
    return tensors


# Threads of transformers that make tensors ready.
_THREADS = min(4, os.cpu_count() or 4)


def _private_need(model: Any, tensors: dict, device_map: Any) -> int:
    """The most private host memory that the load of `tensors` takes, in bytes. On the CPU those are
    private that are stacked, or stored in another dtype than the model's; the others are mapped.
    Stacks for other devices pass through host memory, one for each thread. Where transformers
    renames a tensor, it counts as mapped."""
    private = 0
    passing = []
    for name, wanted in model.state_dict().items():
        tensor = tensors.get(name)
        if tensor is None:
            continue
        size = wanted.numel() * wanted.element_size()
        on_cpu = place_of(name, wanted, device_map) == "cpu"
        stacked = isinstance(tensor, _Stacked)
        dtype = str(wanted.dtype).removeprefix("torch.")
        if on_cpu and (stacked or TORCH_NAMES.get(tensor.get_dtype()) != dtype):
            private += size
        elif stacked:
            passing.append(size)
    return private + sum(sorted(passing)[-_THREADS:])


def _why_not(model: Any, state_dict: Any, checkpoint_files: Any, load_config: Any) -> str:
    """Why Berth leaves a load to transformers; "" where it does not."""
    if state_dict is not None or not checkpoint_files:
        return "it is not made from files"
    if not all(str(file).endswith((".safetensors", ".bin")) for file in checkpoint_files):
        return "its files are neither safetensors nor PyTorch's"
    if getattr(load_config, "disable_mmap", False):
        return "disable_mmap asks for reading without mappings"
    quantizer = load_config.hf_quantizer
    if quantizer is not None:
        method = getattr(quantizer.quantization_config, "quant_method", "a quantizer")
        return f"it is quantised, and {getattr(method, 'value', method)} loads in its own way"
    if getattr(load_config, "device_mesh", None) is not None:
        return "it is loaded by tensor parallelism"
    from transformers.integrations import is_deepspeed_zero3_enabled

    if is_deepspeed_zero3_enabled():
        return "DeepSpeed loads it"
    return ""


def _open(checkpoint_files: list) -> tuple[Union[Files, None], str]:
    """The files, or None and why Berth leaves them to transformers: files of PyTorch may hold more
    than Berth takes from them, such as objects of Python."""
    try:
        return Files(checkpoint_files), ""
    except BrokenFile as error:
        if str(checkpoint_files[0]).endswith(".safetensors"):
            raise
        return None, str(error)


# ---- The hooks


def _takes(function: Any, arguments: list) -> bool:
    """Whether the first arguments of a function have these names."""
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return False
    return names[: len(arguments)] == arguments


def _loading(plain: Any) -> Any:
    @functools.wraps(plain)
    def load(model: Any, state_dict: Any, checkpoint_files: Any, load_config: Any,
             *rest: Any, **more: Any) -> Any:
        how = _state.how
        if how is None:
            return plain(model, state_dict, checkpoint_files, load_config, *rest, **more)
        files = None
        try:
            why = _why_not(model, state_dict, checkpoint_files, load_config)
        except (AttributeError, ImportError) as error:
            why = f"this version of transformers is not known ({error})"
        if not why:
            files, why = _open(checkpoint_files)
        if files is None:
            warnings.warn(f"{type(model).__name__}: loaded without Berth: {why}", stacklevel=3)
            return plain(model, state_dict, checkpoint_files, load_config, *rest, **more)
        source = _Source(files)
        with PeakSampler() as sampler:
            try:
                ours = _state_dict(model, source, load_config)
                planned = _private_need(model, ours, load_config.device_map)
                result = plain(model, ours, checkpoint_files, load_config, *rest, **more)
            finally:
                source.end()
        model.berth_report = report_of(model, planned, sampler, load_config.device_map)
        return result

    load.berth_plain = plain
    return load


def _placing(plain: Any) -> Any:
    @functools.wraps(plain)
    def get_device_map(model: Any, device_map: Any, max_memory: Any, hf_quantizer: Any,
                       *rest: Any, **more: Any) -> Any:
        how = _state.how
        if how is None or device_map != "auto" or hf_quantizer is not None:
            return plain(model, device_map, max_memory, hf_quantizer, *rest, **more)
        try:
            made = plan(model, max_memory, **(how.plan_arguments or {}))
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

    get_device_map.berth_plain = plain
    return get_device_map


class PeakSampler:
    """The most private memory of this process while it lives, above what was in use before."""

    def __enter__(self) -> "PeakSampler":
        self.before = self.peak = _private_bytes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="berth-peak", daemon=True)
        self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._stop.wait(0.01):
            self.peak = max(self.peak, _private_bytes())

    def __exit__(self, *_exception: Any) -> None:
        self._stop.set()
        self._thread.join()
        self.after = _private_bytes()
        self.peak = max(self.peak, self.after)


def _private_bytes() -> int:
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def report_of(
    model: Any, planned_peak: int, sampler: PeakSampler, device_map: Any
) -> LoadedReport:
    """What a load did, as long as nothing is dispatched. Tied tensors count once, also before
    transformers has tied them."""
    after: dict = {}
    mapped = 0
    is_mapped = _mappings()
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    seen = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if name in tied or id(tensor) in seen:
            continue
        seen.add(id(tensor))
        size = tensor.numel() * tensor.element_size()
        place = place_of(name, tensor, device_map)
        after[place] = after.get(place, 0) + size
        if place == "cpu" and tensor.device.type == "cpu" and is_mapped(tensor.data_ptr()):
            mapped += size
    return LoadedReport(
        planned_peak=planned_peak,
        measured_peak=max(0, sampler.peak - sampler.before),
        private=max(0, sampler.after - sampler.before),
        mapped=mapped,
        after_load=after,
    )


def place_of(name: str, tensor: "torch.Tensor", device_map: Any) -> Union[int, str]:
    place: Any = tensor.device if tensor.device.type != "meta" else "cpu"
    if device_map:
        path = name
        while path not in device_map and path:
            path = path.rpartition(".")[0]
        place = device_map.get(path, place)
    if isinstance(place, int):
        return place
    kind, _, index = str(place).partition(":")
    return int(index or 0) if kind == "cuda" else kind


def _mappings() -> Any:
    """A function that says whether an address is in a mapped file of weights."""
    ranges = []
    with contextlib.suppress(OSError), open("/proc/self/maps") as maps:
        for line in maps:
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and fields[5].startswith("/") and fields[1].startswith("rw"):
                begin, _, end = fields[0].partition("-")
                ranges.append((int(begin, 16), int(end, 16)))
    begins = [begin for begin, _ in ranges]

    def is_mapped(address: int) -> bool:
        i = bisect.bisect_right(begins, address) - 1
        return i >= 0 and address < ranges[i][1]

    return is_mapped


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
    from transformers import modeling_utils

    model_class = modeling_utils.PreTrainedModel
    with _hook_lock:
        if not _hooks:
            plain = getattr(model_class, "_load_pretrained_model", None)
            placing = getattr(modeling_utils, "_get_device_map", None)
            if not _takes(plain, _LOADING_TAKES) or not _takes(placing, _PLACING_TAKES):
                warnings.warn(
                    "this version of transformers is not known: models are loaded without Berth",
                    stacklevel=3,
                )
            else:
                model_class._load_pretrained_model = staticmethod(_loading(plain))
                modeling_utils._get_device_map = _placing(placing)
        _hooks.append(None)
    before, _state.how = _state.how, _How(plan_arguments)
    try:
        yield
    finally:
        _state.how = before
        with _hook_lock:
            _hooks.pop()
            loading = getattr(model_class, "_load_pretrained_model", None)
            if not _hooks and hasattr(loading, "berth_plain"):
                model_class._load_pretrained_model = staticmethod(loading.berth_plain)
                modeling_utils._get_device_map = modeling_utils._get_device_map.berth_plain


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
