"""Vendors that keep state and fail: real HTTP servers on this machine, each answering as its vendor documents.

A vendor's fake is `fake_<kind>.py` beside this, with `class Fake(FakeVendor)`: it says what a request would change and
what is answered (`handle`), and what stands where (`holds`). The rest is here: what of it happens, and what the caller
gets to know, when a call goes wrong. `test_fault_runs.py` runs all that there are.
"""

from __future__ import annotations

import json
import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Final

from tests.connectors.contract import Answer, Asked, Provider

SLOW_SECONDS: Final = 1.0
"""How late a slow answer is: later than anybody waits in these tests."""


class Fault(Enum):
    """How one call goes wrong. What it would have changed happens as said here; reading changes nothing anyway."""

    DOWN = "503, and nothing has happened"
    BUSY = "429 with Retry-After, and nothing has happened"
    HALF = "500, and half of it has happened"
    LOST = "the connection is cut in the middle of the answer, and all of it has happened"
    SLOW = "the answer comes too late, and all of it has happened"
    NO_JSON = "200 with a page for people, and nothing has happened"
    LATER = "all is well, and it happens some time afterwards, as in an asynchronous job"


@dataclass(frozen=True, slots=True)
class Change:
    """One address put on a vendor's list, or with `stands=False` taken off. `word` is the vendor's own reason."""

    address: str
    list_ref: str
    word: str = "unsubscribe"
    stands: bool = True


class FakeVendor(Provider):
    """One vendor. `rows` is what it holds: `{(address, list, word): since}`, in its own names of lists.

    `faults` hit the next calls, one each; None is a call that goes well. `refused` are addresses that it never takes.
    """

    kind: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[tuple[str, str, str], float] = {}
        self.faults: list[Fault | None] = []
        self.refused: set[str] = set()
        self.changes: list[Change] = []
        self._later: list[Change] = []
        self._lock = threading.Lock()
        self.at: Callable[[], float] = lambda: 1_780_236_000.0

    # What a vendor's fake says.

    @abstractmethod
    def handle(self, asked: Asked) -> tuple[Sequence[Change], Answer]:
        """What this request would change, and what is answered if all goes well."""

    @abstractmethod
    def holds(self, address: str, list_ref: str) -> bool:
        """Whether the vendor has this address on this list, for whichever reason; its own lists of bounces and the like
        stand for the list of everything."""

    def breaks(self) -> None:
        """Something of this vendor's own that somebody else could break, such as a list that is deleted."""

    def mends(self) -> None:
        """And mend."""

    # What all do.

    def happens(self, change: Change) -> None:
        """Something happened at the vendor itself, or what a request asked for."""
        key = (change.address, change.list_ref, change.word)
        if change.stands:
            self.rows.setdefault(key, self.at())
        else:
            self.rows.pop(key, None)

    def settle(self) -> None:
        """All that was put off has happened."""
        with self._lock:
            for change in self._later:
                self.happens(change)
            self._later.clear()

    def answer(self, asked: Asked) -> Answer:
        with self._lock:
            self.asked.append(asked)
            fault = self.faults.pop(0) if self.faults else None
            if fault is Fault.DOWN:
                return Answer(503)
            if fault is Fault.BUSY:
                return Answer(429, b"{}", {"Retry-After": "2"})
            if fault is Fault.NO_JSON:
                return Answer(200, b"<html>back soon</html>")
            changes, answer = self.handle(asked)
            self.changes += changes
            if fault is Fault.LATER:
                self._later += changes
                return answer
            for change in changes[: len(changes) // 2] if fault is Fault.HALF else changes:
                self.happens(change)
        return self._as_it_arrives(answer, fault)

    def _as_it_arrives(self, answer: Answer, fault: Fault | None) -> Answer:
        if fault is Fault.HALF:
            return Answer(500)
        if fault is Fault.LOST:
            return Answer(answer.status, answer.body or b"{", answer.headers, cut=True)
        if fault is Fault.SLOW:
            self._closing.wait(SLOW_SECONDS)
        return answer

    def standing(self, list_ref: str, word: str | None = None) -> list[tuple[str, str, float]]:
        """Address, word and since of each row of a list, in order."""
        return sorted(
            (address, its_word, since)
            for (address, its_list, its_word), since in self.rows.items()
            if its_list == list_ref and word in {None, its_word}
        )


def json_answer(document: Any, status: int = 200) -> Answer:
    """An answer of JSON."""
    return Answer(status, json.dumps(document).encode(), {"Content-Type": "application/json"})
