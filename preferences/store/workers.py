"""Which workers are alive: each says so every few seconds.

Owns the rows `worker`. Invariant: a row says when its worker was last seen, and nothing of what it does.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, func, select

from preferences.store.dialect import insert_rows
from preferences.store.tables import worker

BEAT: Final = timedelta(seconds=10)
"""How often a worker says that it is alive."""

SILENCE: Final = timedelta(seconds=60)
"""How long one may be silent and still count as alive."""

REMEMBERED: Final = timedelta(days=1)


def beat(connection: Connection, name: str, now: datetime) -> None:
    """Note that this worker is alive."""
    insert_rows(connection, worker, [{"name": name, "seen_at": now}], on_conflict="replace")


def leave(connection: Connection, name: str) -> None:
    """Note that this worker has stopped in good order."""
    connection.execute(delete(worker).where(worker.c.name == name))


def forget_old(connection: Connection, now: datetime) -> None:
    """Remove workers that have not been seen for a day."""
    connection.execute(delete(worker).where(worker.c.seen_at < now - REMEMBERED))


def last_seen(connection: Connection) -> datetime | None:
    """When any worker was last seen, among those that did not stop in good order."""
    seen: datetime | None = connection.execute(select(func.max(worker.c.seen_at))).scalar_one()
    return seen


def count_alive(connection: Connection, now: datetime) -> int:
    """How many workers have been seen lately."""
    alive: int = connection.execute(select(func.count()).where(worker.c.seen_at > now - SILENCE)).scalar_one()
    return alive
