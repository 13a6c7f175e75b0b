"""The records that packages exchange: addresses, brands, topics, acts, entries and the state folded from them.

Frozen values, in the terms of `vocabulary`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from preferences.domain.vocabulary import (
    LANGUAGES,
    Actor,
    Basis,
    Channel,
    MessageClass,
    OneClick,
    Status,
    SuppressionReason,
    Verb,
    named_in,
)


@dataclass(frozen=True, slots=True)
class Address:
    """An address in normal form (see `address_parsing.read_address`)."""

    channel: Channel
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Brand:
    """Pages are at `host` or `path`, else at `PUBLIC_URL`. `colour` is like `#0b57d0`, or empty. `language` is for
    visitors whose languages we lack."""

    slug: str
    name: str
    postal_address: str
    contact_email: str
    one_click: OneClick
    host: str = ""
    path: str = ""
    colour: str = ""
    language: str = LANGUAGES[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicText:
    name: str
    description: str
    frequency: str
    section: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A retired topic is not sent, but its links, name and preferences remain. `hidden` topics are on no public page,
    those with `visible_to` only on pages of contacts with that flag; neither affects decisions. `opt_in` requires an
    opt-in whatever the basis. `section` is a heading."""

    slug: str
    brand: str
    name: str
    description: str
    frequency: str
    message_class: MessageClass
    basis: Basis
    channels: tuple[Channel, ...]
    added_at: datetime | None = None
    texts: tuple[tuple[str, TopicText], ...] = ()
    retired_at: datetime | None = None
    hidden: bool = False
    visible_to: str = ""
    opt_in: bool = False
    section: str = ""
    position: int = 0

    def text(self, language: str) -> TopicText:
        """In this language, else the original."""
        first = TopicText(name=self.name, description=self.description, frequency=self.frequency, section=self.section)
        return dict(self.texts).get(language, first)

    def language(self, language: str) -> str:
        """Of what `text` returns."""
        return language if language in dict(self.texts) else LANGUAGES[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What someone did, before the ledger numbers it.

    `who` is a contact's id, or an address whose contact is found or created on recording. By `verb`, `topic` and
    `brand` name a preference, or `reason` a suppression. `occurred_at` is None if unknown. `trusted` allows an opt-in
    to reverse an opt-out. (`origin`, `origin_ref`) is unique: repetitions are recorded once. `evidence` may identify a
    person, so it is stored outside the ledger. `until` or `per_week` None removes the limit. `notice` is the hash of
    the wording shown.
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
    until: datetime | None = None
    per_week: int | None = None
    notice: str | None = None

    @property
    def actor_id(self) -> str | None:
        """As in `Entry`."""
        if self.actor is not Actor.RECIPIENT:
            return named_in(self.origin)
        return None if isinstance(self.who, Address) else str(self.who)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """An act from a page or link that may be out of date. `seen` is the newest entry on the page, `asked_at` when the
    link was requested. Opt-outs need neither: they are always recorded."""

    act: Act
    seen: int | None = None
    asked_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row of the ledger. It identifies nobody: it has a random contact id and a keyed fingerprint.

    `occurred_at` is at most `recorded_at`; None if unknown. `status` is None for a suppression or limit. `changed` says
    whether the projection changed; if not, the entry is evidence and never propagated. `undoes` is the seq that an undo
    reverses; its `status` and `basis` describe the result and have no weight. `hash` includes the previous entry's.
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
    until: datetime | None = None
    per_week: int | None = None
    notice: str | None = None
    evidence_digest: str | None = None

    @property
    def actor_id(self) -> str | None:
        """Contact, connector, API key or staff member (docs/decisions/0026-actor-id.md). None for files and rules."""
        if self.actor is not Actor.RECIPIENT:
            return named_in(self.origin)
        return str(self.contact_id) if self.contact_id else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SendingLimit:
    """A pause (`until`) or a frequency limit (`per_week`) for a topic; None means removed."""

    verb: Verb
    until: datetime | None
    per_week: int | None
    at: datetime
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """A contact's current preference for a topic or `*`: the projection of its entries. `at` is compared with newer
    entries; `since` and `seq` are when and by which entry this status began."""

    status: Status
    at: datetime
    since: datetime
    seq: int
    trusted: bool
    basis: Basis | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """Whether an address is suppressed, since entry `seq`."""

    reason: SuppressionReason
    active: bool
    at: datetime
    since: datetime
    seq: int
