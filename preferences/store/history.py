"""What happened to one contact, for that contact to read: entries, the wording behind each, and what became of a yes.

Owns the question "is this entry mine?". Invariant: an entry of somebody else, or about an address that is not the
contact's, is never found, and evidence is never read.
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
    """Everything on record that bears on one address."""

    contact_id: UUID | None
    entries: list[Entry]
    evidence: Mapping[int, str]
    choices: Sequence[tuple[str, str, Preference]]
    suppressions: Sequence[Suppression]


def timeline(read: Read, one: Address, fingerprints: Fingerprints) -> Timeline:
    """What happened to an address and its contact, oldest first."""
    prints = list(fingerprints.candidates(one))
    rows = read.execute(OWNERS_BY_FINGERPRINT, {"fingerprints": prints, "channel": one.channel.value})
    contact_id = next((row.contact_id for row in rows), None)
    mine = any_of(ledger_entry.c.fingerprint, "fingerprints")
    if contact_id is not None:
        bears = or_(ledger_entry.c.channel == one.channel.value, ledger_entry.c.topic.in_(list(Purpose)))
        mine = or_(mine, and_(ledger_entry.c.contact_id == contact_id, bears))
    found = read.execute(
        select(ledger_entry, evidence.c.details)
        .outerjoin(evidence, evidence.c.seq == ledger_entry.c.seq)
        .where(mine)
        .order_by(ledger_entry.c.seq),
        {"fingerprints": prints},
    ).all()
    choices: list[tuple[str, str, Preference]] = []
    if contact_id is not None:
        kept = select(preference).where(
            preference.c.contact_id == contact_id, preference.c.channel == one.channel.value
        )
        choices = [(row.brand, row.topic, preference_of(row)) for row in read.execute(kept)]
    suppressions = active_suppressions(read, prints)
    return Timeline(
        contact_id=contact_id,
        entries=[entry_of(row) for row in found],
        evidence={row.seq: row.details for row in found if row.details},
        choices=choices,
        suppressions=[s for (_, channel), many in suppressions.items() if channel == one.channel for s in many],
    )


PAGE: Final = 50
"""How many entries are shown at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryOwner:
    """A contact and their addresses, by every fingerprint under which one may stand in the ledger."""

    contact_id: UUID
    addresses: dict[str, Address]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """An entry as its contact may see it: about which of their addresses it was, and the wording that was shown."""

    entry: Entry
    address: Address | None
    notice: KeptNotice | None

    @property
    def reference(self) -> str:
        """What names it in addresses of pages: nothing sequential."""
        return reference_of(self.entry.hash)


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """One page of a history, the newest first, and whether anything is older."""

    entries: Sequence[HistoryEntry]
    more: bool


def history_owner(contact_id: UUID, addresses: Sequence[Address], fingerprints: Fingerprints) -> HistoryOwner:
    """The contact, ready to be asked about."""
    by_print = fingerprints.by_print(addresses)
    return HistoryOwner(contact_id=contact_id, addresses=by_print)


def read(read: Read, owner: HistoryOwner, before: Entry | None = None) -> HistoryPage:
    """The entries of a contact, the newest first, from just before `before` on."""
    statement = select(ledger_entry).where(_mine(owner)).order_by(ledger_entry.c.seq.desc()).limit(PAGE + 1)
    if before is not None:
        statement = statement.where(ledger_entry.c.seq < before.seq)
    entries = _entries(read, statement, owner)
    return HistoryPage(_happenings(read, owner, entries[:PAGE]), more=len(entries) > PAGE)


def find(read: Read, owner: HistoryOwner, reference: str) -> HistoryEntry | None:
    """The contact's own entry of this reference, or None: somebody else's is none of theirs."""
    prefix = hash_prefix(reference)
    if prefix is None:
        return None
    named = func.substr(ledger_entry.c.hash, 1, len(prefix)) == prefix
    statement = select(ledger_entry).where(_mine(owner), named).order_by(ledger_entry.c.seq).limit(1)
    found = _happenings(read, owner, _entries(read, statement, owner))
    return found[0] if found else None


def since(read: Read, yes: Entry) -> list[Entry]:
    """What changed the same wish after this entry, the oldest first: whether a consent still stands."""
    statement = (
        select(ledger_entry)
        .where(
            ledger_entry.c.contact_id == yes.contact_id,
            ledger_entry.c.channel == yes.channel.value,
            ledger_entry.c.brand == yes.brand,
            ledger_entry.c.topic.in_([yes.topic, BLANKET]),
            ledger_entry.c.status.is_not(None),
            ledger_entry.c.changed,
            ledger_entry.c.seq > yes.seq,
        )
        .order_by(ledger_entry.c.seq)
    )
    return [entry_of(row) for row in read.execute(statement)]


def _mine(owner: HistoryOwner) -> ColumnElement[bool]:
    """Theirs, or about an address of theirs and nobody's. An address may have had another contact before."""
    found = or_(ledger_entry.c.contact_id == owner.contact_id, any_of(ledger_entry.c.fingerprint, "fingerprints"))
    # Not "is null or theirs": the database would then go through everything that is nobody's.
    nobody_elses = func.coalesce(ledger_entry.c.contact_id, owner.contact_id) == owner.contact_id
    return and_(found, nobody_elses)


def _entries(read: Read, statement: Any, owner: HistoryOwner) -> list[Entry]:
    return [entry_of(row) for row in read.execute(statement, {"fingerprints": list(owner.addresses)})]


def _happenings(read: Read, owner: HistoryOwner, entries: Sequence[Entry]) -> list[HistoryEntry]:
    shown = notices.find(read, {one.notice for one in entries if one.notice})
    return [
        HistoryEntry(
            entry=one,
            address=owner.addresses.get(one.fingerprint or ""),
            notice=shown.get(one.notice or ""),
        )
        for one in entries
    ]
