"""The database: its engine, its transactions, and where the two engines differ.

Owns the engine's settings and the only `commit()` in the project. Invariant: every transaction that can touch the
ledger locks the ledger's head before it reads anything (`write`), so the order of numbers is the order of commits.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, cast
from uuid import UUID

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    Column,
    Connection,
    Dialect,
    Engine,
    Row,
    Table,
    Text,
    TextClause,
    TypeDecorator,
    Uuid,
    bindparam,
    event,
    select,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType

from preferences.domain.errors import StoreBusy
from preferences.store.tables import ledger_head, metadata

P = ParamSpec("P")
T = TypeVar("T")

db: Final = SQLAlchemy(metadata=metadata)

SQLITE_BUSY_SECONDS: Final = 15
"""How long a writer waits for another process's write. A write takes milliseconds; an import's block a tenth of a
second."""

SQLITE_ASKS_AGAIN: Final = 0.002
"""How often a waiting writer asks. SQLite itself sleeps for up to a tenth of a second between two tries, so that
whoever writes without rest, as an import does, is always there before it."""

# A process that hangs inside a transaction would hold the ledger's head, and with it everybody's opt-outs.
# A plan made once, while the tables were small, would scan them from end to end for as long as the connection lives;
# and PostgreSQL's default price of a random page, that of a turning disk, keeps it scanning far too long.
POSTGRESQL_OPTIONS: Final = (
    "-c timezone=UTC -c idle_in_transaction_session_timeout=10s -c lock_timeout=10s -c statement_timeout=60s"
    " -c plan_cache_mode=force_custom_plan -c random_page_cost=1.1 -c jit=off"
)


def engine_url(database_url: str) -> URL:
    """The SQLAlchemy URL, with `postgres://` and `postgresql://` both meaning psycopg 3."""
    url = make_url(database_url)
    if url.drivername in {"postgres", "postgresql"}:
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        url = url.set(database=str(Path(url.database).absolute()))
    return url


def engine_options(url: URL, threads: int) -> dict[str, Any]:
    """What `create_engine` needs for this URL: pool, timeouts and durability."""
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
    """Make SQLite durable and honest: WAL, a disk flush at each commit, foreign keys, and transactions we begin.

    A new database is its owner's alone, since it holds addresses; SQLite gives the log beside it the same rights.
    """

    @event.listens_for(engine, "do_connect")
    def on_new_file(_dialect: Dialect, _record: object, arguments: list[Any], _options: dict[str, Any]) -> None:
        with suppress(OSError):  # it is there already, or cannot be made: then the connection says so
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
    """Take SQLite's only write lock, soon after whoever holds it lets go."""
    driver = cast("sqlite3.Connection", connection.connection.driver_connection)
    deadline = time.monotonic() + SQLITE_BUSY_SECONDS
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        while time.monotonic() < deadline:
            with suppress(sqlite3.OperationalError):
                driver.execute("BEGIN IMMEDIATE")
                return
            time.sleep(SQLITE_ASKS_AGAIN)
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    finally:
        driver.execute(f"PRAGMA busy_timeout = {SQLITE_BUSY_SECONDS * 1000}")


@dataclass(slots=True)
class WriteTransaction:
    """An open transaction that holds the ledger's head. `seq` and `hash` are those of the newest entry."""

    connection: Connection
    seq: int
    hash: str


class Database:
    """Runs work in transactions: `database.read(queries.catalog)`, `database.write(ledger.record, acts, now=now)`.

    Work may be called a second time: when the server closed an idle connection, or failed over, the first call ends
    in a disconnect and all of it stands or nothing does; so what it does must bear repeating. Raises StoreBusy when
    the database cannot be reached or cannot take it now.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._reads = engine.execution_options(isolation_level="AUTOCOMMIT")
        if self.is_sqlite:
            prepare_sqlite(engine)

    def read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Each statement sees what is committed when it starts. Nothing may be written."""
        return _twice(self._reading, work, *args, **kwargs)

    def snapshot(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Every statement sees the same instant, however long it takes. Nothing may be written."""
        return _twice(self._snapshotting, work, *args, **kwargs)

    def write(self, work: Callable[Concatenate[WriteTransaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """With the ledger's head locked. Returns only when it is durable."""
        return _twice(self._writing, work, *args, **kwargs)

    def save(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Without the ledger's lock: for rows that bear on nobody's permission. Returns only when it is durable."""
        return _twice(self._saving, work, *args, **kwargs)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._reads.connect() as connection:
            yield connection

    @contextmanager
    def _snapshotting(self) -> Iterator[Connection]:
        begin = "BEGIN" if self.is_sqlite else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        with self._reads.connect() as connection:
            connection.exec_driver_sql(begin)
            try:
                if not self.is_sqlite:
                    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                yield connection
            finally:
                if not connection.invalidated:
                    connection.exec_driver_sql("ROLLBACK")

    @contextmanager
    def _writing(self) -> Iterator[WriteTransaction]:
        with self._saving() as connection:
            yield lock_head(connection)

    @contextmanager
    def _saving(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            yield connection
            connection.commit()


_HEAD_LOCKED = select(ledger_head.c.seq, ledger_head.c.hash).where(ledger_head.c.id == 1).with_for_update()


def lock_head(connection: Connection) -> WriteTransaction:
    """Take the ledger's lock: the first statement of every write. (SQLite: BEGIN IMMEDIATE has taken it.)"""
    seq, head_hash = connection.execute(_HEAD_LOCKED).one()
    return WriteTransaction(connection, seq, head_hash)


def lock_name(connection: Connection, name: str) -> None:
    """Until the transaction ends, whoever else locks this name waits. (SQLite: BEGIN IMMEDIATE has locked everything.)

    For what a row cannot be locked for, because it is not there yet.
    """
    lock_names(connection, [name])


_LOCK_NAMES: Final = text(
    "SELECT pg_advisory_xact_lock(number) FROM (SELECT DISTINCT hashtextextended(value, 0) AS number"
    " FROM json_array_elements_text(CAST(:names AS json)) ORDER BY number OFFSET 0) AS numbers"
)
"""In the order of their numbers, so that no two who lock several wait for each other."""


def lock_names(connection: Connection, names: Collection[str]) -> None:
    """The same for many names, in one statement."""
    if connection.dialect.name != "sqlite":
        connection.execute(_LOCK_NAMES, {"names": json.dumps(list(names))})


class _Disconnected(Exception):
    """The connection was gone, so the same work may succeed on a fresh one."""


def _twice(
    transaction: Callable[[], AbstractContextManager[Any]], work: Callable[..., T], *args: Any, **kwargs: Any
) -> T:
    try:
        with _translated(), transaction() as opened:
            return work(opened, *args, **kwargs)
    except _Disconnected:
        pass
    try:
        with _translated(), transaction() as opened:
            return work(opened, *args, **kwargs)
    except _Disconnected:
        raise StoreBusy("the database cannot be reached") from None


@contextmanager
def _translated() -> Iterator[None]:
    """Tell apart a database that is away or full from a mistake of ours. Only the kind of fault is kept: a driver's
    message quotes values."""
    try:
        yield
    except PoolTimeout:
        raise StoreBusy("all database connections are in use") from None
    except DBAPIError as error:
        if error.connection_invalidated:
            raise _Disconnected from None
        if _is_passing(error):
            raise StoreBusy(f"the database cannot take it now ({type(error.orig).__name__})") from None
        raise StoreFault(type(error.orig).__name__, sqlstate(error)) from None


class StoreFault(SQLAlchemyError):
    """A statement was wrong. Says which fault, never which values."""

    def __init__(self, kind: str, state: str | None) -> None:
        super().__init__(f"{kind} ({state})" if state else kind)


def sqlstate(error: DBAPIError) -> str | None:
    """PostgreSQL's five-character code of an error, where there is one."""
    return getattr(error.orig, "sqlstate", None)


# Classes of PostgreSQL's SQLSTATE that pass by themselves or with an operator's help: connection, resources (disk full
# is 53100), operator intervention, system error, rollback (deadlock, serialisation), lock not available, read-only.
_PASSING_STATES: Final = ("08", "53", "57", "58", "40", "55", "25006")


def _is_passing(error: DBAPIError) -> bool:
    state = sqlstate(error)
    if state is not None:
        return state.startswith(_PASSING_STATES)
    if isinstance(error.orig, sqlite3.Error):
        # SQLITE_ERROR is a wrong statement: a syntax error, a table that is not there.
        code = getattr(error.orig, "sqlite_errorcode", None)
        return isinstance(error, OperationalError) and code != sqlite3.SQLITE_ERROR
    return isinstance(error, OperationalError)


class _Json(TypeDecorator[Any]):
    """Many values, or many rows, as one parameter: JSON text, which both engines unpack in C.

    Arrays would need psycopg to write each item in Python, which took a third of the time of a shared commit.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        return _encoded(value, _sqlite_text if dialect.name == "sqlite" else _postgresql_text)


def _encoded(value: Any, as_text: Callable[[Any], str]) -> str:
    return json.dumps(value, default=as_text, ensure_ascii=False, check_circular=False)


def _sqlite_text(value: UUID) -> str:
    return value.hex


def _postgresql_text(value: UUID | datetime) -> str:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        return value.isoformat()
    return str(value)


class _AnyOf(FunctionElement[Any]):
    inherit_cache = True
    # No type of its own: for a Boolean, SQLAlchemy writes `… = 1` behind it on SQLite, which then uses no index.
    type = NullType()


@compiles(_AnyOf, "postgresql")
def _any_of_postgresql(element: _AnyOf, compiler: Any, **options: Any) -> str:
    column, values = element.clauses
    kind = "uuid" if isinstance(column.type, Uuid) else "text"
    return (
        f"{compiler.process(column, **options)} = ANY(ARRAY("  # noqa: S608 - compiled clauses
        f"SELECT CAST(value AS {kind}) FROM"
        f" json_array_elements_text(CAST({compiler.process(values, **options)} AS json))))"
    )


@compiles(_AnyOf, "sqlite")
def _any_of_sqlite(element: _AnyOf, compiler: Any, **options: Any) -> str:
    column, values = element.clauses
    return (
        f"{compiler.process(column, **options)} IN"  # noqa: S608 - compiled clauses
        f" (SELECT value FROM json_each({compiler.process(values, **options)}))"
    )


def any_of(column: ColumnElement[Any], parameter: str) -> ColumnElement[Any]:
    """`column` is among the values in the parameter of this name: one statement, however many values there are."""
    return _AnyOf(column, bindparam(parameter, type_=_Json()))


class _Bytewise(FunctionElement[Any]):
    inherit_cache = True
    type = Text()


@compiles(_Bytewise, "postgresql")
def _bytewise_postgresql(element: _Bytewise, compiler: Any, **options: Any) -> str:
    (column,) = element.clauses
    collation = "" if isinstance(column.type, Uuid) else ' COLLATE "C"'
    return f"{compiler.process(column, **options)}{collation}"


@compiles(_Bytewise, "sqlite")
def _bytewise_sqlite(element: _Bytewise, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.clauses, **options))


def bytewise(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Sort by code point, as Python does. PostgreSQL would sort text by the rules of a language."""
    return _Bytewise(column)


STREAMED: Final = 2_000
"""Rows that are read at once of a result that may be of any length."""


def stream(connection: Connection, statement: Any) -> Iterator[Row[Any]]:
    """The rows of a result of any length, in flat memory. Run it inside `Database.snapshot`."""
    with connection.execute(statement, execution_options={"yield_per": STREAMED}) as rows:
        yield from rows


@dataclass(frozen=True, slots=True)
class Insert:
    """Rows for one table, all with the same keys.

    `on_conflict`, where the primary key (or, to ignore, any unique key) stands already: `fail`, `ignore` the new row,
    or `replace` the old one's values.
    """

    table: Table
    rows: Sequence[Mapping[str, Any]]
    on_conflict: str = "fail"


def insert_rows(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, on_conflict: str = "fail"
) -> None:
    """Insert rows into one table, in one round trip."""
    insert_all(connection, [Insert(table, rows, on_conflict)])


def insert_all(connection: Connection, inserts: Sequence[Insert]) -> None:
    """Insert rows into several tables, on PostgreSQL in one round trip: one statement with a part for each table."""
    wanted = [one for one in inserts if one.rows]
    if not wanted:
        return
    shapes = tuple((one.table, tuple(one.rows[0]), one.on_conflict) for one in wanted)
    if connection.dialect.name == "sqlite":
        for one, shape in zip(wanted, shapes, strict=True):
            connection.execute(_sqlite_insert(shape), one.rows)
    else:
        rows = {f"rows_{number}": one.rows for number, one in enumerate(wanted)}
        connection.execute(_postgresql_inserts(shapes), rows)


_Shape = tuple[Table, tuple[str, ...], str]


@lru_cache(maxsize=64)
def _sqlite_insert(shape: _Shape) -> TextClause:
    table, columns, on_conflict = shape
    values = ", ".join(f":{name}" for name in columns)
    typed = [bindparam(name, type_=table.c[name].type) for name in columns]
    sql = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({values})"  # noqa: S608 - our own columns
    return text(f"{sql} {_conflict_clause(table, columns, on_conflict)}").bindparams(*typed)


@lru_cache(maxsize=64)
def _postgresql_inserts(shapes: tuple[_Shape, ...]) -> TextClause:
    *first, last = (_postgresql_insert(shape, f"rows_{number}") for number, shape in enumerate(shapes))
    parts = ", ".join(f"part_{number} AS ({sql})" for number, sql in enumerate(first))
    typed = [bindparam(f"rows_{number}", type_=_Json()) for number in range(len(shapes))]
    return text(f"WITH {parts} {last}" if parts else last).bindparams(*typed)


def _postgresql_insert(shape: _Shape, parameter: str) -> str:
    table, columns, on_conflict = shape
    names = ", ".join(columns)
    fields = ", ".join(f"{name} {_postgresql_type(table.c[name])}" for name in columns)
    rows = f"json_to_recordset(CAST(:{parameter} AS json)) AS new({fields})"
    conflict = _conflict_clause(table, columns, on_conflict)
    return f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {rows} {conflict}"  # noqa: S608 - our own columns


_POSTGRESQL: Final[Dialect] = postgresql.dialect()  # type: ignore[no-untyped-call]


def _postgresql_type(column: Column[Any]) -> str:
    return column.type.compile(_POSTGRESQL)


def _conflict_clause(table: Table, columns: tuple[str, ...], on_conflict: str) -> str:
    if on_conflict == "fail":
        return ""
    if on_conflict == "ignore":
        return "ON CONFLICT DO NOTHING"
    key = [column.name for column in table.primary_key]
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in key)
    return f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"
