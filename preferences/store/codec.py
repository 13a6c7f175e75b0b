"""Entries and projections as rows and JSON. Apart from the seal, only this maps an Entry's fields by name.

Invariant: what is read equals what was written, so recomputed hashes match.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row

from preferences.domain.records import Entry, Preference, SendingLimit, Suppression
from preferences.domain.vocabulary import Actor, Basis, Channel, Status, SuppressionReason, Verb

PreferenceKey = tuple[UUID, str, str, str]
LimitKey = tuple[UUID, str, str, str, str]
SuppressionKey = tuple[str, str, str]

ENTRY_FIELDS: Final = tuple(field.name for field in fields(Entry))
"""Also the columns of `ledger_entry`, in order."""

_WORDS: Final[Mapping[str, type[Any]]] = {
    "verb": Verb,
    "channel": Channel,
    "status": Status,
    "reason": SuppressionReason,
    "basis": Basis,
    "actor": Actor,
}
_INSTANTS: Final = ("recorded_at", "occurred_at", "until")


def entry_row(entry: Entry) -> dict[str, Any]:
    row = {name: getattr(entry, name) for name in ENTRY_FIELDS}
    row["origin"] = str(entry.origin)
    for name in _WORDS:
        if row[name] is not None:
            row[name] = row[name].value
    return row


def entry_of(row: Row[Any]) -> Entry:
    """The row begins with `ledger_entry`'s columns. Raises ValueError for an unknown term."""
    return entry_of_values(dict(zip(ENTRY_FIELDS, row, strict=False)))


def entry_of_values(values: dict[str, Any]) -> Entry:
    """Terms are text. Raises ValueError and TypeError."""
    for name, kind in _WORDS.items():
        if values.get(name) is not None:
            values[name] = kind(values[name])
    return Entry(**values)


def entry_json(entry: Entry) -> dict[str, Any]:
    """All fields. Times in ISO 8601."""
    values = entry_row(entry)
    for name in _INSTANTS:
        if values[name] is not None:
            values[name] = values[name].isoformat()
    if entry.contact_id is not None:
        values["contact_id"] = str(entry.contact_id)
    return values


def entry_of_json(values: Mapping[str, Any]) -> Entry:
    """Missing fields are null. Raises ValueError and TypeError."""
    entry: dict[str, Any] = {**dict.fromkeys(ENTRY_FIELDS), **values}
    for name in _INSTANTS:
        if entry[name] is not None:
            entry[name] = read_instant(entry[name])
    if entry["contact_id"] is not None:
        entry["contact_id"] = UUID(entry["contact_id"])
    return entry_of_values(entry)


def read_instant(text: str) -> datetime:
    """Parse ISO 8601. Raises ValueError without a zone."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    return at


def preference_of(row: Row[Any]) -> Preference:
    return Preference(
        status=Status(row.status),
        at=row.at,
        since=row.since,
        seq=row.seq,
        trusted=row.trusted,
        basis=Basis(row.basis) if row.basis else None,
    )


def limit_of(row: Row[Any]) -> SendingLimit:
    return SendingLimit(verb=Verb(row.verb), until=row.until, per_week=row.per_week, at=row.at, seq=row.seq)


def suppression_of(row: Row[Any]) -> Suppression:
    return Suppression(reason=SuppressionReason(row.reason), active=row.active, at=row.at, since=row.since, seq=row.seq)


def preference_row(key: PreferenceKey, preference: Preference) -> dict[str, Any]:
    contact_id, channel, brand, topic = key
    return {
        "contact_id": contact_id,
        "channel": channel,
        "brand": brand,
        "topic": topic,
        "status": preference.status.value,
        "at": preference.at,
        "since": preference.since,
        "seq": preference.seq,
        "trusted": preference.trusted,
        "basis": preference.basis and preference.basis.value,
    }


def limit_row(key: LimitKey, limit: SendingLimit) -> dict[str, Any]:
    contact_id, channel, brand, topic, verb = key
    return {
        "contact_id": contact_id,
        "channel": channel,
        "brand": brand,
        "topic": topic,
        "verb": verb,
        "until": limit.until,
        "per_week": limit.per_week,
        "at": limit.at,
        "seq": limit.seq,
    }


def suppression_row(key: SuppressionKey, state: Suppression) -> dict[str, Any]:
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
