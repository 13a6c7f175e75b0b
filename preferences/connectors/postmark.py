"""Postmark: unsigned webhooks in, suppressions of message streams out.

Source: webhook pages (subscription change, bounce) and Suppressions API, read 2026-11-23. A list is a message stream;
none covers everything. Invariant: each address in a 200 answer has its own result, which is checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from preferences.config import ConnectorSettings
from preferences.connectors.base import Listed, Parsed, Push, Refusal
from preferences.connectors.http import json_body
from preferences.connectors.lifts import require_older
from preferences.connectors.lists import by_list, push_each, require_lists, rows_of
from preferences.connectors.parsing import ODD, find_address, instant, read_json, text_in
from preferences.connectors.unsigned import UnsignedConnector
from preferences.domain.acts import PREFERENCE_VERBS, EventKind, ProviderEvent
from preferences.domain.errors import BadPayload, Misconfigured, Rejected, TryLater
from preferences.domain.vocabulary import BLANKET, Channel, SuppressionReason

TRACE: Final = "x-pm-webhook-trace-id"
STREAM: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
UNKNOWN_STREAM: Final = 1226

BOUNCES: Final = {
    "HardBounce": EventKind.HARD_BOUNCE,
    "BadEmailAddress": EventKind.HARD_BOUNCE,
    "SoftBounce": EventKind.SOFT_BOUNCE,
    "Transient": EventKind.SOFT_BOUNCE,
    "Blocked": EventKind.BLOCK,
    "DMARCPolicy": EventKind.BLOCK,
    "SpamComplaint": EventKind.COMPLAINT,
    "Unsubscribe": EventKind.UNSUBSCRIBE,
}
"""By `Type`, since a vendor page has wrong numbers. `Unsubscribe` ("unsubscribe or remove request" in its client
libraries, 2026-11-30) is read as an opt-out by reply.
"""

REASONS: Final = {
    "ManualSuppression": EventKind.UNSUBSCRIBE,
    "HardBounce": EventKind.HARD_BOUNCE,
    "SpamComplaint": EventKind.COMPLAINT,
}
TIMES: Final = {"SubscriptionChange": "ChangedAt", "Bounce": "BouncedAt", "SpamComplaint": "BouncedAt"}


class Postmark(UnsignedConnector):
    batch_size = 50
    # A bounce may include the server's answer (`Content`, client library 4.0, 2026-11-30), whose length is not
    # published: this limit is a guess.
    longest_body = 2 * 1024 * 1024
    can_lift = True
    taken_off = frozenset({SuppressionReason.HARD_BOUNCE, SuppressionReason.INVALID})

    def __init__(self, settings: ConnectorSettings) -> None:
        super().__init__(settings)
        require_lists(settings, STREAM, example="broadcast")

    def parse(self, headers: Mapping[str, str], body: bytes) -> Parsed:
        try:
            record = read_json(body)
            name = record["RecordType"]
            event = self._event(record, name, headers.get(TRACE)) if name in TIMES else None
        except ODD:
            raise BadPayload("not a record of Postmark's") from None
        return Parsed([event], 0) if event else Parsed([], 1)

    def _event(self, record: Mapping[str, Any], name: str, trace: str | None) -> ProviderEvent | None:
        kind, stream = _kind(record, name), record.get("MessageStream")
        if kind is None:
            return None
        address = find_address(Channel.EMAIL, text_in(record, "Recipient" if name == "SubscriptionChange" else "Email"))
        topic = (self.topic_of(stream) if isinstance(stream, str) else None) if kind in PREFERENCE_VERBS else BLANKET
        if address is None or topic is None:
            return None
        return ProviderEvent(
            kind=kind,
            address=address,
            # The trace is the same for all retries of an event.
            event_id=self.digest(trace, kind, address.value, stream, record.get("ID"), record.get(TIMES[name])),
            occurred_at=instant(record.get(TIMES[name])),
            brand=self.settings.brand,
            topic=topic,
        )

    def push(self, pushes: Sequence[Push]) -> Sequence[Refusal]:
        refusals: list[Refusal] = []
        for (stream, is_lift), batch in by_list(pushes).items():
            if is_lift:
                refusals += push_each(batch, self._lift)
            else:
                results = self._change(f"{self._place(stream)}", sorted({push.address.value for push in batch}))
                failed = [push for push in batch if results[push.address.value] != "Suppressed"]
                refusals += [Refusal(push.contact_id, "Postmark does not take this address") for push in failed]
        return refusals

    def held(self, lifts: Sequence[Push]) -> Iterator[Listed]:
        for lift in lifts:
            rows = self._dump(lift.list_ref, {"EmailAddress": lift.address.value})
            for row in rows:
                kind = REASONS.get(str(row.get("SuppressionReason")), EventKind.SUPPRESSION_ADDED)
                at = instant(row.get("CreatedAt"))
                yield Listed(address=lift.address, list_ref=lift.list_ref, kind=kind, occurred_at=at)

    def take_off(self, push: Push) -> None:
        """Removes hard bounces from each stream. Only Postmark itself can remove a complaint."""
        address = push.address.value
        for stream in dict.fromkeys(self.settings.topics.values()):
            rows = self._dump(stream, {"EmailAddress": address})
            bounced = [row for row in rows if row.get("SuppressionReason") == "HardBounce"]
            if not require_older([instant(row.get("CreatedAt")) for row in bounced], push.since):
                continue
            if self._change(f"{self._place(stream)}/delete", [address])[address] != "Deleted":
                raise Rejected("Postmark does not let it be taken off")

    def _lift(self, push: Push) -> None:
        address = push.address.value
        held = self._dump(push.list_ref, {"EmailAddress": address})
        if any(row.get("SuppressionReason") != "ManualSuppression" for row in held):
            raise Rejected("a bounce or a complaint stands there")
        if held and self._change(f"{self._place(push.list_ref)}/delete", [address])[address] != "Deleted":
            raise Rejected("Postmark does not let it be lifted")

    def _change(self, place: str, emails: Sequence[str]) -> Mapping[str, str]:
        """The result for each address. Raises TryLater if one is missing."""
        body = json_body({"Suppressions": [{"EmailAddress": email} for email in emails]})
        answer = self.session.ask("POST", place, headers=self._headers, body=body, accept={422})
        if answer.status == 422:
            raise _refused(answer.document)
        rows = rows_of(answer.document.get("Suppressions") if isinstance(answer.document, dict) else None)
        results = {str(row.get("EmailAddress")).lower(): str(row.get("Status")) for row in rows}
        if not all(email.lower() in results for email in emails):
            raise TryLater("an answer that does not say what became of each")
        return {email: results[email.lower()] for email in emails}

    def list_suppressed(self) -> Iterator[Listed]:
        for stream in self.settings.topics.values():
            for row in self._dump(stream, {}):
                kind = REASONS.get(str(row.get("SuppressionReason")), EventKind.SUPPRESSION_ADDED)
                address = find_address(Channel.EMAIL, row.get("EmailAddress"))
                if address is not None:
                    at = instant(row.get("CreatedAt"))
                    yield Listed(address=address, list_ref=stream, kind=kind, occurred_at=at)

    def _dump(self, stream: str, params: Mapping[str, str]) -> list[Mapping[str, Any]]:
        place = f"{self._place(stream)}/dump"
        answer = self.session.ask("GET", place, headers=self._headers, params=params, accept={422})
        if answer.status == 422:
            raise _refused(answer.document)
        return rows_of(answer.document.get("Suppressions") if isinstance(answer.document, dict) else None)

    def probe(self) -> Sequence[str]:
        problems = []
        for stream in self.settings.topics.values():
            try:
                self._dump(stream, {"EmailAddress": "nobody@example.com"})
            except (Misconfigured, Rejected) as failure:
                problems.append(f"stream {stream}: {failure}")
        return problems

    def _place(self, stream: str) -> str:
        return f"{self.settings.base_url}/message-streams/{stream}/suppressions"

    @property
    def _headers(self) -> dict[str, str]:
        return {
            "X-Postmark-Server-Token": self.settings.api_key,
            "Content-Type": "application/json",
            "Accept": "application/json",
        }


def _kind(record: Mapping[str, Any], name: str) -> EventKind | None:
    if name == "SpamComplaint":
        return EventKind.COMPLAINT
    if name == "Bounce":
        return BOUNCES.get(str(record.get("Type")))
    is_person = record.get("Origin") == "Recipient"
    if record.get("SuppressSending") is False:
        return EventKind.RESUBSCRIBE if is_person else EventKind.SUPPRESSION_REMOVED
    if record.get("SuppressSending") is not True:
        return None
    # Nothing more is sent, whatever the reason.
    kind = REASONS.get(str(record.get("SuppressionReason")), EventKind.UNSUBSCRIBE)
    return EventKind.SUPPRESSION_ADDED if kind is EventKind.UNSUBSCRIBE and not is_person else kind


def _refused(document: Any) -> Exception:
    """The error of a 422. Keeps only the vendor's number: its text quotes what was sent."""
    code = document.get("ErrorCode") if isinstance(document, dict) else None
    if code == UNKNOWN_STREAM:
        return Misconfigured(f"error {UNKNOWN_STREAM}: there is no such message stream")
    return Rejected(f"error {code}" if isinstance(code, int) else "answer 422")
