"""A walk of people, a connector and its vendor, in which calls go wrong in every way of `Fault`."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flask import Flask

from preferences.connectors import make_connector
from preferences.connectors.base import Connector
from preferences.current import services_of
from preferences.domain import acts
from preferences.domain.acts import ImportedRow
from preferences.domain.errors import Misconfigured, NotAllowed, Rejected, TryLater
from preferences.domain.records import Act, Address, Entry
from preferences.domain.vocabulary import BLANKET, Basis, Channel, Origin, Verb
from preferences.ledger import record as ledger
from preferences.ledger.verify import verify
from preferences.store import contact_state, cursors, feed
from preferences.sync.plan import required
from preferences.sync.push import Outcome, run_once
from preferences.sync.reconcile import backfill, reconcile
from tests.connectors.fakes import Change, FakeVendor, Fault
from tests.support import add_contact, email

HERE = Path(__file__).parent
KINDS = sorted(path.stem.removeprefix("fake_") for path in HERE.glob("fake_*.py"))
STEPS = 40
ALL_FAULTS: list[Fault | None] = [None, None, *Fault]


class Run:
    """One vendor, one connector, some people, and a sequence of chances."""

    def __init__(self, app: Flask, kind: str, seed: int) -> None:
        self.services = services_of(app)
        self.database = self.services.database
        self.dice = random.Random(seed)
        self.fake: FakeVendor = importlib.import_module(f"tests.connectors.fake_{kind}").Fake()
        self.fake.at = lambda: datetime.now(UTC).timestamp()
        self.contract: Any = importlib.import_module(f"tests.connectors.test_{kind}").TestTheContract()
        self.stops: list[Entry] = []
        self.ever: set[tuple[str, str]] = set()

    def connect(self, *, can_lift: bool) -> Connector:
        settings = self.contract.settings(base_url=self.fake.url, name=self.contract.kind)
        connector = make_connector(settings)
        connector.calls_per_second = 0.0
        connector.can_lift = can_lift and connector.can_lift
        self.connector = connector
        self.people = [self.person(number) for number in range(5)]
        self.database.save(cursors.start, connector.name)
        return connector

    def person(self, number: int) -> Address:
        if Channel.EMAIL in self.connector.channels:
            address = email(f"person{number}@example.com")
        else:
            address = Address(Channel.SMS, f"+1202555010{number}")
        add_contact(self.services, address)
        return address

    # What may happen.

    def step(self) -> None:
        happenings: list[Callable[[], None]] = [
            self.somebody_stops,
            self.somebody_stops,
            self.somebody_comes_back,
            self.a_file_says_yes,
            self.it_happens_there,
            self.the_vendor_breaks,
            self.a_pass,
            self.a_pass,
            self.a_comparison,
        ]
        self.dice.choice(happenings)()

    def somebody_stops(self) -> None:
        act = acts.unsubscribe(
            add_contact(self.services, who := self.dice.choice(self.people)),
            who.channel,
            brand="default",
            topic=self.dice.choice(["product-news", "offers", "offers", BLANKET]),
            origin=Origin.PAGE,
            now=datetime.now(UTC),
            evidence={},
        )
        self.stops.append(self.record(act))

    def somebody_comes_back(self) -> None:
        if not self.connector.can_lift or not self.stops:
            return
        stop = self.dice.choice(self.stops[-3:])
        assert stop.contact_id is not None
        with suppress(NotAllowed):
            self.database.write(ledger.undo, stop.seq, contact_id=stop.contact_id, now=datetime.now(UTC), details={})

    def a_file_says_yes(self) -> None:
        row = ImportedRow(
            address=self.dice.choice(self.people),
            verb=Verb.SUBSCRIBE,
            brand="default",
            topic="offers",
            reason=None,
            basis=Basis.CONSENT,
            occurred_at=datetime.now(UTC),
            origin_ref=f"line-{self.database.read(feed.head_seq)}",
            evidence={},
        )
        self.record(acts.imported(row))

    def it_happens_there(self) -> None:
        lists = list(self.connector.settings.topics.values())
        change = Change(self.dice.choice(self.people).value, self.dice.choice(lists))
        self.fake.happens(change)
        self.ever.add((change.address, change.list_ref))

    def the_vendor_breaks(self) -> None:
        self.fake.breaks()
        self.a_pass()
        self.fake.mends()

    def a_pass(self) -> None:
        self.fake.faults = [self.dice.choice(ALL_FAULTS) for _ in range(4)]
        self.fake.refused = {who.value for who in self.people if self.dice.random() < 0.1}
        for _ in range(self.dice.randint(1, 3)):
            self.pass_()
        self.fake.faults.clear()
        self.fake.refused.clear()

    def pass_(self) -> Outcome:
        self.database.save(cursors.resume, self.connector.name)
        outcome = run_once(self.database, self.connector, owner="worker", now=datetime.now(UTC))
        self.check_changes()
        return outcome

    def a_comparison(self) -> None:
        self.fake.faults = [self.dice.choice(ALL_FAULTS) for _ in range(8)]
        self.database.save(cursors.resume, self.connector.name)
        if self.connector.can_list:
            with suppress(TryLater, Misconfigured, Rejected):
                self.reconcile()
        self.fake.faults.clear()
        self.check_changes()

    # What must hold.

    def check_changes(self) -> None:
        """A no that was asked for is one that holds here, on that very list; a return is nobody's no any more."""
        here = self.held_here()
        self.ever |= here
        for change in self.fake.changes:
            key = (change.address, change.list_ref)
            if change.stands:
                assert key in here, f"{change} stops more than anybody asked for"
            else:
                assert self.connector.lifts_from(change.list_ref), f"{change} is a yes that travelled by itself"
                assert key not in here, f"{change} lifts a no that holds"
        self.fake.changes.clear()

    def held_here(self) -> set[tuple[str, str]]:
        ids = [add_contact(self.services, who) for who in self.people]
        settings = self.connector.settings
        return {
            (push.address.value, push.list_ref)
            for state in self.database.read(contact_state.address_states, ids)
            for push in required(state, settings.topics, settings.brand)
        }

    def settle(self) -> None:
        """Quiet, and one comparison; a vendor that cannot be read is told once more of all that stands."""
        self.fake.settle()
        while self.pass_() is Outcome.DONE:
            pass
        if self.connector.can_list:
            self.reconcile()
        else:
            backfill(self.database, self.connector, owner="worker", progress=lambda _: None)
        self.check_changes()
        here = self.held_here()
        for who in self.people:
            for list_ref in self.connector.settings.topics.values():
                key, holds = (who.value, list_ref), self.fake.holds(who.value, list_ref)
                assert holds or key not in here, f"{who.value[:7]} on {list_ref}: not there"
                # A return takes away only what is known to be older.
                stays = self.connector.can_lift and key in self.ever
                assert not holds or key in here or stays, f"{who.value[:7]} on {list_ref}: there alone"
        assert self.database.snapshot(verify, lambda _rows: None).problems == []

    def reconcile(self) -> None:
        reconcile(
            self.database,
            self.connector,
            owner="worker",
            fingerprints=self.services.fingerprints,
            now=datetime.now(UTC),
            progress=lambda _rows: None,
        )

    def record(self, act: Act) -> Entry:
        (entry,) = self.database.write(
            ledger.record, [act], fingerprints=self.services.fingerprints, now=datetime.now(UTC)
        )
        return entry
