"""Transactions, as types: a function takes the weakest handle that it needs, and mypy holds its callers to it.

Owns every commit. Invariant: a transaction that adds to the ledger locks the ledger's head before
it reads anything (`write`), so the order of numbers is the order of commits.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar, TypeVarTuple, overload

from sqlalchemy import (
    CompoundSelect,
    Connection,
    CursorResult,
    Engine,
    Executable,
    Select,
    literal_column,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.sql.selectable import TypedReturnsRows

from preferences.domain.errors import StoreBusy
from preferences.store.engine import prepare_sqlite
from preferences.store.prepared import Prepared, driver_error, driver_of, translated
from preferences.store.tables import ledger_head

P = ParamSpec("P")
T = TypeVar("T")
Columns = TypeVarTuple("Columns")


class _Query(Protocol):
    """`Connection.execute`, for SELECT alone."""

    def __call__(
        self,
        statement: Select[*Columns] | CompoundSelect[*Columns],
        parameters: Any = None,
        *,
        execution_options: Any = None,
    ) -> CursorResult[*Columns]: ...


class _Execute(Protocol):
    """`Connection.execute`, for any statement."""

    @overload
    def __call__(
        self, statement: TypedReturnsRows[*Columns], parameters: Any = None, *, execution_options: Any = None
    ) -> CursorResult[*Columns]: ...
    @overload
    def __call__(
        self, statement: Executable, parameters: Any = None, *, execution_options: Any = None
    ) -> CursorResult[*tuple[Any, ...]]: ...


class Read:
    """SELECT only. Each statement sees what is committed when it starts.

    `execute` is the connection's own method, so the handle adds no call to a statement. `exec_driver_sql` is for SQL
    of one engine, and `connection` for what needs SQLAlchemy's own object (`inspect`, COPY).
    """

    __slots__ = ("connection", "exec_driver_sql", "execute", "is_sqlite")

    execute: _Query

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.execute = connection.execute
        self.exec_driver_sql = connection.exec_driver_sql
        self.is_sqlite = connection.dialect.name == "sqlite"


class Snapshot(Read):
    """SELECT only. All statements see the same instant."""

    __slots__ = ()


class Save(Read):
    """Any statement, for rows that bear on nobody's permission: the ledger is not locked."""

    __slots__ = ()

    execute: _Execute


class Write(Save):
    """Any statement, with the lock on the ledger's head. `seq` and `hash` are those of the newest entry."""

    __slots__ = ("hash", "seq")

    def __init__(self, connection: Connection, seq: int, hash: str) -> None:  # noqa: A002 - the column's name
        super().__init__(connection)
        self.seq = seq
        self.hash = hash


Consistent = Snapshot | Write
"""A handle under which no other transaction adds an entry between two statements."""


class Database:
    """Runs work in transactions: `database.read(read_catalog)`, `database.write(ledger.record, acts, now=now)`.

    Work is repeated once when its connection is lost, so it must be repeatable: none of it, or all of it, was
    committed. Raises StoreBusy when the database cannot be reached, or cannot take it now.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._reads = engine.execution_options(isolation_level="AUTOCOMMIT")
        if self.is_sqlite:
            prepare_sqlite(engine)

    def read(self, work: Callable[Concatenate[Read, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return _twice(self._reading, work, *args, **kwargs)

    def snapshot(self, work: Callable[Concatenate[Snapshot, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return _twice(self._snapshotting, work, *args, **kwargs)

    def write(self, work: Callable[Concatenate[Write, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns only when what `work` wrote is durable."""
        return _twice(self._writing, work, *args, **kwargs)

    def save(self, work: Callable[Concatenate[Save, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns only when what `work` wrote is durable."""
        return _twice(self._saving, work, *args, **kwargs)

    @contextmanager
    def _reading(self) -> Iterator[Read]:
        with self._reads.connect() as connection:
            yield Read(connection)

    @contextmanager
    def _snapshotting(self) -> Iterator[Snapshot]:
        begin = "BEGIN" if self.is_sqlite else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        with self._reads.connect() as connection:
            connection.exec_driver_sql(begin)
            try:
                if not self.is_sqlite:
                    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                yield Snapshot(connection)
            finally:
                if not connection.invalidated:
                    connection.exec_driver_sql("ROLLBACK")

    @contextmanager
    def _saving(self) -> Iterator[Save]:
        with self.engine.connect() as connection:
            connection.begin()  # at once, and not at the first statement of SQLAlchemy's: a prepared one may come first
            yield Save(connection)
            connection.commit()

    @contextmanager
    def _writing(self) -> Iterator[Write]:
        if self.is_sqlite:
            with self._saving() as save:
                yield _write(save.connection, *_HEAD.rows(save.connection, {}))
            return
        with self._reads.connect() as connection:
            try:
                yield _begin_locked(connection)
                _commit(connection)
            finally:
                if not connection.invalidated and driver_of(connection).info.transaction_status:
                    connection.exec_driver_sql("ROLLBACK")


_SELECT_HEAD = select(ledger_head.c.seq, ledger_head.c.hash).where(ledger_head.c.id == literal_column("1"))
_HEAD: Final = Prepared(_SELECT_HEAD)


def lock_head(save: Save) -> Write:
    """Lock the ledger's head in an open transaction, before anything is read. (On SQLite, BEGIN IMMEDIATE has.)"""
    return _write(save.connection, *save.execute(_SELECT_HEAD.with_for_update()))


def _write(connection: Connection, *heads: Any) -> Write:
    if not heads:
        raise StoreFault("the ledger has no head: restore the row of ledger_head from a backup", None)
    return Write(connection, *heads[0])


def _begin_locked(connection: Connection) -> Write:
    """Begin and lock the ledger's head, on PostgreSQL in one round trip."""
    try:
        cursor = driver_of(connection).execute(_BEGIN_LOCKED, prepare=False)
        cursor.nextset()
        return _write(connection, *cursor.fetchall())
    except driver_error(connection.dialect) as error:
        raise translated(connection, error) from None


_BEGIN_LOCKED: Final = "BEGIN; SELECT seq, hash FROM ledger_head WHERE id = 1 FOR UPDATE"


def _commit(connection: Connection) -> None:
    """Commit what `_begin_locked` began."""
    try:
        done = driver_of(connection).execute("COMMIT", prepare=False)
    except driver_error(connection.dialect) as error:
        raise translated(connection, error) from None
    if done.statusmessage != "COMMIT":
        raise StoreBusy("the database rolled the transaction back")


def advisory_lock(save: Save, name: str) -> None:
    """Lock a name until the transaction ends, for what has no row to lock yet. (On SQLite, BEGIN IMMEDIATE locks
    everything.)"""
    advisory_locks(save, [name])


_LOCK_NAMES: Final = text(
    "SELECT pg_advisory_xact_lock(number) FROM (SELECT DISTINCT hashtextextended(value, 0) AS number"
    " FROM json_array_elements_text(CAST(:names AS json)) ORDER BY number OFFSET 0) AS numbers"
)
"""In the order of their numbers, which prevents deadlocks."""


def advisory_locks(save: Save, names: Collection[str]) -> None:
    """`advisory_lock` for many names, in one statement."""
    if not save.is_sqlite:
        save.execute(_LOCK_NAMES, {"names": json.dumps(list(names))})


class _Disconnected(Exception):
    """The connection was lost; the same work may succeed on another."""


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
    """Raise StoreBusy for a database that is away or full, and StoreFault for a wrong statement. Drivers' messages
    quote values, so only the kind of error is kept."""
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
    """A statement was wrong. Names the kind of error, without values."""

    def __init__(self, kind: str, state: str | None) -> None:
        super().__init__(f"{kind} ({state})" if state else kind)


def sqlstate(error: DBAPIError) -> str | None:
    """PostgreSQL's five-character error code, if there is one."""
    return getattr(error.orig, "sqlstate", None)


# SQLSTATE classes of errors that pass: connection, resources (53100 is a full disk), operator intervention, system
# error, rollback (deadlock, serialisation), lock not available, read-only.
_PASSING_STATES: Final = ("08", "53", "57", "58", "40", "55", "25006")


def _is_passing(error: DBAPIError) -> bool:
    state = sqlstate(error)
    if state is not None:
        return state.startswith(_PASSING_STATES)
    if isinstance(error.orig, sqlite3.Error):
        # SQLITE_ERROR is a wrong statement.
        code = getattr(error.orig, "sqlite_errorcode", None)
        return isinstance(error, OperationalError) and code != sqlite3.SQLITE_ERROR
    return isinstance(error, OperationalError)
