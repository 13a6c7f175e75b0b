"""The few letters that we write ourselves: which there are, and how often anybody may cause one.

Owns the kinds and their limits. Invariant: every letter answers something that a person has just asked for, so none is
marketing, and none can be made to flood a stranger's mailbox.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from preferences.domain.backoff import Bounds


class EmailKind(StrEnum):
    """What a letter is about."""

    SIGN_UP = "sign_up"
    """To an address that somebody typed into the sign-up form: press here if it was you."""
    OPT_IN = "opt_in"
    """To whoever chose more on the page behind a link: press here if it was you."""
    MANAGE_LINK = "manage_link"
    """A fresh link to the person's own page."""
    SIGN_IN = "sign_in"
    """A code, and a link, to sign in with."""
    NEW_ADDRESS = "new_address"
    """To an address that somebody wants to add to theirs: press here if it is yours."""
    ADDRESS_CHANGED = "address_changed"
    """To the old address, once another has taken its place."""
    ADDRESS_ADDED = "address_added"
    """To the addresses from before, once there is another one beside them."""


@dataclass(frozen=True, slots=True)
class Limit:
    """So many letters of one kind to one address in so long."""

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
"""For each mailbox, however many networks ask. A form that sends mail is a weapon without it (list bombing)."""

ALL_KINDS: Final = Limit(12, timedelta(days=1))
"""For each mailbox, whatever the letters are about: those that a stranger can cause add up."""

WARNINGS: Final = frozenset({EmailKind.ADDRESS_CHANGED, EmailKind.ADDRESS_ADDED})
"""Letters that are sent whatever was sent before: nobody may keep a warning from somebody by asking for other mail."""

REMEMBERED: Final = max(ALL_KINDS.per, *(limit.per for limit in LIMITS.values()))
"""How long it must be known that a letter was asked for."""

SIGN_IN_LIFE: Final = timedelta(minutes=10)
"""How long a code, and the link beside it, can be used."""

ADDRESS_LIFE: Final = timedelta(days=1)
"""How long a new address can be confirmed."""

EMAIL_LIFE: Final = timedelta(days=1)
"""A letter that cannot be delivered to the mail server for so long is given up: nobody waits for it any more."""

WAITS: Final = Bounds(first=5.0, longest=600.0)
"""Between tries of a letter, and of a mail server that is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedEmail:
    """A letter that waits to be sent. `details` are what its kind needs to be written, as JSON can hold them."""

    id: UUID
    kind: EmailKind
    address: str
    brand: str
    language: str
    details: Mapping[str, Any]
    created_at: datetime
    attempts: int = 0
