"""Indexes: what the ledger's queries use, and what an entry adds to them."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import ColumnElement, or_, select

from preferences.services import Services
from preferences.store.dialect import any_of
from preferences.store.tables import ledger_entry
from preferences.store.transactions import Save

BY_FINGERPRINT = any_of(ledger_entry.c.fingerprint, "values")
BY_REFERENCE = any_of(ledger_entry.c.origin_ref, "values")
BY_CONTACT = any_of(ledger_entry.c.contact_id, "values")


def plan(save: Save, condition: ColumnElement[Any]) -> str:
    """How the engine finds these entries when it may not read all of them."""
    statement = select(ledger_entry.c.seq).where(condition).compile(dialect=save.connection.dialect)
    if save.is_sqlite:
        rows = save.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", ("[]",) * len(statement.positiontup or ()))
        return "\n".join(row.detail for row in rows)
    save.exec_driver_sql("SET LOCAL enable_seqscan = off")
    rows = save.exec_driver_sql(f"EXPLAIN {statement}", dict.fromkeys(statement.params, "[]"))
    return "\n".join(row[0] for row in rows)


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        (BY_FINGERPRINT, {"ix_ledger_entry_fingerprint"}),
        (BY_REFERENCE, {"uq_ledger_entry_origin_ref_origin"}),
        (BY_CONTACT, {"ix_ledger_entry_contact_id"}),
        (or_(BY_FINGERPRINT, BY_CONTACT), {"ix_ledger_entry_fingerprint", "ix_ledger_entry_contact_id"}),
    ],
    ids=["fingerprint", "reference", "contact", "fingerprint-or-contact"],
)
def test_entries_are_found_by_an_index(services: Services, condition: ColumnElement[Any], names: set[str]) -> None:
    found = services.database.save(plan, condition)
    assert {name for name in names if name in found} == names, found


def test_an_entry_without_a_fingerprint_is_not_in_its_index(services: Services) -> None:
    sqlite = "SELECT sql FROM sqlite_master WHERE name = 'ix_ledger_entry_fingerprint'"
    postgresql = "SELECT indexdef FROM pg_indexes WHERE indexname = 'ix_ledger_entry_fingerprint'"
    query = sqlite if services.database.is_sqlite else postgresql
    made = services.database.read(lambda read: read.exec_driver_sql(query).scalar_one())
    assert "fingerprint IS NOT NULL" in made
