"""Bulk recording of imported acts about new addresses.

Handles addresses without a contact or entry, with acts on distinct subjects; returns other rows for `ledger.record`.
Invariant: entries, chain and projection equal those of `ledger.record` byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, reduce
from hashlib import sha256
from itertools import chain
from operator import add
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Dialect, Table, and_, exists, or_, select

from preferences.domain import consent
from preferences.domain.acts import ImportedRow, imported
from preferences.domain.addresses import Fingerprints
from preferences.domain.records import Act, Address
from preferences.domain.vocabulary import BLANKET, Basis, Channel, Origin, Status, SuppressionReason, Verb
from preferences.ledger import record as ledger
from preferences.ledger.duplicates import OPT_OUTS
from preferences.ledger.head import set_head
from preferences.ledger.seal import canonical_template, evidence_digest, new_salt
from preferences.store.bulk_copy import Fields, encoder, put_rows, start_of_row
from preferences.store.codec import ENTRY_FIELDS, entry_row, preference_row, suppression_row
from preferences.store.contact_flags import add_flags
from preferences.store.contacts import Found, find_or_create, new_id
from preferences.store.dialect import any_of
from preferences.store.tables import address, contact, contact_flag, evidence, ledger_entry, preference, suppression
from preferences.store.transactions import Read, Write


class FileRow(NamedTuple):
    """A row of a file as text, for sending between processes. Without a verb it only adds an address.

    `occurred_at`: UTC with six decimals. `ref`: equal for equal lines. `flags`: separated by spaces.
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
    flags: str | None = None


NewAct = tuple[str, str, Fields, bool, Fields, Fields | None]
"""An act without number and hash, which are known only under the lock.

The canonical entry before and after its number; the encoded entry; whether it is a suppression; the encoded projection;
the encoded evidence.
"""

NewContact = tuple[Fields, Fields, list[Fields], list[NewAct]]
"""The contact, its address, its flags, its acts."""

Addressee = tuple[str, list[tuple[str | None, ...]], NewContact | None]
"""A fingerprint, its rows in file order, and its new contact if they are simple. Tuples pickle fast."""


@dataclass(frozen=True, slots=True)
class Block:
    """Addresses, and the present fingerprint for each one they may be stored under."""

    addressees: list[Addressee]
    prints: dict[str, str]


@dataclass(slots=True)
class Outcome:
    """`left`: rows for `ledger.record`, in file order."""

    created: int = 0
    changed: int = 0
    unchanged: int = 0
    left: list[FileRow] = field(default_factory=list)


def prepare(rows: Iterable[FileRow], fingerprints: Fingerprints, dialect: Dialect, now: datetime) -> Block:
    """The work that needs no lock. `now` is the time of receipt."""
    by_print: dict[str, list[FileRow]] = {}
    for row in rows:
        by_print.setdefault(row.fingerprint, []).append(row)
    encoding = _Encoding(dialect, now)
    return Block(
        [
            (fingerprint, list(map(tuple, about)), encoding.contact(about) if _is_simple(about) else None)
            for fingerprint, about in by_print.items()
        ],
        _possible_prints(by_print, fingerprints),
    )


def _possible_prints(by_print: Mapping[str, Sequence[FileRow]], fingerprints: Fingerprints) -> dict[str, str]:
    prints = {fingerprint: fingerprint for fingerprint in by_print}
    first = next(iter(by_print.values()), None)
    has_old_keys = first is not None and len(fingerprints.candidates(_address(first[0]))) > 1
    for fingerprint, rows in by_print.items():
        if has_old_keys or rows[0].channel == Channel.POST:
            prints |= dict.fromkeys(fingerprints.candidates(_address(rows[0])), fingerprint)
    return prints


def _is_simple(rows: Sequence[FileRow]) -> bool:
    """Whether subjects are distinct, so that every act changes something."""
    acts = [row for row in rows if row.verb is not None]
    if any(row.verb == Verb.SUBSCRIBE and not _is_dated(row) for row in acts):
        return False
    if len(acts) < 2:
        return True
    topics = [row.topic for row in acts if row.reason is None]
    if BLANKET in topics[:-1]:
        return False  # after an opt-out of everything, one of a topic may change nothing
    return len({(row.brand, row.topic, row.reason) for row in acts}) == len(acts)


def _is_dated(row: FileRow) -> bool:
    """`consent.known_time` for text."""
    return row.occurred_at is not None and row.occurred_at >= _EARLIEST


_EARLIEST: Final = consent.EARLIEST.isoformat(timespec="microseconds")


def stored_ref(fingerprint: str, ref: str) -> str:
    """An `origin_ref` that starts as the fingerprint does: a sorted file then touches few pages of both indexes."""
    return fingerprint[:8] + ref


def act_of(row: FileRow) -> Act:
    """The row must have a verb."""
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


def _address(row: FileRow) -> Address:
    return Address(Channel(row.channel), row.value)


_OWN: Final = ("occurred_at", "contact_id", "fingerprint", "origin_ref", "evidence_digest")
"""Fields that differ between entries of a kind, besides number and hash."""

_SHARED: Final = tuple(name for name in ENTRY_FIELDS if name not in {*_OWN, "seq", "hash"})
_PREFERENCE: Final = ("channel", "brand", "topic", "status", "trusted", "basis")
_SUPPRESSION: Final = ("channel", "reason", "active")
_COLUMNS: Final = {
    contact: ("id", "created_at"),
    address: ("id", "contact_id", "created_at", "fingerprint", "channel", "value"),
    contact_flag: ("contact_id", "flag"),
    ledger_entry: ("seq", "hash", *_OWN, *_SHARED),
    evidence: ("seq", "details", "salt"),
    preference: ("seq", "at", "since", "contact_id", *_PREFERENCE),
    suppression: ("seq", "at", "since", "fingerprint", *_SUPPRESSION),
}
"""Columns in insertion order."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is common to acts that differ only in contact, time, reference and evidence."""

    sealed: tuple[str, str]
    entry: Fields
    suppresses: bool
    state: Fields


class _Encoding:
    """`now` is the time of receipt."""

    def __init__(self, dialect: Dialect, now: datetime) -> None:
        self._dialect = dialect
        self._now = now
        self._uuid = encoder(dialect, contact.c.id)
        self._instant = encoder(dialect, contact.c.created_at)
        self._text = encoder(dialect, ledger_entry.c.origin_ref)
        self._channel = cache(self._text)
        self._starts = {table: start_of_row(dialect, len(columns)) for table, columns in _COLUMNS.items()}
        self._received = self._instant(now)
        self._now_text = now.astimezone(UTC).isoformat(timespec="microseconds")
        self._kinds: dict[tuple[Any, ...], _Kind] = {}

    def contact(self, rows: Sequence[FileRow]) -> NewContact:
        """The rows must be about one address."""
        contact_id, first, starts = new_id(self._now), rows[0], self._starts
        own_id, fingerprint = self._uuid(contact_id), self._text(first.fingerprint)
        whose = starts[address] + self._uuid(new_id(self._now)) + own_id + self._received
        flags = {flag for row in rows if row.flags for flag in row.flags.split()}
        return (
            starts[contact] + own_id + self._received,
            whose + fingerprint + self._channel(first.channel) + self._text(first.value),
            [starts[contact_flag] + own_id + self._text(flag) for flag in flags],
            [self._act(row, str(contact_id), own_id, fingerprint) for row in rows if row.verb is not None],
        )

    def _act(self, row: FileRow, contact_id: str, own_id: Fields, fingerprint: Fields) -> NewAct:
        is_dated, proof, digest = _is_dated(row), None, None
        if row.evidence:
            salt = new_salt()
            proof, digest = self._text(row.evidence) + self._text(salt), evidence_digest(salt, row.evidence)
        key = (row.channel, row[_WORDS], is_dated, digest is None)
        kind = self._kinds.get(key) or self._kinds.setdefault(key, self._kind_of(row))
        happened = min(row.occurred_at or "", self._now_text) if is_dated else None
        own = {
            "occurred_at": happened,
            "contact_id": contact_id,
            "fingerprint": row.fingerprint,
            "origin_ref": stored_ref(row.fingerprint, row.ref or ""),
            "evidence_digest": digest,
        }
        occurred_at = self._instant(datetime.fromisoformat(happened) if happened else None)
        at = occurred_at if happened else self._received
        entry = occurred_at + own_id + fingerprint + self._text(own["origin_ref"]) + self._text(digest) + kind.entry
        state = at + at + (fingerprint if kind.suppresses else own_id) + kind.state
        before, after = kind.sealed
        return before % own, after, entry, kind.suppresses, state, proof

    def _kind_of(self, row: FileRow) -> _Kind:
        """Encode the entry and projection that `ledger.record` would make."""
        digest = "" if row.evidence else None
        entry = ledger.draft_entry(
            act_of(row), seq=0, contact_id=UUID(int=0), fingerprint=row.fingerprint, digest=digest, now=self._now
        )
        sealed, shared = canonical_template(entry, _OWN), self._encoded(ledger_entry, entry_row(entry), _SHARED)
        channel = entry.channel.value
        if entry.reason is not None:
            if suppressed := consent.apply_suppression(None, entry):
                state = suppression_row((row.fingerprint, channel, entry.reason.value), suppressed)
                return _Kind(sealed, shared, True, self._encoded(suppression, state, _SUPPRESSION))
        elif chosen := consent.apply(None, entry):
            state = preference_row((UUID(int=0), channel, entry.brand, entry.topic), chosen)
            return _Kind(sealed, shared, False, self._encoded(preference, state, _PREFERENCE))
        raise ValueError("an act that changes nothing is not simple")

    def _encoded(self, table: Table, row: Mapping[str, Any], names: Sequence[str]) -> Fields:
        first, *others = (encoder(self._dialect, table.c[name])(row[name]) for name in names)
        return reduce(add, others, first)


_WORDS: Final = slice(FileRow._fields.index("verb"), FileRow._fields.index("occurred_at"))
"""With the channel, the fields that determine a row's kind."""


def record_new(write: Write, block: Block) -> Outcome:
    """Record new contacts, count recorded acts, and return other rows as `left`."""
    prints = {"prints": list(block.prints)}
    stored = {block.prints[found] for found in write.execute(_BY_ADDRESS, prints).scalars()}
    known = stored | {block.prints[found] for found in write.execute(_BY_ENTRY, prints).scalars()}
    outcome, fresh = Outcome(), []
    again: list[FileRow] = []
    for fingerprint, rows, new in block.addressees:
        if new is not None and fingerprint not in known:
            fresh.append(new)
        else:
            (again if fingerprint in stored else outcome.left).extend(map(FileRow._make, rows))
    if again:
        _count_recorded(write, again, block, outcome)
    if fresh:
        outcome.created, outcome.changed = len(fresh), _insert(write, fresh)
    return outcome


_BY_ADDRESS: Final = select(address.c.fingerprint).where(any_of(address.c.fingerprint, "prints"))
# Every suppression and every recorded act has an entry.
_BY_ENTRY: Final = select(ledger_entry.c.fingerprint).where(any_of(ledger_entry.c.fingerprint, "prints")).distinct()
_IS_RECORDED: Final = and_(any_of(ledger_entry.c.origin_ref, "refs"), ledger_entry.c.origin == Origin.IMPORT.value)
_BY_REF: Final = select(ledger_entry.c.origin_ref).where(_IS_RECORDED)
_SAME_SCOPE: Final = and_(
    preference.c.contact_id == ledger_entry.c.contact_id,
    preference.c.channel == ledger_entry.c.channel,
    preference.c.brand == ledger_entry.c.brand,
)
# An opt-out in effect. One of everything is, while no topic is subscribed.
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
_HOLDING: Final = select(ledger_entry.c.origin_ref).where(_IS_RECORDED, or_(_HOLDS, _IS_SUPPRESSED))


def _count_recorded(read: Read, again: Sequence[FileRow], block: Block, outcome: Outcome) -> None:
    """Count acts already recorded, perhaps under an earlier fingerprint key, and return other rows as `left`."""
    prints: dict[str, list[str]] = {}
    for possible, fingerprint in block.prints.items():
        prints.setdefault(fingerprint, []).append(possible)
    refs = [[stored_ref(each, row.ref) for each in prints[row.fingerprint]] if row.ref else [] for row in again]
    recorded = set(read.execute(_BY_REF, {"refs": list(chain.from_iterable(refs))}).scalars())
    undated = [ref for row, candidates in zip(again, refs, strict=True) if _is_undated(row) for ref in candidates]
    holding = set(read.execute(_HOLDING, {"refs": undated}).scalars()) if undated else set()
    for row, candidates in zip(again, refs, strict=True):
        counts_again = _is_undated(row) and holding.isdisjoint(candidates)
        if row.flags or (counts_again and candidates):
            outcome.left.append(row)
        elif not recorded.isdisjoint(candidates):
            outcome.unchanged += 1
        elif candidates:
            outcome.left.append(row)


def _is_undated(row: FileRow) -> bool:
    """An opt-out without a time is recorded again if no longer in effect."""
    return row.verb is not None and Verb(row.verb) in OPT_OUTS and not _is_dated(row)


def _insert(write: Write, contacts: Sequence[NewContact]) -> int:
    """Insert contacts and chained acts. Returns the number of entries."""
    seq, newest, dialect = write.seq, write.hash, write.connection.dialect
    number_of, text = encoder(dialect, ledger_entry.c.seq), encoder(dialect, ledger_entry.c.hash)
    starts = {table: start_of_row(dialect, len(columns)) for table, columns in _COLUMNS.items()}
    rows: dict[Table, list[Fields]] = {table: [] for table in _COLUMNS}
    of_entry, of_preference = starts[ledger_entry], starts[preference]
    entries, preferences = rows[ledger_entry], rows[preference]
    for before, after, entry, suppresses, state, proof in chain.from_iterable(acts for *_, acts in contacts):
        seq += 1
        newest = sha256(f"{newest}{before}{seq}{after}".encode()).hexdigest()
        number = number_of(seq)
        entries.append(of_entry + number + text(newest) + entry)
        if suppresses:
            rows[suppression].append(starts[suppression] + number + state)
        else:
            preferences.append(of_preference + number + state)
        if proof is not None:
            rows[evidence].append(starts[evidence] + number + proof)
    for itself, its_address, flags, _ in contacts:
        rows[contact].append(itself)
        rows[address].append(its_address)
        rows[contact_flag].extend(flags)
    for table, columns in _COLUMNS.items():
        if rows[table]:
            put_rows(write, table, columns=columns, rows=rows[table])
    made = seq - write.seq
    set_head(write, seq, newest)
    return made


def record_others(write: Write, rows: Sequence[FileRow], fingerprints: Fingerprints, now: datetime) -> Outcome:
    found = find_or_create(write, [_address(row) for row in rows], fingerprints, now)
    acts = [act_of(row) for row in rows if row.verb is not None]
    entries = ledger.record(write, acts, fingerprints=fingerprints, now=now)
    _add_flags(write, rows, found)
    changed = len({entry.seq for entry in entries if entry.changed and entry.recorded_at == now})
    return Outcome(sum(each.created for each in found.values()), changed, len(entries) - changed)


def _add_flags(write: Write, rows: Sequence[FileRow], found: Mapping[Address, Found]) -> None:
    flags: dict[UUID, set[str]] = {}
    for row in rows:
        contact_id = found[_address(row)].contact_id
        if row.flags and contact_id is not None:
            flags.setdefault(contact_id, set()).update(row.flags.split())
    if flags:
        add_flags(write, flags)
