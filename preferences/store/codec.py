"""Entries and projections as rows, and rows as entries and projections.

Invariant: what is read back equals what was written, so a recomputed hash equals the stored one.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row

from preferences.domain.records import Entry, Preference, SendingLimit, Suppression
from preferences.domain.vocabulary import Actor, Basis, Channel, Status, SuppressionReason, Verb

PreferenceKey = tuple[UUID, str, str, str]
LimitKey = tuple[UUID, str, str, str, str]
SuppressionKey = tuple[str, str, str]


def entry_row(entry: Entry) -> dict[str, Any]:
    """An entry as a row of `ledger_entry`."""
    return {
        "seq": entry.seq,
        "recorded_at": entry.recorded_at,
        "occurred_at": entry.occurred_at,
        "verb": entry.verb.value,
        "channel": entry.channel.value,
        "contact_id": entry.contact_id,
        "fingerprint": entry.fingerprint,
        "brand": entry.brand,
        "topic": entry.topic,
        "status": entry.status and entry.status.value,
        "reason": entry.reason and entry.reason.value,
        "basis": entry.basis and entry.basis.value,
        "origin": str(entry.origin),
        "origin_ref": entry.origin_ref,
        "actor": entry.actor.value,
        "trusted": entry.trusted,
        "changed": entry.changed,
        "undoes": entry.undoes,
        "hash": entry.hash,
        "until": entry.until,
        "per_week": entry.per_week,
        "notice": entry.notice,
        "evidence_digest": entry.evidence_digest,
    }


def entry_of(row: Row[Any]) -> Entry:
    """A row of `ledger_entry` in our words."""
    return Entry(
        seq=row.seq,
        recorded_at=row.recorded_at,
        occurred_at=row.occurred_at,
        verb=Verb(row.verb),
        channel=Channel(row.channel),
        contact_id=row.contact_id,
        fingerprint=row.fingerprint,
        brand=row.brand,
        topic=row.topic,
        status=Status(row.status) if row.status else None,
        reason=SuppressionReason(row.reason) if row.reason else None,
        basis=Basis(row.basis) if row.basis else None,
        origin=row.origin,
        origin_ref=row.origin_ref,
        actor=Actor(row.actor),
        trusted=row.trusted,
        changed=row.changed,
        undoes=row.undoes,
        hash=row.hash,
        until=row.until,
        per_week=row.per_week,
        notice=row.notice,
        evidence_digest=row.evidence_digest,
    )


def preference_of(row: Row[Any]) -> Preference:
    """A row of `preference` in our words."""
    return Preference(
        status=Status(row.status),
        at=row.at,
        since=row.since,
        seq=row.seq,
        trusted=row.trusted,
        basis=Basis(row.basis) if row.basis else None,
    )


def limit_of(row: Row[Any]) -> SendingLimit:
    """A row of `pace` in our words."""
    return SendingLimit(verb=Verb(row.verb), until=row.until, per_week=row.per_week, at=row.at, seq=row.seq)


def suppression_of(row: Row[Any]) -> Suppression:
    """A row of `suppression` in our words."""
    return Suppression(reason=SuppressionReason(row.reason), active=row.active, at=row.at, since=row.since, seq=row.seq)


def preference_row(key: PreferenceKey, choice: Preference) -> dict[str, Any]:
    """A wish as a row of `preference`."""
    contact_id, channel, brand, topic = key
    return {
        "contact_id": contact_id,
        "channel": channel,
        "brand": brand,
        "topic": topic,
        "status": choice.status.value,
        "at": choice.at,
        "since": choice.since,
        "seq": choice.seq,
        "trusted": choice.trusted,
        "basis": choice.basis and choice.basis.value,
    }


def limit_row(key: LimitKey, one: SendingLimit) -> dict[str, Any]:
    """A pause or a cap as a row of `pace`."""
    contact_id, channel, brand, topic, verb = key
    return {
        "contact_id": contact_id,
        "channel": channel,
        "brand": brand,
        "topic": topic,
        "verb": verb,
        "until": one.until,
        "per_week": one.per_week,
        "at": one.at,
        "seq": one.seq,
    }


def suppression_row(key: SuppressionKey, state: Suppression) -> dict[str, Any]:
    """A suppression as a row of `suppression`."""
    fingerprint, channel, reason = key
    return {
        "fingerprint": fingerprint,
        "channel": channel,
        "reason": reason,
        "active": state.active,
        "at": state.at,
        "since": state.since,
        "seq": state.seq,
    }
