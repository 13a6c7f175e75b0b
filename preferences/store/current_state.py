"""The current state of each address, as importable rows.

Invariant: a restriction that a row cannot express is written as the nearest opt-out, or counted as left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, and_, exists, func, or_, select

from preferences.domain.vocabulary import BLANKET, MessageClass, Status, SuppressionReason
from preferences.store.dialect import stream
from preferences.store.tables import (
    address,
    brand,
    contact_flag,
    evidence,
    ledger_entry,
    pace,
    preference,
    suppression,
    topic,
)
from preferences.store.transactions import Read, Snapshot

_STATUSES: Final = {
    SuppressionReason.HARD_BOUNCE: "hard_bounce",
    SuppressionReason.COMPLAINT: "complaint",
    SuppressionReason.INVALID: "invalid",
    SuppressionReason.LEGAL: "legal",
    SuppressionReason.SOFT_BOUNCES: "soft_bounces",
    # Imports have no such status; decisions treat both alike.
    SuppressionReason.CHILD: "legal",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRow:
    """An address and one fact, or no status."""

    address: str
    channel: str
    topic: str = ""
    status: str = ""
    occurred_at: str = ""
    source: str = ""
    reason: str = ""
    evidence: str = ""
    brand: str = ""
    flags: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    choices: int
    """For purposes, and topics other than marketing."""
    paces: int
    fingerprints: int
    """Suppressed but not stored, as after an erasure."""


_EXPORTED: Final = and_(
    preference.c.status != Status.NEVER_ASKED.value,
    or_(
        and_(preference.c.topic == BLANKET, preference.c.status == Status.UNSUBSCRIBED.value),
        preference.c.topic.in_(select(topic.c.slug).where(topic.c.message_class == MessageClass.MARKETING.value)),
    ),
)
_ITS_PREFERENCES: Final = and_(
    preference.c.contact_id == address.c.contact_id, preference.c.channel == address.c.channel
)
_ITS_SUPPRESSIONS: Final = and_(
    suppression.c.fingerprint == address.c.fingerprint, suppression.c.channel == address.c.channel, suppression.c.active
)
_FLAGS: Final = (
    select(func.aggregate_strings(contact_flag.c.flag, " "))
    .where(contact_flag.c.contact_id == address.c.contact_id)
    .correlate(address)
    .scalar_subquery()
    .label("flags")
)
_WHERE_FROM: Final = (ledger_entry.c.origin, evidence.c.details)


def read_state_rows(snapshot: Snapshot) -> Iterator[StateRow]:
    """In constant memory."""
    for row in stream(snapshot, _preferences()):
        values = _row(row, status=row.status, topic_=row.topic)
        yield StateRow(**values, brand=row.brand)
    brands = list(snapshot.execute(select(brand.c.slug).order_by(brand.c.slug)).scalars())
    for row in stream(snapshot, _suppressions()):
        yield from _suppressed(row, brands)
    for row in stream(snapshot, _without_facts()):
        yield StateRow(address=row.value, channel=row.channel, flags=_flags(row))


def count_state_rows(read: Read) -> int:
    """An estimate."""
    rows = (_preferences(), _suppressions(), _without_facts())
    return sum(read.execute(select(func.count()).select_from(query.subquery())).scalar_one() for query in rows)


def count_left_out(read: Read) -> LeftOut:
    unnamed = ~exists().where(address.c.fingerprint == suppression.c.fingerprint)
    left_out = and_(preference.c.status != Status.NEVER_ASKED.value, ~_EXPORTED)
    limited = or_(pace.c.until.is_not(None), pace.c.per_week.is_not(None))
    counted = (
        select(func.count()).select_from(preference).where(left_out),
        select(func.count()).select_from(pace).where(limited),
        select(func.count(suppression.c.fingerprint.distinct())).where(suppression.c.active, unnamed),
    )
    choices, paces, fingerprints = (int(read.execute(query).scalar_one()) for query in counted)
    return LeftOut(choices, paces, fingerprints)


def _suppressed(row: Row[Any], brands: list[str]) -> Iterator[StateRow]:
    status = _STATUSES.get(SuppressionReason(row.reason))
    if status is not None:
        yield StateRow(**_row(row, status=status), reason=row.reason)
        return
    # Replaced or erased: an opt-out of all marketing of each brand.
    for slug in brands:
        values = _row(row, status=Status.UNSUBSCRIBED.value, topic_=BLANKET)
        yield StateRow(**values, reason=row.reason, brand=slug)


def _row(row: Row[Any], *, status: str, topic_: str = "") -> dict[str, str]:
    return {
        "address": row.value,
        "channel": row.channel,
        "topic": topic_,
        "status": status,
        "occurred_at": row.at.isoformat(),
        "source": row.origin or "ledger",
        "evidence": row.details or "",
        "flags": _flags(row),
    }


def _flags(row: Row[Any]) -> str:
    return " ".join(sorted((row.flags or "").split()))


def _preferences() -> Any:
    columns = (address.c.value, address.c.channel, preference.c.brand, preference.c.topic, preference.c.status)
    return (
        select(*columns, preference.c.at, _FLAGS, *_WHERE_FROM)
        .select_from(address)
        .join(preference, _ITS_PREFERENCES)
        .outerjoin(ledger_entry, ledger_entry.c.seq == preference.c.seq)
        .outerjoin(evidence, evidence.c.seq == preference.c.seq)
        .where(_EXPORTED)
    )


def _suppressions() -> Any:
    return (
        select(address.c.value, address.c.channel, suppression.c.reason, suppression.c.at, _FLAGS, *_WHERE_FROM)
        .select_from(address)
        .join(suppression, _ITS_SUPPRESSIONS)
        .outerjoin(ledger_entry, ledger_entry.c.seq == suppression.c.seq)
        .outerjoin(evidence, evidence.c.seq == suppression.c.seq)
    )


def _without_facts() -> Any:
    has_preference = exists().where(_ITS_PREFERENCES, _EXPORTED)
    return select(address.c.value, address.c.channel, _FLAGS).where(~has_preference, ~exists().where(_ITS_SUPPRESSIONS))
