"""Whether the database has the tables that this version needs.

Invariant: `HEAD` is the newest of `migrations/versions` (a test compares them).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import inspect

from preferences.store.transactions import Read

HEAD: Final = "0013"


def pending(read: Read) -> bool:
    """Whether `flask db upgrade` has something to do."""
    return current(read) != HEAD


def current(read: Read) -> str | None:
    """The migration of the database; None for an empty one."""
    if not inspect(read.connection).has_table("alembic_version"):
        return None
    found: str | None = read.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
    return found
