"""What a load of a model did: how memory was used meanwhile, and where the weights are afterwards."""

from __future__ import annotations

import bisect
import contextlib
import re
import threading
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Union

if TYPE_CHECKING:
    import torch

__all__ = ["LoadedReport", "PeakSampler", "place_of", "report_of"]


class LoadedReport(NamedTuple):
    """What a load did. Sizes are bytes. str() of it is one line."""

    planned_peak: int  # the private host memory that the load was to take, known before it began
    measured_peak: int  # the most private host memory above what was in use before
    private: int  # private host memory that is in use now, above what was before
    mapped: int  # weights that are mapped from their files, and not private
    after_load: dict  # weights by device: the number of a GPU, "cpu", "disk"

    def and_then(self, later: "LoadedReport") -> "LoadedReport":
        """This load and a later one into the same model, such as that of an adapter."""
        return LoadedReport(
            planned_peak=self.planned_peak + later.planned_peak,
            measured_peak=max(self.measured_peak, self.private + later.measured_peak),
            private=self.private + later.private,
            mapped=later.mapped,
            after_load=later.after_load,
        )

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
    model: Any,
    planned_peak: int,
    sampler: PeakSampler,
    device_map: Any,
    mappings: Union[list, None] = None,
) -> LoadedReport:
    """What a load did, as long as nothing is dispatched. `mappings` as for places_of()."""
    after_load, mapped = places_of(model, device_map, mappings)
    return LoadedReport(
        planned_peak=planned_peak,
        measured_peak=max(0, sampler.peak - sampler.before),
        private=max(0, sampler.after - sampler.before),
        mapped=mapped,
        after_load=after_load,
    )


def places_of(
    model: Any, device_map: Any, mappings: Union[list, None] = None
) -> tuple[dict, int]:
    """The bytes of weights by device, and those that are mapped from files. Tied tensors, and others
    that share their memory, count once, also before transformers has tied them. `mappings` are the
    addresses of mapped weights, [begin, end) each; default: those that the kernel knows, which it
    takes a millisecond to list."""
    after: dict = {}
    mapped = 0
    is_mapped = _is_in(sorted(_mapped_files() if mappings is None else mappings))
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    tensors = model.state_dict(keep_vars=True)
    seen = set()
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        # What is not there yet, or stays on the disk, is told apart by its name alone.
        if tensor.device.type == "meta" and tied.get(name) in tensors:
            tensor = tensors[tied[name]]
        no_address = tensor.device.type == "meta" or size == 0
        same = id(tensor) if no_address else (tensor.device, tensor.data_ptr(), size)
        if same in seen:
            continue
        seen.add(same)
        place = place_of(name, tensor, device_map)
        after[place] = after.get(place, 0) + size
        if place == "cpu" and tensor.device.type == "cpu" and is_mapped(tensor.data_ptr()):
            mapped += size
    return after, mapped


def place_of(
    name: str, tensor: Union["torch.Tensor", None], device_map: Any
) -> Union[int, str]:
    place: Any = "cpu" if tensor is None or tensor.device.type == "meta" else tensor.device
    if device_map:
        path = name
        while path not in device_map and path:
            path = path.rpartition(".")[0]
        place = device_map.get(path, place)
    if isinstance(place, int):
        return place
    kind, _, index = str(place).partition(":")
    return int(index or 0) if kind == "cuda" else kind


# Of /proc/self/maps: the addresses of what is mapped from a file to be written to, as weights are.
_OF_FILES = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) rw\S+ \S+ \S+ \d+ +/", re.MULTILINE)


def _mapped_files() -> list:
    with contextlib.suppress(OSError), open("/proc/self/maps", "rb") as maps:
        return [(int(begin, 16), int(end, 16)) for begin, end in _OF_FILES.findall(maps.read())]
    return []


def _is_in(ranges: list) -> Callable[[int], bool]:
    begins = [begin for begin, _ in ranges]

    def is_in(address: int) -> bool:
        i = bisect.bisect_right(begins, address) - 1
        return i >= 0 and address < ranges[i][1]

    return is_in
