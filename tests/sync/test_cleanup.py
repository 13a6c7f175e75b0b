"""Cleanup removes rows that have run out, and nothing that bears on permission."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from preferences.domain.outbox import EmailKind
from preferences.domain.records import Act, Address
from preferences.domain.vocabulary import Actor, Channel, Origin, SuppressionReason, Verb
from preferences.ledger import record as ledger
from preferences.services import Services
from preferences.store import address_requests, frequency, outbox, sign_ins
from preferences.store.address_requests import AddressRequest
from preferences.store.outbox import Order
from preferences.sync.cleanup import forget_old
from tests.processes import contents
from tests.support import add_contact, email

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ROOMS = ("address_request", "letter_request", "sending", "sign_in", "used_token")
"""The tables that are cleaned up."""


def fill(services: Services, now: datetime) -> None:
    """A row in each table that is cleaned up, and some in those that never are."""
    contact_id = add_contact(services)
    known: dict[str, Any] = {
        "channel": Channel.EMAIL,
        "origin": Origin.ACCOUNT,
        "actor": Actor.RECIPIENT,
        "occurred_at": now,
    }
    about = known | {"who": contact_id, "brand": "default", "topic": "product-news", "trusted": True}
    acts = [
        Act(verb=Verb.UNSUBSCRIBE, evidence={"page": "account"}, **about),
        Act(verb=Verb.PAUSE, until=now + timedelta(days=1), **about),
        Act(verb=Verb.CAP, per_week=2, **about),
        Act(verb=Verb.SUPPRESS, who=email(), reason=SuppressionReason.COMPLAINT, **known),
    ]
    services.database.write(ledger.record, acts, fingerprints=services.fingerprints, now=now)
    wanted = Address(Channel.EMAIL, "new@example.com")
    services.database.save(address_requests.add, AddressRequest(contact_id, wanted, replaces=None), now)
    services.database.save(sign_ins.begin, "of Jane", now)
    services.database.save(sign_ins.use_once, "a.token", now)
    letter = Order(
        kind=EmailKind.MANAGE_LINK,
        address="jane.doe@example.com",
        mailbox="of Jane",
        brand="default",
        language="en",
        details={},
    )
    services.database.save(outbox.enqueue, letter, now)
    services.database.save(
        frequency.reserve, {contact_id: 2}, channel=Channel.EMAIL, topic="product-news", message_ref="m-1", now=now
    )


def filled(services: Services) -> set[str]:
    """The tables that are cleaned up and hold a row."""
    found = contents(services.settings.database_url)
    return {name for name in ROOMS if found[name]}


def test_what_may_still_be_asked_for_stays(services: Services) -> None:
    fill(services, NOW)
    before = contents(services.settings.database_url)
    services.database.save(forget_old, NOW)
    assert contents(services.settings.database_url) == before
    assert filled(services) == set(ROOMS)


def test_what_is_over_goes_and_nothing_that_bears_on_permission_does(services: Services) -> None:
    fill(services, NOW)
    before = contents(services.settings.database_url)
    services.database.save(forget_old, NOW + timedelta(days=400))
    after = contents(services.settings.database_url)
    assert filled(services) == set()
    assert {name for name in before if before[name] != after[name]} == set(ROOMS)
    for name in ("ledger_entry", "preference", "pace", "suppression", "evidence", "contact", "address", "letter"):
        assert after[name], name


def test_two_workers_may_clean_up_at_the_same_time(services: Services) -> None:
    fill(services, NOW)
    for _ in range(2):
        services.database.save(forget_old, NOW + timedelta(days=400))
    assert filled(services) == set()
