"""Migrations: a line without branches that adds up to the tables of `store.tables`, on both engines."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask
from flask_migrate import downgrade, upgrade
from sqlalchemy import Delete, MetaData, create_engine, inspect, select, text
from sqlalchemy.engine.interfaces import ReflectedIndex

from preferences.cli.database import MIGRATIONS
from preferences.current import current_services, services_of
from preferences.domain.records import Act
from preferences.domain.vocabulary import Actor, Channel, Origin, Verb
from preferences.ledger import record as ledger
from preferences.ledger import refold as refold_module
from preferences.ledger import verify
from preferences.ledger.seal import GENESIS, chain_hash
from preferences.store import feed, migrations
from preferences.store.catalog import read_catalog
from preferences.store.codec import entry_of_values
from preferences.store.dialect import insert_rows
from preferences.store.tables import address, contact, ledger_entry, ledger_head, metadata, preference, stated_reason
from preferences.store.transactions import Read, Save, StoreFault
from tests.journeys.world import wait_for
from tests.servers import PostgresServer
from tests.support import add_contact, close, link_for, new_app, new_postgresql

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
_names = itertools.count(1)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Flask]:
    """The application on a database without a table."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'empty.db'}"
    else:
        postgres: PostgresServer = request.getfixturevalue("postgres")
        url = postgres.create_database(f"empty_{next(_names)}_{id(postgres)}")
    app = new_app(url)
    with app.app_context():
        yield app
    close(app)


def up() -> None:
    upgrade(directory=str(MIGRATIONS))


def down() -> None:
    downgrade(directory=str(MIGRATIONS), revision="base")


def differences(read: Read) -> list[Any]:
    """The differences between the database and `store.tables`."""
    context = MigrationContext.configure(read.connection, opts={"compare_type": True, "compare_server_default": True})
    return compare_metadata(context, metadata)


def index_in_words(index: ReflectedIndex) -> dict[str, object]:
    """An index that can be compared: with the condition of a partial index as text."""
    options = {name: str(value) for name, value in index.get("dialect_options", {}).items()}
    return {**index, "dialect_options": options}


def schema(read: Read) -> dict[str, object]:
    """All tables with their columns, keys, constraints and indexes."""
    inspector = inspect(read.connection)
    return {
        name: (
            [(column["name"], str(column["type"]), column["nullable"]) for column in inspector.get_columns(name)],
            inspector.get_pk_constraint(name),
            sorted(inspector.get_foreign_keys(name), key=str),
            sorted(inspector.get_unique_constraints(name), key=str),
            sorted(map(index_in_words, inspector.get_indexes(name)), key=str),
        )
        for name in sorted(inspector.get_table_names())
        if name != "alembic_version"
    }


def test_migrations_are_a_line_without_branches() -> None:
    scripts = ScriptDirectory(str(MIGRATIONS))
    assert scripts.get_heads() == [migrations.HEAD]
    assert len(scripts.get_bases()) == 1
    history = list(scripts.walk_revisions())
    assert not any(script.is_branch_point or script.is_merge_point for script in history)
    assert [script.revision for script in history] == sorted((script.revision for script in history), reverse=True)


def test_migrations_add_up_to_exactly_the_tables(empty_app: Flask) -> None:
    up()
    assert services_of(empty_app).database.read(differences) == []


def test_a_difference_would_be_noticed(empty_app: Flask) -> None:
    up()
    database = services_of(empty_app).database
    database.save(lambda save: save.execute(text("ALTER TABLE brand ADD COLUMN extra TEXT")))
    assert [kind for kind, *_ in database.read(differences)] == ["remove_column"]


def test_a_migrated_database_is_like_one_made_from_the_tables(empty_app: Flask, tmp_path: Path) -> None:
    up()
    migrated = services_of(empty_app).database.read(schema)
    if services_of(empty_app).database.is_sqlite:
        engine = create_engine(f"sqlite:///{tmp_path / 'made.db'}")
        with engine.connect() as connection:
            metadata.create_all(connection)
            assert schema(Read(connection)) == migrated
        engine.dispose()
    else:

        def made(save: Save) -> dict[str, object]:
            save.execute(text("CREATE SCHEMA made"))
            save.execute(text("SET LOCAL search_path TO made"))
            metadata.create_all(save.connection)
            return schema(save)

        assert services_of(empty_app).database.save(made) == migrated


def test_a_program_knows_whether_its_database_is_ready(empty_app: Flask) -> None:
    database = services_of(empty_app).database
    assert database.read(migrations.pending)
    up()
    assert not database.read(migrations.pending)
    database.save(lambda save: save.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    assert database.read(migrations.pending)


def test_a_new_database_has_a_head_and_the_initial_brand(empty_app: Flask) -> None:
    up()
    database = services_of(empty_app).database
    assert database.read(feed.head_seq) == 0
    assert list(database.read(read_catalog).brands) == ["default"]


def test_downgrading_to_base_and_upgrading_restores_the_schema(empty_app: Flask) -> None:
    database = services_of(empty_app).database
    up()
    before = database.read(schema), database.read(guards)
    down()
    assert database.read(schema) == {}
    assert database.read(guards) == []
    up()
    assert (database.read(schema), database.read(guards)) == before
    assert database.read(differences) == []
    assert database.read(feed.head_seq) == 0


def test_a_second_upgrade_changes_nothing(empty_app: Flask) -> None:
    up()
    up()
    assert list(services_of(empty_app).database.read(read_catalog).brands) == ["default"]


# What the tables cannot say, and the database must.


def guards(read: Read) -> list[str]:
    """The names of all triggers."""
    sqlite = "SELECT name FROM sqlite_master WHERE type = 'trigger' ORDER BY name"
    postgresql = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgname"
    return list(read.exec_driver_sql(sqlite if read.is_sqlite else postgresql).scalars())


def test_the_ledger_is_guarded_and_so_are_addresses(empty_app: Flask) -> None:
    up()
    database = services_of(empty_app).database
    expected = {
        True: [
            "contact_takes_addresses",
            "ledger_entry_no_DELETE",
            "ledger_entry_no_UPDATE",
            "ledger_entry_no_replace",
        ],
        False: ["contact_takes_addresses", "ledger_entry_no_change", "ledger_entry_no_truncate"],
    }
    assert database.read(guards) == expected[database.is_sqlite]


def expected_foreign_keys(tables: MetaData) -> set[tuple[str, str, str, str | None]]:
    return {
        (table.name, key.parent.name, key.target_fullname, key.ondelete)
        for table in tables.tables.values()
        for key in table.foreign_keys
    }


def found_foreign_keys(read: Read) -> set[tuple[str, str, str, str | None]]:
    inspector = inspect(read.connection)
    return {
        (table, column, f"{key['referred_table']}.{other}", key["options"].get("ondelete"))
        for table in inspector.get_table_names()
        for key in inspector.get_foreign_keys(table)
        for column, other in zip(key["constrained_columns"], key["referred_columns"], strict=True)
    }


def test_every_foreign_key_survives_the_migrations(empty_app: Flask) -> None:
    up()
    assert services_of(empty_app).database.read(found_foreign_keys) == expected_foreign_keys(metadata)


def test_a_row_without_the_row_it_refers_to_is_refused(empty_app: Flask) -> None:
    up()
    with pytest.raises(StoreFault):
        services_of(empty_app).database.save(
            insert_rows, stated_reason, [{"seq": 1, "reason": "other", "stated_at": NOW}]
        )


@pytest.mark.parametrize("delete", [contact.delete(), contact.delete().where(contact.c.created_at == NOW)])
def test_an_address_is_deleted_with_its_contact(empty_app: Flask, delete: Delete) -> None:
    up()
    database, contact_id = services_of(empty_app).database, uuid4()
    values = {"channel": "email", "value": "x", "fingerprint": "x", "created_at": NOW}
    database.save(insert_rows, contact, [{"id": contact_id, "created_at": NOW}])
    database.save(insert_rows, address, [{"id": uuid4(), "contact_id": contact_id, **values}])
    database.save(lambda save: save.execute(delete))
    assert database.read(lambda read: read.execute(address.select()).all()) == []


def test_the_migration_leaves_foreign_keys_switched_on(empty_app: Flask) -> None:
    up()
    database = services_of(empty_app).database
    if database.is_sqlite:
        assert database.read(lambda read: read.exec_driver_sql("PRAGMA foreign_keys").scalar_one()) == 1
        assert database.read(lambda read: read.exec_driver_sql("PRAGMA foreign_key_check").all()) == []
    else:
        unchecked = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND NOT convalidated"
        assert database.read(lambda read: read.exec_driver_sql(unchecked).scalar_one()) == 0


# 0002: the preferences page. A database that has been in use for a while comes along, and could go back.


def to(revision: str) -> None:
    """Up or down to this revision."""
    with current_services().database.engine.connect() as connection:
        now = MigrationContext.configure(connection).get_current_revision() or ""
    move = downgrade if revision < now else upgrade
    move(directory=str(MIGRATIONS), revision=revision)


def rows_of_0001(read: Read, tables: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The rows of these tables, with the columns that they had in 0001."""
    return {
        name: sorted(repr(tuple(row)) for row in read.exec_driver_sql(f"SELECT {', '.join(columns)} FROM {name}"))
        for name, columns in tables.items()
    }


def columns_of(read: Read) -> dict[str, list[str]]:
    inspector = inspect(read.connection)
    return {
        name: [column["name"] for column in inspector.get_columns(name)]
        for name in inspector.get_table_names()
        if name != "alembic_version"
    }


def insert_entry_of_0001(save: Save, number: int, previous: str) -> str:
    """An opt-out as the first version wrote it: without pause, limit or notice."""
    row: dict[str, Any] = {
        "seq": number,
        "recorded_at": NOW,
        "occurred_at": NOW,
        "verb": "unsubscribe",
        "channel": "email",
        "contact_id": UUID(int=number),
        "fingerprint": None,
        "brand": "default",
        "topic": "*",
        "status": "unsubscribed",
        "reason": None,
        "basis": None,
        "origin": "page",
        "origin_ref": None,
        "actor": "recipient",
        "trusted": False,
        "changed": True,
        "undoes": None,
    }
    row["hash"] = chain_hash(previous, entry_of_values(row | {"hash": ""}))
    wish = {
        name: row[name] for name in ("contact_id", "channel", "brand", "topic", "status", "seq", "trusted", "basis")
    }
    insert_rows(save, ledger_entry, [row])
    insert_rows(save, preference, [wish | {"at": NOW, "since": NOW}])
    insert_rows(save, ledger_head, [{"id": 1, "seq": number, "hash": row["hash"]}], on_conflict="replace")
    return str(row["hash"])


def use_0001(save: Save) -> None:
    """Contacts, opt-outs and a topic of 0001."""
    people = [{"id": UUID(int=number), "created_at": NOW} for number in (1, 2, 3)]
    insert_rows(save, contact, people)
    known = {"channel": "email", "created_at": NOW}
    insert_rows(
        save,
        address,
        [
            {"id": uuid4(), "contact_id": person["id"], "value": f"{n}@x.example", "fingerprint": str(n), **known}
            for n, person in enumerate(people)
        ],
    )
    previous = GENESIS
    for number in (1, 2, 3):
        previous = insert_entry_of_0001(save, number, previous)


def test_a_database_of_0001_upgrades_to_0002_and_verifies(empty_app: Flask) -> None:
    database = services_of(empty_app).database
    to("0001")
    database.save(use_0001)
    columns = database.read(columns_of)
    before = database.read(rows_of_0001, columns)

    to("0002")

    assert database.read(rows_of_0001, columns) == before
    places = "SELECT host, path, colour, language FROM brand"
    assert database.read(lambda read: read.exec_driver_sql(places).one()) == ("", "", "", "en")
    revoked = "SELECT revoked_at FROM contact"
    assert database.read(lambda read: read.exec_driver_sql(revoked).scalars().all()) == [None] * 3
    assert len(database.read(guards)) == (3 if database.is_sqlite else 2)
    up()
    report = database.snapshot(verify.verify, lambda _entries: None)
    assert report.problems == []
    assert (report.entries, report.preferences, report.limits) == (3, 3, 0)


def test_new_entries_are_chained_to_those_of_0001(empty_app: Flask) -> None:
    services = services_of(empty_app)
    to("0001")
    services.database.save(use_0001)
    up()
    known: dict[str, Any] = {"channel": Channel.EMAIL, "brand": "default", "topic": "offers", "occurred_at": NOW}
    whose: dict[str, Any] = {"who": UUID(int=1), "origin": Origin.ACCOUNT, "actor": Actor.RECIPIENT, "trusted": True}
    acts = [Act(verb=Verb.CAP, per_week=2, **known, **whose), Act(verb=Verb.SUBSCRIBE, **known, **whose)]
    entries = services.database.write(ledger.record, acts, fingerprints=services.fingerprints, now=NOW)
    assert [entry.seq for entry in entries] == [4, 5]
    assert services.database.snapshot(verify.verify, lambda _entries: None).problems == []


# The site is in use while it is upgraded.


def revision_of(read: Read) -> str | None:
    return MigrationContext.configure(read.connection).get_current_revision()


def test_no_migration_keeps_a_table_locked_during_a_later_one(postgres: PostgresServer) -> None:
    app = new_app(postgres.create_database(f"waiting_{next(_names)}_{id(postgres)}"))
    with app.app_context():
        to("0004")
        with services_of(app).database.engine.connect() as reader, ThreadPoolExecutor(1) as pool:
            # 0009 changes this table, and has to wait for whoever reads it.
            reader.execute(text("LOCK TABLE evidence IN ACCESS SHARE MODE"))
            upgraded = pool.submit(upgrade_in, app)
            wait_for("0008 is there", lambda: services_of(app).database.read(revision_of) == "0008", seconds=8)
            with services_of(app).database.engine.connect() as click:
                click.execute(text("SELECT retired_at, compared_at FROM topic, connector_cursor"))
                click.execute(text("SELECT seq FROM ledger_head FOR UPDATE NOWAIT"))
                click.rollback()
            reader.rollback()
            upgraded.result(timeout=30)
        assert not services_of(app).database.read(migrations.pending)
    close(app)


def upgrade_in(app: Flask) -> None:
    with app.app_context():
        up()


def test_a_click_succeeds_and_counts_while_0008_folds(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = new_app(new_postgresql(postgres))
    services, client, fold = services_of(app), app.test_client(), refold_module._fold
    path = link_for(services, add_contact(services))
    page = client.post(path, data={"intent": "topic"}, headers={"Accept": "text/html"}).text
    (undo,) = re.findall(r'name="undo" value="([^"]+)"', page)
    client.post(f"{path}/undo", data={"undo": undo})
    answers: list[int] = []

    def fold_and_click(read: Read, key: refold_module.Key) -> Any:
        folded = fold(read, key)
        if not answers:
            answers.append(client.post(path, data={"List-Unsubscribe": "One-Click"}).status_code)
        return folded

    monkeypatch.setattr(refold_module, "_fold", fold_and_click)
    services.database.save(refold_module.refold)

    assert answers == [200]
    statuses = services.database.read(lambda read: list(read.execute(select(preference.c.status)).scalars()))
    assert statuses == ["unsubscribed"]
    assert services.database.snapshot(verify.verify, lambda _entries: None).problems == []
    close(app)


def test_downgrading_to_0001_removes_only_what_0002_added(empty_app: Flask) -> None:
    database = services_of(empty_app).database
    to("0001")
    before = database.read(schema), database.read(guards)
    database.save(use_0001)
    columns = database.read(columns_of)
    rows = database.read(rows_of_0001, columns)
    to("0002")
    to("0001")
    assert (database.read(schema), database.read(guards)) == before
    assert database.read(rows_of_0001, columns) == rows
    up()
    assert database.read(differences) == []
    assert database.snapshot(verify.verify, lambda _entries: None).problems == []


def test_entries_are_guarded_after_0002_and_after_going_back(empty_app: Flask) -> None:
    database = services_of(empty_app).database
    to("0001")
    database.save(use_0001)
    for revision in ("0002", "0001"):
        to(revision)
        with pytest.raises(StoreFault):
            database.save(lambda save: save.execute(text("UPDATE ledger_entry SET topic = 'x'")))
