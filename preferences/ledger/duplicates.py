"""Duplicate acts: those already recorded, and those that reuse another act's reference.

Invariant: an opt-out is a duplicate only if the entry with its reference says everything it says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import select

from preferences.domain import consent
from preferences.domain.addresses import Fingerprints
from preferences.domain.records import Act, Address, Entry
from preferences.domain.vocabulary import LIMIT_VERBS, Verb, is_connector, is_reported
from preferences.store.codec import entry_of
from preferences.store.dialect import any_of
from preferences.store.tables import ledger_entry
from preferences.store.transactions import Read

Ref = tuple[str, str | None]
"""Origin and origin_ref."""

OPT_OUTS: Final = frozenset({Verb.UNSUBSCRIBE, Verb.SUPPRESS})

_BY_REF = select(ledger_entry).where(any_of(ledger_entry.c.origin_ref, "refs"))


def find_by_refs(read: Read, origin: str, refs: Sequence[str]) -> list[Entry]:
    """Entries are returned oldest first."""
    rows = read.execute(_BY_REF, {"refs": list(refs)})
    return sorted((entry_of(row) for row in rows if row.origin == origin), key=lambda entry: entry.seq)


def find_recorded(read: Read, acts: Sequence[Act]) -> dict[Ref, Entry]:
    """The entries of acts already recorded."""
    refs = {act.origin_ref for act in acts if act.origin_ref is not None}
    if not refs:
        return {}
    rows = read.execute(_BY_REF, {"refs": list(refs)})
    wanted = {(act.origin, act.origin_ref) for act in acts}
    entries = (entry_of(row) for row in rows)
    return {(entry.origin, entry.origin_ref): entry for entry in entries if (entry.origin, entry.origin_ref) in wanted}


def may_count_again(act: Act, now: datetime) -> bool:
    """Whether a recorded opt-out is recorded again if no longer in effect.

    True for an unknown time, and for our own pages, where the act happens now; not for a provider's repeated report.
    """
    if act.verb not in OPT_OUTS or act.origin_ref is None or is_connector(act.origin):
        return False
    at = consent.known_time(act.occurred_at)
    return at is None or at > now or not is_reported(act.origin)


def with_distinct_refs(
    read: Read,
    acts: Sequence[Act],
    known: dict[Ref, Entry],
    *,
    fingerprints: Fingerprints,
    now: datetime,
) -> list[Act]:
    """Give a new reference to each opt-out that reuses another act's. Adds to `known`."""
    first: dict[Ref, Act] = {}
    distinct, renamed = [], []
    for act in acts:
        ref = (act.origin, act.origin_ref)
        entry, before = known.get(ref), first.get(ref)
        if act.origin_ref is None or _lets_more_through(act):
            is_another = False
        elif entry is not None:
            is_another = not _is_duplicate(act, entry, fingerprints, now)
        else:
            is_another = before is not None and _content(act, fingerprints) != _content(before, fingerprints)
        if is_another:
            digest = hashlib.sha256(repr(_content(act, fingerprints)).encode()).hexdigest()[:32]
            act = replace(act, origin_ref=f"{act.origin_ref}~{digest}")  # noqa: PLW2901
            renamed.append(act)
        first.setdefault(ref, act)
        distinct.append(act)
    known |= find_recorded(read, renamed)
    return distinct


def _lets_more_through(act: Act) -> bool:
    """Whether the act is an opt-in or lifts a limit: as a duplicate it loses no opt-out."""
    if act.verb in LIMIT_VERBS:
        return act.until is None and act.per_week is None
    return act.verb not in OPT_OUTS


def meaning(of: Act | Entry) -> tuple[object, ...]:
    """What an act or its entry says, without who, when and how."""
    return (of.verb, of.channel, of.brand, of.topic, of.reason, of.until, of.per_week)


def _content(act: Act, fingerprints: Fingerprints) -> tuple[str, ...]:
    """The act as text, with a fingerprint for its address."""
    who = fingerprints.of(act.who) if isinstance(act.who, Address) else act.who
    at = consent.known_time(act.occurred_at) if is_reported(act.origin) else None
    return tuple(map(str, (who, at, *meaning(act))))


def _is_duplicate(act: Act, entry: Entry, fingerprints: Fingerprints, now: datetime) -> bool:
    if isinstance(act.who, Address):
        is_theirs = entry.fingerprint in fingerprints.candidates(act.who)
    else:
        is_theirs = entry.contact_id == act.who
    if not is_theirs or meaning(act) != meaning(entry):
        return False
    if not is_reported(act.origin):
        return True
    at, entry_at = consent.known_time(act.occurred_at), consent.known_time(entry.occurred_at)
    # A future time is recorded as the time of receipt.
    return at == entry_at or (at is not None and at > now and entry_at == entry.recorded_at)
