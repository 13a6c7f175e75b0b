"""Provider reports: events become acts, and acts become entries.

Invariant: a report that bears on permission is durable before its provider gets the answer. The ledger holds
suppressions for soft bounces, not single soft bounces.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from preferences.connectors.base import Parsed
from preferences.domain.acts import EventKind, ProviderEvent, bears_on_permission, provider_event
from preferences.domain.addresses import Fingerprints
from preferences.domain.errors import BadSignature
from preferences.domain.records import Address
from preferences.domain.suppressions import day_of, end_soft_bounces, suppress_for_soft_bounces
from preferences.domain.vocabulary import connector_origin
from preferences.ledger.group_commit import Writer
from preferences.services import Services
from preferences.store import soft_bounces, webhook_tokens
from preferences.store.transactions import Database


@dataclass(frozen=True, slots=True)
class Recorded:
    """Numbers of events by treatment."""

    recorded: int
    counted: int
    ignored: int


def record(services: Services, connector: str, parsed: Parsed) -> Recorded:
    """Record a verified report. Raises StoreBusy."""
    events = [event for event in parsed.events if bears_on_permission(event)]
    services.writer.record([provider_event(event, connector) for event in events])
    counted = count_soft_bounces(services, connector, parsed.events)
    return Recorded(len(events), counted, parsed.ignored + len(parsed.events) - len(events) - counted)


def bind_token(services: Services, connector: str, parsed: Parsed, *, body: bytes) -> None:
    """Bind a token to its first body and connector, since its signature covers no body. Raises BadSignature."""
    digest = hashlib.sha256(connector.encode() + b"\n" + body).hexdigest()
    now = datetime.now(UTC)
    if not services.database.save(webhook_tokens.bind, parsed.token_of, str(parsed.token), digest=digest, now=now):
        raise BadSignature("the token came with another body before")


def count_soft_bounces(services: Services, connector: str, events: Iterable[ProviderEvent]) -> int:
    """Count soft bounces and suppress addresses at the limit. Returns the count. Raises StoreBusy."""
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


def end_suppressions(database: Database, fingerprints: Fingerprints, now: datetime) -> bool:
    """End suppressions of addresses without recent soft bounces. Returns whether there may be more."""
    found = database.read(soft_bounces.ended, now)
    acts = [end_soft_bounces(bounced, seq, now=now) for bounced, seq in found]
    entries = Writer(database, fingerprints).record_many(acts)
    # Acts that were not recorded wait for the next run.
    return len(found) == soft_bounces.MAX_ENDED and any(entry.recorded_at >= now for entry in entries)
