"""The contract of a connector and its values.

A connector knows neither the database nor the web framework. Invariant: a push states the current state and never
toggles, so repeating it is harmless.
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
"""The allowed lead of a provider's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """The state that a provider must hold for one address on one of its lists.

    UNSUBSCRIBED stops mail; SUBSCRIBED lifts an opt-out. `reason` marks a suppression. `since` is the time of ledger
    entry `entry`. `undoes` is the time of the opt-out or suppression being undone; older ones stay.
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
        return self.status is not Status.UNSUBSCRIBED


@dataclass(frozen=True, slots=True)
class Refusal:
    contact_id: UUID
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A row of a provider's suppression list.

    `occurred_at` is the time of the opt-out, else of the record's last change, or None.
    """

    address: Address
    list_ref: str
    kind: EventKind
    occurred_at: datetime | None


@dataclass(frozen=True, slots=True)
class Parsed:
    """The events in a report.

    `ignored` counts irrelevant rows; `unreadable` malformed ones, which may be opt-outs. `token` is set if the
    signature does not cover the body: it is accepted with one body. `token_of` identifies the signing key.
    """

    events: Sequence[ProviderEvent]
    ignored: int
    token: str | None = None
    token_of: str = ""
    unreadable: int = 0


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, extra="forbid", defer_build=True)


class Connector(ABC):
    """One provider. Subclasses implement `verify`, `parse`, `push` and `list_suppressed`."""

    busy_code: int = 503
    """The status that makes the provider retry."""
    refused_code: int = 401
    """The status for an unauthentic report."""
    freshness: timedelta = timedelta(minutes=5)
    """The maximum age of a signed time: short if retries are signed afresh, else the retry horizon."""
    batch_size: int = 500
    """Pushes in a call, which must take far less than a cursor claim (30 s)."""
    lift_size: int = 1
    """Addresses lifted after one call of `held`."""
    dates_change_together: bool = False
    """Whether `held` dates the whole record, which our pushes change."""
    calls_per_second: float = 0.0
    """The rate limit; 0 for none."""
    can_lift: bool = False
    """Requires that `held` dates opt-outs."""
    taken_off: frozenset[SuppressionReason] = frozenset()
    """Reasons whose suppressions can be removed at the provider."""
    can_list: bool = True
    """Whether suppressions can be listed and compared."""
    channels: frozenset[Channel] = frozenset({Channel.EMAIL})
    """Addresses of other channels are not pushed."""
    longest_body: int = 256 * 1024
    """In bytes."""
    signs_body: bool = True
    needs_length: bool = False
    """Requires a Content-Length, for unsigned bodies that still parse when truncated."""
    accepted: tuple[str, str] = ("recorded\n", "text/plain")
    """Body and media type of the answer to a recorded report."""
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
        """Raises Misconfigured for a secret that cannot be of this kind."""

    @cached_property
    def session(self) -> Session:
        return Session(self.calls_per_second)

    @property
    def takes_webhooks(self) -> bool:
        """Without a secret no report is authentic."""
        return bool(self.settings.webhook_secrets)

    def topic_of(self, list_ref: str) -> str | None:
        return self._topics.get(list_ref)

    @property
    def everywhere(self) -> tuple[str, ...]:
        """The lists for a suppression: the one for everything, else all."""
        topics = self.settings.topics
        return (topics[BLANKET],) if BLANKET in topics else tuple(topics.values())

    def digest(self, *parts: object) -> str:
        """An event id, keyed with the first secret since its parts could be guessed."""
        key = self.settings.webhook_secrets[0] if self.settings.webhook_secrets else self.name
        canonical = json.dumps(parts, sort_keys=True, default=str)
        return hmac.new(key.encode("utf-8", "replace"), canonical.encode(), hashlib.sha256).hexdigest()

    def lifts_from(self, list_ref: str) -> bool:
        """Override where the provider's lists differ."""
        return self.can_lift

    def held(self, lifts: Sequence[Push]) -> Iterable[Listed]:
        """The rows held now for these pushes. Raises as `push` does.

        Override where single addresses can be queried.
        """
        addresses = {lift.address for lift in lifts}
        return [row for row in self.list_suppressed() if row.address in addresses]

    def take_off(self, push: Push) -> None:
        """Remove the suppression for `push.reason` if older than `push.since`; never an opt-out.

        Raises as `push` does, and Rejected if it must stay.
        """
        raise Rejected("this provider's suppressions are taken off by hand")

    def can_compare(self, push: Push) -> bool:
        """Whether `list_suppressed` would show this push."""
        return self.can_list

    def require_fresh(self, signed_at: datetime) -> None:
        """Raises BadSignature for a time older than `freshness` or too far ahead."""
        age = datetime.now(UTC) - signed_at
        if not -MOST_AHEAD <= age <= self.freshness:
            raise BadSignature("signed too long ago, or ahead of time")

    def is_handshake(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Complete the provider's handshake if this verified request is one. Returns whether it was.

        Raises TryLater, Rejected, Misconfigured or BadSignature.
        """
        return False

    def probe(self) -> Sequence[str]:
        """Make a dry call. Returns mapping problems. Raises as `push` does."""
        if self.can_list:
            list(islice(self.list_suppressed(), 1))
        return []

    @abstractmethod
    def verify(self, headers: Mapping[str, str], body: bytes, *, url: str = "") -> None:
        """Raises only BadSignature, unless the raw bytes are authentic and fresh.

        Header names are in lower case. `url` is our public URL with the request's query.
        """

    @abstractmethod
    def parse(self, headers: Mapping[str, str], body: bytes) -> Parsed:
        """The events in a verified request.

        Raises BadPayload if nothing can be read, TryLater if a provider call fails. Malformed events are only counted.
        """

    @abstractmethod
    def push(self, pushes: Sequence[Push]) -> Sequence[Refusal]:
        """Push at most `batch_size`. Raises TryLater, Rejected or Misconfigured.

        Opt-outs to lift were just read with `held` and precede the opt-in. A Rejected batch is halved.
        """

    @abstractmethod
    def list_suppressed(self) -> Iterator[Listed]:
        """Yield everything suppressed. Raises as `push` does.

        A malformed page raises TryLater: a partial list would look like drift.
        """


def _options(settings: ConnectorSettings, kind: type[Options]) -> Options:
    try:
        return kind.model_validate(dict(settings.options))
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
        problems = "; ".join(f"options.{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in details)
        raise Misconfigured(f"connector {settings.name}: {problems}") from None
