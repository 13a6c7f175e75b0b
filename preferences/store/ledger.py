"""The ledger: THE write path for everything that bears on permission, and its proof.

Owns the order lock -> read -> decide -> append -> project. Invariants: numbers have no gaps and follow the order of
commits; each entry's hash covers the one before it; the projection is what the entries add up to (`verify`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, and_, select

from preferences.domain import consent
from preferences.domain.addresses import Fingerprints
from preferences.domain.errors import NotAllowed
from preferences.domain.terms import (
    BLANKET,
    PACE_VERBS,
    Act,
    Actor,
    Address,
    Choice,
    Edit,
    Entry,
    Origin,
    Pace,
    Status,
    Suppression,
    Verb,
)
from preferences.store.contacts import Found, find_or_create
from preferences.store.db import Insert, WriteTransaction, any_of, insert_all
from preferences.store.rows import (
    PaceKey,
    PreferenceKey,
    SuppressionKey,
    chain_hash,
    choice_of,
    entry_of,
    entry_row,
    pace_of,
    pace_row,
    preference_row,
    suppression_of,
    suppression_row,
)
from preferences.store.tables import evidence, ledger_entry, ledger_head, pace, preference, suppression

_EVIDENCE: Final = json.JSONEncoder(sort_keys=True)

STATUS_OF: Final = {Verb.SUBSCRIBE: Status.SUBSCRIBED, Verb.UNSUBSCRIBE: Status.UNSUBSCRIBED}


@dataclass(slots=True)
class _Batch:
    """One call of `record` at work: what was read, and what is to be written."""

    write: WriteTransaction
    now: datetime
    choices: dict[PreferenceKey, Choice] = field(default_factory=dict)
    paces: dict[PaceKey, Pace] = field(default_factory=dict)
    suppressions: dict[SuppressionKey, Suppression] = field(default_factory=dict)
    touched_choices: set[PreferenceKey] = field(default_factory=set)
    touched_paces: set[PaceKey] = field(default_factory=set)
    touched_suppressions: set[SuppressionKey] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    evidence: list[dict[str, Any]] = field(default_factory=list)


def record(write: WriteTransaction, acts: Sequence[Act], *, fingerprints: Fingerprints, now: datetime) -> list[Entry]:
    """Record acts, in order, and return the entry of each.

    An act whose (origin, origin_ref) is in the ledger already is not recorded again; its first entry is returned.
    `now` is the time of receipt. Everything stands or falls with the transaction.
    """
    known = find_told(write.connection, acts)
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


def record_edits(
    write: WriteTransaction, edits: Sequence[Edit], *, fingerprints: Fingerprints, now: datetime
) -> tuple[list[Entry], list[Edit]]:
    """Record what a person changed on a page, and return the entries, and the edits that were not recorded.

    An edit that lets more through is not recorded when its page, or its link, did not know of something newer: a page
    left open for a day must not overwrite what was chosen meanwhile. It is looked at under the ledger's lock.
    """
    contact_ids = [_whose(edit) for edit in edits]
    batch = _read_state(write, [edit.act for edit in edits], {}, now)
    stale = [edit for edit, contact_id in zip(edits, contact_ids, strict=True) if _is_stale(batch, edit, contact_id)]
    acts = [edit.act for edit in edits if edit not in stale]
    return record(write, acts, fingerprints=fingerprints, now=now), stale


def _whose(edit: Edit) -> UUID:
    if isinstance(edit.act.who, Address):
        raise ValueError("an edit is of a contact")
    return edit.act.who


def _is_stale(batch: _Batch, edit: Edit, contact_id: UUID) -> bool:
    act = edit.act
    key = (contact_id, act.channel.value, act.brand)
    about = [batch.choices.get((*key, act.topic)), batch.choices.get((*key, BLANKET))]
    held: list[Choice | Pace] = [one for one in about if one is not None]
    if act.verb in PACE_VERBS:
        pace_now = batch.paces.get((*key, act.topic, act.verb.value))
        held = [] if pace_now is None else [pace_now]
    if edit.seen is not None and any(one.seq > edit.seen for one in held):
        return True
    asked_at = edit.asked_at
    return asked_at is not None and any(one.at > asked_at and _lets_less_through(one) for one in held)


def _lets_less_through(one: Choice | Pace) -> bool:
    if isinstance(one, Choice):
        return one.status is Status.UNSUBSCRIBED
    return one.until is not None or one.per_week is not None


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
    if find_told(write.connection, [act]):
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


def find_by_refs(connection: Connection, origin: str, refs: Sequence[str]) -> list[Entry]:
    """The entries that came from this door under these references, oldest first."""
    rows = connection.execute(_BY_REF, {"refs": list(refs)})
    return sorted((entry_of(row) for row in rows if row.origin == origin), key=lambda entry: entry.seq)


def find_told(connection: Connection, acts: Sequence[Act]) -> dict[tuple[str, str | None], Entry]:
    """The entries of those acts that were told before, by origin and origin_ref."""
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
_PACES = select(pace).where(any_of(pace.c.contact_id, "contact_ids"))
_SUPPRESSIONS = select(suppression).where(any_of(suppression.c.fingerprint, "fingerprints"))


def _read_state(write: WriteTransaction, acts: Sequence[Act], found: Mapping[Address, Found], now: datetime) -> _Batch:
    batch = _Batch(write, now)
    contact_ids = {_contact_id(act, found) for act in acts if act.reason is None} - {None}
    if contact_ids:
        rows = write.connection.execute(_PREFERENCES, {"contact_ids": list(contact_ids)})
        batch.choices = {(row.contact_id, row.channel, row.brand, row.topic): choice_of(row) for row in rows}
    paced = {_contact_id(act, found) for act in acts if act.verb in PACE_VERBS} - {None}
    if paced:
        rows = write.connection.execute(_PACES, {"contact_ids": list(paced)})
        batch.paces = {(row.contact_id, row.channel, row.brand, row.topic, row.verb): pace_of(row) for row in rows}
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
    status = STATUS_OF.get(act.verb)
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
        until=act.until,
        per_week=act.per_week,
        notice=act.notice,
    )
    changed = _project(batch, draft)
    previous = batch.entries[-1].hash if batch.entries else batch.write.hash
    row = entry_row(draft) | {"changed": changed}
    row["hash"] = chain_hash(previous, row)
    entry = replace(draft, changed=changed, hash=row["hash"])
    batch.entries.append(entry)
    batch.rows.append(row)
    if act.evidence:
        batch.evidence.append({"seq": entry.seq, "details": _EVIDENCE.encode(act.evidence)})
    return entry


def _project(batch: _Batch, entry: Entry) -> bool:
    if entry.reason is not None:
        return _project_suppression(batch, entry)
    return _project_pace(batch, entry) if entry.verb in PACE_VERBS else _project_choice(batch, entry)


def _project_pace(batch: _Batch, entry: Entry) -> bool:
    if entry.contact_id is None:
        return False
    key = (*_preference_key(entry), entry.verb.value)
    old = batch.paces.get(key)
    new = consent.apply_pace(old, entry)
    if new is None or new == old:
        return False
    batch.paces[key] = new
    batch.touched_paces.add(key)
    before = (None, None) if old is None else (old.until, old.per_week)
    return before != (new.until, new.per_week)


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
    choices = [preference_row(key, batch.choices[key]) for key in batch.touched_choices]
    # In the order in which `sendings` locks them, so that no two wait for each other.
    paces = [pace_row(key, batch.paces[key]) for key in sorted(batch.touched_paces)]
    suppressions = [suppression_row(key, batch.suppressions[key]) for key in batch.touched_suppressions]
    insert_all(
        batch.write.connection,
        [
            Insert(ledger_entry, batch.rows),
            Insert(evidence, batch.evidence),
            Insert(preference, choices, "replace"),
            Insert(pace, paces, "replace"),
            Insert(suppression, suppressions, "replace"),
            Insert(ledger_head, [{"id": 1, "seq": newest.seq, "hash": newest.hash}], "replace"),
        ],
    )
    batch.write.seq, batch.write.hash = newest.seq, newest.hash


def _entries_of(connection: Connection, entry: Entry) -> Iterator[Entry]:
    """All entries of the same preference, oldest first."""
    same = and_(
        ledger_entry.c.contact_id == entry.contact_id,
        ledger_entry.c.channel == entry.channel.value,
        ledger_entry.c.brand == entry.brand,
        ledger_entry.c.topic == entry.topic,
        ledger_entry.c.status.is_not(None),
    )
    for row in connection.execute(select(ledger_entry).where(same).order_by(ledger_entry.c.seq)):
        yield entry_of(row)
