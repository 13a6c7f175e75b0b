"""The database engine: its URL, pool, timeouts and durability.

Invariant: each commit is flushed to the disk before it is acknowledged.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

from sqlalchemy import (
    Connection,
    Dialect,
    Engine,
    create_engine,
    event,
)
from sqlalchemy.engine import URL, make_url

SQLITE_BUSY_SECONDS: Final = 15
"""How long a writer waits for the write of another process. A write takes milliseconds; a block of an import, a tenth
of a second."""

SQLITE_RETRY_SECONDS: Final = 0.002
"""Time between two attempts to begin a write. SQLite itself sleeps up to a tenth of a second, in which a process that
writes continuously, such as an import, begins its next write."""

# The timeouts end a process that hangs with the ledger's lock. A generic plan, made while tables were small, would keep
# scanning them; so would the default cost of a random page, which is that of a hard disk.
POSTGRESQL_OPTIONS: Final = (
    "-c timezone=UTC -c idle_in_transaction_session_timeout=10s -c lock_timeout=10s -c statement_timeout=60s"
    " -c plan_cache_mode=force_custom_plan -c random_page_cost=1.1 -c jit=off"
)


def make_engine(database_url: str, pool_size: int) -> Engine:
    """The engine for this database. It connects when it is first used."""
    url = engine_url(database_url)
    return create_engine(url, **engine_options(url, pool_size))


def engine_url(database_url: str) -> URL:
    """The SQLAlchemy URL. `postgres://` and `postgresql://` both mean psycopg 3."""
    url = make_url(database_url)
    if url.drivername in {"postgres", "postgresql"}:
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        url = url.set(database=str(Path(url.database).absolute()))
    return url


def engine_options(url: URL, threads: int) -> dict[str, Any]:
    """The arguments of `create_engine` for this URL."""
    common = {"pool_size": threads, "pool_timeout": 5, "hide_parameters": True}
    if url.get_backend_name() == "sqlite":
        Path(url.database or ".").parent.mkdir(parents=True, exist_ok=True)
        return {**common, "connect_args": {"timeout": SQLITE_BUSY_SECONDS}}
    return {
        **common,
        "connect_args": {"connect_timeout": 3, "options": POSTGRESQL_OPTIONS},
        "max_overflow": 2,
    }


def prepare_sqlite(engine: Engine) -> None:
    """Configure SQLite: WAL, a disk flush at each commit, foreign keys, and transactions that we begin ourselves.

    The file of a new database, which holds addresses, is readable by its owner alone; SQLite gives its log the same
    rights.
    """

    @event.listens_for(engine, "do_connect")
    def on_new_file(_dialect: Dialect, _record: object, arguments: list[Any], _options: dict[str, Any]) -> None:
        with suppress(OSError):  # it exists, or cannot be created: then connecting fails
            os.close(os.open(arguments[0], os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))

    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            _begin_immediate(connection)


def _begin_immediate(connection: Connection) -> None:
    """Take SQLite's write lock as soon as it is free."""
    driver = cast("sqlite3.Connection", connection.connection.driver_connection)
    deadline = time.monotonic() + SQLITE_BUSY_SECONDS
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        while time.monotonic() < deadline:
            with suppress(sqlite3.OperationalError):
                driver.execute("BEGIN IMMEDIATE")
                return
            time.sleep(SQLITE_RETRY_SECONDS)
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    finally:
        driver.execute(f"PRAGMA busy_timeout = {SQLITE_BUSY_SECONDS * 1000}")
