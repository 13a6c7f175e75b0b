"""Whether the database's tables are those of this version.

Invariant: `HEAD` is the newest of `migrations/versions` (tested).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import inspect

from preferences.store.transactions import Read

HEAD: Final = "0013"


def pending(read: Read) -> bool:
    return current(read) != HEAD


def current(read: Read) -> str | None:
    """None for an empty database."""
    if not inspect(read.connection).has_table("alembic_version"):
        return None
    found: str | None = read.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
    return found
