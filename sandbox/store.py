"""The sandbox's memory: one SQLite database, in a file or in memory.

Owns the tables and the connection. Invariant: `version` grows with every change, so a page that shows the version of
now is up to date.
"""

from __future__ import annotations

import sqlite3
import threading
from typing import Final

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS suppression (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice, so a cursor over it stays good
    channel TEXT NOT NULL, address TEXT NOT NULL, list TEXT NOT NULL, kind TEXT NOT NULL,
    occurred_at TEXT NOT NULL, received_at TEXT NOT NULL, via TEXT NOT NULL,
    UNIQUE (channel, address, list, kind)
);
CREATE TABLE IF NOT EXISTS push (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at TEXT NOT NULL, webhook_id TEXT NOT NULL, status INTEGER NOT NULL, outcome TEXT NOT NULL,
    changes TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS webhook (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE, body TEXT NOT NULL, queued_at REAL NOT NULL, next_at REAL NOT NULL,
    copies INTEGER NOT NULL, delivered INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL, answers TEXT NOT NULL DEFAULT '[]'
);
CREATE TABLE IF NOT EXISTS sending (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    sent_at TEXT NOT NULL, topic TEXT NOT NULL, sent TEXT NOT NULL, skipped TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS mail (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL, address TEXT NOT NULL, received_at TEXT NOT NULL, raw BLOB NOT NULL
);
"""
TABLES: Final = ("suppression", "push", "webhook", "sending", "mail")

Value = str | int | float | bytes


class Store:
    """One connection behind one lock: a demo has few writers, and `:memory:` belongs to one connection."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._version = 0
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.executescript(SCHEMA)

    @property
    def version(self) -> int:
        """A number that is different after every change."""
        return self._version

    def touch(self) -> None:
        """Say that something changed that is not in a table."""
        with self._lock:
            self._version += 1

    def rows(self, query: str, *values: Value) -> list[sqlite3.Row]:
        """All rows that a query finds."""
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def row(self, query: str, *values: Value) -> sqlite3.Row | None:
        """The first row that a query finds."""
        return next(iter(self.rows(query, *values)), None)

    def write(self, statement: str, *values: Value) -> int:
        """Change rows, durably before this returns; gives the number of the row that was added."""
        with self._lock:
            self._version += 1
            return self._connection.execute(statement, values).lastrowid or 0

    def clear(self) -> None:
        """Forget everything."""
        for table in TABLES:
            self.write(f"DELETE FROM {table}")  # noqa: S608 - the names stand above

    def close(self) -> None:
        with self._lock:
            self._connection.close()
