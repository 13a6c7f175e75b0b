"""What holds now about each address, as rows that an import reads: for other programs, and for moves in part.

Owns what of a contact's state has a place in such a row. Invariant: what has none, but lets less through, is told as
the nearest no that has one, or counted among what is left out.
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

_AS_THEY_ARE: Final = {
    SuppressionReason.HARD_BOUNCE: "hard_bounce",
    SuppressionReason.COMPLAINT: "complaint",
    SuppressionReason.INVALID: "invalid",
    SuppressionReason.LEGAL: "legal",
    SuppressionReason.SOFT_BOUNCES: "soft_bounces",
    # A row has no word for it; the table of decisions treats the two alike.
    SuppressionReason.CHILD: "legal",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRow:
    """One row: an address, and one thing that holds about it; no status where nothing does."""

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
    """How much has no place in such rows."""

    choices: int
    """About purposes, and about topics that are no marketing."""
    paces: int
    fingerprints: int
    """Suppressed addresses that are known by their fingerprint alone, such as those of people who were erased."""


_TOLD: Final = and_(
    preference.c.status != Status.NEVER_ASKED.value,
    or_(
        and_(preference.c.topic == BLANKET, preference.c.status == Status.UNSUBSCRIBED.value),
        preference.c.topic.in_(select(topic.c.slug).where(topic.c.message_class == MessageClass.MARKETING.value)),
    ),
)
_ITS_CHOICES: Final = and_(preference.c.contact_id == address.c.contact_id, preference.c.channel == address.c.channel)
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
    """A row for each thing that holds about each address, in flat memory."""
    for row in stream(snapshot, _choices()):
        told = _row(row, status=row.status, topic_=row.topic)
        yield StateRow(**told, brand=row.brand)
    brands = list(snapshot.execute(select(brand.c.slug).order_by(brand.c.slug)).scalars())
    for row in stream(snapshot, _suppressions()):
        yield from _suppressed(row, brands)
    for row in stream(snapshot, _silent()):
        yield StateRow(address=row.value, channel=row.channel, flags=_flags(row))


def count_state_rows(read: Read) -> int:
    """About how many rows there will be."""
    rows = (_choices(), _suppressions(), _silent())
    return sum(read.execute(select(func.count()).select_from(one.subquery())).scalar_one() for one in rows)


def count_left_out(read: Read) -> LeftOut:
    """What `read_state_rows` has no row for."""
    unnamed = ~exists().where(address.c.fingerprint == suppression.c.fingerprint)
    untold = and_(preference.c.status != Status.NEVER_ASKED.value, ~_TOLD)
    slows = or_(pace.c.until.is_not(None), pace.c.per_week.is_not(None))
    counted = (
        select(func.count()).select_from(preference).where(untold),
        select(func.count()).select_from(pace).where(slows),
        select(func.count(suppression.c.fingerprint.distinct())).where(suppression.c.active, unnamed),
    )
    choices, paces, fingerprints = (int(read.execute(one).scalar_one()) for one in counted)
    return LeftOut(choices, paces, fingerprints)


def _suppressed(row: Row[Any], brands: list[str]) -> Iterator[StateRow]:
    status = _AS_THEY_ARE.get(SuppressionReason(row.reason))
    if status is not None:
        yield StateRow(**_row(row, status=status), reason=row.reason)
        return
    # Put away or erased: no marketing to it, of any brand, and that is what the row says.
    for slug in brands:
        told = _row(row, status=Status.UNSUBSCRIBED.value, topic_=BLANKET)
        yield StateRow(**told, reason=row.reason, brand=slug)


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


def _choices() -> Any:
    columns = (address.c.value, address.c.channel, preference.c.brand, preference.c.topic, preference.c.status)
    return (
        select(*columns, preference.c.at, _FLAGS, *_WHERE_FROM)
        .select_from(address)
        .join(preference, _ITS_CHOICES)
        .outerjoin(ledger_entry, ledger_entry.c.seq == preference.c.seq)
        .outerjoin(evidence, evidence.c.seq == preference.c.seq)
        .where(_TOLD)
    )


def _suppressions() -> Any:
    return (
        select(address.c.value, address.c.channel, suppression.c.reason, suppression.c.at, _FLAGS, *_WHERE_FROM)
        .select_from(address)
        .join(suppression, _ITS_SUPPRESSIONS)
        .outerjoin(ledger_entry, ledger_entry.c.seq == suppression.c.seq)
        .outerjoin(evidence, evidence.c.seq == suppression.c.seq)
    )


def _silent() -> Any:
    said = exists().where(_ITS_CHOICES, _TOLD)
    return select(address.c.value, address.c.channel, _FLAGS).where(~said, ~exists().where(_ITS_SUPPRESSIONS))
