"""The contract of a connector: its verbs, its provider's limits and codes, and the values that pass through them.

A connector translates and calls; it knows neither the database nor the web framework. Invariant: a push states what is
so and never toggles, so that repeating it is harmless.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice
from typing import ClassVar, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from preferences.config import ConnectorSettings
from preferences.connectors.http import Session
from preferences.domain.acts import EventKind, ProviderEvent
from preferences.domain.errors import BadSignature, Misconfigured, Rejected
from preferences.domain.records import Address
from preferences.domain.vocabulary import BLANKET, Channel, Status, SuppressionReason

MOST_AHEAD: Final = timedelta(minutes=5)
"""How far a provider's clock may be ahead of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """What a provider must hold about one address on one of its lists.

    `list_ref` is the provider's name of the list. `status` UNSUBSCRIBED stops mail; SUBSCRIBED lifts an opt-out.
    `reason` marks a suppression. `since` is when it occurred, `entry` its ledger entry. `undoes` is when the opt-out
    or suppression occurred that is undone: what the provider held before that stays.
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
        """Whether it lifts an opt-out."""
        return self.status is not Status.UNSUBSCRIBED


@dataclass(frozen=True, slots=True)
class Refusal:
    """A contact that a provider refuses, in a batch that it otherwise takes."""

    contact_id: UUID
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A row of a provider's suppression list.

    `occurred_at` is when the opt-out occurred, else when the record last changed, which is never earlier; None where
    the provider gives no time.
    """

    address: Address
    list_ref: str
    kind: EventKind
    occurred_at: datetime | None


@dataclass(frozen=True, slots=True)
class Parsed:
    """The events in a report.

    `ignored` counts rows that mean nothing to us, `unreadable` rows that are not as documented and may be opt-outs.
    `token` is set for a signature that does not cover the body: it is accepted with one body alone. `token_of` stands
    for the key that signed it, which connectors may share.
    """

    events: Sequence[ProviderEvent]
    ignored: int
    token: str | None = None
    token_of: str = ""
    unreadable: int = 0


class Options(BaseModel):
    """The `[connectors.NAME.options]` of one kind of connector."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, extra="forbid", defer_build=True)


class Connector(ABC):
    """One provider. Subclasses override constants and write the four verbs: verify, parse, push, list_suppressed."""

    busy_code: int = 503
    """The status that makes this provider send a report again."""
    refused_code: int = 401
    """The status for a report that is not authentic."""
    freshness: timedelta = timedelta(minutes=5)
    """The greatest age of a signed time: five minutes where each attempt is signed afresh, else the retry horizon."""
    batch_size: int = 500
    """The most pushes at a time. They must take far less time than a claim on a cursor lasts (30 s)."""
    lift_size: int = 1
    """The most addresses whose opt-outs are lifted at a time, after one call of `held`."""
    dates_change_together: bool = False
    """Whether `held` gives one time for the whole record of an address, which each push of ours changes."""
    calls_per_second: float = 0.0
    """The provider's rate limit; 0 for none that we could reach."""
    can_lift: bool = False
    """Whether opt-outs may be lifted: only where `held` knows when they occurred."""
    taken_off: frozenset[SuppressionReason] = frozenset()
    """The reasons for which an unsuppressed address can be taken off the provider's suppressions."""
    can_list: bool = True
    """Whether suppressions can be listed; otherwise there is no comparison."""
    channels: frozenset[Channel] = frozenset({Channel.EMAIL})
    """The channels it sends by. Addresses of others are not pushed."""
    longest_body: int = 256 * 1024
    """The largest report, in bytes."""
    signs_body: bool = True
    """Whether the signature covers the body. Otherwise the body is read only after verification."""
    needs_length: bool = False
    """Whether a Content-Length is required: for unsigned bodies of which a part can be parsed as well."""
    accepted: tuple[str, str] = ("recorded\n", "text/plain")
    """The answer to a recorded report, and its media type."""
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
        """Raises Misconfigured where a secret cannot belong to this kind. Also called when the process starts."""

    @cached_property
    def session(self) -> Session:
        """The HTTP session, opened by the first call."""
        return Session(self.calls_per_second)

    @property
    def takes_webhooks(self) -> bool:
        """Without a secret no report is authentic, so there is no route."""
        return bool(self.settings.webhook_secrets)

    def topic_of(self, list_ref: str) -> str | None:
        """The topic that is mapped to a list, or None."""
        return self._topics.get(list_ref)

    @property
    def everywhere(self) -> tuple[str, ...]:
        """The lists for a suppression of the address itself: the list for everything, or else all of them."""
        topics = self.settings.topics
        return (topics[BLANKET],) if BLANKET in topics else tuple(topics.values())

    def digest(self, *parts: object) -> str:
        """The id of an event without an id of the provider's.

        A digest keyed with our first secret: it is stored in the ledger, and its parts could be guessed.
        """
        key = self.settings.webhook_secrets[0] if self.settings.webhook_secrets else self.name
        canonical = json.dumps(parts, sort_keys=True, default=str)
        return hmac.new(key.encode("utf-8", "replace"), canonical.encode(), hashlib.sha256).hexdigest()

    def lifts_from(self, list_ref: str) -> bool:
        """Whether opt-outs may be lifted from this list, for providers whose lists differ."""
        return self.can_lift

    def held(self, lifts: Sequence[Push]) -> Iterable[Listed]:
        """What the provider holds now for the addresses and lists of these pushes. Raises as `push` does.

        Reads the whole list: override it where the provider can be asked about one address.
        """
        addresses = {lift.address for lift in lifts}
        return [row for row in self.list_suppressed() if row.address in addresses]

    def take_off(self, push: Push) -> None:
        """Take the provider's suppression for `push.reason` off the address if it is older than `push.since`, and no
        opt-out. Called for `taken_off` alone. Raises as `push` does, and Rejected where the suppression must stay."""
        raise Rejected("this provider's suppressions are taken off by hand")

    def can_compare(self, push: Push) -> bool:
        """Whether `list_suppressed` shows this push once it is done. Otherwise comparisons leave it out."""
        return self.can_list

    def require_fresh(self, signed_at: datetime) -> None:
        """Raises BadSignature for a signed time older than `freshness`, or too far ahead."""
        age = datetime.now(UTC) - signed_at
        if not -MOST_AHEAD <= age <= self.freshness:
            raise BadSignature("signed too long ago, or ahead of time")

    def is_handshake(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether this verified request is the provider's handshake, which is thereby completed.

        May call the provider. Raises TryLater, Rejected, Misconfigured or BadSignature.
        """
        return False

    def probe(self) -> Sequence[str]:
        """A dry call with the connector's key. Returns problems of the mapping. Raises as `push` does."""
        if self.can_list:
            list(islice(self.list_suppressed(), 1))
        return []

    @abstractmethod
    def verify(self, headers: Mapping[str, str], body: bytes, *, url: str = "") -> None:
        """Raises BadSignature, and nothing else, unless the raw bytes are authentic and fresh.

        Names of `headers` are in lower case. `url` is our public URL with the query of this request.
        """

    @abstractmethod
    def parse(self, headers: Mapping[str, str], body: bytes) -> Parsed:
        """The events in a verified request.

        Raises BadPayload where nothing can be read, and TryLater where the provider has to be asked first and does not
        answer. An event that cannot be read is counted as unreadable and does not affect the others. Any other
        exception is an error of the connector, and makes the provider send the report again.
        """

    @abstractmethod
    def push(self, pushes: Sequence[Push]) -> Sequence[Refusal]:
        """Push at most `batch_size`. Raises TryLater, Rejected or Misconfigured.

        The opt-outs that it lifts have been read with `held` directly before, and are older than the opt-in. Rejected
        is about the batch as a whole, which is then halved; a Refusal is about one contact.
        """

    @abstractmethod
    def list_suppressed(self) -> Iterator[Listed]:
        """Everything the provider suppresses, page by page. Raises as `push` does.

        A page that is not as documented raises TryLater and never ends the list: half a list would look like drift.
        """


def _options(settings: ConnectorSettings, kind: type[Options]) -> Options:
    try:
        return kind.model_validate(dict(settings.options))
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
        problems = "; ".join(f"options.{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in details)
        raise Misconfigured(f"connector {settings.name}: {problems}") from None
