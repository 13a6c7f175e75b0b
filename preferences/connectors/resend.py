"""Resend: Standard Webhooks (Svix headers) in; contacts, topics and suppressions out.

Source: Resend's pages on webhooks, contacts, topics and suppressions, and resend/resend-openapi, read 2026-11-23.
Invariants: an event of a message to several recipients is ignored; opt-outs are never lifted, as they have no time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

from preferences.config import ConnectorSettings
from preferences.connectors.amazon_ses import bounce_kind
from preferences.connectors.base import Connector, Listed, Options, Parsed, Push, Refusal
from preferences.connectors.http import json_body
from preferences.connectors.lists import push_each, require_lists, rows_of
from preferences.connectors.parsing import ODD, event_id, find_address, instant, objects, part, read_json, text_in
from preferences.connectors.webhook import require_standard_secrets, verify_standard
from preferences.domain.acts import EventKind, ProviderEvent
from preferences.domain.errors import BadPayload, TryLater
from preferences.domain.records import Address
from preferences.domain.vocabulary import BLANKET, Channel, SuppressionReason

EVENTS: Final = {
    "email.complained": EventKind.COMPLAINT,
    "email.delivery_delayed": EventKind.DEFERRED,
    "email.suppressed": EventKind.SEND_SUPPRESSED,
    "contact.deleted": EventKind.CONTACT_DELETED,
}
PASSING: Final = ("might be able to", "general bounce", "inbox was full")
"""Text of soft bounces in reports without a type (resend.com/docs/webhooks/emails,
/docs/dashboard/emails/email-bounces; django-anymail; 2026-11-30).
"""
WITHHELD: Final = "suppression list"
"""Text of a bounce where nothing was sent (the same pages)."""

ORIGINS: Final = {"bounce": EventKind.HARD_BOUNCE, "complaint": EventKind.COMPLAINT}
"""Suppressions of other origins, by hand or by us, are opt-outs."""

UNDELIVERABLE: Final = frozenset({SuppressionReason.HARD_BOUNCE, SuppressionReason.INVALID})
GLOBAL: Final = "global"
LIST: Final = re.compile(r"global|topic:[0-9A-Za-z-]{1,60}")
PAGE: Final = 100


class ResendOptions(Options):
    """`suppressions`: whether this account has the suppression list (a beta)."""

    suppressions: bool = False


class Resend(Connector):
    """`global` is the contact's switch for all broadcasts; `topic:ID` a topic."""

    batch_size = 10
    calls_per_second = 2.0
    options_type = ResendOptions
    options: ResendOptions

    def __init__(self, settings: ConnectorSettings) -> None:
        super().__init__(settings)
        require_lists(settings, LIST, example="topic:ID or global", everything=GLOBAL)

    @classmethod
    def require_secrets(cls, settings: ConnectorSettings) -> None:
        require_standard_secrets(settings)

    def verify(self, headers: Mapping[str, str], body: bytes, *, url: str = "") -> None:
        standard = {f"webhook-{name}": headers.get(f"svix-{name}", "") for name in ("id", "timestamp", "signature")}
        verify_standard(self.settings.webhook_secrets, standard, body)

    def parse(self, headers: Mapping[str, str], body: bytes) -> Parsed:
        try:
            message = read_json(body)
            found = list(self._events(message["type"], message["data"], at=message.get("created_at")))
        except ODD:
            raise BadPayload("not an event as Resend describes it") from None
        message_id = headers.get("svix-id") or self.digest(message)
        names = [f"{message_id}/{number}" if number else message_id for number in range(len(found))]
        events = [replace(event, event_id=event_id(name)) for event, name in zip(found, names, strict=True)]
        return Parsed(events, 0 if events else 1)

    def _events(self, name: str, data: Mapping[str, Any], *, at: object) -> Iterator[ProviderEvent]:
        for kind, list_ref in _meanings(name, data):
            is_contact = name.startswith("contact.")
            address = find_address(Channel.EMAIL, text_in(data, "email")) if is_contact else _recipient(data)
            topic = self.topic_of(list_ref) if list_ref not in {"", GLOBAL} else BLANKET
            if address is not None and topic is not None:
                yield ProviderEvent(
                    kind=kind,
                    address=address,
                    event_id=None,
                    occurred_at=instant(at),
                    brand=self.settings.brand,
                    topic=topic,
                )

    def can_compare(self, push: Push) -> bool:
        """Topics can only be read one contact at a time."""
        return push.list_ref == GLOBAL

    def push(self, pushes: Sequence[Push]) -> Sequence[Refusal]:
        lifts = [push for push in pushes if push.is_lift]
        refusals = [Refusal(push.contact_id, "Resend does not say since when an opt-out stands") for push in lifts]
        pushes = [push for push in pushes if not push.is_lift]
        dead = [push for push in pushes if self.options.suppressions and push.reason in UNDELIVERABLE]
        if dead:
            emails = sorted({push.address.value for push in dead})
            self._write("POST", "/suppressions/batch/add", {"emails": emails})
        return refusals + push_each([push for push in pushes if push not in dead], self._push_one)

    def _push_one(self, push: Push) -> None:
        contact = f"/contacts/{quote(push.address.value, safe='')}"
        if push.list_ref == GLOBAL:
            change = {"unsubscribed": True}
            if self._write("PATCH", contact, change, accept=(404,)) == 404:
                self._write("POST", "/contacts", {"email": push.address.value, **change})
            return
        choice = {"id": push.list_ref.removeprefix("topic:"), "subscription": "opt_out"}
        if self._choose(contact, choice) == 404:
            # A contact in no segment gets nothing; the opt-out holds if it joins one.
            self._write("POST", "/contacts", {"email": push.address.value})
            self._choose(contact, choice)

    def _choose(self, contact: str, choice: Mapping[str, str]) -> int:
        """Write one topic's choice: an object as documented, else a bare list as in Resend's clients."""
        status = self._write("PATCH", f"{contact}/topics", {"topics": [choice]}, accept=(400, 404, 422))
        if status in {400, 422}:
            status = self._write("PATCH", f"{contact}/topics", [choice], accept=(404,))
        return status

    def _write(self, method: str, path: str, document: Any, *, accept: Sequence[int] = ()) -> int:
        url, body = f"{self.settings.base_url}{path}", json_body(document)
        return self.session.ask(method, url, headers=self._headers, body=body, accept=accept).status

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.settings.api_key}", "Content-Type": "application/json"}

    def list_suppressed(self) -> Iterator[Listed]:
        for row in self._rows("/contacts"):
            address = find_address(Channel.EMAIL, row.get("email"))
            if address is not None and row.get("unsubscribed") is True:
                # The record's time is not that of the opt-out.
                yield Listed(address=address, list_ref=GLOBAL, kind=EventKind.UNSUBSCRIBE, occurred_at=None)
        for row in self._rows("/suppressions") if self.options.suppressions else ():
            yield from self._suppressed(row)

    def _suppressed(self, row: Mapping[str, Any]) -> Iterator[Listed]:
        address, kind = find_address(Channel.EMAIL, row.get("email")), ORIGINS.get(str(row.get("origin")))
        if address is None:
            return
        at = instant(row.get("created_at"))
        for list_ref in self.everywhere if kind else (GLOBAL,):
            yield Listed(address=address, list_ref=list_ref, kind=kind or EventKind.UNSUBSCRIBE, occurred_at=at)

    def _rows(self, path: str) -> Iterator[Mapping[str, Any]]:
        after: str | None = ""
        while after is not None:
            params = {"limit": str(PAGE)} | ({"after": after} if after else {})
            page = self.session.call("GET", f"{self.settings.base_url}{path}", headers=self._headers, params=params)
            rows = rows_of(page.get("data") if isinstance(page, dict) else None)
            yield from rows
            following = str(rows[-1].get("id")) if rows and page.get("has_more") is True else None
            if following == after:
                raise TryLater("a list that does not end")
            after = following


def _meanings(name: str, data: Mapping[str, Any]) -> Iterator[tuple[EventKind, str]]:
    """Kinds and lists of an event; "" for no list."""
    # The actor is unknown and our pushes are reported too: opt-ins are ignored, and opt-outs are not the recipient's
    # own act (resend.com/docs/webhooks/contacts and changelog, 2026-11-30).
    if name == "contact.updated" and data.get("unsubscribed") is True:
        yield EventKind.SUPPRESSION_ADDED, GLOBAL
    elif name == "contact.topics.updated":
        for topic in objects(data.get("topics")):
            if topic.get("subscription") == "opt_out":
                yield EventKind.SUPPRESSION_ADDED, f"topic:{topic.get('id')}"
    elif name == "email.bounced":
        yield _bounce(part(data, "bounce")), ""
    elif name in EVENTS:
        yield EVENTS[name], ""


def _bounce(details: Mapping[str, Any]) -> EventKind:
    """Reads types of Amazon SES, passed on by Resend. Without a type, unknown texts are hard bounces."""
    if details.get("type") is not None:
        return bounce_kind(str(details["type"]), str(details.get("subType"))) or EventKind.SOFT_BOUNCE
    message = str(details.get("message", "")).lower()
    if WITHHELD in message:
        return EventKind.SEND_SUPPRESSED
    return EventKind.SOFT_BOUNCE if any(words in message for words in PASSING) else EventKind.HARD_BOUNCE


def _recipient(data: Mapping[str, Any]) -> Address | None:
    """The recipient, or None if there are several, copies included (django-anymail, 2026-11-30)."""
    texts: list[Any] = []
    for field in ("to", "cc", "bcc"):
        found = data.get(field) or []
        texts += found if isinstance(found, list) else [found]
    if not texts:
        raise BadPayload("without to")
    addresses = {find_address(Channel.EMAIL, text) for text in texts if text is not None}
    return addresses.pop() if len(addresses) == 1 else None
