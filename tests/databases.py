"""PostgreSQL databases for tests: one migrated template for each server, and copies of it that are used again.

Knows nothing of pytest. Invariant: a database that is handed out holds exactly what the template holds. One whose
catalog differs from the template's (a trigger dropped, a column added) is dropped and never handed out again.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any, Final, LiteralString

from psycopg import Connection, sql

from tests.servers import PostgresServer

TEMPLATE: Final = "migrated"
MOST_BYTES: Final = 4_000_000
"""Of rows that a test may leave behind: emptying a larger database takes longer than making a new one."""

SECONDS_TO_CLOSE: Final = 0.5

# A change of the catalog writes a row with a newer xmin, or takes one away. Copies hold the xmin of the template.
CATALOG: Final = " UNION ALL ".join(
    f"SELECT count(*), max({found.split()[0]}.xmin::text::bigint) FROM {found}"
    for found in (
        *("pg_class", "pg_attribute", "pg_attrdef", "pg_constraint", "pg_index", "pg_proc", "pg_trigger", "pg_type"),
        *("pg_namespace", "pg_extension"),
        "pg_statistic JOIN pg_class ON pg_class.oid = starelid AND relnamespace = 'public'::regnamespace",
        "pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase AND datname = current_database()",
    )
)
OF_OURS: Final = "FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
TABLES: Final = f"SELECT relname {OF_OURS}"
BYTES: Final = f"SELECT sum(pg_relation_size(oid)) {OF_OURS}"
SEQUENCES: Final = "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'public'"
OTHERS: Final = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""


class Databases:
    """The migrated databases of one server. `migrate` is called once, with the URL of the empty template."""

    def __init__(self, server: PostgresServer, migrate: Callable[[str], None]) -> None:
        self._server = server
        self._names = itertools.count(1)
        self._free: list[str] = []
        self._connections: dict[str, Connection[Any]] = {}  # kept, because opening one costs more than all the rest
        server.before_removal.callback(self._close)
        migrate(server.create_database(TEMPLATE))
        with server.connect(TEMPLATE) as connection:
            self._catalog = connection.execute(CATALOG).fetchall()
            self._sequences = connection.execute(SEQUENCES).fetchall()
            tables = [name for (name,) in connection.execute(TABLES)]
            self._contents = {name: _copied(connection, name) for name in tables}

    def take(self) -> str:
        """The URL of a database that nothing else uses."""
        if self._free:
            return self._server.url(self._free.pop())
        name = f"test_{next(self._names)}"
        self._run("CREATE DATABASE {} TEMPLATE {}", name, TEMPLATE)
        return self._server.url(name)

    def give_back(self, url: str) -> None:
        """Make the database as it was when it was taken, for the next `take`; or drop it."""
        name = url.rpartition("/")[2]
        connection = self._connections.pop(name, None) or self._server.connect(name)
        if self._may_reuse(connection):
            self._restore(connection)
            self._connections[name] = connection
            self._free.append(name)
        else:
            connection.close()
            self._run("DROP DATABASE {} WITH (FORCE)", name)

    def _may_reuse(self, connection: Connection[Any]) -> bool:
        if not _is_alone(connection) or connection.execute(CATALOG).fetchall() != self._catalog:
            return False
        size = connection.execute(BYTES).fetchone()
        return size is not None and size[0] < MOST_BYTES

    def _restore(self, connection: Connection[Any]) -> None:
        delete = sql.SQL(";").join(sql.SQL("DELETE FROM {}").format(sql.Identifier(name)) for name in self._contents)
        with connection.transaction():
            # For this transaction neither foreign keys nor the ledger's triggers hold.
            connection.execute("SET LOCAL session_replication_role = replica")
            connection.execute(delete)
            for table, rows in self._contents.items():
                if rows:
                    _fill(connection, table, rows)
            for name, last in self._sequences:
                connection.execute("SELECT setval(%s, coalesce(%s, 1), %s)", (name, last, last is not None))

    def _run(self, statement: LiteralString, *names: str) -> None:
        with self._server.connect() as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def _close(self) -> None:
        for connection in self._connections.values():
            connection.close()


def _is_alone(connection: Connection[Any]) -> bool:
    """End what is still connected, such as a process that was killed; whether that worked."""
    deadline = time.monotonic() + SECONDS_TO_CLOSE
    while (found := connection.execute(OTHERS).fetchone()) and found[0]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _copied(connection: Connection[Any], table: str) -> bytes:
    with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(table))) as copy:
        return b"".join(bytes(part) for part in copy)


def _fill(connection: Connection[Any], table: str, rows: bytes) -> None:
    with connection.cursor().copy(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))) as copy:
        copy.write(rows)
