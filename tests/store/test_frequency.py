"""The places of a week: nobody gets more than they asked for, however many senders ask at the same time."""

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


def cap(services: Services, name: str, per_week: int, *, topic: str = "product-news") -> UUID:
    """A contact who wants so many a week at the most."""
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


def take(
    services: Services, caps: dict[UUID, int], ref: str, *, topic: str = "product-news", now: datetime = NOON
) -> set[UUID]:
    return services.database.save(reserve, caps, channel=Channel.EMAIL, topic=topic, message_ref=ref, now=now)


def count(services: Services) -> int:
    return services.database.read(lambda read: read.execute(select(func.count(sending.c.at))).scalar_one())


def test_there_are_as_many_places_as_were_asked_for(services: Services) -> None:
    jane = cap(services, "jane", 2)
    assert [take(services, {jane: 2}, f"m-{number}") for number in range(4)] == [{jane}, {jane}, set(), set()]
    assert count(services) == 2


def test_of_twenty_senders_at_the_same_time_three_get_the_three_places(services: Services) -> None:
    jane = cap(services, "jane", 3)
    everybody = Barrier(20)

    def ask(number: int) -> set[UUID]:
        everybody.wait(60)
        return take(services, {jane: 3}, f"m-{number}")

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(ask, range(20)))
    assert answers.count({jane}) == 3
    assert answers.count(set()) == 17
    assert count(services) == 3


def test_senders_of_the_same_many_in_other_orders_do_not_wait_for_each_other_for_ever(services: Services) -> None:
    people = [cap(services, f"person-{number}", 5) for number in range(30)]
    everybody = Barrier(8)

    def ask(number: int) -> int:
        order = people[number:] + people[:number]
        everybody.wait(60)
        return len(take(services, dict.fromkeys(order if number % 2 else order[::-1], 5), f"m-{number}"))

    with ThreadPoolExecutor(8) as pool:
        granted = list(pool.map(ask, range(8)))
    assert sorted(granted) == [0, 0, 0, 30, 30, 30, 30, 30]


def test_caps_may_be_changed_while_places_are_taken(services: Services) -> None:
    names = [f"person-{number}" for number in range(10)]
    people = [cap(services, name, 5) for name in names]
    everybody = Barrier(6)

    def ask(number: int) -> int:
        everybody.wait(60)
        return len(take(services, dict.fromkeys(people, 5), f"m-{number}"))

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
        for one in [pool.submit(change, order) for order in (1, -1)]:
            one.result(60)
        assert [one.result(60) for one in asked] == [10] * 4


def test_nobody_takes_anybody_elses_place(services: Services) -> None:
    jane, john = cap(services, "jane", 1), cap(services, "john", 2)
    assert take(services, {jane: 1, john: 2}, "m-1") == {jane, john}
    assert take(services, {jane: 1, john: 2}, "m-2") == {john}
    assert take(services, {jane: 1, john: 2}, "m-3") == set()


def test_another_topic_has_places_of_its_own(services: Services) -> None:
    jane = cap(services, "jane", 1)
    cap(services, "jane", 1, topic="offers")
    assert take(services, {jane: 1}, "m-1") == take(services, {jane: 1}, "m-1", topic="offers") == {jane}
    assert take(services, {jane: 1}, "m-2") == take(services, {jane: 1}, "m-2", topic="offers") == set()


def test_the_same_mailing_takes_one_place_however_often_it_is_asked_about(services: Services) -> None:
    jane = cap(services, "jane", 2)
    assert [take(services, {jane: 2}, "m-1") for _ in range(3)] == [{jane}] * 3
    assert count(services) == 1


def test_the_same_mailing_asked_about_at_the_same_time_takes_one_place(services: Services) -> None:
    jane = cap(services, "jane", 2)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: take(services, {jane: 2}, "m-1"), range(8)))
    assert answers == [{jane}] * 8
    assert count(services) == 1


def test_after_seven_days_a_place_is_free_again_and_not_before(services: Services) -> None:
    jane = cap(services, "jane", 2)
    take(services, {jane: 2}, "m-1")
    take(services, {jane: 2}, "m-2", now=NOON + timedelta(days=3))
    assert take(services, {jane: 2}, "m-3", now=NOON + WEEK - timedelta(seconds=1)) == set()
    assert take(services, {jane: 2}, "m-3", now=NOON + WEEK) == {jane}
    assert take(services, {jane: 2}, "m-4", now=NOON + WEEK) == set(), "that of the third day is still taken"


def test_a_name_that_comes_back_in_another_week_takes_a_place_of_that_week(services: Services) -> None:
    jane = cap(services, "jane", 1)
    later = NOON + timedelta(days=8)
    take(services, {jane: 1}, "newsletter")
    assert take(services, {jane: 1}, "newsletter", now=later) == {jane}
    assert take(services, {jane: 1}, "offer", now=later) == set()


def test_what_no_cap_can_count_any_more_is_forgotten_and_nothing_else(services: Services) -> None:
    jane = cap(services, "jane", 2)
    take(services, {jane: 2}, "m-1")
    take(services, {jane: 2}, "m-2", now=NOON + timedelta(days=3))
    services.database.save(frequency.forget_old, NOON + WEEK + timedelta(seconds=1))
    assert count(services) == 1
    assert take(services, {jane: 2}, "m-3", now=NOON + WEEK + timedelta(seconds=1)) == {jane}
    assert take(services, {jane: 2}, "m-4", now=NOON + WEEK + timedelta(seconds=1)) == set()
