"""Prepared statements: the same parameters and rows as SQLAlchemy's, the same errors, and one way to commit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import bindparam, select, text, update
from sqlalchemy.exc import IntegrityError

from preferences.current import services_of
from preferences.domain.errors import StoreBusy
from preferences.services import Services
from preferences.store.contacts import new_id
from preferences.store.dialect import any_of
from preferences.store.prepared import Prepared
from preferences.store.tables import contact, ledger_entry, ledger_head
from preferences.store.transactions import StoreFault, Write
from tests.servers import PostgresServer
from tests.support import add_contact, close, link_for, new_app, new_postgresql

NOW = datetime(2026, 7, 1, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=2)))
ENTRIES = select(ledger_entry).order_by(ledger_entry.c.seq)
BY_CONTACT = select(contact).where(any_of(contact.c.id, "ids"))
NEW_CONTACT = Prepared(
    text("INSERT INTO contact (id, created_at) VALUES (:id, :created_at)").bindparams(
        bindparam("id", type_=contact.c.id.type), bindparam("created_at", type_=contact.c.created_at.type)
    )
)
HEAD = Prepared(update(ledger_head).values(hash=bindparam("new")))


@pytest.mark.parametrize("statement", [ENTRIES, BY_CONTACT], ids=["every type of column", "a set of ids"])
def test_rows_are_those_of_sqlalchemy(services: Services, client: FlaskClient, statement: Any) -> None:
    contact_id = add_contact(services)
    client.post(link_for(services, contact_id))
    values = {"ids": [contact_id, new_id(NOW)]}

    expected, found = services.database.read(
        lambda read: (read.execute(statement, values).all(), Prepared(statement).rows(read.connection, values))
    )

    assert [tuple(row) for row in found] == [tuple(row) for row in expected]
    assert [row._fields for row in found] == [row._fields for row in expected]
    assert found


def test_times_are_stored_in_utc(services: Services) -> None:
    ids = [new_id(NOW), new_id(NOW)]
    rows = [{"id": contact_id, "created_at": NOW} for contact_id in ids]
    services.database.save(lambda save: NEW_CONTACT.run_all(save.connection, rows))

    stored = services.database.read(lambda read: read.execute(BY_CONTACT, {"ids": ids}).all())

    assert [row.created_at for row in stored] == [NOW.astimezone(UTC)] * 2


def test_a_fault_of_the_statement_names_no_value(services: Services) -> None:
    row = {"id": new_id(NOW), "created_at": NOW}
    services.database.save(lambda save: NEW_CONTACT.run(save.connection, row))

    with pytest.raises(StoreFault) as fault:
        services.database.save(lambda save: NEW_CONTACT.run(save.connection, row))

    assert str(row["id"]) not in str(fault.value)
    assert str(fault.value).startswith((IntegrityError.__name__, "UniqueViolation"))


@pytest.fixture
def on_postgresql(postgres: PostgresServer) -> Iterator[Services]:
    """The application's parts on PostgreSQL, where statements travel together."""
    app = new_app(new_postgresql(postgres))
    yield services_of(app)
    close(app)


def test_a_commit_that_rolled_back_is_no_success(on_postgresql: Services) -> None:
    def work(write: Write) -> None:
        with pytest.raises(Exception, match="division"):
            Prepared(text("SELECT 1 / 0")).rows(write.connection, {})

    with pytest.raises(StoreBusy):
        on_postgresql.database.write(work)
