"""SendGrid: the signed Event Webhook in, unsubscribe groups and the global list out.

Source: event reference, "Getting started with the Event Webhook security features", suppressions v3, read 2026-11-23.
Invariant: groups are read before each push, since an address added to a deleted group goes to the *global* list.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from preferences.config import ConnectorSettings
from preferences.connectors.base import Connector, Listed, Parsed, Push, Refusal
from preferences.connectors.http import json_body
from preferences.connectors.lifts import require_older
from preferences.connectors.lists import by_list, pages, push_each, require_lists, rows_of
from preferences.connectors.parsing import each_row, event_id, find_address, instant, read_json, text_in
from preferences.domain.acts import PREFERENCE_VERBS, EventKind, ProviderEvent
from preferences.domain.errors import BadPayload, BadSignature, Misconfigured, Rejected
from preferences.domain.vocabulary import BLANKET, Channel, SuppressionReason

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

SIGNATURE: Final = "x-twilio-email-event-webhook-signature"
TIMESTAMP: Final = "x-twilio-email-event-webhook-timestamp"
GLOBAL: Final = "global"
LIST: Final = re.compile(r"asm:[1-9][0-9]{0,17}|global")
PAGE: Final = 500

EVENTS: Final = {
    "unsubscribe": EventKind.UNSUBSCRIBE,
    "group_unsubscribe": EventKind.UNSUBSCRIBE,
    "group_resubscribe": EventKind.RESUBSCRIBE,
    "spamreport": EventKind.COMPLAINT,
    "bounce": EventKind.SOFT_BOUNCE,
    "deferred": EventKind.DEFERRED,
    "dropped": EventKind.SEND_SUPPRESSED,
}
"""Bounces depend on `type` and `bounce_classification`."""

BOUNCES: Final = {"bounce": EventKind.HARD_BOUNCE, "blocked": EventKind.BLOCK}
"""By `type`; others are soft. A blocked address is valid."""

CLASSIFIED: Final = {
    **dict.fromkeys(("Content", "Reputation", "Frequency or Volume Too High"), EventKind.BLOCK),
    "Technical Failure": EventKind.SOFT_BOUNCE,
}
"""By `bounce_classification`: causes other than the address."""

LISTS: Final = {
    "unsubscribes": EventKind.UNSUBSCRIBE,
    "bounces": EventKind.HARD_BOUNCE,
    "spam_reports": EventKind.COMPLAINT,
    "invalid_emails": EventKind.INVALID,
}
"""Under `/v3/suppression/`. Blocks change nothing."""

TAKEN_OFF: Final = {
    SuppressionReason.HARD_BOUNCE: "bounces",
    SuppressionReason.COMPLAINT: "spam_reports",
    SuppressionReason.INVALID: "invalid_emails",
}


class SendGrid(Connector):
    """`asm:ID` is an unsubscribe group; `global` stops everything."""

    # Retried for up to 24 hours; whether retries are signed afresh is not published.
    freshness = timedelta(hours=24, minutes=5)
    batch_size = 1_000
    # Batches have at most 768 KB ("Data storage" in "Getting started with the Event Webhook", 2026-11-30).
    longest_body = 2 * 1024 * 1024
    calls_per_second = 10.0
    can_lift = True
    taken_off = frozenset(TAKEN_OFF)

    def __init__(self, settings: ConnectorSettings) -> None:
        super().__init__(settings)
        require_lists(settings, LIST, example="asm:12345", everything=GLOBAL)
        self._keys = [_public_key(self.name, key) for key in settings.webhook_secrets]

    def verify(self, headers: Mapping[str, str], body: bytes, *, url: str = "") -> None:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.hashes import SHA256

        stamp = headers.get(TIMESTAMP, "")
        signature = _signature(headers.get(SIGNATURE, ""))
        self.require_fresh(_signed_at(stamp))
        for key in self._keys:
            try:
                # The CRLF at the end of the body is signed too: do not trim or re-encode.
                key.verify(signature, stamp.encode() + body, ECDSA(SHA256()))
            except InvalidSignature:
                continue
            return
        raise BadSignature("no key fits")

    def parse(self, headers: Mapping[str, str], body: bytes) -> Parsed:
        rows = read_json(body)
        if not isinstance(rows, list):
            raise BadPayload("not a list of events")
        return each_row(rows, self._events)

    def _events(self, row: Mapping[str, Any]) -> Iterator[ProviderEvent]:
        # The sender's own arguments are mixed with SendGrid's fields.
        word, group = text_in(row, "event"), row.get("asm_group_id")
        kind = EVENTS.get(word)
        if kind is None:
            return
        address = find_address(Channel.EMAIL, text_in(row, "email"))
        if word == "bounce":
            kind = _bounce(row)
        topic = BLANKET
        if kind in PREFERENCE_VERBS and word != "unsubscribe":
            if not isinstance(group, int | str):
                raise BadPayload("without asm_group_id")
            topic = self.topic_of(f"asm:{group}") or ""
        if address is None or not topic:
            return
        own_id = event_id(row.get("sg_event_id"))
        yield ProviderEvent(
            kind=kind,
            address=address,
            event_id=own_id or self.digest(word, address.value, row.get("timestamp"), group),
            occurred_at=instant(row.get("timestamp")),
            brand=self.settings.brand,
            topic=topic,
        )

    def push(self, pushes: Sequence[Push]) -> Sequence[Refusal]:
        groups = by_list(pushes)
        known = self._groups() if any(list_ref != GLOBAL for list_ref, _ in groups) else set()
        refusals: list[Refusal] = []
        missing = {list_ref for list_ref, _ in groups} - known - {GLOBAL}
        for (list_ref, is_lift), batch in groups.items():
            if list_ref in missing:
                continue
            if is_lift:
                refusals += push_each(batch, self._lift_global)
            else:
                emails = sorted({push.address.value for push in batch})
                self._call("POST", _place(list_ref), {"recipient_emails": emails})
        if missing:
            # Raised after the other groups, before the position moves.
            raise Misconfigured(f"there is no unsubscribe group {', '.join(sorted(missing))}")
        return refusals

    def lifts_from(self, list_ref: str) -> bool:
        """SendGrid dates entries of the global list, not of groups."""
        return list_ref == GLOBAL

    def held(self, lifts: Sequence[Push]) -> Iterator[Listed]:
        for address in {lift.address for lift in lifts}:
            # Also finds longer addresses with this prefix.
            for row in pages(lambda offset, value=address.value: self._page("unsubscribes", offset, value)):  # type: ignore[misc]
                yield from self._rows(row, [GLOBAL], EventKind.UNSUBSCRIBE, row.get("created"))

    def _lift_global(self, push: Push) -> None:
        if push.list_ref != GLOBAL:
            raise Rejected("SendGrid does not say since when an address is in a group")
        path = f"{self.settings.base_url}{_place(GLOBAL)}/{quote(push.address.value, safe='')}"
        self.session.ask("DELETE", path, headers=self._headers, accept={404})

    def take_off(self, push: Push) -> None:
        place = f"/v3/suppression/{TAKEN_OFF[push.reason]}/{quote(push.address.value, safe='')}"  # type: ignore[index]
        rows = [row for row in rows_of(self._call("GET", place)) if row.get("created") is not None]
        if require_older([instant(row["created"]) for row in rows], push.since):
            self.session.ask("DELETE", f"{self.settings.base_url}{place}", headers=self._headers, accept={404})

    def list_suppressed(self) -> Iterator[Listed]:
        for row in rows_of(self._call("GET", "/v3/asm/suppressions")):
            yield from self._rows(row, [f"asm:{row.get('group_id')}"], EventKind.UNSUBSCRIBE, row.get("created_at"))
        for name, kind in LISTS.items():
            refs = [GLOBAL] if kind is EventKind.UNSUBSCRIBE else self.everywhere
            for row in pages(lambda offset, name=name: self._page(name, offset)):  # type: ignore[misc]
                yield from self._rows(row, refs, kind, row.get("created"))

    def _page(self, name: str, offset: int, email: str = "") -> list[Mapping[str, Any]]:
        params = {"limit": str(PAGE), "offset": str(offset)} | ({"email": email} if email else {})
        return rows_of(self._call("GET", f"/v3/suppression/{name}", params=params))

    def _rows(self, row: Mapping[str, Any], refs: Sequence[str], kind: EventKind, at: object) -> Iterator[Listed]:
        address = find_address(Channel.EMAIL, row.get("email"))
        if address is None:
            return
        for list_ref in refs:
            yield Listed(address=address, list_ref=list_ref, kind=kind, occurred_at=instant(at))

    def probe(self) -> Sequence[str]:
        known = self._groups()
        wanted = {list_ref for list_ref in self.settings.topics.values() if list_ref != GLOBAL}
        return [f"there is no unsubscribe group {list_ref}" for list_ref in sorted(wanted - known)]

    def _groups(self) -> set[str]:
        return {f"asm:{row.get('id')}" for row in rows_of(self._call("GET", "/v3/asm/groups"))}

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.settings.api_key}", "Content-Type": "application/json"}

    def _call(self, method: str, path: str, document: Any = None, *, params: Mapping[str, str] | None = None) -> Any:
        body = None if document is None else json_body(document)
        return self.session.call(
            method, f"{self.settings.base_url}{path}", headers=self._headers, body=body, params=params
        )


def _bounce(row: Mapping[str, Any]) -> EventKind:
    named = CLASSIFIED.get(str(row.get("bounce_classification")))
    kind = BOUNCES.get(str(row.get("type")), EventKind.SOFT_BOUNCE)
    return named if named is not None and kind is EventKind.HARD_BOUNCE else kind


def _place(list_ref: str) -> str:
    if list_ref == GLOBAL:
        return "/v3/asm/suppressions/global"
    return f"/v3/asm/groups/{list_ref.removeprefix('asm:')}/suppressions"


def _public_key(name: str, text: str) -> EllipticCurvePublicKey:
    """A P-256 key as SendGrid shows it: base64 of a DER SubjectPublicKeyInfo."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        key = load_der_public_key(base64.b64decode("".join(text.split()), validate=True))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise Misconfigured(f"connector {name}: webhook_secrets must be the verification key, as SendGrid shows it")
    return key


def _signature(text: str) -> bytes:
    """The bytes of a signature in canonical base64."""
    try:
        signature = base64.b64decode(text, validate=True)
    except ValueError:
        signature = b""
    if not signature or base64.b64encode(signature).decode() != text:
        raise BadSignature("no signature")
    return signature


def _signed_at(text: str) -> datetime:
    if not (text.isascii() and text.isdecimal() and len(text) <= 11):
        raise BadSignature("no time")
    return datetime.fromtimestamp(int(text), UTC)
