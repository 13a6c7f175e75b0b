"""The outbox: limits per mailbox and kind, leases, and what is kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import func, select

from preferences.current import services_of
from preferences.domain.outbox import LIMITS, REMEMBERED, EmailKind, QueuedEmail
from preferences.services import Services
from preferences.store import outbox
from preferences.store.outbox import LEASE, Order
from preferences.store.tables import letter, letter_request
from preferences.store.transactions import Save
from tests.servers import PostgresServer
from tests.support import close, new_app, new_postgresql

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TO_JANE = Order(
    kind=EmailKind.MANAGE_LINK,
    address="jane.doe@example.com",
    mailbox="of Jane",
    brand="default",
    language="en",
    details={"channel": "email"},
)


def order(services: Services, wanted: Order = TO_JANE, now: datetime = NOON, **more: Any) -> bool:
    return services.database.save(outbox.enqueue, wanted, now, **more)


def claim(services: Services, now: datetime = NOON, limit: int = 10) -> list[QueuedEmail]:
    return services.database.save(outbox.claim, now, limit)


def count(services: Services, table: Any = letter) -> int:
    return services.database.read(lambda read: read.execute(select(func.count()).select_from(table)).scalar_one())


# How many anybody may cause.


@pytest.mark.parametrize("kind", EmailKind)
def test_an_address_gets_as_many_emails_as_the_limit_allows(services: Services, kind: EmailKind) -> None:
    limit = LIMITS[kind]
    wanted = replace(TO_JANE, kind=kind)
    assert [order(services, wanted) for _ in range(limit.most + 2)] == [True] * limit.most + [False] * 2
    assert count(services) == limit.most
    assert not order(services, wanted, NOON + limit.per - SECOND)
    assert order(services, wanted, NOON + limit.per)


def test_each_address_and_each_kind_has_a_limit_of_its_own(services: Services) -> None:
    sign_up = replace(TO_JANE, kind=EmailKind.SIGN_UP)
    assert order(services, sign_up)
    assert not order(services, sign_up)
    assert order(services, TO_JANE)
    assert order(services, replace(sign_up, mailbox="of John"))


def test_parallel_requests_gain_nothing(services: Services) -> None:
    wanted, everybody = replace(TO_JANE, kind=EmailKind.SIGN_UP), Barrier(12)

    def ask(_number: int) -> bool:
        everybody.wait(60)
        return order(services, wanted)

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(12)))
    assert answers.count(True) == 1
    assert (count(services), count(services, letter_request)) == (1, 1)


def test_a_sent_email_still_counts(services: Services) -> None:
    wanted = replace(TO_JANE, kind=EmailKind.SIGN_UP)
    order(services, wanted)
    (sent,) = claim(services)
    services.database.save(outbox.done, sent)
    assert not order(services, wanted, NOON + SECOND)


# Who sends which.


def test_an_email_is_claimed_as_it_was_ordered(services: Services) -> None:
    order(
        services, replace(TO_JANE, language="ar", details={"items": ["email.offers.status=on"], "is": {"deep": True}})
    )
    (claimed,) = claim(services, NOON + SECOND)
    assert (claimed.kind, claimed.address, claimed.brand, claimed.language) == (
        EmailKind.MANAGE_LINK,
        "jane.doe@example.com",
        "default",
        "ar",
    )
    assert claimed.details == {"items": ["email.offers.status=on"], "is": {"deep": True}}
    assert (claimed.created_at, claimed.attempts) == (NOON, 1)


def test_a_claimed_email_is_leased(services: Services) -> None:
    order(services)
    assert len(claim(services)) == 1
    assert claim(services, NOON + LEASE - SECOND) == []
    assert not services.database.read(outbox.is_any_due, NOON + LEASE - SECOND)
    (again,) = claim(services, NOON + LEASE)
    assert again.attempts == 2


def test_a_sent_email_is_deleted_with_its_address(services: Services) -> None:
    order(services)
    (claimed,) = claim(services)
    services.database.save(outbox.done, claimed)
    assert count(services) == 0
    assert claim(services, NOON + LEASE) == []
    rows = services.database.read(lambda read: read.execute(select(letter_request)).all())
    assert "example.com" not in repr(rows)


def test_a_postponed_email_waits_until_then(services: Services) -> None:
    order(services)
    (claimed,) = claim(services)
    services.database.save(outbox.postpone, claimed, NOON + timedelta(hours=1))
    assert claim(services, NOON + LEASE) == []
    assert [again.id for again in claim(services, NOON + timedelta(hours=1))] == [claimed.id]


def test_an_email_can_be_ordered_for_later(services: Services) -> None:
    order(services, after=timedelta(minutes=5))
    assert claim(services) == []
    assert not services.database.read(outbox.is_any_due, NOON)
    assert services.database.read(outbox.is_any_due, NOON + timedelta(minutes=5))
    assert len(claim(services, NOON + timedelta(minutes=5))) == 1


def test_the_email_due_first_is_claimed_first(services: Services) -> None:
    for name, after in (("c", 3), ("a", 1), ("b", 2)):
        order(services, replace(TO_JANE, mailbox=name, address=name), after=after * SECOND)
    assert [queued.address for queued in claim(services, NOON + timedelta(minutes=1), limit=2)] == ["a", "b"]
    assert [queued.address for queued in claim(services, NOON + timedelta(minutes=1), limit=2)] == ["c"]


def test_a_worker_skips_what_another_is_just_taking(postgres: PostgresServer) -> None:
    """On PostgreSQL; on SQLite one transaction writes at a time."""
    app = new_app(new_postgresql(postgres))
    services = services_of(app)
    for number in range(4):
        order(services, replace(TO_JANE, mailbox=str(number)))
    with services.database.engine.connect() as one, services.database.engine.connect() as other:
        mine, theirs = outbox.claim(Save(one), NOON, 2), outbox.claim(Save(other), NOON, 2)
        assert len({found.id for found in mine + theirs}) == 4
        assert outbox.claim(Save(other), NOON, 2) == []
    close(app)


def test_many_workers_claim_each_email_once(services: Services) -> None:
    for number in range(40):
        order(services, replace(TO_JANE, mailbox=str(number)))
    everybody = Barrier(6)

    def work(_number: int) -> list[QueuedEmail]:
        everybody.wait(60)
        found: list[QueuedEmail] = []
        while some := claim(services, limit=3):
            found += some
        return found

    with ThreadPoolExecutor(6) as pool:
        claimed = [queued.id for found in pool.map(work, range(6)) for queued in found]
    assert len(claimed) == len(set(claimed)) == 40


def test_emails_that_wait_too_long_are_counted(services: Services) -> None:
    order(services)
    assert services.database.read(outbox.count_waiting, NOON) == 0
    assert services.database.read(outbox.count_waiting, NOON + SECOND) == 1


# What is forgotten.


def test_a_request_is_kept_as_long_as_any_limit_needs_it(services: Services) -> None:
    order(services)
    services.database.save(outbox.forget_old, NOON + REMEMBERED)
    assert count(services, letter_request) == 1
    services.database.save(outbox.forget_old, NOON + REMEMBERED + SECOND)
    assert (count(services, letter_request), count(services)) == (0, 1), "the email itself still waits"
