"""The project's terms as types and constants, without rules about them.

Enum values are stored and public: they never change.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

BLANKET: Final = "*"
"""The topic that means all marketing of a brand on a channel."""

MOST_ADDRESSES: Final = 10_000
"""Addresses in an API call."""

LANGUAGES: Final = ("en", "es", "fr", "de", "pt", "ar")
"""Languages of every page and email. Where they differ, the first prevails."""

SHORTEST_FOLDER: Final = 2
"""Characters in a brand's folder; folders of a single character are link prefixes."""


class Channel(StrEnum):
    EMAIL = "email"
    SMS = "sms"
    VOICE = "voice"
    POST = "post"


PHONE_CHANNELS: Final = frozenset({Channel.SMS, Channel.VOICE})


class MessageClass(StrEnum):
    """Opting out of a class does not affect the others."""

    MARKETING = "marketing"
    TRANSACTIONAL = "transactional"
    NOTICE = "notice"


class Basis(StrEnum):
    """The lawful basis of a topic."""

    CONSENT = "consent"
    SOFT_OPT_IN = "soft_opt_in"
    LEGITIMATE_INTEREST = "legitimate_interest"
    CONTRACT = "contract"
    LEGAL_OBLIGATION = "legal_obligation"


class Default(StrEnum):
    """What applies to a topic while a contact has no preference."""

    ON = "on"
    OFF = "off"
    """Sent only after an opt-in."""
    REQUIRED = "required"
    """Always sent, so pages show no switch. Never for marketing."""


class Status(StrEnum):
    SUBSCRIBED = "subscribed"
    UNSUBSCRIBED = "unsubscribed"
    NEVER_ASKED = "never_asked"


class SuppressionReason(StrEnum):
    HARD_BOUNCE = "hard_bounce"
    COMPLAINT = "complaint"
    INVALID = "invalid"
    SOFT_BOUNCES = "soft_bounces"
    """Temporary (`domain.suppressions`)."""
    ERASED = "erased"
    CHILD = "child"
    LEGAL = "legal"
    REPLACED = "replaced"
    """Its owner replaced or removed it."""


class Verb(StrEnum):
    """UNDO reverses an earlier opt-out; CAP is a frequency limit."""

    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    UNDO = "undo"
    PAUSE = "pause"
    CAP = "cap"
    SUPPRESS = "suppress"
    LIFT = "lift"


LIMIT_VERBS: Final = frozenset({Verb.PAUSE, Verb.CAP})


class Purpose(StrEnum):
    """A use of data besides sending, with a preference of its own.

    Used in place of a topic in acts, entries and decisions; topic slugs cannot begin with `@`. A purpose belongs to the
    person, so it is recorded under email whatever the channel.
    """

    TRACKING = "@tracking"
    PROFILING = "@profiling"
    LOCATION = "@location"
    NEW_TOPICS = "@new-topics"


class Actor(StrEnum):
    RECIPIENT = "recipient"
    PROVIDER = "provider"
    STAFF = "staff"
    SYSTEM = "system"


class OneClick(StrEnum):
    """What one-click unsubscribe stops: a setting of the brand."""

    EVERYTHING = "everything"
    TOPIC = "topic"


class Origin(StrEnum):
    """Our own origins. For a connector's entries see `connector_origin`, for an API key's `api_origin`."""

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
    return f"{_CONNECTOR}{name}"


def is_connector(origin: str) -> bool:
    return origin.startswith(_CONNECTOR)


def is_reported(origin: str) -> bool:
    """Whether acts of this origin are reported, with a time of their own. Acts of the other origins happen when they
    are recorded."""
    return origin not in _OWN_ORIGINS


_OWN_ORIGINS: Final = frozenset(Origin) - {Origin.IMPORT}


def api_origin(key_name: str) -> str:
    """The origin of what is reported with this API key; rotation keeps it."""
    return f"api.{key_name}"


def named_in(origin: str) -> str | None:
    """The connector, API key or staff member in an origin such as `api.shop`, if any."""
    return origin.partition(".")[2] or None


class KeyScope(StrEnum):
    """What an API key may be used for."""

    DECISIONS = "decisions"
    LINKS = "links"
    HAND_OFFS = "hand-offs"
    """Can sign in as any contact. Given only by name."""
    CONTACTS = "contacts"
    ACTS = "acts"
    RETURNS = "returns"
    """Opt-ins may reverse opt-outs. Given only by name."""
    UNSUPPRESS = "unsuppress"
    """May lift suppressions. Given only by name."""
    SUPPRESSIONS = "suppressions"
    ENTRIES = "entries"
    TOPICS = "topics"


DEFAULT_SCOPES: Final = frozenset(KeyScope) - {KeyScope.RETURNS, KeyScope.HAND_OFFS, KeyScope.UNSUPPRESS}
"""The scopes of a new key, unless others are given."""


class Relation(StrEnum):
    """Where an address came from, as far as it decides who may sign in with it."""

    KNOWN = "known"
    UNCONFIRMED = "unconfirmed"
    """Added to a contact by a system. No sign-in until the contact confirms it."""
    STRANGER = "stranger"
    """Only typed into an opt-out or sign-up form. No sign-in."""
