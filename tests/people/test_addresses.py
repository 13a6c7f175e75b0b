"""Addresses of contacts: one owner each, added only once confirmed, kept by their contact when retired."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import time_machine

from preferences.domain.acts import restore_address
from preferences.domain.errors import NotAllowed
from preferences.domain.outbox import ADDRESS_LIFE, EmailKind
from preferences.domain.records import Act, Address
from preferences.domain.vocabulary import Actor, Channel, SuppressionReason, Verb
from preferences.ledger import record as ledger
from preferences.ledger import verify
from preferences.ledger.addresses import AddressOutcome, ConfirmedAddress
from preferences.people import addresses
from preferences.people.addresses import OpenRequest
from preferences.services import Services
from preferences.store import address_requests, contact_state, contacts, feed, outbox, sign_ins
from preferences.store.address_requests import AddressRequest
from preferences.store.contact_state import KnownAddress
from tests.support import BRAND, email

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
OLD, NEW, JOHN = email("jane@old.example"), email("jane@new.example"), email("john.roe@example.com")


def person(services: Services, address: Address) -> UUID:
    """The contact with this address, who has had it since long before."""
    found = services.database.write(
        contacts.find_or_create, [address], services.fingerprints, NOW - timedelta(days=100)
    )
    contact_id = found[address].contact_id
    assert contact_id is not None
    return contact_id


@pytest.fixture
def jane(services: Services) -> UUID:
    return person(services, OLD)


def known(services: Services, contact_id: UUID) -> list[KnownAddress]:
    return services.database.read(contact_state.addresses_of, contact_id)


def used(services: Services, contact_id: UUID) -> list[Address]:
    return [entry.address for entry in known(services, contact_id) if not entry.replaced]


def id_of(services: Services, contact_id: UUID, address: Address) -> UUID:
    return next(entry.id for entry in known(services, contact_id) if entry.address == address)


def request(
    services: Services, contact_id: UUID, wanted: Address, replaces: Address | None = None, at: datetime = NOW
) -> UUID:
    replaced_id = id_of(services, contact_id, replaces) if replaces else None
    return services.database.save(address_requests.add, AddressRequest(contact_id, wanted, replaced_id), at)


def is_open(services: Services, request_id: UUID, at: datetime = NOW) -> bool:
    with time_machine.travel(at, tick=False):
        try:
            addresses.find_request(services, request_id)
        except NotAllowed:
            return False
    return True


def open_request(services: Services, request_id: UUID) -> OpenRequest:
    with time_machine.travel(NOW, tick=False):
        return addresses.find_request(services, request_id)


def confirm(services: Services, request_id: UUID, at: datetime = NOW) -> ConfirmedAddress:
    evidence = {"network": "192.0.2.0/24"}
    with time_machine.travel(at, tick=False):
        return addresses.confirm_address(services, request_id, brand=BRAND.slug, language="en", evidence=evidence)


def remove(services: Services, contact_id: UUID, address_id: UUID, at: datetime = NOW) -> None:
    with time_machine.travel(at, tick=False):
        addresses.remove_address(services, contact_id, address_id, brand=BRAND.slug, language="en", evidence={})


def way_back(services: Services, address: Address) -> UUID | None:
    """The request in the email that told this address that it is no longer used."""
    queued = services.database.save(outbox.claim, NOW + timedelta(hours=1), 10)
    (email_to_old,) = [
        entry for entry in queued if entry.kind is EmailKind.ADDRESS_CHANGED and entry.address == address.value
    ]
    found = email_to_old.details.get("request")
    return UUID(found) if found else None


def suppress_address(services: Services, address: Address, reason: SuppressionReason) -> None:
    act = Act(
        verb=Verb.SUPPRESS,
        channel=address.channel,
        who=address,
        reason=reason,
        origin="connector.shop-mailer",
        actor=Actor.PROVIDER,
        occurred_at=NOW,
    )
    services.database.write(ledger.record, [act], fingerprints=services.fingerprints, now=NOW)


def held(services: Services, address: Address) -> set[SuppressionReason]:
    return services.database.read(contacts.suppressed_for, address, services.fingerprints)


def count(services: Services) -> int:
    return services.database.read(feed.head_seq)


def problems(services: Services) -> list[str]:
    return services.database.snapshot(verify.verify, lambda _entries: None).problems


# Requesting and confirming.


def test_a_request_changes_nothing(services: Services, jane: UUID) -> None:
    request_id = request(services, jane, NEW)
    assert used(services, jane) == [OLD]
    assert open_request(services, request_id) == OpenRequest(NEW, taken_back=False)


def test_a_confirmed_address_is_added(services: Services, jane: UUID) -> None:
    done = confirm(services, request(services, jane, NEW))
    assert done == ConfirmedAddress(outcome=AddressOutcome.ADDED, contact_id=jane, address=NEW, notify=(OLD,))
    assert used(services, jane) == [OLD, NEW]
    assert count(services) == 0, "to add one says nothing about what may be sent"


def test_a_request_is_confirmed_once(services: Services, jane: UUID) -> None:
    request_id = request(services, jane, NEW)
    confirm(services, request_id)
    assert not is_open(services, request_id)
    with pytest.raises(NotAllowed):
        confirm(services, request_id)
    with pytest.raises(NotAllowed):
        confirm(services, uuid4())


def test_a_request_lives_for_a_day(services: Services, jane: UUID) -> None:
    request_id = request(services, jane, NEW)
    assert is_open(services, request_id, NOW + ADDRESS_LIFE - SECOND)
    assert not is_open(services, request_id, NOW + ADDRESS_LIFE)
    with pytest.raises(NotAllowed):
        confirm(services, request_id, NOW + ADDRESS_LIFE)
    services.database.save(address_requests.forget_old, NOW + ADDRESS_LIFE + SECOND)
    assert not is_open(services, request_id)


def test_a_request_from_before_access_was_revoked_is_void(services: Services, jane: UUID) -> None:
    request_id = request(services, jane, NEW)
    services.database.save(sign_ins.revoke, jane, NOW + SECOND)
    assert not is_open(services, request_id, NOW + 2 * SECOND)
    with pytest.raises(NotAllowed):
        confirm(services, request_id, NOW + 2 * SECOND)
    later = request(services, jane, NEW, at=NOW + 2 * SECOND)
    assert confirm(services, later, NOW + 3 * SECOND).outcome is AddressOutcome.ADDED


def test_a_request_of_a_deleted_contact_cannot_be_confirmed(services: Services) -> None:
    request_id = services.database.save(address_requests.add, AddressRequest(uuid4(), NEW, None), NOW)
    with pytest.raises(NotAllowed):
        confirm(services, request_id)


def test_an_address_the_contact_has_already_does_not_change(services: Services, jane: UUID) -> None:
    assert confirm(services, request(services, jane, OLD)).outcome is AddressOutcome.HAD_ALREADY
    assert confirm(services, request(services, jane, OLD, replaces=OLD)).outcome is AddressOutcome.HAD_ALREADY
    assert used(services, jane) == [OLD]
    assert count(services) == 0


def test_an_address_of_another_contact_is_not_moved(services: Services, jane: UUID) -> None:
    john = person(services, JOHN)
    done = confirm(services, request(services, jane, JOHN, replaces=OLD))
    assert (done.outcome, done.replaced) == (AddressOutcome.SOMEBODY_ELSES, None)
    assert (used(services, jane), used(services, john)) == ([OLD], [JOHN])
    assert count(services) == 0


@pytest.mark.parametrize("reason", [SuppressionReason.ERASED, SuppressionReason.CHILD])
def test_an_erased_or_childs_address_is_not_stored_again(
    services: Services, jane: UUID, reason: SuppressionReason
) -> None:
    request_id = request(services, jane, NEW, replaces=OLD)
    suppress_address(services, NEW, reason)
    with services.database.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM address WHERE value = 'jane@new.example'")
    assert confirm(services, request_id).outcome is AddressOutcome.BARRED
    assert used(services, jane) == [OLD]


# Changing.


def test_a_changed_address_replaces_the_old_one(services: Services, jane: UUID) -> None:
    done = confirm(services, request(services, jane, NEW, replaces=OLD))
    assert (done.outcome, done.replaced) == (AddressOutcome.ADDED, OLD)
    assert used(services, jane) == [NEW]
    assert [(entry.address, entry.replaced) for entry in known(services, jane)] == [(OLD, True), (NEW, False)]
    assert held(services, OLD) == {SuppressionReason.REPLACED}
    assert held(services, NEW) == set()
    assert problems(services) == []


def test_suppressions_stay_with_the_old_address(services: Services, jane: UUID) -> None:
    suppress_address(services, OLD, SuppressionReason.COMPLAINT)
    confirm(services, request(services, jane, NEW, replaces=OLD))
    assert held(services, OLD) == {SuppressionReason.COMPLAINT, SuppressionReason.REPLACED}
    assert held(services, NEW) == set()


def test_changing_back_lifts_the_replaced_suppression_alone(services: Services, jane: UUID) -> None:
    suppress_address(services, OLD, SuppressionReason.COMPLAINT)
    confirm(services, request(services, jane, NEW, replaces=OLD))
    later = NOW + SECOND
    done = confirm(services, request(services, jane, OLD, replaces=NEW, at=later), later)
    assert (done.outcome, done.replaced) == (AddressOutcome.ADDED, NEW)
    assert used(services, jane) == [OLD]
    assert held(services, OLD) == {SuppressionReason.COMPLAINT}
    assert held(services, NEW) == {SuppressionReason.REPLACED}
    assert problems(services) == []


def test_an_address_is_replaced_once(services: Services, jane: UUID) -> None:
    third = email("jane@third.example")
    first, second = request(services, jane, NEW, replaces=OLD), request(services, jane, third, replaces=OLD)
    confirm(services, first)
    done = confirm(services, second, NOW + SECOND)
    assert (done.outcome, done.replaced) == (AddressOutcome.ADDED, None)
    assert used(services, jane) == [NEW, third]


def test_another_contacts_address_cannot_be_replaced(services: Services, jane: UUID) -> None:
    john = person(services, JOHN)
    johns = id_of(services, john, JOHN)
    request_id = services.database.save(address_requests.add, AddressRequest(jane, NEW, johns), NOW)
    assert confirm(services, request_id).replaced is None
    assert used(services, john) == [JOHN]


# Removing.


def test_the_last_address_of_a_channel_cannot_be_removed(services: Services, jane: UUID) -> None:
    confirm(services, request(services, jane, NEW))
    old_id = id_of(services, jane, OLD)
    remove(services, jane, old_id)
    assert used(services, jane) == [NEW]
    assert held(services, OLD) == {SuppressionReason.REPLACED}
    with pytest.raises(NotAllowed):
        remove(services, jane, id_of(services, jane, NEW))
    with pytest.raises(NotAllowed):
        remove(services, jane, old_id)
    assert used(services, jane) == [NEW]
    assert problems(services) == []


def test_a_phone_number_does_not_count_as_another_mailbox(services: Services, jane: UUID) -> None:
    phone = Address(Channel.SMS, "+12025550123")
    confirm(services, request(services, jane, phone))
    for address in (OLD, phone):
        with pytest.raises(NotAllowed):
            remove(services, jane, id_of(services, jane, address))


def test_another_contacts_address_cannot_be_removed(services: Services, jane: UUID) -> None:
    john = person(services, JOHN)
    confirm(services, request(services, john, NEW))
    with pytest.raises(NotAllowed):
        remove(services, jane, id_of(services, john, NEW))
    assert used(services, john) == [JOHN, NEW]


def test_a_retired_address_still_belongs_to_its_contact(services: Services, jane: UUID) -> None:
    confirm(services, request(services, jane, NEW, replaces=OLD))
    assert person(services, OLD) == jane, "what somebody does there is still done by them"
    john = person(services, JOHN)
    assert confirm(services, request(services, john, OLD)).outcome is AddressOutcome.SOMEBODY_ELSES


def test_a_retired_address_can_be_added_again(services: Services, jane: UUID) -> None:
    confirm(services, request(services, jane, NEW, replaces=OLD))
    later = NOW + SECOND
    assert confirm(services, request(services, jane, OLD, at=later), later).outcome is AddressOutcome.ADDED
    assert used(services, jane) == [OLD, NEW]


# The way back.


def test_the_owner_of_the_older_address_can_take_it_back(services: Services, jane: UUID) -> None:
    confirm(services, request(services, jane, NEW, replaces=OLD), NOW + SECOND)
    request_id = way_back(services, OLD)
    assert request_id is not None
    assert open_request(services, request_id) == OpenRequest(OLD, taken_back=True)
    assert confirm(services, request_id, NOW + 2 * SECOND).outcome is AddressOutcome.ADDED
    assert used(services, jane) == [OLD, NEW]


def test_the_younger_address_has_no_way_back(services: Services, jane: UUID) -> None:
    confirm(services, request(services, jane, NEW), NOW + SECOND)
    remove(services, jane, id_of(services, jane, NEW), NOW + 2 * SECOND)
    assert way_back(services, NEW) is None


def test_restoring_an_address_is_an_act_of_its_own(services: Services, jane: UUID) -> None:
    confirm(services, request(services, jane, NEW, replaces=OLD))
    act = restore_address(OLD, NOW + SECOND, {})
    (entry,) = services.database.write(ledger.record, [act], fingerprints=services.fingerprints, now=NOW + SECOND)
    assert (entry.verb, entry.reason, entry.changed) == (Verb.LIFT, SuppressionReason.REPLACED, True)
    assert used(services, jane) == [OLD, NEW]
