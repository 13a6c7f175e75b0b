"""SparkPost: batches of events in, the suppression list out.

Source: API descriptions of webhooks and the suppression list, and Bird's email API, read 2026-11-23. Invariant: every
DELETE has a `list_id`, since one without removes every entry of an address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

from preferences.config import ConnectorSettings
from preferences.connectors.base import Listed, Parsed, Push, Refusal
from preferences.connectors.http import batches, json_body
from preferences.connectors.lists import push_each, require_lists, rows_of
from preferences.connectors.parsing import each_row, event_id, find_address, instant, read_json, text_in
from preferences.connectors.unsigned import UnsignedConnector
from preferences.domain.acts import PREFERENCE_VERBS, EventKind, ProviderEvent
from preferences.domain.errors import BadPayload, Rejected, TryLater
from preferences.domain.vocabulary import BLANKET, Channel, SuppressionReason

EVENTS: Final = {
    "list_unsubscribe": EventKind.UNSUBSCRIBE,
    "link_unsubscribe": EventKind.UNSUBSCRIBE,
    "spam_complaint": EventKind.COMPLAINT,
    "policy_rejection": EventKind.SEND_SUPPRESSED,
    "generation_rejection": EventKind.SEND_SUPPRESSED,
}
BOUNCES: Final = frozenset({"bounce", "out_of_band"})
CLASSES: Final = {
    **dict.fromkeys((10, 30), EventKind.HARD_BOUNCE),
    **dict.fromkeys((20, 21, 22, 23, 24, 40, 70), EventKind.SOFT_BOUNCE),
    **dict.fromkeys((25, 50, 51, 52, 53, 54), EventKind.BLOCK),
    80: EventKind.RESUBSCRIBE,
    90: EventKind.UNSUBSCRIBE,
}
"""By `bounce_class`, which includes unsubscribes by mail."""

GLOBAL: Final = "global"
LIST: Final = re.compile(r"global|list:[!-~]{1,200}")
MARKETING: Final = "non_transactional"
TYPES: Final = (MARKETING, "transactional")
UNDELIVERABLE: Final = frozenset({SuppressionReason.HARD_BOUNCE, SuppressionReason.INVALID})

SOURCES: Final = {"Spam Complaint": EventKind.COMPLAINT, "Bounce Rule": EventKind.HARD_BOUNCE}
MOST_ROWS: Final = 10_000
PAGE: Final = 10_000


class SparkPost(UnsignedConnector):
    """`global` is the account's entry for non-transactional mail; `list:ID` an entry for one list."""

    busy_code = 503
    refused_code = 401
    batch_size = 10_000
    # The size of a batch is not published; the secret is checked before reading.
    longest_body = 8 * 1024 * 1024
    calls_per_second = 5.0
    can_lift = True

    def __init__(self, settings: ConnectorSettings) -> None:
        super().__init__(settings)
        require_lists(settings, LIST, example="list:news.example.com or global", everything=GLOBAL)

    def parse(self, headers: Mapping[str, str], body: bytes) -> Parsed:
        rows = read_json(body)
        if not isinstance(rows, list):
            raise BadPayload("not a batch of events")
        return each_row(rows, self._events)

    def _events(self, element: Mapping[str, Any]) -> Iterator[ProviderEvent]:
        # Each element holds one class of events; an empty one is a ping.
        classes = element.get("msys")
        if not isinstance(classes, dict) or not all(isinstance(row, dict) for row in classes.values()):
            raise BadPayload("without msys")
        for row in classes.values():
            event = self._event(row)
            if event is not None:
                yield event

    def _event(self, row: Mapping[str, Any]) -> ProviderEvent | None:
        kind = _kind(row)
        if kind is None:
            return None
        address = find_address(Channel.EMAIL, text_in(row, "rcpt_to" if row.get("rcpt_to") else "raw_rcpt_to"))
        list_id = row.get("list_id") if kind in PREFERENCE_VERBS else None
        topic = self.topic_of(f"list:{list_id}") if list_id else BLANKET
        if address is None or topic is None:
            return None
        return ProviderEvent(
            kind=kind,
            address=address,
            event_id=event_id(row.get("event_id")) or self.digest(row),
            occurred_at=instant(row.get("timestamp")),
            brand=self.settings.brand,
            topic=topic,
        )

    def push(self, pushes: Sequence[Push]) -> Sequence[Refusal]:
        rows = [row for push in pushes if not push.is_lift for row in _rows(push)]
        for part in batches(rows, MOST_ROWS):
            # A 5xx may have stored some; repeating is harmless.
            body = json_body({"recipients": list(part)})
            self.session.call("PUT", self._url(), headers=self._headers, body=body)
        return push_each([push for push in pushes if push.is_lift], self._lift)

    def held(self, lifts: Sequence[Push]) -> Iterator[Listed]:
        for address in {lift.address for lift in lifts}:
            for row in self._rows_of(address.value):
                yield from self._listed(row)

    def _rows_of(self, recipient: str) -> list[Mapping[str, Any]]:
        answer = self.session.ask("GET", self._url(recipient), headers=self._headers, accept={404})
        return [] if answer.status == 404 else _results(answer.document)

    def _lift(self, push: Push) -> None:
        """Remove only an opt-out, and only at this level."""
        list_id = "" if push.list_ref == GLOBAL else push.list_ref.removeprefix("list:")
        rows = self._rows_of(push.address.value)
        here = [row for row in rows if row.get("type") == MARKETING and (row.get("list_id") or "") == list_id]
        if any(row.get("source") in SOURCES for row in here):
            raise Rejected("what a bounce or a complaint has put there is taken off by hand")
        if here:
            self._delete(push.address.value, list_id)

    def _delete(self, recipient: str, list_id: str) -> None:
        """An empty `list_id` deletes the account's entry."""
        url = f"{self._url(recipient)}?list_id={quote(list_id, safe='')}"
        body = json_body({"type": MARKETING})
        answer = self.session.ask("DELETE", url, headers=self._headers, body=body, accept={403, 404})
        if answer.status == 403:
            raise Rejected("SparkPost's own compliance entry stays")

    def _url(self, recipient: str = "") -> str:
        return f"{self.settings.base_url}/api/v1/suppression-list/{quote(recipient, safe='')}".rstrip("/")

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": self.settings.api_key, "Content-Type": "application/json"}

    def list_suppressed(self) -> Iterator[Listed]:
        cursor: str | None = "initial"
        seen: set[str] = set()
        while cursor is not None:
            if cursor in seen:
                raise TryLater("a list that does not end")
            seen.add(cursor)
            params = {"cursor": cursor, "per_page": str(PAGE)}
            page = self.session.call("GET", self._url(), headers=self._headers, params=params)
            for row in _results(page):
                yield from self._listed(row)
            cursor = _following(page)

    def _listed(self, row: Mapping[str, Any]) -> Iterator[Listed]:
        address = find_address(Channel.EMAIL, row.get("recipient"))
        kind = SOURCES.get(str(row.get("source")), EventKind.UNSUBSCRIBE)
        # The transactional entry of an undeliverable address has a marketing twin.
        if address is None or (kind is EventKind.UNSUBSCRIBE and row.get("type") != MARKETING):
            return
        at = instant(row.get("updated") or row.get("created"))
        own = [f"list:{row['list_id']}" if row.get("list_id") else GLOBAL]
        for list_ref in own if kind is EventKind.UNSUBSCRIBE else self.everywhere:
            yield Listed(address=address, list_ref=list_ref, kind=kind, occurred_at=at)


def _kind(row: Mapping[str, Any]) -> EventKind | None:
    name = text_in(row, "type")
    if name not in BOUNCES:
        return EVENTS.get(name)
    number = str(row.get("bounce_class"))
    return CLASSES.get(int(number)) if re.fullmatch("[0-9]{1,3}", number) else None


def _rows(push: Push) -> Iterator[dict[str, str]]:
    """The entries of an opt-out; for an undeliverable address, both types."""
    if push.reason in UNDELIVERABLE:
        for name in TYPES:
            yield {"recipient": push.address.value, "type": name}
    elif push.list_ref == GLOBAL:
        yield {"recipient": push.address.value, "type": MARKETING}
    else:
        list_id = push.list_ref.removeprefix("list:")
        yield {"recipient": push.address.value, "type": MARKETING, "list_id": list_id}


def _results(page: Any) -> list[Mapping[str, Any]]:
    return rows_of(page.get("results") if isinstance(page, dict) else None)


def _following(page: Mapping[str, Any]) -> str | None:
    """The cursor of the next page. The link itself is not followed, since it may lead elsewhere."""
    links = page.get("links")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("rel") == "next":
            try:
                return parse_qs(urlsplit(str(link.get("href"))).query)["cursor"][0]
            except (ValueError, KeyError):
                raise TryLater("a list that is not as documented") from None
    return None
