"""Acts of a large file, recorded many at once: what `ledger.record` does, for people whom nobody knows yet.

Owns the short way for the simple case: an address that no contact has and no entry is about, and acts of it that are
about different things. Whatever is not that simple is handed back, for `ledger.record`. Invariant: entries, chain and
projection are byte for byte those that `ledger.record` would have made in the same order.
"""

from __future__ import annotations

import hashlib
import json
import marshal
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Final
from uuid import UUID

from sqlalchemy import and_, exists, or_, select

from preferences.domain.acts import ImportedRow, imported
from preferences.domain.addresses import Fingerprints
from preferences.domain.records import Act, Address
from preferences.domain.vocabulary import BLANKET, Basis, Channel, Origin, Status, SuppressionReason, Verb
from preferences.ledger import bulk_rows
from preferences.ledger import record as ledger
from preferences.ledger.bulk_rows import ActRows, PersonRows, Rendering, Told, is_known_time, stored_ref
from preferences.ledger.duplicates import OPT_OUTS
from preferences.ledger.head import set_head
from preferences.store.bulk_copy import Fields, Form, form_of, put_rows
from preferences.store.contact_flags import add_flags
from preferences.store.contacts import Found, find_or_create
from preferences.store.dialect import any_of
from preferences.store.tables import address, contact, contact_flag, evidence, ledger_entry, preference, suppression
from preferences.store.transactions import Read, Write


@dataclass(slots=True)
class Outcome:
    """What became of the rows of a block. `left` are those that the short way is not for, in the file's order."""

    created: int = 0
    changed: int = 0
    unchanged: int = 0
    left: list[Told] = field(default_factory=list)


Person = tuple[str, list[tuple[str | None, ...]], PersonRows | None]
"""A fingerprint, what the file tells of it, and its rows if it may take the short way. Plain tuples, so that it travels
between processes fast."""


@dataclass(frozen=True, slots=True)
class Block:
    """People of a file, and whose each fingerprint is that may stand in the database for one of them."""

    people: list[Person]
    prints: dict[str, str]

    def packed(self) -> bytes:
        """For another process of ours."""
        return marshal.dumps((self.people, self.prints))

    @classmethod
    def unpacked(cls, packed: bytes) -> Block:
        """What another process of ours packed."""
        return cls(*marshal.loads(packed))  # noqa: S302 - made by `packed` and never stored


def prepare(rows: Iterable[Told], fingerprints: Fingerprints, form: Form, now: datetime) -> Block:
    """All that can be done before the ledger's lock is taken. `now` is the time of receipt."""
    people: dict[str, list[Told]] = {}
    for row in rows:
        people.setdefault(row.fingerprint, []).append(row)
    prints = {one: one for one in people}
    first = next(iter(people.values()), None)
    has_old_keys = first is not None and len(fingerprints.candidates(_address(first[0]))) > 1
    for one, told in people.items():
        if has_old_keys or told[0].channel == Channel.POST:
            prints |= dict.fromkeys(fingerprints.candidates(_address(told[0])), one)
    rendering, ids = Rendering(form, now), iter(_new_ids(2 * len(people), now))
    return Block(
        [
            (one, list(map(tuple, told)), rendering.person(told, next(ids), next(ids)) if _is_plain(told) else None)
            for one, told in people.items()
        ],
        prints,
    )


def _is_plain(told: Sequence[Told]) -> bool:
    """Whether each row of a new address is about something else, so that the first word on each is the only one, and
    changes something."""
    acts = [row for row in told if row.verb is not None]
    if any(row.verb == Verb.SUBSCRIBE and not is_known_time(row.occurred_at) for row in acts):
        return False
    if len(acts) < 2:
        return True
    topics = [row.topic for row in acts if row.reason is None]
    if BLANKET in topics[:-1]:
        return False  # what is said of a topic once everything is stopped may change nothing
    return len({(row.brand, row.topic, row.reason) for row in acts}) == len(acts)


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
            origin_ref=stored_ref(row.fingerprint, row.ref),
            evidence=json.loads(row.evidence) if row.evidence else {},
        )
    )


def record_plainly(write: Write, rows: Sequence[Told], fingerprints: Fingerprints, now: datetime) -> Outcome:
    """Any rows, by the way that all other acts go."""
    found = find_or_create(write, [_address(row) for row in rows], fingerprints, now)
    acts = [act_of(row) for row in rows if row.verb is not None]
    entries = ledger.record(write, acts, fingerprints=fingerprints, now=now)
    _add_flags(write, rows, found)
    changed = len({entry.seq for entry in entries if entry.changed and entry.recorded_at == now})
    return Outcome(sum(one.created for one in found.values()), changed, len(entries) - changed)


def _add_flags(write: Write, rows: Sequence[Told], found: Mapping[Address, Found]) -> None:
    flags: dict[UUID, set[str]] = {}
    for row in rows:
        contact_id = found[_address(row)].contact_id
        if row.flags and contact_id is not None:
            flags.setdefault(contact_id, set()).update(row.flags.split())
    if flags:
        add_flags(write, flags)


def record_new(write: Write, block: Block) -> Outcome:
    """Record what the short way is for, pass over what was told before, and hand back the rest."""
    prints = {"prints": list(block.prints)}
    stored = {block.prints[one] for one in write.execute(_BY_ADDRESS, prints).scalars()}
    known = stored | {block.prints[one] for one in write.execute(_BY_ENTRY, prints).scalars()}
    outcome, fresh = Outcome(), []
    again: list[Told] = []
    for one, told, rows in block.people:
        if rows is not None and one not in known:
            fresh.append(rows)
        else:
            (again if one in stored else outcome.left).extend(map(Told._make, told))
    if again:
        _pass_over(write, again, block, outcome)
    if fresh:
        outcome.created, outcome.changed = len(fresh), _put(write, fresh)
    return outcome


_BY_ADDRESS: Final = select(address.c.fingerprint).where(any_of(address.c.fingerprint, "prints"))
# Whoever is suppressed has an entry that says so, and so has whatever was told before.
_BY_ENTRY: Final = select(ledger_entry.c.fingerprint).where(any_of(ledger_entry.c.fingerprint, "prints")).distinct()
_IS_TOLD: Final = and_(any_of(ledger_entry.c.origin_ref, "refs"), ledger_entry.c.origin == Origin.IMPORT.value)
_BY_REF: Final = select(ledger_entry.c.origin_ref).where(_IS_TOLD)
_SAME_SCOPE: Final = and_(
    preference.c.contact_id == ledger_entry.c.contact_id,
    preference.c.channel == ledger_entry.c.channel,
    preference.c.brand == ledger_entry.c.brand,
)
# An opt-out that holds, and of everything one beside which nobody has come back to a topic.
_HOLDS: Final = and_(
    exists().where(
        _SAME_SCOPE, preference.c.topic == ledger_entry.c.topic, preference.c.status == Status.UNSUBSCRIBED.value
    ),
    or_(
        ledger_entry.c.topic != BLANKET,
        ~exists().where(_SAME_SCOPE, preference.c.status != Status.UNSUBSCRIBED.value),
    ),
)
_IS_SUPPRESSED: Final = exists().where(
    suppression.c.fingerprint == ledger_entry.c.fingerprint,
    suppression.c.channel == ledger_entry.c.channel,
    suppression.c.reason == ledger_entry.c.reason,
    suppression.c.active,
)
_HOLDING: Final = select(ledger_entry.c.origin_ref).where(_IS_TOLD, or_(_HOLDS, _IS_SUPPRESSED))


def _pass_over(read: Read, again: Sequence[Told], block: Block, outcome: Outcome) -> None:
    """Of people whose address is stored: count the acts that were told before, and hand back the others.

    An act may have been told while the address had another fingerprint, by a key from before a rotation.
    """
    prints: dict[str, list[str]] = {}
    for candidate, one in block.prints.items():
        prints.setdefault(one, []).append(candidate)
    refs = [[stored_ref(one, row.ref) for one in prints[row.fingerprint]] if row.ref else [] for row in again]
    told = set(read.execute(_BY_REF, {"refs": list(chain.from_iterable(refs))}).scalars())
    undated = [one for row, ones in zip(again, refs, strict=True) if _is_undated(row) for one in ones]
    holding = set(read.execute(_HOLDING, {"refs": undated}).scalars()) if undated else set()
    for row, candidates in zip(again, refs, strict=True):
        counts_again = _is_undated(row) and holding.isdisjoint(candidates)
        if row.flags or (counts_again and candidates):
            outcome.left.append(row)  # `ledger.record` decides
        elif not told.isdisjoint(candidates):
            outcome.unchanged += 1
        elif candidates:
            outcome.left.append(row)


def _is_undated(row: Told) -> bool:
    """Whether a row is an opt-out that does not say when: told again, it counts again if it does not hold any more."""
    return row.verb is not None and Verb(row.verb) in OPT_OUTS and not is_known_time(row.occurred_at)


def _put(write: Write, people: Sequence[PersonRows]) -> int:
    """Write new people, and return how many entries they made."""
    before = write.seq
    form = form_of(write.connection.dialect.name)
    put_rows(write, contact, columns=bulk_rows.CONTACT, rows=[one[0] for one in people])
    put_rows(write, address, columns=bulk_rows.ADDRESS, rows=[one[1] for one in people])
    if flags := list(chain.from_iterable(one[3] for one in people)):
        put_rows(write, contact_flag, columns=bulk_rows.FLAG, rows=flags)
    chained = _chained(form, chain.from_iterable(one[2] for one in people), before, write.hash)
    for table, columns in _OF_ACTS:
        if rows := chained.rows[table.name]:
            put_rows(write, table, columns=columns, rows=rows)
    set_head(write, chained.seq, chained.hash)
    return write.seq - before


_OF_ACTS: Final = (
    (ledger_entry, bulk_rows.ENTRY),
    (evidence, bulk_rows.EVIDENCE),
    (preference, bulk_rows.PREFERENCE),
    (suppression, bulk_rows.SUPPRESSION),
)


@dataclass(frozen=True, slots=True)
class _Chained:
    """The rows of acts by table, and the newest entry's number and hash."""

    rows: Mapping[str, Sequence[Fields]]
    seq: int
    hash: str


def _chained(form: Form, acts: Iterable[ActRows], seq: int, sealed: str) -> _Chained:
    """Number the acts and seal each with its hash, after the entry of this number and hash."""
    number_of, text, sha256 = form.number, form.text, hashlib.sha256
    rows: dict[str, list[Fields]] = {table.name: [] for table, _ in _OF_ACTS}
    entries, proofs, wishes, suppressions = rows.values()
    of_entry, of_proof, of_wish, of_suppression = (form.start(len(columns)) for _, columns in _OF_ACTS)
    for covered, covered_after, entry, details, suppresses, state in acts:
        seq += 1
        sealed = sha256(f"{sealed}{covered}{seq}{covered_after}".encode()).hexdigest()
        number = number_of(seq)
        entries.append(of_entry + number + entry + text(sealed))
        if details is not None:
            proofs.append(of_proof + number + details)
        if suppresses:
            suppressions.append(of_suppression + number + state)
        else:
            wishes.append(of_wish + number + state)
    return _Chained(rows, seq, sealed)


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
