"""The vocabulary: the words this project uses, as types.

Owns what the terms mean; owns no rule about them. Invariant: every value is immutable, and every instant carries its
time zone.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

BLANKET: Final = "*"
"""The topic that stands for all marketing of a brand on a channel."""

MOST_ADDRESSES: Final = 10_000
"""The most addresses one call may name."""

LANGUAGES: Final = ("en", "es", "fr", "de", "pt", "ar")
"""The languages of every page and email. The first prevails."""

SHORTEST_FOLDER: Final = 2
"""Characters in the folder of a brand's pages: one alone is what the links in mails begin with."""


class Channel(StrEnum):
    """By what means a message travels."""

    EMAIL = "email"
    SMS = "sms"
    VOICE = "voice"
    POST = "post"


PHONE_CHANNELS: Final = frozenset({Channel.SMS, Channel.VOICE})


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


LIMIT_VERBS: Final = frozenset({Verb.PAUSE, Verb.CAP})


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


def named_in(origin: str) -> str | None:
    """The connector, the API key or the staff member that an origin names, as in `api.shop`; None for our own pages."""
    return origin.partition(".")[2] or None


class KeyScope(StrEnum):
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


DEFAULT_SCOPES: Final = frozenset(KeyScope) - {KeyScope.RETURNS, KeyScope.HAND_OFFS, KeyScope.UNSUPPRESS}
"""What a new key may do where nothing else is said."""


class Relation(StrEnum):
    """How we came by an address, as far as it bears on who may sign in with it."""

    KNOWN = "known"
    UNCONFIRMED = "unconfirmed"
    """Told by a system as one more address of a contact. Signs nobody in until the contact has confirmed it."""
    STRANGER = "stranger"
    """Typed by somebody to opt out or to sign up, and nothing else since. Gets no code and no link."""
