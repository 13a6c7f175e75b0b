"""Emails to send, and requests that count towards limits: the rows `letter` and `letter_request`.

Invariants: adding an email does not look up its address; an email is deleted once the mail server accepts it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, bindparam, delete, func, select, update

from preferences.domain.outbox import REMEMBERED, EmailKind, QueuedEmail, Request, is_limited
from preferences.store.contacts import new_id
from preferences.store.dialect import Insert, any_of, insert_all
from preferences.store.tables import letter, letter_request
from preferences.store.transactions import Read, Save, advisory_locks

LEASE: Final = timedelta(minutes=2)
"""Well above the mail server's time-outs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """`mailbox`: the fingerprint of `domain.addresses.mailbox_of`."""

    kind: EmailKind
    address: str
    mailbox: str
    brand: str
    language: str
    details: Mapping[str, Any]


def enqueue(save: Save, order: Order, now: datetime, *, after: timedelta = timedelta()) -> bool:
    """Returns False if the mailbox reached a limit.

    Requests are counted under a lock, which parallel ones cannot evade.
    """
    return bool(enqueue_all(save, [order], now, after=after))


def enqueue_all(save: Save, orders: Sequence[Order], now: datetime, *, after: timedelta = timedelta()) -> list[Order]:
    """Uses as many statements as for one. Returns those added."""
    if not orders:
        return []
    mailboxes = {order.mailbox for order in orders}
    advisory_locks(save, [f"letter {mailbox}" for mailbox in mailboxes])
    requests = _requests(save, mailboxes, now)
    added = []
    for order in orders:
        before = requests.setdefault(order.mailbox, [])
        if not is_limited(order.kind, before, now):
            before.append((order.kind, now))
            added.append(order)
    rows = [{"id": new_id(now), "fingerprint": order.mailbox, "kind": order.kind.value, "at": now} for order in added]
    emails = [_row_of(order, now, now + after) for order in added]
    insert_all(save, [Insert(letter_request, rows), Insert(letter, emails)])
    return added


_REQUESTS: Final = select(letter_request.c.fingerprint, letter_request.c.kind, letter_request.c.at).where(
    any_of(letter_request.c.fingerprint, "mailboxes"), letter_request.c.at > bindparam("since")
)


def _requests(read: Read, mailboxes: Collection[str], now: datetime) -> dict[str, list[Request]]:
    """Requests that limits count, by mailbox."""
    found: dict[str, list[Request]] = {}
    for row in read.execute(_REQUESTS, {"mailboxes": list(mailboxes), "since": now - REMEMBERED}):
        found.setdefault(row.fingerprint, []).append((EmailKind(row.kind), row.at))
    return found


def _row_of(order: Order, now: datetime, due_at: datetime) -> dict[str, Any]:
    return {
        "id": new_id(now),
        "kind": order.kind.value,
        "address": order.address,
        "brand": order.brand,
        "language": order.language,
        "details": dict(order.details),
        "created_at": now,
        "due_at": due_at,
        "attempts": 0,
    }


def claim(save: Save, now: datetime, limit: int) -> list[QueuedEmail]:
    """Lease the next due emails."""
    due = select(letter).where(letter.c.due_at <= now).order_by(letter.c.due_at).limit(limit)
    rows = save.execute(due.with_for_update(skip_locked=True)).all()
    if rows:
        taken = update(letter).where(letter.c.id.in_([row.id for row in rows]))
        save.execute(taken.values(due_at=now + LEASE, attempts=letter.c.attempts + 1))
    return [_email_of(row) for row in rows]


def is_any_due(read: Read, now: datetime) -> bool:
    """Takes no lock, unlike `claim`."""
    return read.execute(select(letter.c.id).where(letter.c.due_at <= now).limit(1)).first() is not None


def count_waiting(read: Read, since: datetime) -> int:
    count: int = read.execute(select(func.count()).where(letter.c.created_at < since)).scalar_one()
    return count


def done(save: Save, queued: QueuedEmail) -> None:
    save.execute(delete(letter).where(letter.c.id == queued.id))


def postpone(save: Save, queued: QueuedEmail, until: datetime) -> None:
    save.execute(update(letter).where(letter.c.id == queued.id).values(due_at=until))


def forget_old(save: Save, now: datetime) -> None:
    save.execute(delete(letter_request).where(letter_request.c.at < now - REMEMBERED))


def _email_of(row: Row[Any]) -> QueuedEmail:
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
