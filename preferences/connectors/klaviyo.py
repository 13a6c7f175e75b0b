"""Klaviyo: bulk jobs out, profiles read back, system webhooks in where the plan has them.

Facts: Klaviyo's pages on system webhooks and its OpenAPI description of revision 2026-04-15, read 2026-11-23. A job is
accepted and done later, with no result to read: what became of it is seen when the profiles are listed. Invariant: no
job ever names a list. Klaviyo takes a profile that is not on the list of its job off *everything*, and a job that is
sent twice, since its answer was lost, finds nobody on the list any more. So a list is left by taking the profile off
it, which can be repeated and means no more.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from preferences.config import ConnectorSettings
from preferences.connectors.base import (
    Connector,
    Listed,
    Parsed,
    Push,
    Refusal,
    by_list,
    event_id,
    find_address,
    instant,
    require_lists,
    rows_of,
)
from preferences.connectors.calls import in_parts, json_body
from preferences.domain.acts import EventKind, ProviderEvent
from preferences.domain.errors import BadPayload, BadSignature, Misconfigured, Rejected, TryLater
from preferences.domain.terms import BLANKET, Address, Channel

REVISION: Final = "2026-04-15"
"""Which of Klaviyo's dated interfaces this is written for."""

EVENTS: Final = {
    "unsubscribed_from_email_marketing": (EventKind.UNSUBSCRIBE, Channel.EMAIL),
    "unsubscribed_from_sms_marketing": (EventKind.UNSUBSCRIBE, Channel.SMS),
    "subscribed_to_email_marketing": (EventKind.RESUBSCRIBE, Channel.EMAIL),
    "subscribed_to_sms_marketing": (EventKind.RESUBSCRIBE, Channel.SMS),
    "bounced_email": (EventKind.SOFT_BOUNCE, Channel.EMAIL),
    "dropped_email": (EventKind.SEND_SUPPRESSED, Channel.EMAIL),
    "marked_email_as_spam": (EventKind.COMPLAINT, Channel.EMAIL),
    "manually_suppressed_from_email_marketing": (EventKind.SUPPRESSION_ADDED, Channel.EMAIL),
    "manually_unsuppressed_from_email_marketing": (EventKind.SUPPRESSION_REMOVED, Channel.EMAIL),
}
"""Behind `event:klaviyo.`. A bounce is hard where its properties say so."""

PREFIX: Final = "event:klaviyo."
REASONS: Final = {
    "HARD_BOUNCE": EventKind.HARD_BOUNCE,
    "INVALID_EMAIL": EventKind.INVALID,
    "SPAM_COMPLAINT": EventKind.COMPLAINT,
    "UNSUBSCRIBE": EventKind.UNSUBSCRIBE,
    "USER_SUPPRESSED": EventKind.UNSUBSCRIBE,
}
GLOBAL: Final = "global"
LIST: Final = re.compile(r"global|list:[A-Za-z0-9]{1,40}")
NAMES: Final = {Channel.EMAIL: "email", Channel.SMS: "phone_number"}
PAGE: Final = 100
AT_A_TIME: Final = 50
"""Addresses in one filter: more would make an address line longer than servers take."""

FIELDS: Final = {"fields[profile]": "email,phone_number,subscriptions", "additional-fields[profile]": "subscriptions"}
EVER: Final = "greater-than(subscriptions.email.marketing.suppression.timestamp,1970-01-02T00:00:00Z)"


class Klaviyo(Connector):
    """`global` is all marketing on a channel; `list:ID` one list."""

    # Whether each attempt is signed afresh is not published, and neither is for how long there are any.
    freshness = timedelta(hours=24)
    batch_size = 100
    calls_per_second = 10.0
    channels = frozenset({Channel.EMAIL, Channel.SMS})

    def __init__(self, settings: ConnectorSettings) -> None:
        super().__init__(settings)
        require_lists(settings, LIST, example="list:Y6nRLr or global", everything=GLOBAL)

    # In.

    def verify(self, headers: Mapping[str, str], body: bytes, *, url: str = "") -> None:
        stamp = headers.get("klaviyo-timestamp", "")
        self.require_fresh(_signed_at(stamp))
        given = headers.get("klaviyo-signature", "").encode("utf-8", "replace")
        text = body + stamp.encode("utf-8", "replace")
        fits = [
            hmac.compare_digest(given, hmac.new(secret.encode(), text, hashlib.sha256).hexdigest().encode())
            for secret in self.settings.webhook_secrets
            if secret
        ]
        if not any(fits) or not _names_its_webhook(body, headers.get("klaviyo-webhook-id", "")):
            raise BadSignature("no secret fits")

    def parse(self, headers: Mapping[str, str], body: bytes) -> Parsed:
        try:
            rows = json.loads(body)["data"]
            known = [(row, *_meaning(row), _profile(row)) for row in rows if _meaning(row)]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise BadPayload("not events as Klaviyo describes them") from None
        unnamed = {found["id"] for _, _, channel, found in known if not found.get(NAMES[channel]) and found.get("id")}
        looked_up = self._look_up(sorted(unnamed))
        events = [
            event
            for row, kind, channel, found in known
            if (event := self._event(row, kind, channel=channel, profile=found | looked_up.get(found.get("id"), {})))
        ]
        return Parsed(events, len(rows) - len(events))

    def _event(
        self, row: Mapping[str, Any], kind: EventKind, *, channel: Channel, profile: Mapping[str, Any]
    ) -> ProviderEvent | None:
        address = find_address(channel, profile.get(NAMES[channel]))
        if address is None:
            return None
        attributes = _part(row, "payload", "data", "attributes")
        return ProviderEvent(
            kind=kind,
            address=address,
            event_id=event_id(row.get("external_id")) or self.digest(row),
            occurred_at=instant(attributes.get("datetime") or attributes.get("timestamp")),
            brand=self.settings.brand,
            # All of them are about everything on a channel.
            topic=BLANKET,
        )

    def _look_up(self, ids: Sequence[str]) -> dict[Any, dict[str, Any]]:
        """The profiles of events that name nobody. Raises BadPayload while they cannot be had: Klaviyo keeps them."""
        found: dict[Any, dict[str, Any]] = {}
        try:
            for part in in_parts(ids, AT_A_TIME):
                params = {"filter": _any("id", part), "fields[profile]": "email,phone_number"}
                for row in self._profiles("/api/profiles", params):
                    found[row.get("id")] = _part(row, "attributes")
        except (TryLater, Rejected, Misconfigured):
            raise BadPayload("profiles that cannot be looked up now") from None
        return found

    # Out.

    def can_compare(self, push: Push) -> bool:
        """Profiles show suppressions of e-mail. Who was taken off a list looks as if they never had been on it."""
        return push.address.channel is Channel.EMAIL and push.list_ref == GLOBAL

    def push(self, pushes: Sequence[Push]) -> Sequence[Refusal]:
        by_mail = [push for push in pushes if push.address.channel is Channel.EMAIL]
        suppressed = sorted({push.address.value for push in by_mail if push.reason is not None})
        if suppressed:
            self._job("profile-suppression-bulk-create-job", [{"email": value} for value in suppressed])
        wishes = [push for push in pushes if push.reason is None or push.address.channel is not Channel.EMAIL]
        for (list_ref, _), of_list in by_list(wishes).items():
            addresses = list(dict.fromkeys(push.address for push in of_list))
            if list_ref == GLOBAL:
                self._job("profile-subscription-bulk-delete-job", [_stop(one) for one in addresses])
            else:
                self._leave(list_ref.removeprefix("list:"), addresses)
        return []

    def _leave(self, list_id: str, addresses: Sequence[Address]) -> None:
        """Take those of the addresses that are on the list off it."""
        ids = [
            str(row.get("id"))
            for channel, name in NAMES.items()
            for part in in_parts([one.value for one in addresses if one.channel is channel], AT_A_TIME)
            for row in self._profiles(
                f"/api/lists/{list_id}/profiles",
                {"filter": _any(name, part), "fields[profile]": name, "page[size]": str(PAGE)},
            )
        ]
        if ids:
            url = f"{self.settings.base_url}/api/lists/{list_id}/relationships/profiles"
            body = json_body({"data": [{"type": "profile", "id": one} for one in ids]})
            self.session.ask("DELETE", url, headers=self._headers, body=body)

    def _job(self, kind: str, profiles: Sequence[Mapping[str, Any]]) -> None:
        """Hand in a job for the whole account. It takes no list, so that none can be named."""
        rows = [{"type": "profile", "attributes": one} for one in profiles]
        body = json_body({"data": {"type": kind, "attributes": {"profiles": {"data": rows}}}})
        self.session.ask("POST", f"{self.settings.base_url}/api/{kind}s", headers=self._headers, body=body)

    @property
    def _headers(self) -> dict[str, str]:
        return {
            "Authorization": f"Klaviyo-API-Key {self.settings.api_key}",
            "revision": REVISION,
            "Accept": "application/vnd.api+json",
            "Content-Type": "application/vnd.api+json",
        }

    # List.

    def probe(self) -> Sequence[str]:
        """Whether each list of the mapping is there."""
        problems = list(super().probe())
        for list_ref in self.settings.topics.values():
            url = f"{self.settings.base_url}/api/lists/{list_ref.removeprefix('list:')}"
            if list_ref != GLOBAL and self.session.ask("GET", url, headers=self._headers, accept={404}).status == 404:
                problems.append(f"there is no {list_ref}")
        return problems

    def list_suppressed(self) -> Iterator[Listed]:
        for row in self._profiles("/api/profiles", FIELDS | {"filter": EVER, "page[size]": str(PAGE)}):
            yield from self._listed(row, "suppression", "")
        for list_ref in self.settings.topics.values():
            if list_ref != GLOBAL:
                list_id = list_ref.removeprefix("list:")
                where = f'equals(subscriptions.email.marketing.list_suppressions.list_id,"{list_id}")'
                for row in self._profiles("/api/profiles", FIELDS | {"filter": where, "page[size]": str(PAGE)}):
                    yield from self._listed(row, "list_suppressions", list_id)

    def _listed(self, row: Mapping[str, Any], name: str, list_id: str) -> Iterator[Listed]:
        address = find_address(Channel.EMAIL, _part(row, "attributes").get("email"))
        marketing = _part(row, "attributes", "subscriptions", "email", "marketing")
        suppressions = marketing.get(name)
        for one in suppressions if isinstance(suppressions, list) else ():
            kind = REASONS.get(str(one.get("reason"))) if isinstance(one, dict) else None
            if address is None or kind is None or (list_id and one.get("list_id") != list_id):
                continue
            own = (f"list:{list_id}" if list_id else GLOBAL,)
            for list_ref in own if kind is EventKind.UNSUBSCRIBE else self.everywhere:
                yield Listed(address=address, list_ref=list_ref, kind=kind, occurred_at=instant(one.get("timestamp")))

    def _profiles(self, path: str, params: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
        """Every profile of a list, page by page."""
        cursor: str | None = ""
        seen: set[str] = set()
        while cursor is not None:
            if cursor in seen:
                raise TryLater("a list that does not end")
            seen.add(cursor)
            more = {"page[cursor]": cursor} if cursor else {}
            page = self.session.call(
                "GET", f"{self.settings.base_url}{path}", headers=self._headers, params={**params, **more}
            )
            yield from rows_of(page.get("data") if isinstance(page, dict) else None)
            cursor = _following(page)


def _signed_at(stamp: str) -> datetime:
    """The time of a request, written as in HTTP: `Thu, 04 Jan 2024 18:05:25 GMT`."""
    try:
        at = parsedate_to_datetime(stamp)
    except (ValueError, TypeError, IndexError, OverflowError):
        raise BadSignature("no time") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _names_its_webhook(body: bytes, webhook_id: str) -> bool:
    """Whether the body is of the webhook that the header names."""
    try:
        meta = _part(json.loads(body), "meta")
    except (ValueError, RecursionError):
        return False
    named = meta.get("klaviyo_webhook_id")
    return isinstance(named, str) and bool(webhook_id) and named == webhook_id


def _part(document: Any, *path: str) -> dict[str, Any]:
    """The object at the end of a path; an empty one where there is none."""
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else {}


def _meaning(row: Mapping[str, Any]) -> tuple[EventKind, Channel] | tuple[()]:
    found = EVENTS.get(str(row.get("topic")).removeprefix(PREFIX))
    if found is None:
        return ()
    properties = _part(row, "payload", "data", "attributes", "event_properties")
    if found[0] is EventKind.SOFT_BOUNCE and str(properties.get("Bounce Type", "")).lower() == "hard":
        return EventKind.HARD_BOUNCE, found[1]
    return found


def _profile(row: Mapping[str, Any]) -> dict[str, Any]:
    """Whom an event is about: the profile's id, and what stands beside it of address and number."""
    included = _part(row, "payload").get("included")
    profiles = [one for one in included if _part(one).get("type") == "profile"] if isinstance(included, list) else []
    attributes = _part(profiles[0], "attributes") if profiles else {}
    profile_id = _part(row, "payload", "data", "relationships", "profile", "data").get("id")
    named = {name: attributes[name] for name in NAMES.values() if attributes.get(name)}
    return {"id": profile_id, **named} if isinstance(profile_id, str) else named


def _any(name: str, values: Sequence[str]) -> str:
    return f"any({name},{json.dumps(list(values), separators=(',', ':'))})"


def _stop(address: Address) -> dict[str, Any]:
    kind = "email" if address.channel is Channel.EMAIL else "sms"
    subscriptions = {kind: {"marketing": {"consent": "UNSUBSCRIBED"}}}
    return {NAMES[address.channel]: address.value, "subscriptions": subscriptions}


def _following(page: Mapping[str, Any]) -> str | None:
    """The cursor in the link to the next page; the link itself is not followed, since it may lead elsewhere."""
    link = _part(page, "links").get("next")
    if not link:
        return None
    try:
        return parse_qs(urlsplit(str(link)).query)["page[cursor]"][0]
    except (ValueError, KeyError):
        raise TryLater("a list that is not as documented") from None
