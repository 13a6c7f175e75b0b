"""The database engine: URL, pool, timeouts and durability.

Invariant: a commit is flushed to disk before it is acknowledged.
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
"""Another process's write takes milliseconds, an import's block a tenth of a second."""

SQLITE_RETRY_SECONDS: Final = 0.002
"""SQLite itself waits up to 0.1 s, in which a continuous writer, such as an import, begins first."""

# Timeouts end a process that hangs with the ledger's lock. Generic plans, made for small tables, keep scanning; so does
# the default random page cost, meant for hard disks.
POSTGRESQL_OPTIONS: Final = (
    "-c timezone=UTC -c idle_in_transaction_session_timeout=10s -c lock_timeout=10s -c statement_timeout=60s"
    " -c plan_cache_mode=force_custom_plan -c random_page_cost=1.1 -c jit=off"
)


def make_engine(database_url: str, pool_size: int) -> Engine:
    """Connects on first use."""
    url = engine_url(database_url)
    return create_engine(url, **engine_options(url, pool_size))


def engine_url(database_url: str) -> URL:
    """`postgres://` and `postgresql://` both mean psycopg 3."""
    url = make_url(database_url)
    if url.drivername in {"postgres", "postgresql"}:
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        url = url.set(database=str(Path(url.database).absolute()))
    return url


def engine_options(url: URL, threads: int) -> dict[str, Any]:
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
    """Configure SQLite: WAL, flush at commit, foreign keys, explicit transactions.

    Only the owner may read a new database file; SQLite gives its WAL the same mode.
    """

    @event.listens_for(engine, "do_connect")
    def on_new_file(_dialect: Dialect, _record: object, arguments: list[Any], _options: dict[str, Any]) -> None:
        with suppress(OSError):  # it exists, or connecting will fail
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
