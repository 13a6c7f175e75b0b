"""Letters that wait to be sent, and how often they were asked for.

Owns the rows `letter` and `letter_request`. Invariants: asking costs the same for an address that we know and for one
that we do not, since nothing is looked up; a letter is gone from here once the mail server has it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, bindparam, delete, func, select, update

from preferences.domain.outbox import ALL_KINDS, LIMITS, REMEMBERED, WARNINGS, EmailKind, Limit, QueuedEmail
from preferences.store.contacts import new_id
from preferences.store.dialect import Insert, any_of, insert_all
from preferences.store.tables import letter, letter_request
from preferences.store.transactions import Read, Save, advisory_locks

LEASE: Final = timedelta(minutes=2)
"""How long a worker may take with a letter before another one tries: well above the mail server's time-out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A letter that somebody wants sent. `mailbox` is the fingerprint of `domain.addresses.mailbox_of` its address."""

    kind: EmailKind
    address: str
    mailbox: str
    brand: str
    language: str
    details: Mapping[str, Any]


def order(save: Save, wanted: Order, now: datetime, *, after: timedelta = timedelta()) -> bool:
    """Queue a letter, unless this address has had its share of them. Returns whether it was queued.

    Counted one after the other, so that asking in parallel gains nothing.
    """
    return bool(order_all(save, [wanted], now, after=after))


def order_all(save: Save, wanted: Sequence[Order], now: datetime, *, after: timedelta = timedelta()) -> list[Order]:
    """Queue letters, in as many statements for a thousand as for one, but for those above an address's share. Returns
    those that were queued."""
    if not wanted:
        return []
    mailboxes = {one.mailbox for one in wanted}
    advisory_locks(save, [f"letter {mailbox}" for mailbox in mailboxes])
    asked = _requests(save, mailboxes, now)
    queued = []
    for one in wanted:
        requests = asked.setdefault(one.mailbox, [])
        if not _has_had_its_share(one.kind, requests, now):
            requests.append((one.kind, now))
            queued.append(one)
    requested = [{"id": new_id(now), "fingerprint": one.mailbox, "kind": one.kind.value, "at": now} for one in queued]
    due_at = now + after
    insert_all(
        save,
        [Insert(letter_request, requested), Insert(letter, [_letter_row(one, now, due_at) for one in queued])],
    )
    return queued


Requests = list[tuple[EmailKind, datetime]]
"""What one mailbox was sent: which letters, and when."""

_REQUESTS: Final = select(letter_request.c.fingerprint, letter_request.c.kind, letter_request.c.at).where(
    any_of(letter_request.c.fingerprint, "mailboxes"), letter_request.c.at > bindparam("since")
)


def _requests(read: Read, mailboxes: Collection[str], now: datetime) -> dict[str, Requests]:
    """What any limit can still count, by mailbox."""
    found: dict[str, Requests] = {}
    for row in read.execute(_REQUESTS, {"mailboxes": list(mailboxes), "since": now - REMEMBERED}):
        found.setdefault(row.fingerprint, []).append((EmailKind(row.kind), row.at))
    return found


def _has_had_its_share(kind: EmailKind, requests: Requests, now: datetime) -> bool:
    if _is_reached(LIMITS[kind], [at for of, at in requests if of is kind], now):
        return True
    return kind not in WARNINGS and _is_reached(ALL_KINDS, [at for of, at in requests if of not in WARNINGS], now)


def _is_reached(limit: Limit, times: Iterable[datetime], now: datetime) -> bool:
    return sum(at > now - limit.per for at in times) >= limit.most


def _letter_row(wanted: Order, now: datetime, due_at: datetime) -> dict[str, Any]:
    return {
        "id": new_id(now),
        "kind": wanted.kind.value,
        "address": wanted.address,
        "brand": wanted.brand,
        "language": wanted.language,
        "details": dict(wanted.details),
        "created_at": now,
        "due_at": due_at,
        "attempts": 0,
    }


def claim(save: Save, now: datetime, limit: int) -> list[QueuedEmail]:
    """The next letters that are due, leased to the caller."""
    due = select(letter).where(letter.c.due_at <= now).order_by(letter.c.due_at).limit(limit)
    rows = save.execute(due.with_for_update(skip_locked=True)).all()
    if rows:
        taken = update(letter).where(letter.c.id.in_([row.id for row in rows]))
        save.execute(taken.values(due_at=now + LEASE, attempts=letter.c.attempts + 1))
    return [_letter(row) for row in rows]


def is_any_due(read: Read, now: datetime) -> bool:
    """Whether a letter waits: a look without a lock."""
    return read.execute(select(letter.c.id).where(letter.c.due_at <= now).limit(1)).first() is not None


def count_waiting(read: Read, since: datetime) -> int:
    """How many letters have waited since before `since`."""
    count: int = read.execute(select(func.count()).where(letter.c.created_at < since)).scalar_one()
    return count


def done(save: Save, sent: QueuedEmail) -> None:
    """The letter was sent, or will never be: forget it."""
    save.execute(delete(letter).where(letter.c.id == sent.id))


def postpone(save: Save, failed: QueuedEmail, until: datetime) -> None:
    """Try again later."""
    save.execute(update(letter).where(letter.c.id == failed.id).values(due_at=until))


def forget_old(save: Save, now: datetime) -> None:
    """Remove requests that no limit can count any more."""
    save.execute(delete(letter_request).where(letter_request.c.at < now - REMEMBERED))


def _letter(row: Row[Any]) -> QueuedEmail:
    return QueuedEmail(
        id=row.id,
        kind=EmailKind(row.kind),
        address=row.address,
        brand=row.brand,
        language=row.language,
        details=row.details,
        created_at=row.created_at,
        attempts=row.attempts + 1,
    )
