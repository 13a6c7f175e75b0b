"""Runs the migrations, on SQLite and on PostgreSQL, with the application's own engine.

On PostgreSQL each is a transaction of its own, so that none holds a table against the running site while the next ones
take their time.

On SQLite a migration may rebuild a table, and dropping the old one would empty its children through their foreign keys;
so keys are off while it runs and checked before it commits. There all of them are one transaction.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from preferences.current import current_services
from preferences.store.tables import metadata


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=True,
        compare_type=True,
        transactional_ddl=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def switch_foreign_keys(connection: Connection, state: str) -> None:
    # On the driver's own connection: SQLite ignores the pragma inside a transaction, and this one has none yet.
    driver = connection.connection.driver_connection
    assert driver is not None
    driver.execute(f"PRAGMA foreign_keys={state}")


def run_on_sqlite(connection: Connection) -> None:
    switch_foreign_keys(connection, "OFF")
    try:
        with connection.begin():
            run(connection)
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            if broken:
                raise RuntimeError(f"{len(broken)} rows lost the row they refer to")
    finally:
        switch_foreign_keys(connection, "ON")


engine = current_services().database.engine
with engine.connect() as connection:
    if engine.dialect.name == "sqlite":
        run_on_sqlite(connection)
    else:
        run(connection)
        connection.commit()
