"""Builds the acts that the ledger records, from what people, providers and files report.

Invariant: no act built here can reverse an opt-out unless its origin is trusted to.
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
    """A recipient's opt-out from a topic or `*`. `ref` identifies the form submission."""
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


_FORM_FIELD: Final = re.compile(r"[A-Za-z0-9_-]{16,64}")


def press_ref(press: str, who: UUID, channel: Channel, *, brand: str, topic: str) -> str | None:
    """The `origin_ref` of a form submission, from the form's random field; None without a valid field. It covers all
    that was submitted, so submissions of different contacts never share it."""
    if not _FORM_FIELD.fullmatch(press):
        return None
    parts = "|".join((str(who), channel, brand, topic, press))
    return f"press:{hashlib.sha256(parts.encode()).hexdigest()[:32]}"


def retire_address(address: Address, now: datetime, evidence: Mapping[str, str]) -> Act:
    """A contact has replaced or removed this address."""
    return _own_address(Verb.SUPPRESS, address, now, evidence)


def restore_address(address: Address, now: datetime, evidence: Mapping[str, str]) -> Act:
    """A contact has confirmed a retired address. Lifts no other suppression."""
    return _own_address(Verb.LIFT, address, now, evidence)


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
    """What providers report. Kinds outside `RECORDED` are only counted."""

    UNSUBSCRIBE = "unsubscribe"
    RESUBSCRIBE = "resubscribe"
    """By the person, according to the provider; not by an import, an API call or staff."""
    HARD_BOUNCE = "bounce.hard"
    SOFT_BOUNCE = "bounce.soft"
    """Delivery failed for a temporary reason. Counted outside the ledger (`domain.suppressions`)."""
    DEFERRED = "bounce.deferred"
    """Not delivered yet; the provider keeps trying."""
    BLOCK = "bounce.block"
    """Refused because of the sender or the content, not the mailbox."""
    COMPLAINT = "complaint"
    INVALID = "invalid"
    SEND_SUPPRESSED = "send.suppressed"
    """Not sent, because the provider suppresses the address. Not a decision of the person."""
    SUPPRESSION_ADDED = "suppression.added"
    """Added there by somebody other than the person, often by our own push. Counts as an opt-out; if it is an echo,
    undoing the original removes it (`consent.Undone`)."""
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

RECORDED: Final = frozenset({*SUPPRESSING, *PREFERENCE_VERBS})
"""Kinds that affect permission."""


def bears_on_permission(event: ProviderEvent) -> bool:
    """Whether the event is recorded. An opt-in to `*` is not: it names no topic."""
    return event.kind in RECORDED and (event.kind is not EventKind.RESUBSCRIBE or event.topic != BLANKET)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderEvent:
    """A provider's event. `topic` is one of our slugs or `*`. `event_id` is the provider's id, or a digest without one,
    and None for a row of its list."""

    kind: EventKind
    address: Address
    event_id: str | None
    occurred_at: datetime | None
    brand: str = ""
    topic: str = BLANKET
    new_address: Address | None = None


def provider_event(event: ProviderEvent, connector: str) -> Act:
    """The act for an event that `bears_on_permission`.

    An opt-in is never trusted: it can start a subscription but never revive it. An opt-out not made by the person has
    the actor `system` (`consent.is_echo`).
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
    """A line of a file: a preference or a suppression."""

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
    """A preference, limit or suppression reported by a company's own system."""

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
    """The act for an API report. Only an opt-in can be trusted: an opt-out needs no trust to count. A purpose belongs
    to the person, so it is recorded under email for any channel."""
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
    """The act for a line of an import. Never trusted: it can start a subscription but never revive it."""
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
