"""Whatever happens, in whatever order, and however the provider fails meanwhile: in the end both sides say the same."""

from __future__ import annotations

import base64
import json
import shutil
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import time_machine
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from standardwebhooks.webhooks import Webhook

from preferences.connectors.base import Listed, Push
from preferences.current import services_of
from preferences.domain import acts
from preferences.domain.acts import EventKind, ImportedRow
from preferences.domain.errors import Misconfigured, NotAllowed, TryLater
from preferences.domain.permission import Facts, Reason, may_send
from preferences.domain.records import Act, Address, Entry
from preferences.domain.vocabulary import (
    BLANKET,
    LIMIT_VERBS,
    Actor,
    Basis,
    Channel,
    MessageClass,
    Origin,
    Purpose,
    Status,
    SuppressionReason,
    Verb,
)
from preferences.ledger import record as ledger
from preferences.ledger.verify import verify
from preferences.store import contact_state, cursors, feed
from preferences.store.contact_state import AddressState
from preferences.store.decision_facts import facts_for
from preferences.sync.push import Outcome, run_once
from preferences.sync.reconcile import reconcile
from tests.connectors.fake import FakeConnector, FakeProvider, Fault, Killed
from tests.profiles import scaled
from tests.support import TOPICS, add_contact, close, email, new_app, new_sqlite

NAME: Final = "mailer"
SECRET: Final = "whsec_" + base64.b64encode(b"webhook-secret-of-the-tests-0001").decode()
NEWS, OFFERS, EVERYTHING, THEIRS = "list-17", "list-18", "global", "a list of theirs"
MAPPINGS: Final = (
    {"product-news": NEWS, "offers": OFFERS, BLANKET: EVERYTHING},
    {"product-news": NEWS, BLANKET: EVERYTHING},
    {"product-news": NEWS, "offers": OFFERS},
    {"product-news": NEWS},
)
PEOPLE: Final = tuple(email(f"{name}@example.com") for name in ("jane", "rosa"))
NEVER: Final = datetime.min.replace(tzinfo=UTC)
ALL_TOPICS: Final = {topic.slug: topic for topic in TOPICS}

people = st.sampled_from(PEOPLE)
marketing = st.sampled_from(["product-news", "offers"])
scopes = st.sampled_from(["product-news", "offers", BLANKET])
OPT_OUTS: Final = (EventKind.UNSUBSCRIBE, EventKind.SUPPRESSION_ADDED)
kinds = st.sampled_from([*OPT_OUTS * 2, EventKind.UNSUBSCRIBE, EventKind.HARD_BOUNCE, EventKind.COMPLAINT])
ages = st.sampled_from([timedelta(0), timedelta(seconds=30), timedelta(minutes=10), timedelta(days=2)])
faults = st.sampled_from([None, None, None, *Fault])


@dataclass(frozen=True, slots=True)
class Report:
    """A webhook of the provider: what happened there, under its own id."""

    id: str
    body: bytes


class SyncMachine(RuleBasedStateMachine):
    """People, files and a provider act; workers pass over the ledger; anything may fail or come twice.

    `noes` and `yeses` are what this test itself remembers: when somebody said no, and when the person themself last
    said yes, by address and topic. From them follows who must not be written to, without any rule of ours. An undo
    takes its own no away, and leaves a window: what was pushed from the no until its undo is nobody's no.
    """

    @initialize(mapping=st.sampled_from(MAPPINGS), can_lift=st.booleans(), compares=st.booleans())
    def begin(self, mapping: dict[str, str], can_lift: bool, compares: bool) -> None:
        self.clock = time_machine.travel(datetime.now(UTC), tick=True)
        self.time = self.clock.start()
        self.folder = Path(tempfile.mkdtemp(prefix="sync-machine-"))
        config_file = self.folder / "config.toml"
        topics = "\n".join(f"{json.dumps(topic)} = {json.dumps(list_ref)}" for topic, list_ref in mapping.items())
        config_file.write_text(
            f'[connectors.{NAME}]\nkind = "webhook"\nbase_url = "https://mailer.example"\n'
            f'webhook_secrets = ["{SECRET}"]\n[connectors.{NAME}.topics]\n{topics}\n'
        )
        self.app = new_app(new_sqlite(self.folder), config_file=config_file)
        self.client = self.app.test_client()
        self.services = services_of(self.app)
        self.database = self.services.database
        self.mapping = mapping
        self.provider = FakeProvider()
        self.provider.on_push = self.check_batch
        self.provider.compares = compares
        self.connector = FakeConnector(self.provider, mapping, name=NAME, can_lift=can_lift, batch_size=2)
        self.database.save(cursors.start, NAME)
        self.workers = 1
        self.stops: list[Entry] = []
        self.reports: list[Report] = []
        self.heard: set[Report] = set()
        self.lost: set[Report] = set()
        self.noes: dict[tuple[str, str], dict[str, datetime]] = {}
        self.windows: list[tuple[str, str, datetime, datetime]] = []
        self.yeses: dict[tuple[str, str], datetime] = {}
        self.suppressed: set[str] = set()
        self.ids = {}
        for address in PEOPLE:
            self.ids[address] = add_contact(self.services, address)
            self.time.shift(0.01)  # ids sort by time: the same order in each run

    def teardown(self) -> None:
        if hasattr(self, "ids"):
            try:
                if sys.exc_info()[0] is None:
                    self.settle()
            finally:
                close(self.app)
                self.clock.stop()
                shutil.rmtree(self.folder, ignore_errors=True)

    # What people do.

    @rule(who=people, topic=scopes)
    def says_no(self, who: Address, topic: str) -> None:
        act = acts.unsubscribe(
            self.ids[who],
            Channel.EMAIL,
            brand="default",
            topic=topic,
            origin=Origin.PAGE,
            now=self.now(),
            evidence={},
        )
        entry = self.record(act)
        self.stops.append(entry)
        self.note_no(who.value, topic, entry.recorded_at, f"entry {entry.seq}")

    @rule(who=people, topic=marketing)
    def says_yes(self, who: Address, topic: str) -> None:
        """On a page that is trusted for it."""
        entry = self.record(self.yes(self.ids[who], topic, origin=Origin.PAGE, trusted=True))
        self.yeses[who.value, topic] = entry.recorded_at

    @rule(who=people, topic=marketing, ago=ages)
    def yes_of_another_day_is_told(self, who: Address, topic: str, ago: timedelta) -> None:
        """By the company's system, with a key that is trusted for it, long after it was said."""
        act = replace(self.yes(self.ids[who], topic, origin=Origin.PAGE, trusted=True), origin="api.shop")
        at = self.now() - ago
        self.record(replace(act, occurred_at=at, origin_ref=f"yes-{self.head}"))
        self.yeses[who.value, topic] = max(at, self.yeses.get((who.value, topic), at))

    @rule(who=people, topic=marketing, slows=st.sampled_from([{"until": 3}, {"until": None}, {"per_week": 1}, {}]))
    def slows_down(self, who: Address, topic: str, slows: dict[str, int | None]) -> None:
        """A pause of three minutes, a cap, or neither any more: whatever it is, no provider is told."""
        act = replace(self.yes(self.ids[who], topic, origin=Origin.ACCOUNT, trusted=True), basis=None)
        if "until" in slows:
            minutes = slows["until"]
            until = None if minutes is None else self.now() + timedelta(minutes=minutes)
            self.record(replace(act, verb=Verb.PAUSE, until=until))
        else:
            self.record(replace(act, verb=Verb.CAP, per_week=slows.get("per_week")))

    @rule(who=people, purpose=st.sampled_from(Purpose), verb=st.sampled_from([Verb.SUBSCRIBE, Verb.UNSUBSCRIBE]))
    def answers(self, who: Address, purpose: Purpose, verb: Verb) -> None:
        """What is asked beside the mail: no provider is told either, whatever the answer is."""
        act = self.yes(self.ids[who], purpose.value, origin=Origin.ACCOUNT, trusted=True)
        self.record(replace(act, verb=verb))

    @precondition(lambda self: self.stops)
    @rule(data=st.data())
    def undoes(self, data: st.DataObject) -> None:
        stop = data.draw(st.sampled_from(self.stops[:-3:-1]))
        assert stop.contact_id is not None
        with suppress(NotAllowed):
            back = self.database.write(ledger.undo, stop.seq, contact_id=stop.contact_id, now=self.now(), details={})
            address = self.address_of(stop)
            del self.noes[address, stop.topic][f"entry {stop.seq}"]
            since = stop.recorded_at.replace(microsecond=0)
            self.windows.append((address, stop.topic, since, back.recorded_at))

    # What files say.

    @rule(who=people, verb=st.sampled_from([Verb.UNSUBSCRIBE, Verb.SUBSCRIBE]), topic=scopes, ago=ages)
    def is_imported(self, who: Address, verb: Verb, topic: str, ago: timedelta) -> None:
        if verb is Verb.SUBSCRIBE and topic == BLANKET:
            return  # nobody can say yes to everything
        at = self.now() - ago
        self.record(self.line(who, verb, topic, at))
        if verb is Verb.UNSUBSCRIBE:
            self.note_no(who.value, topic, at, f"entry {self.head}")

    # What happens at the provider.

    @rule(who=people, list_ref=st.sampled_from([NEWS, OFFERS, EVERYTHING, THEIRS]), kind=kinds, ago=ages)
    def happens_there(self, who: Address, list_ref: str, kind: EventKind, ago: timedelta) -> None:
        at = self.now() - ago
        self.provider.add(Listed(address=who, list_ref=list_ref, kind=kind, occurred_at=at))
        data = {"channel": "email", "address": who.value, "list": list_ref}
        body = json.dumps({"type": kind.value, "timestamp": at.isoformat(), "data": data}).encode()
        self.reports.append(Report(f"msg_{len(self.reports)}", body))

    @precondition(lambda self: self.reports)
    @rule(data=st.data(), times=st.integers(0, 3))
    def report_arrives(self, data: st.DataObject, times: int) -> None:
        """In any order; once, more often, later again, or never."""
        report = data.draw(st.sampled_from(self.reports))
        self.lost |= {report} - self.heard
        for _ in range(times):
            self.deliver(report)

    # What workers and operators do.

    @rule(
        seconds=st.sampled_from([0.0, 1.0, 10.0, 40.0, 400.0]),
        operator=st.booleans(),
        refused=st.sets(people),
        whole=st.booleans(),
        how=st.lists(faults, min_size=1, max_size=3),
    )
    def worker_passes(
        self, seconds: float, operator: bool, refused: set[Address], whole: bool, how: list[Fault | None]
    ) -> None:
        """Some time later, some passes, of which each call may fail in its own way; an operator may have looked in."""
        self.time.shift(seconds)
        if operator:
            self.database.save(cursors.resume, NAME)
        self.provider.refused, self.provider.refuses_whole = refused, whole
        for fault in how:
            self.provider.faults.clear()
            if fault is not None:
                self.provider.faults.append(fault)
            try:
                self.pass_()
            except Killed:
                self.workers += 1
        self.provider.faults.clear()

    @rule(fault=st.sampled_from([None, Fault.DOWN, Fault.HALF, Fault.BUSY, Fault.WRONG_KEY]))
    def comparison_runs(self, fault: Fault | None) -> None:
        if fault is not None:
            self.provider.list_faults.append(fault)
        with suppress(TryLater, Misconfigured):
            self.reconcile()
        self.provider.list_faults.clear()

    # What must hold at every push.

    def check_batch(self) -> None:
        """A push says what is so: each no is one that holds now on that very list, each return is the person's own."""
        held = self.held_here()
        for push in self.provider.batches[-1]:
            key = (push.address.value, push.list_ref)
            cause = self.database.read(ledger.find_entry, push.entry)
            assert cause is not None
            assert cause.verb not in LIMIT_VERBS
            assert cause.topic not in set(Purpose)
            if push.status is Status.UNSUBSCRIBED:
                assert key in held, f"{push} is told to a list that it is not about"
            else:
                assert key not in held, f"{push} lifts a no that holds"
                self.check_return(push)

    def check_return(self, push: Push) -> None:
        assert self.connector.can_lift
        entry = self.database.read(ledger.find_entry, push.entry)
        assert entry is not None
        assert (entry.contact_id, entry.actor, entry.trusted) == (push.contact_id, Actor.RECIPIENT, True)
        assert entry.verb in {Verb.UNDO, Verb.SUBSCRIBE}
        lists = (
            self.mapping.values()
            if entry.topic == BLANKET and BLANKET not in self.mapping
            else [self.mapping.get(entry.topic)]
        )
        assert push.list_ref in lists
        assert push.since == (entry.occurred_at or entry.recorded_at), "since is when it was said"

    @invariant()
    def no_provider_drops_an_opt_out_that_is_newer_than_the_opt_in(self) -> None:
        """Whether or not its report was lost, and whether or not the provider itself compares the two."""
        for row, push in self.provider.lifted if hasattr(self, "provider") else ():
            assert row.occurred_at is not None
            assert row.kind is EventKind.UNSUBSCRIBE
            assert row.occurred_at < push.since

    @invariant()
    def who_said_no_is_not_written_to(self) -> None:
        """From the moment it is recorded, whatever any provider has been told."""
        self.check_decisions()

    # In the end.

    def settle(self) -> None:
        """Quiet, then one comparison: the provider is well, its last reports arrive, the worker passes."""
        self.provider.faults.clear()
        self.provider.list_faults.clear()
        self.provider.refused.clear()
        for report in self.reports:
            if report not in self.lost:
                self.deliver(report)
        self.time.shift(3_700)
        self.database.save(cursors.resume, NAME)
        self.run_to_the_end()
        for row in self.provider.rows.values():
            if not self.is_from_undone_push(row):
                self.note_row(row)
        self.reconcile()
        self.run_to_the_end()
        self.check_both_sides()
        self.check_decisions()
        entries = self.head
        again = self.reconcile()
        assert again.missing_there == []
        assert self.head == entries, "the same rows were recorded a second time"
        assert self.database.snapshot(verify, lambda _rows: None).problems == []

    def check_both_sides(self) -> None:
        """The provider holds each of our noes; what it holds beyond them is a no that a later yes outweighs, which it
        was not told or has not taken."""
        here = self.held_here()
        there = {key for key in self.provider.holds if key[1] in self.mapping.values()}
        assert here <= there, "a no is missing there"
        for address, list_ref in there - here:
            topic = next(topic for topic, one in self.mapping.items() if one == list_ref)
            rows = [self.provider.rows.get((email(address), list_ref, kind)) for kind in OPT_OUTS]
            assert any(rows) or address in self.suppressed, "a bounce or a complaint there is unknown here"
            for row in rows:
                at = row.occurred_at if row else None
                is_older = at is None or at < self.yeses.get((address, topic), NEVER)
                assert is_older or (row and self.is_from_undone_push(row)), "a no there is unknown here"

    def check_decisions(self) -> None:
        states = self.states()
        for slug in ("product-news", "offers"):
            facts = self.facts(slug)
            for who in PEOPLE:
                if self.must_not(states[who], slug):
                    allowed = may_send(MessageClass.MARKETING, facts[who]).allowed
                    assert not allowed, f"{slug} would be sent to {who} against a newer no"
        facts = self.facts("receipts")
        for who in PEOPLE:
            bounced = SuppressionReason.HARD_BOUNCE in {one.reason for one in states[who].suppressions}
            assert may_send(MessageClass.TRANSACTIONAL, facts[who]).allowed != bounced

    # The small print.

    def now(self) -> datetime:
        return datetime.now(UTC)

    @property
    def head(self) -> int:
        return self.database.read(feed.head_seq)

    def record(self, act: Act) -> Entry:
        (entry,) = self.database.write(ledger.record, [act], fingerprints=self.services.fingerprints, now=self.now())
        return entry

    def yes(self, who: UUID, topic: str, *, origin: Origin, trusted: bool) -> Act:
        return Act(
            verb=Verb.SUBSCRIBE,
            channel=Channel.EMAIL,
            who=who,
            brand="default",
            topic=topic,
            basis=Basis.CONSENT,
            origin=origin,
            actor=Actor.RECIPIENT,
            occurred_at=self.now(),
            trusted=trusted,
        )

    def line(self, who: Address, verb: Verb, topic: str, at: datetime) -> Act:
        return acts.imported(
            ImportedRow(
                address=who,
                verb=verb,
                brand="default",
                topic=topic,
                reason=None,
                basis=Basis.CONSENT if verb is Verb.SUBSCRIBE else None,
                occurred_at=at,
                origin_ref=f"line-{self.head}",
                evidence={},
            )
        )

    def deliver(self, report: Report) -> None:
        self.heard.add(report)
        self.lost.discard(report)
        now = self.now()
        headers = {
            "webhook-id": report.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(SECRET).sign(report.id, now, report.body.decode()),
        }
        assert self.client.post(f"/webhooks/{NAME}", data=report.body, headers=headers).status_code == 200
        message = json.loads(report.body)
        self.note_row(
            Listed(
                address=email(message["data"]["address"]),
                list_ref=message["data"]["list"],
                kind=EventKind(message["type"]),
                occurred_at=datetime.fromisoformat(message["timestamp"]),
            )
        )

    def note_row(self, row: Listed) -> None:
        assert row.occurred_at is not None
        if row.kind not in OPT_OUTS:
            self.suppressed.add(row.address.value)
        elif topic := self.connector.topic_of(row.list_ref):
            self.note_no(row.address.value, topic, row.occurred_at, f"{row.kind} {row.occurred_at}")

    def note_no(self, address: str, topic: str, at: datetime, who: str) -> None:
        self.noes.setdefault((address, topic), {})[who] = at

    def newest_no(self, address: str, topic: str) -> datetime:
        noes = self.noes.get((address, topic), {}).items()
        echo = EventKind.SUPPRESSION_ADDED
        times = [at for who, at in noes if not (who.startswith(echo) and self.is_in_window(address, topic, at))]
        return max(times, default=NEVER)

    def is_from_undone_push(self, row: Listed) -> bool:
        """Whether a row on the provider's list may be a push of an opt-out that was undone: a list does not say."""
        topic = self.connector.topic_of(row.list_ref) or ""
        assert row.occurred_at is not None
        return row.kind in OPT_OUTS and self.is_in_window(row.address.value, topic, row.occurred_at)

    def is_in_window(self, address: str, topic: str, at: datetime) -> bool:
        return any(
            whose == address and about in {topic, BLANKET} and since <= at <= until
            for whose, about, since, until in self.windows
        )

    def address_of(self, entry: Entry) -> str:
        return next(address.value for address, one in self.ids.items() if one == entry.contact_id)

    def pass_(self) -> Outcome:
        return run_once(self.database, self.connector, owner=f"worker-{self.workers}", now=self.now())

    def run_to_the_end(self) -> None:
        while self.pass_() is Outcome.DONE:
            pass
        cursor = self.database.read(cursors.find_cursor, NAME)
        assert cursor is not None
        assert cursor.position == self.head

    def reconcile(self) -> Any:
        return reconcile(
            self.database,
            self.connector,
            owner=f"worker-{self.workers}",
            fingerprints=self.services.fingerprints,
            now=self.now(),
            progress=lambda _rows: None,
        )

    def held_here(self) -> set[tuple[str, str]]:
        """Address and list of each no of ours that the provider must hold, by the mapping: read from the projection."""
        held: set[tuple[str, str]] = set()
        states = self.states()
        for topic, list_ref in self.mapping.items():
            facts = self.facts(topic) if topic != BLANKET else {}
            for who, state in states.items():
                choice = state.preferences.get(("default", topic))
                stopped = choice is not None and choice.status is Status.UNSUBSCRIBED
                if topic == BLANKET:
                    stopped = stopped or bool(state.suppressions)
                elif BLANKET not in self.mapping:
                    # Where there is no list for everything, each list holds whoever must not get its topic.
                    # A topic that needs a yes and has none is not thereby a no, and neither is a pause.
                    decision = may_send(MessageClass.MARKETING, facts[who])
                    stopped = not decision.allowed and decision.reason not in {Reason.NO_CONSENT, Reason.PAUSED}
                if stopped:
                    held.add((who.value, list_ref))
        return held

    def states(self) -> dict[Address, AddressState]:
        return {
            state.address: state for state in self.database.read(contact_state.address_states, list(self.ids.values()))
        }

    def facts(self, slug: str) -> dict[Address, Facts]:
        return self.database.read(
            facts_for,
            PEOPLE,
            channel=Channel.EMAIL,
            about=ALL_TOPICS[slug],
            fingerprints=self.services.fingerprints,
            now=datetime.now(UTC),
        )

    def must_not(self, state: AddressState, slug: str) -> bool:
        """By what this test remembers. A yes to its topic ends an older no to everything."""
        address = state.address.value
        no = max(self.newest_no(address, slug), self.newest_no(address, BLANKET))
        return address in self.suppressed or no > self.yeses.get((address, slug), NEVER)


TestSync = SyncMachine.TestCase
TestSync.settings = settings(
    max_examples=scaled(60),
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
