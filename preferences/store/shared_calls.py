"""Work done together: calls that arrive at the same time share one round trip to the database.

Owns the queue in front of a piece of set-based work, one per process. Invariants: a call that comes alone does not wait
for company; nobody is answered before the work that holds their call is done; one call's fault is its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Generic, TypeVar

from preferences.domain.errors import StoreBusy

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")

MOST_TOGETHER: Final = 200
"""Calls in one round: a bound on how long the last of them, and a lock, are held."""


class _Call(Generic[Ask, Answer]):
    """One caller's place in the queue. `turn` opens when there is an answer, or when it is this caller's to lead."""

    __slots__ = ("answer", "ask", "done", "error", "turn")

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.answer: Answer | None = None
        self.error: Exception | None = None
        self.done = False
        self.turn = threading.Lock()
        self.turn.acquire()


Take = Callable[[], Sequence[Ask]]
"""Given to the work, which calls it when it can begin, at best with its lock in hand: whoever waits by then is in this
round, and need not wait for a second lock. Called again, for a second try, it gives the same ones, and those who came
since."""


class Shared(Generic[Ask, Answer]):
    """Answers calls by `work`, which takes many at once and answers each in order.

    The first to come leads: it works for all who wait, hands the lead to the first who came meanwhile, and wakes the
    others. There is no thread of its own to start, to stop, or to miss after a fork.
    """

    def __init__(self, work: Callable[[Take[Ask]], Sequence[Answer]]) -> None:
        self._work = work
        self._guard = threading.Lock()
        self._waiting: list[_Call[Ask, Answer]] = []
        self._led = False

    def __call__(self, ask: Ask) -> Answer:
        """The answer to one call. Raises what `work` raises for it."""
        call: _Call[Ask, Answer] = _Call(ask)
        with self._guard:
            self._waiting.append(call)
            leads, self._led = not self._led, True
        if not leads:
            call.turn.acquire()
        if not call.done:
            self._lead()
        if call.error is not None:
            raise call.error
        return call.answer  # type: ignore[return-value]

    def _lead(self) -> None:
        round_: list[_Call[Ask, Answer]] = []
        try:
            self._answer(round_)
        except BaseException:
            # The process is being stopped under us: whether it was done is unknown, so nobody is told that it was.
            for call in round_ or self._join(round_):
                call.error = call.error or StoreBusy("the process is stopping")
            raise
        finally:
            self._hand_over()
            for call in round_:
                call.done = True
                call.turn.release()

    def _join(self, round_: list[_Call[Ask, Answer]]) -> list[_Call[Ask, Answer]]:
        """The round with all who wait now, as far as there is room. The first of them is its leader."""
        with self._guard:
            room = MOST_TOGETHER - len(round_)
            round_ += self._waiting[:room]
            del self._waiting[:room]
        return round_

    def _hand_over(self) -> None:
        with self._guard:
            if self._waiting:
                self._waiting[0].turn.release()
            else:
                self._led = False

    def _answer(self, round_: list[_Call[Ask, Answer]]) -> None:
        try:
            answers = self._work(lambda: [call.ask for call in self._join(round_)])
        except StoreBusy as busy:
            for call in round_ or self._join(round_):
                call.error = StoreBusy(str(busy))
        except Exception as error:  # noqa: BLE001 - handed on to the caller it belongs to
            self._answer_each(round_ or self._join(round_), error)
        else:
            for call, answer in zip(round_ or self._join(round_), answers, strict=True):
                call.answer = answer

    def _answer_each(self, calls: Sequence[_Call[Ask, Answer]], error: Exception) -> None:
        """Each alone, so that one caller's fault does not take the others' opt-outs with it."""
        if len(calls) == 1:
            calls[0].error = error
            return
        for call in calls:
            try:
                (call.answer,) = self._work(partial(list, [call.ask]))
            except Exception as own:  # noqa: BLE001 - handed on to the caller it belongs to
                call.error = own
