"""Plans: where every tensor of a model would live, and what that costs. No byte of weights is read.
"""

from __future__ import annotations

import ctypes
import enum
import json
import os
import pathlib
import tempfile
import weakref
from ctypes import c_char_p, c_void_p
from typing import TYPE_CHECKING, Any, Callable, Mapping, NamedTuple, Sequence, Union

from ._errors import DoesNotFit, Error, UsageError
from ._hub_cache import cached_model
from ._library import (
    PLAN_JSON,
    PLAN_SVG,
    PLAN_TEXT,
    PLAN_VERBOSE,
    call,
    library,
    path_bytes,
    texts,
)
from ._tensors import stored_name

if TYPE_CHECKING:
    import torch

    Path = Union[str, "os.PathLike[str]"]
    Device = Union[int, str]
    Size = Union[int, str]

__all__ = ["LoadPeak", "Plan", "infer_auto_device_map", "plan"]


class LoadPeak(NamedTuple):
    """The most host memory that a load takes, in bytes, above what was in use before it."""

    host_bytes: int  # of Berth's load
    naive_host_bytes: int  # of the plain way: a state dict beside a built model


class Plan:
    """A plan, as plan() makes it. In a notebook it shows itself as a picture. It can be copied and
    pickled, and equals another one that says the same."""

    def __init__(self, handle: c_void_p):
        self._handle: Union[c_void_p, None] = handle
        weakref.finalize(self, library().berth_plan_free, handle)
        self._texts: dict[int, str] = {}  # by form
        self._values: dict[str, Any] = json.loads(self._text(PLAN_JSON))

    def _text(self, form: int) -> str:
        if form not in self._texts:
            text = c_char_p()
            call(library().berth_plan_text, self._handle, form, ctypes.byref(text))
            # A path in it may be of bytes that are no text.
            self._texts[form] = (text.value or b"").decode("utf-8", "replace")
        return self._texts[form]

    def __getstate__(self) -> dict[str, Any]:
        # A copy has no handle, and so all that could be asked of one.
        for form in (PLAN_JSON, PLAN_TEXT, PLAN_VERBOSE, PLAN_SVG):
            self._text(form)
        return {"_handle": None, "_texts": dict(self._texts), "_values": self._values}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    @property
    def fits(self) -> bool:
        """Whether all of the model has a place, while loading and afterwards."""
        return self._values["fits"]

    @property
    def device_map(self) -> dict[str, Union[int, str]]:
        """As transformers takes it: modules and where they go, {"model.layers.0": 0, ...}. Devices
        are the numbers of GPUs, "cpu" and "disk"."""
        return dict(self._values["device_map"])

    @property
    def load_peak(self) -> LoadPeak:
        """How memory is used while loading."""
        return LoadPeak(**self._values["load_peak"])

    @property
    def after_load(self) -> dict[Union[int, str], int]:
        """Where the weights live afterwards: bytes by device, of the devices that have any."""
        return {
            _device(device["name"]): device["weights"]
            for device in self._values["devices"]
            if device["weights"] > 0
        }

    @property
    def nothing_on_gpu(self) -> bool:
        """Whether no weights are on any GPU, however little memory the load takes."""
        return not any(
            device["weights"] > 0 and device["kind"] not in ("cpu", "disk")
            for device in self._values["devices"]
        )

    @property
    def shortfall(self) -> Union[dict[str, Any], None]:
        """What is missing where the model does not fit: `bytes`, `cause` and `suggestions`."""
        return self._values.get("shortfall")

    @property
    def notes(self) -> list[str]:
        """What a user should know, one line each."""
        return list(self._values["notes"])

    def explain(self, verbose: bool = False) -> str:
        """What `berth plan` prints: a table of devices, why each run of layers is where it is, load
        peak and after load, the verdict. With `verbose`, every module."""
        return self._text(PLAN_VERBOSE if verbose else PLAN_TEXT)

    def svg(self) -> str:
        """The plan as a picture: devices as columns that are filled to scale."""
        return self._text(PLAN_SVG)

    def _repr_svg_(self) -> str:
        return self.svg()

    def to_json(self) -> str:
        """What `berth plan --json` prints, with the keys that docs/guide.md promises."""
        return self._text(PLAN_JSON)

    def __repr__(self) -> str:
        verdict = "fits" if self.fits else "does not fit"
        places = ", ".join(f"{device}: {size}" for device, size in self.after_load.items())
        return f"<berth.Plan of {self._values['model']['name']}: {verdict}; {{{places}}}>"


def _device(name: str) -> Union[int, str]:
    return int(name) if name.isdigit() else name


def _list(name: str, values: Any) -> str:
    if isinstance(values, (str, int)):
        return str(values)
    if isinstance(values, Mapping) or not hasattr(values, "__iter__"):
        raise UsageError(f"{name}={values!r}: is no list")
    return ",".join(str(value) for value in values)


def _pairs(name: str, values: Any) -> str:
    if isinstance(values, str):
        return values
    if not isinstance(values, Mapping):
        raise UsageError(f"{name}={values!r}: is no dict")
    return ",".join(f"{key}={_number_word(value)}" for key, value in values.items())


def _number_word(value: Any) -> str:
    """Programs compute sizes, and so hand over 1.5e9 and numpy.int64(7)."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _dtype_word(dtype: Any) -> str:
    if isinstance(dtype, enum.Enum):  # accelerate's CustomDtype
        dtype = dtype.value
    return str(dtype).removeprefix("torch.")


def plan(
    model: Union["Path", "torch.nn.Module"],
    max_memory: Union[Mapping["Device", "Size"], str, None] = None,
    *,
    policy: Union[str, None] = None,
    machine: Union["Path", None] = None,
    device_map: Union[Mapping[str, "Device"], "Path", None] = None,
    dtype: Union["torch.dtype", str, None] = None,
    dequantize: bool = False,
    reserve: Union[Mapping["Device", "Size"], "Size", None] = None,
    exclude: Union[Sequence["Device"], "Device", None] = None,
    priority: Union[Mapping["Device", int], None] = None,
    no_split: Union[Sequence[str], None] = None,
    overrides: Union[Mapping[str, "Device"], None] = None,
    never_offload: bool = False,
    batch: Union[int, None] = None,
    context: Union[int, None] = None,
    prompt_tokens: Union[int, None] = None,
    new_tokens: Union[int, None] = None,
    kv_dtype: Union["torch.dtype", str, None] = None,
    cpu_memory: Union[str, None] = None,
    staging: Union["Size", None] = None,
    mtp: bool = False,
    emulate: bool = False,
    prefault: bool = False,
    io: Union[str, None] = None,
) -> Plan:
    """Decides where every tensor of a model would live, by its metadata alone.

    Args:
        model: whatever `berth plan` takes for MODEL: a folder with config.json, a file of weights,
            a config.json alone. Or the id of a model in the local Hub cache, "org/name" or
            "org/name@revision"; nothing is downloaded. Or a model of torch, which may be on the
            meta device: whatever can be built is planned, custom code included. Of such a model
            Berth knows no times, and no KV cache.
        max_memory: the most bytes of weights on each device, {0: "24GiB", "cpu": "64GiB"}. Without
            it and without `machine`, this machine is looked at.
        policy: "auto" (the default), "throughput", or Accelerate's "balanced", "balanced_low_0" and
            "sequential".
        machine: the hardware to plan for: a machine file, or the name of one that Berth has.
        device_map: follows this map instead of a policy.
        dtype: of the weights in memory. Default: as they are stored.
        dequantize: quantised weights become plain ones of `dtype`.
        reserve: memory to keep free: on every GPU, or by device.
        exclude: devices that must stay empty.
        priority: levels of GPUs; one of a lower level is used only if the others do not suffice.
        no_split: modules and classes that stay on one device, as patterns.
        overrides: patterns of modules and tensors, and the device that they go to.
        never_offload: weights go on GPUs only.
        batch, context, prompt_tokens, new_tokens, kv_dtype: the work that is planned for.
        cpu_memory: "mmap" (the default), "private" or "pinned".
        staging: the most bytes of the buffers for loading.
        mtp: the layers of multi-token prediction that the checkpoint stores are loaded, too.
        emulate: GPUs that the device map names and that are not here get as much space as host RAM.
        prefault, io: how a load that follows the plan reads; they change no place.

    Returns:
        The plan. A model that does not fit gives one, too, which says what is missing.

    Raises:
        NoSuchFile: there is no such model. UsageError: an argument makes no sense. Error: the model
        or a file is malformed.
    """
    words: list[str] = []

    def add(flag: str, value: Any) -> None:
        if value is not None:
            words.extend([flag, _number_word(value)])

    add("--max-memory", None if max_memory is None else _pairs("max_memory", max_memory))
    add("--policy", policy)
    add("--machine", None if machine is None else os.fsdecode(path_bytes(machine)))
    add("--dtype", None if dtype is None else _dtype_word(dtype))
    add("--reserve", _pairs("reserve", reserve) if isinstance(reserve, Mapping) else reserve)
    add("--exclude", None if exclude is None else _list("exclude", exclude))
    add("--priority", None if priority is None else _pairs("priority", priority))
    add("--no-split", None if no_split is None else _list("no_split", no_split))
    if overrides is not None and not isinstance(overrides, Mapping):
        raise UsageError(f"overrides={overrides!r}: is no dict")
    for pattern, device in (overrides or {}).items():
        add("--override", f"{pattern}={device}")
    add("--batch", batch)
    add("--context", context)
    add("--prompt-tokens", prompt_tokens)
    add("--new-tokens", new_tokens)
    add("--kv-dtype", None if kv_dtype is None else _dtype_word(kv_dtype))
    add("--cpu-memory", cpu_memory)
    add("--staging", staging)
    add("--io", io)
    switches = {"--dequantize": dequantize, "--never-offload": never_offload, "--mtp": mtp,
                "--emulate": emulate, "--prefault": prefault}
    words.extend(flag for flag, wanted in switches.items() if wanted)

    with tempfile.TemporaryDirectory(prefix="berth-") as folder:
        if isinstance(device_map, Mapping):
            file = pathlib.Path(folder) / "device_map.json"
            file.write_text(json.dumps({
                name: device if isinstance(device, int) else str(device)
                for name, device in device_map.items()
            }))
            device_map = file
        add("--device-map", device_map)
        if isinstance(model, (str, bytes, os.PathLike)):
            model = cached_model(model)
        else:
            if not isinstance(model, _Tree):
                model = _Tree(type(model).__name__, module_tree(model))
            file = pathlib.Path(folder) / f"{model.name}.json"
            file.write_text(json.dumps(model.tree))
            model = file
        handle = c_void_p()
        call(library().berth_plan_make, *texts([path_bytes(model)]),
             texts([os.fsencode(word) for word in words]), len(words), ctypes.byref(handle))
        return Plan(handle)


class _Tree(NamedTuple):
    """A model of torch, written down."""

    name: str
    tree: dict[str, Any]


# What stands for accelerate's dtypes that torch lacks.
_CUSTOM_DTYPES = {"fp8": "F8_E4M3", "int4": "F4"}


def module_tree(
    model: "torch.nn.Module",
    no_split: Union[Sequence[str], None] = None,
    dtype_of: Union[Callable[[str, "torch.Tensor"], Any], None] = None,
) -> dict[str, Any]:
    """A model as the module tree that `berth plan` reads: modules in the order in which they were
    registered, with the names, dtypes and shapes of their tensors, and which of these are tied.
    dtype_of(name, tensor) says of which dtype a tensor is to be taken; None: of its own.

    Raises:
        UsageError: `model` is no model. Error: a tensor has no shape yet, or a dtype that files of
        weights do not have.
    """
    holders: dict[int, list[str]] = {}

    def described(full_name: str, tensor: Any) -> dict[str, Any]:
        dtype = tensor.dtype if dtype_of is None else dtype_of(full_name, tensor)
        word = _dtype_word(dtype)
        try:
            stored = _CUSTOM_DTYPES.get(word) or stored_name(word)
            shape = list(tensor.shape)
        except UsageError:
            raise Error(f"{full_name}: {dtype}: is no dtype of weights") from None
        except RuntimeError as error:  # of a lazy module
            raise Error(f"{full_name}: its shape is not known yet ({error})") from None
        if shape and word == "float4_e2m1fn_x2":  # two elements of the file are one of torch's
            shape[-1] *= 2
        return {"dtype": stored, "shape": shape}

    def tensors(named: Mapping[str, Any], prefix: str) -> list[dict[str, Any]]:
        found = []
        for name, tensor in named.items():
            if tensor is None:
                continue
            holders.setdefault(id(tensor), []).append(prefix + name)
            found.append({"name": name, **described(prefix + name, tensor)})
        return found

    def node(module: "torch.nn.Module", name: str, prefix: str) -> dict[str, Any]:
        return {
            "name": name,
            "cls": type(module).__name__,
            "params": tensors(module._parameters, prefix),
            "buffers": tensors(module._buffers, prefix),
            "children": [
                node(child, key, f"{prefix}{key}.")
                for key, child in module._modules.items()
                if child is not None
            ],
        }

    if not hasattr(model, "_parameters") or not hasattr(model, "_modules"):
        raise UsageError(f"{model!r}: is neither a path nor a model of torch")
    if no_split is None:
        classes: set[str] = set()
        for module in model.modules():
            classes.update(getattr(module, "_no_split_modules", None) or ())
        no_split = sorted(classes)
    root = node(model, "", "")
    groups = {name: names for names in holders.values() for name in names}
    # transformers ties some models only after it has loaded them.
    for target, source in (getattr(model, "all_tied_weights_keys", None) or {}).items():
        if target in groups and source in groups and groups[target] is not groups[source]:
            groups[source].extend(groups[target])
            for name in groups[target]:
                groups[name] = groups[source]
    ties = [names for names in {id(names): names for names in groups.values()}.values()
            if len(names) > 1]
    return {"root": root, "no_split_classes": list(no_split), "ties": ties}


_ACCELERATES = ("balanced", "balanced_low_0", "sequential")


def infer_auto_device_map(
    model: "torch.nn.Module",
    max_memory: Union[Mapping["Device", "Size"], None] = None,
    no_split_module_classes: Union[Sequence[str], str, None] = None,
    dtype: Union["torch.dtype", str, None] = None,
    special_dtypes: Union[Mapping[str, Union["torch.dtype", str]], None] = None,
    verbose: bool = False,
    clean_result: bool = True,
    offload_buffers: bool = False,
    fallback_allocation: bool = False,
    **options: Any,
) -> dict[str, Union[int, str]]:
    """A device map for a model of torch, as accelerate.infer_auto_device_map gives one, by Berth's
    planner: units are placed in the order in which they run, so that few activations hop.

    Args:
        model: may be on the meta device.
        max_memory: the most bytes of weights on each device. Default: what this machine has free.
        no_split_module_classes: classes whose modules stay on one device. Default: those that the
            model names itself (`_no_split_modules`).
        dtype: what the weights will become when they are loaded.
        special_dtypes: tensors by name that will become another dtype.
        verbose: prints the plan.
        clean_result, offload_buffers, fallback_allocation: of accelerate, and without effect. A map
            is as short as can be; buffers count where their modules are; and a module that has no
            place on one device is tried on all others.
        options: those of plan(). policy="sequential" gives accelerate's own map, "balanced" and
            "balanced_low_0" those of its device_map of that name, whether they fit or not.

    Returns:
        Modules and where they go: the number of a GPU, "cpu" or "disk".

    Raises:
        DoesNotFit: the message says what is missing.
    """
    if isinstance(no_split_module_classes, str):
        no_split_module_classes = [no_split_module_classes]
    dtype_of = None
    if special_dtypes:
        dtype_of = _special_dtypes(special_dtypes, dtype)
        dtype = None
    tree = _Tree(type(model).__name__, module_tree(model, no_split_module_classes, dtype_of))
    found = plan(tree, max_memory, dtype=dtype, **options)  # type: ignore[arg-type]
    if verbose:
        print(found.explain(verbose=True))
    if not found.fits and options.get("policy") not in _ACCELERATES:
        missing = found.shortfall or {}
        raise DoesNotFit(
            f"{tree.name} does not fit: {missing['bytes']} bytes are missing: {missing['cause']}"
        )
    return found.device_map


def _special_dtypes(special: Mapping[str, Any], usual: Any) -> Callable[[str, Any], Any]:
    """dtype_of() of module_tree(): `special` by name, else `usual` for what is floating-point."""

    def dtype_of(name: str, tensor: "torch.Tensor") -> Any:
        if name in special:
            return special[name]
        return tensor.dtype if usual is None or not tensor.is_floating_point() else usual

    return dtype_of
