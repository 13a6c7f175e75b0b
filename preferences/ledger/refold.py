"""Folds the projection again after a change of the rules, for a migration or the restore of an older export.

Names each column it uses, because a migration runs it on its own revision's tables. Invariant: entries stay as they
are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    ColumnElement,
    TableClause,
    Uuid,
    and_,
    bindparam,
    column,
    delete,
    insert,
    or_,
    select,
    table,
    text,
)

from preferences.domain import consent
from preferences.domain.records import Entry, SendingLimit, Suppression
from preferences.domain.vocabulary import LIMIT_VERBS, Verb
from preferences.store.codec import ENTRY_FIELDS, entry_of_values, limit_row, preference_row, suppression_row
from preferences.store.tables import UtcDateTime
from preferences.store.transactions import Read, Save, Write, lock_head

RULES: Final = 2
"""Version of the rules in `domain.consent`."""

_SCOPE: Final = ("contact_id", "channel", "brand")
_ADDRESS: Final = ("fingerprint", "channel", "reason")
_TIMES: Final = ("recorded_at", "occurred_at", "until", "at", "since")


def _table(name: str, columns: str) -> TableClause:
    kinds: dict[str, Any] = {"contact_id": Uuid(), "trusted": Boolean(), "active": Boolean()}
    kinds |= dict.fromkeys(_TIMES, UtcDateTime())
    return table(name, *(column(column_name, kinds.get(column_name)) for column_name in columns.split()))


_HEAD: Final = _table("ledger_head", "seq")
_ENTRY: Final = _table(
    "ledger_entry",
    "seq recorded_at occurred_at verb channel contact_id fingerprint brand topic status reason basis origin actor"
    " trusted undoes until per_week",
)
_PREFERENCE: Final = _table("preference", "contact_id channel brand topic status at since seq trusted basis")
_PACE: Final = _table("pace", "contact_id channel brand topic verb until per_week at seq")
_SUPPRESSION: Final = _table("suppression", "fingerprint channel reason active at since seq")


_NOT_READ: Final = dict.fromkeys(ENTRY_FIELDS) | {"changed": False, "hash": ""}
"""Entry fields that the fold does not use."""

Key = tuple[tuple[str, Any], ...]
"""Names and values of `_SCOPE` or `_ADDRESS`, which is folded as a unit."""

Folded = dict[Key, dict[str, list[dict[str, Any]]]]
"""Projection rows by key and table."""


def refold(save: Save) -> None:
    """Fold again all that an undo or an impossible time affects.

    This may take minutes: the ledger is locked only to write, and to fold keys with newer entries again.
    """
    if not save.is_sqlite:
        save.execute(text("SET LOCAL statement_timeout = 0"))
    head = save.execute(select(_HEAD.c.seq)).scalar() or 0
    folded = {key: _fold(save, key) for key in _affected(save, _ENTRY.c.seq <= head)}
    write = lock_head(save)
    since = _ENTRY.c.seq > head
    again = _affected(save, since) | (_keys(save, since) & folded.keys())
    _write(write, folded | {key: _fold(save, key) for key in again})


def _affected(read: Read, which: ColumnElement[bool]) -> set[Key]:
    is_impossible = _ENTRY.c.occurred_at < consent.EARLIEST
    return _keys(read, and_(which, or_(is_impossible, and_(_ENTRY.c.reason.is_(None), _ENTRY.c.undoes.is_not(None)))))


def _keys(read: Read, which: ColumnElement[bool]) -> set[Key]:
    columns = [_ENTRY.c[name] for name in (*_SCOPE, "fingerprint", "reason")]
    rows = [row._mapping for row in read.execute(select(*columns).where(which).distinct())]
    found = {_key(row, _SCOPE if row["reason"] is None else _ADDRESS) for row in rows}
    return {key for key in found if None not in dict(key).values()}


def _key(row: Mapping[Any, Any], names: tuple[str, ...]) -> Key:
    return tuple((name, row[name]) for name in names)


def _fold(read: Read, key: Key) -> dict[str, list[dict[str, Any]]]:
    entries = list(_entries(read, dict(key)))
    return _fold_suppression(entries, dict(key)) if "fingerprint" in dict(key) else _fold_scope(entries, dict(key))


def _write(write: Write, folded: Folded) -> None:
    for kept, names in ((_PREFERENCE, _SCOPE), (_PACE, _SCOPE), (_SUPPRESSION, _ADDRESS)):
        keys = [dict(key) for key in folded if tuple(dict(key)) == names]
        rows = [row for tables in folded.values() for row in tables.get(kept.name, ())]
        if keys:
            of_key = and_(*(kept.c[name] == bindparam(f"key_{name}") for name in names))
            write.execute(delete(kept).where(of_key), [{f"key_{name}": key[name] for name in names} for key in keys])
        if rows:
            write.execute(insert(kept), rows)


def _of(table: TableClause, key: dict[str, Any]) -> ColumnElement[bool]:
    return and_(*(table.c[name] == value for name, value in key.items()))


def _entries(read: Read, key: dict[str, Any]) -> Iterator[Entry]:
    for row in read.execute(select(_ENTRY).where(_of(_ENTRY, key)).order_by(_ENTRY.c.seq)):
        yield entry_of_values(_NOT_READ | dict(row._mapping))


def _fold_scope(entries: Sequence[Entry], scope: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    key = (scope["contact_id"], scope["channel"], scope["brand"])
    folded = consent.fold_by_topic([entry for entry in entries if entry.status is not None])
    paces: dict[tuple[str, Verb], SendingLimit | None] = {}
    for entry in entries:
        if entry.verb in LIMIT_VERBS:
            at = (entry.topic, entry.verb)
            paces[at] = consent.apply_limit(paces.get(at), entry)
    preferences = [preference_row((*key, topic), held) for topic, held in folded.items()]
    slowed = [limit_row((*key, topic, verb.value), pace) for (topic, verb), pace in paces.items() if pace is not None]
    return {
        _PREFERENCE.name: [_row_for(_PREFERENCE, row) for row in preferences],
        _PACE.name: [_row_for(_PACE, row) for row in slowed],
    }


def _fold_suppression(entries: Sequence[Entry], address: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    state: Suppression | None = None
    for entry in entries:
        state = consent.apply_suppression(state, entry)
    if state is None:
        return {_SUPPRESSION.name: []}
    key = (address["fingerprint"], address["channel"], address["reason"])
    return {_SUPPRESSION.name: [_row_for(_SUPPRESSION, suppression_row(key, state))]}


def _row_for(kept: TableClause, row: dict[str, Any]) -> dict[str, Any]:
    """The columns that the table had at that revision."""
    return {name: row[name] for name in kept.c.keys()}  # noqa: SIM118 - a collection of columns, not a dict
