"""The ledger as a feed of entries with their addresses.

Invariants: in order, without gaps; addresses are looked up when read: erased ones do not appear.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, func, select

from preferences.domain.records import Entry
from preferences.domain.vocabulary import Channel, SuppressionReason, Verb
from preferences.store.codec import entry_json, entry_of
from preferences.store.contact_state import address_states
from preferences.store.dialect import any_of
from preferences.store.tables import (
    address,
    ledger_entry,
    ledger_head,
    preference,
    suppression,
)
from preferences.store.transactions import Read


def server_time(read: Read) -> datetime:
    now: datetime = read.execute(select(func.now())).scalar_one()
    return now


def head_seq(read: Read) -> int:
    seq: int = read.execute(select(ledger_head.c.seq).where(ledger_head.c.id == 1)).scalar_one()
    return seq


def entries_after(read: Read, position: int, limit: int) -> list[Entry]:
    statement = select(ledger_entry).where(ledger_entry.c.seq > position).order_by(ledger_entry.c.seq).limit(limit)
    return [entry_of(row) for row in read.execute(statement)]


_ENTRIES_OF: Final = (
    select(ledger_entry)
    .where(any_of(ledger_entry.c.contact_id, "contact_ids"))
    .where(ledger_entry.c.verb.in_(bindparam("verbs", expanding=True)))
    .order_by(ledger_entry.c.seq)
)


def entries_of(read: Read, contact_ids: Sequence[UUID], verbs: Collection[Verb]) -> list[Entry]:
    """In ledger order."""
    values = {"contact_ids": list(contact_ids), "verbs": sorted(verb.value for verb in verbs)}
    return [entry_of(row) for row in read.execute(_ENTRIES_OF, values)]


def opted_out_contacts(read: Read, after: UUID | None, limit: int) -> list[UUID]:
    """Ids, in order, of contacts with an opt-out or suppression, for a backfill."""
    fingerprints = select(suppression.c.fingerprint).where(suppression.c.active)
    stopped = select(preference.c.contact_id).where(preference.c.status == "unsubscribed")
    barred = select(address.c.contact_id).where(address.c.fingerprint.in_(fingerprints))
    union = stopped.union(barred).subquery()
    statement = select(union.c.contact_id).order_by(union.c.contact_id).limit(limit)
    if after is not None:
        statement = statement.where(union.c.contact_id > after)
    return list(read.execute(statement).scalars())


MAX_PAGE_ENTRIES: Final = 1_000

_BY_FINGERPRINT: Final = select(address.c.fingerprint, address.c.value).where(
    any_of(address.c.fingerprint, "fingerprints")
)


def feed_page(read: Read, after: int, limit: int) -> list[dict[str, Any]]:
    """JSON values (`entry_form`)."""
    entries = entries_after(read, after, min(limit, MAX_PAGE_ENTRIES))
    named = _addresses_named(read, entries)
    current = _current_addresses(read, [entry for entry in entries if entry.fingerprint not in named])
    return [entry_form(entry, _about(entry, named, current)) for entry in entries]


def _about(entry: Entry, named: Mapping[str, str], current: Mapping[tuple[UUID | None, Channel], str]) -> str | None:
    """A suppression concerns its own address, not the contact's others."""
    value = named.get(entry.fingerprint or "")
    if value is not None:
        return value
    return current.get((entry.contact_id, entry.channel)) if entry.reason is None else None


def entry_form(entry: Entry, value: str | None) -> dict[str, Any]:
    """`address`: the entry's, or else the contact's current one on its channel."""
    fields = entry_json(entry)
    return {"contact": fields.pop("contact_id"), "address": value, **fields}


def _addresses_named(read: Read, entries: Sequence[Entry]) -> Mapping[str, str]:
    fingerprints = {entry.fingerprint for entry in entries if entry.fingerprint}
    if not fingerprints:
        return {}
    rows = read.execute(_BY_FINGERPRINT, {"fingerprints": list(fingerprints)})
    return {row.fingerprint: row.value for row in rows}


def _current_addresses(read: Read, entries: Sequence[Entry]) -> Mapping[tuple[UUID | None, Channel], str]:
    """The oldest address in use, for preference entries."""
    ids = {entry.contact_id for entry in entries if entry.contact_id and entry.reason is None}
    found: dict[tuple[UUID | None, Channel], str] = {}
    states = address_states(read, list(ids))
    for state in sorted(states, key=lambda state: state.added_at):
        if all(held.reason is not SuppressionReason.REPLACED for held in state.suppressions):
            found.setdefault((state.contact_id, state.address.channel), state.address.value)
    return found
