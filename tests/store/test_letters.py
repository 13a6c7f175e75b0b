"""The queue of letters: who may cause how many, who sends which, and what is remembered."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import func, select

from preferences.domain.letters import LIMITS, REMEMBERED, Letter, LetterKind
from preferences.site import Site, site_of
from preferences.store import letters
from preferences.store.letters import LEASE, Order
from preferences.store.tables import letter, letter_request
from tests.servers import PostgresServer
from tests.support import close, new_app, new_postgresql

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TO_JANE = Order(
    kind=LetterKind.MANAGE_LINK,
    address="jane.doe@example.com",
    mailbox="of Jane",
    brand="default",
    language="en",
    details={"channel": "email"},
)


def order(site: Site, wanted: Order = TO_JANE, now: datetime = NOON, **more: Any) -> bool:
    return site.database.save(letters.order, wanted, now, **more)


def claim(site: Site, now: datetime = NOON, limit: int = 10) -> list[Letter]:
    return site.database.save(letters.claim, now, limit)


def count(site: Site, table: Any = letter) -> int:
    return site.database.read(
        lambda connection: connection.execute(select(func.count()).select_from(table)).scalar_one()
    )


# How many anybody may cause.


@pytest.mark.parametrize("kind", LetterKind)
def test_an_address_gets_as_many_letters_as_the_limit_says_and_no_more(site: Site, kind: LetterKind) -> None:
    limit = LIMITS[kind]
    wanted = replace(TO_JANE, kind=kind)
    assert [order(site, wanted) for _ in range(limit.most + 2)] == [True] * limit.most + [False] * 2
    assert count(site) == limit.most
    assert not order(site, wanted, NOON + limit.per - SECOND)
    assert order(site, wanted, NOON + limit.per)


def test_each_address_and_each_kind_has_a_limit_of_its_own(site: Site) -> None:
    sign_up = replace(TO_JANE, kind=LetterKind.SIGN_UP)
    assert order(site, sign_up)
    assert not order(site, sign_up)
    assert order(site, TO_JANE)
    assert order(site, replace(sign_up, mailbox="of John"))


def test_asking_many_times_at_once_gains_nothing(site: Site) -> None:
    wanted, everybody = replace(TO_JANE, kind=LetterKind.SIGN_UP), Barrier(12)

    def ask(_number: int) -> bool:
        everybody.wait(60)
        return order(site, wanted)

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(12)))
    assert answers.count(True) == 1
    assert (count(site), count(site, letter_request)) == (1, 1)


def test_a_letter_that_was_sent_still_counts(site: Site) -> None:
    wanted = replace(TO_JANE, kind=LetterKind.SIGN_UP)
    order(site, wanted)
    (sent,) = claim(site)
    site.database.save(letters.done, sent)
    assert not order(site, wanted, NOON + SECOND)


# Who sends which.


def test_a_letter_is_claimed_as_it_was_ordered(site: Site) -> None:
    order(site, replace(TO_JANE, language="ar", details={"items": ["email.offers.status=on"], "is": {"deep": True}}))
    (one,) = claim(site, NOON + SECOND)
    assert (one.kind, one.address, one.brand, one.language) == (
        LetterKind.MANAGE_LINK,
        "jane.doe@example.com",
        "default",
        "ar",
    )
    assert one.details == {"items": ["email.offers.status=on"], "is": {"deep": True}}
    assert (one.created_at, one.attempts) == (NOON, 1)


def test_a_claimed_letter_is_nobody_elses_until_the_lease_is_over(site: Site) -> None:
    order(site)
    assert len(claim(site)) == 1
    assert claim(site, NOON + LEASE - SECOND) == []
    assert not site.database.read(letters.is_any_due, NOON + LEASE - SECOND)
    (again,) = claim(site, NOON + LEASE)
    assert again.attempts == 2


def test_a_letter_that_is_done_is_gone_and_its_address_with_it(site: Site) -> None:
    order(site)
    (one,) = claim(site)
    site.database.save(letters.done, one)
    assert count(site) == 0
    assert claim(site, NOON + LEASE) == []
    rows = site.database.read(lambda connection: connection.execute(select(letter_request)).all())
    assert "example.com" not in repr(rows)


def test_a_postponed_letter_waits_until_then(site: Site) -> None:
    order(site)
    (one,) = claim(site)
    site.database.save(letters.postpone, one, NOON + timedelta(hours=1))
    assert claim(site, NOON + LEASE) == []
    assert [again.id for again in claim(site, NOON + timedelta(hours=1))] == [one.id]


def test_a_letter_may_be_ordered_for_later(site: Site) -> None:
    order(site, after=timedelta(minutes=5))
    assert claim(site) == []
    assert not site.database.read(letters.is_any_due, NOON)
    assert site.database.read(letters.is_any_due, NOON + timedelta(minutes=5))
    assert len(claim(site, NOON + timedelta(minutes=5))) == 1


def test_the_one_that_is_due_first_is_claimed_first(site: Site) -> None:
    for name, after in (("c", 3), ("a", 1), ("b", 2)):
        order(site, replace(TO_JANE, mailbox=name, address=name), after=after * SECOND)
    assert [one.address for one in claim(site, NOON + timedelta(minutes=1), limit=2)] == ["a", "b"]
    assert [one.address for one in claim(site, NOON + timedelta(minutes=1), limit=2)] == ["c"]


def test_a_worker_skips_what_another_is_just_taking(postgres: PostgresServer) -> None:
    """On PostgreSQL; on SQLite one transaction writes at a time."""
    app = new_app(new_postgresql(postgres))
    site = site_of(app)
    for number in range(4):
        order(site, replace(TO_JANE, mailbox=str(number)))
    with site.database.engine.connect() as one, site.database.engine.connect() as other:
        mine, theirs = letters.claim(one, NOON, 2), letters.claim(other, NOON, 2)
        assert len({found.id for found in mine + theirs}) == 4
        assert letters.claim(other, NOON, 2) == []
    close(app)


def test_many_workers_claim_each_letter_once(site: Site) -> None:
    for number in range(40):
        order(site, replace(TO_JANE, mailbox=str(number)))
    everybody = Barrier(6)

    def work(_number: int) -> list[Letter]:
        everybody.wait(60)
        found: list[Letter] = []
        while some := claim(site, limit=3):
            found += some
        return found

    with ThreadPoolExecutor(6) as pool:
        claimed = [one.id for found in pool.map(work, range(6)) for one in found]
    assert len(claimed) == len(set(claimed)) == 40


def test_what_waits_too_long_is_counted(site: Site) -> None:
    order(site)
    assert site.database.read(letters.count_waiting, NOON) == 0
    assert site.database.read(letters.count_waiting, NOON + SECOND) == 1


# What is forgotten.


def test_a_request_is_remembered_as_long_as_any_limit_needs_it(site: Site) -> None:
    order(site)
    site.database.save(letters.forget_old, NOON + REMEMBERED)
    assert count(site, letter_request) == 1
    site.database.save(letters.forget_old, NOON + REMEMBERED + SECOND)
    assert (count(site, letter_request), count(site)) == (0, 1), "the letter itself waits on"
