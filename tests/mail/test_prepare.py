"""Preparing and composing our own email: what the worker writes, when, and that composing writes nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from preferences.domain.outbox import EmailKind, QueuedEmail
from preferences.domain.vocabulary import Relation
from preferences.mail.messages import compose
from preferences.mail.prepare import create_contact, prepare
from preferences.services import Services
from preferences.store import contacts, sign_ins
from preferences.store.transactions import Database
from tests.processes import contents
from tests.support import BRAND, add_contact, email

JANE, STRANGER = email(), email("stranger@example.com")
NOW = datetime.now(UTC)
WRITES = {EmailKind.SIGN_UP: {"contact", "address"}, EmailKind.SIGN_IN: {"sign_in"}}
"""The tables that preparing a kind may write."""


@pytest.fixture
def jane(services: Services) -> UUID:
    return add_contact(services, JANE)


def queued(kind: EmailKind, address: str = JANE.value, **details: Any) -> QueuedEmail:
    return QueuedEmail(
        id=uuid4(), kind=kind, address=address, brand=BRAND.slug, language="en", details=details, created_at=NOW
    )


def details_of(services: Services, kind: EmailKind, contact_id: UUID) -> dict[str, Any]:
    match kind:
        case EmailKind.SIGN_UP:
            return {"items": ["email.offers.status=on"]}
        case EmailKind.OPT_IN:
            return {"contact": str(contact_id), "items": ["email.offers.status=on"]}
        case EmailKind.SIGN_IN:
            fingerprint = services.fingerprints.of(JANE)
            return {"sign_in": str(services.database.save(sign_ins.begin, fingerprint, NOW))}
        case EmailKind.MANAGE_LINK:
            return {}
        case EmailKind.NEW_ADDRESS:
            return {"request": str(uuid4())}
        case _:
            return {"new": "n•••@example.com", "request": str(uuid4()), "confirmed": True}


def changed_tables(services: Services, before: dict[str, list[Any]]) -> set[str]:
    after = contents(services.settings.database_url)
    return {table for table, rows in after.items() if rows != before[table]}


@pytest.mark.parametrize("kind", EmailKind)
@pytest.mark.parametrize("address", [JANE, STRANGER])
def test_preparing_writes_a_contact_or_a_code_alone(
    services: Services, jane: UUID, kind: EmailKind, address: Any
) -> None:
    waiting = queued(kind, address.value, **details_of(services, kind, jane))
    before = contents(services.settings.database_url)
    prepare(services, BRAND, waiting)
    assert changed_tables(services, before) <= WRITES.get(kind, set())


@pytest.mark.parametrize("kind", EmailKind)
def test_composing_needs_no_database(services: Services, jane: UUID, kind: EmailKind) -> None:
    waiting = queued(kind, **details_of(services, kind, jane))
    context = prepare(services, BRAND, waiting)
    assert context is not None
    before = contents(services.settings.database_url)
    without = replace(services, database=Database.__new__(Database))
    message = compose(without, BRAND, waiting, context, NOW)
    assert (message.recipient, message.is_utf8) == (JANE.value, False)
    assert b"Auto-Submitted: auto-generated\r\n" in message.content
    assert changed_tables(services, before) == set()


def test_each_attempt_has_a_message_id_of_its_own(services: Services, jane: UUID) -> None:
    waiting = queued(EmailKind.MANAGE_LINK)
    context = prepare(services, BRAND, waiting)
    assert context is not None
    messages = [compose(services, BRAND, replace(waiting, attempts=count), context, NOW) for count in (1, 2)]
    lines = {line for message in messages for line in message.content.split(b"\r\n")}
    assert len([line for line in lines if line.startswith(b"Message-ID: ")]) == 2


def test_a_sign_up_creates_its_contact_once_as_a_stranger(services: Services) -> None:
    waiting = queued(EmailKind.SIGN_UP, STRANGER.value, items=["email.offers.status=on"])
    create_contact(services, waiting)
    found = services.database.read(contacts.find_addresses, [STRANGER], services.fingerprints)[STRANGER]
    assert found.relation is Relation.STRANGER
    create_contact(services, waiting)
    again = services.database.read(contacts.find_addresses, [STRANGER], services.fingerprints)[STRANGER]
    assert again.contact_id == found.contact_id


@pytest.mark.parametrize("kind", [EmailKind.MANAGE_LINK, EmailKind.SIGN_IN])
def test_an_unknown_address_is_prepared_no_email(services: Services, jane: UUID, kind: EmailKind) -> None:
    assert prepare(services, BRAND, queued(kind, STRANGER.value, **details_of(services, kind, jane))) is None
