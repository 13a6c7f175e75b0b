"""Folds again what the rules of the fold have changed for since it was folded first.

Owns the way from entries to the rows of the projection where these were made by older rules: by a migration, or by the
export of an older version. It names each column that it needs, because a migration runs it on the tables of its own
day. Invariant: the entries stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
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
from preferences.domain.records import Entry, Preference, SendingLimit, Suppression
from preferences.domain.vocabulary import LIMIT_VERBS, Actor, Basis, Channel, Status, SuppressionReason, Verb
from preferences.store.tables import UtcDateTime

RULES: Final = 2
"""Counts the changes of `domain.consent` that made this necessary: the rules by which the projection is folded now."""

_SCOPE: Final = ("contact_id", "channel", "brand")
_ADDRESS: Final = ("fingerprint", "channel", "reason")
_TIMES: Final = ("recorded_at", "occurred_at", "until", "at", "since")


def _table(name: str, columns: str) -> TableClause:
    kinds: dict[str, Any] = {"contact_id": Uuid(), "trusted": Boolean(), "active": Boolean()}
    kinds |= dict.fromkeys(_TIMES, UtcDateTime())
    return table(name, *(column(one, kinds.get(one)) for one in columns.split()))


_HEAD: Final = _table("ledger_head", "seq")
_ENTRY: Final = _table(
    "ledger_entry",
    "seq recorded_at occurred_at verb channel contact_id fingerprint brand topic status reason basis origin actor"
    " trusted undoes until per_week",
)
_PREFERENCE: Final = _table("preference", "contact_id channel brand topic status at since seq trusted basis")
_PACE: Final = _table("pace", "contact_id channel brand topic verb until per_week at seq")
_SUPPRESSION: Final = _table("suppression", "fingerprint channel reason active at since seq")


Key = tuple[tuple[str, Any], ...]
"""What is folded by itself: the names and values of `_SCOPE` or of `_ADDRESS`."""

Folded = dict[Key, dict[str, list[dict[str, Any]]]]
"""The rows that each of them adds up to, by table."""


def refold(connection: Connection) -> None:
    """Fold again whatever an undo, or a time at which nothing can have happened, bears on.

    Reading and folding may take minutes, in which people's clicks must not wait: the ledger is locked only to fold
    again what was added to meanwhile, and to write.
    """
    is_postgresql = connection.dialect.name == "postgresql"
    if is_postgresql:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
    head = connection.execute(select(_HEAD.c.seq)).scalar() or 0
    folded = {key: _fold(connection, key) for key in _affected(connection, _ENTRY.c.seq <= head)}
    if is_postgresql:
        connection.execute(text("SELECT seq FROM ledger_head WHERE id = 1 FOR UPDATE"))
    since = _ENTRY.c.seq > head
    again = _affected(connection, since) | (_keys(connection, since) & folded.keys())
    _write(connection, folded | {key: _fold(connection, key) for key in again})


def _affected(connection: Connection, which: ColumnElement[bool]) -> set[Key]:
    is_impossible = _ENTRY.c.occurred_at < consent.EARLIEST
    return _keys(
        connection, and_(which, or_(is_impossible, and_(_ENTRY.c.reason.is_(None), _ENTRY.c.undoes.is_not(None))))
    )


def _keys(connection: Connection, which: ColumnElement[bool]) -> set[Key]:
    """What the entries bear on: one read of the ledger, or of its end."""
    columns = [_ENTRY.c[name] for name in (*_SCOPE, "fingerprint", "reason")]
    rows = [row._mapping for row in connection.execute(select(*columns).where(which).distinct())]
    found = {_key(row, _SCOPE if row["reason"] is None else _ADDRESS) for row in rows}
    return {key for key in found if None not in dict(key).values()}


def _key(row: Mapping[Any, Any], names: tuple[str, ...]) -> Key:
    return tuple((name, row[name]) for name in names)


def _fold(connection: Connection, key: Key) -> dict[str, list[dict[str, Any]]]:
    entries = list(_entries(connection, dict(key)))
    return _fold_suppression(entries, dict(key)) if "fingerprint" in dict(key) else _fold_scope(entries, dict(key))


def _write(connection: Connection, folded: Folded) -> None:
    for kept, names in ((_PREFERENCE, _SCOPE), (_PACE, _SCOPE), (_SUPPRESSION, _ADDRESS)):
        keys = [dict(key) for key in folded if tuple(dict(key)) == names]
        rows = [row for tables in folded.values() for row in tables.get(kept.name, ())]
        if keys:
            of_key = and_(*(kept.c[name] == bindparam(f"key_{name}") for name in names))
            connection.execute(
                delete(kept).where(of_key), [{f"key_{name}": key[name] for name in names} for key in keys]
            )
        if rows:
            connection.execute(insert(kept), rows)


def _of(table: TableClause, key: dict[str, Any]) -> ColumnElement[bool]:
    return and_(*(table.c[name] == value for name, value in key.items()))


def _entries(connection: Connection, key: dict[str, Any]) -> Iterator[Entry]:
    for row in connection.execute(select(_ENTRY).where(_of(_ENTRY, key)).order_by(_ENTRY.c.seq)):
        yield Entry(
            seq=row.seq,
            recorded_at=row.recorded_at,
            occurred_at=row.occurred_at,
            verb=Verb(row.verb),
            channel=Channel(row.channel),
            contact_id=row.contact_id,
            fingerprint=row.fingerprint,
            brand=row.brand,
            topic=row.topic,
            status=Status(row.status) if row.status else None,
            reason=SuppressionReason(row.reason) if row.reason else None,
            basis=Basis(row.basis) if row.basis else None,
            origin=row.origin,
            origin_ref=None,
            actor=Actor(row.actor),
            trusted=row.trusted,
            changed=False,
            undoes=row.undoes,
            hash="",
            until=row.until,
            per_week=row.per_week,
        )


def _fold_scope(entries: Sequence[Entry], scope: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    choices = consent.fold_by_topic([one for one in entries if one.status is not None])
    paces: dict[tuple[str, Verb], SendingLimit | None] = {}
    for one in entries:
        if one.verb in LIMIT_VERBS:
            paces[one.topic, one.verb] = consent.apply_limit(paces.get((one.topic, one.verb)), one)
    slowed = [(topic, pace) for (topic, _), pace in paces.items() if pace is not None]
    return {
        _PREFERENCE.name: [scope | {"topic": topic, **_choice(choice)} for topic, choice in choices.items()],
        _PACE.name: [scope | {"topic": topic, **_pace(pace)} for topic, pace in slowed],
    }


def _fold_suppression(entries: Sequence[Entry], key: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    state: Suppression | None = None
    for one in entries:
        state = consent.apply_suppression(state, one)
    return {_SUPPRESSION.name: [] if state is None else [key | _suppression(state)]}


def _choice(choice: Preference) -> dict[str, Any]:
    return {
        "status": choice.status.value,
        "at": choice.at,
        "since": choice.since,
        "seq": choice.seq,
        "trusted": choice.trusted,
        "basis": choice.basis and choice.basis.value,
    }


def _pace(pace: SendingLimit) -> dict[str, Any]:
    return {
        "verb": pace.verb.value,
        "until": pace.until,
        "per_week": pace.per_week,
        "at": pace.at,
        "seq": pace.seq,
    }


def _suppression(state: Suppression) -> dict[str, Any]:
    return {"active": state.active, "at": state.at, "since": state.since, "seq": state.seq}
