"""A worker's passes and comparisons."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from preferences.sync.push import Outcome
from preferences.sync.worker import Worker
from tests.connectors.fake import BUSY_SECONDS, FakeConnector, FakeProvider, Fault
from tests.sync.desk import (
    EVERYTHING,
    JANE,
    MAPPED,
    OFFERS,
    ROSA,
    Desk,
    a_row,
)


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
