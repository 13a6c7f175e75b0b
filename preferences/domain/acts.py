"""Acts made from what a person, a provider, a system or a file says.

Owns the translation from each origin to `Act`; decides nothing about state. Invariant: no act built here overrules an
opt-out with an opt-in unless its origin is trusted for that.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from preferences.domain.records import Act, Address
from preferences.domain.vocabulary import (
    BLANKET,
    Actor,
    Basis,
    Channel,
    OneClick,
    Origin,
    Purpose,
    SuppressionReason,
    Verb,
    api_origin,
    connector_origin,
)


def one_click_topic(setting: OneClick, topic: str) -> str:
    """The topic that one click on a link of `topic` stops, by the brand's setting."""
    return BLANKET if setting is OneClick.EVERYTHING else topic


def unsubscribe(
    who: UUID | Address,
    channel: Channel,
    *,
    brand: str,
    topic: str,
    origin: Origin,
    now: datetime,
    evidence: Mapping[str, str],
    ref: str | None = None,
) -> Act:
    """A recipient stops one topic, or everything (`*`), on one channel. `ref` names the press of a button."""
    return Act(
        verb=Verb.UNSUBSCRIBE,
        channel=channel,
        who=who,
        brand=brand,
        topic=topic,
        origin=origin,
        origin_ref=ref,
        actor=Actor.RECIPIENT,
        occurred_at=now,
        evidence=evidence,
    )


_PRESS: Final = re.compile(r"[A-Za-z0-9_-]{16,64}")


def press_ref(press: str, who: UUID, channel: Channel, *, brand: str, topic: str) -> str | None:
    """The reference of one press of a button about a preference, from the form's random field; None without it.

    It covers contact, channel, brand and topic, so no other press has the same reference.
    """
    if not _PRESS.fullmatch(press):
        return None
    parts = "|".join((str(who), channel, brand, topic, press))
    return f"press:{hashlib.sha256(parts.encode()).hexdigest()[:32]}"


def retire_address(old: Address, now: datetime, evidence: Mapping[str, str]) -> Act:
    """A contact replaced this address by another, or took it away."""
    return _own_address(Verb.SUPPRESS, old, now, evidence)


def restore_address(again: Address, now: datetime, evidence: Mapping[str, str]) -> Act:
    """A contact confirmed an address of theirs that was retired. Lifts that suppression alone."""
    return _own_address(Verb.LIFT, again, now, evidence)


def _own_address(verb: Verb, address: Address, now: datetime, evidence: Mapping[str, str]) -> Act:
    return Act(
        verb=verb,
        channel=address.channel,
        who=address,
        reason=SuppressionReason.REPLACED,
        origin=Origin.ADDRESS_CHANGE,
        actor=Actor.RECIPIENT,
        occurred_at=now,
        trusted=True,
        evidence=evidence,
    )


class EventKind(StrEnum):
    """What providers report, in one vocabulary. Kinds that are not in `RECORDED` are counted and acknowledged."""

    UNSUBSCRIBE = "unsubscribe"
    RESUBSCRIBE = "resubscribe"
    """By the person, as the provider says; never by an import, an API call or staff there."""
    HARD_BOUNCE = "bounce.hard"
    SOFT_BOUNCE = "bounce.soft"
    """Given up for a temporary reason. Counted outside the ledger: `domain.suppressions`."""
    DEFERRED = "bounce.deferred"
    """Not delivered yet: the provider retries."""
    BLOCK = "bounce.block"
    """Refused because of the sender or the message, not the mailbox."""
    COMPLAINT = "complaint"
    INVALID = "invalid"
    SEND_SUPPRESSED = "send.suppressed"
    """Not sent, because the address is suppressed there."""
    SUPPRESSION_ADDED = "suppression.added"
    """Added by others than the person, often by our own push. It counts as an opt-out; where it is the echo of a push,
    the undo of what was pushed undoes it too (`consent.Undone`)."""
    SUPPRESSION_REMOVED = "suppression.removed"
    ADDRESS_CHANGED = "address.changed"
    CONTACT_DELETED = "contact.deleted"


SUPPRESSING: Final = {
    EventKind.HARD_BOUNCE: SuppressionReason.HARD_BOUNCE,
    EventKind.COMPLAINT: SuppressionReason.COMPLAINT,
    EventKind.INVALID: SuppressionReason.INVALID,
}

PREFERENCE_VERBS: Final = {
    EventKind.UNSUBSCRIBE: Verb.UNSUBSCRIBE,
    EventKind.SUPPRESSION_ADDED: Verb.UNSUBSCRIBE,
    EventKind.RESUBSCRIBE: Verb.SUBSCRIBE,
}
"""Kinds about one topic, and their verb."""

RECORDED: Final = frozenset({*SUPPRESSING, *PREFERENCE_VERBS})
"""Kinds that bear on permission."""


def bears_on_permission(event: ProviderEvent) -> bool:
    """Whether a report is recorded. An opt-in to everything is not: it would cover topics that do not exist yet."""
    return event.kind in RECORDED and (event.kind is not EventKind.RESUBSCRIBE or event.topic != BLANKET)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderEvent:
    """A provider's report. `topic` is a topic of ours or `*`.

    `event_id` is the provider's id, or a digest where it gives none, and None for a row of its list; `occurred_at` is
    None where it gives no time.
    """

    kind: EventKind
    address: Address
    event_id: str | None
    occurred_at: datetime | None
    brand: str = ""
    topic: str = BLANKET
    new_address: Address | None = None


def provider_event(event: ProviderEvent, connector: str) -> Act:
    """The act of a report that `bears_on_permission`. Bounces and complaints suppress the address.

    An opt-in is never trusted: it can start a subscription, and overrules no opt-out. An opt-out that the person did
    not make there has the actor `system` (`consent.is_echo`).
    """
    reason = SUPPRESSING.get(event.kind)
    is_added = event.kind is EventKind.SUPPRESSION_ADDED
    verb = Verb.SUPPRESS if reason else PREFERENCE_VERBS[event.kind]
    return Act(
        verb=verb,
        channel=event.address.channel,
        who=event.address,
        brand="" if reason else event.brand,
        topic="" if reason else event.topic,
        reason=reason,
        basis=Basis.CONSENT if verb is Verb.SUBSCRIBE else None,
        origin=connector_origin(connector),
        origin_ref=event.event_id,
        actor=Actor.SYSTEM if is_added else Actor.PROVIDER,
        occurred_at=event.occurred_at,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedRow:
    """One line of a file: a preference or a suppression, and where it comes from."""

    address: Address
    verb: Verb
    brand: str
    topic: str
    reason: SuppressionReason | None
    basis: Basis | None
    occurred_at: datetime | None
    origin_ref: str
    evidence: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedAct:
    """What a company's own system reports: a preference, a pause, a frequency limit, or an unusable address."""

    address: Address
    verb: Verb
    origin_ref: str
    brand: str = ""
    topic: str = ""
    reason: SuppressionReason | None = None
    basis: Basis | None = None
    occurred_at: datetime | None = None
    evidence: Mapping[str, str] = field(default_factory=dict)
    until: datetime | None = None
    per_week: int | None = None


def reported(report: ReportedAct, key_name: str, *, trusted: bool) -> Act:
    """The act that a system reports with its API key. Only an opt-in can be trusted; an opt-out always counts.

    A purpose is about the person, so it is kept under email whichever address is named.
    """
    return Act(
        verb=report.verb,
        channel=Channel.EMAIL if report.topic in set(Purpose) else report.address.channel,
        who=report.address,
        brand=report.brand,
        topic=report.topic,
        reason=report.reason,
        basis=report.basis,
        origin=api_origin(key_name),
        origin_ref=report.origin_ref,
        actor=Actor.SYSTEM if report.reason else Actor.RECIPIENT,
        occurred_at=report.occurred_at,
        trusted=trusted and report.verb is Verb.SUBSCRIBE,
        evidence=report.evidence,
        until=report.until,
        per_week=report.per_week,
    )


def imported(row: ImportedRow) -> Act:
    """The act of an imported line. Never trusted: an opt-in can start a subscription, and overrules no opt-out."""
    return Act(
        verb=row.verb,
        channel=row.address.channel,
        who=row.address,
        brand=row.brand if row.reason is None else "",
        topic=row.topic if row.reason is None else "",
        reason=row.reason,
        basis=row.basis,
        origin=Origin.IMPORT,
        origin_ref=row.origin_ref,
        actor=Actor.STAFF,
        occurred_at=row.occurred_at,
        evidence=row.evidence,
    )
