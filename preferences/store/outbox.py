"""The outbox: our own email that waits, and how often it was requested.

Owns the rows `letter` and `letter_request`. Invariants: nothing is looked up about an address, so that an order takes
as long for a known as for an unknown one; a row is gone once the mail server has the email.
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
"""How long a worker may take to send an email before another retries it: well above the timeout of the mail server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An email to send. `mailbox` is the fingerprint of its address as `domain.addresses.mailbox_of` gives it."""

    kind: EmailKind
    address: str
    mailbox: str
    brand: str
    language: str
    details: Mapping[str, Any]


def order(save: Save, wanted: Order, now: datetime, *, after: timedelta = timedelta()) -> bool:
    """Queue an email unless its mailbox has reached a limit. Returns whether it was queued.

    Requests for one mailbox are counted one after the other, also when they arrive in parallel.
    """
    return bool(order_all(save, [wanted], now, after=after))


def order_all(save: Save, wanted: Sequence[Order], now: datetime, *, after: timedelta = timedelta()) -> list[Order]:
    """`order` for many emails, in the same number of statements. Returns those that were queued."""
    if not wanted:
        return []
    mailboxes = {new.mailbox for new in wanted}
    advisory_locks(save, [f"letter {mailbox}" for mailbox in mailboxes])
    requested = _requests(save, mailboxes, now)
    queued = []
    for new in wanted:
        requests = requested.setdefault(new.mailbox, [])
        if not _has_reached_limit(new.kind, requests, now):
            requests.append((new.kind, now))
            queued.append(new)
    rows = [{"id": new_id(now), "fingerprint": new.mailbox, "kind": new.kind.value, "at": now} for new in queued]
    due_at = now + after
    insert_all(
        save,
        [Insert(letter_request, rows), Insert(letter, [_letter_row(new, now, due_at) for new in queued])],
    )
    return queued


Requests = list[tuple[EmailKind, datetime]]
"""The kinds and times of the emails that one mailbox was sent."""

_REQUESTS: Final = select(letter_request.c.fingerprint, letter_request.c.kind, letter_request.c.at).where(
    any_of(letter_request.c.fingerprint, "mailboxes"), letter_request.c.at > bindparam("since")
)


def _requests(read: Read, mailboxes: Collection[str], now: datetime) -> dict[str, Requests]:
    """The requests that any limit can still count, by mailbox."""
    found: dict[str, Requests] = {}
    for row in read.execute(_REQUESTS, {"mailboxes": list(mailboxes), "since": now - REMEMBERED}):
        found.setdefault(row.fingerprint, []).append((EmailKind(row.kind), row.at))
    return found


def _has_reached_limit(kind: EmailKind, requests: Requests, now: datetime) -> bool:
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
    """The next due emails, leased to the caller."""
    due = select(letter).where(letter.c.due_at <= now).order_by(letter.c.due_at).limit(limit)
    rows = save.execute(due.with_for_update(skip_locked=True)).all()
    if rows:
        taken = update(letter).where(letter.c.id.in_([row.id for row in rows]))
        save.execute(taken.values(due_at=now + LEASE, attempts=letter.c.attempts + 1))
    return [_letter(row) for row in rows]


def is_any_due(read: Read, now: datetime) -> bool:
    """Whether an email is due, without a lock."""
    return read.execute(select(letter.c.id).where(letter.c.due_at <= now).limit(1)).first() is not None


def count_waiting(read: Read, since: datetime) -> int:
    """The number of emails that were ordered before `since`."""
    count: int = read.execute(select(func.count()).where(letter.c.created_at < since)).scalar_one()
    return count


def done(save: Save, sent: QueuedEmail) -> None:
    """Remove an email that was sent, or never will be."""
    save.execute(delete(letter).where(letter.c.id == sent.id))


def postpone(save: Save, failed: QueuedEmail, until: datetime) -> None:
    save.execute(update(letter).where(letter.c.id == failed.id).values(due_at=until))


def forget_old(save: Save, now: datetime) -> None:
    """Remove requests that no limit counts any more."""
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
