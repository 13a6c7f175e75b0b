"""One pass of one connector: every provider ends up with our truth, however it failed meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import pytest
import time_machine
from sqlalchemy import update

from preferences.connectors.base import Push
from preferences.domain import acts
from preferences.domain.acts import (
    EventKind,
    ImportedRow,
    ReportedAct,
    restore_address,
    retire_address,
)
from preferences.domain.errors import Misconfigured, Rejected, TryLater
from preferences.domain.records import Act, Entry
from preferences.domain.suppressions import lift, suppress_for_soft_bounces
from preferences.domain.vocabulary import (
    BLANKET,
    Actor,
    Basis,
    Channel,
    Origin,
    Purpose,
    Status,
    SuppressionReason,
    Verb,
    connector_origin,
)
from preferences.store import contacts, cursors
from preferences.store.cursors import LEASE, Cursor
from preferences.store.tables import connector_cursor
from preferences.sync.push import MAX_FAILURES, Outcome, run_once
from preferences.sync.worker import Worker
from tests.connectors.fake import BUSY_SECONDS, FakeProvider, Fault, Killed
from tests.support import add_contact, email
from tests.sync.desk import (
    BEN,
    EVERYTHING,
    JANE,
    MAILER,
    MAPPED,
    NEWS,
    NOW,
    OFFERS,
    ROSA,
    SENT,
    STOPPED,
    WITHOUT_BLANKET,
    Desk,
    a_row,
    in_blocks,
    stop_of,
)


class TestPass:
    def test_tells_the_provider_what_is_so_now_and_each_thing_once(self, desk: Desk) -> None:
        for _ in range(3):
            desk.undo(desk.stop(JANE, "product-news"))
        desk.stop(JANE, "product-news")
        desk.stop(JANE, "offers")
        desk.stop(ROSA)

        assert desk.pass_() is Outcome.DONE

        assert sorted(desk.provider.said) == [
            ("jane@example.com", NEWS, STOPPED),
            ("jane@example.com", OFFERS, STOPPED),
            ("rosa@example.com", EVERYTHING, STOPPED),
        ]

    def test_moves_on_only_after_the_push(self, desk: Desk) -> None:
        before = desk.cursor().position
        meanwhile: list[int] = []
        desk.provider.on_push = lambda: meanwhile.append(desk.cursor().position)
        desk.stop(JANE)
        desk.pass_()
        assert meanwhile == [before]
        assert desk.cursor().position == desk.head
        assert desk.cursor().last_success_at is not None

    def test_is_idle_the_second_time(self, desk: Desk) -> None:
        desk.stop(JANE)
        assert [desk.pass_(), desk.pass_()] == [Outcome.DONE, Outcome.IDLE]
        assert len(desk.provider.batches) == 1

    def test_tells_a_provider_nothing_that_it_told_us_and_tells_the_others(self, desk: Desk) -> None:
        crm = desk.connect(FakeProvider(), name="crm")
        desk.event(EventKind.UNSUBSCRIBE, JANE, "offers")
        desk.event(EventKind.HARD_BOUNCE, ROSA)
        desk.passes()
        desk.passes(crm)
        assert desk.provider.said == []
        assert desk.cursor().position == desk.head
        assert crm.provider.holds == {("jane@example.com", OFFERS), ("rosa@example.com", EVERYTHING)}

    def test_does_not_pass_on_what_changed_nothing(self, desk: Desk) -> None:
        desk.stop(JANE)
        desk.passes()
        assert not desk.stop(JANE).changed
        assert not desk.event(EventKind.UNSUBSCRIBE, JANE, by="crm", at=NOW).changed
        desk.passes()
        assert len(desk.provider.batches) == 1
        assert desk.cursor().position == desk.head

    def test_takes_a_long_ledger_block_by_block_in_the_provider_s_batches(self, desk: Desk) -> None:
        people = [email(f"person{number}@example.com") for number in range(1_203)]
        for block in in_blocks(people, 401):
            desk.record(*(stop_of(address) for address in block))
        small = desk.connect(FakeProvider(), name="small", batch_size=100)
        rewind(desk, "small")

        desk.passes()
        desk.passes(small)

        expected = {(address.value, EVERYTHING) for address in people}
        assert desk.provider.holds == small.provider.holds == expected
        assert len(desk.provider.told) == len(small.provider.told) == len(people)
        assert max(map(len, desk.provider.batches)) == 500
        assert max(map(len, small.provider.batches)) == 100

    def test_keeps_the_brands_apart(self, desk: Desk) -> None:
        other = desk.connect(FakeProvider(), name="other", brand="other")
        desk.stop(JANE, brand="other")
        desk.stop(ROSA)
        desk.passes()
        desk.passes(other)
        assert desk.provider.said == [("rosa@example.com", EVERYTHING, STOPPED)]
        assert other.provider.said == [("jane@example.com", EVERYTHING, STOPPED)]

    def test_a_new_connector_starts_at_the_head_and_a_comparison_adds_the_rest(self, desk: Desk) -> None:
        desk.stop(JANE)
        desk.undo(desk.stop(BEN))
        new = desk.connect(FakeProvider(), name="new")
        assert desk.cursor("new").position == desk.head
        assert desk.pass_(new) is Outcome.IDLE

        desk.stop(ROSA)
        desk.database.save(cursors.start, "new")
        desk.passes(new)
        assert new.provider.said == [("rosa@example.com", EVERYTHING, STOPPED)]

        assert desk.reconcile(new).count == 1
        assert new.provider.holds == {("rosa@example.com", EVERYTHING), ("jane@example.com", EVERYTHING)}
        assert new.provider.returns == []


def rewind(desk: Desk, connector: str) -> None:
    """Let a connector read the ledger from its beginning."""
    desk.database.save(
        lambda save: save.execute(
            update(connector_cursor).where(connector_cursor.c.connector == connector).values(position=0)
        )
    )


class TestReturn:
    @pytest.fixture
    def desk(self, sqlite_desk: Desk) -> Desk:
        """What is told does not depend on the engine."""
        return sqlite_desk

    def test_the_person_s_own_undo_is_told(self, desk: Desk) -> None:
        entry = desk.stop(JANE, "offers")
        desk.stop(JANE, "product-news")
        desk.passes()
        back = desk.undo(entry)
        desk.passes()
        assert desk.provider.said[2:] == [("jane@example.com", NEWS, STOPPED), ("jane@example.com", OFFERS, SENT)]
        assert desk.provider.told[-1].entry == back.seq
        assert desk.provider.holds == {("jane@example.com", NEWS)}

    def test_a_blanket_opt_in_lifts_on_each_list_but_those_still_opted_out(self, desk: Desk) -> None:
        narrow = desk.connect(FakeProvider(), WITHOUT_BLANKET, name="narrow")
        desk.stop(JANE, "offers")
        entry = desk.stop(JANE)
        desk.passes(narrow)
        assert narrow.provider.holds == {("jane@example.com", NEWS), ("jane@example.com", OFFERS)}
        desk.undo(entry)
        desk.passes(narrow)
        assert narrow.provider.holds == {("jane@example.com", OFFERS)}

    def test_is_not_told_to_a_provider_that_has_no_word_for_it(self, desk: Desk) -> None:
        deaf = desk.connect(FakeProvider(), name="deaf", can_lift=False)
        entry = desk.stop(JANE)
        desk.passes(deaf)
        desk.undo(entry)
        desk.passes(deaf)
        assert deaf.provider.returns == []
        assert deaf.provider.holds == {("jane@example.com", EVERYTHING)}

    @pytest.mark.parametrize(
        ("origin", "actor"),
        [(Origin.IMPORT, Actor.STAFF), (connector_origin("crm"), Actor.PROVIDER), (Origin.PAGE, Actor.RECIPIENT)],
    )
    def test_a_yes_from_a_door_that_is_not_trusted_for_it_is_not_told(
        self, desk: Desk, origin: str, actor: Actor
    ) -> None:
        yes = Act(
            verb=Verb.SUBSCRIBE,
            channel=Channel.EMAIL,
            who=JANE,
            brand="default",
            topic="offers",
            basis=Basis.CONSENT,
            origin=origin,
            actor=actor,
            occurred_at=NOW,
        )
        desk.provider.add(a_row(JANE, OFFERS))
        (entry,) = desk.record(yes)
        assert entry.changed
        desk.passes()
        assert desk.provider.said == []
        assert desk.provider.holds == {("jane@example.com", OFFERS)}

    def test_an_imported_yes_is_not_told_and_does_not_undo_a_no(self, desk: Desk) -> None:
        row = ImportedRow(
            address=JANE,
            verb=Verb.SUBSCRIBE,
            brand="default",
            topic="offers",
            reason=None,
            basis=Basis.CONSENT,
            occurred_at=datetime.now(UTC),
            origin_ref="line-1",
            evidence={},
        )
        desk.stop(JANE, "offers")
        desk.passes()
        desk.record(acts.imported(row))
        desk.passes()
        assert desk.provider.returns == []
        assert desk.status(JANE, "offers") is Status.UNSUBSCRIBED

    def test_is_not_told_while_the_address_is_suppressed(self, desk: Desk) -> None:
        entry = desk.stop(JANE)
        desk.event(EventKind.COMPLAINT, JANE, by="crm")
        desk.undo(entry)
        desk.passes()
        assert [(push.list_ref, push.status, push.reason) for push in desk.provider.told] == [
            (EVERYTHING, Status.UNSUBSCRIBED, SuppressionReason.COMPLAINT)
        ]

    def test_is_told_while_soft_bounces_suppress_the_address(self, desk: Desk) -> None:
        """No provider is told of these, and nothing would tell the return later, when they have passed."""
        entry = desk.stop(JANE)
        desk.passes()
        desk.undo(entry)
        desk.record(suppress_for_soft_bounces(JANE, origin="connector.mailer", now=datetime.now(UTC)))
        desk.passes()
        assert [push.address for push in desk.provider.returns] == [JANE]
        assert desk.provider.holds == set()

    def test_is_not_told_when_the_person_has_left_again_meanwhile(self, desk: Desk) -> None:
        desk.undo(desk.stop(JANE, "offers"))
        desk.stop(JANE, "offers")
        desk.passes()
        assert desk.provider.said == [("jane@example.com", OFFERS, STOPPED)]

    def test_a_pass_that_is_repeated_tells_it_again(self, desk: Desk, clock: time_machine.Traveller) -> None:
        entry = desk.stop(JANE)
        desk.passes()
        desk.undo(entry)
        desk.provider.faults.append(Fault.DOWN)
        assert desk.pass_() is Outcome.POSTPONED
        clock.shift(10)
        desk.passes()
        assert desk.provider.holds == set()

    def test_of_one_brand_is_not_hidden_by_that_of_another(self, desk: Desk) -> None:
        other = desk.connect(FakeProvider(), name="other", brand="other")
        here, there = desk.stop(JANE), desk.stop(JANE, brand="other")
        desk.passes()
        desk.passes(other)
        desk.undo(here)
        desk.undo(there)
        desk.passes()
        desk.passes(other)
        assert desk.provider.holds == other.provider.holds == set()

    def test_to_another_brand_is_none_of_this_brand_s_business(self, desk: Desk) -> None:
        desk.provider.add(a_row(JANE, EVERYTHING))
        desk.undo(desk.stop(JANE, brand="other"))
        desk.passes()
        assert desk.provider.said == []

    def test_no_comparison_ever_tells_of_one(self, desk: Desk) -> None:
        entry = desk.stop(JANE)
        desk.passes()
        desk.undo(entry)
        desk.provider.faults.append(Fault.LOSSY)
        desk.passes()
        told = len(desk.provider.told)
        for _ in range(3):
            desk.reconcile()
        assert len(desk.provider.told) == told
        assert desk.provider.holds == {("jane@example.com", EVERYTHING)}
        assert desk.status(JANE) is not Status.UNSUBSCRIBED


JANUARY, OCTOBER = datetime(2026, 1, 15, 9, tzinfo=UTC), datetime(2026, 10, 3, 9, tzinfo=UTC)


class TestNewerThere:
    """A provider may hold an opt-out newer than the opt-in, whose report was lost, and lift whatever we say."""

    @pytest.fixture(autouse=True)
    def later(self) -> Iterator[time_machine.Traveller]:
        with time_machine.travel(datetime(2026, 11, 20, 9, tzinfo=UTC), tick=True) as traveller:
            yield traveller

    @pytest.fixture
    def desk(self, desk: Desk, later: time_machine.Traveller) -> Desk:
        desk.provider.compares = False
        return desk

    def told_yes(self, desk: Desk, at: datetime, topic: str = "offers") -> Entry:
        """An opt-in of another day, told by a system whose key has `returns`."""
        told = ReportedAct(
            address=JANE,
            verb=Verb.SUBSCRIBE,
            origin_ref=f"yes-{at}",
            brand="default",
            topic=topic,
            basis=Basis.CONSENT,
            occurred_at=at,
        )
        return desk.record(acts.reported(told, "shop", trusted=True))[0]

    def test_a_first_opt_in_leaves_a_newer_opt_out_that_a_comparison_records(self, desk: Desk) -> None:
        desk.provider.add(a_row(JANE, OFFERS, at=OCTOBER))
        self.told_yes(desk, JANUARY)
        desk.passes()
        assert desk.provider.told == []
        desk.reconcile()
        assert desk.provider.holds == {("jane@example.com", OFFERS)}
        assert desk.status(JANE, "offers") is Status.UNSUBSCRIBED

    @pytest.mark.parametrize("topics", [MAPPED, WITHOUT_BLANKET])
    def test_an_older_opt_in_leaves_a_newer_opt_out_that_counts_here_too(
        self, desk: Desk, later: time_machine.Traveller, topics: dict[str, str]
    ) -> None:
        crm = desk.connect(FakeProvider(), topics, name="crm")
        crm.provider.compares = False
        stop = stop_of(JANE, "offers")
        desk.record(replace(stop, occurred_at=JANUARY - timedelta(days=9)))
        desk.passes(crm)
        crm.provider.add(a_row(JANE, OFFERS, at=OCTOBER))
        desk.database.save(cursors.reconcile_at, "crm", datetime.now(UTC) + timedelta(days=1))
        assert self.told_yes(desk, JANUARY).changed
        desk.passes(crm)
        assert crm.provider.returns == []
        assert crm.provider.holds == {("jane@example.com", OFFERS)}

        later.shift(timedelta(minutes=2))
        worker = Worker(desk.database, [crm], desk.services.fingerprints)
        worker.pass_over_all()
        assert crm.provider.holds == {("jane@example.com", OFFERS)}
        assert desk.status(JANE, "offers") is Status.UNSUBSCRIBED

    def test_a_newer_return_is_told_with_the_time_when_it_was_said(self, desk: Desk) -> None:
        desk.record(replace(stop_of(JANE, "offers"), occurred_at=JANUARY))
        desk.passes()
        self.told_yes(desk, OCTOBER)
        desk.passes()
        assert [push.since for push in desk.provider.returns] == [OCTOBER]
        assert desk.provider.holds == set()

    @pytest.mark.parametrize("kind", [EventKind.HARD_BOUNCE, EventKind.COMPLAINT])
    def test_a_bounce_or_complaint_there_is_no_wish_to_lift(self, desk: Desk, kind: EventKind) -> None:
        desk.record(replace(stop_of(JANE, "offers"), occurred_at=JANUARY))
        desk.passes()
        desk.provider.add(a_row(JANE, OFFERS, kind, at=JANUARY))
        self.told_yes(desk, OCTOBER)
        desk.passes()
        assert list(desk.provider.rows) == [(JANE, OFFERS, kind)]
        cursor = desk.cursor()
        assert cursor.reconcile_due_at is not None
        assert cursor.reconcile_due_at < datetime.now(UTC) + timedelta(minutes=2), "it is looked at soon"

    def test_what_does_not_say_when_is_never_lifted(self, desk: Desk) -> None:
        desk.record(replace(stop_of(JANE, "offers"), occurred_at=JANUARY))
        desk.passes()
        desk.provider.add(a_row(JANE, OFFERS, at=None))
        self.told_yes(desk, OCTOBER)
        desk.passes()
        assert desk.provider.returns == []

    def test_whoever_leaves_again_while_others_are_told_is_not_let_back(self, desk: Desk) -> None:
        entry = desk.stop(JANE, "offers")
        desk.passes()
        desk.undo(entry)
        desk.stop(ROSA)

        def leaves_again() -> None:
            desk.provider.on_push = lambda: None
            desk.stop(JANE, "offers")

        desk.provider.on_push = leaves_again
        desk.passes()
        assert desk.provider.returns == []
        assert ("jane@example.com", OFFERS) in desk.provider.holds

    def test_an_undo_leaves_an_opt_out_older_than_the_one_it_ends(self, desk: Desk) -> None:
        """The report of January was lost; the provider keeps its own time for whoever leaves twice."""
        entry = desk.stop(JANE, "offers")
        desk.passes()
        desk.provider.rows.clear()
        desk.provider.add(a_row(JANE, OFFERS, at=JANUARY))
        desk.undo(entry)
        desk.passes()
        assert desk.provider.returns == []
        assert desk.provider.holds == {("jane@example.com", OFFERS)}

    def test_a_return_that_fails_keeps_no_opt_out_back(self, desk: Desk) -> None:
        both = desk.connect(FakeProvider(), name="both")
        both.dates_change_together = True
        desk.record(replace(stop_of(JANE, "offers"), occurred_at=JANUARY))
        desk.passes(both)
        self.told_yes(desk, OCTOBER)
        desk.stop(JANE, "product-news")
        both.provider.list_faults.append(Fault.DOWN)
        assert desk.pass_(both) is Outcome.POSTPONED
        assert ("jane@example.com", NEWS) in both.provider.holds


FAILURES: Final = [TryLater("answer 503"), Misconfigured("answer 403: check address, key and mapping"), Rejected("no")]


class TestFailingReturn:
    """What is taken away at a provider, and fails there, holds no opt-out back: not in its block, and not behind it."""

    taken: list[Push]

    @pytest.fixture(params=["held", "push", "take_off"])
    def fails(self, request: pytest.FixtureRequest, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
        """With what the call that takes something away of Jane's fails: as long as there is anything in the list."""
        failures: list[Exception] = []
        connector, call, self.taken = desk.connector, request.param, []
        connector.taken_off = frozenset({SuppressionReason.HARD_BOUNCE})
        works: Any = {"held": connector.held, "push": connector.push, "take_off": self.taken.append}[call]

        def called(given: Any) -> Any:
            if failures and (call != "push" or any(push.is_lift for push in given)):
                raise failures[0]
            return works(given)

        monkeypatch.setattr(connector, call, called)
        if call == "take_off":
            self.bounce_and_lift(desk)
        else:
            entry = desk.stop(JANE, "offers")
            desk.passes()
            desk.undo(entry)
        return failures

    def bounce_and_lift(self, desk: Desk) -> None:
        now = datetime.now(UTC)
        desk.event(EventKind.HARD_BOUNCE, JANE, at=now - timedelta(hours=1))
        desk.record(
            lift(
                JANE,
                SuppressionReason.HARD_BOUNCE,
                because="She wrote.",
                actor=Actor.STAFF,
                origin="command",
                decided_at=now,
            )
        )

    def is_told(self, desk: Desk) -> bool:
        """Whether the return has arrived."""
        return bool(self.taken) or bool(desk.provider.lifted)

    @pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
    def test_an_opt_out_of_the_same_block_is_told(self, desk: Desk, fails: list[Exception], failure: Exception) -> None:
        fails.append(failure)
        desk.stop(ROSA)
        desk.pass_()
        assert ("rosa@example.com", EVERYTHING) in desk.provider.holds
        assert not desk.cursor().paused_because

    @pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
    def test_an_opt_out_that_comes_later_is_told(
        self, desk: Desk, fails: list[Exception], failure: Exception, clock: time_machine.Traveller
    ) -> None:
        fails.append(failure)
        desk.pass_()
        desk.stop(ROSA)
        clock.shift(timedelta(seconds=2))
        desk.pass_()
        assert ("rosa@example.com", EVERYTHING) in desk.provider.holds

    @pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
    def test_it_is_never_waited_for_without_end(
        self, desk: Desk, fails: list[Exception], failure: Exception, clock: time_machine.Traveller
    ) -> None:
        fails.append(failure)
        for _ in range(MAX_FAILURES + 1):
            desk.pass_()
            clock.shift(timedelta(minutes=6))
        assert desk.cursor().position == desk.head
        assert desk.parked == 1

    @pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
    def test_it_is_told_by_the_next_comparison_once_it_can_be(
        self, desk: Desk, fails: list[Exception], failure: Exception, clock: time_machine.Traveller
    ) -> None:
        fails.append(failure)
        for _ in range(MAX_FAILURES + 1):
            desk.pass_()
            clock.shift(timedelta(minutes=6))
        desk.reconcile()
        assert (self.is_told(desk), desk.parked) == (False, 1)
        fails.clear()
        desk.reconcile()
        assert self.is_told(desk)
        assert desk.parked == 0

    @pytest.mark.parametrize("failure", FAILURES[1:], ids=lambda failure: type(failure).__name__)
    def test_a_comparison_tells_an_opt_out_all_the_same(
        self, desk: Desk, fails: list[Exception], failure: Exception
    ) -> None:
        fails.append(failure)
        desk.pass_()
        desk.stop(ROSA)
        desk.reconcile()
        assert ("rosa@example.com", EVERYTHING) in desk.provider.holds

    @pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
    def test_an_opt_out_whose_place_a_taken_off_bounce_held_is_told_again(
        self, desk: Desk, failure: Exception, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Half of it is done before the call fails: at such a vendor the bounce was the only row of the address."""

        def half(_push: Push) -> None:
            desk.provider.rows.clear()
            raise failure

        desk.connector.taken_off = frozenset({SuppressionReason.HARD_BOUNCE})
        monkeypatch.setattr(desk.connector, "take_off", half)
        desk.stop(JANE)
        self.bounce_and_lift(desk)
        desk.pass_()
        assert desk.provider.holds == {("jane@example.com", EVERYTHING)}


class TestOwnBusiness:
    """What is heeded here and told to nobody: pauses, caps, purposes. And what is said of one address alone."""

    def test_a_pause_a_cap_and_a_purpose_are_told_to_no_provider(self, desk: Desk) -> None:
        desk.stop(JANE, "offers")
        desk.passes()
        told = len(desk.provider.batches)
        desk.choose(Verb.PAUSE, JANE, until=NOW + timedelta(days=900))
        desk.choose(Verb.CAP, JANE, per_week=1)
        for purpose in Purpose:
            desk.choose(Verb.UNSUBSCRIBE, JANE, purpose.value)
        desk.passes()
        assert desk.cursor().position == desk.head
        assert len(desk.provider.batches) == told
        assert desk.compare().count == 0

    @pytest.mark.parametrize("topics", [MAPPED, WITHOUT_BLANKET])
    def test_none_of_them_is_a_return(self, desk: Desk, topics: dict[str, str]) -> None:
        connector = desk.connect(FakeProvider(), topics, name="other")
        desk.stop(JANE)
        desk.passes(connector)
        held = connector.provider.holds
        desk.choose(Verb.PAUSE, JANE, until=NOW + timedelta(days=900))
        desk.choose(Verb.PAUSE, JANE, until=None)
        desk.choose(Verb.CAP, JANE, per_week=1)
        desk.choose(Verb.CAP, JANE, per_week=None)
        for purpose in Purpose:
            desk.choose(Verb.SUBSCRIBE, JANE, purpose.value)
        desk.passes(connector)
        assert connector.provider.returns == []
        assert connector.provider.holds == held != set()

    def test_a_no_that_comes_with_a_pause_is_told(self, desk: Desk) -> None:
        desk.choose(Verb.PAUSE, JANE, until=NOW + timedelta(days=900))
        desk.stop(JANE, "offers")
        desk.choose(Verb.CAP, JANE, "offers", per_week=1)
        desk.passes()
        assert desk.provider.said == [("jane@example.com", OFFERS, STOPPED)]

    def test_an_address_that_was_replaced_is_told_like_any_suppression(self, desk: Desk) -> None:
        self.two_addresses(desk)
        desk.record(retire_address(JANE, datetime.now(UTC), {}))
        desk.passes()
        assert desk.provider.said == [("jane@example.com", EVERYTHING, STOPPED)]
        assert [push.reason for push in desk.provider.told] == [SuppressionReason.REPLACED]
        assert desk.compare().count == 0

    def test_an_address_that_is_taken_back_returns_alone(self, desk: Desk) -> None:
        self.two_addresses(desk)
        desk.record(retire_address(JANE, datetime.now(UTC), {}))
        desk.passes()
        desk.provider.add(a_row(ROSA, EVERYTHING, at=NOW - timedelta(days=900)))
        desk.record(restore_address(JANE, datetime.now(UTC), {}))
        desk.passes()
        assert [(push.address, push.list_ref) for push in desk.provider.returns] == [(JANE, EVERYTHING)]
        assert desk.provider.holds == {("rosa@example.com", EVERYTHING)}

    def test_a_restored_address_lifts_no_opt_out_from_before_it_was_retired(self, desk: Desk) -> None:
        """It is no opt-in. Most providers keep the row that they have, and its time."""
        self.two_addresses(desk)
        desk.record(retire_address(JANE, datetime.now(UTC), {}))
        desk.passes()
        desk.provider.add(a_row(JANE, EVERYTHING, at=datetime.now(UTC) - timedelta(days=2)))
        desk.record(restore_address(JANE, datetime.now(UTC), {}))
        desk.passes()
        assert desk.provider.returns == []
        assert desk.provider.holds == {("jane@example.com", EVERYTHING)}
        desk.reconcile()
        assert (desk.entries()[-1].verb, desk.entries()[-1].changed) == (Verb.UNSUBSCRIBE, True)

    def test_an_address_never_retired_here_lifts_nothing_when_restored(self, desk: Desk) -> None:
        self.two_addresses(desk)
        desk.record(retire_address(ROSA, datetime.now(UTC), {}))
        desk.passes()
        desk.provider.add(a_row(JANE, EVERYTHING, at=datetime.now(UTC) - timedelta(seconds=1)))
        desk.record(restore_address(JANE, datetime.now(UTC), {}))
        desk.passes()
        assert desk.provider.returns == []

    def test_an_opt_in_still_lifts_what_is_older_after_an_address_is_restored(self, desk: Desk) -> None:
        contact_id = self.two_addresses(desk)
        stop = desk.choose(Verb.UNSUBSCRIBE, contact_id, BLANKET)
        desk.passes()
        desk.provider.add(a_row(JANE, EVERYTHING, at=stop.recorded_at))
        desk.choose(Verb.SUBSCRIBE, contact_id, BLANKET)
        desk.record(retire_address(JANE, datetime.now(UTC) + timedelta(hours=1), {}))
        desk.record(restore_address(JANE, datetime.now(UTC) + timedelta(hours=2), {}))
        desk.passes()
        assert desk.provider.holds == set()
        assert len({(push.address, push.list_ref) for push in desk.provider.returns}) == len(desk.provider.returns)

    def test_a_restored_address_under_a_blanket_opt_out_is_not_lifted(self, desk: Desk) -> None:
        contact_id = self.two_addresses(desk)
        desk.record(retire_address(JANE, datetime.now(UTC), {}))
        desk.choose(Verb.UNSUBSCRIBE, contact_id, BLANKET)
        desk.passes()
        desk.record(restore_address(JANE, datetime.now(UTC), {}))
        desk.passes()
        assert desk.provider.returns == []
        assert desk.provider.holds == {("jane@example.com", EVERYTHING), ("rosa@example.com", EVERYTHING)}

    def test_a_return_of_the_person_counts_for_each_of_their_addresses(self, desk: Desk) -> None:
        contact_id = self.two_addresses(desk)
        stop = desk.choose(Verb.UNSUBSCRIBE, contact_id, "offers")
        desk.passes()
        assert desk.provider.holds == {("jane@example.com", OFFERS), ("rosa@example.com", OFFERS)}
        desk.undo(stop)
        desk.passes()
        assert desk.provider.holds == set()

    def test_an_opt_in_to_a_topic_under_a_blanket_opt_out_keeps_the_blanket(self, desk: Desk) -> None:
        """The safe direction; docs/operator.md says so."""
        desk.stop(JANE)
        desk.passes()
        desk.choose(Verb.SUBSCRIBE, JANE, "offers")
        desk.passes()
        assert ("jane@example.com", EVERYTHING) in desk.provider.holds

    def two_addresses(self, desk: Desk) -> UUID:
        """Jane, who is rosa@example.com as well."""
        contact_id = add_contact(desk.services, JANE)
        desk.database.write(contacts.attach, contact_id, ROSA, desk.services.fingerprints, datetime.now(UTC))
        return contact_id


class TestFailure:
    @pytest.mark.parametrize("fault", [Fault.DOWN, Fault.HALF, Fault.LOST_ANSWER])
    def test_the_provider_is_left_alone_for_a_while_and_the_position_stays(
        self, desk: Desk, clock: time_machine.Traveller, fault: Fault
    ) -> None:
        before = desk.cursor().position
        desk.stop(JANE)
        desk.stop(ROSA)
        desk.provider.faults.append(fault)
        clock.move_to(
            datetime.now(UTC), tick=False
        )  # the wait is shorter than a slow machine may take for the next line

        assert desk.pass_() is Outcome.POSTPONED
        cursor = desk.cursor()
        assert (cursor.position, cursor.failures) == (before, 1)
        assert cursor.last_error in {"answer 503", "ReadTimeout"}
        assert [desk.pass_(), len(desk.provider.batches)] == [Outcome.IDLE, 1]

        clock.shift(1.1)
        assert desk.pass_() is Outcome.DONE
        assert desk.provider.holds == {("jane@example.com", EVERYTHING), ("rosa@example.com", EVERYTHING)}
        assert (desk.cursor().failures, desk.cursor().last_error) == (0, None)

    def test_the_wait_that_the_provider_asks_for_is_kept(self, desk: Desk, clock: time_machine.Traveller) -> None:
        desk.stop(JANE)
        desk.provider.faults.append(Fault.BUSY)
        assert desk.pass_() is Outcome.POSTPONED
        clock.shift(BUSY_SECONDS - 5)
        assert desk.pass_() is Outcome.IDLE
        clock.shift(6)
        assert desk.pass_() is Outcome.DONE

    def test_each_further_failure_doubles_the_wait(self, desk: Desk, clock: time_machine.Traveller) -> None:
        desk.stop(JANE)
        waits = []
        for _ in range(6):
            desk.provider.faults.append(Fault.DOWN)
            now = datetime.now(UTC)
            desk.pass_()
            due_at = desk.cursor().due_at
            assert due_at is not None
            waits.append((due_at - now).total_seconds())
            clock.move_to(due_at)
        for number, wait in enumerate(waits):
            assert 0.5 * 2**number <= wait <= 2**number + 0.1

    def test_waits_are_spread(self, desk: Desk) -> None:
        desk.stop(JANE)
        waits = []
        for _ in range(10):
            desk.provider.faults.append(Fault.DOWN)
            desk.database.save(cursors.resume, desk.connector.name)
            before = datetime.now(UTC)
            desk.pass_()
            waits.append(((desk.cursor().due_at or before) - before).total_seconds())
        assert max(waits) - min(waits) > 0.1

    def test_what_somebody_must_mend_stops_it_until_somebody_says_so(
        self, desk: Desk, clock: time_machine.Traveller
    ) -> None:
        before = desk.cursor().position
        desk.stop(JANE)
        desk.provider.faults.append(Fault.WRONG_KEY)
        assert desk.pass_() is Outcome.PAUSED
        assert desk.cursor().paused_because == "answer 401: check address, key and mapping"
        clock.shift(timedelta(days=3))
        assert desk.pass_() is Outcome.IDLE
        assert (desk.cursor().position, len(desk.provider.batches)) == (before, 1)

        desk.database.save(cursors.resume, MAILER)
        assert desk.pass_() is Outcome.DONE
        assert desk.provider.holds == {("jane@example.com", EVERYTHING)}

    def test_a_contact_that_is_named_is_parked_and_the_others_go_on(self, desk: Desk) -> None:
        for address in (JANE, ROSA, BEN):
            desk.stop(address)
        desk.provider.refused = {ROSA}
        assert desk.pass_() is Outcome.DONE
        assert desk.provider.holds == {("jane@example.com", EVERYTHING), ("ben@example.com", EVERYTHING)}
        assert (desk.parked, len(desk.provider.batches)) == (1, 1)
        assert desk.cursor().position == desk.head

    def test_a_contact_for_which_the_batch_is_refused_is_found_by_halving(self, desk: Desk) -> None:
        people = [email(f"person{number}@example.com") for number in range(100)]
        desk.record(*(stop_of(address) for address in people))
        desk.provider.refused, desk.provider.refuses_whole = {people[41]}, True

        assert desk.pass_() is Outcome.DONE

        assert desk.provider.holds == {(one.value, EVERYTHING) for one in people if one != people[41]}
        assert desk.parked == 1
        assert len(desk.provider.batches) < 20
        assert desk.cursor().position == desk.head

    @pytest.mark.parametrize("refuses_whole", [True, False])
    def test_a_contact_that_is_refused_on_two_lists_is_parked_once(self, desk: Desk, refuses_whole: bool) -> None:
        desk.stop(JANE, "offers")
        desk.stop(JANE, "product-news")
        desk.stop(ROSA, "offers")
        desk.provider.refused, desk.provider.refuses_whole = {JANE}, refuses_whole
        assert desk.pass_() is Outcome.DONE
        assert desk.parked == 1
        assert desk.provider.holds == {("rosa@example.com", OFFERS)}

    def test_everybody_may_be_refused(self, desk: Desk) -> None:
        desk.record(*(stop_of(address) for address in (JANE, ROSA, BEN)))
        desk.provider.refused, desk.provider.refuses_whole = {JANE, ROSA, BEN}, True
        assert [desk.pass_(), desk.pass_()] == [Outcome.DONE, Outcome.IDLE]
        assert (desk.parked, desk.provider.holds) == (3, set())

    def test_who_was_refused_is_told_again_by_the_next_comparison(self, desk: Desk) -> None:
        desk.stop(JANE)
        desk.provider.refused = {JANE}
        desk.passes()
        desk.provider.refused = set()
        assert desk.parked == 1
        assert [desk.reconcile().count, desk.reconcile().count] == [1, 0]
        assert desk.provider.holds == {("jane@example.com", EVERYTHING)}
        assert desk.parked == 0

    def test_on_a_list_that_shows_nothing_only_refused_contacts_are_retried(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(type(desk.connector), "can_compare", lambda _self, _push: False)
        desk.stop(JANE)
        desk.stop(ROSA)
        desk.provider.refused = {JANE}
        desk.passes()
        told = len(desk.provider.told)
        assert (desk.reconcile().count, desk.parked) == (1, 1)
        desk.provider.refused = set()
        assert [desk.reconcile().count, desk.reconcile().count] == [1, 0]
        assert [push.address for push in desk.provider.told[told:]] == [JANE, JANE]
        assert desk.parked == 0


class TestLease:
    def test_two_workers_never_push_the_same_pass(self, desk: Desk) -> None:
        desk.stop(JANE)
        pushing, go_on = threading.Event(), threading.Event()

        def hold() -> None:
            pushing.set()
            assert go_on.wait(20)

        desk.provider.on_push = hold
        outcomes: list[Outcome] = []
        first = threading.Thread(target=lambda: outcomes.append(desk.pass_(owner="worker-1")))
        first.start()
        try:
            assert pushing.wait(20)
            assert [desk.pass_(owner="worker-2") for _ in range(5)] == [Outcome.IDLE] * 5
        finally:
            go_on.set()
            first.join()
        assert outcomes == [Outcome.DONE]
        assert len(desk.provider.batches) == 1
        assert desk.pass_(owner="worker-2") is Outcome.IDLE

    def test_many_workers_tell_each_thing_once(self, desk: Desk) -> None:
        people = [email(f"person{number}@example.com") for number in range(60)]

        def work(owner: str) -> None:
            while not done.is_set():
                run_once(desk.database, desk.connector, owner=owner, now=datetime.now(UTC))

        done = threading.Event()
        workers = [threading.Thread(target=work, args=(f"worker-{number}",)) for number in range(4)]
        for worker in workers:
            worker.start()
        try:
            for address in people:
                desk.record(stop_of(address))
            deadline = datetime.now(UTC) + timedelta(seconds=20)
            while desk.cursor().position < desk.head and datetime.now(UTC) < deadline:
                done.wait(0.01)
        finally:
            done.set()
            for worker in workers:
                worker.join()
        assert sorted(desk.provider.said) == sorted((one.value, EVERYTHING, STOPPED) for one in people)

    def test_a_dead_worker_s_pass_is_repeated_when_its_lease_ends(
        self, desk: Desk, clock: time_machine.Traveller
    ) -> None:
        desk.stop(JANE)
        desk.stop(ROSA)
        desk.provider.faults.append(Fault.KILLED)
        with pytest.raises(Killed):
            desk.pass_(owner="worker-1")
        assert len(desk.provider.holds) == 1

        clock.shift(LEASE - timedelta(seconds=2))
        assert desk.pass_(owner="worker-2") is Outcome.IDLE
        clock.shift(3)
        assert desk.pass_(owner="worker-2") is Outcome.DONE
        assert desk.provider.holds == {("jane@example.com", EVERYTHING), ("rosa@example.com", EVERYTHING)}

    def test_a_worker_whose_lease_was_lost_moves_nothing_on(self, desk: Desk, clock: time_machine.Traveller) -> None:
        before = desk.cursor().position
        desk.stop(JANE)

        def lose_it() -> None:
            clock.shift(LEASE + timedelta(seconds=1))
            assert desk.database.save(cursors.claim, MAILER, "worker-2", datetime.now(UTC)) is not None

        desk.provider.on_push = lose_it
        desk.pass_(owner="worker-1")
        assert desk.cursor().position == before

        desk.provider.on_push = lambda: None
        assert desk.pass_(owner="worker-2") is Outcome.DONE
        assert desk.cursor().position == desk.head
        assert len(desk.provider.batches) == 2

    def test_a_worker_that_lost_its_claim_begins_no_further_batch(
        self, desk: Desk, clock: time_machine.Traveller
    ) -> None:
        small = desk.connect(desk.provider, name="small", batch_size=1)
        desk.stop(JANE)
        desk.stop(ROSA)

        def lose_it() -> None:
            clock.shift(LEASE + timedelta(seconds=1))
            assert desk.database.save(cursors.claim, "small", "worker-2", datetime.now(UTC)) is not None

        desk.provider.on_push = lose_it
        assert desk.pass_(small, owner="worker-1") is Outcome.POSTPONED
        assert len(desk.provider.batches) == 1
        assert desk.cursor("small").due_at is None

        desk.provider.on_push = lambda: None
        assert desk.pass_(small, owner="worker-2") is Outcome.DONE
        assert desk.provider.holds == {("jane@example.com", EVERYTHING), ("rosa@example.com", EVERYTHING)}

    def test_each_batch_renews_the_lease(self, desk: Desk, clock: time_machine.Traveller) -> None:
        slow = desk.connect(desk.provider, name="slow", batch_size=1)
        for address in (JANE, ROSA, BEN):
            desk.stop(address)
        rivals: list[Cursor | None] = []

        def take_twenty_seconds() -> None:
            clock.shift(20)
            rivals.append(desk.database.save(cursors.claim, "slow", "worker-2", datetime.now(UTC)))

        desk.provider.on_push = take_twenty_seconds
        assert desk.pass_(slow, owner="worker-1") is Outcome.DONE
        assert rivals == [None, None, None]
