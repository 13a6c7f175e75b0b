"""Soft bounces: when an address is suppressed for a while, and when that ends.

Owns the way from reports to the ledger and back. Invariant: the ledger learns of the suppression and of its end, and of
no single soft bounce.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from preferences.domain.acts import EventKind, ProviderEvent
from preferences.domain.addresses import Fingerprints
from preferences.domain.records import Address
from preferences.domain.suppressions import day_of, end_soft_bounces, suppress_for_soft_bounces
from preferences.domain.vocabulary import connector_origin
from preferences.ledger.group_commit import Writer
from preferences.services import Services
from preferences.store import soft_bounces
from preferences.store.transactions import Database

EVERY: Final = timedelta(hours=1)


def count(services: Services, connector: str, events: Iterable[ProviderEvent]) -> int:
    """Count the soft bounces among these reports, and suppress the addresses that have had enough. Returns how many
    there were. Raises StoreBusy."""
    now = datetime.now(UTC)
    found = [event for event in events if event.kind is EventKind.SOFT_BOUNCE]
    days: dict[Address, set[str]] = {}
    for event in found:
        day = day_of(event.occurred_at, now)
        if day is not None:
            days.setdefault(event.address, set()).add(day)
    if days:
        reached = services.database.save(soft_bounces.note, days, fingerprints=services.fingerprints, now=now)
        origin = connector_origin(connector)
        services.writer.record([suppress_for_soft_bounces(bounced, origin=origin, now=now) for bounced in reached])
    return len(found)


class Recovery:
    """Ends the suppressions to whose addresses nothing has come back for a while, once an hour."""

    def __init__(self, database: Database, fingerprints: Fingerprints) -> None:
        self._database = database
        self._writer = Writer(database, fingerprints)
        self._due_at = datetime.min.replace(tzinfo=UTC)

    def __call__(self) -> bool:
        """End what is over, if it is time to look. Returns whether there may be more."""
        now = datetime.now(UTC)
        if now < self._due_at:
            return False
        found = self._database.read(soft_bounces.ended, now)
        acts = [end_soft_bounces(bounced, seq, now=now) for bounced, seq in found]
        entries = self._writer.record_many(acts)
        # What did not end now is not tried again at once.
        is_more = len(found) == soft_bounces.MAX_ENDED and any(entry.recorded_at >= now for entry in entries)
        if not is_more:
            self._due_at = now + EVERY
        return is_more
