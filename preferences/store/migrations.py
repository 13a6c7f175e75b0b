"""Whether the database has the tables that this version of the program needs.

Owns the number of the newest migration. Invariant: it is the head of `migrations/versions` (a test compares them).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, inspect, text

HEAD: Final = "0012"


def pending(connection: Connection) -> bool:
    """Whether `flask db upgrade` has something to do."""
    return current(connection) != HEAD


def current(connection: Connection) -> str | None:
    """The migration that the database stands at; None where there was none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found
