"""Our own email: its kinds, their limits and lifetimes.

Invariant: every kind answers a request or warns of one, so none is marketing, and none can flood a mailbox.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from preferences.domain.backoff import Bounds


class EmailKind(StrEnum):
    SIGN_UP = "sign_up"
    """Confirm topics from the sign-up form."""
    OPT_IN = "opt_in"
    """Confirm opt-ins behind a manage link."""
    MANAGE_LINK = "manage_link"
    SIGN_IN = "sign_in"
    """A code and a link."""
    NEW_ADDRESS = "new_address"
    """Confirm a new address."""
    ADDRESS_CHANGED = "address_changed"
    """Warn an address that was replaced or removed."""
    ADDRESS_ADDED = "address_added"
    """Warn the contact's other addresses of a new one."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` emails in each period of `per`."""

    most: int
    per: timedelta


LIMITS: Final = {
    EmailKind.SIGN_UP: Limit(1, timedelta(days=1)),
    EmailKind.OPT_IN: Limit(5, timedelta(days=1)),
    EmailKind.MANAGE_LINK: Limit(3, timedelta(days=1)),
    EmailKind.SIGN_IN: Limit(5, timedelta(hours=1)),
    EmailKind.NEW_ADDRESS: Limit(3, timedelta(days=1)),
    EmailKind.ADDRESS_CHANGED: Limit(10, timedelta(days=1)),
    EmailKind.ADDRESS_ADDED: Limit(10, timedelta(days=1)),
}
"""Per mailbox, whatever network asks, against list bombing."""

ALL_KINDS: Final = Limit(12, timedelta(days=1))
"""Per mailbox, for all kinds but `WARNINGS` together."""

WARNINGS: Final = frozenset({EmailKind.ADDRESS_CHANGED, EmailKind.ADDRESS_ADDED})
"""Not limited by `ALL_KINDS`, so that a thief cannot suppress a warning by requesting other email."""

Request = tuple[EmailKind, datetime]
"""The kind and time of an email ordered for a mailbox."""

REMEMBERED: Final = max(ALL_KINDS.per, *(limit.per for limit in LIMITS.values()))

SIGN_IN_LIFE: Final = timedelta(minutes=10)
"""Of a code and its link."""

ADDRESS_LIFE: Final = timedelta(days=1)
"""Of a link to confirm an address."""

EMAIL_LIFE: Final = timedelta(days=1)
"""How long sending is tried, for kinds not in `LIVES`."""

LIVES: Final = {EmailKind.SIGN_IN: SIGN_IN_LIFE, **dict.fromkeys(WARNINGS, timedelta(days=7))}
"""An expired code is useless; a late warning is not."""

WAITS: Final = Bounds(first=5.0, longest=600.0)
"""Between attempts to send, and to reach a mail server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedEmail:
    """`details` are JSON values."""

    id: UUID
    kind: EmailKind
    address: str
    brand: str
    language: str
    details: Mapping[str, Any]
    created_at: datetime
    attempts: int = 0


def is_expired(queued: QueuedEmail, now: datetime) -> bool:
    return now - queued.created_at > LIVES.get(queued.kind, EMAIL_LIFE)


def is_limited(kind: EmailKind, requests: Sequence[Request], now: datetime) -> bool:
    """Whether this mailbox may get no more now."""
    if _is_reached(LIMITS[kind], [at for requested, at in requests if requested is kind], now):
        return True
    others = [at for requested, at in requests if requested not in WARNINGS]
    return kind not in WARNINGS and _is_reached(ALL_KINDS, others, now)


def _is_reached(limit: Limit, times: Iterable[datetime], now: datetime) -> bool:
    return sum(at > now - limit.per for at in times) >= limit.most
