"""The ledger: THE write path for everything that bears on permission, and its proof.

Owns the order lock -> read -> decide -> append -> project. Invariants: numbers have no gaps and follow the order of
commits; each entry's hash covers the one before it; the projection is what the entries add up to (`verify`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Row, and_, select

from preferences.domain import consent
from preferences.domain.addresses import Fingerprints
from preferences.domain.errors import NotAllowed
from preferences.domain.terms import (
    BLANKET,
    Act,
    Actor,
    Address,
    Basis,
    Channel,
    Choice,
    Entry,
    Origin,
    Status,
    Suppression,
    SuppressionReason,
    Verb,
)
from preferences.store.contacts import Found, find_or_create
from preferences.store.db import Insert, WriteTransaction, any_of, insert_all
from preferences.store.tables import evidence, ledger_entry, ledger_head, preference, suppression

_EVIDENCE: Final = json.JSONEncoder(sort_keys=True)

GENESIS: Final = "0" * 64
"""The hash before the first entry."""

PreferenceKey = tuple[UUID, str, str, str]
SuppressionKey = tuple[str, str, str]

_STATUS_OF: Final = {Verb.SUBSCRIBE: Status.SUBSCRIBED, Verb.UNSUBSCRIBE: Status.UNSUBSCRIBED}


@dataclass(slots=True)
class _Batch:
    """One call of `record` at work: what was read, and what is to be written."""

    write: WriteTransaction
    now: datetime
    choices: dict[PreferenceKey, Choice]
    suppressions: dict[SuppressionKey, Suppression]
    touched_choices: set[PreferenceKey] = field(default_factory=set)
    touched_suppressions: set[SuppressionKey] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    evidence: list[dict[str, Any]] = field(default_factory=list)


def record(write: WriteTransaction, acts: Sequence[Act], *, fingerprints: Fingerprints, now: datetime) -> list[Entry]:
    """Record acts, in order, and return the entry of each.

    An act whose (origin, origin_ref) is in the ledger already is not recorded again; its first entry is returned.
    `now` is the time of receipt. Everything stands or falls with the transaction.
    """
    known = _known_refs(write.connection, acts)
    fresh = [act for act in acts if (act.origin, act.origin_ref) not in known]
    found = _contacts_of(write, fresh, fingerprints, now)
    batch = _read_state(write, fresh, found, now)
    results: list[Entry] = []
    for act in acts:
        entry = known.get((act.origin, act.origin_ref)) if act.origin_ref is not None else None
        if entry is None:
            entry = _append(batch, act, found)
            if act.origin_ref is not None:
                known[act.origin, act.origin_ref] = entry
        results.append(entry)
    _flush(batch)
    return results


def undo(write: WriteTransaction, seq: int, *, contact_id: UUID, now: datetime, details: Mapping[str, str]) -> Entry:
    """Put back what entry `seq` changed: its contact's wish about that one topic is again what it was before.

    Raises NotAllowed when the entry is not this contact's opt-out, was undone already, when something newer than it
    now counts, or when everything is stopped: the undo of one topic must not outweigh a blanket no.
    """
    target = find_entry(write.connection, seq)
    if target is None or target.contact_id != contact_id or target.verb is not Verb.UNSUBSCRIBE:
        raise NotAllowed("nothing to undo")
    act = Act(
        verb=Verb.UNDO,
        channel=target.channel,
        who=contact_id,
        brand=target.brand,
        topic=target.topic,
        origin=Origin.UNDO,
        origin_ref=str(seq),
        actor=Actor.RECIPIENT,
        occurred_at=now,
        trusted=True,
        evidence=details,
    )
    if _known_refs(write.connection, [act]):
        raise NotAllowed("undone already")
    batch = _read_state(write, [act], {}, now)
    current = batch.choices.get(_preference_key(target))
    if current is None or current.seq != seq or current.status is not Status.UNSUBSCRIBED:
        raise NotAllowed("something newer counts")
    blanket = batch.choices.get((contact_id, target.channel.value, target.brand, BLANKET))
    if target.topic != BLANKET and blanket is not None and blanket.status is Status.UNSUBSCRIBED:
        raise NotAllowed("everything is stopped, and would no longer be")
    before = consent.fold(entry for entry in _entries_of(write.connection, target) if entry.seq < seq)
    entry = _append(batch, act, {}, before=before, undoes=seq)
    _flush(batch)
    return entry


def find_entry(connection: Connection, seq: int) -> Entry | None:
    """The entry of this number, or None."""
    row = connection.execute(select(ledger_entry).where(ledger_entry.c.seq == seq)).one_or_none()
    return None if row is None else entry_of(row)


def _known_refs(connection: Connection, acts: Sequence[Act]) -> dict[tuple[str, str | None], Entry]:
    refs = {act.origin_ref for act in acts if act.origin_ref is not None}
    if not refs:
        return {}
    rows = connection.execute(_BY_REF, {"refs": list(refs)})
    wanted = {(act.origin, act.origin_ref) for act in acts}
    entries = (entry_of(row) for row in rows)
    return {(entry.origin, entry.origin_ref): entry for entry in entries if (entry.origin, entry.origin_ref) in wanted}


def _contacts_of(
    write: WriteTransaction, acts: Sequence[Act], fingerprints: Fingerprints, now: datetime
) -> dict[Address, Found]:
    addresses = [act.who for act in acts if isinstance(act.who, Address)]
    return find_or_create(write, addresses, fingerprints, now) if addresses else {}


_BY_REF = select(ledger_entry).where(any_of(ledger_entry.c.origin_ref, "refs"))
_PREFERENCES = select(preference).where(any_of(preference.c.contact_id, "contact_ids"))
_SUPPRESSIONS = select(suppression).where(any_of(suppression.c.fingerprint, "fingerprints"))


def _read_state(write: WriteTransaction, acts: Sequence[Act], found: Mapping[Address, Found], now: datetime) -> _Batch:
    batch = _Batch(write, now, {}, {})
    contact_ids = {_contact_id(act, found) for act in acts if act.reason is None} - {None}
    if contact_ids:
        rows = write.connection.execute(_PREFERENCES, {"contact_ids": list(contact_ids)})
        batch.choices = {(row.contact_id, row.channel, row.brand, row.topic): choice_of(row) for row in rows}
    prints = {found[act.who].fingerprint for act in acts if act.reason and isinstance(act.who, Address)}
    if prints:
        rows = write.connection.execute(_SUPPRESSIONS, {"fingerprints": list(prints)})
        batch.suppressions = {(row.fingerprint, row.channel, row.reason): suppression_of(row) for row in rows}
    return batch


def _contact_id(act: Act, found: Mapping[Address, Found]) -> UUID | None:
    return found[act.who].contact_id if isinstance(act.who, Address) else act.who


def _append(
    batch: _Batch,
    act: Act,
    found: Mapping[Address, Found],
    *,
    before: Choice | None = None,
    undoes: int | None = None,
) -> Entry:
    """Decide what the act changes, number it, chain it, and note what it touches."""
    status = _STATUS_OF.get(act.verb)
    basis = act.basis
    if act.verb is Verb.UNDO:
        status = before.status if before else Status.NEVER_ASKED
        basis = before.basis if before else None
    draft = Entry(
        seq=batch.write.seq + len(batch.entries) + 1,
        recorded_at=batch.now,
        occurred_at=consent.clamp(act.occurred_at, batch.now),
        verb=act.verb,
        channel=act.channel,
        contact_id=_contact_id(act, found),
        fingerprint=found[act.who].fingerprint if isinstance(act.who, Address) else None,
        brand=act.brand,
        topic=act.topic,
        status=status,
        reason=act.reason,
        basis=basis,
        origin=act.origin,
        origin_ref=act.origin_ref,
        actor=act.actor,
        trusted=act.trusted,
        changed=False,
        undoes=undoes,
        hash="",
    )
    changed = _project_suppression(batch, draft) if act.reason else _project_choice(batch, draft)
    previous = batch.entries[-1].hash if batch.entries else batch.write.hash
    row = _entry_row(draft) | {"changed": changed}
    row["hash"] = chain_hash(previous, row)
    entry = replace(draft, changed=changed, hash=row["hash"])
    batch.entries.append(entry)
    batch.rows.append(row)
    if act.evidence:
        batch.evidence.append({"seq": entry.seq, "details": _EVIDENCE.encode(act.evidence)})
    return entry


def _preference_key(entry: Entry) -> PreferenceKey:
    if entry.contact_id is None:
        raise ValueError("an entry without a contact has no preference")
    return (entry.contact_id, entry.channel.value, entry.brand, entry.topic)


def _project_choice(batch: _Batch, entry: Entry) -> bool:
    if entry.contact_id is None:
        return False
    key = _preference_key(entry)
    old = batch.choices.get(key)
    new = consent.apply(old, entry)
    if new is None or new == old:
        return False
    batch.choices[key] = new
    batch.touched_choices.add(key)
    return old is None or old.status is not new.status


def _project_suppression(batch: _Batch, entry: Entry) -> bool:
    if entry.fingerprint is None or entry.reason is None:
        raise ValueError("a suppression needs an address")
    key = (entry.fingerprint, entry.channel.value, entry.reason.value)
    old = batch.suppressions.get(key)
    new = consent.apply_suppression(old, entry)
    if new is None or new == old:
        return False
    batch.suppressions[key] = new
    batch.touched_suppressions.add(key)
    return new.active if old is None else old.active is not new.active


def _flush(batch: _Batch) -> None:
    if not batch.entries:
        return
    newest = batch.entries[-1]
    choices = [_preference_row(key, batch.choices[key]) for key in batch.touched_choices]
    suppressions = [_suppression_row(key, batch.suppressions[key]) for key in batch.touched_suppressions]
    insert_all(
        batch.write.connection,
        [
            Insert(ledger_entry, batch.rows),
            Insert(evidence, batch.evidence),
            Insert(preference, choices, "replace"),
            Insert(suppression, suppressions, "replace"),
            Insert(ledger_head, [{"id": 1, "seq": newest.seq, "hash": newest.hash}], "replace"),
        ],
    )
    batch.write.seq, batch.write.hash = newest.seq, newest.hash


# What an entry says, and how it is sealed.


def canonical(row: Mapping[str, Any]) -> bytes:
    """The bytes that an entry's hash covers: JSON with sorted keys, without nulls and without the hash itself.

    Leaving nulls out lets a later version add a column without changing any earlier entry's hash.
    """
    fields = {
        name: value if isinstance(value, (str, int)) else _as_text(value)
        for name, value in row.items()
        if value is not None and name != "hash"
    }
    return _CANONICAL.encode(fields).encode()


_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _as_text(value: datetime | UUID) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return str(value)


def chain_hash(previous: str, row: Mapping[str, Any]) -> str:
    """SHA-256 over the previous hash and the entry, in hex."""
    return hashlib.sha256(previous.encode("ascii") + canonical(row)).hexdigest()


def _entry_row(entry: Entry) -> dict[str, Any]:
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
    )


def choice_of(row: Row[Any]) -> Choice:
    """A row of `preference` in our words."""
    return Choice(
        status=Status(row.status),
        at=row.at,
        since=row.since,
        seq=row.seq,
        trusted=row.trusted,
        basis=Basis(row.basis) if row.basis else None,
    )


def suppression_of(row: Row[Any]) -> Suppression:
    """A row of `suppression` in our words."""
    return Suppression(reason=SuppressionReason(row.reason), active=row.active, at=row.at, since=row.since, seq=row.seq)


def _preference_row(key: PreferenceKey, choice: Choice) -> dict[str, Any]:
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


def _suppression_row(key: SuppressionKey, state: Suppression) -> dict[str, Any]:
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


def _entries_of(connection: Connection, entry: Entry) -> Iterator[Entry]:
    """All entries of the same preference, oldest first."""
    same = and_(
        ledger_entry.c.contact_id == entry.contact_id,
        ledger_entry.c.channel == entry.channel.value,
        ledger_entry.c.brand == entry.brand,
        ledger_entry.c.topic == entry.topic,
        ledger_entry.c.reason.is_(None),
    )
    for row in connection.execute(select(ledger_entry).where(same).order_by(ledger_entry.c.seq)):
        yield entry_of(row)
