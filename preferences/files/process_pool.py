"""Process pools for long work: forked, so that each process starts with a copy of this one's memory.

Owns their start and their end. Invariant: no process of a pool outlives its parent, however the parent ends.
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
    """A process of the pool was killed from outside. The whole work must be started again."""


def can_fork() -> bool:
    """Whether the system can start a process with a copy of this one's memory."""
    return "fork" in multiprocessing.get_all_start_methods()


def cores() -> int:
    """How many processes can work at the same time."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Disable the cyclic garbage collector: among millions of new objects without cycles it takes longer than making
    them, and it copies memory that forked processes share."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def helpers(count: int, begin: Callable[..., None], *given: Any) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes that have called `begin` with what is given, which is not pickled.

    Raises HelperLost when one of them is killed, such as for want of memory.
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
