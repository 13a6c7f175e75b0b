"""Letters that wait to be sent, and how often they were asked for.

Owns the rows `letter` and `letter_request`. Invariants: asking costs the same for an address that we know and for one
that we do not, since nothing is looked up; a letter is gone from here once the mail server has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, select, update

from preferences.domain.letters import ALL_KINDS, LIMITS, REMEMBERED, WARNINGS, Letter, LetterKind, Limit
from preferences.store.contacts import new_id
from preferences.store.db import insert_rows, lock_name
from preferences.store.tables import letter, letter_request

LEASE: Final = timedelta(minutes=2)
"""How long a worker may take with a letter before another one tries: well above the mail server's time-out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A letter that somebody wants sent. `mailbox` is the fingerprint of `domain.addresses.mailbox_of` its address."""

    kind: LetterKind
    address: str
    mailbox: str
    brand: str
    language: str
    details: Mapping[str, Any]


def order(connection: Connection, wanted: Order, now: datetime, *, after: timedelta = timedelta()) -> bool:
    """Queue a letter, unless this address has had its share of them. Returns whether it was queued.

    Run it inside `Database.save`. Counted one after the other, so that asking in parallel gains nothing.
    """
    lock_name(connection, f"letter {wanted.mailbox}")
    if _is_reached(connection, wanted, LIMITS[wanted.kind], [wanted.kind], now):
        return False
    if wanted.kind not in WARNINGS and _is_reached(connection, wanted, ALL_KINDS, set(LetterKind) - WARNINGS, now):
        return False
    request = {"id": new_id(now), "fingerprint": wanted.mailbox, "kind": wanted.kind.value, "at": now}
    insert_rows(connection, letter_request, [request])
    connection.execute(
        letter.insert().values(
            id=new_id(now),
            kind=wanted.kind.value,
            address=wanted.address,
            brand=wanted.brand,
            language=wanted.language,
            details=dict(wanted.details),
            created_at=now,
            due_at=now + after,
            attempts=0,
        )
    )
    return True


def _is_reached(
    connection: Connection, wanted: Order, limit: Limit, kinds: Iterable[LetterKind], now: datetime
) -> bool:
    asked = select(func.count()).where(
        letter_request.c.fingerprint == wanted.mailbox,
        letter_request.c.kind.in_([kind.value for kind in kinds]),
        letter_request.c.at > now - limit.per,
    )
    count: int = connection.execute(asked).scalar_one()
    return count >= limit.most


def claim(connection: Connection, now: datetime, limit: int) -> list[Letter]:
    """The next letters that are due, leased to the caller. Run it inside `Database.save`."""
    due = select(letter).where(letter.c.due_at <= now).order_by(letter.c.due_at).limit(limit)
    rows = connection.execute(due.with_for_update(skip_locked=True)).all()
    if rows:
        taken = update(letter).where(letter.c.id.in_([row.id for row in rows]))
        connection.execute(taken.values(due_at=now + LEASE, attempts=letter.c.attempts + 1))
    return [_letter(row) for row in rows]


def is_any_due(connection: Connection, now: datetime) -> bool:
    """Whether a letter waits: a look without a lock."""
    return connection.execute(select(letter.c.id).where(letter.c.due_at <= now).limit(1)).first() is not None


def count_waiting(connection: Connection, since: datetime) -> int:
    """How many letters have waited since before `since`."""
    count: int = connection.execute(select(func.count()).where(letter.c.created_at < since)).scalar_one()
    return count


def done(connection: Connection, sent: Letter) -> None:
    """The letter was sent, or will never be: forget it."""
    connection.execute(delete(letter).where(letter.c.id == sent.id))


def postpone(connection: Connection, failed: Letter, until: datetime) -> None:
    """Try again later."""
    connection.execute(update(letter).where(letter.c.id == failed.id).values(due_at=until))


def forget_old(connection: Connection, now: datetime) -> None:
    """Remove requests that no limit can count any more."""
    connection.execute(delete(letter_request).where(letter_request.c.at < now - REMEMBERED))


def _letter(row: Row[Any]) -> Letter:
    return Letter(
        id=row.id,
        kind=LetterKind(row.kind),
        address=row.address,
        brand=row.brand,
        language=row.language,
        details=row.details,
        created_at=row.created_at,
        attempts=row.attempts + 1,
    )
