"""Mailgun: signed webhooks in; unsubscribes, complaints and bounces of one sending domain out.

Source: user manual (webhooks, suppressions) and the v3 API description, read 2026-11-23. Lists belong to a domain, so a
connector is one domain. Invariant: every call names an address, since one without clears the whole list.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Annotated, Any, Final
from urllib.parse import parse_qs, quote, urlsplit

from pydantic import Field

from preferences.config import ConnectorSettings
from preferences.connectors.base import Connector, Listed, Options, Parsed, Push, Refusal
from preferences.connectors.http import basic_auth, json_body
from preferences.connectors.lifts import require_older
from preferences.connectors.lists import push_each, require_lists, rows_of
from preferences.connectors.parsing import ODD, event_id, find_address, instant, part, read_json, text_in
from preferences.domain.acts import EventKind, ProviderEvent
from preferences.domain.errors import BadPayload, BadSignature, Misconfigured, TryLater
from preferences.domain.vocabulary import BLANKET, Channel, SuppressionReason

EVERYTHING: Final = "*"
"""The tag that stops all mail of the domain."""
TAG: Final = re.compile(r"[!-~]([ -~]{0,126}[!-~])?")
"""ASCII, at most 128 characters (user manual, "Tagging")."""
PAGE: Final = 1_000

BAD_ADDRESS: Final = re.compile(r"5\.1\.(?:1|2|3|6|10)|5\.2\.1")
"""Enhanced codes of a missing mailbox or host, or a disabled mailbox (RFC 3463, RFC 7505)."""
NO_MAIL: Final = 556
"""The domain takes no mail (RFC 7504)."""

TABLES: Final = {
    SuppressionReason.HARD_BOUNCE: "bounces",
    SuppressionReason.INVALID: "bounces",
    SuppressionReason.COMPLAINT: "complaints",
}
"""The list for a suppression; all other reasons and opt-outs are unsubscribes."""

LISTS: Final = {"bounces": EventKind.HARD_BOUNCE, "complaints": EventKind.COMPLAINT}


class MailgunOptions(Options):
    """`domain` is the sending domain."""

    domain: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$")]


class Mailgun(Connector):
    """A list is a tag; `*` is all mail of the domain."""

    # Any other refusal is retried for eight hours.
    refused_code = 406
    # Retries keep the first signature, for eight hours.
    freshness = timedelta(hours=9)
    batch_size = 1_000
    can_lift = True
    taken_off = frozenset(TABLES)
    options_type = MailgunOptions
    options: MailgunOptions

    def __init__(self, settings: ConnectorSettings) -> None:
        super().__init__(settings)
        require_lists(settings, TAG, example="news", everything=EVERYTHING)
        # Tags ignore case (user manual, "Tagging").
        self._spellings = {tag.lower(): tag for tag in settings.topics.values()}
        if len(self._spellings) < len(set(settings.topics.values())):
            raise Misconfigured(f"connector {self.name}: Mailgun takes two of the tags in topics for the same")

    def topic_of(self, list_ref: str) -> str | None:
        return super().topic_of(self._spelled(list_ref))

    def _spelled(self, tag: str) -> str:
        """The tag as the settings spell it."""
        return self._spellings.get(tag.lower(), tag)

    def verify(self, headers: Mapping[str, str], body: bytes, *, url: str = "") -> None:
        stamp, token, given = _signature(body)
        if self._fitting_key(stamp + token, given) is None:
            raise BadSignature("no key fits")
        self.require_fresh(_signed_at(stamp))

    def _fitting_key(self, signed: str, given: bytes) -> str | None:
        keys = [key for key in self.settings.webhook_secrets if key]
        # Compare all keys, for constant time.
        fitting = [key for key in keys if hmac.compare_digest(_expected(key, signed), given)]
        return fitting[0] if fitting else None

    def parse(self, headers: Mapping[str, str], body: bytes) -> Parsed:
        try:
            message = read_json(body)
            data, token = message["event-data"], event_id(message["signature"]["token"])
            if self._is_of_another_domain(data):
                # Do not use up its token: the connector of that domain may receive it too.
                return Parsed([], 1)
            events = self._events(data, token)
            stamp, signed_token, given = _signature(body)
        except (BadSignature, *ODD):
            raise BadPayload("not an event of Mailgun's") from None
        # The signature covers only time and token: accept the token with one body.
        key = self._fitting_key(stamp + signed_token, given) or self.name
        return Parsed(events, 0 if events else 1, token, hashlib.sha256(f"token of {key}".encode()).hexdigest()[:40])

    def _is_of_another_domain(self, data: Mapping[str, Any]) -> bool:
        """Webhooks of an account report the events of all its domains (user manual, "Webhook Payloads")."""
        name = part(data, "domain").get("name")
        return isinstance(name, str) and name.lower() != self.options.domain.lower()

    def _events(self, data: Mapping[str, Any], token: str | None) -> list[ProviderEvent]:
        kind = _kind(data)
        if kind is None:
            return []
        address = find_address(Channel.EMAIL, text_in(data, "recipient"))
        if address is None:
            return []
        topics = self._topics_of(data.get("tags")) if kind is EventKind.UNSUBSCRIBE else [BLANKET]
        return [
            ProviderEvent(
                kind=kind,
                address=address,
                event_id=f"{token}:{topic}"[-200:] if kind is EventKind.UNSUBSCRIBE else token,
                occurred_at=instant(data.get("timestamp")),
                brand=self.settings.brand,
                topic=topic,
            )
            for topic in topics
        ]

    def _topics_of(self, tags: object) -> list[str]:
        """The topics of an unsubscribe, whose tags are those of the *message*, whichever link was followed.

        If topics are tags: those that map; other tags are left to the comparison. If no topic is a tag: everything.
        """
        words = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
        by_tag = any(topic != BLANKET for topic in self.settings.topics)
        if not by_tag or not words or EVERYTHING in words:
            return [BLANKET]
        return list(dict.fromkeys(topic for tag in words if (topic := self.topic_of(tag)) is not None))

    def push(self, pushes: Sequence[Push]) -> Sequence[Refusal]:
        tables: dict[str, dict[str, dict[str, Any]]] = {}
        for push in pushes:
            if not push.is_lift:
                table = TABLES.get(push.reason, "unsubscribes") if push.reason else "unsubscribes"
                row = tables.setdefault(table, {}).setdefault(push.address.value, _row(push, table))
                if table == "unsubscribes" and push.list_ref not in row["tags"]:
                    row["tags"].append(push.list_ref)
        for table, rows in tables.items():
            body = json_body(list(rows.values()))
            self.session.call("POST", self._place(table), headers=self._headers, body=body)
        return push_each((push for push in pushes if push.is_lift), self._lift)

    def held(self, lifts: Sequence[Push]) -> Iterator[Listed]:
        for address in {lift.address for lift in lifts}:
            answer = self.session.ask("GET", self._row_of(address.value), headers=self._headers, accept={404})
            if answer.status == 404:
                continue
            row = answer.document if isinstance(answer.document, dict) else {}
            if find_address(Channel.EMAIL, row.get("address")) != address:
                raise TryLater("a row that is not as documented")
            yield from self._unsubscribes(row)

    def take_off(self, push: Push) -> None:
        place = f"{self._place(TABLES[push.reason])}/{quote(push.address.value, safe='')}"  # type: ignore[index]
        answer = self.session.ask("GET", place, headers=self._headers, accept={404})
        if answer.status == 404:
            return
        row = answer.document if isinstance(answer.document, dict) else {}
        if find_address(Channel.EMAIL, row.get("address")) != push.address:
            raise TryLater("a row that is not as documented")
        if require_older([_date(row.get("created_at"))], push.since):
            self.session.ask("DELETE", place, headers=self._headers, accept={404})

    def _lift(self, push: Push) -> None:
        place = self._row_of(push.address.value)
        self.session.ask("DELETE", place, headers=self._headers, params={"tag": push.list_ref}, accept={404})

    def _row_of(self, address: str) -> str:
        return f"{self._place('unsubscribes')}/{quote(address, safe='')}"

    def list_suppressed(self) -> Iterator[Listed]:
        for row in self._rows("unsubscribes"):
            yield from self._unsubscribes(row)
        for table, kind in LISTS.items():
            for row in self._rows(table):
                yield from _listed(row, self.everywhere, kind)

    def _unsubscribes(self, row: Mapping[str, Any]) -> Iterator[Listed]:
        """A row for each tag. They share one time, so with several tags none is dated. Raises TryLater."""
        tags = row.get("tags") or [EVERYTHING]
        if not isinstance(tags, list):
            raise TryLater("a list that is not as documented")
        dated = row if len(tags) == 1 else {"address": row.get("address")}
        yield from _listed(dated, [self._spelled(str(tag)) for tag in tags], EventKind.UNSUBSCRIBE)

    def _rows(self, table: str) -> Iterator[Mapping[str, Any]]:
        """Read up to the first empty page. Only the query of `paging.next` is used, never its host."""
        params = {"limit": str(PAGE)}
        while True:
            page = self.session.call("GET", self._place(table), headers=self._headers, params=params)
            rows = rows_of(page.get("items") if isinstance(page, dict) else None)
            if not rows:
                return
            yield from rows
            following = _query(page) | {"limit": str(PAGE)}
            if following == params:
                raise TryLater("a list that does not end")
            params = following

    def _place(self, table: str) -> str:
        return f"{self.settings.base_url}/v3/{quote(self.options.domain, safe='')}/{table}"

    @property
    def _headers(self) -> dict[str, str]:
        return {"Content-Type": "application/json"} | basic_auth("api", self.settings.api_key)


def _signature(body: bytes) -> tuple[str, str, bytes]:
    """Time, token and signature in the body. Raises BadSignature."""
    try:
        signature = read_json(body)["signature"]
        stamp, token, given = (signature[name] for name in ("timestamp", "token", "signature"))
    except (BadPayload, *ODD):
        raise BadSignature("no signature") from None
    if not (isinstance(token, str) and token and isinstance(given, str) and isinstance(stamp, (str, int))):
        raise BadSignature("no signature")
    return str(stamp), token, given.encode("utf-8", "surrogatepass")


def _expected(secret: str, signed: str) -> bytes:
    """Hexadecimal HMAC-SHA256 over time and token."""
    digest = hmac.new(secret.encode(), signed.encode("utf-8", "surrogatepass"), hashlib.sha256)
    return digest.hexdigest().encode()


def _signed_at(stamp: str) -> datetime:
    if not (stamp.isascii() and stamp.isdecimal() and len(stamp) <= 11):
        raise BadSignature("no time")
    return datetime.fromtimestamp(int(stamp), UTC)


def _kind(data: Mapping[str, Any]) -> EventKind | None:
    match text_in(data, "event"):
        case "unsubscribed":
            return EventKind.UNSUBSCRIBE
        case "complained":
            return EventKind.COMPLAINT
        case "failed":
            return _failure(data)
    return None


def _failure(data: Mapping[str, Any]) -> EventKind:
    """`bounce` is about the address, `suppress-…` a consequence; `generic` needs the server's code."""
    reason = data.get("reason")
    if isinstance(reason, str) and reason.startswith("suppress-"):
        return EventKind.SEND_SUPPRESSED
    if data.get("severity") != "permanent":
        return EventKind.DEFERRED
    is_bad = reason == "bounce" or (reason == "generic" and _names_the_address(part(data, "delivery-status")))
    return EventKind.HARD_BOUNCE if is_bad else EventKind.SOFT_BOUNCE


def _names_the_address(answer: Mapping[str, Any]) -> bool:
    """Whether the server's answer means an invalid address."""
    return answer.get("code") == NO_MAIL or BAD_ADDRESS.fullmatch(str(answer.get("enhanced-code"))) is not None


def _row(push: Push, table: str) -> dict[str, Any]:
    if table == "unsubscribes":
        # Without `created_at`: it would also date a newer opt-out of Mailgun's own, which could then be lifted.
        return {"address": push.address.value, "tags": []}
    more = {"code": "550", "error": str(push.reason)} if table == "bounces" else {}
    return {"address": push.address.value, "created_at": format_datetime(push.since), **more}


def _listed(row: Mapping[str, Any], refs: Sequence[str], kind: EventKind) -> Iterator[Listed]:
    address = find_address(Channel.EMAIL, row.get("address"))
    if address is None:
        return
    for list_ref in refs:
        yield Listed(address=address, list_ref=list_ref, kind=kind, occurred_at=_date(row.get("created_at")))


def _date(text: object) -> datetime | None:
    """Such as `Thu, 11 Dec 2025 01:49:40 UTC`."""
    try:
        at = parsedate_to_datetime(text) if isinstance(text, str) else None
        return at.astimezone(UTC) if at is not None and at.tzinfo else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _query(page: Mapping[str, Any]) -> dict[str, str]:
    try:
        return {name: values[0] for name, values in parse_qs(urlsplit(page["paging"]["next"]).query).items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise TryLater("a list that is not as documented") from None
