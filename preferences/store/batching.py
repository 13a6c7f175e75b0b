"""Batching: concurrent calls of the same set-based work share one run of it.

The first caller runs the work for every waiting call; later calls form the next batch. Invariants: a single call does
not wait; a call returns after its work; an error is raised to the call that caused it alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Generic, TypeVar

from preferences.domain.errors import StoreBusy

Item = TypeVar("Item")
Result = TypeVar("Result")

LARGEST_BATCH: Final = 200
"""Calls; limits how long a batch holds a lock."""

Take = Callable[[], Sequence[Item]]
"""Returns the items of a batch.

Called by `work` under its lock, to include calls that waited for it. A second attempt gets the same items and any new
ones.
"""


class _Call(Generic[Item, Result]):
    """`turn` is released when there is a result, or when its thread must run the next batch."""

    __slots__ = ("done", "error", "item", "result", "turn")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.result: Result | None = None
        self.error: Exception | None = None
        self.done = False
        self.turn = threading.Lock()
        self.turn.acquire()


class Batcher(Generic[Item, Result]):
    """Runs `work`, which takes items and returns a result for each, in order.

    Batches run in the callers' threads: none to start, stop or lose in a fork.
    """

    def __init__(self, work: Callable[[Take[Item]], Sequence[Result]]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._waiting: list[_Call[Item, Result]] = []
        self._running = False

    def __call__(self, item: Item) -> Result:
        """Raises what `work` raises for the item."""
        call: _Call[Item, Result] = _Call(item)
        with self._lock:
            self._waiting.append(call)
            runs_batch, self._running = not self._running, True
        if not runs_batch:
            call.turn.acquire()
        if not call.done:
            self._run_batch()
        if call.error is not None:
            raise call.error
        return call.result  # type: ignore[return-value]

    def _run_batch(self) -> None:
        batch: list[_Call[Item, Result]] = []
        try:
            self._answer(batch)
        except BaseException:
            # The process is stopping and the commit may have failed: report no success.
            for call in batch or self._fill(batch):
                call.error = call.error or StoreBusy("the process is stopping")
            raise
        finally:
            self._start_next()
            for call in batch:
                call.done = True
                call.turn.release()

    def _fill(self, batch: list[_Call[Item, Result]]) -> list[_Call[Item, Result]]:
        """Add waiting calls. The first one's thread runs the batch."""
        with self._lock:
            room = LARGEST_BATCH - len(batch)
            batch += self._waiting[:room]
            del self._waiting[:room]
        return batch

    def _start_next(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting[0].turn.release()
            else:
                self._running = False

    def _answer(self, batch: list[_Call[Item, Result]]) -> None:
        try:
            results = self._work(lambda: [call.item for call in self._fill(batch)])
        except StoreBusy as busy:
            for call in batch or self._fill(batch):
                call.error = StoreBusy(str(busy))
        except Exception as error:  # noqa: BLE001 - raised by the call that it belongs to
            self._answer_each(batch or self._fill(batch), error)
        else:
            for call, result in zip(batch or self._fill(batch), results, strict=True):
                call.result = result

    def _answer_each(self, calls: Sequence[_Call[Item, Result]], error: Exception) -> None:
        """Run each call of a failed batch alone, so that one error loses no other opt-out."""
        if len(calls) == 1:
            calls[0].error = error
            return
        for call in calls:
            try:
                (call.result,) = self._work(partial(list, [call.item]))
            except Exception as own:  # noqa: BLE001 - raised by the call that it belongs to
                call.error = own
