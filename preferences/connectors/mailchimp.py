"""Mailchimp Marketing: audiences and their interests.

Source: Mailchimp's webhook guides, release note on 410 and Marketing API 3.0.55, read 2026-11-23. Webhooks have no
signature, id or usable time: a secret in the URL authenticates them, a digest identifies them, the time of receipt
counts. Invariants: never answer 410, which ends a webhook; an interest never changes the audience's status.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from preferences.config import ConnectorSettings
from preferences.connectors.base import Listed, Parsed, Push, Refusal
from preferences.connectors.forms import read_form
from preferences.connectors.http import basic_auth, json_body, with_version
from preferences.connectors.lists import by_list, pages, push_each, require_lists, rows_of
from preferences.connectors.parsing import each_row, find_address, instant, text_in
from preferences.connectors.unsigned import UnsignedConnector
from preferences.domain.acts import PREFERENCE_VERBS, EventKind, ProviderEvent
from preferences.domain.errors import TryLater
from preferences.domain.records import Address
from preferences.domain.vocabulary import BLANKET, Channel, SuppressionReason

CLEANED: Final = {"hard": EventKind.HARD_BOUNCE, "abuse": EventKind.COMPLAINT}
"""By `data[reason]`."""

TAKEN_AWAY: Final = frozenset({"delete", "archive"})
"""`data[action]` of an unsubscribe that removed the record, which is no opt-out. `delete`: Mailchimp's guides "About
webhooks" and "Sync audience data with webhooks". `archive` is undocumented, a precaution.
"""
LISTED: Final = {"unsubscribed": EventKind.UNSUBSCRIBE, "cleaned": EventKind.HARD_BOUNCE}
UNDELIVERABLE: Final = frozenset({SuppressionReason.HARD_BOUNCE, SuppressionReason.INVALID})
NOBODY: Final = "transactional"
"""The status of a contact who gets no campaigns but has not opted out."""

LIST: Final = re.compile(r"list:[0-9a-z]{1,40}|interest:[0-9a-z]{1,40}/[0-9a-z]{1,40}")
PAGE: Final = 1_000
FIELDS: Final = "members.email_address,members.status,members.last_changed"


class Mailchimp(UnsignedConnector):
    """Audiences (`list:ID`) and their interests (`interest:LIST/ID`). No list covers all audiences: leave `*` unmapped,
    and a blanket opt-out is pushed to each.
    """

    busy_code = 503
    refused_code = 403
    # A truncated form may end in another person's address.
    needs_length = True
    calls_per_second = 5.0
    can_lift = True
    dates_change_together = True

    def __init__(self, settings: ConnectorSettings) -> None:
        super().__init__(settings)
        require_lists(settings, LIST, example="list:ID or interest:LIST/ID")
        # An audience takes 500 members a call, an interest one.
        is_single = any(ref.startswith("interest:") for ref in settings.topics.values())
        self.batch_size = 25 if is_single else 500

    def parse(self, headers: Mapping[str, str], body: bytes) -> Parsed:
        form = read_form(body)
        text_in(form, "type")
        return each_row([form], self._events)

    def _events(self, form: Mapping[str, str]) -> Iterator[ProviderEvent]:
        kind = _kind(form)
        if kind is None:
            return
        text = text_in(form, "data[old_email]" if kind is EventKind.ADDRESS_CHANGED else "data[email]")
        address = find_address(Channel.EMAIL, text)
        if address is None:
            return
        fields = {name: value for name, value in form.items() if not name.startswith("data[merges]")}
        topics = self._topics_of(kind, form.get("data[list_id]", "")) if kind in PREFERENCE_VERBS else [BLANKET]
        for number, topic in enumerate(topics):
            yield ProviderEvent(
                kind=kind,
                address=address,
                event_id=self.digest(fields, topic) if number else self.digest(fields),
                occurred_at=None,
                brand=self.settings.brand,
                topic=topic,
                new_address=find_address(Channel.EMAIL, form.get("data[new_email]")),
            )

    def _topics_of(self, kind: EventKind, audience: str) -> list[str]:
        """The topics of the audience and, except for a resubscribe, of its interests."""
        inside = f"interest:{audience}/"
        refs = [f"list:{audience}"]
        if kind is not EventKind.RESUBSCRIBE:
            refs += [ref for ref in self.settings.topics.values() if ref.startswith(inside)]
        return [topic for ref in refs if (topic := self.topic_of(ref)) is not None]

    def can_compare(self, push: Push) -> bool:
        """An interest that is off looks the same after an opt-out as when it never was on."""
        return push.list_ref.startswith("list:")

    def push(self, pushes: Sequence[Push]) -> Sequence[Refusal]:
        refusals: list[Refusal] = []
        for (list_ref, is_lift), of_list in by_list(pushes).items():
            kind, _, name = list_ref.partition(":")
            if kind == "list":
                refusals += self._push_to_audience(name, of_list, is_lift=is_lift)
            else:
                refusals += push_each(of_list, self._push_interest)
        return refusals

    def _push_to_audience(self, audience: str, pushes: Sequence[Push], *, is_lift: bool) -> Sequence[Refusal]:
        refusals = self._batch(audience, pushes, "subscribed" if is_lift else "")
        if not is_lift or not refusals:
            return refusals
        # Contacts who left can return only by confirming to Mailchimp ("Member In Compliance State").
        refused = {refusal.contact_id for refusal in refusals}
        return self._batch(audience, [push for push in pushes if push.contact_id in refused], "pending")

    def _batch(self, audience: str, pushes: Sequence[Push], status: str) -> list[Refusal]:
        members = {
            push.address.value: {
                "email_address": push.address.value,
                "status": status or ("cleaned" if push.reason in UNDELIVERABLE else "unsubscribed"),
            }
            for push in pushes
        }
        body = json_body({"members": list(members.values()), "update_existing": True})
        answer = self.session.call("POST", self._url("lists", audience), headers=self._headers, body=body)
        errors = _errors(answer)
        return [Refusal(push.contact_id, errors[push.address.value]) for push in pushes if push.address.value in errors]

    def _push_interest(self, push: Push) -> None:
        audience, _, interest = push.list_ref.removeprefix("interest:").partition("/")
        member = {
            "email_address": push.address.value,
            "status_if_new": NOBODY,
            "interests": {interest: push.is_lift},
        }
        url = self._url("lists", audience, "members", member_id(push.address.value))
        self.session.call("PUT", url, headers=self._headers, body=json_body(member))

    def _url(self, *parts: str) -> str:
        root = with_version(self.settings.base_url, ".api.mailchimp.com", "/3.0")
        return "/".join([root, *(quote(part, safe="") for part in parts)])

    @property
    def _headers(self) -> dict[str, str]:
        return basic_auth("any", self.settings.api_key) | {"Content-Type": "application/json"}

    def held(self, lifts: Sequence[Push]) -> Iterator[Listed]:
        """`last_changed` is the time of the member's last change of any kind; an opt-out is no newer."""
        members = {(lift.address, lift.list_ref.partition(":")[2].partition("/")[0]) for lift in lifts}
        for address, audience in members:
            member = self._member(audience, address)
            at = instant(member.get("last_changed"))
            kind = LISTED.get(str(member.get("status")))
            if kind is not None:
                yield Listed(address=address, list_ref=f"list:{audience}", kind=kind, occurred_at=at)
            interests = member.get("interests")
            for name, is_chosen in interests.items() if isinstance(interests, dict) else ():
                if is_chosen is not True:
                    ref = f"interest:{audience}/{name}"
                    yield Listed(address=address, list_ref=ref, kind=EventKind.UNSUBSCRIBE, occurred_at=at)

    def _member(self, audience: str, address: Address) -> Mapping[str, Any]:
        """The member, or an empty mapping."""
        url = self._url("lists", audience, "members", member_id(address.value))
        params = {"fields": "email_address,status,last_changed,interests"}
        answer = self.session.ask("GET", url, headers=self._headers, params=params, accept={404})
        if answer.status == 404:
            return {}
        member = answer.document if isinstance(answer.document, dict) else {}
        if find_address(Channel.EMAIL, member.get("email_address")) != address:
            raise TryLater("a member that is not as described")
        return member

    def probe(self) -> Sequence[str]:
        """Also check that each mapped audience exists."""
        names = {ref.partition(":")[2].partition("/")[0] for ref in self.settings.topics.values()}
        missing = [name for name in sorted(names) if self._ask_for(name) == 404]
        return [f"there is no audience {name}" for name in missing]

    def _ask_for(self, audience: str) -> int:
        params = {"fields": "id"}
        url = self._url("lists", audience)
        return self.session.ask("GET", url, headers=self._headers, params=params, accept={404}).status

    def list_suppressed(self) -> Iterator[Listed]:
        refs = self.settings.topics.values()
        audiences = [ref.removeprefix("list:") for ref in refs if ref.startswith("list:")]
        for audience in audiences:
            for status in LISTED:
                yield from self._members(audience, status)

    def _members(self, audience: str, status: str) -> Iterator[Listed]:
        url = self._url("lists", audience, "members")

        def page(offset: int) -> Sequence[Any]:
            params = {"status": status, "count": str(PAGE), "offset": str(offset), "fields": FIELDS}
            answer = self.session.call("GET", url, headers=self._headers, params=params)
            return rows_of(answer.get("members") if isinstance(answer, dict) else None)

        for row in pages(page):
            address, kind = find_address(Channel.EMAIL, row.get("email_address")), LISTED.get(row.get("status"))
            if address is not None and kind is not None:
                at = instant(row.get("last_changed"))
                yield Listed(address=address, list_ref=f"list:{audience}", kind=kind, occurred_at=at)


def member_id(address: str) -> str:
    """The MD5 of the address in lower case, by which Mailchimp names members."""
    return hashlib.md5(address.lower().encode(), usedforsecurity=False).hexdigest()


def _kind(form: Mapping[str, str]) -> EventKind | None:
    """The kind of a report; `profile` and `campaign` are ignored.

    A sign-up by form has `data[ip_signup]`; one by a colleague or the API only `data[ip_opt]`. An unsubscribe by a
    campaign's link has `data[campaign_id]`; one by the API, perhaps ours, has none.
    """
    reason = form.get("data[reason]", "")
    match form["type"]:
        case "subscribe":
            return EventKind.RESUBSCRIBE if form.get("data[ip_signup]") else EventKind.SUPPRESSION_REMOVED
        case "upemail":
            return EventKind.ADDRESS_CHANGED
        case "cleaned":
            return CLEANED.get(reason)
        case "unsubscribe" if reason == "abuse":
            return EventKind.COMPLAINT
        case "unsubscribe" if form.get("data[action]") in TAKEN_AWAY:
            return EventKind.CONTACT_DELETED
        case "unsubscribe":
            return EventKind.UNSUBSCRIBE if form.get("data[campaign_id]") else EventKind.SUPPRESSION_ADDED
    return None


def _errors(answer: Any) -> dict[str, str]:
    """Reasons for refused members, by address. The status is 200 nevertheless."""
    try:
        return {
            str(error["email_address"]).lower(): str(error.get("error_code", ""))[:60] for error in answer["errors"]
        }
    except (KeyError, TypeError, AttributeError):
        raise TryLater("an answer that is not as described") from None
