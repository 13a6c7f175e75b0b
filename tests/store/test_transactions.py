"""Transactions: errors of a database that is away, full, restarted or busy; isolation; and inserts."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask import Flask
from sqlalchemy import Engine, Table, create_engine, event, func, select, text, update
from sqlalchemy.exc import DBAPIError

from preferences.current import services_of
from preferences.domain.acts import unsubscribe
from preferences.domain.errors import StoreBusy
from preferences.domain.records import Act
from preferences.domain.vocabulary import Channel, Origin
from preferences.services import Services
from preferences.store import feed
from preferences.store.catalog import read_catalog
from preferences.store.contact_state import ChannelKey
from preferences.store.contacts import new_id
from preferences.store.dialect import any_of, bytewise, insert_rows
from preferences.store.engine import engine_options, engine_url
from preferences.store.tables import brand, connector_rejection, contact, ledger_entry, ledger_head
from preferences.store.transactions import Database, Read, Save, Snapshot, StoreFault, Write
from tests.servers import PostgresServer
from tests.support import close, new_app, new_postgresql, new_sqlite

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECRET = "hunter2@example.com"


def opt_out(who: UUID | None = None) -> Act:
    return unsubscribe(
        who or uuid4(),
        Channel.EMAIL,
        brand="default",
        topic="offers",
        origin=Origin.PAGE,
        now=datetime.now(UTC),
        evidence={},
    )


def answers(read: Read) -> int:
    return read.exec_driver_sql("SELECT 1").scalar_one()


def count_rows(read: Read, table: Table) -> int:
    return read.execute(select(func.count()).select_from(table)).scalar_one()


def seq_of(write: Write) -> int:
    return write.seq


@pytest.fixture(scope="module")
def own_server(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A server that a test may stop. The fixture `postgres` brings the skip rule."""
    with PostgresServer(postgres.binaries) as server:
        yield server


@pytest.fixture
def own_site(own_server: PostgresServer) -> Iterator[Services]:
    own_server.start()
    app = new_app(new_postgresql(own_server))
    yield services_of(app)
    close(app)


@pytest.fixture
def postgresql_site(postgres: PostgresServer) -> Iterator[Services]:
    app = new_app(new_postgresql(postgres))
    yield services_of(app)
    close(app)


@pytest.fixture
def sqlite_site(sqlite_app: Flask) -> Services:
    return services_of(sqlite_app)


@pytest.fixture
def crowded(database_url: str) -> Iterator[Database]:
    """A database with one connection and a pool timeout of a tenth of a second."""
    url = engine_url(database_url)
    engine = create_engine(url, **engine_options(url, 1) | {"max_overflow": 0, "pool_timeout": 0.1})
    yield Database(engine)
    engine.dispose()


# Away and back.


def test_calls_raise_busy_while_the_server_is_away_and_work_afterwards(
    own_server: PostgresServer, own_site: Services
) -> None:
    database, writer = own_site.database, own_site.writer
    (before,) = writer.record([opt_out()])
    own_server.stop()
    calls: list[Callable[[], object]] = [
        lambda: database.read(answers),
        lambda: database.snapshot(answers),
        lambda: database.write(seq_of),
        lambda: database.save(answers),
        lambda: writer.record([opt_out()]),
    ]
    for call in calls:
        with pytest.raises(StoreBusy):
            call()

    own_server.start()

    assert [call() for call in calls[:4]] == [1, 1, before.seq, 1]
    (after,) = writer.record([opt_out()])
    assert (after.seq, database.read(feed.head_seq)) == (before.seq + 1, before.seq + 1)


FIRST_CALLS: dict[str, Callable[[Services], object]] = {
    "a read": lambda services: services.database.read(answers),
    "a prepared read": lambda services: services.reader.channel_preferences(
        ChannelKey(new_id(datetime.now(UTC)), Channel.EMAIL, "default")
    ),
    "a write": lambda services: services.database.write(seq_of),
    "an opt-out": lambda services: services.writer.record([opt_out()]),
    "a save": lambda services: services.database.save(answers),
    "a snapshot": lambda services: services.database.snapshot(answers),
}


@pytest.mark.parametrize("mode", ["fast", "immediate"])
@pytest.mark.parametrize("first", FIRST_CALLS.values(), ids=FIRST_CALLS)
def test_connections_that_died_while_idle_are_replaced(
    own_server: PostgresServer, own_site: Services, mode: Any, first: Callable[[Services], object]
) -> None:
    together = threading.Barrier(4)

    def meet(read: Read) -> int:
        together.wait(10)
        return answers(read)

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(lambda _: own_site.database.read(meet), range(4))] == [1] * 4
    own_server.stop(mode)
    own_server.start()

    first(own_site)
    seq = own_site.database.write(seq_of)
    assert own_site.database.read(answers) == 1
    assert [entry.seq for entry in own_site.writer.record([opt_out()])] == [seq + 1]
    assert own_site.database.snapshot(answers) == 1


def test_work_that_lost_its_connection_is_repeated(postgresql_site: Services) -> None:
    lives = [1]

    def work(write: Write) -> int:
        write.execute(update(brand).values(name="Changed"))
        if lives:
            lives.pop()
            write.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return write.execute(select(func.count()).select_from(brand)).scalar_one()

    assert postgresql_site.database.write(work) == 1
    assert postgresql_site.database.read(read_catalog).brands["default"].name == "Changed"


def test_work_that_loses_its_connection_twice_raises_busy(postgresql_site: Services) -> None:
    def work(read: Read) -> None:
        read.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    for call in (postgresql_site.database.read, postgresql_site.database.save, postgresql_site.database.snapshot):
        with pytest.raises(StoreBusy, match="cannot be reached"):
            call(work)
    assert postgresql_site.database.read(answers) == 1


def test_a_lock_of_a_hanging_process_raises_busy_after_the_timeout(postgresql_site: Services) -> None:
    other = postgresql_site.database.engine.connect()
    other.execute(select(ledger_head).with_for_update())

    impatient = create_engine(postgresql_site.database.engine.url, connect_args={"options": "-c lock_timeout=100ms"})
    with pytest.raises(StoreBusy, match="LockNotAvailable"):
        Database(impatient).write(seq_of)
    other.close()
    assert Database(impatient).write(seq_of) == 0
    impatient.dispose()


def test_an_sqlite_file_locked_by_another_process_raises_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preferences.store.engine.SQLITE_BUSY_SECONDS", 1)
    url = engine_url(new_sqlite(tmp_path))
    engine = create_engine(url)
    database = Database(engine)
    other = sqlite3.connect(url.database or "", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusy):
        database.write(seq_of)
    assert database.read(answers) == 1
    other.execute("ROLLBACK")
    assert database.write(seq_of) == 0
    other.close()
    engine.dispose()


# Full.


def no_more_pages(engine: Engine) -> None:
    """From the next connection on, the file may not grow, as on a full disk."""
    engine.dispose()

    @event.listens_for(engine, "connect")
    def limit(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")


def test_a_full_disk_raises_busy_and_records_nothing(sqlite_site: Services) -> None:
    database = sqlite_site.database
    (before,) = sqlite_site.writer.record([opt_out()])
    no_more_pages(database.engine)
    with pytest.raises(StoreBusy):
        sqlite_site.writer.record([opt_out() for _ in range(500)])
    assert database.read(feed.head_seq) == before.seq
    assert database.read(count_rows, ledger_entry) == before.seq


def test_a_read_only_file_raises_busy(tmp_path: Path) -> None:
    path = engine_url(new_sqlite(tmp_path)).database
    engine = create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")
    with pytest.raises(StoreBusy):
        Database(engine).save(insert_rows, contact, [{"id": uuid4(), "created_at": NOW}])
    engine.dispose()


def test_a_missing_file_raises_busy(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'no-folder' / 'preferences.db'}")
    with pytest.raises(StoreBusy):
        Database(engine).read(answers)
    engine.dispose()


# Crowded.


def test_an_exhausted_pool_raises_busy(crowded: Database) -> None:
    def take_another(_connection: object) -> int:
        return crowded.read(answers)

    with pytest.raises(StoreBusy, match="all database connections are in use"):
        crowded.read(take_another)
    assert crowded.read(answers) == 1


def test_a_connection_returns_to_the_pool_after_any_error(crowded: Database) -> None:
    def fail(_opened: object) -> None:
        raise LookupError

    def wrong(read: Read) -> None:
        read.exec_driver_sql("SELECT * FROM no_such_table")

    for call in (crowded.read, crowded.snapshot, crowded.save, crowded.write):
        with pytest.raises(LookupError):
            call(fail)
    for call in (crowded.read, crowded.snapshot, crowded.save):
        with pytest.raises(StoreFault):
            call(wrong)
    assert crowded.write(seq_of) == 0


# Mistakes of ours are told apart, and quote nothing.


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM no_such_table",
        "SELEKT 1",
        "INSERT INTO brand (slug) VALUES (:value)",
        "INSERT INTO topic (slug, brand, name, description, frequency, message_class, basis, channels, created_at)"
        " VALUES (:value, 'no-such-brand', '', '', '', '', '', '[]', '2026-06-01 12:00:00+00:00')",
        "INSERT INTO ledger_head (id, seq, hash) VALUES (1, 1, :value)",
    ],
)
def test_a_wrong_statement_raises_a_fault_without_values(services: Services, statement: str) -> None:
    with pytest.raises(StoreFault) as fault:
        services.database.save(lambda save: save.execute(text(statement), {"value": SECRET}))
    assert SECRET not in repr(fault.value)
    assert fault.value.__cause__ is None
    assert fault.value.__suppress_context__


def test_a_value_that_a_column_refuses_is_not_quoted(services: Services) -> None:
    row = {"connector": SECRET, "contact_id": uuid4(), "seq": 1, "why": SECRET, "at": NOW.replace(tzinfo=None)}
    with pytest.raises(Exception, match="a time without a zone cannot be stored") as refusal:
        services.database.save(insert_rows, connector_rejection, [row])
    assert SECRET not in str(refusal.value)


# Transactions.


def test_a_failed_write_is_rolled_back(services: Services) -> None:
    def fail(write: Write) -> None:
        insert_rows(write, contact, [{"id": uuid4(), "created_at": NOW}])
        raise LookupError

    with pytest.raises(LookupError):
        services.database.write(fail)
    assert services.database.read(count_rows, contact) == 0


def test_a_snapshot_sees_one_instant_and_a_read_sees_the_newest(services: Services) -> None:
    def before_and_after(read: Read) -> tuple[int, int]:
        before = feed.head_seq(read)
        services.writer.record([opt_out()])
        return before, feed.head_seq(read)

    assert services.database.snapshot(before_and_after) == (0, 0)
    assert services.database.read(before_and_after) == (1, 2)


def test_nothing_written_in_a_snapshot_is_committed(services: Services) -> None:
    def write(snapshot: Snapshot) -> None:
        with suppress(DBAPIError):
            insert_rows(Save(snapshot.connection), contact, [{"id": uuid4(), "created_at": NOW}])

    services.database.snapshot(write)
    assert services.database.read(count_rows, contact) == 0


def test_writes_run_one_at_a_time(services: Services) -> None:
    inside = threading.Lock()

    def alone(write: Write) -> bool:
        if not inside.acquire(blocking=False):
            return False
        time.sleep(0.02)
        inside.release()
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: services.database.write(alone), range(16)))


def test_a_commit_is_on_the_disk(services: Services) -> None:
    def setting(read: Read, name: str) -> object:
        return read.exec_driver_sql(name).scalar_one()

    if services.database.is_sqlite:
        expected = {"PRAGMA journal_mode": "wal", "PRAGMA synchronous": 2, "PRAGMA foreign_keys": 1}
    else:
        expected = {"SHOW synchronous_commit": "on", "SHOW timezone": "UTC", "SHOW lock_timeout": "10s"}
    assert {name: services.database.read(setting, name) for name in expected} == expected


# Where the engines differ, and must not be seen to.


@pytest.mark.parametrize("given", ["postgres://u@h/name", "postgresql://u@h/name", "postgresql+psycopg://u@h/name"])
def test_every_postgresql_scheme_means_psycopg_3(given: str) -> None:
    assert engine_url(given).render_as_string() == "postgresql+psycopg://u@h/name"


def test_the_path_of_an_sqlite_file_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert engine_url("sqlite:///data/preferences.db").database == str(tmp_path / "data" / "preferences.db")


def test_the_folder_of_an_sqlite_file_is_created(tmp_path: Path) -> None:
    engine_options(engine_url(f"sqlite:///{tmp_path}/new/folder/preferences.db"), 1)
    assert (tmp_path / "new" / "folder").is_dir()


@pytest.mark.parametrize("on_conflict", ["fail", "ignore", "replace"])
def test_a_conflicting_row_fails_is_ignored_or_replaces(services: Services, on_conflict: str) -> None:
    ids = [uuid4(), uuid4()]
    rows = [{"connector": "mailer", "contact_id": contact_id, "seq": 1, "why": "old", "at": NOW} for contact_id in ids]
    services.database.save(insert_rows, connector_rejection, rows[:1])
    again = [row | {"why": "new"} for row in rows]
    if on_conflict == "fail":
        with pytest.raises(StoreFault):
            services.database.save(insert_rows, connector_rejection, again)
    else:
        services.database.save(insert_rows, connector_rejection, again, on_conflict=on_conflict)
    table = connector_rejection
    found = services.database.read(lambda read: {row.contact_id: row.why for row in read.execute(select(table))})
    expected = {"fail": {ids[0]: "old"}, "ignore": {ids[0]: "old", ids[1]: "new"}, "replace": dict.fromkeys(ids, "new")}
    assert found == expected[on_conflict]


def test_no_rows_are_no_statement(services: Services) -> None:
    services.database.save(insert_rows, contact, [])


@pytest.mark.parametrize(
    "value", ["", "it's", '"quoted"', "back\\slash \\n", "two\nlines\t", "ü 😀 \u2028", "{a,NULL}", "null", "%s :why"]
)
def test_any_text_is_read_as_it_was_stored(services: Services, value: str) -> None:
    row = {"connector": "mailer", "contact_id": uuid4(), "seq": 2**62, "why": value, "at": NOW}
    services.database.save(insert_rows, connector_rejection, [row])
    found = services.database.read(lambda read: read.execute(select(connector_rejection)).one())
    assert found._asdict() == row


def test_any_number_of_values_is_one_parameter(services: Services) -> None:
    ids = [uuid4() for _ in range(3)]
    services.database.save(insert_rows, contact, [{"id": contact_id, "created_at": NOW} for contact_id in ids])
    statement = select(contact.c.id).where(any_of(contact.c.id, "ids"))

    def found(read: Read, wanted: list[UUID]) -> set[UUID]:
        return set(read.execute(statement, {"ids": wanted}).scalars())

    assert services.database.read(found, ids[:2] + [uuid4() for _ in range(40_000)]) == set(ids[:2])
    assert services.database.read(found, []) == set()


def test_text_and_ids_are_sorted_as_python_sorts_them(services: Services) -> None:
    words = ["a", "ab", "a-b", "B", "Z", "z", "é", "ﬁ", "𝒳", "_"]
    ids = sorted(uuid4() for _ in range(20))
    rows = [
        {"connector": word, "contact_id": contact_id, "seq": 1, "why": "", "at": NOW}
        for word in words
        for contact_id in ids
    ]
    services.database.save(insert_rows, connector_rejection, rows)
    order = (bytewise(connector_rejection.c.connector), bytewise(connector_rejection.c.contact_id))

    def found(read: Read) -> list[tuple[str, UUID]]:
        columns = (connector_rejection.c.connector, connector_rejection.c.contact_id)
        return [tuple(row) for row in read.execute(select(*columns).order_by(*order))]

    assert services.database.read(found) == [(word, contact_id) for word in sorted(words) for contact_id in ids]
