"""The worker: pass after pass of each connector, until told to stop.

Owns the loop and the daily comparison. Invariant: it holds nothing that a second worker, or a restart, would miss; it
may be killed at any moment.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from preferences.connectors.base import Connector
from preferences.domain.addresses import Fingerprints
from preferences.domain.errors import Misconfigured, Rejected, StoreBusy, TryLater
from preferences.store import cursors, workers
from preferences.store.transactions import Database, StoreFault
from preferences.sync import RECONCILE_AGAIN, Outcome, reconcile, run_once

log = structlog.get_logger(__name__)

IDLE_SECONDS: Final = 0.25
"""How often the ledger is looked at when nothing happens: a quarter of the second within which a provider is told."""

AWAY_SECONDS: Final = 2.0

ERRAND_SECONDS: Final = 5.0
"""How long an errand may finish what it is at when the worker stops. What it leaves undone, its lease gives back."""


def owner_name() -> str:
    """What this process signs its leases with."""
    return f"{socket.gethostname()}:{os.getpid()}:{os.urandom(3).hex()}"


class Heartbeat:
    """Says every few seconds that this process is alive, however long its calls to providers take."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name
        self._due_at = datetime.min.replace(tzinfo=UTC)

    def __call__(self) -> bool:
        """Beat if it is due. Returns False: there is no more to do right away."""
        now = datetime.now(UTC)
        if now >= self._due_at:
            self._database.save(workers.beat, self._name, now)
            self._due_at = now + workers.BEAT
        return False


class Worker:
    """One process's loop over its connectors, and over what else is to be done now and then (letters, tidying)."""

    def __init__(
        self,
        database: Database,
        connectors: Sequence[Connector],
        fingerprints: Fingerprints,
        errands: Sequence[Callable[[], bool]] = (),
    ) -> None:
        self._owner = owner_name()
        every = [Heartbeat(database, self._owner), *errands]
        self._errands = [threading.Thread(target=self._run_errand, args=(one,), daemon=True) for one in every]
        self._database = database
        self._connectors = connectors
        self._fingerprints = fingerprints
        self._stop = threading.Event()
        self._broken: Exception | None = None

    def stop_on_signals(self) -> None:
        """Finish the pass at hand and leave, when asked to."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())

    def stop(self) -> None:
        """Leave after the pass at hand."""
        self._stop.set()

    def run(self) -> None:
        """Work until stopped. A database that is away is waited for."""
        log.info("worker started", connectors=[connector.name for connector in self._connectors])
        for errand in self._errands:
            errand.start()
        self._repeat(self.pass_over_all)
        for errand in self._errands:
            errand.join(ERRAND_SECONDS)
        self._let_go()
        if self._broken is not None:
            raise self._broken
        log.info("worker stopped")

    def _repeat(self, work: Callable[[], bool]) -> None:
        while not self._stop.is_set():
            try:
                busy = work()
            except (StoreBusy, StoreFault) as error:
                log.warning("the database cannot be reached", why=str(error), waits=AWAY_SECONDS)
                self._stop.wait(AWAY_SECONDS)
                continue
            if not busy:
                self._stop.wait(IDLE_SECONDS)

    def _run_errand(self, errand: Callable[[], bool]) -> None:
        """Each in a thread of its own: a mail server that hangs must not keep a provider from hearing of an opt-out.

        A mistake of ours in one ends the whole worker, as it does in a pass: whatever restarts it must notice.
        """
        try:
            self._repeat(errand)
        except Exception as error:  # noqa: BLE001 - raised again by the thread that everybody watches
            self._broken = error
            self._stop.set()

    def pass_over_all(self) -> bool:
        """One pass of each connector. Returns whether any had something to do."""
        outcomes = [self._pass(connector) for connector in self._connectors]
        return Outcome.DONE in outcomes

    def _pass(self, connector: Connector) -> Outcome:
        now = datetime.now(UTC)
        if self._cursor(connector) is None:
            self._database.save(cursors.start, connector.name)
        outcome = run_once(self._database, connector, owner=self._owner, now=now)
        if outcome in {Outcome.POSTPONED, Outcome.PAUSED}:
            cursor = self._cursor(connector)
            why = cursor.last_error if cursor else None
            log.warning("connector stopped", connector=connector.name, outcome=outcome.value, why=why)
        if outcome is Outcome.IDLE:
            self._reconcile_when_due(connector, now)
        return outcome

    def _cursor(self, connector: Connector) -> cursors.Cursor | None:
        return self._database.read(cursors.find_cursor, connector.name)

    def _reconcile_when_due(self, connector: Connector, now: datetime) -> None:
        if not connector.can_list:
            return
        cursor = self._cursor(connector)
        if cursor is None or (cursor.reconcile_due_at is not None and cursor.reconcile_due_at > now):
            return
        claimed = self._database.save(cursors.claim, connector.name, self._owner, now)
        if claimed is None:
            return
        self._save_next_comparison(connector, now)
        try:
            drift = reconcile(
                self._database,
                connector,
                owner=self._owner,
                fingerprints=self._fingerprints,
                now=now,
                progress=_silent,
            )
        except (TryLater, Misconfigured, Rejected) as failure:
            if isinstance(failure, TryLater) and failure.after:
                self._save_next_comparison(connector, now, after=failure.after)
            self._database.save(cursors.comparison_failed, connector.name, f"{type(failure).__name__}: {failure}")
            log.warning("comparison put off", connector=connector.name, why=str(failure))
        else:
            log.info("compared", connector=connector.name, found=drift.count, left=drift.left, unmapped=drift.unmapped)

    def _save_next_comparison(self, connector: Connector, now: datetime, *, after: float = 0.0) -> None:
        """Set before it starts, so that one that fails is tried again later and not at once."""
        wait = max(RECONCILE_AGAIN, timedelta(seconds=after))
        self._database.save(cursors.reconcile_at, connector.name, now + wait)

    def _let_go(self) -> None:
        try:
            for connector in self._connectors:
                self._database.save(cursors.release, connector.name, self._owner)
            self._database.save(workers.leave, self._owner)
        except (StoreBusy, StoreFault):
            return


def _silent(_rows: int) -> None:
    """Nobody watches a worker's progress."""
