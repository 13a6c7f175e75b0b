"""Whether the database has the tables that this version of the program needs.

Owns the number of the newest migration. Invariant: it is the head of `migrations/versions` (a test compares them).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, inspect, text

HEAD: Final = "0006"


def pending(connection: Connection) -> bool:
    """Whether `flask db upgrade` has something to do."""
    if not inspect(connection).has_table("alembic_version"):
        return True
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() != [HEAD]
