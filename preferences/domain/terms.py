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

LANGUAGES: Final = ("en", "es", "fr", "de", "pt", "ar")
"""What recipients can read every page and letter in; the first is the one that prevails."""

SHORTEST_FOLDER: Final = 2
"""Characters in the folder of a brand's pages: one alone is what the links in mails begin with."""


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


class Default(StrEnum):
    """What holds for a topic while a contact has said nothing about it."""

    ON = "on"
    OFF = "off"
    """Sent to those who asked for it alone."""
    REQUIRED = "required"
    """Always sent, so the page offers no switch for it. Never of marketing."""


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
    SOFT_BOUNCES = "soft_bounces"
    """Mail came back again and again, for the time being: it ends by itself (see `domain.suppressions`)."""
    ERASED = "erased"
    CHILD = "child"
    LEGAL = "legal"
    REPLACED = "replaced"
    """Its owner has given another address in its place, or taken it away."""


class Verb(StrEnum):
    """What was done. Undo takes one earlier opt-out back; pause and cap slow a topic down."""

    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    UNDO = "undo"
    PAUSE = "pause"
    CAP = "cap"
    SUPPRESS = "suppress"
    LIFT = "lift"


PACE_VERBS: Final = frozenset({Verb.PAUSE, Verb.CAP})


class Purpose(StrEnum):
    """What may be done beside sending, each a choice of its own.

    A purpose stands where a topic stands, in acts, entries and questions; no topic's slug can begin with `@`. It is
    about the person and not about a channel, so it is kept under email whichever channel is asked about.
    """

    TRACKING = "@tracking"
    PROFILING = "@profiling"
    LOCATION = "@location"
    NEW_TOPICS = "@new-topics"


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
    ACCOUNT = "account"
    CONFIRMATION = "confirmation"
    ADDRESS_CHANGE = "address_change"
    UNDO = "undo"
    IMPORT = "import"
    COMMAND = "command"
    SOFT_BOUNCES = "soft_bounces"


_CONNECTOR: Final = "connector."


def connector_origin(name: str) -> str:
    """The origin of what the connector of this name reports."""
    return f"{_CONNECTOR}{name}"


def is_connector(origin: str) -> bool:
    """Whether an entry of this origin was reported by a connector."""
    return origin.startswith(_CONNECTOR)


def is_reported(origin: str) -> bool:
    """Whether an act of this origin was told by somebody who was there, with a time of its own, rather than done at one
    of our own doors, where what happens is recorded as it happens."""
    return origin not in _OWN_DOORS


_OWN_DOORS: Final = frozenset(Origin) - {Origin.IMPORT}


def api_origin(key_name: str) -> str:
    """The origin of what a system tells with the API key of this name: the same before and after it is rotated."""
    return f"api.{key_name}"


class Scope(StrEnum):
    """What an API key may be used for."""

    DECISIONS = "decisions"
    LINKS = "links"
    HAND_OFFS = "hand-offs"
    """Whoever holds the key can sign in as anybody. Never given unless it is asked for by name."""
    CONTACTS = "contacts"
    ACTS = "acts"
    RETURNS = "returns"
    """A yes told with this key may turn a no into a yes. Never given unless it is asked for by name."""
    UNSUPPRESS = "unsuppress"
    """A lift told with this key ends a suppression. Never given unless it is asked for by name."""
    SUPPRESSIONS = "suppressions"
    ENTRIES = "entries"
    TOPICS = "topics"


USUAL_SCOPES: Final = frozenset(Scope) - {Scope.RETURNS, Scope.HAND_OFFS, Scope.UNSUPPRESS}
"""What a new key may do where nothing else is said."""


class Relation(StrEnum):
    """How we came by an address, as far as it bears on who may sign in with it."""

    KNOWN = "known"
    UNCONFIRMED = "unconfirmed"
    """Told by a system as one more address of a contact. Signs nobody in until the contact has confirmed it."""
    STRANGER = "stranger"
    """Typed by somebody to opt out or to sign up, and nothing else since. Gets no code and no link."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a contact slows one topic down: not before `until` (a pause), or at most `per_week` (a cap).

    None means that the person has taken it away again. `seq` is the entry that says so, `at` when it was said.
    """

    verb: Verb
    until: datetime | None
    per_week: int | None
    at: datetime
    seq: int


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
