"""A contact's addresses: one owner each, none taken in before it is confirmed, none forgotten when it is put away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from preferences.domain.acts import taken_back
from preferences.domain.errors import NotAllowed
from preferences.domain.letters import ADDRESS_LIFE
from preferences.domain.terms import Act, Actor, Address, Channel, SuppressionReason, Verb
from preferences.site import Site
from preferences.store import addresses, contacts, ledger, proof, queries, sign_ins
from preferences.store.addresses import Confirmed, Outcome, Wanted
from preferences.store.queries import KnownAddress
from tests.support import email

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
OLD, NEW, JOHN = email("jane@old.example"), email("jane@new.example"), email("john.roe@example.com")


def person(site: Site, address: Address) -> UUID:
    """The contact with this address, who has had it since long before."""
    found = site.database.write(contacts.find_or_create, [address], site.fingerprints, NOW - timedelta(days=100))
    contact_id = found[address].contact_id
    assert contact_id is not None
    return contact_id


@pytest.fixture
def jane(site: Site) -> UUID:
    return person(site, OLD)


def known(site: Site, contact_id: UUID) -> list[KnownAddress]:
    return site.database.read(queries.addresses_of, contact_id)


def used(site: Site, contact_id: UUID) -> list[Address]:
    return [one.address for one in known(site, contact_id) if not one.replaced]


def id_of(site: Site, contact_id: UUID, address: Address) -> UUID:
    return next(one.id for one in known(site, contact_id) if one.address == address)


def request(site: Site, contact_id: UUID, wanted: Address, replaces: Address | None = None, at: datetime = NOW) -> UUID:
    replaced_id = id_of(site, contact_id, replaces) if replaces else None
    return site.database.save(addresses.request, contact_id, wanted=wanted, replaces=replaced_id, now=at)


def confirm(site: Site, request_id: UUID, at: datetime = NOW) -> Confirmed:
    return site.database.write(
        addresses.confirm, request_id, fingerprints=site.fingerprints, now=at, evidence={"network": "192.0.2.0/24"}
    )


def remove(site: Site, contact_id: UUID, address: Address) -> Address:
    address_id = id_of(site, contact_id, address)
    return site.database.write(
        addresses.remove, contact_id, address_id=address_id, fingerprints=site.fingerprints, now=NOW, evidence={}
    )


def suppress(site: Site, address: Address, reason: SuppressionReason) -> None:
    act = Act(
        verb=Verb.SUPPRESS,
        channel=address.channel,
        who=address,
        reason=reason,
        origin="connector.shop-mailer",
        actor=Actor.PROVIDER,
        occurred_at=NOW,
    )
    site.database.write(ledger.record, [act], fingerprints=site.fingerprints, now=NOW)


def held(site: Site, address: Address) -> set[SuppressionReason]:
    return site.database.read(contacts.suppressed_for, address, site.fingerprints)


def count(site: Site) -> int:
    return site.database.read(queries.head_seq)


def problems(site: Site) -> list[str]:
    return site.database.snapshot(proof.verify, lambda _entries: None).problems


# Asking and confirming.


def test_asking_changes_nothing_until_it_is_confirmed(site: Site, jane: UUID) -> None:
    request_id = request(site, jane, NEW)
    assert used(site, jane) == [OLD]
    assert site.database.read(addresses.find_request, request_id, NOW) == Wanted(NEW, taken_back=False)


def test_a_confirmed_address_is_the_contacts(site: Site, jane: UUID) -> None:
    done = confirm(site, request(site, jane, NEW))
    assert done == Confirmed(outcome=Outcome.ADDED, contact_id=jane, address=NEW, told=(OLD,))
    assert used(site, jane) == [OLD, NEW]
    assert count(site) == 0, "to add one says nothing about what may be sent"


def test_a_request_is_confirmed_once(site: Site, jane: UUID) -> None:
    request_id = request(site, jane, NEW)
    confirm(site, request_id)
    assert site.database.read(addresses.find_request, request_id, NOW) is None
    with pytest.raises(NotAllowed):
        confirm(site, request_id)
    with pytest.raises(NotAllowed):
        confirm(site, uuid4())


def test_a_request_lives_for_a_day(site: Site, jane: UUID) -> None:
    request_id = request(site, jane, NEW)
    assert site.database.read(addresses.find_request, request_id, NOW + ADDRESS_LIFE - SECOND) is not None
    assert site.database.read(addresses.find_request, request_id, NOW + ADDRESS_LIFE) is None
    with pytest.raises(NotAllowed):
        confirm(site, request_id, NOW + ADDRESS_LIFE)
    site.database.save(addresses.forget_old, NOW + ADDRESS_LIFE + SECOND)
    assert site.database.read(addresses.find_request, request_id, NOW) is None


def test_what_was_asked_for_before_every_sign_in_was_ended_is_void(site: Site, jane: UUID) -> None:
    request_id = request(site, jane, NEW)
    site.database.save(sign_ins.revoke, jane, NOW + SECOND)
    assert site.database.read(addresses.find_request, request_id, NOW + 2 * SECOND) is None
    with pytest.raises(NotAllowed):
        confirm(site, request_id, NOW + 2 * SECOND)
    later = request(site, jane, NEW, at=NOW + 2 * SECOND)
    assert confirm(site, later, NOW + 3 * SECOND).outcome is Outcome.ADDED


def test_a_request_of_a_contact_that_is_no_more_cannot_be_confirmed(site: Site) -> None:
    request_id = site.database.save(addresses.request, uuid4(), wanted=NEW, replaces=None, now=NOW)
    with pytest.raises(NotAllowed):
        confirm(site, request_id)


def test_an_address_that_they_have_already_stays_as_it_is(site: Site, jane: UUID) -> None:
    assert confirm(site, request(site, jane, OLD)).outcome is Outcome.HAD_ALREADY
    assert confirm(site, request(site, jane, OLD, replaces=OLD)).outcome is Outcome.HAD_ALREADY
    assert used(site, jane) == [OLD]
    assert count(site) == 0


def test_an_address_of_somebody_else_stays_theirs(site: Site, jane: UUID) -> None:
    john = person(site, JOHN)
    done = confirm(site, request(site, jane, JOHN, replaces=OLD))
    assert (done.outcome, done.replaced) == (Outcome.SOMEBODY_ELSES, None)
    assert (used(site, jane), used(site, john)) == ([OLD], [JOHN])
    assert count(site) == 0


@pytest.mark.parametrize("reason", [SuppressionReason.ERASED, SuppressionReason.CHILD])
def test_an_address_that_must_not_be_stored_again_is_not(site: Site, jane: UUID, reason: SuppressionReason) -> None:
    request_id = request(site, jane, NEW, replaces=OLD)
    suppress(site, NEW, reason)
    with site.database.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM address WHERE value = 'jane@new.example'")
    assert confirm(site, request_id).outcome is Outcome.BARRED
    assert used(site, jane) == [OLD]


# Changing.


def test_a_changed_address_takes_the_others_place(site: Site, jane: UUID) -> None:
    done = confirm(site, request(site, jane, NEW, replaces=OLD))
    assert (done.outcome, done.replaced) == (Outcome.ADDED, OLD)
    assert used(site, jane) == [NEW]
    assert [(one.address, one.replaced) for one in known(site, jane)] == [(OLD, True), (NEW, False)]
    assert held(site, OLD) == {SuppressionReason.REPLACED}
    assert held(site, NEW) == set()
    assert problems(site) == []


def test_suppressions_stay_with_the_old_address(site: Site, jane: UUID) -> None:
    suppress(site, OLD, SuppressionReason.COMPLAINT)
    confirm(site, request(site, jane, NEW, replaces=OLD))
    assert held(site, OLD) == {SuppressionReason.COMPLAINT, SuppressionReason.REPLACED}
    assert held(site, NEW) == set()


def test_changing_back_lifts_only_that_it_was_replaced(site: Site, jane: UUID) -> None:
    suppress(site, OLD, SuppressionReason.COMPLAINT)
    confirm(site, request(site, jane, NEW, replaces=OLD))
    later = NOW + SECOND
    done = confirm(site, request(site, jane, OLD, replaces=NEW, at=later), later)
    assert (done.outcome, done.replaced) == (Outcome.ADDED, NEW)
    assert used(site, jane) == [OLD]
    assert held(site, OLD) == {SuppressionReason.COMPLAINT}
    assert held(site, NEW) == {SuppressionReason.REPLACED}
    assert problems(site) == []


def test_the_place_of_an_address_is_taken_once(site: Site, jane: UUID) -> None:
    third = email("jane@third.example")
    first, second = request(site, jane, NEW, replaces=OLD), request(site, jane, third, replaces=OLD)
    confirm(site, first)
    done = confirm(site, second, NOW + SECOND)
    assert (done.outcome, done.replaced) == (Outcome.ADDED, None)
    assert used(site, jane) == [NEW, third]


def test_nobody_can_replace_somebody_elses_address(site: Site, jane: UUID) -> None:
    john = person(site, JOHN)
    johns = id_of(site, john, JOHN)
    request_id = site.database.save(addresses.request, jane, wanted=NEW, replaces=johns, now=NOW)
    assert confirm(site, request_id).replaced is None
    assert used(site, john) == [JOHN]


# Putting away.


def test_an_address_can_be_put_away_but_not_the_last_of_its_channel(site: Site, jane: UUID) -> None:
    confirm(site, request(site, jane, NEW))
    assert remove(site, jane, OLD) == OLD
    assert used(site, jane) == [NEW]
    assert held(site, OLD) == {SuppressionReason.REPLACED}
    with pytest.raises(NotAllowed):
        remove(site, jane, NEW)
    with pytest.raises(NotAllowed):
        remove(site, jane, OLD)
    assert used(site, jane) == [NEW]
    assert problems(site) == []


def test_a_telephone_does_not_make_up_for_the_only_mailbox(site: Site, jane: UUID) -> None:
    phone = Address(Channel.SMS, "+12025550123")
    confirm(site, request(site, jane, phone))
    for one in (OLD, phone):
        with pytest.raises(NotAllowed):
            remove(site, jane, one)


def test_nobody_can_remove_somebody_elses_address(site: Site, jane: UUID) -> None:
    john = person(site, JOHN)
    confirm(site, request(site, john, NEW))
    with pytest.raises(NotAllowed):
        site.database.write(
            addresses.remove,
            jane,
            address_id=id_of(site, john, NEW),
            fingerprints=site.fingerprints,
            now=NOW,
            evidence={},
        )
    assert used(site, john) == [JOHN, NEW]


def test_an_address_that_was_put_away_still_belongs_to_its_contact(site: Site, jane: UUID) -> None:
    confirm(site, request(site, jane, NEW, replaces=OLD))
    assert person(site, OLD) == jane, "what somebody does there is still done by them"
    john = person(site, JOHN)
    assert confirm(site, request(site, john, OLD)).outcome is Outcome.SOMEBODY_ELSES


def test_an_address_that_was_put_away_can_be_added_again(site: Site, jane: UUID) -> None:
    confirm(site, request(site, jane, NEW, replaces=OLD))
    later = NOW + SECOND
    assert confirm(site, request(site, jane, OLD, at=later), later).outcome is Outcome.ADDED
    assert used(site, jane) == [OLD, NEW]


# The way back.


def way_back(site: Site, contact_id: UUID, *, old: Address, new: Address) -> UUID | None:
    return site.database.save(addresses.request_back, contact_id, old=old, new=new, now=NOW)


def test_the_owner_of_the_older_address_can_take_it_back(site: Site, jane: UUID) -> None:
    confirm(site, request(site, jane, NEW, replaces=OLD), NOW + SECOND)
    request_id = way_back(site, jane, old=OLD, new=NEW)
    assert request_id is not None
    assert confirm(site, request_id, NOW + 2 * SECOND).outcome is Outcome.ADDED
    assert used(site, jane) == [OLD, NEW]


def test_whoever_came_later_cannot_undo_the_repair(site: Site, jane: UUID) -> None:
    confirm(site, request(site, jane, NEW), NOW + SECOND)
    remove(site, jane, NEW)
    assert way_back(site, jane, old=NEW, new=OLD) is None


def test_taking_an_address_back_is_an_act_of_its_own(site: Site, jane: UUID) -> None:
    confirm(site, request(site, jane, NEW, replaces=OLD))
    act = taken_back(OLD, NOW + SECOND, {})
    (entry,) = site.database.write(ledger.record, [act], fingerprints=site.fingerprints, now=NOW + SECOND)
    assert (entry.verb, entry.reason, entry.changed) == (Verb.LIFT, SuppressionReason.REPLACED, True)
    assert used(site, jane) == [OLD, NEW]
