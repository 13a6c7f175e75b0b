"""One pass of one connector, and the comparison: every provider ends up with our truth, however it failed meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import pytest
import time_machine
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from preferences.connectors.base import Listed, Push
from preferences.current import services_of
from preferences.domain import acts
from preferences.domain.acts import (
    EventKind,
    ImportedRow,
    ProviderEvent,
    ReportedAct,
    provider_event,
    restore_address,
    retire_address,
)
from preferences.domain.addresses import Fingerprints
from preferences.domain.errors import Misconfigured, Rejected, TryLater
from preferences.domain.records import Act, Address, Entry, Preference, Suppression
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
from preferences.ledger import record as ledger
from preferences.services import Services
from preferences.store import contact_state, contacts, cursors, feed
from preferences.store.contact_state import AddressState
from preferences.store.contacts import new_id
from preferences.store.cursors import LEASE, Cursor
from preferences.store.tables import connector_cursor
from preferences.sync.plan import required
from preferences.sync.push import MAX_FAILURES, Outcome, run_once
from preferences.sync.reconcile import Drift, compare, reconcile, repair
from preferences.sync.worker import Worker
from tests.connectors.fake import BUSY_SECONDS, FakeConnector, FakeProvider, Fault, Killed
from tests.processes import contents
from tests.support import add_contact, email

NOW: Final = datetime(2026, 5, 31, 14, tzinfo=UTC)
NEWS, OFFERS, EVERYTHING = "list-17", "list-18", "global"
MAPPED: Final = {"product-news": NEWS, "offers": OFFERS, BLANKET: EVERYTHING}
WITHOUT_BLANKET: Final = {"product-news": NEWS, "offers": OFFERS}
JANE, ROSA, BEN = email("jane@example.com"), email("rosa@example.com"), email("ben@example.com")
MAILER: Final = "mailer"

STOPPED, SENT = Status.UNSUBSCRIBED.value, Status.SUBSCRIBED.value


# What a provider must hold.


def choice(status: Status = Status.UNSUBSCRIBED, at: datetime = NOW, seq: int = 1) -> Preference:
    return Preference(status=status, at=at, since=at, seq=seq, trusted=True, basis=None)


def suppressed(reason: SuppressionReason) -> Suppression:
    return Suppression(reason=reason, active=True, at=NOW, since=NOW, seq=9)


def state(*suppressions: SuppressionReason, brand: str = "default", **choices: Preference) -> AddressState:
    """One address. Topics are named as arguments: `product_news`, `offers`, `everything`."""
    names = {"everything": BLANKET}
    return AddressState(
        contact_id=new_id(NOW),
        address=JANE,
        added_at=NOW,
        fingerprint="of Jane",
        choices={(brand, names.get(name, name.replace("_", "-"))): one for name, one in choices.items()},
        suppressions=[suppressed(reason) for reason in suppressions],
    )


def lists(one: AddressState, topics: dict[str, str] | None = None, brand: str = "default") -> set[str]:
    pushes = required(one, MAPPED if topics is None else topics, brand)
    assert all(push.status is Status.UNSUBSCRIBED for push in pushes)
    assert len({push.list_ref for push in pushes}) == len(pushes)
    return {push.list_ref for push in pushes}


class TestWanted:
    def test_a_stopped_topic_is_on_its_own_list_and_on_no_other(self) -> None:
        assert lists(state(product_news=choice())) == {NEWS}
        assert lists(state(product_news=choice()), WITHOUT_BLANKET) == {NEWS}

    @pytest.mark.parametrize("topics", [{BLANKET: EVERYTHING}, {"offers": OFFERS}, {}])
    def test_a_stopped_topic_without_a_list_of_its_own_is_on_none(self, topics: dict[str, str]) -> None:
        assert lists(state(product_news=choice()), topics) == set()

    def test_a_blanket_no_is_on_the_list_for_everything_alone(self) -> None:
        assert lists(state(everything=choice())) == {EVERYTHING}

    def test_a_blanket_no_is_on_each_list_where_there_is_none_for_everything(self) -> None:
        assert lists(state(everything=choice()), WITHOUT_BLANKET) == {NEWS, OFFERS}

    def test_a_newer_opt_in_to_a_topic_is_left_out_without_a_blanket_list(self) -> None:
        back = choice(Status.SUBSCRIBED, NOW + timedelta(minutes=1))
        assert lists(state(everything=choice(), offers=back), WITHOUT_BLANKET) == {NEWS}
        assert lists(state(everything=choice(), offers=back)) == {EVERYTHING}

    def test_an_older_yes_does_not_hold_against_a_blanket_no(self) -> None:
        earlier = choice(Status.SUBSCRIBED, NOW - timedelta(minutes=1))
        assert lists(state(everything=choice(), offers=earlier), WITHOUT_BLANKET) == {NEWS, OFFERS}

    def test_a_blanket_no_and_a_stopped_topic_are_two_things(self) -> None:
        assert lists(state(everything=choice(), offers=choice())) == {EVERYTHING, OFFERS}

    @pytest.mark.parametrize("status", [Status.SUBSCRIBED, Status.NEVER_ASKED])
    def test_whoever_did_not_say_no_is_on_no_list(self, status: Status) -> None:
        assert lists(state(product_news=choice(status), everything=choice(status))) == set()

    @pytest.mark.parametrize("reason", [one for one in SuppressionReason if one is not SuppressionReason.SOFT_BOUNCES])
    def test_a_suppressed_address_is_on_the_list_for_everything_with_its_reason(
        self, reason: SuppressionReason
    ) -> None:
        (push,) = required(state(reason), MAPPED, "default")
        assert (push.list_ref, push.reason, push.entry) == (EVERYTHING, reason, 9)

    def test_soft_bounces_are_told_to_nobody(self) -> None:
        assert lists(state(SuppressionReason.SOFT_BOUNCES)) == set()

    def test_a_suppressed_address_is_on_each_list_without_a_blanket_list(self) -> None:
        assert lists(state(SuppressionReason.HARD_BOUNCE), WITHOUT_BLANKET) == {NEWS, OFFERS}

    def test_what_another_brand_was_told_is_its_own(self) -> None:
        elsewhere = state(brand="other", product_news=choice(), everything=choice())
        assert lists(elsewhere) == set()
        assert lists(elsewhere, WITHOUT_BLANKET) == set()
        assert lists(elsewhere, brand="other") == {NEWS, EVERYTHING}

    def test_a_suppressed_address_is_one_for_every_brand(self) -> None:
        assert lists(state(SuppressionReason.COMPLAINT), brand="other") == {EVERYTHING}

    @given(
        topics=st.dictionaries(
            st.sampled_from(["product-news", "offers", "events", BLANKET]), st.sampled_from("abcdef"), max_size=4
        ),
        stopped=st.dictionaries(
            st.sampled_from(["product-news", "offers", "events", BLANKET]), st.sampled_from(Status), max_size=4
        ),
        reasons=st.sets(st.sampled_from(SuppressionReason), max_size=2),
    )
    def test_no_list_is_told_of_anything_but_its_own_topic(
        self, topics: dict[str, str], stopped: dict[str, Status], reasons: set[SuppressionReason]
    ) -> None:
        topics = {topic: f"{list_ref} of {topic}" for topic, list_ref in topics.items()}
        one = AddressState(
            contact_id=new_id(NOW),
            address=JANE,
            added_at=NOW,
            fingerprint="of Jane",
            choices={("default", topic): choice(status) for topic, status in stopped.items()},
            suppressions=[suppressed(reason) for reason in reasons],
        )
        blanket = stopped.get(BLANKET) is Status.UNSUBSCRIBED
        suppresses = bool(reasons - {SuppressionReason.SOFT_BOUNCES})
        told = {push.list_ref for push in required(one, topics, "default")}
        reasons = reasons - {SuppressionReason.SOFT_BOUNCES}  # the provider reported them, and they end by themselves
        for topic, list_ref in topics.items():
            own = stopped.get(topic) is Status.UNSUBSCRIBED
            here = topic == BLANKET or BLANKET not in topics
            assert (list_ref in told) == (own or (here and (blanket or suppresses))), topic
        assert told <= set(topics.values())


# A desk at which people, providers and colleagues act, and the worker's passes are run by hand.


class Desk:
    """What happens here, in short, with a provider named `mailer` on the other side."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.database = services.database
        self.provider = FakeProvider()
        self.connector = self.connect(self.provider)

    def connect(self, provider: FakeProvider, topics: dict[str, str] | None = None, **changes: Any) -> FakeConnector:
        """A connector at the ledger's head."""
        connector = FakeConnector(provider, MAPPED if topics is None else topics, **changes)
        self.database.save(cursors.start, connector.name)
        return connector

    def record(self, *many: Act) -> list[Entry]:
        return self.database.write(ledger.record, many, fingerprints=self.services.fingerprints, now=datetime.now(UTC))

    def stop(self, address: Address, topic: str = BLANKET, *, brand: str = "default") -> Entry:
        """The person's own no."""
        act = acts.unsubscribe(
            add_contact(self.services, address),
            address.channel,
            brand=brand,
            topic=topic,
            origin=Origin.PAGE,
            now=datetime.now(UTC),
            evidence={},
        )
        return self.record(act)[0]

    def undo(self, entry: Entry) -> Entry:
        """The person's own return."""
        assert entry.contact_id is not None
        return self.database.write(
            ledger.undo, entry.seq, contact_id=entry.contact_id, now=datetime.now(UTC), details={}
        )

    def choose(self, verb: Verb, who: UUID | Address, topic: str = "product-news", **more: Any) -> Entry:
        """The person's own choice, from a door that is trusted for it."""
        act = Act(
            verb=verb,
            channel=Channel.EMAIL,
            who=who,
            brand="default",
            topic=topic,
            origin=Origin.ACCOUNT,
            actor=Actor.RECIPIENT,
            occurred_at=datetime.now(UTC),
            trusted=True,
            **more,
        )
        return self.record(act)[0]

    def event(
        self, kind: EventKind, address: Address, topic: str = BLANKET, *, by: str = MAILER, at: datetime | None = None
    ) -> Entry:
        """A provider's report."""
        event = ProviderEvent(kind=kind, address=address, event_id=None, occurred_at=at, brand="default", topic=topic)
        return self.record(provider_event(event, by))[0]

    def pass_(self, connector: FakeConnector | None = None, owner: str = "worker-1") -> Outcome:
        return run_once(self.database, connector or self.connector, owner=owner, now=datetime.now(UTC))

    def passes(self, connector: FakeConnector | None = None) -> None:
        """Pass after pass until there is nothing to do."""
        while self.pass_(connector) is Outcome.DONE:
            pass

    def compare(self) -> Drift:
        return compare(self.database, self.connector, lambda _rows: None)

    def reconcile(self, connector: FakeConnector | None = None) -> Drift:
        return reconcile(
            self.database,
            connector or self.connector,
            owner="reconcile",
            fingerprints=self.services.fingerprints,
            now=datetime.now(UTC),
            progress=lambda _rows: None,
        )

    def cursor(self, name: str = MAILER) -> Cursor:
        cursor = self.database.read(cursors.find_cursor, name)
        assert cursor is not None
        return cursor

    @property
    def head(self) -> int:
        return self.database.read(feed.head_seq)

    @property
    def parked(self) -> int:
        return self.database.read(cursors.count_parked, MAILER)

    def entries(self) -> list[Entry]:
        return self.database.read(feed.entries_after, 0, 1_000)

    def status(self, address: Address, topic: str = BLANKET) -> Status | None:
        """What counts for this topic alone."""
        (one,) = self.database.read(contact_state.address_states, [add_contact(self.services, address)])
        held = one.choices.get(("default", topic))
        return None if held is None else held.status

    def reasons(self, address: Address) -> set[SuppressionReason]:
        (one,) = self.database.read(contact_state.address_states, [add_contact(self.services, address)])
        return {held.reason for held in one.suppressions}


def a_row(
    address: Address, list_ref: str, kind: EventKind = EventKind.UNSUBSCRIBE, at: datetime | None = NOW
) -> Listed:
    return Listed(address=address, list_ref=list_ref, kind=kind, occurred_at=at)


@pytest.fixture
def desk(services: Services) -> Desk:
    """On both engines."""
    return Desk(services)


@pytest.fixture
def sqlite_desk(sqlite_app: Flask) -> Desk:
    return Desk(services_of(sqlite_app))


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """The time, to be moved by hand."""
    with time_machine.travel(datetime.now(UTC), tick=True) as traveller:
        yield traveller


# A pass.


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


def stop_of(address: Address, topic: str = BLANKET) -> Act:
    return acts.unsubscribe(
        address,
        address.channel,
        brand="default",
        topic=topic,
        origin=Origin.PAGE,
        now=datetime.now(UTC),
        evidence={},
    )


def in_blocks(people: Sequence[Address], size: int) -> list[Sequence[Address]]:
    return [people[start : start + size] for start in range(0, len(people), size)]


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


# The comparison.


class TestReconcile:
    @pytest.mark.parametrize(("list_ref", "topic"), [(NEWS, "product-news"), (OFFERS, "offers"), (EVERYTHING, BLANKET)])
    def test_a_no_that_is_found_there_becomes_an_entry_here(self, desk: Desk, list_ref: str, topic: str) -> None:
        desk.provider.add(a_row(JANE, list_ref))
        assert desk.reconcile().count == 1
        (entry,) = desk.entries()
        assert (entry.topic, entry.status, entry.origin) == (topic, Status.UNSUBSCRIBED, "connector.mailer")
        assert (entry.occurred_at, entry.trusted, entry.actor) == (NOW, False, Actor.SYSTEM)
        assert desk.status(JANE, topic) is Status.UNSUBSCRIBED

    @pytest.mark.parametrize(
        ("kind", "reason"),
        [
            (EventKind.HARD_BOUNCE, SuppressionReason.HARD_BOUNCE),
            (EventKind.COMPLAINT, SuppressionReason.COMPLAINT),
            (EventKind.INVALID, SuppressionReason.INVALID),
        ],
    )
    @pytest.mark.parametrize("list_ref", [EVERYTHING, OFFERS, "a list of theirs"])
    def test_a_listed_bounce_or_complaint_is_about_the_address_on_any_list(
        self, desk: Desk, list_ref: str, kind: EventKind, reason: SuppressionReason
    ) -> None:
        desk.provider.add(a_row(JANE, list_ref, kind))
        desk.reconcile()
        assert desk.reasons(JANE) == {reason}
        assert desk.status(JANE) is None
        assert ("jane@example.com", EVERYTHING) in desk.provider.holds
        assert desk.reconcile().count == 0
        assert len(desk.entries()) == 1

    def test_a_bounce_on_one_list_counts_on_each_without_a_blanket_list(self, desk: Desk) -> None:
        narrow = desk.connect(FakeProvider(), WITHOUT_BLANKET, name="narrow")
        narrow.provider.add(a_row(JANE, OFFERS, EventKind.HARD_BOUNCE))
        assert [desk.reconcile(narrow).count, desk.reconcile(narrow).count] == [1, 0]
        assert narrow.provider.said == [("jane@example.com", NEWS, STOPPED)]

    def test_a_no_that_is_missing_there_is_told(self, desk: Desk) -> None:
        desk.stop(JANE)
        desk.stop(ROSA, "offers")
        desk.passes()
        desk.provider.rows.clear()
        assert desk.reconcile().count == 2
        assert desk.provider.holds == {("jane@example.com", EVERYTHING), ("rosa@example.com", OFFERS)}

    def test_a_no_on_a_list_that_maps_to_nothing_is_counted_and_left_alone(self, desk: Desk) -> None:
        desk.provider.add(a_row(JANE, "a list of theirs"))
        desk.provider.add(a_row(ROSA, "another"))
        drift = desk.reconcile()
        assert (drift.unmapped, drift.count) == (2, 0)
        assert desk.entries() == []

    def test_looking_changes_nothing_on_either_side(self, desk: Desk, database_url: str) -> None:
        desk.stop(JANE)
        desk.provider.add(a_row(ROSA, OFFERS))
        desk.provider.add(a_row(BEN, "a list of theirs"))
        here, there = contents(database_url), dict(desk.provider.rows)
        drift = desk.compare()
        assert [push.address for push in drift.missing_there] == [JANE]
        assert [row.address for row in drift.missing_here] == [ROSA]
        assert (drift.count, drift.unmapped) == (2, 1)
        assert (contents(database_url), desk.provider.rows, desk.provider.batches) == (here, there, [])

    def test_after_two_both_sides_agree_and_nothing_goes_round_in_circles(self, desk: Desk) -> None:
        crm = desk.connect(FakeProvider(), name="crm")
        desk.provider.add(a_row(JANE, OFFERS))
        desk.provider.add(a_row(BEN, EVERYTHING, EventKind.COMPLAINT))
        crm.provider.add(a_row(JANE, OFFERS, at=NOW - timedelta(days=1)))
        desk.stop(ROSA)
        for connector in (desk.connector, crm) * 2:
            desk.reconcile(connector)
            desk.passes()
            desk.passes(crm)
        everything = {("jane@example.com", OFFERS), ("ben@example.com", EVERYTHING), ("rosa@example.com", EVERYTHING)}
        assert desk.provider.holds == crm.provider.holds == everything
        entries, told = len(desk.entries()), (len(desk.provider.told), len(crm.provider.told))

        assert [desk.reconcile(connector).count for connector in (desk.connector, crm)] == [0, 0]

        assert (len(desk.entries()), (len(desk.provider.told), len(crm.provider.told))) == (entries, told)
        assert [push.address for push in desk.provider.told] == [ROSA]

    def test_the_number_is_kept_and_the_next_one_is_a_day_away(self, desk: Desk) -> None:
        assert desk.cursor().drift is None
        desk.stop(JANE)
        desk.passes()
        desk.provider.rows.clear()
        desk.provider.add(a_row(ROSA, OFFERS))
        now = datetime.now(UTC)
        desk.reconcile()
        cursor = desk.cursor()
        assert cursor.drift == 0, "what is left after the repair"
        assert cursor.compared_at is not None
        assert cursor.reconcile_due_at is not None
        assert timedelta(hours=23) < cursor.reconcile_due_at - now < timedelta(hours=25)

    def test_an_old_no_there_does_not_undo_a_newer_yes_and_is_recorded_once(self, desk: Desk) -> None:
        desk.choose(Verb.SUBSCRIBE, add_contact(desk.services, JANE), "offers")
        desk.passes()
        desk.provider.add(a_row(JANE, OFFERS, at=datetime.now(UTC) - timedelta(days=1)))
        for _ in range(3):
            assert desk.reconcile().count == 1
            assert desk.cursor().drift == 1, "it still stands there"
        assert desk.status(JANE, "offers") is Status.SUBSCRIBED
        assert [entry.changed for entry in desk.entries()] == [True, False]

    def test_an_old_no_there_counts_where_an_undo_has_taken_a_newer_one_back(self, desk: Desk) -> None:
        desk.undo(desk.stop(JANE, "offers"))
        desk.passes()
        desk.provider.add(a_row(JANE, OFFERS, at=datetime.now(UTC) - timedelta(days=1)))
        desk.reconcile()
        assert desk.status(JANE, "offers") is Status.UNSUBSCRIBED

    def test_our_own_push_that_is_found_there_after_the_undo_stops_nothing(self, desk: Desk) -> None:
        stop = desk.stop(JANE, "offers")
        desk.passes()
        desk.connector.can_lift = False
        desk.undo(stop)
        assert [desk.reconcile().count for _ in range(2)] == [1, 1]
        assert desk.status(JANE, "offers") is None
        assert [entry.changed for entry in desk.entries()] == [True, True, False]

    def test_a_newer_no_there_undoes_an_older_yes(self, desk: Desk) -> None:
        desk.undo(desk.stop(JANE, "offers"))
        desk.passes()
        desk.provider.add(a_row(JANE, OFFERS, at=datetime.now(UTC)))
        desk.reconcile()
        assert desk.status(JANE, "offers") is Status.UNSUBSCRIBED

    def test_a_no_there_that_does_not_say_when_counts_from_now(self, desk: Desk) -> None:
        desk.provider.add(a_row(JANE, OFFERS, at=None))
        assert [desk.reconcile().count, desk.reconcile().count] == [1, 0]
        (entry,) = desk.entries()
        assert entry.occurred_at is None
        assert desk.status(JANE, "offers") is Status.UNSUBSCRIBED

    def test_our_own_opt_out_on_a_list_without_lifts_ends_no_opt_in(self, desk: Desk) -> None:
        """It does not say since when it holds one, so what was told before the return looks as if it were new."""
        deaf = desk.connect(FakeProvider(), name="deaf", can_lift=False)
        entry = desk.stop(JANE, "offers")
        desk.passes(deaf)
        deaf.provider.add(a_row(JANE, OFFERS, at=None))
        desk.undo(entry)
        deaf.provider.add(a_row(ROSA, OFFERS, at=None))
        for _ in range(2):
            desk.passes(deaf)
            desk.reconcile(deaf)
        assert desk.status(JANE, "offers") is not Status.UNSUBSCRIBED
        assert desk.status(ROSA, "offers") is Status.UNSUBSCRIBED
        assert deaf.provider.returns == []

    def test_what_names_a_row_in_the_ledger_tells_nothing_without_our_keys(self, desk: Desk) -> None:
        drift = Drift(missing_here=[a_row(JANE, OFFERS)])
        for fingerprints in (desk.services.fingerprints, Fingerprints([b"somebody else's key"])):
            repair(
                desk.database,
                desk.connector,
                drift,
                owner="reconcile",
                fingerprints=fingerprints,
            )
        ours, theirs = (entry.origin_ref for entry in desk.entries())
        assert ours != theirs

    def test_catches_up_first_so_that_what_is_on_its_way_is_no_drift(self, desk: Desk) -> None:
        desk.stop(JANE)
        assert desk.reconcile().count == 0
        assert desk.provider.holds == {("jane@example.com", EVERYTHING)}

    @pytest.mark.parametrize("fault", [Fault.DOWN, Fault.HALF, Fault.BUSY])
    def test_a_list_that_cannot_be_read_to_its_end_mends_nothing(self, desk: Desk, fault: Fault) -> None:
        desk.stop(JANE)
        desk.passes()
        desk.provider.add(a_row(ROSA, OFFERS))
        desk.provider.list_faults.append(fault)
        told, entries = len(desk.provider.told), len(desk.entries())
        with pytest.raises(TryLater):
            desk.reconcile()
        assert (len(desk.provider.told), len(desk.entries())) == (told, entries)
        assert desk.cursor().drift is None

    @pytest.mark.parametrize("fault", [None, Fault.DOWN])
    def test_leaves_nobody_waiting_for_its_lease(self, desk: Desk, fault: Fault | None) -> None:
        desk.stop(JANE)
        desk.passes()
        desk.provider.rows.clear()
        desk.provider.faults.extend([fault] if fault else [])
        with suppress(TryLater):
            desk.reconcile()
        assert desk.database.save(cursors.claim, MAILER, "worker-2", datetime.now(UTC)) is not None

    def test_does_not_push_while_another_worker_does(self, desk: Desk) -> None:
        desk.stop(JANE)
        desk.passes()
        desk.provider.rows.clear()
        assert desk.database.save(cursors.claim, MAILER, "worker-2", datetime.now(UTC)) is not None
        with pytest.raises(TryLater, match="another worker"):
            desk.reconcile()
        assert len(desk.provider.batches) == 1

    def test_everybody_of_a_large_list_is_found_on_both_sides(self, desk: Desk) -> None:
        people = [email(f"person{number}@example.com") for number in range(1_203)]
        for block in in_blocks(people[:602], 301):
            desk.record(*(stop_of(address) for address in block))
        for address in people[602:]:
            desk.provider.add(a_row(address, EVERYTHING))
        drift = desk.compare()
        assert (len(drift.missing_there), len(drift.missing_here)) == (602, 601)
        desk.reconcile()
        assert desk.provider.holds == {(address.value, EVERYTHING) for address in people}
        assert desk.reconcile().count == 0


# The worker's part in it.


class TestWorker:
    def worker(self, desk: Desk, *connectors: FakeConnector) -> Worker:
        return Worker(desk.database, connectors or [desk.connector], desk.services.fingerprints)

    def test_a_new_connector_is_compared_at_once_and_then_daily(
        self, desk: Desk, clock: time_machine.Traveller
    ) -> None:
        desk.stop(JANE)
        new = FakeConnector(FakeProvider(), MAPPED, name="new")
        worker = self.worker(desk, new)
        worker.pass_over_all()
        assert new.provider.holds == {("jane@example.com", EVERYTHING)}

        new.provider.rows.clear()
        worker.pass_over_all()
        assert new.provider.holds == set()
        clock.shift(timedelta(days=1, minutes=1))
        worker.pass_over_all()
        assert new.provider.holds == {("jane@example.com", EVERYTHING)}

    def test_a_connector_that_fails_does_not_stop_the_others(self, desk: Desk) -> None:
        crm = desk.connect(FakeProvider(), name="crm")
        desk.stop(JANE)
        desk.provider.faults.append(Fault.WRONG_KEY)
        self.worker(desk, desk.connector, crm).pass_over_all()
        assert desk.cursor().paused_because
        assert crm.provider.holds == {("jane@example.com", EVERYTHING)}

    @pytest.mark.parametrize(
        ("fault", "seconds"), [(Fault.DOWN, 60), (Fault.WRONG_KEY, 60), (Fault.BUSY, BUSY_SECONDS)]
    )
    def test_a_comparison_that_fails_is_tried_again_when_it_may(
        self, desk: Desk, clock: time_machine.Traveller, fault: Fault, seconds: float
    ) -> None:
        desk.provider.add(a_row(JANE, OFFERS))
        desk.provider.list_faults.append(fault)
        worker = self.worker(desk)
        worker.pass_over_all()
        clock.shift(seconds - 5)
        worker.pass_over_all()
        assert desk.entries() == []
        clock.shift(6)
        worker.pass_over_all()
        assert len(desk.entries()) == 1

    def test_a_comparison_that_fails_leaves_the_connector_to_the_other_workers(self, desk: Desk) -> None:
        desk.provider.list_faults.append(Fault.DOWN)
        self.worker(desk).pass_over_all()
        desk.stop(JANE)
        assert desk.pass_(owner="worker-2") is Outcome.DONE

    def test_a_worker_that_leaves_in_good_order_makes_nobody_wait(self, desk: Desk) -> None:
        worker = self.worker(desk)
        thread = threading.Thread(target=worker.run)
        thread.start()
        desk.stop(JANE)
        deadline = datetime.now(UTC) + timedelta(seconds=20)
        while not desk.provider.holds and datetime.now(UTC) < deadline:
            thread.join(0.02)
        worker.stop()
        thread.join()
        desk.stop(ROSA)
        assert desk.pass_(owner="worker-2") is Outcome.DONE
