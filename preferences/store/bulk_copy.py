"""Very many rows at once: written past SQLAlchemy (COPY on PostgreSQL, prepared tuples on SQLite), or read.

Owns the form of values for it, and how a transaction is made ready. Decides nothing and opens no transaction.
Invariant: what is written here reads back as if `db.insert_rows` had written it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

from sqlalchemy import Table
from sqlalchemy.exc import DBAPIError

from preferences.store.transactions import Read, Snapshot, Write


def expect_much(read: Read) -> None:
    """Make SQLite ready for a transaction that writes very much: more pages are kept, and `move_log` moves the log."""
    if read.is_sqlite:
        read.exec_driver_sql("PRAGMA cache_size = -131072")
        read.exec_driver_sql("PRAGMA wal_autocheckpoint = 0")


def move_log(read: Read) -> None:
    """After much was written, have SQLite move the pages in its log to their places, while others may write.

    Otherwise the next commit of anybody does it, a click's too, with everybody else waiting for that.
    """
    if read.is_sqlite:
        read.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")


@contextmanager
def much_read(snapshot: Snapshot) -> Iterator[None]:
    """While whole tables are read against each other, SQLite keeps more of their pages, and lets go of them then.
    PostgreSQL, until the transaction ends, reads them from end to end, and not row by row in the order of an index."""
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
"""Values of a row, one or more, as the database takes them: bytes for COPY, or a tuple. `+` puts them side by side."""


@dataclass(frozen=True, slots=True)
class Form:
    """How rows are written for `put_rows`: the start of a row of so many columns, and then its fields in order.

    An instant is ISO text in UTC with six decimals, a UUID its usual text.
    """

    start: Callable[[int], Fields]
    number: Callable[[int], Fields]
    text: Callable[[str], Fields]
    uuid: Callable[[str], Fields]
    instant: Callable[[str], Fields]
    null: Fields
    true: Fields
    false: Fields

    def word(self, text: str | None) -> Fields:
        """Text that may be missing."""
        return self.null if text is None else self.text(text)


def _sqlite_form() -> Form:
    return Form(
        start=lambda _columns: (),
        number=lambda number: (number,),
        text=lambda text: (text,),
        uuid=lambda uuid: (uuid.replace("-", ""),),
        instant=lambda at: (f"{at[:10]} {at[11:26]}",),
        null=(None,),
        true=(1,),
        false=(0,),
    )


def _postgresql_form() -> Form:
    """Fields of PostgreSQL's binary COPY: the length in octets, and the value in network order.

    Source: the PostgreSQL manual on COPY, "Binary Format". The server reads a time or a UUID many times as fast as
    from text.
    """
    length = struct.Struct(">i").pack
    number = struct.Struct(">iq").pack
    began = datetime(2000, 1, 1, tzinfo=UTC)

    def text(value: str) -> bytes:
        octets = value.encode()
        return length(len(octets)) + octets

    def instant(at: str) -> bytes:
        since = datetime.fromisoformat(at) - began
        return number(8, (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)

    return Form(
        start=struct.Struct(">h").pack,
        number=lambda value: number(8, value),
        text=text,
        uuid=lambda uuid: length(16) + bytes.fromhex(uuid.replace("-", "")),
        instant=instant,
        null=length(-1),
        true=length(1) + b"\x01",
        false=length(1) + b"\x00",
    )


_FORMS: Final = {"postgresql": _postgresql_form(), "sqlite": _sqlite_form()}


def form_of(dialect: str) -> Form:
    """The form of rows that a database of this kind (its SQLAlchemy dialect's name) takes from `put_rows`."""
    return _FORMS[dialect]


_COPY_BEGINS: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_ENDS: Final = b"\xff\xff"


def put_rows(write: Write, table: Table, *, columns: Sequence[str], rows: Sequence[Fields]) -> None:
    """Add very many rows, written in the form of `form_of`: by the shortest way that the engine has."""
    names = ", ".join(columns)
    if write.is_sqlite:
        marks = ", ".join("?" * len(columns))
        write.exec_driver_sql(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", list(rows))  # noqa: S608
        return
    cursor = cast("Any", write.connection.connection.cursor())
    copying = f"COPY {table.name} ({names}) FROM STDIN (FORMAT BINARY)"
    with _driver_errors(write), cursor, cursor.copy(copying) as copy:
        copy.write(b"".join([_COPY_BEGINS, *rows, _COPY_ENDS]))


@contextmanager
def _driver_errors(write: Write) -> Iterator[None]:
    """Errors of a driver that is called past SQLAlchemy, as SQLAlchemy would have raised them."""
    dialect, driver = write.connection.dialect, write.connection.connection.driver_connection
    kind = cast("type[Exception]", dialect.loaded_dbapi.Error)
    try:
        yield
    except kind as error:
        gone = dialect.is_disconnect(cast("Any", error), cast("Any", driver), None)
        raise DBAPIError.instance(
            None, None, error, kind, hide_parameters=True, connection_invalidated=gone, dialect=dialect
        ) from None
