"""Folds again what the rules of the fold have changed for since it was folded first.

Owns the way from entries to the rows of the projection where these were made by older rules: by a migration, or by the
export of an older version. It names each column that it needs, because a migration runs it on the tables of its own
day. Invariant: the entries stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Boolean, Connection, TableClause, Uuid, and_, column, delete, insert, or_, select, table, text

from preferences.domain import consent
from preferences.domain.terms import (
    PACE_VERBS,
    Actor,
    Basis,
    Channel,
    Choice,
    Entry,
    Pace,
    Status,
    Suppression,
    SuppressionReason,
    Verb,
)
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


_ENTRY: Final = _table(
    "ledger_entry",
    "seq recorded_at occurred_at verb channel contact_id fingerprint brand topic status reason basis origin actor"
    " trusted undoes until per_week",
)
_PREFERENCE: Final = _table("preference", "contact_id channel brand topic status at since seq trusted basis")
_PACE: Final = _table("pace", "contact_id channel brand topic verb until per_week at seq")
_SUPPRESSION: Final = _table("suppression", "fingerprint channel reason active at since seq")


def refold(connection: Connection) -> None:
    """Fold again whatever an undo, or a time at which nothing can have happened, bears on."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        # Nothing is recorded meanwhile.
        connection.execute(text("SELECT seq FROM ledger_head WHERE id = 1 FOR UPDATE"))
    is_impossible = _ENTRY.c.occurred_at < consent.EARLIEST
    is_wish = and_(_ENTRY.c.reason.is_(None), _ENTRY.c.contact_id.is_not(None))
    for scope in _affected(connection, and_(is_wish, or_(_ENTRY.c.undoes.is_not(None), is_impossible)), _SCOPE):
        _fold_scope(connection, scope)
    for key in _affected(connection, and_(_ENTRY.c.reason.is_not(None), is_impossible), _ADDRESS):
        _fold_suppression(connection, key)


def _affected(connection: Connection, which: Any, names: tuple[str, ...]) -> list[dict[str, Any]]:
    found = connection.execute(select(*(_ENTRY.c[name] for name in names)).where(which).distinct())
    return [dict(row._mapping) for row in found]


def _of(table: TableClause, key: dict[str, Any]) -> Any:
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


def _fold_scope(connection: Connection, scope: dict[str, Any]) -> None:
    entries = list(_entries(connection, scope))
    choices = consent.fold_by_topic([one for one in entries if one.status is not None])
    paces: dict[tuple[str, Verb], Pace | None] = {}
    for one in entries:
        if one.verb in PACE_VERBS:
            paces[one.topic, one.verb] = consent.apply_pace(paces.get((one.topic, one.verb)), one)
    rows = [scope | {"topic": topic, **_choice(choice)} for topic, choice in choices.items()]
    _replace(connection, _PREFERENCE, scope, rows)
    slowed = [(topic, pace) for (topic, _), pace in paces.items() if pace is not None]
    _replace(connection, _PACE, scope, [scope | {"topic": topic, **_pace(pace)} for topic, pace in slowed])


def _fold_suppression(connection: Connection, key: dict[str, Any]) -> None:
    state: Suppression | None = None
    for one in _entries(connection, key):
        state = consent.apply_suppression(state, one)
    rows = [] if state is None else [key | _suppression(state)]
    _replace(connection, _SUPPRESSION, key, rows)


def _replace(connection: Connection, table: TableClause, key: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    connection.execute(delete(table).where(_of(table, key)))
    if rows:
        connection.execute(insert(table), rows)


def _choice(choice: Choice) -> dict[str, Any]:
    return {
        "status": choice.status.value,
        "at": choice.at,
        "since": choice.since,
        "seq": choice.seq,
        "trusted": choice.trusted,
        "basis": choice.basis and choice.basis.value,
    }


def _pace(pace: Pace) -> dict[str, Any]:
    return {
        "verb": pace.verb.value,
        "until": pace.until,
        "per_week": pace.per_week,
        "at": pace.at,
        "seq": pace.seq,
    }


def _suppression(state: Suppression) -> dict[str, Any]:
    return {"active": state.active, "at": state.at, "since": state.since, "seq": state.seq}
