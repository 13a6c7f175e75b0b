"""Days of soft bounces (`soft_bounce`), and suppressions to begin and end (`domain.suppressions`).

Invariant: only the fingerprint is stored, for a month.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final

from sqlalchemy import and_, delete, exists, select

from preferences.domain.addresses import Fingerprints
from preferences.domain.records import Address
from preferences.domain.suppressions import SOFT_BOUNCE_DAYS, SOFT_BOUNCE_PERIOD
from preferences.domain.vocabulary import Channel, SuppressionReason
from preferences.store.contacts import find_addresses
from preferences.store.dialect import any_of, insert_rows
from preferences.store.tables import address, soft_bounce, suppression
from preferences.store.transactions import Read, Save

MAX_ENDED: Final = 500
"""Suppressions ended per transaction."""

_DAYS: Final = select(soft_bounce.c.fingerprint, soft_bounce.c.day).where(
    any_of(soft_bounce.c.fingerprint, "fingerprints")
)
_HELD: Final = select(suppression.c.fingerprint, suppression.c.active, suppression.c.at).where(
    any_of(suppression.c.fingerprint, "fingerprints"), suppression.c.reason == SuppressionReason.SOFT_BOUNCES.value
)


def note(
    save: Save, days: Mapping[Address, Collection[str]], *, fingerprints: Fingerprints, now: datetime
) -> list[Address]:
    """Count by day, and return the addresses to suppress."""
    # May be of an older key: `ended` looks for no other.
    stored = {known: found.fingerprint for known, found in find_addresses(save, days, fingerprints).items()}
    rows = [
        {"fingerprint": stored.get(bounced) or fingerprints.of(bounced), "channel": bounced.channel.value, "day": day}
        for bounced, of_address in days.items()
        for day in of_address
    ]
    # Sorted, which prevents deadlocks.
    insert_rows(save, soft_bounce, sorted(rows, key=lambda row: tuple(row.values())), on_conflict="ignore")
    by_fingerprint = fingerprints.by_print(days)
    parameters = {"fingerprints": list(by_fingerprint)}
    began = dict.fromkeys(days, _earliest(now))
    held: set[Address] = set()
    for row in save.execute(_HELD, parameters):
        bounced = by_fingerprint[row.fingerprint]
        began[bounced] = max(began[bounced], row.at.date().isoformat())
        held |= {bounced} if row.active else set()
    counted: dict[Address, set[str]] = {}
    for fingerprint, day in save.execute(_DAYS, parameters):
        if day > began[by_fingerprint[fingerprint]]:
            counted.setdefault(by_fingerprint[fingerprint], set()).add(day)
    return [bounced for bounced, found in counted.items() if len(found) >= SOFT_BOUNCE_DAYS and bounced not in held]


def ended(read: Read, now: datetime) -> list[tuple[Address, int]]:
    """Suppressions for soft bounces that are over, with their first entry."""
    recent = exists().where(soft_bounce.c.fingerprint == suppression.c.fingerprint, soft_bounce.c.day > _earliest(now))
    whose = and_(address.c.fingerprint == suppression.c.fingerprint, address.c.channel == suppression.c.channel)
    over = (
        select(address.c.channel, address.c.value, suppression.c.seq)
        .join(address, whose)
        .where(
            suppression.c.reason == SuppressionReason.SOFT_BOUNCES.value,
            suppression.c.active,
            suppression.c.at <= now - SOFT_BOUNCE_PERIOD,
            ~recent,
        )
        .limit(MAX_ENDED)
    )
    return [(Address(Channel(row.channel), row.value), row.seq) for row in read.execute(over)]


def forget_old(save: Save, now: datetime) -> None:
    save.execute(delete(soft_bounce).where(soft_bounce.c.day <= _earliest(now)))


def _earliest(now: datetime) -> str:
    """The last day not counted."""
    return (now - SOFT_BOUNCE_PERIOD).date().isoformat()
