"""`import berth` is quick because it imports nothing: no torch, no library."""

import subprocess
import sys

import berth

HEAVY = ("torch", "numpy", "transformers", "accelerate", "safetensors", "ctypes", "asyncio")


def test_importing_opens_nothing():
    code = f"""
import os, sys
import berth
print([name for name in {HEAVY!r} if name in sys.modules])
print("libberth" in open("/proc/self/maps").read())
"""
    path = berth.__path__[0].rsplit("/", 1)[0]
    out = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert out.stdout.split("\n")[:2] == ["[]", "False"], out.stderr


def test_every_public_name_is_there():
    for name in berth.__all__:
        assert getattr(berth, name) is not None
        assert name in dir(berth)
    assert berth.__version__.count(".") == 2


def test_exceptions_are_also_those_of_python():
    assert issubclass(berth.DoesNotFit, MemoryError)
    assert issubclass(berth.NoSuchFile, FileNotFoundError)
    assert issubclass(berth.UsageError, ValueError)
    for kind in (berth.BrokenFile, berth.DoesNotFit, berth.NoSuchFile, berth.UsageError):
        assert issubclass(kind, berth.Error)
        assert str(kind("what it says")) == "what it says"


def test_the_command_becomes_the_program(tmp_path):
    """With its arguments, and without the signals that Python ignores."""
    program = tmp_path / "bin" / "berth"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@"; grep SigIgn /proc/self/status; exit 7\n')
    program.chmod(0o755)
    code = f"""
import berth._command as command
command.NATIVE = {str(tmp_path)!r}
command.main()
"""
    path = berth.__path__[0].rsplit("/", 1)[0]
    done = subprocess.run([sys.executable, "-c", code, "plan", "a b"], env={"PYTHONPATH": path},
                          capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout.split("\n")[:2] == ["plan a b", "SigIgn:\t" + "0" * 16]
    program.unlink()
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path},
                          capture_output=True, text=True)
    assert done.returncode == 1 and "this is no installed package" in done.stderr
