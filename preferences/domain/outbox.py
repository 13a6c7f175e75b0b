"""Our own email: its kinds, the limits on each, and how long it may wait.

Invariant: every kind answers a request of a person or warns of one, so none is marketing, and none can be used to flood
a mailbox.
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
    """To an address typed into the sign-up form: confirm the topics."""
    OPT_IN = "opt_in"
    """To a contact who opted in on the page behind a manage link: confirm it."""
    MANAGE_LINK = "manage_link"
    SIGN_IN = "sign_in"
    """A code and a link to sign in with."""
    NEW_ADDRESS = "new_address"
    """To an address that a contact wants to use: confirm it."""
    ADDRESS_CHANGED = "address_changed"
    """To an address that was replaced or removed."""
    ADDRESS_ADDED = "address_added"
    """To the contact's other addresses, when one was added."""


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
"""Per mailbox, from however many networks the requests come, against list bombing."""

ALL_KINDS: Final = Limit(12, timedelta(days=1))
"""Per mailbox and for all kinds together, except `WARNINGS`."""

WARNINGS: Final = frozenset({EmailKind.ADDRESS_CHANGED, EmailKind.ADDRESS_ADDED})
"""Kinds that `ALL_KINDS` does not limit: a thief must not suppress a warning by requesting other email."""

Request = tuple[EmailKind, datetime]
"""An email that was added to the outbox for a mailbox, and when."""

REMEMBERED: Final = max(ALL_KINDS.per, *(limit.per for limit in LIMITS.values()))
"""How long a request is kept for the limits."""

SIGN_IN_LIFE: Final = timedelta(minutes=10)
"""How long a code and its link can be used."""

ADDRESS_LIFE: Final = timedelta(days=1)
"""How long a new address can be confirmed."""

EMAIL_LIFE: Final = timedelta(days=1)
"""How long delivery to the mail server is tried, for most kinds."""

LIVES: Final = {EmailKind.SIGN_IN: SIGN_IN_LIFE, **dict.fromkeys(WARNINGS, timedelta(days=7))}
"""The other kinds: an expired code helps nobody, and a warning matters even when it is late."""

WAITS: Final = Bounds(first=5.0, longest=600.0)
"""Between attempts to send an email, and between attempts to use a mail server that is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedEmail:
    """An email that waits to be sent. `details` holds what its kind needs, as JSON values."""

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
    """Whether a mailbox for which these emails were requested may get no more of this kind now."""
    if _is_reached(LIMITS[kind], [at for requested, at in requests if requested is kind], now):
        return True
    others = [at for requested, at in requests if requested not in WARNINGS]
    return kind not in WARNINGS and _is_reached(ALL_KINDS, others, now)


def _is_reached(limit: Limit, times: Iterable[datetime], now: datetime) -> bool:
    return sum(at > now - limit.per for at in times) >= limit.most
