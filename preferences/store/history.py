"""A contact's own history: entries, and the wording behind each opt-in.

Invariants: entries of other contacts or addresses are never found; evidence is never read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_, select

from preferences.domain.addresses import Fingerprints
from preferences.domain.notices import KeptNotice
from preferences.domain.records import Address, Entry, Preference, Suppression
from preferences.domain.references import hash_prefix, reference_of
from preferences.domain.vocabulary import (
    BLANKET,
    Purpose,
)
from preferences.store import notices
from preferences.store.codec import entry_of, preference_of
from preferences.store.contact_state import OWNERS_BY_FINGERPRINT, active_suppressions
from preferences.store.dialect import any_of
from preferences.store.tables import (
    evidence,
    ledger_entry,
    preference,
)
from preferences.store.transactions import Read


@dataclass(frozen=True, slots=True)
class Timeline:
    contact_id: UUID | None
    entries: list[Entry]
    evidence: Mapping[int, str]
    choices: Sequence[tuple[str, str, Preference]]
    suppressions: Sequence[Suppression]


def timeline(read: Read, address: Address, fingerprints: Fingerprints) -> Timeline:
    """Everything on record about an address and its contact, oldest first."""
    candidates = list(fingerprints.candidates(address))
    rows = read.execute(OWNERS_BY_FINGERPRINT, {"fingerprints": candidates, "channel": address.channel.value})
    contact_id = next((row.contact_id for row in rows), None)
    mine = any_of(ledger_entry.c.fingerprint, "fingerprints")
    if contact_id is not None:
        bears = or_(ledger_entry.c.channel == address.channel.value, ledger_entry.c.topic.in_(list(Purpose)))
        mine = or_(mine, and_(ledger_entry.c.contact_id == contact_id, bears))
    found = read.execute(
        select(ledger_entry, evidence.c.details)
        .outerjoin(evidence, evidence.c.seq == ledger_entry.c.seq)
        .where(mine)
        .order_by(ledger_entry.c.seq),
        {"fingerprints": candidates},
    ).all()
    choices: list[tuple[str, str, Preference]] = []
    if contact_id is not None:
        kept = select(preference).where(
            preference.c.contact_id == contact_id, preference.c.channel == address.channel.value
        )
        choices = [(row.brand, row.topic, preference_of(row)) for row in read.execute(kept)]
    suppressions = active_suppressions(read, candidates)
    return Timeline(
        contact_id=contact_id,
        entries=[entry_of(row) for row in found],
        evidence={row.seq: row.details for row in found if row.details},
        choices=choices,
        suppressions=[s for (_, channel), many in suppressions.items() if channel == address.channel for s in many],
    )


PAGE: Final = 50
"""Entries on a page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryOwner:
    """With all fingerprints of their addresses that the ledger may have."""

    contact_id: UUID
    addresses: dict[str, Address]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """With its address, if the contact's, and the wording shown."""

    entry: Entry
    address: Address | None
    notice: KeptNotice | None

    @property
    def reference(self) -> str:
        """Identifies the entry in URLs; not sequential."""
        return reference_of(self.entry.hash)


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Newest first. `more`: there are older ones."""

    entries: Sequence[HistoryEntry]
    more: bool


def history_owner(contact_id: UUID, addresses: Sequence[Address], fingerprints: Fingerprints) -> HistoryOwner:
    by_fingerprint = fingerprints.by_print(addresses)
    return HistoryOwner(contact_id=contact_id, addresses=by_fingerprint)


def read(read: Read, owner: HistoryOwner, before: Entry | None = None) -> HistoryPage:
    """Newest first."""
    statement = select(ledger_entry).where(_mine(owner)).order_by(ledger_entry.c.seq.desc()).limit(PAGE + 1)
    if before is not None:
        statement = statement.where(ledger_entry.c.seq < before.seq)
    entries = _entries(read, statement, owner)
    return HistoryPage(_with_notices(read, owner, entries[:PAGE]), more=len(entries) > PAGE)


def find(read: Read, owner: HistoryOwner, reference: str) -> HistoryEntry | None:
    prefix = hash_prefix(reference)
    if prefix is None:
        return None
    named = func.substr(ledger_entry.c.hash, 1, len(prefix)) == prefix
    statement = select(ledger_entry).where(_mine(owner), named).order_by(ledger_entry.c.seq).limit(1)
    found = _with_notices(read, owner, _entries(read, statement, owner))
    return found[0] if found else None


def since(read: Read, opt_in: Entry) -> list[Entry]:
    """Later entries on the same preference, oldest first."""
    statement = (
        select(ledger_entry)
        .where(
            ledger_entry.c.contact_id == opt_in.contact_id,
            ledger_entry.c.channel == opt_in.channel.value,
            ledger_entry.c.brand == opt_in.brand,
            ledger_entry.c.topic.in_([opt_in.topic, BLANKET]),
            ledger_entry.c.status.is_not(None),
            ledger_entry.c.changed,
            ledger_entry.c.seq > opt_in.seq,
        )
        .order_by(ledger_entry.c.seq)
    )
    return [entry_of(row) for row in read.execute(statement)]


def _mine(owner: HistoryOwner) -> ColumnElement[bool]:
    """Excludes entries of another contact: an address may have had one before."""
    found = or_(ledger_entry.c.contact_id == owner.contact_id, any_of(ledger_entry.c.fingerprint, "fingerprints"))
    # "Is null or theirs" would scan all entries without a contact.
    nobody_elses = func.coalesce(ledger_entry.c.contact_id, owner.contact_id) == owner.contact_id
    return and_(found, nobody_elses)


def _entries(read: Read, statement: Any, owner: HistoryOwner) -> list[Entry]:
    return [entry_of(row) for row in read.execute(statement, {"fingerprints": list(owner.addresses)})]


def _with_notices(read: Read, owner: HistoryOwner, entries: Sequence[Entry]) -> list[HistoryEntry]:
    shown = notices.find(read, {entry.notice for entry in entries if entry.notice})
    return [
        HistoryEntry(
            entry=entry,
            address=owner.addresses.get(entry.fingerprint or ""),
            notice=shown.get(entry.notice or ""),
        )
        for entry in entries
    ]
