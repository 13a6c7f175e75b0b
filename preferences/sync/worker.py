"""The worker: passes of each connector, and periodic tasks, until stopped.

Invariant: the process holds no state that a restart would lose; it may be killed at any moment.
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

from preferences.connectors import make_connector, require_own_topics
from preferences.connectors.base import Connector
from preferences.domain.addresses import Fingerprints
from preferences.domain.errors import Misconfigured, Rejected, StoreBusy, TryLater
from preferences.services import Services
from preferences.store import cursors, workers
from preferences.store.transactions import Database, StoreFault
from preferences.sync.cleanup import forget_old
from preferences.sync.feeds import Feed
from preferences.sync.inbound import end_suppressions
from preferences.sync.periodic import Periodic
from preferences.sync.push import RECONCILE_AGAIN, Outcome, run_once
from preferences.sync.reconcile import reconcile

log = structlog.get_logger(__name__)

IDLE_SECONDS: Final = 0.25
"""Between reads of an idle ledger."""

AWAY_SECONDS: Final = 2.0
"""Between tries of an unreachable database."""

HOUR: Final = timedelta(hours=1)
"""The interval of cleanups and of ending soft-bounce suppressions."""

TASK_SECONDS: Final = 5.0
"""The time for tasks to finish when the worker stops; claims expire."""


def owner_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{os.urandom(3).hex()}"


class Worker:
    """The loop of one process. Each task runs in its own thread."""

    def __init__(
        self,
        database: Database,
        connectors: Sequence[Connector],
        fingerprints: Fingerprints,
        tasks: Sequence[Callable[[], bool]] = (),
    ) -> None:
        self._owner = owner_name()
        beating = [Periodic(workers.BEAT, self._beat), *tasks]
        self._threads = [threading.Thread(target=self._run_task, args=(task,), daemon=True) for task in beating]
        self._database = database
        self._connectors = connectors
        self._fingerprints = fingerprints
        self._stop = threading.Event()
        self._broken: Exception | None = None

    def stop_on_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())

    def stop(self) -> None:
        """Stop after the current pass."""
        self._stop.set()

    def run(self) -> None:
        """Work until stopped, through database outages."""
        log.info("worker started", connectors=[connector.name for connector in self._connectors])
        for thread in self._threads:
            thread.start()
        self._repeat(self.pass_over_all)
        for thread in self._threads:
            thread.join(TASK_SECONDS)
        self._release()
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

    def _beat(self, now: datetime) -> bool:
        self._database.save(workers.beat, self._owner, now)
        return False

    def _run_task(self, task: Callable[[], bool]) -> None:
        """Each task has a thread, so that a hanging mail server delays no opt-out. An unexpected error stops the
        worker.
        """
        try:
            self._repeat(task)
        except Exception as error:  # noqa: BLE001 - raised again by the main thread
            self._broken = error
            self._stop.set()

    def pass_over_all(self) -> bool:
        """Returns whether any pass pushed."""
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
        """Called before the comparison, so that a failure is not retried at once."""
        wait = max(RECONCILE_AGAIN, timedelta(seconds=after))
        self._database.save(cursors.reconcile_at, connector.name, now + wait)

    def _release(self) -> None:
        try:
            for connector in self._connectors:
                self._database.save(cursors.release, connector.name, self._owner)
            self._database.save(workers.leave, self._owner)
        except (StoreBusy, StoreFault):
            return


def make_worker(services: Services, *, tasks: Sequence[Callable[[], bool]] = ()) -> Worker:
    """Raises Misconfigured."""
    _require_own_topics(services)
    database, fingerprints = services.database, services.fingerprints
    hourly = [
        Periodic(HOUR, lambda now: database.save(forget_old, now)),
        Periodic(HOUR, lambda now: end_suppressions(database, fingerprints, now)),
    ]
    feeds = [Feed(database, settings, owner_name()) for settings in services.feeds.values()]
    connectors = [make_connector(settings) for settings in services.connectors.values()]
    return Worker(database, connectors, fingerprints, tasks=[*tasks, *hourly, *feeds])


def _require_own_topics(services: Services) -> None:
    try:
        topics = services.catalog.get().topics
    except StoreBusy:
        return  # the worker starts and waits for the database
    for settings in services.connectors.values():
        require_own_topics(settings, topics)


def _silent(_rows: int) -> None:
    pass
