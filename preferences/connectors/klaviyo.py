"""Klaviyo: bulk jobs out, profiles read back, system webhooks in.

Source: Klaviyo's pages on system webhooks and its OpenAPI revision 2026-04-15, read 2026-11-23. Jobs run later without
a result. Invariant: no job names a list, because Klaviyo then unsubscribes a profile that is not on the list from
*everything*; profiles are removed from the list instead, which is repeatable.
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
from preferences.connectors.base import Connector, Listed, Parsed, Push, Refusal
from preferences.connectors.http import batches, json_body
from preferences.connectors.lists import by_list, require_lists, rows_of
from preferences.connectors.parsing import each_row, event_id, find_address, instant, objects, part, read_json, text_in
from preferences.domain.acts import RECORDED, EventKind, ProviderEvent
from preferences.domain.errors import BadPayload, BadSignature, Misconfigured, Rejected, TryLater
from preferences.domain.records import Address
from preferences.domain.vocabulary import BLANKET, Channel

REVISION: Final = "2026-04-15"
"""Klaviyo's dated API revision."""

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
"""Follow `event:klaviyo.`. A bounce is hard if its properties say so."""

NOT_THE_PERSON: Final = frozenset(
    {
        *("api", "bulk_remove", "carrier_deactivation", "data_warehouse_import", "integration", "manual_add"),
        *("manual_import", "manual_remove", "message_blocked", "profile_modification", "profile_page", "sftp"),
    }
)
"""Unsubscribe methods that are not the person's own act; `api` is often our own push. Source: method filters of the API
(revision 2026-04-15); `profile_page` from a recorded call (klaviyo-php-sdk, 2026-11-30).
"""

TO_LOOK_UP: Final = RECORDED - {EventKind.RESUBSCRIBE}
"""Kinds whose profile is looked up. Reports never resubscribe a contact to everything."""

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
PROPERTIES: Final = {Channel.EMAIL: "email_address", Channel.SMS: "phone_number"}
"""Properties of an event that hold the address."""
PAGE: Final = 100
AT_A_TIME: Final = 50
"""Addresses in one filter, within the URL length that servers accept."""

FIELDS: Final = {"fields[profile]": "email,phone_number,subscriptions", "additional-fields[profile]": "subscriptions"}
EVER: Final = "greater-than(subscriptions.email.marketing.suppression.timestamp,1970-01-02T00:00:00Z)"


class Klaviyo(Connector):
    """`global` is all marketing on a channel; `list:ID` a list."""

    # Klaviyo retries at intervals of up to an hour and disables a webhook after 48 hours; whether retries are signed
    # afresh is not published.
    freshness = timedelta(hours=48, minutes=5)
    batch_size = 100
    # Up to a thousand events with their properties.
    longest_body = 8 * 1024 * 1024
    calls_per_second = 10.0
    channels = frozenset({Channel.EMAIL, Channel.SMS})

    def __init__(self, settings: ConnectorSettings) -> None:
        super().__init__(settings)
        require_lists(settings, LIST, example="list:Y6nRLr or global", everything=GLOBAL)

    def verify(self, headers: Mapping[str, str], body: bytes, *, url: str = "") -> None:
        stamp = headers.get("klaviyo-timestamp", "")
        given = headers.get("klaviyo-signature", "").encode("utf-8", "replace")
        fits = [
            hmac.compare_digest(given, _expected(secret, body, stamp))
            for secret in self.settings.webhook_secrets
            if secret
        ]
        if not any(fits):
            raise BadSignature("no secret fits")
        meta = _meta(body)
        if not meta.get("klaviyo_webhook_id") or meta["klaviyo_webhook_id"] != headers.get("klaviyo-webhook-id"):
            raise BadSignature("of another webhook")
        self.require_fresh(instant(meta.get("timestamp")) or _signed_at(stamp))

    def parse(self, headers: Mapping[str, str], body: bytes) -> Parsed:
        """Also raises TryLater if a profile that an event names only by id cannot be looked up."""
        rows = part(read_json(body)).get("data")
        if not isinstance(rows, list):
            raise BadPayload("not events as Klaviyo describes them")
        looked_up = self._look_up(sorted({profile_id for row in objects(rows) for profile_id in _unnamed(row)}))
        return each_row(rows, lambda row: self._events(row, looked_up))

    def _events(self, row: Mapping[str, Any], looked_up: Mapping[str, Mapping[str, Any]]) -> Iterator[ProviderEvent]:
        text_in(row, "topic")
        for kind, channel in _meanings(row):
            found = looked_up.get(_profile_id(row), {}).get(NAMES[channel])
            address = _named(row, channel) or find_address(channel, found)
            if address is None and not _profile_id(row):
                raise BadPayload("names nobody")
            if address is not None:
                yield self._event(row, kind, address)

    def _event(self, row: Mapping[str, Any], kind: EventKind, address: Address) -> ProviderEvent:
        attributes = part(row, "payload", "data", "attributes")
        return ProviderEvent(
            kind=kind,
            address=address,
            event_id=event_id(row.get("external_id")) or self.digest(row),
            occurred_at=instant(attributes.get("datetime") or attributes.get("timestamp")),
            brand=self.settings.brand,
            # All events concern everything on a channel.
            topic=BLANKET,
        )

    def _look_up(self, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """The profiles by id. Raises TryLater for any failure: Klaviyo keeps the events."""
        found: dict[str, Mapping[str, Any]] = {}
        try:
            for some in batches(ids, AT_A_TIME):
                params = {"filter": _any("id", some), "fields[profile]": "email,phone_number"}
                for row in self._profiles("/api/profiles", params):
                    found[str(row.get("id"))] = part(row, "attributes")
        except (TryLater, Rejected, Misconfigured):
            raise TryLater("profiles that cannot be looked up now") from None
        return found

    def can_compare(self, push: Push) -> bool:
        """Profiles show suppressions of email. A contact taken off a list looks like one that never was on it."""
        return push.address.channel is Channel.EMAIL and push.list_ref == GLOBAL

    def push(self, pushes: Sequence[Push]) -> Sequence[Refusal]:
        by_mail = [push for push in pushes if push.address.channel is Channel.EMAIL]
        suppressed = sorted({push.address.value for push in by_mail if push.reason is not None})
        if suppressed:
            self._job("profile-suppression-bulk-create-job", [{"email": value} for value in suppressed])
        opt_outs = [push for push in pushes if push.reason is None or push.address.channel is not Channel.EMAIL]
        for (list_ref, _), of_list in by_list(opt_outs).items():
            addresses = list(dict.fromkeys(push.address for push in of_list))
            if list_ref == GLOBAL:
                self._job("profile-subscription-bulk-delete-job", [_stop(address) for address in addresses])
            else:
                self._leave(list_ref.removeprefix("list:"), addresses)
        return []

    def _leave(self, list_id: str, addresses: Sequence[Address]) -> None:
        """Remove those addresses that are on the list."""
        ids = [
            str(row.get("id"))
            for channel, name in NAMES.items()
            for part in batches([address.value for address in addresses if address.channel is channel], AT_A_TIME)
            for row in self._profiles(
                f"/api/lists/{list_id}/profiles",
                {"filter": _any(name, part), "fields[profile]": name, "page[size]": str(PAGE)},
            )
        ]
        if ids:
            url = f"{self.settings.base_url}/api/lists/{list_id}/relationships/profiles"
            body = json_body({"data": [{"type": "profile", "id": profile_id} for profile_id in ids]})
            self.session.ask("DELETE", url, headers=self._headers, body=body)

    def _job(self, kind: str, profiles: Sequence[Mapping[str, Any]]) -> None:
        """Submit a job for the whole account, never for a list."""
        rows = [{"type": "profile", "attributes": profile} for profile in profiles]
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

    def probe(self) -> Sequence[str]:
        """Also check that each mapped list exists."""
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
        address = find_address(Channel.EMAIL, part(row, "attributes").get("email"))
        marketing = part(row, "attributes", "subscriptions", "email", "marketing")
        suppressions = marketing.get(name)
        for suppression in suppressions if isinstance(suppressions, list) else ():
            kind = REASONS.get(str(suppression.get("reason"))) if isinstance(suppression, dict) else None
            if address is None or kind is None or (list_id and suppression.get("list_id") != list_id):
                continue
            own = (f"list:{list_id}" if list_id else GLOBAL,)
            for list_ref in own if kind is EventKind.UNSUBSCRIBE else self.everywhere:
                at = instant(suppression.get("timestamp"))
                yield Listed(address=address, list_ref=list_ref, kind=kind, occurred_at=at)

    def _profiles(self, path: str, params: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
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


def _expected(secret: str, body: bytes, stamp: str) -> bytes:
    """Hexadecimal HMAC-SHA256 over the body followed by the time."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256)
    digest.update(stamp.encode("utf-8", "replace"))
    return digest.hexdigest().encode()


def _meta(body: bytes) -> dict[str, Any]:
    """The signed `meta` of a body. Raises BadSignature."""
    try:
        return part(read_json(body), "meta")
    except BadPayload:
        raise BadSignature("no JSON") from None


def _signed_at(stamp: str) -> datetime:
    """The time in the header, used without `meta.timestamp`: an HTTP date or ISO 8601.

    The header is signed too, but recorded calls hold local time marked as GMT (klaviyo-php-sdk, tests, 2026-11-30).
    """
    at = instant(stamp)
    if at is not None:
        return at
    try:
        at = parsedate_to_datetime(stamp)
    except (ValueError, TypeError, IndexError, OverflowError):
        raise BadSignature("no time") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _meanings(row: Mapping[str, Any]) -> Iterator[tuple[EventKind, Channel]]:
    """Kind and channel of an event; nothing for one that is ignored."""
    kind, channel = EVENTS.get(str(row.get("topic")).removeprefix(PREFIX), (None, Channel.EMAIL))
    properties = _properties(row)
    if kind is EventKind.SOFT_BOUNCE and str(properties.get("Bounce Type", "")).lower() == "hard":
        kind = EventKind.HARD_BOUNCE
    if kind is EventKind.UNSUBSCRIBE and _word(properties.get("method")) in NOT_THE_PERSON:
        kind = EventKind.SUPPRESSION_ADDED
    if kind is not None:
        yield kind, channel


def _word(text: object) -> str:
    """A method in the API's spelling; events use capitals or spaces."""
    return re.sub(r"[^a-z]+", "_", str(text).lower())


def _properties(row: Mapping[str, Any]) -> dict[str, Any]:
    return part(row, "payload", "data", "attributes", "event_properties")


def _named(row: Mapping[str, Any], channel: Channel) -> Address | None:
    """The address in an event's properties or its included profile."""
    profiles = [item for item in objects(part(row, "payload").get("included")) if item.get("type") == "profile"]
    texts = [_properties(row).get(PROPERTIES[channel])]
    texts += [part(profile, "attributes").get(NAMES[channel]) for profile in profiles[:1]]
    return next((address for text in texts if (address := find_address(channel, text))), None)


def _profile_id(row: Mapping[str, Any]) -> str:
    found = part(row, "payload", "data", "relationships", "profile", "data").get("id")
    return found if isinstance(found, str) else ""


def _unnamed(row: Mapping[str, Any]) -> Iterator[str]:
    """The profile id to look up, if an event to record has no address."""
    for kind, channel in _meanings(row):
        if kind in TO_LOOK_UP and _profile_id(row) and _named(row, channel) is None:
            yield _profile_id(row)


def _any(name: str, values: Sequence[str]) -> str:
    return f"any({name},{json.dumps(list(values), separators=(',', ':'))})"


def _stop(address: Address) -> dict[str, Any]:
    kind = "email" if address.channel is Channel.EMAIL else "sms"
    subscriptions = {kind: {"marketing": {"consent": "UNSUBSCRIBED"}}}
    return {NAMES[address.channel]: address.value, "subscriptions": subscriptions}


def _following(page: Mapping[str, Any]) -> str | None:
    """The cursor of the next page. The link itself is not followed, since it may lead elsewhere."""
    link = part(page, "links").get("next")
    if not link:
        return None
    try:
        return parse_qs(urlsplit(str(link)).query)["page[cursor]"][0]
    except (ValueError, KeyError):
        raise TryLater("a list that is not as documented") from None
