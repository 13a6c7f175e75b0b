"""What every connector is: four verbs, its provider's own numbers and codes, and small help to write one.

Owns the vocabulary between `sync`, the webhook door and the providers. A connector translates and calls; it knows
neither the database nor the web framework. Invariant: pushes state what is so, they never toggle, so repeating one is
harmless.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice
from typing import Any, ClassVar, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from preferences.address_parsing import read_address, read_mailbox
from preferences.config import ConnectorSettings
from preferences.connectors.http import Session
from preferences.domain.acts import EventKind, ProviderEvent
from preferences.domain.errors import BadAddress, BadSignature, Misconfigured, Rejected, TryLater
from preferences.domain.records import Address
from preferences.domain.vocabulary import BLANKET, Channel, Status, SuppressionReason

LONGEST_ID: Final = 200
MOST_AHEAD: Final = timedelta(minutes=5)
"""How far a provider's clock may be ahead of ours: refuse more than that, whoever sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """What a provider shall hold about one address on one of its lists.

    `list_ref` is the provider's own name of the list (the right side of the topic mapping). `status` UNSUBSCRIBED
    means: do not send; SUBSCRIBED: lift that. `reason` says that it is a suppression and not a wish. `since` is when it
    was said, never when we learned of it. `entry` is the ledger entry behind it. `undoes` is when that was said which
    an undo, or an address that is taken back, puts an end to: it lifts that, and nothing that stood there before.
    """

    contact_id: UUID
    address: Address
    list_ref: str
    status: Status
    reason: SuppressionReason | None
    since: datetime
    entry: int
    undoes: datetime | None = None

    @property
    def is_lift(self) -> bool:
        """Whether it takes a no away, since the person came back."""
        return self.status is not Status.UNSUBSCRIBED


@dataclass(frozen=True, slots=True)
class Refusal:
    """One contact that a provider will not take, in a batch that it otherwise took."""

    contact_id: UUID
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One row of a provider's suppression list.

    `occurred_at` is the time that the provider gives: that of the opt-out, or, where it keeps none, that of the last
    change of the record, which is never earlier. None where it gives no time.
    """

    address: Address
    list_ref: str
    kind: EventKind
    occurred_at: datetime | None


OPT_OUTS: Final = frozenset({EventKind.UNSUBSCRIBE, EventKind.SUPPRESSION_ADDED})
"""What stands on a list as somebody's no, whoever said it."""


def may_lift(lift: Push, held: Sequence[Listed]) -> bool:
    """Whether an opt-in may take away what the provider holds against its address on its list at this moment.

    Only if every opt-out there is older than the opt-in: an equally old one stays, and so does one without a time. For
    an undo, or an address that is taken back, what stood there before that which it ends stays as well. A bounce or a
    complaint is no opt-out and is never lifted. Where nothing is held there is nothing to take away, and nothing is
    written.
    """
    here = [row for row in held if (row.address, row.list_ref) == (lift.address, lift.list_ref)]
    rows = [row for row in here if row.kind in OPT_OUTS]
    return bool(rows) and all(_is_older(row, lift.since) and not _stood_before(row, lift.undoes) for row in rows)


def _stood_before(row: Listed, undone: datetime | None) -> bool:
    """Whether a row is of another opt-out than the one undone, as far as clocks agree."""
    if undone is None or row.occurred_at is None:
        return False
    return _last_moment(row.occurred_at) < undone - MOST_AHEAD


def require_older(found: Sequence[datetime | None], decided_at: datetime) -> bool:
    """Whether a provider holds something against an address that was decided to be lifted. Raises Rejected unless all
    of it is older than that decision: what is newer, or has no time, is news that we have not heard of."""
    if not all(at is not None and _last_moment(at) < decided_at for at in found):
        raise Rejected("what stands there is newer than the lift, or does not say since when")
    return bool(found)


def _is_older(row: Listed, opted_in_at: datetime) -> bool:
    return row.occurred_at is not None and _last_moment(row.occurred_at) < opted_in_at


def _last_moment(at: datetime) -> datetime:
    """The end of the second, or of the millisecond, where a provider writes no more than that."""
    if at.microsecond == 0:
        return at + timedelta(microseconds=999_999)
    return at + timedelta(microseconds=999) if at.microsecond % 1_000 == 0 else at


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a webhook's body holds: events in our words, and how many others there were.

    `ignored` counts what was understood and is nothing for us. `unreadable` counts rows of a batch that are not as
    documented: what they say is not known, and it may be an opt-out.

    `token` is for a signature that does not cover the body: the door binds it to the first body that it came with, and
    refuses any other. `token_of` stands for the key that signed it, since another connector may have the same key, and
    what was used there is used.
    """

    events: Sequence[ProviderEvent]
    ignored: int
    token: str | None = None
    token_of: str = ""
    unreadable: int = 0


class Options(BaseModel):
    """What one kind of connector needs beyond what all have: its `[connectors.NAME.options]`. Empty by default."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, extra="forbid")


class Connector(ABC):
    """One provider. Subclasses set the constants that are not theirs by default, and write the four verbs."""

    busy_code: int = 503
    """What this provider takes for "send it again"."""
    refused_code: int = 401
    """What this provider takes for "not authentic"."""
    freshness: timedelta = timedelta(minutes=5)
    """How old a signed time may be: five minutes where each attempt is signed afresh, else the retry horizon."""
    batch_size: int = 500
    """The most pushes at a time. What they take at this pace must stay well below a lease (30 s)."""
    lift_size: int = 1
    """The most addresses whose opt-outs are lifted at a time: `held` is read once for them, directly before."""
    dates_change_together: bool = False
    """Whether `held` gives one time for the whole record of an address, which each of our own pushes moves."""
    calls_per_second: float = 0.0
    """The provider's limit; 0 where it has none that we could meet."""
    can_lift: bool = False
    """Whether an opt-out may be taken away here: only where `held` can say since when it stands."""
    taken_off: frozenset[SuppressionReason] = frozenset()
    """For which reasons a suppression can be read and taken off here, when somebody has lifted it."""
    can_list: bool = True
    """Whether its suppressions can be read; without that there is nothing to compare."""
    channels: frozenset[Channel] = frozenset({Channel.EMAIL})
    """What it sends by: addresses of other channels are not told to it."""
    longest_body: int = 256 * 1024
    """Bytes in a report, at most: what is longer is not read. A quarter of a megabyte where one report is one event."""
    signs_body: bool = True
    """Whether the proof needs the body. Where it does not, nothing is read from somebody who does not have it."""
    needs_length: bool = False
    """Whether a body must say how long it is: where nothing signs it, and half of it can be read as well."""
    accepted: tuple[str, str] = ("recorded\n", "text/plain")
    """What it is answered when a report is recorded, and of which type."""
    options_type: ClassVar[type[Options]] = Options
    options: Options

    def __init__(self, settings: ConnectorSettings) -> None:
        self.require_secrets(settings)
        self.settings = settings
        self.name = settings.name
        self.options = _options(settings, self.options_type)
        self._topics = {list_ref: topic for topic, list_ref in settings.topics.items()}

    @classmethod  # noqa: B027 - most kinds take any text
    def require_secrets(cls, settings: ConnectorSettings) -> None:
        """Raises Misconfigured where a secret cannot be one of this kind. Asked when the process starts as well."""

    @cached_property
    def session(self) -> Session:
        """The HTTP session, opened with the first call."""
        return Session(self.calls_per_second)

    @property
    def takes_webhooks(self) -> bool:
        """Without a secret nothing can be authentic, so there is no door."""
        return bool(self.settings.webhook_secrets)

    def topic_of(self, list_ref: str) -> str | None:
        """Our topic for a provider's list, or None where none is mapped."""
        return self._topics.get(list_ref)

    @property
    def everywhere(self) -> tuple[str, ...]:
        """The lists on which a suppression of the address itself stands: that for everything, or else each."""
        topics = self.settings.topics
        return (topics[BLANKET],) if BLANKET in topics else tuple(topics.values())

    def digest(self, *parts: object) -> str:
        """An event's identity where the provider gives none: a digest of what it says, keyed with our first secret.

        Keyed, since it stands in the ledger, and what it is made of could be guessed.
        """
        key = self.settings.webhook_secrets[0] if self.settings.webhook_secrets else self.name
        canonical = json.dumps(parts, sort_keys=True, default=str)
        return hmac.new(key.encode("utf-8", "replace"), canonical.encode(), hashlib.sha256).hexdigest()

    def lifts_from(self, list_ref: str) -> bool:
        """Whether an opt-out may be taken off this list, where lists of one provider differ."""
        return self.can_lift

    def held(self, lifts: Sequence[Push]) -> Iterable[Listed]:
        """What the provider holds at this moment against the addresses of these pushes, on their lists. Raises as
        `push` does.

        This one looks through the whole list: override it where the provider can be asked about one address.
        """
        addresses = {lift.address for lift in lifts}
        return [row for row in self.list_suppressed() if row.address in addresses]

    def take_off(self, push: Push) -> None:
        """Take the provider's own suppression for `push.reason` off the address, if it is older than `push.since`, and
        nothing that is a wish. Called for `taken_off` alone. Raises as `push` does, and Rejected where it must stay."""
        raise Rejected("this provider's suppressions are taken off by hand")

    def can_compare(self, push: Push) -> bool:
        """Whether `list_suppressed` would show what this push told. Where not, a comparison leaves it out."""
        return self.can_list

    def require_fresh(self, signed_at: datetime) -> None:
        """Raises BadSignature when a signed time is older than this provider's own, or ahead of ours."""
        age = datetime.now(UTC) - signed_at
        if not -MOST_AHEAD <= age <= self.freshness:
            raise BadSignature("signed too long ago, or ahead of time")

    def is_handshake(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether this verified request is the provider's greeting, which is then done with.

        Where greeting back takes a call, it is made here. Raises TryLater, Rejected, Misconfigured or BadSignature.
        """
        return False

    def probe(self) -> Sequence[str]:
        """A dry call with the connector's own key; returns what is wrong with the mapping. Raises as `push` does."""
        if self.can_list:
            list(islice(self.list_suppressed(), 1))
        return []

    @abstractmethod
    def verify(self, headers: Mapping[str, str], body: bytes, *, url: str = "") -> None:
        """Raises BadSignature, and nothing else, unless the raw bytes are authentic and fresh.

        Names of `headers` are in small letters. `url` is our public address as the provider has it, with the query
        that came with this request.
        """

    @abstractmethod
    def parse(self, headers: Mapping[str, str], body: bytes) -> Parsed:
        """The events in a verified request. Raises BadPayload, and nothing else, when nothing in it can be read; and
        TryLater where the provider has to be asked first and does not answer.

        One event in a batch that cannot be read is counted as unreadable, and does not take the others with it. A
        mistake in the connector itself is none of the report's: what it raises reaches the door, which asks for the
        report again.
        """

    @abstractmethod
    def push(self, pushes: Sequence[Push]) -> Sequence[Refusal]:
        """Tell the provider, at most `batch_size` at a time. Raises TryLater, Rejected or Misconfigured.

        Opt-outs that it is to lift have been read with `held` directly before, and are older than the opt-in.
        Rejected is about a batch as a whole, which is then halved; what is known to be about one contact is a Refusal.
        """

    @abstractmethod
    def list_suppressed(self) -> Iterator[Listed]:
        """Everything the provider suppresses, page by page. Raises as `push` does.

        A page that is not as documented is TryLater and never the end of the list: half a list would look like drift.
        """


def _options(settings: ConnectorSettings, kind: type[Options]) -> Options:
    try:
        return kind.model_validate(dict(settings.options))
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
        problems = "; ".join(f"options.{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in details)
        raise Misconfigured(f"connector {settings.name}: {problems}") from None


# Help for those who write one.


def require_lists(settings: ConnectorSettings, pattern: re.Pattern[str], *, example: str, everything: str = "") -> None:
    """Raises Misconfigured unless each list is named as this provider names them, and the one that stops everything
    stands for no single topic."""
    for topic, list_ref in settings.topics.items():
        if everything and list_ref == everything and topic != BLANKET:
            raise Misconfigured(f"connector {settings.name}: {topic} maps to {everything}, which stops everything")
        if not pattern.fullmatch(list_ref):
            raise Misconfigured(f"connector {settings.name}: {topic} must map to a list such as {example}")


def by_list(pushes: Sequence[Push]) -> dict[tuple[str, bool], list[Push]]:
    """Pushes by their list, and apart those that lift: `{(list_ref, is_lift): pushes}`, in order."""
    groups: dict[tuple[str, bool], list[Push]] = {}
    for push in pushes:
        groups.setdefault((push.list_ref, push.is_lift), []).append(push)
    return groups


def one_by_one(pushes: Iterable[Push], tell: Callable[[Push], None]) -> list[Refusal]:
    """Tell each by a call of its own; one that is Rejected is a refusal, and the rest go on."""
    refusals = []
    for push in pushes:
        try:
            tell(push)
        except Rejected as failure:
            refusals.append(Refusal(push.contact_id, str(failure)))
    return refusals


def find_address(channel: Channel, text: object) -> Address | None:
    """The address in a provider's words, with or without a name beside it, or None where it is none."""
    if not isinstance(text, str):
        return None
    try:
        return read_mailbox(text) if channel is Channel.EMAIL else read_address(channel, text)
    except BadAddress:
        return None


def pages(fetch: Callable[[int], Sequence[Any]]) -> Iterator[Any]:
    """The rows of a list that is read by offset, to the first empty page. Raises TryLater where the list goes round.

    To the empty page and not to a short one: a vendor may give fewer rows at a time than it was asked for.
    """
    offset, before = 0, None
    while page := fetch(offset):
        if page == before:
            raise TryLater("a list that does not end")
        yield from page
        offset, before = offset + len(page), page


def rows_of(page: Any) -> list[Mapping[str, Any]]:
    """The objects in an answer. Raises TryLater when it is no list of objects."""
    if not isinstance(page, list) or not all(isinstance(row, dict) for row in page):
        raise TryLater("a list that is not as documented")
    return page


def event_id(text: object) -> str | None:
    """The provider's own id; one that is too long to keep is kept as its digest, so that no two ids become one."""
    if not isinstance(text, str) or not text:
        return None
    plain = text.isascii() and text.isprintable() and len(text) <= LONGEST_ID
    return text if plain else hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def instant(value: Any) -> datetime | None:
    """An instant in unix seconds, or in ISO 8601 with its zone; None for anything else, which counts from receipt."""
    try:
        if isinstance(value, str) and not value.replace(".", "", 1).isdecimal():
            at = datetime.fromisoformat(value)
            return at.astimezone(UTC) if at.tzinfo else None
        return None if isinstance(value, bool) else datetime.fromtimestamp(float(value), UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        return None
