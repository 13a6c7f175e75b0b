"""Tasks that a worker runs at intervals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import time_machine

from preferences.sync.periodic import Periodic

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_a_task_runs_at_once_and_then_each_interval() -> None:
    runs: list[datetime] = []

    def work(now: datetime) -> bool:
        runs.append(now)
        return False

    task = Periodic(HOUR, work)
    with time_machine.travel(NOW, tick=False) as clock:
        assert [task(), task()] == [False, False]
        clock.shift(HOUR - timedelta(seconds=1))
        task()
        assert runs == [NOW]
        clock.shift(timedelta(seconds=1))
        task()
    assert runs == [NOW, NOW + HOUR]


def test_a_task_that_has_more_to_do_runs_again_at_once() -> None:
    left = iter([True, True, False])
    task = Periodic(HOUR, lambda _now: next(left))
    with time_machine.travel(NOW, tick=False):
        assert [task(), task(), task(), task()] == [True, True, False, False]


def test_a_task_that_fails_is_still_due() -> None:
    calls = 0

    def work(_now: datetime) -> bool:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyError
        return False

    task = Periodic(HOUR, work)
    with time_machine.travel(NOW, tick=False):
        try:
            task()
        except KeyError:
            task()
    assert calls == 2
