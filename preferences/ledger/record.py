"""The write path of everything that bears on permission.

Owns the order lock, read, decide, append, project. Invariants: numbers have no gaps and follow commit order; each hash
covers the previous entry; the projection is the fold of the entries (`verify`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import and_, bindparam, delete, select

from preferences.domain import consent
from preferences.domain.addresses import Fingerprints
from preferences.domain.consent import Undone
from preferences.domain.errors import NotAllowed
from preferences.domain.records import Act, Address, Edit, Entry, Preference, SendingLimit, Suppression
from preferences.domain.vocabulary import BLANKET, LIMIT_VERBS, Actor, Origin, Status, Verb, is_connector
from preferences.ledger.duplicates import find_recorded, may_count_again, with_distinct_refs
from preferences.ledger.seal import chain_hash, evidence_digest, new_salt
from preferences.store.codec import (
    LimitKey,
    PreferenceKey,
    SuppressionKey,
    entry_of,
    entry_row,
    limit_of,
    limit_row,
    preference_of,
    preference_row,
    suppression_of,
    suppression_row,
)
from preferences.store.contacts import Found, find_or_create
from preferences.store.dialect import Insert, any_of, insert_all
from preferences.store.prepared import Prepared
from preferences.store.tables import evidence, ledger_entry, ledger_head, pace, preference, suppression
from preferences.store.transactions import Read, Write

_EVIDENCE: Final = json.JSONEncoder(sort_keys=True)

STATUS_OF: Final = {Verb.SUBSCRIBE: Status.SUBSCRIBED, Verb.UNSUBSCRIBE: Status.UNSUBSCRIBED}


ScopeKey = tuple[UUID, str, str]
"""The scope of an opt-out of everything: contact, channel, brand."""


@dataclass(slots=True)
class _Batch:
    """What a call of `record` has read and will write.

    `preferences` by scope and topic. `undone` is read only for scopes with a connector's echo.
    """

    write: Write
    now: datetime
    preferences: dict[ScopeKey, dict[str, Preference]] = field(default_factory=dict)
    undone: dict[ScopeKey, list[Undone]] = field(default_factory=dict)
    limits: dict[LimitKey, SendingLimit] = field(default_factory=dict)
    suppressions: dict[SuppressionKey, Suppression] = field(default_factory=dict)
    touched_preferences: set[PreferenceKey] = field(default_factory=set)
    touched_limits: set[LimitKey] = field(default_factory=set)
    touched_suppressions: set[SuppressionKey] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)
    evidence: list[dict[str, Any]] = field(default_factory=list)


def record(write: Write, acts: Sequence[Act], *, fingerprints: Fingerprints, now: datetime) -> list[Entry]:
    """Record acts in order, and return the entry of each. `now` is the time of receipt.

    An act whose (origin, origin_ref) is recorded is not recorded again: its first entry is returned. Exceptions are
    opt-outs that differ in content or time from the act whose reference they have, and opt-outs without a time that
    are no longer in effect (`may_count_again`).
    """
    known = find_recorded(write, acts)
    acts = with_distinct_refs(write, acts, known, fingerprints=fingerprints, now=now)
    fresh = [act for act in acts if (act.origin, act.origin_ref) not in known or may_count_again(act, now)]
    found = _contacts_of(write, fresh, fingerprints, now)
    batch = _read_state(write, fresh, found, now)
    results: list[Entry] = []
    for act in acts:
        entry = known.get((act.origin, act.origin_ref)) if act.origin_ref is not None else None
        if entry is None:
            entry = _append(batch, act, found)
        elif may_count_again(act, now) and _holds_no_more(batch, act, found):
            entry = _append(batch, replace(act, origin_ref=f"{act.origin_ref}+{_next_seq(batch)}"), found)
        if act.origin_ref is not None:
            known[act.origin, act.origin_ref] = entry
        results.append(entry)
    _flush(batch)
    return results


def _holds_no_more(batch: _Batch, act: Act, found: Mapping[Address, Found]) -> bool:
    """Whether an opt-out is not, or not fully, in effect."""
    draft = _draft(batch, act, found)
    if draft.reason is not None:
        held = batch.suppressions.get((draft.fingerprint or "", draft.channel.value, draft.reason.value))
        return held is None or not held.active
    if draft.contact_id is None:
        return False
    preferences = batch.preferences.get(_scope(draft), {})
    own, new = preferences.get(draft.topic), consent.apply(preferences.get(draft.topic), draft)
    return new is not None and (own is None or own.status is not new.status or _alters(preferences, draft.topic, new))


def record_edits(
    write: Write, edits: Sequence[Edit], *, fingerprints: Fingerprints, now: datetime
) -> tuple[list[Entry], list[Edit]]:
    """Record a person's edits. Returns the entries, and the refused edits.

    An edit that allows more mail is refused if the preference changed after its page or link was made: an old page must
    not overwrite newer preferences. Checked under the ledger's lock.
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
    preferences = batch.preferences.get(key, {})
    held: list[Preference | SendingLimit] = [
        preferences[topic] for topic in (act.topic, BLANKET) if topic in preferences
    ]
    if act.verb in LIMIT_VERBS:
        limit_now = batch.limits.get((*key, act.topic, act.verb.value))
        held = [] if limit_now is None else [limit_now]
    if edit.seen is not None and any(newer.seq > edit.seen for newer in held):
        return True
    asked_at = edit.asked_at
    return asked_at is not None and any(newer.at > asked_at and _lets_less_through(newer) for newer in held)


def _lets_less_through(held: Preference | SendingLimit) -> bool:
    if isinstance(held, Preference):
        return held.status is Status.UNSUBSCRIBED
    return held.until is not None or held.per_week is not None


def undo(write: Write, seq: int, *, contact_id: UUID, now: datetime, details: Mapping[str, str]) -> Entry:
    """Take back the opt-out of entry `seq`: the fold of the other entries applies.

    Raises NotAllowed if the entry is not this contact's opt-out, is undone, no longer counts, or if a later opt-out
    covers its topic: it may be another person's, which a forwarded link must not take back.
    """
    target = find_entry(write, seq)
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
    if find_recorded(write, [act]):
        raise NotAllowed("undone already")
    batch = _read_state(write, [act], {}, now)
    current = batch.preferences.get(_scope(target), {}).get(target.topic)
    if current is None or current.status is not Status.UNSUBSCRIBED:
        raise NotAllowed("something newer counts")
    entries = _entries_of(write, target)
    if any(_is_opted_out_again(target, entry) for entry in consent.without_undone(entries)):
        raise NotAllowed("there is a newer opt-out")
    entry = _append_undo(batch, act, target, entries)
    _flush(batch)
    return entry


def _is_opted_out_again(target: Entry, entry: Entry) -> bool:
    """Whether an entry is a later opt-out of the target's topic, not an echo."""
    covers = entry.topic in {target.topic, BLANKET}
    newer = entry.seq > target.seq and entry.status is Status.UNSUBSCRIBED
    return covers and newer and not consent.is_echo(entry)


def _append_undo(batch: _Batch, act: Act, target: Entry, entries: Sequence[Entry]) -> Entry:
    draft = replace(_draft(batch, act, {}, _keep_evidence(batch, act)), undoes=target.seq)
    after = consent.fold_by_topic([*entries, draft])
    back = after.get(target.topic)
    status, basis = (back.status, back.basis) if back else (Status.NEVER_ASKED, None)
    scope = _scope(target)
    before = batch.preferences.get(scope, {})
    topics = before.keys() | after.keys()
    batch.touched_preferences |= {(*scope, topic) for topic in topics if before.get(topic) != after.get(topic)}
    batch.preferences[scope] = after
    changed = any(_status(before, topic) is not _status(after, topic) for topic in topics)
    return _seal(batch, replace(draft, status=status, basis=basis, changed=changed))


def _alters(preferences: Mapping[str, Preference], topic: str, new: Preference) -> bool:
    """Whether a preference changes the status of its topic, or for `*` of any."""
    after = {**preferences, topic: new}
    covered = after if topic == BLANKET else (topic,)
    return any(_status(preferences, name) is not _status(after, name) for name in covered)


def _status(preferences: Mapping[str, Preference], topic: str) -> Status | None:
    current = consent.in_force(preferences, topic)
    return None if current is None else current.status


def find_entry(read: Read, seq: int) -> Entry | None:
    row = read.execute(select(ledger_entry).where(ledger_entry.c.seq == seq)).one_or_none()
    return None if row is None else entry_of(row)


def _contacts_of(write: Write, acts: Sequence[Act], fingerprints: Fingerprints, now: datetime) -> dict[Address, Found]:
    addresses = [act.who for act in acts if isinstance(act.who, Address)]
    if not addresses:
        return {}
    typed = {act.who for act in acts if isinstance(act.who, Address) and act.origin == Origin.ADDRESS_BOX}
    return find_or_create(write, addresses, fingerprints, now, strangers=typed)


_PREFERENCES = Prepared(select(preference).where(any_of(preference.c.contact_id, "contact_ids")))
_UNDOS = select(ledger_entry).where(any_of(ledger_entry.c.contact_id, "contact_ids"), ledger_entry.c.verb == Verb.UNDO)
_TARGETS = select(ledger_entry).where(ledger_entry.c.seq.in_(bindparam("seqs", expanding=True)))
_LIMITS = select(pace).where(any_of(pace.c.contact_id, "contact_ids"))
_SUPPRESSIONS = select(suppression).where(any_of(suppression.c.fingerprint, "fingerprints"))


def _read_state(write: Write, acts: Sequence[Act], found: Mapping[Address, Found], now: datetime) -> _Batch:
    batch = _Batch(write, now)
    contact_ids = {_contact_id(act, found) for act in acts if act.reason is None} - {None}
    if contact_ids:
        for row in _PREFERENCES.rows(write.connection, {"contact_ids": list(contact_ids)}):
            batch.preferences.setdefault((row.contact_id, row.channel, row.brand), {})[row.topic] = preference_of(row)
    told_of = {_contact_id(act, found) for act in acts if act.actor is Actor.SYSTEM and is_connector(act.origin)}
    if told_of - {None}:
        batch.undone = _undone(write, list(told_of - {None}))
    limited = {_contact_id(act, found) for act in acts if act.verb in LIMIT_VERBS} - {None}
    if limited:
        rows = write.execute(_LIMITS, {"contact_ids": list(limited)})
        batch.limits = {(row.contact_id, row.channel, row.brand, row.topic, row.verb): limit_of(row) for row in rows}
    prints = {found[act.who].fingerprint for act in acts if act.reason and isinstance(act.who, Address)}
    if prints:
        rows = write.execute(_SUPPRESSIONS, {"fingerprints": list(prints)})
        batch.suppressions = {(row.fingerprint, row.channel, row.reason): suppression_of(row) for row in rows}
    return batch


def _undone(read: Read, contact_ids: Sequence[UUID | None]) -> dict[ScopeKey, list[Undone]]:
    """Undone entries by scope."""
    found: dict[ScopeKey, list[Undone]] = {}
    undos = [entry_of(row) for row in read.execute(_UNDOS, {"contact_ids": list(contact_ids)})]
    if undos:
        rows = read.execute(_TARGETS, {"seqs": [undo.undoes for undo in undos]})
        targets = {row.seq: entry_of(row) for row in rows}
        for undo in undos:
            found.setdefault(_scope(undo), []).append(consent.undone_by(undo, targets[undo.undoes or 0]))
    return found


def _contact_id(act: Act, found: Mapping[Address, Found]) -> UUID | None:
    return found[act.who].contact_id if isinstance(act.who, Address) else act.who


def _append(batch: _Batch, act: Act, found: Mapping[Address, Found]) -> Entry:
    entry = _draft(batch, act, found, _keep_evidence(batch, act))
    return _seal(batch, entry if _project(batch, entry) else replace(entry, changed=False))


def _next_seq(batch: _Batch) -> int:
    return batch.write.seq + len(batch.entries) + 1


def _keep_evidence(batch: _Batch, act: Act) -> str | None:
    """Add the next entry's evidence, and return its digest."""
    if not act.evidence:
        return None
    text, salt = _EVIDENCE.encode(act.evidence), new_salt()
    batch.evidence.append({"seq": _next_seq(batch), "details": text, "salt": salt})
    return evidence_digest(salt, text)


def _draft(batch: _Batch, act: Act, found: Mapping[Address, Found], digest: str | None = None) -> Entry:
    return draft_entry(
        act,
        seq=_next_seq(batch),
        contact_id=_contact_id(act, found),
        fingerprint=found[act.who].fingerprint if isinstance(act.who, Address) else None,
        digest=digest,
        now=batch.now,
    )


def draft_entry(
    act: Act, *, seq: int, contact_id: UUID | None, fingerprint: str | None, digest: str | None, now: datetime
) -> Entry:
    """An unchained entry, as if it changed something. `digest` is that of its evidence."""
    return Entry(
        seq=seq,
        recorded_at=now,
        occurred_at=consent.clamp(act.occurred_at, now),
        verb=act.verb,
        channel=act.channel,
        contact_id=contact_id,
        fingerprint=fingerprint,
        brand=act.brand,
        topic=act.topic,
        status=STATUS_OF.get(act.verb),
        reason=act.reason,
        basis=act.basis,
        origin=act.origin,
        origin_ref=act.origin_ref,
        actor=act.actor,
        trusted=act.trusted,
        changed=True,
        undoes=None,
        hash="",
        until=act.until,
        per_week=act.per_week,
        notice=act.notice,
        evidence_digest=digest,
    )


def _seal(batch: _Batch, draft: Entry) -> Entry:
    previous = batch.entries[-1].hash if batch.entries else batch.write.hash
    entry = replace(draft, hash=chain_hash(previous, draft))
    batch.entries.append(entry)
    return entry


def _project(batch: _Batch, entry: Entry) -> bool:
    if entry.reason is not None:
        return _project_suppression(batch, entry)
    return _project_limit(batch, entry) if entry.verb in LIMIT_VERBS else _project_preference(batch, entry)


def _project_limit(batch: _Batch, entry: Entry) -> bool:
    if entry.contact_id is None:
        return False
    key = (*_scope(entry), entry.topic, entry.verb.value)
    old = batch.limits.get(key)
    new = consent.apply_limit(old, entry)
    if new is None or new == old:
        return False
    batch.limits[key] = new
    batch.touched_limits.add(key)
    before = (None, None) if old is None else (old.until, old.per_week)
    return before != (new.until, new.per_week)


def _scope(entry: Entry) -> ScopeKey:
    if entry.contact_id is None:
        raise ValueError("an entry without a contact has no preference")
    return (entry.contact_id, entry.channel.value, entry.brand)


def _project_preference(batch: _Batch, entry: Entry) -> bool:
    if entry.contact_id is None:
        return False
    scope = _scope(entry)
    preferences = batch.preferences.setdefault(scope, {})
    old = preferences.get(entry.topic)
    if not consent.counts(entry, batch.undone.get(scope, ())):
        return False
    new = consent.apply(old, entry)
    if new is None or new == old:
        return False
    changed = _alters(preferences, entry.topic, new)
    preferences[entry.topic] = new
    batch.touched_preferences.add((*scope, entry.topic))
    return changed


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


_ROW_KEY: Final = tuple(column.name for column in preference.primary_key)
_DELETE_PREFERENCE: Final = delete(preference).where(*(preference.c[name] == bindparam(name) for name in _ROW_KEY))


def _flush(batch: _Batch) -> None:
    if not batch.entries:
        return
    newest = batch.entries[-1]
    preferences, gone = [], []
    for key in batch.touched_preferences:
        current = batch.preferences[key[:3]].get(key[3])
        if current is None:
            gone.append(dict(zip(_ROW_KEY, key, strict=True)))
        else:
            preferences.append(preference_row(key, current))
    if gone:
        batch.write.execute(_DELETE_PREFERENCE, gone)
    # Sorted as `store.frequency.reserve` locks these rows, which prevents deadlocks.
    limits = [limit_row(key, batch.limits[key]) for key in sorted(batch.touched_limits)]
    suppressions = [suppression_row(key, batch.suppressions[key]) for key in batch.touched_suppressions]
    insert_all(
        batch.write,
        [
            Insert(ledger_entry, [entry_row(entry) for entry in batch.entries]),
            Insert(evidence, batch.evidence),
            Insert(preference, preferences, "replace"),
            Insert(pace, limits, "replace"),
            Insert(suppression, suppressions, "replace"),
            Insert(ledger_head, [{"id": 1, "seq": newest.seq, "hash": newest.hash}], "replace"),
        ],
    )
    batch.write.seq, batch.write.hash = newest.seq, newest.hash


def _entries_of(read: Read, entry: Entry) -> list[Entry]:
    """Preference entries of the same scope, oldest first."""
    same = and_(
        ledger_entry.c.contact_id == entry.contact_id,
        ledger_entry.c.channel == entry.channel.value,
        ledger_entry.c.brand == entry.brand,
        ledger_entry.c.status.is_not(None),
    )
    return [entry_of(row) for row in read.execute(select(ledger_entry).where(same).order_by(ledger_entry.c.seq))]
