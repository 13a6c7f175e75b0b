"""Brevo: transactional and marketing webhooks in, contacts out.

Source: Brevo's pages on webhooks, securing them and retries, and getbrevo/brevo-go, read 2026-11-23. Webhooks have no
signature and no id, and are retried only after a time-out or 429. Invariant: what was not stored is answered 429.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from preferences.address_parsing import read_address
from preferences.config import ConnectorSettings
from preferences.connectors.base import Listed, Parsed, Push, Refusal
from preferences.connectors.http import json_body, with_version
from preferences.connectors.lists import pages, push_each, require_lists, rows_of
from preferences.connectors.parsing import each_row, find_address, instant, read_json, text_in
from preferences.connectors.unsigned import UnsignedConnector
from preferences.domain.acts import EventKind, ProviderEvent
from preferences.domain.errors import BadAddress, BadPayload, TryLater
from preferences.domain.records import Address
from preferences.domain.vocabulary import BLANKET, Channel

EVENTS: Final = {
    "unsubscribe": EventKind.UNSUBSCRIBE,
    "unsubscribed": EventKind.UNSUBSCRIBE,
    "hardbounce": EventKind.HARD_BOUNCE,
    "invalidemail": EventKind.HARD_BOUNCE,
    "invalid": EventKind.HARD_BOUNCE,
    "softbounce": EventKind.SOFT_BOUNCE,
    "deferred": EventKind.DEFERRED,
    "spam": EventKind.COMPLAINT,
    "complaint": EventKind.COMPLAINT,
    "blocked": EventKind.SEND_SUPPRESSED,
    "contactdeleted": EventKind.CONTACT_DELETED,
}
"""Event names in lower case without underscores, since spellings differ. Left out: `list_addition` (no preference) and
`contact_updated` (mostly our own pushes).
"""

GLOBAL: Final = "global"
LIST: Final = re.compile(r"global|list:[1-9][0-9]{0,17}")
PAGE: Final = 1_000
FIRST_MILLISECOND: Final = 100_000_000_000
"""Larger values of `ts_epoch` are milliseconds; both units are documented."""


class Brevo(UnsignedConnector):
    """`global` is the contact's blocklist for campaigns; `list:ID` a list."""

    busy_code = 429
    refused_code = 401
    batch_size = 50
    calls_per_second = 8.0
    can_lift = True
    dates_change_together = True
    # Up to 500 events by default (developers.brevo.com/docs/batch-webhooks, 2026-11-30), allowing 4 KiB for each;
    # the documented ones are below 1 KiB.
    longest_body = 2 * 1024 * 1024
    channels = frozenset({Channel.EMAIL, Channel.SMS})

    def __init__(self, settings: ConnectorSettings) -> None:
        super().__init__(settings)
        require_lists(settings, LIST, example="list:12 or global", everything=GLOBAL)

    def parse(self, headers: Mapping[str, str], body: bytes) -> Parsed:
        document = read_json(body)
        rows = document if isinstance(document, list) else [document]
        if not rows:
            raise BadPayload("neither an event nor a list of them")
        return each_row(rows, self._events)

    def _events(self, row: Mapping[str, Any]) -> Iterator[ProviderEvent]:
        kind = EVENTS.get(re.sub(r"[^a-z]", "", text_in(row, "event").lower()))
        if kind is None:
            return
        address = find_address(Channel.EMAIL, text_in(row, "email"))
        if address is None:
            return
        topics = self._topics_of(row) if kind is EventKind.UNSUBSCRIBE else [BLANKET]
        for topic in topics:
            yield ProviderEvent(
                kind=kind,
                address=address,
                event_id=self.digest(row, topic),
                occurred_at=_time(row),
                brand=self.settings.brand,
                topic=topic,
            )

    def _topics_of(self, row: Mapping[str, Any]) -> list[str]:
        """The topics of the campaign's lists; without any, Brevo stops everything."""
        lists = row.get("list_id")
        numbers = lists if isinstance(lists, list) else [lists]
        named = [self.topic_of(f"list:{number}") for number in numbers]
        return [topic for topic in named if topic] or [BLANKET]

    def can_compare(self, push: Push) -> bool:
        """A contact taken off a list looks like a contact that never was on it."""
        return push.list_ref == GLOBAL

    def push(self, pushes: Sequence[Push]) -> Sequence[Refusal]:
        return push_each(pushes, self._push_one)

    def _push_one(self, push: Push) -> None:
        if push.list_ref == GLOBAL:
            self._write("POST", "", _named(push.address) | _blocked(push) | {"updateEnabled": True})
            return
        number = int(push.list_ref.removeprefix("list:"))
        change = {"listIds" if push.is_lift else "unlinkListIds": [number]}
        # An address that is no contact (404) is on no list.
        self._write("PUT", f"/{quote(push.address.value, safe='')}", change, by=push.address.channel)

    def held(self, lifts: Sequence[Push]) -> Iterator[Listed]:
        """Brevo keeps the time of the contact's last change of any kind; an opt-out is no newer."""
        for address in {lift.address for lift in lifts}:
            params = {"identifierType": "phone_id"} if address.channel is Channel.SMS else None
            url = f"{self._root}/contacts/{quote(address.value, safe='')}"
            answer = self.session.ask("GET", url, headers=self._headers, params=params, accept={404})
            if answer.status == 404:
                continue
            row = answer.document
            if not isinstance(row, dict) or address not in {_mail(row), _number(row)}:
                raise TryLater("a contact that is not as described")
            at = _last_change(row)
            on = {f"list:{number}" for number in row.get("listIds") or []}
            off = {lift.list_ref for lift in lifts if lift.address == address} - on - {GLOBAL}
            refs = {ref for held, ref in _nos(row) if held == address and ref == GLOBAL} | off
            for ref in sorted(refs):
                yield Listed(address=address, list_ref=ref, kind=EventKind.UNSUBSCRIBE, occurred_at=at)

    def _write(self, method: str, path: str, document: Any, *, by: Channel = Channel.EMAIL) -> None:
        params = {"identifierType": "phone_id"} if by is Channel.SMS else None
        url, body = f"{self._root}/contacts{path}", json_body(document)
        accept = {404} if method == "PUT" else ()
        self.session.ask(method, url, headers=self._headers, body=body, params=params, accept=accept)

    @property
    def _root(self) -> str:
        return with_version(self.settings.base_url, "api.brevo.com", "/v3")

    @property
    def _headers(self) -> dict[str, str]:
        return {"api-key": self.settings.api_key, "Content-Type": "application/json", "Accept": "application/json"}

    def probe(self) -> Sequence[str]:
        """Also check that each mapped list exists."""
        problems = list(super().probe())
        for list_ref in self.settings.topics.values():
            url = f"{self._root}/contacts/lists/{list_ref.removeprefix('list:')}"
            if list_ref != GLOBAL and self.session.ask("GET", url, headers=self._headers, accept={404}).status == 404:
                problems.append(f"there is no {list_ref}")
        return problems

    def list_suppressed(self) -> Iterator[Listed]:
        for row in pages(self._page):
            at = instant(row.get("modifiedAt"))
            for address, list_ref in _nos(row):
                yield Listed(address=address, list_ref=list_ref, kind=EventKind.UNSUBSCRIBE, occurred_at=at)

    def _page(self, offset: int) -> Sequence[Any]:
        params = {"limit": str(PAGE), "offset": str(offset), "sort": "asc"}
        url = f"{self._root}/contacts"
        answer = self.session.call("GET", url, headers=self._headers, params=params)
        return rows_of(answer.get("contacts") if isinstance(answer, dict) else None)


def _time(row: Mapping[str, Any]) -> datetime | None:
    """The time of `ts_epoch`; None without it, as for marketing events, so that the time of receipt counts.

    `ts_event` is documented as UTC (developers.brevo.com/docs/marketing-webhooks, /docs/transactional-webhooks,
    2026-11-30) but is in the account's zone for transactional events (django-anymail): an opt-out dated too early would
    lose to an older opt-in.
    """
    at = row.get("ts_epoch")
    if isinstance(at, int | float) and not isinstance(at, bool) and abs(at) >= FIRST_MILLISECOND:
        at = at // 1000
    return instant(at)


def _named(address: Address) -> dict[str, Any]:
    return {"email": address.value} if address.channel is Channel.EMAIL else {"attributes": {"SMS": address.value}}


def _blocked(push: Push) -> dict[str, Any]:
    name = "emailBlacklisted" if push.address.channel is Channel.EMAIL else "smsBlacklisted"
    return {name: not push.is_lift}


def _nos(row: Mapping[str, Any]) -> Iterator[tuple[Address, str]]:
    """The opt-outs in a contact's record: address and list."""
    mail, phone = _mail(row), _number(row)
    if mail is not None and row.get("emailBlacklisted") is True:
        yield mail, GLOBAL
    lists = row.get("listUnsubscribed")
    if mail is not None and isinstance(lists, list):
        yield from ((mail, f"list:{number}") for number in lists)
    if phone is not None and row.get("smsBlacklisted") is True:
        yield phone, GLOBAL


def _mail(row: Mapping[str, Any]) -> Address | None:
    return find_address(Channel.EMAIL, row.get("email"))


def _number(row: Mapping[str, Any]) -> Address | None:
    attributes = row.get("attributes")
    return _phone(attributes.get("SMS")) if isinstance(attributes, dict) else None


def _last_change(row: Mapping[str, Any]) -> datetime | None:
    """The newest time in a contact's record, including unsubscribes in its statistics."""
    changed = instant(row.get("modifiedAt"))
    if changed is None:
        return None
    statistics = row.get("statistics")
    stops = statistics.get("unsubscriptions") if isinstance(statistics, dict) else None
    kinds = stops.values() if isinstance(stops, dict) else ()
    events = [event for kind in kinds if isinstance(kind, list) for event in kind if isinstance(event, dict)]
    return max([changed, *(at for event in events if (at := instant(event.get("eventTime"))) is not None)])


def _phone(text: object) -> Address | None:
    """A number as Brevo stores it: with country code, mostly without the plus."""
    if not isinstance(text, (str, int)) or isinstance(text, bool):
        return None
    try:
        return read_address(Channel.SMS, f"+{str(text)[:40].lstrip('+0')}")
    except (BadAddress, ValueError):
        return None
