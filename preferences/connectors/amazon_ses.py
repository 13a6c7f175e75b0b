"""Amazon SES: reports through SNS; the account's suppression list and contact lists through boto3.

Source: Amazon SES Developer Guide and the sesv2 service model, read 2026-11-23. Invariants: an update of a contact
carries all its topics; an opt-out reaches the account's suppression list, which also stops transactional mail, only
if that list is mapped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final

from preferences.config import ConnectorSettings
from preferences.connectors import http
from preferences.connectors.base import Connector, Listed, Options, Parsed, Push, Refusal
from preferences.connectors.http import SendingLimit, raise_for
from preferences.connectors.lifts import require_older
from preferences.connectors.lists import require_lists
from preferences.connectors.parsing import (
    ODD,
    each_row,
    event_id,
    find_address,
    instant,
    objects,
    part,
    read_json,
    text_in,
)
from preferences.connectors.sns import LONGEST, Certificates, host_of, read_envelope, signed_at
from preferences.domain.acts import EventKind, ProviderEvent
from preferences.domain.errors import BadPayload, BadSignature, Misconfigured, Rejected, TryLater
from preferences.domain.records import Address
from preferences.domain.vocabulary import BLANKET, Channel, SuppressionReason

ACCOUNT: Final = "suppression-list"
"""The list_ref of the account's suppression list. Others are `list:NAME` and `list:NAME/TOPIC`."""

LIST: Final = re.compile(rf"{ACCOUNT}|list:[\w-]{{1,100}}(?:/[\w-]{{1,100}})?", re.ASCII)

BOUNCES: Final = frozenset({"Permanent", "Transient", "Undetermined"})
BAD_ADDRESS: Final = frozenset({"General", "NoEmail"})
"""Sub-types of permanent bounces that mean an invalid address; unknown sub-types do not."""

CONSEQUENCES: Final = frozenset(
    {
        *("Suppressed", "OnAccountSuppressionList", "OnTenantSuppressionList"),
        *("EmailValidationSuppressed", "UnsubscribedRecipient"),
    }
)
"""Sub-types for mail that SES did not send: address suppressed, invalid, or opted out (reported separately)."""

NO_COMPLAINTS: Final = frozenset({"not-spam", "auth-failure"})
"""Feedback types that are not complaints (IANA, "Mail abuse report feedback types")."""
GREETING: Final = "Successfully validated SNS topic"
"""Published as plain text when SES is connected to a topic. Not in Amazon's guides: ope-tech/laravel-ses issue 10 and
the tests of django-anymail, 2026-11-30.
"""
RECIPIENTS: Final = {
    "Bounce": ("bounce", "bouncedRecipients"),
    "Complaint": ("complaint", "complainedRecipients"),
    "DeliveryDelay": ("deliveryDelay", "delayedRecipients"),
}
REASONS: Final = {SuppressionReason.HARD_BOUNCE: "BOUNCE", SuppressionReason.INVALID: "BOUNCE"}
"""Reasons for the account's suppression list: no mail of any kind can arrive. Others are marketing opt-outs."""

LISTED: Final = {"BOUNCE": EventKind.HARD_BOUNCE, "COMPLAINT": EventKind.COMPLAINT}
PAGE: Final = 1_000

PASSING: Final = frozenset(
    {
        *("TooManyRequestsException", "ThrottlingException", "Throttling", "RequestLimitExceeded", "SlowDown"),
        *("LimitExceededException", "ConcurrentModificationException", "AlreadyExistsException"),
    }
)
"""Error codes to retry, whatever their HTTP status; the last two follow a concurrent write."""


class SesOptions(Options):
    """`topic_arns`: the SNS topics that may report. `access_key_id` goes with `api_key`; without both the machine's
    role is used. `sns_url` replaces Amazon's host, for tests and proxies.
    """

    region: str = "us-east-1"
    topic_arns: tuple[str, ...] = ()
    access_key_id: str = ""
    sns_url: str = ""


class AmazonSes(Connector):
    # SNS takes every answer from 200 to 499 as delivered; only 5xx makes it retry.
    busy_code = 503
    refused_code = 403
    # The time of publication is signed, and a delivery policy may retry for an hour.
    freshness = timedelta(hours=8)
    # Two calls a contact, at about one a second.
    batch_size = 5
    longest_body = LONGEST
    calls_per_second = 1.0
    can_lift = True
    taken_off = frozenset(REASONS)
    dates_change_together = True
    options_type = SesOptions
    options: SesOptions

    def __init__(self, settings: ConnectorSettings) -> None:
        super().__init__(settings)
        require_lists(settings, LIST, example=f"list:NAME, list:NAME/TOPIC or {ACCOUNT}", everything=ACCOUNT)
        if not all(map(host_of, self.options.topic_arns)):
            raise Misconfigured(
                f"connector {self.name}: options.topic_arns must be such as arn:aws:sns:REGION:ACCOUNT:NAME"
            )

    @property
    def takes_webhooks(self) -> bool:
        return bool(self.options.topic_arns)

    @cached_property
    def _certificates(self) -> Certificates:
        return Certificates(self.options.sns_url)

    @cached_property
    def _pace(self) -> SendingLimit:
        return SendingLimit(self.calls_per_second)

    def verify(self, headers: Mapping[str, str], body: bytes, *, url: str = "") -> None:
        """Also raises TryLater if the certificate cannot be fetched, since SNS never repeats a refused message."""
        message = read_envelope(body)
        if message.get("TopicArn") not in self.options.topic_arns:
            raise BadSignature("not a topic of ours")
        self.require_fresh(signed_at(message))
        self._certificates.verify(message)

    def is_handshake(self, headers: Mapping[str, str], body: bytes) -> bool:
        message = read_envelope(body)
        is_confirmation = message.get("Type") == "SubscriptionConfirmation"
        if is_confirmation:
            self._certificates.confirm(message)
        return is_confirmation

    def parse(self, headers: Mapping[str, str], body: bytes) -> Parsed:
        try:
            envelope = read_json(body)
            if envelope["Type"] != "Notification":
                return Parsed([], 1)
            message_id, text = envelope["MessageId"], envelope["Message"]
            if text.startswith(GREETING):
                return Parsed([], 1)
            parsed = self._read(read_json(text.encode("utf-8", "surrogatepass")))
        except ODD:
            raise BadPayload("not an SES event in an SNS message") from None
        numbered = [_with_id(event, f"{message_id}/{number}") for number, event in enumerate(parsed.events)]
        return replace(parsed, events=numbered)

    def _read(self, message: Mapping[str, Any]) -> Parsed:
        kind = message.get("eventType") or message.get("notificationType")
        if kind == "Subscription":
            return self._choices(message)
        if kind not in RECIPIENTS:
            return Parsed([], 1)
        name, recipients = RECIPIENTS[kind]
        details = message[name]
        meaning = _meaning(kind, details)
        at = details.get("timestamp") or part(message, "mail").get("timestamp")

        def read(recipient: Mapping[str, Any]) -> Iterator[ProviderEvent]:
            address = find_address(Channel.EMAIL, text_in(recipient, "emailAddress"))
            if meaning is not None and address is not None:
                yield self._event(meaning, address, at)

        return each_row(details[recipients], read)

    def _choices(self, message: Mapping[str, Any]) -> Parsed:
        details = message["subscription"]
        name, now, before = (
            details["contactList"],
            part(details, "newTopicPreferences"),
            dict(_statuses(part(details, "oldTopicPreferences"))),
        )
        said = dict(_statuses(now))
        # An opt-in counts only after an opt-out: other topics may be opted in by default.
        refs = {f"list:{name}/{topic}": out for topic, out in said.items() if out or before.get(topic)}
        if now.get("unsubscribeAll"):
            # Opt-ins among the unchanged topics are not new.
            refs = {**{ref: out for ref, out in refs.items() if out}, f"list:{name}": True}

        def read(text: str) -> Iterator[ProviderEvent]:
            address = find_address(Channel.EMAIL, text)
            for ref, out in refs.items():
                topic = self.topic_of(ref) or (BLANKET if ref == f"list:{name}" else None)
                if address is not None and topic is not None:
                    kind = EventKind.UNSUBSCRIBE if out else EventKind.RESUBSCRIBE
                    yield self._event(kind, address, details.get("timestamp"), topic=topic)

        return each_row(message["mail"]["destination"], read, of=str)

    def _event(self, kind: EventKind, address: Address, at: Any, *, topic: str = BLANKET) -> ProviderEvent:
        brand = self.settings.brand
        return ProviderEvent(
            kind=kind, address=address, event_id=None, occurred_at=instant(at), brand=brand, topic=topic
        )

    @cached_property
    def _client(self) -> Any:
        # boto3 takes 0.2 s and much memory to load.
        import boto3
        from botocore.config import Config

        keys = {}
        if self.options.access_key_id:
            keys = {
                "aws_access_key_id": self.options.access_key_id,
                "aws_secret_access_key": self.settings.api_key,
            }
        # `sync` schedules the retries.
        config = Config(
            connect_timeout=http.TIMEOUT[0], read_timeout=http.TIMEOUT[1], retries={"total_max_attempts": 1}
        )
        session = boto3.session.Session(region_name=self.options.region, **keys)
        return session.client("sesv2", endpoint_url=self.settings.base_url, config=config)

    def _call(self, operation: str, *, may_miss: bool = False, has_waited: bool = False, **arguments: Any) -> Any:
        """The answer, or None if not found and `may_miss`. Raises TryLater, Rejected or Misconfigured."""
        client = self._client
        from botocore import exceptions

        if not has_waited:
            self._pace.wait()
        try:
            return getattr(client, operation)(**arguments)
        except exceptions.ClientError as error:
            if may_miss and error.response.get("Error", {}).get("Code") == "NotFoundException":
                return None
            _raise_for(error.response)
        except exceptions.ParamValidationError:
            raise Rejected("not as the service takes it") from None
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError):
            raise Misconfigured("no credentials: set api_key and options.access_key_id") from None
        except (exceptions.BotoCoreError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            # The last five: the library's errors for a malformed answer.
            raise TryLater(type(error).__name__) from None

    def push(self, pushes: Sequence[Push]) -> Sequence[Refusal]:
        by_address: dict[Address, list[Push]] = {}
        for push in pushes:
            by_address.setdefault(push.address, []).append(push)
        refusals = []
        for address, of_one in by_address.items():
            try:
                self._push_address(address, of_one)
            except Rejected as failure:
                refusals += [
                    Refusal(contact, str(failure)) for contact in dict.fromkeys(push.contact_id for push in of_one)
                ]
        return refusals

    def _push_address(self, address: Address, pushes: Sequence[Push]) -> None:
        account = {_account_reason(push) for push in pushes} - {""}
        lists: dict[str, dict[str, bool]] = {}
        for push in pushes:
            if not _account_reason(push):
                name, topic = _list_and_topic(push.list_ref)
                lists.setdefault(name, {})[topic] = not push.is_lift
        for reason in sorted(account)[:1]:
            self._call("put_suppressed_destination", EmailAddress=address.value, Reason=reason)
        for name, choices in lists.items():
            self._push_to_contact(name, address, choices)

    def _push_to_contact(self, name: str, address: Address, choices: Mapping[str, bool]) -> None:
        """Write the choices (topic, or "" for the whole list: whether opted out) and keep all others."""
        contact = {"ContactListName": name, "EmailAddress": address.value}
        # Wait before reading: a change at SES between read and write would be lost.
        self._pace.wait()
        held = self._contact(name, address)
        preferences = {
            topic["TopicName"]: topic["SubscriptionStatus"] for topic in (held or {}).get("TopicPreferences", [])
        }
        wanted = preferences | {topic: "OPT_OUT" if out else "OPT_IN" for topic, out in choices.items() if topic}
        was_all = bool((held or {}).get("UnsubscribeAll"))
        all_of_it = choices.get("", was_all)
        if held is not None and (wanted, all_of_it) == (preferences, was_all):
            return
        arguments: dict[str, Any] = contact | {
            "TopicPreferences": [{"TopicName": name, "SubscriptionStatus": status} for name, status in wanted.items()],
            "UnsubscribeAll": all_of_it,
        }
        if held is not None and held.get("AttributesData"):
            arguments["AttributesData"] = held["AttributesData"]
        self._call("create_contact" if held is None else "update_contact", has_waited=True, **arguments)

    def _contact(self, name: str, address: Address) -> Mapping[str, Any] | None:
        held: Mapping[str, Any] | None = self._call(
            "get_contact", may_miss=True, ContactListName=name, EmailAddress=address.value
        )
        if held is not None and str(held.get("EmailAddress", "")).lower() != address.value:
            # boto3 reads an HTML page or partial answer as a contact without preferences, and the next write would
            # erase its opt-outs.
            raise TryLater("SES did not answer about this contact")
        return held

    def lifts_from(self, list_ref: str) -> bool:
        """The account's suppression list is edited by hand."""
        return list_ref != ACCOUNT

    def take_off(self, push: Push) -> None:
        """Removes a BOUNCE. A COMPLAINT stays: it may be an opt-out."""
        address = push.address.value
        answer = self._call("get_suppressed_destination", may_miss=True, EmailAddress=address) or {}
        row = answer.get("SuppressedDestination") or {}
        if row.get("Reason") != "BOUNCE":
            return
        at = row.get("LastUpdateTime")
        if require_older([instant(at.timestamp()) if at else None], push.since):
            self._call("delete_suppressed_destination", may_miss=True, EmailAddress=address)

    def held(self, lifts: Sequence[Push]) -> Iterator[Listed]:
        """SES keeps the time of the contact's last change of any kind; an opt-out is no newer."""
        for address, name in {(lift.address, _list_and_topic(lift.list_ref)[0]) for lift in lifts}:
            contact = self._contact(name, address)
            for ref in _refused_refs(name, contact or {}):
                at = (contact or {}).get("LastUpdatedTimestamp")
                yield _listed(address, ref, EventKind.UNSUBSCRIBE, at)

    def probe(self) -> Sequence[str]:
        """Also check that each mapped contact list and topic exists."""
        problems = list(super().probe())
        for ref in self.settings.topics.values():
            name, topic = _list_and_topic(ref)
            held = {} if ref == ACCOUNT else self._call("get_contact_list", may_miss=True, ContactListName=name)
            topics = {topic.get("TopicName") for topic in (held or {}).get("Topics", [])}
            if held is None or (topic and topic not in topics):
                problems.append(f"there is no {ref}")
        return problems

    def list_suppressed(self) -> Iterator[Listed]:
        refs = self.everywhere
        for row in self._rows("list_suppressed_destinations", "SuppressedDestinationSummaries"):
            address = find_address(Channel.EMAIL, row.get("EmailAddress"))
            kind = LISTED.get(row.get("Reason", ""))
            if kind is EventKind.COMPLAINT and ACCOUNT in refs:
                kind = EventKind.UNSUBSCRIBE  # our own opt-outs are listed as complaints
            if address is not None and kind is not None:
                for ref in refs:
                    yield _listed(address, ref, kind, row.get("LastUpdateTime"))
        for name in sorted({_list_and_topic(ref)[0] for ref in self.settings.topics.values() if ref != ACCOUNT}):
            yield from self._opted_out(name)

    def _opted_out(self, name: str) -> Iterator[Listed]:
        for row in self._rows("list_contacts", "Contacts", ContactListName=name):
            address = find_address(Channel.EMAIL, row.get("EmailAddress"))
            if address is None:
                continue
            for ref in _refused_refs(name, row):
                yield _listed(address, ref, EventKind.UNSUBSCRIBE, row.get("LastUpdatedTimestamp"))

    def _rows(self, operation: str, key: str, **arguments: Any) -> Iterator[Mapping[str, Any]]:
        token: str | None = None
        while True:
            more: dict[str, Any] = {"NextToken": token} if token else {}
            page = self._call(operation, PageSize=PAGE, **arguments, **more)
            if not isinstance(page.get(key), list):
                raise TryLater("a list that is not as described")
            yield from page[key]
            following = page.get("NextToken")
            if not following or following == token:
                return
            token = following


def _meaning(kind: str, details: Mapping[str, Any]) -> EventKind | None:
    if kind == "Bounce":
        return bounce_kind(details["bounceType"], details.get("bounceSubType"))
    if kind == "DeliveryDelay":
        return EventKind.SOFT_BOUNCE
    if details.get("complaintSubType") in CONSEQUENCES:
        return EventKind.SEND_SUPPRESSED
    feedback = str(details.get("complaintFeedbackType") or "").lower()
    return None if feedback in NO_COMPLAINTS else EventKind.COMPLAINT


def bounce_kind(name: object, detail: object) -> EventKind | None:
    """None for an unknown type."""
    if detail in CONSEQUENCES:
        return EventKind.SEND_SUPPRESSED
    if name == "Permanent" and detail in BAD_ADDRESS:
        return EventKind.HARD_BOUNCE
    return EventKind.SOFT_BOUNCE if name in BOUNCES else None


def _statuses(preferences: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """Each readable topic, and whether it is opted out."""
    for row in objects(preferences.get("topicSubscriptionStatus")):
        name, status = row.get("topicName"), row.get("subscriptionStatus")
        if isinstance(name, str) and status in ("OptIn", "OptOut"):
            yield name, status == "OptOut"


def _with_id(event: ProviderEvent, text: str) -> ProviderEvent:
    return replace(event, event_id=event_id(text))


def _account_reason(push: Push) -> str:
    """The reason on the account's suppression list; empty for a contact list."""
    if push.list_ref != ACCOUNT:
        return "" if push.reason is None else REASONS.get(push.reason, "")
    if push.is_lift:
        raise Rejected("what stands on the account's suppression list is taken off by hand")
    return "COMPLAINT" if push.reason is None else REASONS.get(push.reason, "COMPLAINT")


def _list_and_topic(list_ref: str) -> tuple[str, str]:
    name, _, topic = list_ref.removeprefix("list:").partition("/")
    return name, topic


def _refused_refs(name: str, contact: Mapping[str, Any]) -> Iterator[str]:
    """The list and topics that a contact is opted out of."""
    if contact.get("UnsubscribeAll"):
        yield f"list:{name}"
    for topic in contact.get("TopicPreferences", []):
        if topic.get("SubscriptionStatus") == "OPT_OUT":
            yield f"list:{name}/{topic.get('TopicName')}"


def _listed(address: Address, list_ref: str, kind: EventKind, at: datetime | None) -> Listed:
    return Listed(address=address, list_ref=list_ref, kind=kind, occurred_at=instant(at.timestamp()) if at else None)


def _raise_for(response: Mapping[str, Any]) -> None:
    """Never raises the error's text, which quotes addresses."""
    metadata = response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 500))
    headers: Mapping[str, str] = metadata.get("HTTPHeaders", {})
    if response.get("Error", {}).get("Code") in PASSING:
        status = 429
    raise_for(status, headers)
    raise TryLater(f"answer {status}")
