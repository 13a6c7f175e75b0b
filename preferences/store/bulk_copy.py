"""Very many rows at once: written past SQLAlchemy (binary COPY on PostgreSQL, tuples on SQLite), or read.

Owns how values are encoded for it, and how a transaction is made ready. Invariant: what is written here reads back as
if `dialect.insert_rows` had written it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from sqlalchemy import BigInteger, Boolean, Column, Dialect, Integer, String, Table, Uuid

from preferences.store.prepared import driver_error, translated
from preferences.store.tables import UtcDateTime
from preferences.store.transactions import Read, Snapshot, Write


def expect_much(read: Read) -> None:
    """Make SQLite ready for a large write: it keeps more pages, and leaves the log to `move_log`."""
    if read.is_sqlite:
        read.exec_driver_sql("PRAGMA cache_size = -131072")
        read.exec_driver_sql("PRAGMA wal_autocheckpoint = 0")


def move_log(read: Read) -> None:
    """Checkpoint SQLite's log after a large write, while others may write.

    Otherwise the next commit does it, which may be a click's, and all other writers wait for it.
    """
    if read.is_sqlite:
        read.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")


@contextmanager
def much_read(snapshot: Snapshot) -> Iterator[None]:
    """Make whole tables fast to join: SQLite keeps more pages until the end of the block; PostgreSQL uses sequential
    scans, not the order of an index, until the transaction ends."""
    if not snapshot.is_sqlite:
        snapshot.exec_driver_sql(
            "SELECT set_config('enable_mergejoin', 'off', true), set_config('work_mem', '64MB', true)"
        )
        yield
        return
    before = snapshot.exec_driver_sql("PRAGMA cache_size").scalar_one()
    snapshot.exec_driver_sql("PRAGMA cache_size = -32768")
    try:
        yield
    finally:
        snapshot.exec_driver_sql(f"PRAGMA cache_size = {before}")
        snapshot.exec_driver_sql("PRAGMA shrink_memory")


Fields = Any
"""Encoded values, side by side: the bytes of a binary COPY, or on SQLite a tuple. `+` appends more of them."""

Encoder = Callable[[Any], Fields]


def encoder(dialect: Dialect, column: Column[Any]) -> Encoder:
    """Encodes values of a column for `put_rows`; None too."""
    if dialect.name == "sqlite":
        bind = column.type.dialect_impl(dialect).bind_processor(dialect)
        return (lambda value: (value,)) if bind is None else (lambda value: (bind(value),))
    encode = next(encode for kind, encode in _BINARY if isinstance(column.type, kind))
    return lambda value: _NULL if value is None else encode(value)


# Fields of PostgreSQL's binary COPY: a length, and the value in network order. They are encoded before the lock is
# taken; psycopg's `write_row`, which encodes under it, holds it for half as long again.
# Source: the PostgreSQL manual on COPY, "Binary Format".
_length: Final = struct.Struct(">i").pack
_int8: Final = struct.Struct(">iq").pack
_NULL: Final = _length(-1)
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _length(len(encoded)) + encoded


_BINARY: Final[Sequence[tuple[type[Any], Encoder]]] = (
    (Uuid, lambda value: _length(16) + value.bytes),
    (UtcDateTime, lambda value: _int8(8, (value - _EPOCH) // _MICROSECOND)),
    (Boolean, lambda value: _length(1) + (b"\1" if value else b"\0")),
    (BigInteger, lambda value: _int8(8, value)),
    (Integer, lambda value: _length(4) + _length(value)),
    (String, _text),
)


def start_of_row(dialect: Dialect, columns: int) -> Fields:
    """What a row of so many columns begins with."""
    return () if dialect.name == "sqlite" else struct.pack(">h", columns)


def put_rows(write: Write, table: Table, *, columns: Sequence[str], rows: Sequence[Fields]) -> None:
    """Insert very many encoded rows, by the shortest way that the engine has."""
    names = ", ".join(columns)
    if write.is_sqlite:
        marks = ", ".join("?" * len(columns))
        write.exec_driver_sql(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", list(rows))  # noqa: S608
        return
    cursor = cast("Any", write.connection.connection.cursor())
    copying = f"COPY {table.name} ({names}) FROM STDIN (FORMAT BINARY)"
    try:
        with cursor, cursor.copy(copying) as copy:
            copy.write(b"".join([_COPY_BEGINS, *rows, _COPY_ENDS]))
    except driver_error(write.connection.dialect) as error:
        raise translated(write.connection, error) from None


_COPY_BEGINS: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_ENDS: Final = b"\xff\xff"
