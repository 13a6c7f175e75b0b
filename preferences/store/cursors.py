"""Connectors' positions in the ledger: the rows `connector_cursor` and `connector_rejection`.

Invariants: only the worker with the lease moves the position, forward, after pushing everything before it. Only
`restart`, for operators, moves it freely.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, delete, func, or_, select, update

from preferences.store import workers
from preferences.store.dialect import insert_rows
from preferences.store.feed import head_seq
from preferences.store.tables import connector_cursor, connector_rejection, ledger_entry
from preferences.store.transactions import Read, Save

FAILING_AFTER: Final = 5
"""Failures in a row before a connector counts as failing."""

LEASE: Final = timedelta(seconds=30)
"""Longer than any provider call (`connectors.http.TIMEOUT`); renewed before each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    connector: str
    position: int
    failures: int
    due_at: datetime | None
    paused_because: str | None
    last_success_at: datetime | None
    last_error: str | None
    reconcile_due_at: datetime | None
    drift: int | None
    pushed: int = 0
    failed: int = 0
    compared_at: datetime | None = None
    compare_failures: int = 0
    compare_error: str | None = None


def find_cursor(read: Read, connector: str) -> Cursor | None:
    row = read.execute(select(connector_cursor).where(connector_cursor.c.connector == connector)).one_or_none()
    return None if row is None else _cursor(row)


def start(save: Save, connector: str, position: int | None = None) -> None:
    """Create a cursor, by default at the head; a backfill pushes older state."""
    if find_cursor(save, connector) is None:
        at = head_seq(save) if position is None else position
        row: dict[str, Any] = {"connector": connector, "position": at, "failures": 0}
        insert_rows(save, connector_cursor, [row], on_conflict="ignore")


def restart(save: Save, connector: str, position: int) -> None:
    """Move, and end any pause, wait and lease. A running push can no longer move it."""
    start(save, connector, position)
    save.execute(
        update(connector_cursor)
        .where(connector_cursor.c.connector == connector)
        .values(position=position, lease_owner=None, lease_until=None, paused_because=None, due_at=None, failures=0)
    )


def claim(save: Save, connector: str, owner: str, now: datetime) -> Cursor | None:
    """Take or renew the lease. None if another worker has it, or the connector is paused or not due."""
    free = or_(
        connector_cursor.c.lease_until.is_(None),
        connector_cursor.c.lease_until < now,
        connector_cursor.c.lease_owner == owner,
    )
    due = or_(connector_cursor.c.due_at.is_(None), connector_cursor.c.due_at <= now)
    row = save.execute(
        update(connector_cursor)
        .where(connector_cursor.c.connector == connector, free, due, connector_cursor.c.paused_because.is_(None))
        .values(lease_owner=owner, lease_until=now + LEASE)
        .returning(*connector_cursor.c)
    ).one_or_none()
    return None if row is None else _cursor(row)


def advance(save: Save, connector: str, owner: str, position: int, now: datetime, *, pushed: int = 0) -> bool:
    """Move after `pushed` pushes and release the lease. False if it was lost: another worker repeats the push."""
    return _as_owner(
        save,
        connector,
        owner,
        connector_cursor.c.position <= position,
        position=position,
        lease_until=None,
        lease_owner=None,
        failures=0,
        due_at=None,
        last_success_at=now,
        last_error=None,
        pushed=connector_cursor.c.pushed + pushed,
    )


def postpone(save: Save, connector: str, owner: str, until: datetime, why: str) -> None:
    """Count a failure, and retry at `until`."""
    _as_owner(
        save,
        connector,
        owner,
        due_at=until,
        failures=connector_cursor.c.failures + 1,
        failed=connector_cursor.c.failed + 1,
        last_error=why[:200],
        lease_until=None,
        lease_owner=None,
    )


def pause(save: Save, connector: str, owner: str, why: str) -> None:
    _as_owner(
        save,
        connector,
        owner,
        paused_because=why[:200],
        last_error=why[:200],
        failed=connector_cursor.c.failed + 1,
        lease_until=None,
        lease_owner=None,
    )


def release(save: Save, connector: str, owner: str) -> None:
    _as_owner(save, connector, owner, lease_until=None, lease_owner=None)


def resume(save: Save, connector: str) -> None:
    save.execute(
        update(connector_cursor)
        .where(connector_cursor.c.connector == connector)
        .values(paused_because=None, due_at=None, failures=0)
    )


def reconciled(save: Save, connector: str, next_at: datetime, *, pushed: int = 0) -> None:
    """Count a repair's pushes, and schedule the next comparison."""
    values = {"reconcile_due_at": next_at, "pushed": connector_cursor.c.pushed + pushed}
    save.execute(update(connector_cursor).where(connector_cursor.c.connector == connector).values(values))


def compared(save: Save, connector: str, drift: int, now: datetime) -> None:
    save.execute(
        update(connector_cursor)
        .where(connector_cursor.c.connector == connector)
        .values(drift=drift, compared_at=now, compare_failures=0, compare_error=None)
    )


def comparison_failed(save: Save, connector: str, why: str) -> None:
    failures = connector_cursor.c.compare_failures + 1
    save.execute(
        update(connector_cursor)
        .where(connector_cursor.c.connector == connector)
        .values(compare_failures=failures, compare_error=why[:200])
    )


def reconcile_at(save: Save, connector: str, at: datetime) -> None:
    save.execute(update(connector_cursor).where(connector_cursor.c.connector == connector).values(reconcile_due_at=at))


def reconcile_by(save: Save, connector: str, at: datetime) -> None:
    """Compare at this time at the latest."""
    later = or_(connector_cursor.c.reconcile_due_at.is_(None), connector_cursor.c.reconcile_due_at > at)
    save.execute(
        update(connector_cursor).where(connector_cursor.c.connector == connector, later).values(reconcile_due_at=at)
    )


def count_pushed(save: Save, connector: str, pushed: int) -> None:
    """Count pushes that leave the position."""
    save.execute(
        update(connector_cursor)
        .where(connector_cursor.c.connector == connector)
        .values(pushed=connector_cursor.c.pushed + pushed)
    )


def park(save: Save, connector: str, refused: list[tuple[UUID, int, str]], now: datetime) -> None:
    """Store rejections: contact, entry and reason."""
    rows = {
        contact_id: {"connector": connector, "contact_id": contact_id, "seq": seq, "why": why, "at": now}
        for contact_id, seq, why in refused
    }
    insert_rows(save, connector_rejection, list(rows.values()), on_conflict="replace")


def parked(read: Read, connector: str) -> set[UUID]:
    statement = select(connector_rejection.c.contact_id).where(connector_rejection.c.connector == connector)
    return set(read.execute(statement).scalars())


def unpark(save: Save, connector: str, before: datetime) -> None:
    """Remove rejections older than a backfill, which stored those that persist again."""
    mine = connector_rejection.c.connector == connector
    save.execute(delete(connector_rejection).where(mine, connector_rejection.c.at < before))


@dataclass(frozen=True, slots=True)
class ConnectorStatus:
    """A cursor with its unread entries, the age of the oldest, and its rejections."""

    cursor: Cursor
    entries_behind: int
    seconds_behind: float
    parked: int
    is_attended: bool = True

    @property
    def state(self) -> str:
        """paused: until an operator resumes it. waiting: for a retry. failing: after FAILING_AFTER failures.

        stopped: entries wait and no worker is alive. Otherwise running.
        """
        if self.cursor.paused_because:
            return "paused"
        if self.cursor.failures:
            return "failing" if self.cursor.failures >= FAILING_AFTER else "waiting"
        return "stopped" if self.entries_behind and not self.is_attended else "running"

    @property
    def words(self) -> str:
        cursor = self.cursor
        return {
            "paused": f"paused ({cursor.paused_because})",
            "stopped": "stopped, since no worker is alive: start `flask worker`",
            "failing": f"failing, {cursor.failures} times in a row ({cursor.last_error})",
            "waiting": f"waiting after {cursor.failures} failures ({cursor.last_error})",
        }.get(self.state, self.state)

    @property
    def error_class(self) -> str:
        """Misconfigured, TryLater, or empty."""
        if self.cursor.paused_because:
            return "Misconfigured"
        return "TryLater" if self.cursor.failures else ""


def statuses(read: Read, now: datetime) -> dict[str, ConnectorStatus]:
    head = head_seq(read)
    parked = select(connector_rejection.c.connector, func.count()).group_by(connector_rejection.c.connector)
    counts = {row[0]: row[1] for row in read.execute(parked)}
    oldest = select(ledger_entry.c.recorded_at).where(ledger_entry.c.seq == connector_cursor.c.position + 1)
    rows = read.execute(select(connector_cursor, oldest.scalar_subquery().label("oldest")))
    is_attended = workers.count_alive(read, now) > 0
    return {
        row.connector: ConnectorStatus(
            cursor=_cursor(row),
            entries_behind=max(head - row.position, 0),
            seconds_behind=max((now - row.oldest).total_seconds(), 0.0) if row.oldest else 0.0,
            parked=counts.get(row.connector, 0),
            is_attended=is_attended,
        )
        for row in rows
    }


def _as_owner(save: Save, connector: str, owner: str, *more: Any, **values: Any) -> bool:
    done = save.execute(
        update(connector_cursor)
        .where(connector_cursor.c.connector == connector, connector_cursor.c.lease_owner == owner, *more)
        .values(**values)
    )
    return done.rowcount == 1


def _cursor(row: Row[Any]) -> Cursor:
    return Cursor(
        connector=row.connector,
        position=row.position,
        failures=row.failures,
        due_at=row.due_at,
        paused_because=row.paused_because,
        last_success_at=row.last_success_at,
        last_error=row.last_error,
        reconcile_due_at=row.reconcile_due_at,
        drift=row.drift,
        pushed=row.pushed,
        failed=row.failed,
        compared_at=row.compared_at,
        compare_failures=row.compare_failures,
        compare_error=row.compare_error,
    )
