"""Loads that Ctrl-C can stop, and that show a bar when they are long."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import Any, Callable, TypeVar, Union

from ._library import PROGRESS

T = TypeVar("T")

_BAR_AFTER = 2.0  # seconds


class Watch:
    """What a load reports to. `callback` is for LoadOptions.progress."""

    def __init__(self, show: bool):
        self.stop = False
        self._show = show and _is_terminal(sys.stderr)
        self._bar = None
        self.callback = PROGRESS(self._report)

    def _report(self, done: int, total: int, seconds: float, _user) -> int:
        try:
            if self._show and self._bar is None and seconds >= _BAR_AFTER:
                self._bar = _make_bar(total)
                self._show = self._bar is not None
            if self._bar is not None:
                self._bar.n = done
                self._bar.refresh()
        except Exception:  # a bar that fails must not end a load
            self._show, self._bar = False, None
        return int(self.stop)

    def close(self) -> None:
        if self._bar is not None:
            with contextlib.suppress(Exception):
                self._bar.close()


def _is_terminal(stream: Any) -> bool:
    """False also for what programs put in the place of stderr: nothing, something closed, or an
    object that only writes."""
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def _make_bar(total: int):
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm(total=total, unit="B", unit_scale=True, unit_divisor=1024, desc="berth")


def interruptible(work: Callable[[Watch], T], show_progress: bool) -> T:
    """Runs work(watch) so that Ctrl-C stops it: KeyboardInterrupt is raised when the load has ended
    and its threads are gone. So is what another handler of a signal raises, such as an alarm's."""
    watch = Watch(show_progress)
    try:
        return run_watched(work, watch)
    finally:
        watch.close()


def run_watched(work: Callable[[Watch], T], watch: Watch) -> T:
    """The same with a watch of the caller's.

    Python looks at signals on its main thread, between its own instructions: never while that
    thread is in a call of the library. So where this is called on the main thread, the call is made
    on another one.
    """
    if threading.current_thread() is not threading.main_thread():
        return work(watch)
    return _on_a_thread(work, watch)


def _on_a_thread(work: Callable[[Watch], T], watch: Watch) -> T:
    done = threading.Event()
    result: list = []

    def run() -> None:
        try:
            result.append((work(watch), None))
        except BaseException as error:  # noqa: B902: raised again where it belongs
            result.append((None, error))
        finally:
            done.set()

    raised: Union[BaseException, None] = None  # by the handler of a signal
    thread = threading.Thread(target=run, name="berth-load")
    try:
        thread.start()
    except BaseException as error:
        if thread not in threading.enumerate() and not done.is_set():  # it has not begun
            if not isinstance(error, RuntimeError):
                raise
            return work(watch)  # no thread can be had, as when Python ends
        raised = error
        watch.stop = True
    while True:
        try:
            done.wait()  # first: a join() that is interrupted takes the thread for ended
            thread.join()
            break
        except BaseException as error:  # noqa: B902: raised again below
            raised = error
            watch.stop = True
    value, failure = result.pop()
    if raised is not None:
        raise raised from None
    if failure is not None:
        raise failure
    return value
