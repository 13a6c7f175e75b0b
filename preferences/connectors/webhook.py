"""Standard Webhooks in both directions: https://github.com/standard-webhooks/standard-webhooks.

Pushes are signed with every secret in `signing_secrets`, so a receiver can rotate them; reports with any in
`webhook_secrets`. Bodies and endpoints: docs/connectors.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook

from preferences.config import STANDARD_SECRET, ConnectorSettings, is_standard_secret
from preferences.connectors.base import Connector, Listed, Options, Parsed, Push, Refusal
from preferences.connectors.http import json_body
from preferences.connectors.lists import rows_of
from preferences.connectors.parsing import ODD, event_id, find_address, read_json
from preferences.domain.acts import EventKind, ProviderEvent
from preferences.domain.errors import BadPayload, BadSignature, Misconfigured, TryLater
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel, Status

PAGE: Final = 1_000
MOST_PAGES: Final = 10
"""Pages read to find single addresses."""

_WISHES: Final = (EventKind.UNSUBSCRIBE, EventKind.SUPPRESSION_ADDED)
KINDS: Final = {kind.value: kind for kind in (*_WISHES, EventKind.HARD_BOUNCE, EventKind.COMPLAINT, EventKind.INVALID)}
"""The kinds in our own protocol (docs/connectors.md)."""


class WebhookOptions(Options):
    """`search`: whether the receiver answers `POST /suppressions/search`; otherwise its list is read."""

    search: bool = False


class WebhookConnector(Connector):
    """Our own protocol, for systems without a connector."""

    can_lift = True
    lift_size = 20
    channels = frozenset(Channel)
    options_type = WebhookOptions
    options: WebhookOptions

    @classmethod
    def require_secrets(cls, settings: ConnectorSettings) -> None:
        require_standard_secrets(settings)

    def verify(self, headers: Mapping[str, str], body: bytes, *, url: str = "") -> None:
        verify_standard(self.settings.webhook_secrets, headers, body)

    def parse(self, headers: Mapping[str, str], body: bytes) -> Parsed:
        try:
            message = read_json(body)
            kind = KINDS.get(message["type"])
            event = None if kind is None else self._event(kind, message, headers["webhook-id"])
        except ODD:
            raise BadPayload("not as docs/connectors.md describes it") from None
        return Parsed([event], 0) if event else Parsed([], 1)

    def _event(self, kind: EventKind, message: dict[str, Any], message_id: str) -> ProviderEvent | None:
        data = message["data"]
        topic = self.topic_of(data.get("list", "")) if kind in _WISHES else ""
        address = find_address(Channel(data.get("channel", "email")), data["address"])
        if address is None:
            raise ValueError("no address")
        if topic is None:
            return None
        return ProviderEvent(
            kind=kind,
            address=address,
            event_id=event_id(message_id),
            occurred_at=_instant(message.get("timestamp")),
            brand=self.settings.brand,
            topic=topic,
        )

    def push(self, pushes: Sequence[Push]) -> Sequence[Refusal]:
        now = datetime.now(UTC)
        message = {
            "type": "preferences.changed",
            # The newest time, so that every retry has the same bytes.
            "timestamp": max(push.since for push in pushes).isoformat(),
            "data": {"changes": [_change(push) for push in pushes]},
        }
        body = json.dumps(message, separators=(",", ":")).encode()
        answer = self.session.call(
            "POST", f"{self.settings.base_url}/preferences", headers=self._signed(body, now), body=body
        )
        return _refusals(answer, pushes)

    def held(self, lifts: Sequence[Push]) -> list[Listed]:
        """Empty, so that nothing is lifted, without a list or with one that is too long."""
        addresses = {lift.address for lift in lifts}
        try:
            rows = self._search(addresses) if self.options.search else self._short_list()
        except Misconfigured:
            # A receiver without a list still takes pushes: do not pause it.
            return []
        return [row for row in rows if row.address in addresses]

    def _short_list(self) -> list[Listed]:
        pages = list(islice(self._pages(), MOST_PAGES + 1))
        return [] if len(pages) > MOST_PAGES else [row for page in pages for row in page]

    def _search(self, addresses: Collection[Address]) -> list[Listed]:
        wanted = [{"channel": address.channel.value, "address": address.value} for address in addresses]
        headers = self._authorization | {"Content-Type": "application/json"}
        url = f"{self.settings.base_url}/suppressions/search"
        answer = self.session.call("POST", url, headers=headers, body=json_body({"addresses": wanted}))
        return _rows(answer)

    def list_suppressed(self) -> Iterator[Listed]:
        for page in self._pages():
            yield from page

    def _pages(self) -> Iterator[list[Listed]]:
        after = ""
        while True:
            params = {"limit": str(PAGE)} | ({"after": after} if after else {})
            url = f"{self.settings.base_url}/suppressions"
            page = self.session.call("GET", url, headers=self._authorization, params=params)
            yield _rows(page)
            following = page.get("next")
            if not following or str(following) == after:
                return
            after = str(following)

    @property
    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.settings.api_key}"}

    def _signed(self, body: bytes, now: datetime) -> dict[str, str]:
        # Derived from the content, so that retries have the same id.
        message_id = f"msg_{hashlib.sha256(body).hexdigest()[:32]}"
        return signed_headers(self.settings.signing_secrets, message_id, body, now=now)


def signed_headers(secrets: Sequence[str], message_id: str, body: bytes, *, now: datetime) -> dict[str, str]:
    """The headers of a JSON message, signed with every secret. Raises Misconfigured."""
    if not secrets:
        raise Misconfigured("signing_secrets is empty")
    try:
        signatures = [Webhook(secret).sign(message_id, now, body.decode()) for secret in secrets]
    except (ValueError, EmptyWebhookSecretError):
        raise Misconfigured("signing_secrets holds something that is not whsec_ and base64") from None
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def require_standard_secrets(settings: ConnectorSettings) -> None:
    """Raises Misconfigured unless each is a Standard Webhooks secret, with or without `whsec_`.

    The library accepts any text; with a public key (`whpk_…`) anybody could sign.
    """
    for field, secrets in (
        ("webhook_secrets", settings.webhook_secrets),
        ("signing_secrets", settings.signing_secrets),
    ):
        if not all(is_standard_secret(f"whsec_{secret.removeprefix('whsec_')}") for secret in secrets):
            raise Misconfigured(f"connector {settings.name}: {field}: {STANDARD_SECRET}")


def verify_standard(secrets: Sequence[str], headers: Mapping[str, str], body: bytes) -> None:
    """Raises only BadSignature, unless a secret matches: Standard Webhooks, "Signature scheme"."""
    # The library's window of five minutes fits, as each attempt is signed afresh. Malformed headers make it raise
    # ValueError and binascii.Error.
    for secret in secrets:
        try:
            Webhook(secret).verify(body, dict(headers), json_parse=False)
        except Exception:  # noqa: S112, BLE001 - any failure is a mismatch
            continue
        return
    raise BadSignature("no secret fits")


def _change(push: Push) -> dict[str, Any]:
    status = "suppressed" if push.reason else push.status.value
    return {
        "contact": str(push.contact_id),
        "channel": push.address.channel.value,
        "address": push.address.value,
        "list": push.list_ref,
        "status": status if push.status is Status.UNSUBSCRIBED else push.status.value,
        "reason": push.reason and push.reason.value,
        "entry": push.entry,
        "since": push.since.isoformat(),
    }


def _refusals(answer: Any, pushes: Sequence[Push]) -> list[Refusal]:
    rejected = answer.get("rejected", []) if isinstance(answer, dict) else []
    try:
        reasons = {str(item["contact"]): str(item.get("why", ""))[:200] for item in rejected}
    except (TypeError, KeyError, AttributeError):
        raise TryLater("an answer that is not as described") from None
    ids = {push.contact_id for push in pushes}
    return [Refusal(contact_id, reasons[str(contact_id)]) for contact_id in sorted(ids) if str(contact_id) in reasons]


def _rows(page: Any) -> list[Listed]:
    """Raises TryLater if the page is malformed."""
    if not isinstance(page, dict):
        raise TryLater("a list that is not as described")
    try:
        rows = [_listed(row) for row in rows_of(page.get("suppressions"))]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise TryLater("a list that is not as described") from None
    return [row for row in rows if row is not None]


def _listed(row: Mapping[str, Any]) -> Listed | None:
    kind = KINDS.get(row.get("kind", ""))
    if kind is None:
        return None
    address = find_address(Channel(row.get("channel", "email")), row["address"])
    if address is None:
        return None
    return Listed(address=address, list_ref=str(row["list"]), kind=kind, occurred_at=_instant(row.get("occurred_at")))


def _instant(text: Any) -> datetime | None:
    """An ISO 8601 time with a zone, else None (the time of receipt counts)."""
    try:
        instant = datetime.fromisoformat(text)
        return instant.astimezone(UTC) if instant.tzinfo else None
    except (ValueError, TypeError, OverflowError):
        return None
