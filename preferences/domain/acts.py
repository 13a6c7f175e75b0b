"""What a person, a provider or a file did, put into acts that the ledger can record.

Owns the translation from a door to `Act`; decides nothing about state. Invariant: no act built here turns a no into a
yes unless its door is trusted for it.
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
    """The name of one press of a button about one preference, from the random field of the form; None without one.

    All that the press is about is in it, so no other contact's press can have the same name.
    """
    if not _PRESS.fullmatch(press):
        return None
    parts = "|".join((str(who), channel, brand, topic, press))
    return f"press:{hashlib.sha256(parts.encode()).hexdigest()[:32]}"


def retire_address(old: Address, now: datetime, evidence: Mapping[str, str]) -> Act:
    """A contact has given another address in this one's place, or does not want to be written to here any more."""
    return _own_address(Verb.SUPPRESS, old, now, evidence)


def restore_address(again: Address, now: datetime, evidence: Mapping[str, str]) -> Act:
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
    """What providers tell us about, in one vocabulary. What is not in `RECORDED` is counted and acknowledged."""

    UNSUBSCRIBE = "unsubscribe"
    RESUBSCRIBE = "resubscribe"
    """The person did it, as the provider says; an import, an API call or a colleague there is none."""
    HARD_BOUNCE = "bounce.hard"
    SOFT_BOUNCE = "bounce.soft"
    """Given up, for a reason that may pass. Counted outside the ledger: `domain.suppressions`."""
    DEFERRED = "bounce.deferred"
    """Not delivered yet: the provider goes on trying."""
    BLOCK = "bounce.block"
    """Refused for what the sender or the message is, which says nothing about the mailbox."""
    COMPLAINT = "complaint"
    INVALID = "invalid"
    SEND_SUPPRESSED = "send.suppressed"
    """A message was not sent, since the address is suppressed there: a consequence and no decision."""
    SUPPRESSION_ADDED = "suppression.added"
    """Somebody else than the person, often we ourselves, said no there. It counts as a no: one anywhere wins. When it
    is our own push that comes back, the undo of what was pushed takes it back too (`consent.Undone`)."""
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
"""Kinds that are about one topic, and what they say of it."""

RECORDED: Final = frozenset({*SUPPRESSING, *PREFERENCE_VERBS})
"""Kinds that bear on permission."""


def bears_on_permission(event: ProviderEvent) -> bool:
    """Whether a report is recorded. A yes to everything is not: nobody can say yes to what they do not know yet."""
    return event.kind in RECORDED and (event.kind is not EventKind.RESUBSCRIBE or event.topic != BLANKET)


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
    new_address: Address | None = None


def provider_event(event: ProviderEvent, connector: str) -> Act:
    """A provider's report, of one that `bears_on_permission`. Bounces and complaints suppress the address, the
    rest are wishes.

    A yes is never trusted: it can start a subscription, and revives none. An opt-out that the person did not make there
    bears the actor `system` (`consent.is_echo`).
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedAct:
    """What a company's own system tells of somebody: a wish, a pause or a cap, or that an address is no good."""

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


def reported(one: ReportedAct, key_name: str, *, trusted: bool) -> Act:
    """What a system told with its API key. Only a yes can be trusted: a no needs no trust to count.

    A purpose is about the person, so it is kept under email whichever address of theirs was named.
    """
    return Act(
        verb=one.verb,
        channel=Channel.EMAIL if one.topic in set(Purpose) else one.address.channel,
        who=one.address,
        brand=one.brand,
        topic=one.topic,
        reason=one.reason,
        basis=one.basis,
        origin=api_origin(key_name),
        origin_ref=one.origin_ref,
        actor=Actor.SYSTEM if one.reason else Actor.RECIPIENT,
        occurred_at=one.occurred_at,
        trusted=trusted and one.verb is Verb.SUBSCRIBE,
        evidence=one.evidence,
        until=one.until,
        per_week=one.per_week,
    )


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
