"""An acknowledged opt-out is never lost: not when web or worker is stopped or killed, nor when the database crashes."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest
import requests
from sqlalchemy import select

from preferences.store.tables import ledger_entry
from tests.journeys.world import World, wait_for
from tests.processes import Process
from tests.servers import PostgresServer
from tests.support import link_for, new_postgresql, new_sqlite

PEOPLE: Final = [f"person.{number}@example.com" for number in range(1_000)]
THREADS: Final = 20
TRIES: Final = 300
SECONDS_BETWEEN_TRIES: Final = 0.2
SECONDS_TO_SETTLE: Final = 60.0
"""Longer than the lease that a killed worker leaves behind."""


class Clickers:
    """Many mail programs at once. Each repeats its post until it is acknowledged, or gives up."""

    def __init__(self, world: World) -> None:
        self.acknowledged: set[str] = set()
        self.given_up: set[str] = set()
        self.unheard = 0
        self.ids = world.contacts(PEOPLE)
        self._links = {
            address: world.installation.url + link_for(world.services, contact_id)
            for address, contact_id in self.ids.items()
        }
        self._count = threading.Lock()

    def run(self) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(self._click, PEOPLE))

    def wait_until(self, many: int) -> None:
        """Return when so many have been acknowledged."""
        wait_for(f"{many} have clicked", lambda: len(self.acknowledged) >= many, seconds=60)

    def _click(self, address: str) -> None:
        for _ in range(TRIES):
            if self._post(self._links[address]) == 200:
                with self._count:
                    self.acknowledged.add(address)
                return
            with self._count:
                self.unheard += 1
            time.sleep(SECONDS_BETWEEN_TRIES)
        with self._count:
            self.given_up.add(address)

    def _post(self, link: str) -> int | None:
        """The status, or None if there was no answer: then nobody knows, and it is tried again."""
        try:
            return requests.post(link, data="List-Unsubscribe=One-Click", timeout=20).status_code
        except requests.RequestException:
            return None


def run_and_kill(clickers: Clickers, deaths: list[Callable[[], None]], seed: int) -> None:
    """Let everybody click, and each death come at a moment of its own: after so many were acknowledged."""
    chance = random.Random(seed)
    moments = sorted(chance.sample(range(20, len(PEOPLE) - 100), len(deaths)))
    crowd = threading.Thread(target=clickers.run)
    crowd.start()
    try:
        for moment, die in zip(moments, deaths, strict=True):
            clickers.wait_until(moment)
            time.sleep(chance.uniform(0, 0.05))
            die()
    finally:
        crowd.join()


def kill_and_restart(world: World, which: str) -> Callable[[], None]:
    def die() -> None:
        process = world.installation.web if which == "web" else world.installation.worker
        (before, *_) = process.pids()
        process.kill()
        assert before not in process.pids()
        process.start()

    return die


def stop_and_restart(world: World, how: Callable[[Process], None]) -> Callable[[], None]:
    def stop() -> None:
        (before, *_) = world.installation.web.pids()
        how(world.installation.web)
        assert before not in world.installation.web.pids()
        time.sleep(SECONDS_BETWEEN_TRIES)
        world.installation.web.start()

    return stop


@pytest.fixture
def sqlite_world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path, new_sqlite(tmp_path), PEOPLE) as world:
        yield world


@pytest.fixture
def own_server(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """One that may crash, and that writes to the disk what it says it has written."""
    with PostgresServer(postgres.binaries, fsync="on") as server:
        yield server


@pytest.fixture
def postgresql_world(own_server: PostgresServer, tmp_path: Path) -> Iterator[World]:
    with World(tmp_path, new_postgresql(own_server), PEOPLE) as world:
        yield world


def test_killing_web_and_worker_loses_no_acknowledged_opt_out(sqlite_world: World) -> None:
    world = sqlite_world
    clickers = Clickers(world)
    deaths = [kill_and_restart(world, which) for which in ("web", "worker", "web", "web", "worker", "web")]

    run_and_kill(clickers, deaths, seed=8058)

    assert_nothing_was_lost(world, clickers)


def test_stopping_the_web_server_loses_no_acknowledged_opt_out(sqlite_world: World) -> None:
    world = sqlite_world
    clickers = Clickers(world)
    deaths = [stop_and_restart(world, how) for how in (Process.press_ctrl_c, Process.stop, Process.press_ctrl_c)]

    run_and_kill(clickers, deaths, seed=4711)

    assert_nothing_was_lost(world, clickers)


def test_crashing_the_database_as_well_loses_no_acknowledged_opt_out(
    postgresql_world: World, own_server: PostgresServer
) -> None:
    world = postgresql_world
    clickers = Clickers(world)

    def crash() -> None:
        (before, *_) = own_server.pids()
        own_server.stop("immediate")
        time.sleep(0.5)
        own_server.start()
        assert own_server.pids()[0] != before

    deaths = [kill_and_restart(world, which) for which in ("web", "worker", "web", "worker", "web")]
    deaths.insert(2, crash)

    run_and_kill(clickers, deaths, seed=2369)

    assert_nothing_was_lost(world, clickers)


def assert_nothing_was_lost(world: World, clickers: Clickers) -> None:
    assert clickers.given_up == set()
    assert clickers.unheard > 0, "nobody noticed any of the deaths"
    assert len(clickers.acknowledged) == len(PEOPLE)

    addresses = {contact_id: address for address, contact_id in clickers.ids.items()}
    statement = select(ledger_entry.c.contact_id).where(
        ledger_entry.c.verb == "unsubscribe", ledger_entry.c.topic == "*", ledger_entry.c.changed
    )
    recorded = world.services.database.read(lambda read: list(read.execute(statement).scalars()))
    assert len(recorded) == len(PEOPLE), "an opt-out was recorded as news twice"
    assert {addresses[contact_id] for contact_id in recorded} >= clickers.acknowledged

    verified = world.installation.flask("ledger", "verify")
    assert verified.returncode == 0, verified.stderr

    everybody = {(address, "global") for address in PEOPLE}
    assert world.projection() == everybody
    wait_for("the platform knows of everybody", lambda: world.platform_list() == everybody, SECONDS_TO_SETTLE)
    wait_for("the worker has nothing left to tell", lambda: world.is_told, SECONDS_TO_SETTLE)
