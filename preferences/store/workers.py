"""The workers alive: the rows `worker`, which say only when each was last seen."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, func, select

from preferences.store.dialect import insert_rows
from preferences.store.tables import worker
from preferences.store.transactions import Read, Save

BEAT: Final = timedelta(seconds=10)
"""Time between heartbeats."""

SILENCE: Final = timedelta(seconds=60)
"""Time without a heartbeat before a worker counts as dead."""

REMEMBERED: Final = timedelta(days=1)


def beat(save: Save, name: str, now: datetime) -> None:
    insert_rows(save, worker, [{"name": name, "seen_at": now}], on_conflict="replace")


def leave(save: Save, name: str) -> None:
    """For a clean stop."""
    save.execute(delete(worker).where(worker.c.name == name))


def forget_old(save: Save, now: datetime) -> None:
    save.execute(delete(worker).where(worker.c.seen_at < now - REMEMBERED))


def last_seen(read: Read) -> datetime | None:
    """Of workers that did not stop cleanly."""
    seen: datetime | None = read.execute(select(func.max(worker.c.seen_at))).scalar_one()
    return seen


def count_alive(read: Read, now: datetime) -> int:
    alive: int = read.execute(select(func.count()).where(worker.c.seen_at > now - SILENCE)).scalar_one()
    return alive
