"""The vocabulary: the words this project uses, as types.

Owns what the terms mean; owns no rule about them. Invariant: every value is immutable, and every instant carries its
time zone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

BLANKET: Final = "*"
"""The topic that stands for all marketing of a brand on a channel."""

MOST_ADDRESSES: Final = 10_000
"""The most addresses one call may name."""


class Channel(StrEnum):
    """By what means a message travels."""

    EMAIL = "email"
    SMS = "sms"
    VOICE = "voice"
    POST = "post"


class MessageClass(StrEnum):
    """What kind of message it is; opting out of one kind never touches another."""

    MARKETING = "marketing"
    TRANSACTIONAL = "transactional"
    NOTICE = "notice"


class Basis(StrEnum):
    """On what lawful ground a topic is sent."""

    CONSENT = "consent"
    SOFT_OPT_IN = "soft_opt_in"
    LEGITIMATE_INTEREST = "legitimate_interest"
    CONTRACT = "contract"
    LEGAL_OBLIGATION = "legal_obligation"


class Status(StrEnum):
    """What a contact wishes about one topic."""

    SUBSCRIBED = "subscribed"
    UNSUBSCRIBED = "unsubscribed"
    NEVER_ASKED = "never_asked"


class SuppressionReason(StrEnum):
    """Why an address gets no mail, whatever its owner wishes."""

    HARD_BOUNCE = "hard_bounce"
    COMPLAINT = "complaint"
    INVALID = "invalid"
    ERASED = "erased"
    CHILD = "child"
    LEGAL = "legal"


class Verb(StrEnum):
    """What was done. Undo puts back what one earlier entry changed."""

    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    UNDO = "undo"
    SUPPRESS = "suppress"
    LIFT = "lift"


class Actor(StrEnum):
    """Who did it."""

    RECIPIENT = "recipient"
    PROVIDER = "provider"
    STAFF = "staff"
    SYSTEM = "system"


class OneClick(StrEnum):
    """What one click stops: a setting of the brand."""

    EVERYTHING = "everything"
    TOPIC = "topic"


class Origin(StrEnum):
    """The doors of our own. A connector's entries bear `connector.<name>` instead: see `connector_origin`."""

    ONE_CLICK = "one_click"
    PAGE = "page"
    ADDRESS_BOX = "address_box"
    UNDO = "undo"
    IMPORT = "import"


def connector_origin(name: str) -> str:
    """The origin of what the connector of this name reports."""
    return f"connector.{name}"


@dataclass(frozen=True, slots=True)
class Address:
    """One e-mail address or telephone number, in normal form (see `domain.addresses.read_address`)."""

    channel: Channel
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Brand:
    """Whose name the mail bears."""

    slug: str
    name: str
    postal_address: str
    contact_email: str
    one_click: OneClick


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One thing that people can choose."""

    slug: str
    brand: str
    name: str
    description: str
    frequency: str
    message_class: MessageClass
    basis: Basis
    channels: tuple[Channel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What someone did, before the ledger has numbered it.

    `who` is a contact's id, or an address whose contact is found or made while recording. `topic` and `brand` name a
    preference; `reason` a suppression; exactly one of the two is meant, by `verb`. `occurred_at` None means that
    nobody said when. `trusted` says that this door may turn a no into a yes. (`origin`, `origin_ref`) is unique: the
    same act told twice is recorded once. `evidence` may name a person, so it is kept outside the ledger.
    """

    verb: Verb
    channel: Channel
    who: UUID | Address
    origin: str
    actor: Actor
    occurred_at: datetime | None
    brand: str = ""
    topic: str = ""
    reason: SuppressionReason | None = None
    basis: Basis | None = None
    origin_ref: str | None = None
    trusted: bool = False
    evidence: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the ledger. Holds no name and no address: a contact's random id and a keyed fingerprint only.

    `occurred_at` is never later than `recorded_at`, and None where nobody said when. `status` is what the contact
    wished with it (None for a suppression). `changed` says whether it altered the projection; one that did not is
    kept as evidence and never passed on. `undoes` is the seq that an undo puts back. `hash` chains it to the one
    before.
    """

    seq: int
    recorded_at: datetime
    occurred_at: datetime | None
    verb: Verb
    channel: Channel
    contact_id: UUID | None
    fingerprint: str | None
    brand: str
    topic: str
    status: Status | None
    reason: SuppressionReason | None
    basis: Basis | None
    origin: str
    origin_ref: str | None
    actor: Actor
    trusted: bool
    changed: bool
    undoes: int | None
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A contact's current wish about one topic, or about everything: the projection of its entries.

    `at` is the instant that weighs against later news; `since` is when this status began; `seq` is the entry that
    began it.
    """

    status: Status
    at: datetime
    since: datetime
    seq: int
    trusted: bool
    basis: Basis | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """Whether an address is suppressed for one reason, and since which entry."""

    reason: SuppressionReason
    active: bool
    at: datetime
    since: datetime
    seq: int
