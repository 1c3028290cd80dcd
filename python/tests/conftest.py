"""Tests run against the sources in python/ and the library that BERTH_LIBRARY names, or the one in
build/; against an installed package where BERTH_INSTALLED is set."""

import gc
import os
import pathlib
import signal
import sys

import pytest
import torch

torch.set_num_threads(1)  # its threads would count as left behind

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent

if not os.environ.get("BERTH_INSTALLED"):
    sys.path.insert(0, str(ROOT / "python"))
    os.environ.setdefault("BERTH_LIBRARY", str(ROOT / "build" / "libberth_c.so"))
os.environ["HF_HUB_OFFLINE"] = "1"


def anonymous_bytes() -> int:
    """Private memory of this process."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


@pytest.fixture
def held():
    """Checks that a test leaves as many threads, descriptors and mapped weights as it found."""

    def count():
        maps = pathlib.Path("/proc/self/maps").read_text()
        return (
            len(os.listdir("/proc/self/task")),
            len(os.listdir("/proc/self/fd")),
            maps.count(".safetensors"),
        )

    gc.collect()  # what earlier tests have left
    before = count()
    yield
    gc.collect()
    for _ in range(1000):  # the kernel takes a joined thread off the list a moment after the join
        if count() == before:
            break
        os.sched_yield()
    assert count() == before


@pytest.fixture
def ctrl_c_while_reading(monkeypatch):
    """A Ctrl-C comes with the first report of a load's progress. Gives a list that has an entry once
    it has come."""
    from berth import _progress

    pressed = []
    report = _progress.Watch._report

    def press(watch, *arguments):
        if not pressed:
            pressed.append(True)
            os.kill(os.getpid(), signal.SIGINT)
        return report(watch, *arguments)

    monkeypatch.setattr(_progress.Watch, "_report", press)
    return pressed
