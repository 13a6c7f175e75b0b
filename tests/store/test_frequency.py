"""Frequency limits under parallel senders."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from uuid import UUID

from sqlalchemy import func, select

from preferences.domain.records import Act
from preferences.domain.vocabulary import Actor, Channel, Origin, Verb
from preferences.ledger import record as ledger
from preferences.services import Services
from preferences.store import frequency
from preferences.store.frequency import reserve
from preferences.store.tables import sending
from tests.support import add_contact, email

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
WEEK = timedelta(days=7)


def with_limit(services: Services, name: str, per_week: int, *, topic: str = "product-news") -> UUID:
    """A contact with this frequency limit."""
    contact_id = add_contact(services, email(f"{name}@example.com"))
    act = Act(
        verb=Verb.CAP,
        channel=Channel.EMAIL,
        who=contact_id,
        brand="default",
        topic=topic,
        per_week=per_week,
        origin=Origin.ACCOUNT,
        actor=Actor.RECIPIENT,
        occurred_at=NOON,
        trusted=True,
    )
    services.database.write(ledger.record, [act], fingerprints=services.fingerprints, now=NOON)
    return contact_id


def ask_for(
    services: Services, limits: dict[UUID, int], ref: str, *, topic: str = "product-news", now: datetime = NOON
) -> set[UUID]:
    return services.database.save(reserve, limits, channel=Channel.EMAIL, topic=topic, message_ref=ref, now=now)


def count(services: Services) -> int:
    return services.database.read(lambda read: read.execute(select(func.count(sending.c.at))).scalar_one())


def test_reservations_stop_at_the_limit(services: Services) -> None:
    jane = with_limit(services, "jane", 2)
    assert [ask_for(services, {jane: 2}, f"m-{number}") for number in range(4)] == [{jane}, {jane}, set(), set()]
    assert count(services) == 2


def test_twenty_parallel_senders_get_three_reservations_of_three(services: Services) -> None:
    jane = with_limit(services, "jane", 3)
    everybody = Barrier(20)

    def ask(number: int) -> set[UUID]:
        everybody.wait(60)
        return ask_for(services, {jane: 3}, f"m-{number}")

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(20)))
    assert answers.count({jane}) == 3
    assert answers.count(set()) == 17
    assert count(services) == 3


def test_senders_of_the_same_contacts_in_other_orders_do_not_deadlock(services: Services) -> None:
    people = [with_limit(services, f"person-{number}", 5) for number in range(30)]
    everybody = Barrier(8)

    def ask(number: int) -> int:
        order = people[number:] + people[:number]
        everybody.wait(60)
        return len(ask_for(services, dict.fromkeys(order if number % 2 else order[::-1], 5), f"m-{number}"))

    with ThreadPoolExecutor(8) as pool:
        granted = list(pool.map(ask, range(8)))
    assert sorted(granted) == [0, 0, 0, 30, 30, 30, 30, 30]


def test_limits_may_change_during_reservations(services: Services) -> None:
    names = [f"person-{number}" for number in range(10)]
    people = [with_limit(services, name, 5) for name in names]
    everybody = Barrier(6)

    def ask(number: int) -> int:
        everybody.wait(60)
        return len(ask_for(services, dict.fromkeys(people, 5), f"m-{number}"))

    def change(order: int) -> None:
        acts = [
            Act(
                verb=Verb.CAP,
                channel=Channel.EMAIL,
                who=contact_id,
                brand="default",
                topic="product-news",
                per_week=5,
                origin=Origin.ACCOUNT,
                actor=Actor.RECIPIENT,
                occurred_at=NOON + timedelta(minutes=order + 2),
                trusted=True,
            )
            for contact_id in people[::order]
        ]
        everybody.wait(60)
        services.database.write(
            ledger.record, acts, fingerprints=services.fingerprints, now=NOON + timedelta(minutes=5)
        )

    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(ask, number) for number in range(4)]
        for changing in [pool.submit(change, order) for order in (1, -1)]:
            changing.result(60)
        assert [asking.result(60) for asking in asked] == [10] * 4


def test_contacts_have_separate_limits(services: Services) -> None:
    jane, john = with_limit(services, "jane", 1), with_limit(services, "john", 2)
    assert ask_for(services, {jane: 1, john: 2}, "m-1") == {jane, john}
    assert ask_for(services, {jane: 1, john: 2}, "m-2") == {john}
    assert ask_for(services, {jane: 1, john: 2}, "m-3") == set()


def test_topics_have_separate_limits(services: Services) -> None:
    jane = with_limit(services, "jane", 1)
    with_limit(services, "jane", 1, topic="offers")
    assert ask_for(services, {jane: 1}, "m-1") == ask_for(services, {jane: 1}, "m-1", topic="offers") == {jane}
    assert ask_for(services, {jane: 1}, "m-2") == ask_for(services, {jane: 1}, "m-2", topic="offers") == set()


def test_a_mailing_counts_once_however_often_it_asks(services: Services) -> None:
    jane = with_limit(services, "jane", 2)
    assert [ask_for(services, {jane: 2}, "m-1") for _ in range(3)] == [{jane}] * 3
    assert count(services) == 1


def test_parallel_requests_of_a_mailing_count_once(services: Services) -> None:
    jane = with_limit(services, "jane", 2)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask_for(services, {jane: 2}, "m-1"), range(8)))
    assert answers == [{jane}] * 8
    assert count(services) == 1


def test_a_message_counts_for_seven_days_and_no_longer(services: Services) -> None:
    jane = with_limit(services, "jane", 2)
    ask_for(services, {jane: 2}, "m-1")
    ask_for(services, {jane: 2}, "m-2", now=NOON + timedelta(days=3))
    assert ask_for(services, {jane: 2}, "m-3", now=NOON + WEEK - timedelta(seconds=1)) == set()
    assert ask_for(services, {jane: 2}, "m-3", now=NOON + WEEK) == {jane}
    assert ask_for(services, {jane: 2}, "m-4", now=NOON + WEEK) == set(), "that of the third day is still taken"


def test_a_mailing_of_an_earlier_name_counts_in_its_own_week(services: Services) -> None:
    jane = with_limit(services, "jane", 1)
    later = NOON + timedelta(days=8)
    ask_for(services, {jane: 1}, "newsletter")
    assert ask_for(services, {jane: 1}, "newsletter", now=later) == {jane}
    assert ask_for(services, {jane: 1}, "offer", now=later) == set()


def test_cleanup_removes_only_messages_that_no_limit_counts(services: Services) -> None:
    jane = with_limit(services, "jane", 2)
    ask_for(services, {jane: 2}, "m-1")
    ask_for(services, {jane: 2}, "m-2", now=NOON + timedelta(days=3))
    services.database.save(frequency.forget_old, NOON + WEEK + timedelta(seconds=1))
    assert count(services) == 1
    assert ask_for(services, {jane: 2}, "m-3", now=NOON + WEEK + timedelta(seconds=1)) == {jane}
    assert ask_for(services, {jane: 2}, "m-4", now=NOON + WEEK + timedelta(seconds=1)) == set()
