"""Runs the migrations, on SQLite and on PostgreSQL, with the application's own engine.

On SQLite a migration may rebuild a table, and dropping the old one would empty its children through their foreign keys;
so keys are off while it runs and checked before it commits.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from preferences.store.db import db
from preferences.store.tables import metadata


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=True,
        compare_type=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def upgrade_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
    try:
        run(connection)
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        if broken:
            raise RuntimeError(f"{len(broken)} rows lost the row they refer to")
    finally:
        connection.exec_driver_sql("PRAGMA foreign_keys=ON")


engine = db.engine
if engine.dialect.name == "sqlite":
    # Outside a transaction: SQLite ignores the pragma inside one.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        upgrade_sqlite(connection)
else:
    with engine.connect() as connection:
        run(connection)
        connection.commit()
