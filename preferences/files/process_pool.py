"""Pools of forked processes, which share this one's memory.

Invariant: no process of a pool outlives its parent, however the parent ends.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from preferences.domain.errors import PreferencesError


class HelperLost(PreferencesError):
    """A process of the pool was killed; the work must be restarted."""


def can_fork() -> bool:
    return "fork" in multiprocessing.get_all_start_methods()


def cores() -> int:
    """The number of usable CPUs."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Disable the cyclic garbage collector, which is slow among millions of objects without cycles and copies memory
    that forked processes share.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def helpers(count: int, begin: Callable[..., None], *given: Any) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes have called `begin(*given)`; `given` is not pickled.

    Raises HelperLost if one is killed, for example for lack of memory.
    """
    context = multiprocessing.get_context("fork")
    try:
        with ProcessPoolExecutor(count, context, initializer=_begin, initargs=(begin, *given)) as pool:
            yield pool
    except BrokenProcessPool:
        raise HelperLost("a process was stopped from outside, perhaps for want of memory; start it again") from None


def _begin(begin: Callable[..., None], *given: Any) -> None:
    gc.disable()  # as in `nothing_collected`
    threading.Thread(target=_end_with_parent, daemon=True).start()
    begin(*given)


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
