"""The tasks of a worker beside its connectors."""

from __future__ import annotations

import threading
import time

import pytest
from flask import Flask

from preferences.current import services_of
from preferences.domain.errors import StoreBusy
from preferences.sync.worker import Worker


def worker_with(app: Flask, *tasks: object) -> Worker:
    services = services_of(app)
    return Worker(services.database, [], services.fingerprints, tasks=tasks)  # type: ignore[arg-type]


def test_a_task_that_hangs_does_not_delay_another(sqlite_app: Flask) -> None:
    let_go, ran = threading.Event(), threading.Event()

    def hangs() -> bool:
        let_go.wait(10)
        return False

    def runs() -> bool:
        ran.set()
        return False

    worker = worker_with(sqlite_app, hangs, runs)
    thread = threading.Thread(target=worker.run)
    thread.start()
    assert ran.wait(5)
    let_go.set()
    worker.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_the_worker_waits_for_a_database_that_is_away(sqlite_app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preferences.sync.worker.AWAY_SECONDS", 0.01)
    calls: list[float] = []

    def away_twice() -> bool:
        calls.append(time.monotonic())
        if len(calls) < 3:
            raise StoreBusy("away")
        worker.stop()
        return False

    worker = worker_with(sqlite_app, away_twice)
    worker.run()
    assert len(calls) == 3


def test_an_unexpected_error_in_a_task_stops_the_worker(sqlite_app: Flask) -> None:
    def mistake() -> bool:
        raise KeyError("no such thing")

    with pytest.raises(KeyError):
        worker_with(sqlite_app, mistake).run()
