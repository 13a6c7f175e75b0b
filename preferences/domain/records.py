"""The records that the other rooms exchange: addresses, brands, topics, acts, entries and the state folded from them.

Frozen values without behaviour of their own; the words in them are those of `vocabulary`.
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
    """One email address or telephone number, in normal form (see `domain.addresses.read_address`)."""

    channel: Channel
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Brand:
    """Whose name the mail bears.

    `host` and `path` say where its pages are, when not at `PUBLIC_URL` itself: under a host of its own, or in a folder.
    `colour` is like `#0b57d0`, or empty. `language` is what its pages speak to who asks for none that we have.
    """

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
    """A topic's words in one language."""

    name: str
    description: str
    frequency: str
    section: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One thing that people can choose.

    Nothing is sent about a retired one; its links, its name and what people chose about it stay. A hidden one is
    offered on no public page, and one with `visible_to` only to contacts with that flag; neither bears on a decision.
    `opt_in` says that only those who asked for it get it, whatever the basis. `position` orders topics, and topics of
    one `section` stand under it as their heading.
    """

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
        """Its words in this language, or in the one they were first written in."""
        first = TopicText(name=self.name, description=self.description, frequency=self.frequency, section=self.section)
        return dict(self.texts).get(language, first)

    def language(self, language: str) -> str:
        """The language that `text` answers in: the one asked for, or the one that prevails."""
        return language if language in dict(self.texts) else LANGUAGES[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What someone did, before the ledger has numbered it.

    `who` is a contact's id, or an address whose contact is found or made while recording. `topic` and `brand` name a
    preference; `reason` a suppression; exactly one of the two is meant, by `verb`. `occurred_at` None means that
    nobody said when. `trusted` says that this door may turn a no into a yes. (`origin`, `origin_ref`) is unique: the
    same act told twice is recorded once. `evidence` may name a person, so it is kept outside the ledger. `until` is
    the end of a pause, and `per_week` a cap; None takes it away. `notice` is the hash of the wording that was shown.
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
        """As of `Entry`. None for a contact who is found or made while recording."""
        if self.actor is not Actor.RECIPIENT:
            return named_in(self.origin)
        return None if isinstance(self.who, Address) else str(self.who)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """An act from a page that its person may have had open for long, or from a link that lay in a mailbox.

    `seen` is the newest entry about the same thing that the page knew of, and `asked_at` when the link was asked for.
    Whoever leaves needs neither: a no is always recorded. See `store.ledger.record_edits`.
    """

    act: Act
    seen: int | None = None
    asked_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the ledger. Holds no name and no address: a contact's random id and a keyed fingerprint only.

    `occurred_at` is never later than `recorded_at`, and None where nobody said when. `status` is what the contact
    wished with it (None for a suppression, a pause or a cap). `changed` says whether it altered the projection; one
    that did not is kept as evidence and never passed on. `undoes` is the seq that an undo takes back; its `status` and
    `basis` say what counted again then, and weigh nothing. `hash` chains it to the one before.
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
        """Which contact, connector, API key or staff member the actor is (docs/decisions/0026-actor-id.md).

        None where it is nobody in particular, such as a file or a rule of ours, and for an address without a contact.
        """
        if self.actor is not Actor.RECIPIENT:
            return named_in(self.origin)
        return str(self.contact_id) if self.contact_id else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SendingLimit:
    """How a contact slows one topic down: not before `until` (a pause), or at most `per_week` (a cap).

    None means that the person has taken it away again. `seq` is the entry that says so, `at` when it was said.
    """

    verb: Verb
    until: datetime | None
    per_week: int | None
    at: datetime
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
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
