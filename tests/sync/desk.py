"""A desk at which recipients, providers and files act, and the worker's passes are run by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select

from preferences.connectors.base import Listed
from preferences.domain import acts
from preferences.domain.acts import (
    EventKind,
    ProviderEvent,
    provider_event,
)
from preferences.domain.records import Act, Address, Entry
from preferences.domain.vocabulary import (
    BLANKET,
    Actor,
    Channel,
    Origin,
    Status,
    SuppressionReason,
    Verb,
)
from preferences.ledger import record as ledger
from preferences.services import Services
from preferences.store import contact_state, cursors, feed
from preferences.store.cursors import Cursor
from preferences.store.tables import connector_rejection
from preferences.sync.push import Outcome, run_once
from preferences.sync.reconcile import Drift, compare, reconcile
from tests.connectors.fake import FakeConnector, FakeProvider
from tests.support import add_contact, email

NOW: Final = datetime(2026, 5, 31, 14, tzinfo=UTC)
NEWS, OFFERS, EVERYTHING = "list-17", "list-18", "global"
MAPPED: Final = {"product-news": NEWS, "offers": OFFERS, BLANKET: EVERYTHING}
WITHOUT_BLANKET: Final = {"product-news": NEWS, "offers": OFFERS}
JANE, ROSA, BEN = email("jane@example.com"), email("rosa@example.com"), email("ben@example.com")
MAILER: Final = "mailer"

STOPPED, SENT = Status.UNSUBSCRIBED.value, Status.SUBSCRIBED.value


class Desk:
    """What happens here, in short, with a provider named `mailer` on the other side."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.database = services.database
        self.provider = FakeProvider()
        self.connector = self.connect(self.provider)

    def connect(self, provider: FakeProvider, topics: dict[str, str] | None = None, **changes: Any) -> FakeConnector:
        """A connector at the ledger's head."""
        connector = FakeConnector(provider, MAPPED if topics is None else topics, **changes)
        self.database.save(cursors.start, connector.name)
        return connector

    def record(self, *many: Act) -> list[Entry]:
        return self.database.write(ledger.record, many, fingerprints=self.services.fingerprints, now=datetime.now(UTC))

    def stop(self, address: Address, topic: str = BLANKET, *, brand: str = "default") -> Entry:
        """The person's own no."""
        act = acts.unsubscribe(
            add_contact(self.services, address),
            address.channel,
            brand=brand,
            topic=topic,
            origin=Origin.PAGE,
            now=datetime.now(UTC),
            evidence={},
        )
        return self.record(act)[0]

    def undo(self, entry: Entry) -> Entry:
        """The person's own return."""
        assert entry.contact_id is not None
        return self.database.write(
            ledger.undo, entry.seq, contact_id=entry.contact_id, now=datetime.now(UTC), details={}
        )

    def choose(self, verb: Verb, who: UUID | Address, topic: str = "product-news", **more: Any) -> Entry:
        """The person's own choice, from a door that is trusted for it."""
        act = Act(
            verb=verb,
            channel=Channel.EMAIL,
            who=who,
            brand="default",
            topic=topic,
            origin=Origin.ACCOUNT,
            actor=Actor.RECIPIENT,
            occurred_at=datetime.now(UTC),
            trusted=True,
            **more,
        )
        return self.record(act)[0]

    def event(
        self, kind: EventKind, address: Address, topic: str = BLANKET, *, by: str = MAILER, at: datetime | None = None
    ) -> Entry:
        """A provider's report."""
        event = ProviderEvent(kind=kind, address=address, event_id=None, occurred_at=at, brand="default", topic=topic)
        return self.record(provider_event(event, by))[0]

    def pass_(self, connector: FakeConnector | None = None, owner: str = "worker-1") -> Outcome:
        return run_once(self.database, connector or self.connector, owner=owner, now=datetime.now(UTC))

    def passes(self, connector: FakeConnector | None = None) -> None:
        """Pass after pass until there is nothing to do."""
        while self.pass_(connector) is Outcome.DONE:
            pass

    def compare(self) -> Drift:
        return compare(self.database, self.connector, lambda _rows: None)

    def reconcile(self, connector: FakeConnector | None = None) -> Drift:
        return reconcile(
            self.database,
            connector or self.connector,
            owner="reconcile",
            fingerprints=self.services.fingerprints,
            now=datetime.now(UTC),
            progress=lambda _rows: None,
        )

    def cursor(self, name: str = MAILER) -> Cursor:
        cursor = self.database.read(cursors.find_cursor, name)
        assert cursor is not None
        return cursor

    @property
    def head(self) -> int:
        return self.database.read(feed.head_seq)

    @property
    def parked(self) -> int:
        mine = select(connector_rejection).where(connector_rejection.c.connector == MAILER)
        return len(self.database.read(lambda read: read.execute(mine).all()))

    def entries(self) -> list[Entry]:
        return self.database.read(feed.entries_after, 0, 1_000)

    def status(self, address: Address, topic: str = BLANKET) -> Status | None:
        """What counts for this topic alone."""
        (one,) = self.database.read(contact_state.address_states, [add_contact(self.services, address)])
        held = one.preferences.get(("default", topic))
        return None if held is None else held.status

    def reasons(self, address: Address) -> set[SuppressionReason]:
        (one,) = self.database.read(contact_state.address_states, [add_contact(self.services, address)])
        return {held.reason for held in one.suppressions}


def a_row(
    address: Address, list_ref: str, kind: EventKind = EventKind.UNSUBSCRIBE, at: datetime | None = NOW
) -> Listed:
    return Listed(address=address, list_ref=list_ref, kind=kind, occurred_at=at)


def stop_of(address: Address, topic: str = BLANKET) -> Act:
    return acts.unsubscribe(
        address,
        address.channel,
        brand="default",
        topic=topic,
        origin=Origin.PAGE,
        now=datetime.now(UTC),
        evidence={},
    )


def in_blocks(people: Sequence[Address], size: int) -> list[Sequence[Address]]:
    return [people[start : start + size] for start in range(0, len(people), size)]
