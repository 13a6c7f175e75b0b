"""Very many rows at once: written past SQLAlchemy (COPY on PostgreSQL, prepared tuples on SQLite), or read.

Owns the form of values for it, and how a transaction is made ready. Decides nothing and opens no transaction.
Invariant: what is written here reads back as if `db.insert_rows` had written it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError

from preferences.store.db import WriteTransaction, insert_rows
from preferences.store.tables import ledger_head


def expect_much(connection: Connection) -> None:
    """Make ready for a transaction that writes very much; it is as durable as any.

    SQLite keeps more pages, and moves them from its log to their places less often. PostgreSQL looks every foreign key
    up by one plan, and not by a new one for each row; without scans, since it may be made while the tables are small.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA cache_size = -131072")
        connection.exec_driver_sql("PRAGMA wal_autocheckpoint = 16384")
    else:
        connection.exec_driver_sql(
            "SELECT set_config('plan_cache_mode', 'force_generic_plan', true),"
            " set_config('enable_seqscan', 'off', true)"
        )


@contextmanager
def much_read(connection: Connection) -> Iterator[None]:
    """While whole tables are read against each other, SQLite keeps more of their pages, and lets go of them then."""
    if connection.dialect.name != "sqlite":
        yield
        return
    before = connection.exec_driver_sql("PRAGMA cache_size").scalar_one()
    connection.exec_driver_sql("PRAGMA cache_size = -32768")
    try:
        yield
    finally:
        connection.exec_driver_sql(f"PRAGMA cache_size = {before}")
        connection.exec_driver_sql("PRAGMA shrink_memory")


@dataclass(frozen=True, slots=True)
class Form:
    """How values are written for `put_rows`: as text for PostgreSQL's COPY, as SQLite keeps them otherwise."""

    null: Any
    true: Any
    false: Any
    uuid: Callable[[str], str]
    instant: Callable[[str], str]
    text: Callable[[str], str]


_COPY_ESCAPES: Final = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
_FORMS: Final = {
    "postgresql": Form(r"\N", "t", "f", str, str, lambda text: text.translate(_COPY_ESCAPES)),
    "sqlite": Form(None, 1, 0, lambda uuid: uuid.replace("-", ""), lambda at: f"{at[:10]} {at[11:26]}", str),
}


def form_of(connection: Connection) -> Form:
    """The form of values that this database takes from `put_rows`. An instant is ISO text in UTC with six decimals."""
    return _FORMS[connection.dialect.name]


def put_rows(connection: Connection, table: Table, *, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Add very many rows, whose values have the form of `form_of`: by the shortest way that the engine has."""
    names = ", ".join(columns)
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(columns))
        connection.exec_driver_sql(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", list(rows))  # noqa: S608
        return
    row = "\t".join(["%s"] * len(columns)) + "\n"
    text_rows = "".join([row % one for one in rows])
    cursor = cast("Any", connection.connection.cursor())
    with _driver_errors(connection), cursor, cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
        copy.write(text_rows)


@contextmanager
def _driver_errors(connection: Connection) -> Iterator[None]:
    """Errors of a driver that is called past SQLAlchemy, as SQLAlchemy would have raised them."""
    dialect, driver = connection.dialect, connection.connection.driver_connection
    kind = cast("type[Exception]", dialect.loaded_dbapi.Error)
    try:
        yield
    except kind as error:
        gone = dialect.is_disconnect(cast("Any", error), cast("Any", driver), None)
        raise DBAPIError.instance(
            None, None, error, kind, hide_parameters=True, connection_invalidated=gone, dialect=dialect
        ) from None


def set_head(write: WriteTransaction) -> None:
    """Note the newest entry as such."""
    insert_rows(write.connection, ledger_head, [{"id": 1, "seq": write.seq, "hash": write.hash}], on_conflict="replace")
