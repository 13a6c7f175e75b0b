"""Recompute the chain and the projection, and compare.

Writes nothing. Invariant: constant memory, for any size, and one snapshot, which blocks no writer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Row, Table, func, or_, select

from preferences.domain import consent
from preferences.domain.consent import Undone
from preferences.domain.notices import Notice
from preferences.domain.records import Entry, Preference, SendingLimit, Suppression
from preferences.domain.vocabulary import LIMIT_VERBS
from preferences.ledger.seal import GENESIS, chain_hash, evidence_digest
from preferences.store.codec import entry_of, limit_of, preference_of, suppression_of
from preferences.store.dialect import bytewise, stream
from preferences.store.tables import evidence, ledger_entry, ledger_head, notice, pace, preference, suppression
from preferences.store.transactions import Consistent, Read

MOST_PROBLEMS: Final = 20
"""A broken chain would otherwise list every later row."""


Progress = Callable[[int], None]


@dataclass(slots=True)
class Report:
    """Each of `problems` names an entry or a row."""

    entries: int = 0
    preferences: int = 0
    limits: int = 0
    suppressions: int = 0
    wordings: int = 0
    evidence: int = 0
    erased: int = 0
    """The digest of erased evidence remains."""
    unsealed: int = 0
    """Evidence older than digests, which cannot be checked."""
    problems: list[str] = field(default_factory=list)

    def add(self, problem: str) -> None:
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)


def verify(snapshot: Consistent, progress: Progress) -> Report:
    report = Report()
    with _unreadable_reported("the ledger", report):
        _verify_chain(snapshot, report, progress)
    with _unreadable_reported("a piece of evidence", report):
        _verify_evidence(snapshot, report)
    with _unreadable_reported("a wording", report):
        _verify_wordings(snapshot, report)
    with _unreadable_reported("a preference or its entry", report):
        _verify_preferences(snapshot, report)
    with _unreadable_reported("a pause or a cap, or its entry,", report):
        _verify_limits(snapshot, report)
    with _unreadable_reported("a suppression or its entry", report):
        _verify_suppressions(snapshot, report)
    return report


@contextmanager
def _unreadable_reported(what: str, report: Report) -> Iterator[None]:
    """Report values that we cannot have written."""
    try:
        yield
    except ValueError:
        report.add(f"{what} holds a value that cannot be read: it was altered")


def _verify_chain(snapshot: Consistent, report: Report, progress: Progress) -> None:
    head = snapshot.execute(select(ledger_head.c.seq, ledger_head.c.hash).where(ledger_head.c.id == 1)).one_or_none()
    previous, expected = GENESIS, 1
    for row in stream(snapshot, select(ledger_entry).order_by(ledger_entry.c.seq)):
        if row.seq != expected:
            report.add(f"entry {expected} is missing: the next one is {row.seq}")
        if not _matches_hash(row, previous):
            report.add(f"entry {row.seq} does not match its hash: it, or the one before it, was altered")
        previous, expected = row.hash, row.seq + 1
        report.entries += 1
        progress(1)
    if head is None:
        report.add("the head is missing: nothing can be recorded")
    elif (head.seq, head.hash) != (expected - 1, previous):
        report.add(f"the head stands at {head.seq}, the newest entry is {expected - 1}: entries were cut off")


def _matches_hash(row: Row[Any], previous: str) -> bool:
    try:
        return bool(row.hash == chain_hash(previous, entry_of(row)))
    except (ValueError, TypeError):
        return False


_EVIDENCE: Final = (
    select(ledger_entry.c.evidence_digest, evidence)
    .outerjoin(evidence, evidence.c.seq == ledger_entry.c.seq)
    .where(or_(ledger_entry.c.evidence_digest.is_not(None), evidence.c.seq.is_not(None)))
    .add_columns(ledger_entry.c.seq.label("entry"))
    .order_by(ledger_entry.c.seq)
)
_EVIDENCE_ALONE: Final = (
    select(evidence.c.seq)
    .where(~select(ledger_entry.c.seq).where(ledger_entry.c.seq == evidence.c.seq).exists())
    .order_by(evidence.c.seq)
)


def _verify_evidence(snapshot: Consistent, report: Report) -> None:
    for row in stream(snapshot, _EVIDENCE):
        if row.seq is None:
            report.erased += 1
        elif row.evidence_digest is None and row.salt is None:
            report.unsealed += 1
        elif row.salt is not None and row.evidence_digest == evidence_digest(row.salt, row.details):
            report.evidence += 1
        else:
            report.add(f"the evidence of entry {row.entry} was altered")
    for seq in stream(snapshot, _EVIDENCE_ALONE):
        report.add(f"there is evidence of entry {seq[0]}, which is not in the ledger")


_WORDINGS_LOST: Final = (
    select(func.min(ledger_entry.c.seq))
    .where(
        ledger_entry.c.notice.is_not(None),
        ~select(notice.c.hash).where(notice.c.hash == ledger_entry.c.notice).exists(),
    )
    .group_by(ledger_entry.c.notice)
    .order_by(func.min(ledger_entry.c.seq))
)


def _verify_wordings(snapshot: Consistent, report: Report) -> None:
    for row in stream(snapshot, select(notice).order_by(notice.c.slug, notice.c.language, notice.c.version)):
        if row.hash == Notice(row.slug, row.language, row.text).hash:
            report.wordings += 1
        else:
            report.add(f"the wording {row.slug} in {row.language}, version {row.version}, was altered")
    for seq in stream(snapshot, _WORDINGS_LOST):
        report.add(f"the wording that entry {seq[0]} names is not there: it was removed, or its hash was altered")


_PREFERENCE_KEY: Final = ("contact_id", "channel", "brand", "topic")
_PACE_KEY: Final = (*_PREFERENCE_KEY, "verb")
_SUPPRESSION_KEY: Final = ("fingerprint", "channel", "reason")


def _verify_preferences(snapshot: Consistent, report: Report) -> None:
    """Undos come first in a scope, then `*`, which sorts before topics: what an entry may echo is read before it."""
    entries = select(ledger_entry).where(ledger_entry.c.status.is_not(None), ledger_entry.c.contact_id.is_not(None))
    key = [bytewise(ledger_entry.c[name]) for name in _PREFERENCE_KEY]
    ordered = entries.order_by(*key[:3], ledger_entry.c.undoes.is_(None), key[3], ledger_entry.c.seq)
    folded = _folded(_counting(stream(snapshot, ordered)), _PREFERENCE_KEY, consent.apply)
    rows = stream(snapshot, _ordered(select(preference), preference, _PREFERENCE_KEY))
    stored = ((_key(row, _PREFERENCE_KEY), preference_of(row)) for row in rows)
    report.preferences = _compare(folded, stored, "preference", report)


def _counting(rows: Iterator[Row[Any]]) -> Iterator[Row[Any]]:
    """Entries that are not undone."""
    for _, scope in groupby(rows, lambda row: _key(row, _PREFERENCE_KEY[:3])):
        undos: dict[int, Entry] = {}
        undone: list[Undone] = []
        for row in scope:
            if row.undoes is not None:
                undos[row.undoes] = entry_of(row)
                continue
            if row.seq in undos:
                undone.append(consent.undone_by(undos[row.seq], entry_of(row)))
            if not undone or consent.counts(entry_of(row), undone):
                yield row


def _verify_limits(snapshot: Consistent, report: Report) -> None:
    entries = select(ledger_entry).where(ledger_entry.c.verb.in_(LIMIT_VERBS), ledger_entry.c.contact_id.is_not(None))
    folded = _folded(stream(snapshot, _ordered(entries, ledger_entry, _PACE_KEY)), _PACE_KEY, consent.apply_limit)
    rows = stream(snapshot, _ordered(select(pace), pace, _PACE_KEY))
    stored = ((_key(row, _PACE_KEY), limit_of(row)) for row in rows)
    report.limits = _compare(folded, stored, "pause or cap", report)


def _verify_suppressions(snapshot: Consistent, report: Report) -> None:
    entries = select(ledger_entry).where(ledger_entry.c.reason.is_not(None))
    folded = _folded(
        stream(snapshot, _ordered(entries, ledger_entry, _SUPPRESSION_KEY)),
        _SUPPRESSION_KEY,
        consent.apply_suppression,
    )
    rows = stream(snapshot, _ordered(select(suppression), suppression, _SUPPRESSION_KEY))
    stored = ((_key(row, _SUPPRESSION_KEY), suppression_of(row)) for row in rows)
    report.suppressions = _compare(folded, stored, "suppression", report)


def _ordered(statement: Any, table: Table, key: tuple[str, ...]) -> Any:
    seq = [table.c.seq] if table is ledger_entry else []
    return statement.order_by(*(bytewise(table.c[name]) for name in key), *seq)


def _key(row: Row[Any], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(getattr(row, name)) for name in names)


def _folded(
    rows: Iterator[Row[Any]], key: tuple[str, ...], apply: Callable[[Any, Entry], Any]
) -> Iterator[tuple[tuple[str, ...], Preference | SendingLimit | Suppression]]:
    for group, members in groupby(rows, lambda row: _key(row, key)):
        state: Any = None
        for row in members:
            state = apply(state, entry_of(row))
        if state is not None:
            yield group, state


def _compare(folded: Iterator[Any], stored: Iterator[Any], what: str, report: Report) -> int:
    """Merge both in key order. Returns the number of stored rows."""
    count = 0
    ours: Any = next(folded, None)
    theirs: Any = next(stored, None)
    while ours or theirs:
        if theirs is None or (ours is not None and ours[0] < theirs[0]):
            report.add(f"{what} begun by entry {ours[1].seq} is missing from the projection")
            ours = next(folded, None)
            continue
        count += 1
        if ours is None or theirs[0] < ours[0]:
            report.add(f"{what} of entry {theirs[1].seq} has no entry in the ledger")
            theirs = next(stored, None)
            continue
        if ours[1] != theirs[1]:
            report.add(f"{what} begun by entry {theirs[1].seq} differs from what the ledger adds up to")
        ours, theirs = next(folded, None), next(stored, None)
    return count


_TRIGGERS: Final = {
    "sqlite": ("ledger_entry_no_update", "ledger_entry_no_delete", "ledger_entry_no_replace"),
    "postgresql": ("ledger_entry_no_change", "ledger_entry_no_truncate"),
}
# A trigger that raises nothing does not count.
_TRIGGERS_AT_WORK: Final = {
    "sqlite": (
        "SELECT lower(name) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'ledger_entry'"
        " AND instr(sql, 'RAISE(ABORT,') > 0"
    ),
    # 'R' fires on a replica alone, 'D' never.
    "postgresql": (
        "SELECT tgname FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid"
        " WHERE tgrelid = 'ledger_entry'::regclass AND tgenabled IN ('O', 'A')"
        " AND strpos(prosrc, 'RAISE EXCEPTION') > 0"
        " AND current_setting('session_replication_role') <> 'replica'"
    ),
}


def missing_triggers(read: Read) -> list[str]:
    """Missing or disabled triggers against changing entries."""
    engine = "sqlite" if read.is_sqlite else "postgresql"
    at_work = set(read.exec_driver_sql(_TRIGGERS_AT_WORK[engine]).scalars())
    return [name for name in _TRIGGERS[engine] if name not in at_work]
