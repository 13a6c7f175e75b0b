"""Differences of SQLite and PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import (
    Dialect,
    Row,
    Table,
    Text,
    TypeDecorator,
    Uuid,
    bindparam,
    cast,
    column,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType

from preferences.store.prepared import Prepared
from preferences.store.transactions import Consistent, Save


class _Json(TypeDecorator[Any]):
    """Many values or rows as one JSON parameter, parsed in C by both engines.

    psycopg writes arrays in Python, a third of the time of a group commit.
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
    # With Boolean, SQLAlchemy appends `= 1` on SQLite, which then uses no index.
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
    """`column` is among the parameter's values: one statement for any number."""
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
    """Sort by code point as Python does, not by language as PostgreSQL does."""
    return _Bytewise(column)


ROWS_PER_FETCH: Final = 2_000


def stream(snapshot: Consistent, statement: Any) -> Iterator[Row[Any]]:
    """In constant memory."""
    with snapshot.execute(statement, execution_options={"yield_per": ROWS_PER_FETCH}) as rows:
        yield from rows


@dataclass(frozen=True, slots=True)
class Insert:
    """Rows with the same keys.

    `on_conflict` for an existing primary key (`ignore`: any unique key): `fail`, `ignore` the new row, or `replace` the
    old values.
    """

    table: Table
    rows: Sequence[Mapping[str, Any]]
    on_conflict: str = "fail"


def insert_rows(save: Save, table: Table, rows: Sequence[Mapping[str, Any]], *, on_conflict: str = "fail") -> None:
    insert_all(save, [Insert(table, rows, on_conflict)])


def insert_all(save: Save, inserts: Sequence[Insert]) -> None:
    """Insert into several tables, on PostgreSQL by one statement.

    The four tables of one entry take a quarter of executemany's CPU time on PostgreSQL, half on SQLite.
    """
    wanted = [insert for insert in inserts if insert.rows]
    if not wanted:
        return
    shapes = tuple((insert.table, tuple(insert.rows[0]), insert.on_conflict) for insert in wanted)
    if save.is_sqlite:
        for insert, shape in zip(wanted, shapes, strict=True):
            _sqlite_insert(shape).run_all(save.connection, insert.rows)
        return
    rows = {f"rows_{number}": insert.rows for number, insert in enumerate(wanted)}
    _postgresql_inserts(shapes).run(save.connection, rows)


_Shape = tuple[Table, tuple[str, ...], str]
_Upsert = TypeVar("_Upsert", sqlite.Insert, postgresql.Insert)


@lru_cache(maxsize=64)
def _sqlite_insert(shape: _Shape) -> Prepared:
    table, columns, _ = shape
    insert = sqlite.insert(table).values({name: bindparam(name) for name in columns})
    return Prepared(_resolved(insert, shape))


@lru_cache(maxsize=64)
def _postgresql_inserts(shapes: tuple[_Shape, ...]) -> Prepared:
    *first, last = (_postgresql_insert(shape, f"rows_{number}") for number, shape in enumerate(shapes))
    return Prepared(last.add_cte(*(insert.cte(f"part_{number}") for number, insert in enumerate(first))))


def _postgresql_insert(shape: _Shape, parameter: str) -> postgresql.Insert:
    table, columns, _ = shape
    parsed = func.json_to_recordset(cast(bindparam(parameter, type_=_Json()), postgresql.JSON))
    typed = parsed.table_valued(*(column(name, table.c[name].type) for name in columns))
    insert = postgresql.insert(table).from_select(columns, select(typed.render_derived(parameter, with_types=True)))
    return _resolved(insert, shape)


def _resolved(insert: _Upsert, shape: _Shape) -> _Upsert:
    """The insert with its ON CONFLICT clause, which both engines spell alike."""
    table, columns, on_conflict = shape
    if on_conflict == "ignore":
        return insert.on_conflict_do_nothing()
    if on_conflict == "replace":
        key = [column.name for column in table.primary_key]
        values = {name: insert.excluded[name] for name in columns if name not in key}
        return insert.on_conflict_do_update(index_elements=key, set_=values)
    return insert
