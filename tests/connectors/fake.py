"""A provider in memory and the connector to it: for what is sync's own, and needs no network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final

from preferences.config import ConnectorSettings
from preferences.connectors.base import Connector, Listed, Parsed, Push, Refusal
from preferences.domain.acts import EventKind
from preferences.domain.errors import BadPayload, BadSignature, Misconfigured, Rejected, TryLater
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel, Status, SuppressionReason

KIND_OF_REASON: Final = {
    SuppressionReason.HARD_BOUNCE: EventKind.HARD_BOUNCE,
    SuppressionReason.COMPLAINT: EventKind.COMPLAINT,
    SuppressionReason.INVALID: EventKind.INVALID,
}
BUSY_SECONDS: Final = 120.0

RowKey = tuple[Address, str, EventKind]


class Fault(Enum):
    """How one call to the provider goes wrong."""

    DOWN = "takes nothing and answers 503"
    HALF = "takes half of it, then breaks off"
    LOST_ANSWER = "takes all of it, and the answer is lost"
    LOSSY = "answers that it has taken it, and has not"
    BUSY = "takes nothing and answers 429 with Retry-After"
    WRONG_KEY = "takes nothing and answers 401"
    KILLED = "takes half of it, then our own process is killed"


class Killed(BaseException):
    """`kill -9`, as far as one process can play it: nothing that would run afterwards runs."""


class FakeProvider:
    """Keeps one row for each address, list and kind, and takes pushes as docs/connectors.md asks.

    `faults` hit the next pushes, one each; `list_faults` the next listings. `refused` are addresses that it never
    takes: named one by one, or, with `refuses_whole`, by refusing every batch that one of them is in.
    """

    def __init__(self) -> None:
        self.rows: dict[RowKey, Listed] = {}
        self.batches: list[list[Push]] = []
        self.faults: deque[Fault] = deque()
        self.list_faults: deque[Fault] = deque()
        self.refused: set[Address] = set()
        self.refuses_whole = False
        self.compares = True
        """Whether it looks at `since` before it lifts. Most vendors' calls say no time, and lift whatever stands."""
        self.lifted: list[tuple[Listed, Push]] = []
        self.on_push: Callable[[], None] = lambda: None

    @property
    def told(self) -> list[Push]:
        """Everything that pushes said, one after the other, whether it was taken or not."""
        return [push for batch in self.batches for push in batch]

    @property
    def said(self) -> list[tuple[str, str, str]]:
        """The same in short: address, list, status."""
        return [(push.address.value, push.list_ref, push.status.value) for push in self.told]

    @property
    def returns(self) -> list[Push]:
        """Those of them that lift a no."""
        return [push for push in self.told if push.status is not Status.UNSUBSCRIBED]

    @property
    def holds(self) -> set[tuple[str, str]]:
        """Whom it sends nothing, by list: address and list of each row."""
        return {(address.value, list_ref) for address, list_ref, _ in self.rows}

    def add(self, row: Listed) -> None:
        """Something happened at the provider itself."""
        self.rows[row.address, row.list_ref, row.kind] = row

    def push(self, batch: Sequence[Push]) -> list[Refusal]:
        self.batches.append(list(batch))
        self.on_push()
        fault = self.faults.popleft() if self.faults else None
        _fail_before(fault)
        refused = [push for push in batch if push.address in self.refused]
        if refused and self.refuses_whole:
            raise Rejected("answer 422")
        for push in batch[: len(batch) // 2] if fault in {Fault.HALF, Fault.KILLED} else batch:
            if fault is not Fault.LOSSY and push not in refused:
                self._take(push)
        if fault is Fault.KILLED:
            raise Killed
        if fault in {Fault.HALF, Fault.LOST_ANSWER}:
            raise TryLater("ReadTimeout")
        return [Refusal(push.contact_id, "not taken here") for push in refused]

    def listing(self) -> Iterator[Listed]:
        fault = self.list_faults.popleft() if self.list_faults else None
        _fail_before(fault)
        rows = list(self.rows.values())
        if fault is Fault.HALF:
            yield from rows[: len(rows) // 2]
            raise TryLater("ReadTimeout")
        yield from rows

    def _take(self, push: Push) -> None:
        kind = KIND_OF_REASON.get(push.reason, EventKind.UNSUBSCRIBE) if push.reason else EventKind.UNSUBSCRIBE
        key = (push.address, push.list_ref, kind)
        held = self.rows.get(key)
        is_newer = held is None or held.occurred_at is None or held.occurred_at < push.since
        if push.status is Status.UNSUBSCRIBED and is_newer:
            self.rows[key] = Listed(address=push.address, list_ref=push.list_ref, kind=kind, occurred_at=push.since)
        elif push.is_lift and held is not None and (is_newer or not self.compares):
            self.lifted.append((self.rows.pop(key), push))


def _fail_before(fault: Fault | None) -> None:
    if fault is Fault.DOWN:
        raise TryLater("answer 503")
    if fault is Fault.BUSY:
        raise TryLater("answer 429", after=BUSY_SECONDS)
    if fault is Fault.WRONG_KEY:
        raise Misconfigured("answer 401: check address, key and mapping")


class FakeConnector(Connector):
    """The connector to a `FakeProvider`. It takes no webhooks: those come through the real door, or as acts."""

    channels = frozenset(Channel)

    def __init__(
        self, provider: FakeProvider, topics: Mapping[str, str], *, name: str = "mailer", **changes: Any
    ) -> None:
        attributes = {key: changes.pop(key) for key in ("batch_size", "can_lift") if key in changes}
        super().__init__(
            ConnectorSettings(name=name, kind="fake", base_url="https://mailer.example", topics=topics, **changes)
        )
        self.provider = provider
        self.batch_size = attributes.get("batch_size", 500)
        self.can_lift = attributes.get("can_lift", True)

    def verify(self, headers: Mapping[str, str], body: bytes, *, url: str = "") -> None:
        raise BadSignature("takes no webhooks")

    def parse(self, headers: Mapping[str, str], body: bytes) -> Parsed:
        raise BadPayload("takes no webhooks")

    def push(self, pushes: Sequence[Push]) -> Sequence[Refusal]:
        return self.provider.push(pushes)

    def list_suppressed(self) -> Iterator[Listed]:
        return self.provider.listing()
