"""What takes an opt-out away: the person's own opt-in, and only where the vendor holds nothing newer at that moment.

For each `fake_<kind>.py` beside this, and each list of its mapping.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from preferences.connectors.base import Listed
from preferences.connectors.lifts import OPT_OUTS, may_lift
from preferences.domain.acts import EventKind
from preferences.domain.records import Act
from preferences.domain.vocabulary import BLANKET, Actor, Basis, Origin, Status, Verb
from preferences.store import cursors
from preferences.sync.push import Outcome
from tests.connectors.contract import push_of
from tests.connectors.fakes import Change
from tests.connectors.fault_runs import KINDS, Run
from tests.support import add_contact, email

NOW: Final = datetime(2026, 5, 31, 14, 0, 7, tzinfo=UTC)
TOLD: Final = {"resend": "told", "twilio": "told", "sparkpost": "manual"}
"""The word of a row that was told, where a vendor's fake keeps apart what happened there."""

LISTS: Final = [
    (kind, topic) for kind in KINDS for topic in ("product-news", "offers", BLANKET)
]  # each vendor's own test maps these three
DATED: Final = {
    "amazon_ses": 3,
    "brevo": 3,
    "mailchimp": 3,
    "mailgun": 3,
    "postmark": 3,
    "sendgrid": 1,
    "sparkpost": 3,
    "klaviyo": 0,
    "resend": 0,
    "twilio": 0,
}
"""From how many of the three lists of each vendor an opt-out can be lifted: only it says since when it holds one."""


def yes(one: Run, topic: str, *, at: datetime) -> None:
    """The person's own opt-in of another day, told by the company's system with a key that is trusted for it."""
    act = Act(
        verb=Verb.SUBSCRIBE,
        channel=one.people[0].channel,
        who=add_contact(one.services, one.people[0]),
        brand="default",
        topic=topic,
        basis=Basis.CONSENT,
        origin="api.shop",
        origin_ref=f"yes-{topic}-{at}",
        actor=Actor.RECIPIENT,
        occurred_at=at,
        trusted=True,
    )
    one.record(act)


def no(one: Run, topic: str, *, at: datetime) -> None:
    act = Act(
        verb=Verb.UNSUBSCRIBE,
        channel=one.people[0].channel,
        who=add_contact(one.services, one.people[0]),
        brand="default",
        topic=topic,
        origin=Origin.PAGE,
        actor=Actor.RECIPIENT,
        occurred_at=at,
    )
    one.stops.append(one.record(act))


def passes(one: Run) -> None:
    while one.pass_() is Outcome.DONE:
        pass


def come_back(one: Run, topic: str, at: datetime) -> None:
    """The opt-in of a topic; of everything it can only be an undo, which is said now."""
    if topic != BLANKET:
        yes(one, topic, at=at)
    else:
        one.somebody_comes_back()


@pytest.mark.parametrize(("kind", "topic"), LISTS)
def test_an_opt_out_that_a_vendor_holds_outlives_an_older_opt_in(
    run: Callable[..., Run], kind: str, topic: str
) -> None:
    """The vendor's report was lost; the opt-in of last week is told today."""
    one = run(kind, can_lift=True)
    who, list_ref = one.people[0].value, one.connector.settings.topics[topic]
    now = datetime.now(UTC)
    no(one, topic, at=now - timedelta(days=30))
    passes(one)
    assert one.fake.holds(who, list_ref)
    yesterday = (now - timedelta(days=1)).timestamp()
    ahead = (now + timedelta(days=1)).timestamp()
    one.fake.rows = dict.fromkeys(one.fake.rows, ahead if topic == BLANKET else yesterday)
    come_back(one, topic, now - timedelta(days=7))
    passes(one)
    assert one.fake.holds(who, list_ref)


@pytest.mark.parametrize(("kind", "topic"), LISTS)
def test_a_first_opt_in_takes_nothing_away_anywhere(run: Callable[..., Run], kind: str, topic: str) -> None:
    if topic == BLANKET:
        pytest.skip("nobody can say yes to everything")
    one = run(kind, can_lift=True)
    who, list_ref = one.people[0].value, one.connector.settings.topics[topic]
    word = TOLD.get(kind, "unsubscribe")
    one.fake.happens(Change(who, list_ref, word))
    one.fake.rows = dict.fromkeys(one.fake.rows, (datetime.now(UTC) - timedelta(days=90)).timestamp())
    asked = len(one.fake.asked)
    yes(one, topic, at=datetime.now(UTC))
    passes(one)
    assert one.fake.holds(who, list_ref)
    assert len(one.fake.asked) == asked


@pytest.mark.parametrize("kind", KINDS)
def test_an_older_opt_out_is_lifted_only_where_the_provider_dates_it(run: Callable[..., Run], kind: str) -> None:
    lifted = 0
    for topic in ("product-news", "offers", BLANKET):
        one = run(kind, can_lift=True)
        who, list_ref = one.people[0].value, one.connector.settings.topics[topic]
        now = datetime.now(UTC)
        no(one, topic, at=now - timedelta(days=30))
        passes(one)
        one.fake.rows = dict.fromkeys(one.fake.rows, (now - timedelta(days=29)).timestamp())
        come_back(one, topic, now - timedelta(days=7))
        passes(one)
        gone = not one.fake.holds(who, list_ref)
        assert gone == one.connector.lifts_from(list_ref)
        lifted += gone
    assert lifted == DATED[kind]


@pytest.mark.parametrize("kind", ["amazon_ses", "brevo", "mailchimp"])
def test_who_leaves_one_topic_and_returns_to_another_in_one_form_does_both(run: Callable[..., Run], kind: str) -> None:
    """These vendors keep one time for all that they know of somebody, and each call of ours moves it."""
    one = run(kind, can_lift=True)
    who, lists = one.people[0].value, one.connector.settings.topics
    now = datetime.now(UTC)
    no(one, "offers", at=now - timedelta(days=30))
    passes(one)
    one.fake.rows = dict.fromkeys(one.fake.rows, (now - timedelta(days=29)).timestamp())
    no(one, "product-news", at=now)
    yes(one, "offers", at=now)
    passes(one)
    assert one.fake.holds(who, lists["product-news"])
    assert not one.fake.holds(who, lists["offers"])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if DATED[kind]])
def test_what_is_newer_there_is_looked_for_within_a_minute(run: Callable[..., Run], kind: str) -> None:
    one = run(kind, can_lift=True)
    now = datetime.now(UTC)
    topic = next(name for name, ref in one.connector.settings.topics.items() if one.connector.lifts_from(ref))
    one.database.save(cursors.reconcile_at, one.connector.name, now + timedelta(days=1))
    no(one, topic, at=now - timedelta(days=30))
    passes(one)
    one.fake.rows = dict.fromkeys(one.fake.rows, (now + timedelta(days=1)).timestamp())
    come_back(one, topic, now - timedelta(days=7))
    passes(one)
    cursor = one.database.read(cursors.find_cursor, one.connector.name)
    assert cursor is not None
    assert cursor.reconcile_due_at is not None
    assert cursor.reconcile_due_at < now + timedelta(minutes=5)


def row(at: datetime | None, kind: EventKind = EventKind.UNSUBSCRIBE, *, list_ref: str = "list-17") -> Listed:
    return Listed(address=email("jane@example.com"), list_ref=list_ref, kind=kind, occurred_at=at)


BACK: Final = push_of("jane@example.com", list_ref="list-17", status=Status.SUBSCRIBED, since=NOW)


class TestMayLift:
    @pytest.mark.parametrize("seconds", [-1.1, -60, -86_400])
    def test_an_older_opt_out(self, seconds: float) -> None:
        assert may_lift(BACK, [row(NOW + timedelta(seconds=seconds))])

    @pytest.mark.parametrize("seconds", [0, 1, 86_400])
    def test_never_one_as_old_or_newer(self, seconds: float) -> None:
        assert not may_lift(BACK, [row(NOW + timedelta(seconds=seconds))])

    def test_never_one_in_the_same_second_where_a_vendor_writes_whole_seconds(self) -> None:
        back = push_of(
            "jane@example.com", list_ref="list-17", status=Status.SUBSCRIBED, since=NOW.replace(microsecond=5)
        )
        assert not may_lift(back, [row(NOW)])

    def test_never_one_without_a_time(self) -> None:
        assert not may_lift(BACK, [row(None)])

    @pytest.mark.parametrize("kind", [kind for kind in EventKind if kind not in OPT_OUTS])
    def test_never_what_is_no_wish(self, kind: EventKind) -> None:
        assert not may_lift(BACK, [row(NOW - timedelta(days=9), kind)])

    def test_nothing_where_nothing_stands(self) -> None:
        assert not may_lift(BACK, [])
        assert not may_lift(BACK, [row(NOW - timedelta(days=9), list_ref="list-18")])

    def test_an_undo_lifts_what_it_ends_and_nothing_older(self) -> None:
        undo = replace(BACK, undoes=NOW - timedelta(minutes=9))
        assert may_lift(undo, [row(NOW - timedelta(minutes=9))])
        assert may_lift(undo, [row(NOW - timedelta(minutes=10))]), "clocks differ by as much"
        assert not may_lift(undo, [row(NOW - timedelta(days=90))])

    def test_the_newest_of_several_counts(self) -> None:
        assert not may_lift(BACK, [row(NOW - timedelta(days=9)), row(NOW + timedelta(days=1))])
