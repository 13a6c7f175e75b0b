"""Processes that help with one long piece of work, each with a copy of this one's memory.

Owns starting them and their end, and what such work does without. Invariant: no helper outlives the process that it
helps, however that one ends.
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
    """A helper was stopped from outside. Begin the whole work again."""


def can_fork() -> bool:
    """Whether the system can start a process with a copy of this one's memory."""
    return "fork" in multiprocessing.get_all_start_methods()


def cores() -> int:
    """How many processes can work at the same time."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Without the search for objects that refer to themselves: where millions are made that do not, it takes longer
    than making them, and it copies what processes share."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def helpers(count: int, begin: Callable[..., None], *given: Any) -> Iterator[ProcessPoolExecutor]:
    """Processes that have called `begin` with what is given; their memory is a copy, so nothing is sent.

    Raises HelperLost when one of them is stopped, such as for want of memory.
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
