"""Acts of a large file, recorded many at once: what `ledger.record` does, for people whom nobody knows yet.

Owns the short way for the simple case: an address that no contact has and nothing suppresses, and acts of it that
nobody told before. Whatever is not that simple is handed back, for `ledger.record`. Invariant: entries, chain and
projection are byte for byte those that `ledger.record` would have made in the same order.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Table, select

from preferences.domain.acts import ImportedRow, imported
from preferences.domain.addresses import Fingerprints
from preferences.domain.terms import Act, Actor, Address, Basis, Channel, Origin, SuppressionReason, Verb
from preferences.store import ledger
from preferences.store.contacts import find_or_create
from preferences.store.db import WriteTransaction, any_of
from preferences.store.loading import form_of, put_rows, set_head
from preferences.store.tables import address, contact, evidence, ledger_entry, preference, suppression


class Told(NamedTuple):
    """What one row of a file tells, as text, so that it travels between processes. Without a verb: an address alone.

    `occurred_at` is UTC with six decimals, as an entry's hash covers it.
    """

    fingerprint: str
    channel: str
    value: str
    verb: str | None = None
    brand: str = ""
    topic: str = ""
    reason: str | None = None
    basis: str | None = None
    occurred_at: str | None = None
    ref: str | None = None
    evidence: str | None = None


@dataclass(slots=True)
class Outcome:
    """What became of the rows of a block. `left` are those that the short way is not for, in the file's order."""

    created: int = 0
    changed: int = 0
    unchanged: int = 0
    left: list[Told] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Block:
    """Rows by the address that they are about, and every fingerprint that an address may stand under."""

    people: Mapping[str, Sequence[Told]]
    prints: Mapping[str, str]
    refs: Sequence[str]
    ids: Sequence[str]


def prepare(rows: Iterable[Told], fingerprints: Fingerprints, now: datetime) -> Block:
    """All that can be done before the ledger's lock is taken."""
    people: dict[str, list[Told]] = {}
    refs = []
    for row in rows:
        people.setdefault(row.fingerprint, []).append(row)
        if row.ref is not None:
            refs.append(row.ref)
    prints = {one: one for one in people}
    first = next(iter(people.values()), None)
    if first and len(fingerprints.candidates(_address(first[0]))) > 1:
        for one, told in people.items():
            prints |= dict.fromkeys(fingerprints.candidates(_address(told[0])), one)
    return Block(people, prints, refs, _new_ids(2 * len(people), now))


def act_of(row: Told) -> Act:
    """A row as an act that `ledger.record` takes. It must have a verb."""
    if row.verb is None or row.ref is None:
        raise ValueError("an address alone is no act")
    return imported(
        ImportedRow(
            address=_address(row),
            verb=Verb(row.verb),
            brand=row.brand,
            topic=row.topic,
            reason=SuppressionReason(row.reason) if row.reason else None,
            basis=Basis(row.basis) if row.basis else None,
            occurred_at=datetime.fromisoformat(row.occurred_at) if row.occurred_at else None,
            origin_ref=row.ref,
            evidence=json.loads(row.evidence) if row.evidence else {},
        )
    )


def record_plainly(write: WriteTransaction, rows: Sequence[Told], fingerprints: Fingerprints, now: datetime) -> Outcome:
    """Any rows, by the way that all other acts go."""
    found = find_or_create(write, [_address(row) for row in rows], fingerprints, now)
    acts = [act_of(row) for row in rows if row.verb is not None]
    entries = ledger.record(write, acts, fingerprints=fingerprints, now=now)
    changed = len({entry.seq for entry in entries if entry.changed and entry.recorded_at == now})
    return Outcome(sum(one.created for one in found.values()), changed, len(entries) - changed)


def record_new(write: WriteTransaction, block: Block, now: datetime) -> Outcome:
    """Record what the short way is for, pass over what was told before, and hand back the rest."""
    known = _look_up(write.connection, block)
    outcome, fresh = Outcome(), []
    for one, told in block.people.items():
        if one in known.addresses and all(row.ref is None or row.ref in known.refs for row in told):
            outcome.unchanged += sum(row.ref is not None for row in told)
        elif _is_new(one, told, known) and _is_plain(told):
            fresh.append(told)
        else:
            outcome.left += told
    outcome.created = len(fresh)
    outcome.changed = _Writing(write, now).put(fresh, block.ids)
    return outcome


@dataclass(frozen=True, slots=True)
class _Known:
    addresses: set[str]
    suppressed: set[str]
    refs: set[str | None]


_REFS = select(ledger_entry.c.origin_ref).where(
    any_of(ledger_entry.c.origin_ref, "refs"), ledger_entry.c.origin == Origin.IMPORT.value
)
_ADDRESSES = select(address.c.fingerprint).where(any_of(address.c.fingerprint, "prints"))
_SUPPRESSED = select(suppression.c.fingerprint).where(any_of(suppression.c.fingerprint, "prints"))


def _look_up(connection: Connection, block: Block) -> _Known:
    prints = {"prints": list(block.prints)}
    addresses = connection.execute(_ADDRESSES, prints).scalars()
    suppressed = connection.execute(_SUPPRESSED, prints).scalars()
    refs = set(connection.execute(_REFS, {"refs": block.refs}).scalars()) if block.refs else set()
    return _Known({block.prints[one] for one in addresses}, {block.prints[one] for one in suppressed}, refs)


def _is_new(one: str, told: Sequence[Told], known: _Known) -> bool:
    return one not in known.addresses and one not in known.suppressed and known.refs.isdisjoint(row.ref for row in told)


def _is_plain(told: Sequence[Told]) -> bool:
    """Whether each row of a new address is about something else, so that the first word on each is the only one."""
    acts = [row for row in told if row.verb is not None]
    if any(row.verb == Verb.SUBSCRIBE and row.occurred_at is None for row in acts):
        return False
    return len(acts) < 2 or len({(row.brand, row.topic, row.reason) for row in acts}) == len(acts)


_CONTACT: Final = ("id", "created_at")
_ADDRESS: Final = ("id", "contact_id", "channel", "value", "fingerprint", "created_at")
_ENTRY: Final = (
    *("seq", "recorded_at", "occurred_at", "verb", "channel", "contact_id", "fingerprint", "brand", "topic", "status"),
    *("reason", "basis", "origin", "origin_ref", "actor", "trusted", "changed", "hash"),
)
_EVIDENCE: Final = ("seq", "details")
_PREFERENCE: Final = ("contact_id", "channel", "brand", "topic", "status", "at", "since", "seq", "trusted", "basis")
_SUPPRESSION: Final = ("fingerprint", "channel", "reason", "active", "at", "since", "seq")

_STATUS: Final = {verb.value: status.value for verb, status in ledger.STATUS_OF.items()}


class _Writing:
    """New people's rows for every table, numbered and chained, in the form that the database takes."""

    def __init__(self, write: WriteTransaction, now: datetime) -> None:
        self._write = write
        self._now = now.astimezone(UTC).isoformat(timespec="microseconds")
        self._form = form_of(write.connection)
        self._rows: dict[Table, list[tuple[Any, ...]]] = {
            table: [] for table in (contact, address, ledger_entry, evidence, preference, suppression)
        }

    def put(self, people: Sequence[Sequence[Told]], ids: Sequence[str]) -> int:
        """Write them all, and return how many entries they made."""
        if not people:
            return 0
        form, now = self._form, self._form.instant(self._now)
        contacts, addresses = self._rows[contact], self._rows[address]
        before = self._write.seq
        for told, own_id, address_id in zip(people, ids[::2], ids[1::2], strict=False):
            one, contact_id = told[0], form.uuid(own_id)
            contacts.append((contact_id, now))
            value = form.text(one.value)
            addresses.append((form.uuid(address_id), contact_id, one.channel, value, one.fingerprint, now))
            for row in told:
                if row.verb is not None:
                    self._append(row, own_id, contact_id)
        self._flush()
        return self._write.seq - before

    def _append(self, row: Told, own_id: str, contact_id: Any) -> None:
        form, write = self._form, self._write
        null, seq = form.null, write.seq + 1
        occurred_at = row.occurred_at and min(row.occurred_at, self._now)
        start, middle, end = _sealed(row.verb or "", row.channel, row.brand, row.topic, row.reason, row.basis)
        when = f',"occurred_at":"{occurred_at}"' if occurred_at else ""
        covered = (
            f'{write.hash}{start}{own_id}","fingerprint":"{row.fingerprint}"{when},"origin":"import",'
            f'"origin_ref":"{row.ref}"{middle},"recorded_at":"{self._now}","seq":{seq}{end}'
        )
        write.seq, write.hash = seq, hashlib.sha256(covered.encode()).hexdigest()
        at = form.instant(occurred_at or self._now)
        status, reason, basis = _STATUS.get(row.verb or "", null), row.reason or null, row.basis or null
        self._rows[ledger_entry].append((
            *(seq, form.instant(self._now), at if occurred_at else null, row.verb, row.channel, contact_id),
            *(row.fingerprint, row.brand, row.topic, status, reason, basis, _ORIGIN, row.ref, _ACTOR),
            *(form.false, form.true, write.hash),
        ))  # fmt: skip
        if row.evidence:
            self._rows[evidence].append((seq, form.text(row.evidence)))
        if row.reason is None:
            key = (contact_id, row.channel, row.brand, row.topic)
            self._rows[preference].append((*key, status, at, at, seq, form.false, basis))
        else:
            held = (row.fingerprint, row.channel, reason, form.true, at, at, seq)
            self._rows[suppression].append(held)

    def _flush(self) -> None:
        columns = (_CONTACT, _ADDRESS, _ENTRY, _EVIDENCE, _PREFERENCE, _SUPPRESSION)
        for (table, rows), names in zip(self._rows.items(), columns, strict=True):
            if rows:
                put_rows(self._write.connection, table, columns=names, rows=rows)
        set_head(self._write)


_ORIGIN: Final = Origin.IMPORT.value
_ACTOR: Final = Actor.STAFF.value


@cache
def _sealed(
    verb: str, channel: str, brand: str, topic: str, reason: str | None, basis: str | None
) -> tuple[str, str, str]:
    """The parts of what a hash covers (`rows.canonical`) that many entries share: what stands before the contact's id,
    between origin_ref and recorded_at, and after seq."""
    text = json.JSONEncoder(ensure_ascii=False).encode
    start = f'{{"actor":"{_ACTOR}"'
    start += f',"basis":"{basis}"' if basis else ""
    start += f',"brand":{text(brand)},"changed":true,"channel":"{channel}","contact_id":"'
    status = _STATUS.get(verb)
    end = f',"status":"{status}"' if status else ""
    end += f',"topic":{text(topic)},"trusted":false,"verb":"{verb}"}}'
    return start, f',"reason":"{reason}"' if reason else "", end


def _address(row: Told) -> Address:
    return Address(Channel(row.channel), row.value)


_VARIANT: Final = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))


def _new_ids(count: int, now: datetime) -> list[str]:
    """Many ids such as `contacts.new_id` makes, as text."""
    time = f"{int(now.timestamp() * 1000):012x}"
    random = os.urandom(10 * count).hex()
    start = f"{time[:8]}-{time[8:]}-7"
    return [
        f"{start}{random[at : at + 3]}-{_VARIANT[random[at + 3]]}{random[at + 4 : at + 7]}-{random[at + 7 : at + 19]}"
        for at in range(0, 20 * count, 20)
    ]
