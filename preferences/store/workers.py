"""Which workers are alive: each says so every few seconds.

Owns the rows `worker`. Invariant: a row says when its worker was last seen, and nothing of what it does.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, func, select

from preferences.store.dialect import insert_rows
from preferences.store.tables import worker
from preferences.store.transactions import Read, Save

BEAT: Final = timedelta(seconds=10)
"""How often a worker says that it is alive."""

SILENCE: Final = timedelta(seconds=60)
"""How long one may be silent and still count as alive."""

REMEMBERED: Final = timedelta(days=1)


def beat(save: Save, name: str, now: datetime) -> None:
    """Note that this worker is alive."""
    insert_rows(save, worker, [{"name": name, "seen_at": now}], on_conflict="replace")


def leave(save: Save, name: str) -> None:
    """Note that this worker has stopped in good order."""
    save.execute(delete(worker).where(worker.c.name == name))


def forget_old(save: Save, now: datetime) -> None:
    """Remove workers that have not been seen for a day."""
    save.execute(delete(worker).where(worker.c.seen_at < now - REMEMBERED))


def last_seen(read: Read) -> datetime | None:
    """When any worker was last seen, among those that did not stop in good order."""
    seen: datetime | None = read.execute(select(func.max(worker.c.seen_at))).scalar_one()
    return seen


def count_alive(read: Read, now: datetime) -> int:
    """How many workers have been seen lately."""
    alive: int = read.execute(select(func.count()).where(worker.c.seen_at > now - SILENCE)).scalar_one()
    return alive
