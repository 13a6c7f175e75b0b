"""A contact's addresses: one owner each, none taken in before it is confirmed, none forgotten when it is put away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from preferences.domain.acts import restore_address
from preferences.domain.errors import NotAllowed
from preferences.domain.outbox import ADDRESS_LIFE
from preferences.domain.records import Act, Address
from preferences.domain.vocabulary import Actor, Channel, SuppressionReason, Verb
from preferences.ledger import edits, verify
from preferences.ledger import record as ledger
from preferences.ledger.edits import Confirmed, Outcome, Wanted
from preferences.services import Services
from preferences.store import contact_state, contacts, feed, sign_ins
from preferences.store.contact_state import KnownAddress
from tests.support import email

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
    return [one.address for one in known(services, contact_id) if not one.replaced]


def id_of(services: Services, contact_id: UUID, address: Address) -> UUID:
    return next(one.id for one in known(services, contact_id) if one.address == address)


def request(
    services: Services, contact_id: UUID, wanted: Address, replaces: Address | None = None, at: datetime = NOW
) -> UUID:
    replaced_id = id_of(services, contact_id, replaces) if replaces else None
    return services.database.save(edits.request, contact_id, wanted=wanted, replaces=replaced_id, now=at)


def confirm(services: Services, request_id: UUID, at: datetime = NOW) -> Confirmed:
    return services.database.write(
        edits.confirm, request_id, fingerprints=services.fingerprints, now=at, evidence={"network": "192.0.2.0/24"}
    )


def remove(services: Services, contact_id: UUID, address: Address) -> Address:
    address_id = id_of(services, contact_id, address)
    return services.database.write(
        edits.remove, contact_id, address_id=address_id, fingerprints=services.fingerprints, now=NOW, evidence={}
    )


def suppress(services: Services, address: Address, reason: SuppressionReason) -> None:
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


# Asking and confirming.


def test_asking_changes_nothing_until_it_is_confirmed(services: Services, jane: UUID) -> None:
    request_id = request(services, jane, NEW)
    assert used(services, jane) == [OLD]
    assert services.database.read(edits.find_request, request_id, NOW) == Wanted(NEW, taken_back=False)


def test_a_confirmed_address_is_the_contacts(services: Services, jane: UUID) -> None:
    done = confirm(services, request(services, jane, NEW))
    assert done == Confirmed(outcome=Outcome.ADDED, contact_id=jane, address=NEW, told=(OLD,))
    assert used(services, jane) == [OLD, NEW]
    assert count(services) == 0, "to add one says nothing about what may be sent"


def test_a_request_is_confirmed_once(services: Services, jane: UUID) -> None:
    request_id = request(services, jane, NEW)
    confirm(services, request_id)
    assert services.database.read(edits.find_request, request_id, NOW) is None
    with pytest.raises(NotAllowed):
        confirm(services, request_id)
    with pytest.raises(NotAllowed):
        confirm(services, uuid4())


def test_a_request_lives_for_a_day(services: Services, jane: UUID) -> None:
    request_id = request(services, jane, NEW)
    assert services.database.read(edits.find_request, request_id, NOW + ADDRESS_LIFE - SECOND) is not None
    assert services.database.read(edits.find_request, request_id, NOW + ADDRESS_LIFE) is None
    with pytest.raises(NotAllowed):
        confirm(services, request_id, NOW + ADDRESS_LIFE)
    services.database.save(edits.forget_old, NOW + ADDRESS_LIFE + SECOND)
    assert services.database.read(edits.find_request, request_id, NOW) is None


def test_what_was_asked_for_before_every_sign_in_was_ended_is_void(services: Services, jane: UUID) -> None:
    request_id = request(services, jane, NEW)
    services.database.save(sign_ins.revoke, jane, NOW + SECOND)
    assert services.database.read(edits.find_request, request_id, NOW + 2 * SECOND) is None
    with pytest.raises(NotAllowed):
        confirm(services, request_id, NOW + 2 * SECOND)
    later = request(services, jane, NEW, at=NOW + 2 * SECOND)
    assert confirm(services, later, NOW + 3 * SECOND).outcome is Outcome.ADDED


def test_a_request_of_a_contact_that_is_no_more_cannot_be_confirmed(services: Services) -> None:
    request_id = services.database.save(edits.request, uuid4(), wanted=NEW, replaces=None, now=NOW)
    with pytest.raises(NotAllowed):
        confirm(services, request_id)


def test_an_address_that_they_have_already_stays_as_it_is(services: Services, jane: UUID) -> None:
    assert confirm(services, request(services, jane, OLD)).outcome is Outcome.HAD_ALREADY
    assert confirm(services, request(services, jane, OLD, replaces=OLD)).outcome is Outcome.HAD_ALREADY
    assert used(services, jane) == [OLD]
    assert count(services) == 0


def test_an_address_of_somebody_else_stays_theirs(services: Services, jane: UUID) -> None:
    john = person(services, JOHN)
    done = confirm(services, request(services, jane, JOHN, replaces=OLD))
    assert (done.outcome, done.replaced) == (Outcome.SOMEBODY_ELSES, None)
    assert (used(services, jane), used(services, john)) == ([OLD], [JOHN])
    assert count(services) == 0


@pytest.mark.parametrize("reason", [SuppressionReason.ERASED, SuppressionReason.CHILD])
def test_an_address_that_must_not_be_stored_again_is_not(
    services: Services, jane: UUID, reason: SuppressionReason
) -> None:
    request_id = request(services, jane, NEW, replaces=OLD)
    suppress(services, NEW, reason)
    with services.database.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM address WHERE value = 'jane@new.example'")
    assert confirm(services, request_id).outcome is Outcome.BARRED
    assert used(services, jane) == [OLD]


# Changing.


def test_a_changed_address_takes_the_others_place(services: Services, jane: UUID) -> None:
    done = confirm(services, request(services, jane, NEW, replaces=OLD))
    assert (done.outcome, done.replaced) == (Outcome.ADDED, OLD)
    assert used(services, jane) == [NEW]
    assert [(one.address, one.replaced) for one in known(services, jane)] == [(OLD, True), (NEW, False)]
    assert held(services, OLD) == {SuppressionReason.REPLACED}
    assert held(services, NEW) == set()
    assert problems(services) == []


def test_suppressions_stay_with_the_old_address(services: Services, jane: UUID) -> None:
    suppress(services, OLD, SuppressionReason.COMPLAINT)
    confirm(services, request(services, jane, NEW, replaces=OLD))
    assert held(services, OLD) == {SuppressionReason.COMPLAINT, SuppressionReason.REPLACED}
    assert held(services, NEW) == set()


def test_changing_back_lifts_only_that_it_was_replaced(services: Services, jane: UUID) -> None:
    suppress(services, OLD, SuppressionReason.COMPLAINT)
    confirm(services, request(services, jane, NEW, replaces=OLD))
    later = NOW + SECOND
    done = confirm(services, request(services, jane, OLD, replaces=NEW, at=later), later)
    assert (done.outcome, done.replaced) == (Outcome.ADDED, NEW)
    assert used(services, jane) == [OLD]
    assert held(services, OLD) == {SuppressionReason.COMPLAINT}
    assert held(services, NEW) == {SuppressionReason.REPLACED}
    assert problems(services) == []


def test_the_place_of_an_address_is_taken_once(services: Services, jane: UUID) -> None:
    third = email("jane@third.example")
    first, second = request(services, jane, NEW, replaces=OLD), request(services, jane, third, replaces=OLD)
    confirm(services, first)
    done = confirm(services, second, NOW + SECOND)
    assert (done.outcome, done.replaced) == (Outcome.ADDED, None)
    assert used(services, jane) == [NEW, third]


def test_nobody_can_replace_somebody_elses_address(services: Services, jane: UUID) -> None:
    john = person(services, JOHN)
    johns = id_of(services, john, JOHN)
    request_id = services.database.save(edits.request, jane, wanted=NEW, replaces=johns, now=NOW)
    assert confirm(services, request_id).replaced is None
    assert used(services, john) == [JOHN]


# Putting away.


def test_an_address_can_be_put_away_but_not_the_last_of_its_channel(services: Services, jane: UUID) -> None:
    confirm(services, request(services, jane, NEW))
    assert remove(services, jane, OLD) == OLD
    assert used(services, jane) == [NEW]
    assert held(services, OLD) == {SuppressionReason.REPLACED}
    with pytest.raises(NotAllowed):
        remove(services, jane, NEW)
    with pytest.raises(NotAllowed):
        remove(services, jane, OLD)
    assert used(services, jane) == [NEW]
    assert problems(services) == []


def test_a_telephone_does_not_make_up_for_the_only_mailbox(services: Services, jane: UUID) -> None:
    phone = Address(Channel.SMS, "+12025550123")
    confirm(services, request(services, jane, phone))
    for one in (OLD, phone):
        with pytest.raises(NotAllowed):
            remove(services, jane, one)


def test_nobody_can_remove_somebody_elses_address(services: Services, jane: UUID) -> None:
    john = person(services, JOHN)
    confirm(services, request(services, john, NEW))
    with pytest.raises(NotAllowed):
        services.database.write(
            edits.remove,
            jane,
            address_id=id_of(services, john, NEW),
            fingerprints=services.fingerprints,
            now=NOW,
            evidence={},
        )
    assert used(services, john) == [JOHN, NEW]


def test_an_address_that_was_put_away_still_belongs_to_its_contact(services: Services, jane: UUID) -> None:
    confirm(services, request(services, jane, NEW, replaces=OLD))
    assert person(services, OLD) == jane, "what somebody does there is still done by them"
    john = person(services, JOHN)
    assert confirm(services, request(services, john, OLD)).outcome is Outcome.SOMEBODY_ELSES


def test_an_address_that_was_put_away_can_be_added_again(services: Services, jane: UUID) -> None:
    confirm(services, request(services, jane, NEW, replaces=OLD))
    later = NOW + SECOND
    assert confirm(services, request(services, jane, OLD, at=later), later).outcome is Outcome.ADDED
    assert used(services, jane) == [OLD, NEW]


# The way back.


def way_back(services: Services, contact_id: UUID, *, old: Address, new: Address) -> UUID | None:
    return services.database.save(edits.request_back, contact_id, old=old, new=new, now=NOW)


def test_the_owner_of_the_older_address_can_take_it_back(services: Services, jane: UUID) -> None:
    confirm(services, request(services, jane, NEW, replaces=OLD), NOW + SECOND)
    request_id = way_back(services, jane, old=OLD, new=NEW)
    assert request_id is not None
    assert confirm(services, request_id, NOW + 2 * SECOND).outcome is Outcome.ADDED
    assert used(services, jane) == [OLD, NEW]


def test_whoever_came_later_cannot_undo_the_repair(services: Services, jane: UUID) -> None:
    confirm(services, request(services, jane, NEW), NOW + SECOND)
    remove(services, jane, NEW)
    assert way_back(services, jane, old=NEW, new=OLD) is None


def test_taking_an_address_back_is_an_act_of_its_own(services: Services, jane: UUID) -> None:
    confirm(services, request(services, jane, NEW, replaces=OLD))
    act = restore_address(OLD, NOW + SECOND, {})
    (entry,) = services.database.write(ledger.record, [act], fingerprints=services.fingerprints, now=NOW + SECOND)
    assert (entry.verb, entry.reason, entry.changed) == (Verb.LIFT, SuppressionReason.REPLACED, True)
    assert used(services, jane) == [OLD, NEW]
