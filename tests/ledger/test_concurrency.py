"""Many processes write at once: no gap, no loss, one chain, and a reader by number who misses nothing."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing import get_context
from threading import Barrier

import pytest
from sqlalchemy import create_engine, func, select

from preferences.domain.addresses import Fingerprints
from preferences.domain.records import Act, Address, Entry
from preferences.domain.vocabulary import BLANKET, Actor, Channel, SuppressionReason, Verb
from preferences.ledger import verify
from preferences.ledger.group_commit import Writer
from preferences.services import Services
from preferences.store import feed
from preferences.store.engine import engine_options, engine_url
from preferences.store.tables import contact
from preferences.store.transactions import Database, Write

pytestmark = pytest.mark.slow

PROCESSES, THREADS, EACH = 8, 5, 50
PEOPLE = [Address(Channel.EMAIL, f"person-{number}@example.com") for number in range(25)]
REPORTS = [f"evt-{number}" for number in range(5)]
PATIENCE = 120

everybody_is_there: Barrier


@contextmanager
def opened(database_url: str) -> Iterator[Database]:
    url = engine_url(database_url)
    engine = create_engine(url, **engine_options(url, THREADS))
    try:
        yield Database(engine)
    finally:
        engine.dispose()


def wait_for(barrier: Barrier) -> None:
    global everybody_is_there  # noqa: PLW0603 - each process is told once, when it starts
    everybody_is_there = barrier


def random_act(chance: random.Random) -> Act:
    verb = chance.choice([Verb.SUBSCRIBE, Verb.UNSUBSCRIBE, Verb.UNSUBSCRIBE, Verb.SUPPRESS])
    wish = verb is not Verb.SUPPRESS
    return Act(
        verb=verb,
        channel=Channel.EMAIL,
        who=chance.choice(PEOPLE),
        brand="default" if wish else "",
        topic=chance.choice(["offers", BLANKET] if verb is Verb.UNSUBSCRIBE else ["offers"]) if wish else "",
        reason=None if wish else SuppressionReason.COMPLAINT,
        origin="page",
        actor=Actor.RECIPIENT,
        occurred_at=datetime.now(UTC),
        trusted=True,
        evidence={"message_ref": str(chance.random())},
    )


def report(origin_ref: str) -> Act:
    """The same event, whoever tells it."""
    return Act(
        verb=Verb.UNSUBSCRIBE,
        channel=Channel.EMAIL,
        who=PEOPLE[0],
        brand="default",
        topic="offers",
        origin="connector.mailer",
        origin_ref=origin_ref,
        actor=Actor.PROVIDER,
        occurred_at=None,
    )


def write_much(database_url: str, number: int) -> list[Entry]:
    """One process's share. Returns every entry that was acknowledged."""
    with opened(database_url) as database, ThreadPoolExecutor(THREADS) as pool:
        writer = Writer(database, Fingerprints([b"fingerprint-key-of-tests"]))

        def write(thread: int) -> list[Entry]:
            chance = random.Random(f"{number}-{thread}")
            acts = [random_act(chance) for _ in range(EACH)] + [report(origin_ref) for origin_ref in REPORTS]
            chance.shuffle(acts)
            return [entry for act in acts for entry in writer.record([act])]

        everybody_is_there.wait(PATIENCE)
        return [entry for found in pool.map(write, range(THREADS)) for entry in found]


class Reader:
    """Follows the ledger by number while others write, as a connector does."""

    def __init__(self, database_url: str) -> None:
        self.entries: list[Entry] = []
        self._url = database_url
        self._ended = threading.Event()

    def follow(self) -> None:
        with opened(self._url) as database:
            while not self._caught_up(database):
                self._ended.wait(0.002)

    def end(self) -> None:
        """Stop when there is nothing left to read."""
        self._ended.set()

    def _caught_up(self, database: Database) -> bool:
        ended = self._ended.is_set()
        position = self.entries[-1].seq if self.entries else 0
        found = database.read(feed.entries_after, position, 100)
        self.entries += found
        return ended and not found


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    """Real processes, started once for both engines."""
    spawned = get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, spawned, wait_for, (spawned.Barrier(PROCESSES),)) as pool:
        yield pool


def test_eight_processes_lose_nothing_skip_nothing_and_agree(database_url: str, processes: ProcessPoolExecutor) -> None:
    reader = Reader(database_url)
    with ThreadPoolExecutor(1) as aside:
        following = aside.submit(reader.follow)
        try:
            shares = processes.map(write_much, [database_url] * PROCESSES, range(PROCESSES), timeout=PATIENCE)
            acknowledged = [entry for share in shares for entry in share]
        finally:
            reader.end()
        following.result(PATIENCE)

    written = PROCESSES * THREADS * EACH + len(REPORTS)
    assert [entry.seq for entry in reader.entries] == list(range(1, written + 1))
    assert len(acknowledged) == PROCESSES * THREADS * (EACH + len(REPORTS))
    assert {entry.seq: entry for entry in acknowledged} == {entry.seq: entry for entry in reader.entries}
    assert {entry.origin_ref for entry in reader.entries} == {None, *REPORTS}
    with opened(database_url) as database:
        proven = database.snapshot(verify.verify, lambda _entries: None)
        contacts = database.read(lambda read: read.execute(select(func.count(contact.c.id))).scalar_one())
    assert proven.problems == []
    assert (proven.entries, contacts) == (written, len(PEOPLE))


def test_whoever_waits_for_the_lock_is_recorded_by_the_first_commit_after_it(services: Services) -> None:
    held, free = threading.Event(), threading.Event()

    def hold(write: Write) -> None:
        held.set()
        assert free.wait(PATIENCE)

    with ThreadPoolExecutor(4) as threads:
        holding = threads.submit(services.database.write, hold)
        assert held.wait(PATIENCE)
        told = []
        for number in range(3):
            told.append(threads.submit(services.writer.record, [report(f"evt-{number}")]))
            while len(services.writer._batches._waiting) <= number:
                time.sleep(0.001)
        free.set()
        holding.result(PATIENCE)
        entries = [one.result(PATIENCE)[0] for one in told]
    assert sorted(entry.seq for entry in entries) == [1, 2, 3]
    assert len({entry.recorded_at for entry in entries}) == 1
