"""What every connector is: four verbs, and how calls to a provider can fail.

Owns the vocabulary between `sync` and the providers, and the HTTP session. A connector translates and calls; it knows
neither the database nor the web framework. Invariant: pushes state what is so, they never toggle, so repeating one is
harmless.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, Final
from uuid import UUID

from preferences.config import ConnectorSettings
from preferences.domain.acts import EventKind, ProviderEvent
from preferences.domain.errors import Misconfigured, Rejected, TryLater
from preferences.domain.terms import Address, Status, SuppressionReason

TIMEOUT: Final = (3.05, 10.0)
"""Seconds to connect and to wait for an answer. Well below a lease, so that no pass outlives its own."""

LONGEST_WAIT: Final = 3600.0
"""The most seconds that a provider's Retry-After can keep us away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """What a provider shall hold about one address on one of its lists.

    `list_ref` is the provider's own name of the list (the right side of the topic mapping). `status` UNSUBSCRIBED
    means: do not send; SUBSCRIBED: lift that. `reason` says that it is a suppression and not a wish. `entry` is the
    ledger entry behind it.
    """

    contact_id: UUID
    address: Address
    list_ref: str
    status: Status
    reason: SuppressionReason | None
    since: datetime
    entry: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """One contact that a provider will not take, in a batch that it otherwise took."""

    contact_id: UUID
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One row of a provider's suppression list."""

    address: Address
    list_ref: str
    kind: EventKind
    occurred_at: datetime | None


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a webhook's body holds: events we record, and how many others there were."""

    events: Sequence[ProviderEvent]
    ignored: int


class Connector(ABC):
    """One provider. Subclasses set the constants and write the four verbs."""

    busy_code: int = 503
    """What this provider takes for "send it again"."""
    refused_code: int = 401
    """What this provider takes for "not authentic"."""
    batch_size: int = 500
    can_lift: bool = False
    """Whether a person's own return may be told to this provider."""

    def __init__(self, settings: ConnectorSettings) -> None:
        self.settings = settings
        self.name = settings.name
        self._topics = {list_ref: topic for topic, list_ref in settings.topics.items()}

    @cached_property
    def session(self) -> Session:
        """The HTTP session, opened with the first call."""
        return Session()

    @property
    def takes_webhooks(self) -> bool:
        """Without a secret nothing can be authentic, so there is no door."""
        return bool(self.settings.webhook_secrets)

    def topic_of(self, list_ref: str) -> str | None:
        """Our topic for a provider's list, or None where none is mapped."""
        return self._topics.get(list_ref)

    @abstractmethod
    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Raises BadSignature, and nothing else, unless the raw bytes are authentic and fresh."""

    @abstractmethod
    def parse(self, headers: Mapping[str, str], body: bytes) -> Parsed:
        """The events in a verified request. Raises BadPayload, and nothing else, when it is not as documented."""

    @abstractmethod
    def push(self, pushes: Sequence[Push]) -> Sequence[Refusal]:
        """Tell the provider, at most `batch_size` at a time. Raises TryLater, Rejected or Misconfigured."""

    @abstractmethod
    def list_suppressed(self) -> Iterator[Listed]:
        """Everything the provider suppresses, page by page. Raises as `push` does."""


class Session:
    """Calls to one provider: time-outs, no redirects, and each failure put into its class."""

    def __init__(self) -> None:
        # Here and not above: web processes only verify and parse, and are spared the memory.
        import requests

        self._session = requests.Session()

    def call(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Any:
        """The decoded JSON of a 2xx answer (None when empty). Raises TryLater, Rejected or Misconfigured."""
        import requests

        try:
            answer = self._session.request(
                method,
                url,
                headers=dict(headers),
                data=body,
                params=params,
                timeout=TIMEOUT,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            # Only the kind: the text of these errors quotes addresses and parameters.
            raise TryLater(type(error).__name__) from None
        raise_for(answer.status_code, answer.headers.get("Retry-After"))
        try:
            return answer.json() if answer.content else None
        except (ValueError, RecursionError):
            raise TryLater("an answer that is not JSON") from None


def raise_for(status: int, retry_after: str | None) -> None:
    """The failure class of an HTTP status: 2xx none; 408, 425, 429 and 5xx pass; 400, 409, 413 and 422 are about what
    was sent; redirects and every other 4xx are ours to mend."""
    if 200 <= status < 300:
        return
    if status in {408, 425, 429} or status >= 500:
        raise TryLater(f"answer {status}", after=seconds_to_wait(retry_after, datetime.now(UTC)))
    if status in {400, 409, 413, 422}:
        raise Rejected(f"answer {status}")
    raise Misconfigured(f"answer {status}: check address, key and mapping")


def seconds_to_wait(retry_after: str | None, now: datetime) -> float | None:
    """What Retry-After asks for (RFC 9110 §10.2.3: seconds or a date), at most an hour; None if it says nothing."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(retry_after) - now).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), LONGEST_WAIT)
