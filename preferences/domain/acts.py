"""What a person, a provider or a file did, put into acts that the ledger can record.

Owns the translation from a door to `Act`; decides nothing about state. Invariant: no act built here turns a no into a
yes unless its door is trusted for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from preferences.domain.terms import (
    BLANKET,
    Act,
    Actor,
    Address,
    Basis,
    Channel,
    OneClick,
    Origin,
    SuppressionReason,
    Verb,
    connector_origin,
)


def one_click_topic(setting: OneClick, topic: str) -> str:
    """What one click on a link of `topic` stops, by the brand's setting: everything, or that topic."""
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
) -> Act:
    """A recipient stops one topic, or everything (`*`), on one channel."""
    return Act(
        verb=Verb.UNSUBSCRIBE,
        channel=channel,
        who=who,
        brand=brand,
        topic=topic,
        origin=origin,
        actor=Actor.RECIPIENT,
        occurred_at=now,
        evidence=evidence,
    )


def put_away(old: Address, now: datetime, evidence: Mapping[str, str]) -> Act:
    """A contact has given another address in this one's place, or does not want to be written to here any more."""
    return _own_address(Verb.SUPPRESS, old, now, evidence)


def taken_back(again: Address, now: datetime, evidence: Mapping[str, str]) -> Act:
    """A contact has confirmed an address of theirs that had been put away. Lifts that, and no other suppression."""
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
    """What providers tell us about, in one vocabulary. Whatever else they say is counted and not recorded."""

    UNSUBSCRIBE = "unsubscribe"
    HARD_BOUNCE = "bounce.hard"
    COMPLAINT = "complaint"
    INVALID = "invalid"


SUPPRESSING: Final = {
    EventKind.HARD_BOUNCE: SuppressionReason.HARD_BOUNCE,
    EventKind.COMPLAINT: SuppressionReason.COMPLAINT,
    EventKind.INVALID: SuppressionReason.INVALID,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderEvent:
    """One thing that a provider reports, in our words.

    `topic` is a topic of ours or `*`. `event_id` is the provider's own id, or a digest where it gives none, and
    None for a row of its list; `occurred_at` is None where it does not say when.
    """

    kind: EventKind
    address: Address
    event_id: str | None
    occurred_at: datetime | None
    brand: str = ""
    topic: str = BLANKET


def provider_event(event: ProviderEvent, connector: str) -> Act:
    """A provider's report. Bounces and complaints suppress the address; an unsubscribe is a wish."""
    reason = SUPPRESSING.get(event.kind)
    return Act(
        verb=Verb.SUPPRESS if reason else Verb.UNSUBSCRIBE,
        channel=event.address.channel,
        who=event.address,
        brand="" if reason else event.brand,
        topic="" if reason else event.topic,
        reason=reason,
        origin=connector_origin(connector),
        origin_ref=event.event_id,
        actor=Actor.PROVIDER,
        occurred_at=event.occurred_at,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedRow:
    """One line of a file: a wish or a suppression, with where it comes from."""

    address: Address
    verb: Verb
    brand: str
    topic: str
    reason: SuppressionReason | None
    basis: Basis | None
    occurred_at: datetime | None
    origin_ref: str
    evidence: Mapping[str, str]


def imported(row: ImportedRow) -> Act:
    """A line of an import. Never trusted, so a yes in a file can start a subscription and never revive one."""
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
