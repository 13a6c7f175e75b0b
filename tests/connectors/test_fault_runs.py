"""Whatever a vendor does to our calls: after quiet and one comparison it holds what we hold, and was never told more.

It may hold more than we do only where somebody came back and it holds something newer, or does not say since when.

Each run is a walk of its own: people stop and come back, files say yes, things happen at the vendor, and calls go wrong
in every way of `Fault`. It runs for each `fake_<kind>.py` beside this.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from preferences.domain.acts import EventKind, ProviderEvent, provider_event
from preferences.domain.errors import TryLater
from preferences.domain.vocabulary import BLANKET, Status
from preferences.store import contact_state, cursors, feed
from preferences.sync.reconcile import backfill
from tests.connectors.fakes import Change, Fault
from tests.connectors.fault_runs import KINDS, STEPS, Run
from tests.support import add_contact


@pytest.mark.parametrize("can_lift", [False, True])
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", KINDS)
def test_after_quiet_and_one_comparison_both_sides_agree(
    run: Callable[..., Run], kind: str, seed: int, *, can_lift: bool
) -> None:
    walk = run(kind, seed, can_lift=can_lift)
    with time_machine.travel(datetime.now(UTC), tick=True) as clock:
        for _ in range(STEPS):
            walk.step()
            clock.shift(2.0)  # vendors say when in whole seconds
        walk.settle()


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("kind", KINDS)
def test_each_way_to_fail_alone_loses_nothing(run: Callable[..., Run], kind: str, fault: Fault) -> None:
    walk = run(kind)
    for _ in range(3):
        walk.somebody_stops()
    walk.fake.faults = [fault] * 2
    walk.pass_()
    walk.fake.faults.clear()
    walk.settle()


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_connector_is_told_what_stands_and_no_yes(run: Callable[..., Run], kind: str) -> None:
    walk = run(kind, can_lift=True)
    for _ in range(6):
        walk.somebody_stops()
    walk.somebody_comes_back()
    walk.a_file_says_yes()
    waits: list[float] = []
    walk.fake.faults = [Fault.BUSY, Fault.DOWN]
    told = backfill(walk.database, walk.connector, owner="me", progress=lambda _: None, sleep=waits.append)
    assert told == len(walk.held_here())
    assert all(change.stands for change in walk.fake.changes)
    there = {(who.value, ref) for who in walk.people for ref in walk.contract.topics.values()}
    assert {key for key in there if walk.fake.holds(*key)} == walk.held_here()
    assert len(waits) == 2
    assert waits[0] >= 2.0, "as long as Retry-After asked for"
    cursor = walk.database.read(cursors.find_cursor, walk.connector.name)
    assert cursor is not None
    assert cursor.pushed == told


@pytest.mark.parametrize("kind_of_event", [EventKind.COMPLAINT, EventKind.HARD_BOUNCE])
@pytest.mark.parametrize("kind", ["mailgun", "postmark", "sendgrid"])
def test_a_bounce_or_complaint_elsewhere_is_told_and_stands_for_no_wish(
    run: Callable[..., Run], kind: str, kind_of_event: EventKind
) -> None:
    walk = run(kind)
    who = walk.people[0]
    event = ProviderEvent(kind=kind_of_event, address=who, event_id="evt-1", occurred_at=datetime.now(UTC))
    walk.record(provider_event(event, "elsewhere"))
    walk.settle()
    assert walk.fake.holds(who.value, walk.contract.topics[BLANKET])
    (state,) = walk.database.read(contact_state.address_states, [add_contact(walk.services, who)])
    assert state.preferences == {}


def test_a_backfill_gives_up_on_a_vendor_that_stays_away(run: Callable[..., Run]) -> None:
    walk = run(KINDS[0])
    walk.somebody_stops()
    walk.fake.faults = [Fault.DOWN] * 50
    with pytest.raises(TryLater):
        backfill(walk.database, walk.connector, owner="me", progress=lambda _: None, sleep=lambda _: None)


def test_rows_there_that_map_to_nothing_stay_where_they_are(run: Callable[..., Run]) -> None:
    walk = run("sendgrid")
    walk.fake.happens(Change(walk.people[0].value, "asm:99"))
    walk.settle()
    assert walk.database.read(feed.head_seq) == 0
    assert walk.fake.rows.keys() == {(walk.people[0].value, "asm:99", "unsubscribe")}


def test_an_old_bounce_there_is_one_here(run: Callable[..., Run]) -> None:
    walk = run("sendgrid")
    walk.fake.at = (datetime.now(UTC) - timedelta(days=9)).timestamp
    walk.fake.happens(Change(walk.people[0].value, "global", "bounce"))
    walk.settle()
    (state,) = walk.database.read(contact_state.address_states, [add_contact(walk.services, walk.people[0])])
    assert [held.reason.value for held in state.suppressions] == ["hard_bounce"]
    assert not any(choice.status is Status.UNSUBSCRIBED for choice in state.preferences.values())
