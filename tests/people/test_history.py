"""The history of a contact: their own entries and nobody else's, and a receipt for a consent alone."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from preferences.domain.records import Act, Entry
from preferences.domain.references import reference_of
from preferences.domain.vocabulary import Actor, Basis, Channel, Origin, Verb
from preferences.people.history import find_entry, read_consent, read_history
from preferences.services import Services
from preferences.store import contact_state
from preferences.store.contact_state import ContactState
from preferences.store.history import HistoryEntry
from tests.support import BRAND, add_contact, email


@pytest.fixture
def jane(services: Services) -> UUID:
    return add_contact(services)


def state(services: Services, contact_id: UUID) -> ContactState:
    return services.database.read(contact_state.state_of, contact_id)


def record(services: Services, contact_id: UUID, verb: Verb) -> Entry:
    act = Act(
        verb=verb,
        channel=Channel.EMAIL,
        who=contact_id,
        brand=BRAND.slug,
        topic="offers",
        origin=Origin.ACCOUNT,
        actor=Actor.RECIPIENT,
        basis=Basis.CONSENT if verb is Verb.SUBSCRIBE else None,
        occurred_at=datetime.now(UTC),
        evidence={"network": "192.0.2.0/24"},
    )
    (entry,) = services.writer.record([act])
    return entry


def test_a_history_has_the_newest_entry_first(services: Services, jane: UUID) -> None:
    entries = [record(services, jane, verb) for verb in (Verb.SUBSCRIBE, Verb.UNSUBSCRIBE)]
    found = read_history(services, state(services, jane), None)
    assert [row.entry for row in found.rows if isinstance(row, HistoryEntry)] == entries[::-1]
    assert (found.start, found.older) == (None, None)


def test_another_contacts_entry_is_not_found(services: Services, jane: UUID) -> None:
    entry = record(services, add_contact(services, email("john.roe@example.com")), Verb.SUBSCRIBE)
    assert find_entry(services, state(services, jane), reference_of(entry.hash)) is None
    assert read_history(services, state(services, jane), None).rows == []


@pytest.mark.parametrize(("verb", "is_consent"), [(Verb.SUBSCRIBE, True), (Verb.UNSUBSCRIBE, False)])
def test_a_receipt_is_for_a_consent_alone(services: Services, jane: UUID, verb: Verb, is_consent: bool) -> None:
    entry = record(services, jane, verb)
    found = find_entry(services, state(services, jane), reference_of(entry.hash))
    assert found is not None
    consent = read_consent(services, found, BRAND)
    assert (consent is not None) is is_consent
    if consent is not None:
        assert (consent.entry, consent.later) == (entry, [])
