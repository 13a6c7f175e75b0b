"""What an operator sees and does of connectors: their status, a look at one, a backfill, and the metrics."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update

from preferences.connectors import make_connector
from preferences.current import services_of
from preferences.store import cursors, feed, workers
from preferences.store.tables import connector_cursor
from preferences.store.transactions import Save
from preferences.sync.push import run_once
from preferences.sync.worker import Worker
from tests.commands import is_refused, run
from tests.connectors.contract import as_toml
from tests.connectors.fake_sendgrid import Fake
from tests.connectors.fakes import Change, Fault
from tests.connectors.test_sendgrid import TestTheContract as SendGridContract
from tests.processes import database_away
from tests.support import add_contact, close, email, link_for, new_app, new_sqlite

JANE = "jane.doe@example.com"


@pytest.fixture
def vendor() -> Iterator[Fake]:
    with Fake() as fake:
        yield fake


@pytest.fixture
def app(tmp_path: Path, vendor: Fake) -> Iterator[Flask]:
    """The application with SendGrid, and one person who stopped everything."""
    config_file = tmp_path / "config.toml"
    config_file.write_text(as_toml(SendGridContract().settings(name="sendgrid", base_url=vendor.url)))
    app = new_app(new_sqlite(tmp_path), config_file=config_file)
    services = services_of(app)
    app.test_client().post(link_for(services, add_contact(services, email(JANE))))
    yield app
    close(app)


def pass_(app: Flask) -> None:
    services = services_of(app)
    run_once(services.database, make_connector(services.connectors["sendgrid"]), owner="me", now=datetime.now(UTC))


def metrics(app: Flask) -> dict[str, float]:
    text = app.test_client().get("/metrics").text
    return {
        sample.name.removeprefix("preferences_connector_"): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("preferences_connector_") and sample.labels == {"connector": "sendgrid"}
    }


def test_a_new_connector_is_told_what_stands(app: Flask, vendor: Fake) -> None:
    result = run(app, "backfill", "sendgrid")
    assert (result.exit_code, result.stdout) == (0, "sendgrid was told of 1 opt-outs and suppressions.\n")
    assert vendor.holds(JANE, "global")
    assert run(app, "backfill", "sendgrid").exit_code == 0, "and again, which changes nothing"


def test_a_backfill_that_is_refused_is_one_line(app: Flask, vendor: Fake) -> None:
    services = services_of(app)
    app.test_client().post(
        link_for(services, add_contact(services, email("ben@example.com"))),
        data={"intent": "topic"},
        headers={"Accept": "text/html"},
    )
    vendor.breaks()
    assert is_refused(run(app, "backfill", "sendgrid"), "no unsubscribe group asm:17")


def test_its_lag_its_pushes_and_its_failures_are_shown(app: Flask, vendor: Fake) -> None:
    services = services_of(app)
    services.database.save(cursors.start, "sendgrid", 0)
    vendor.faults = [Fault.DOWN]
    pass_(app)
    line = run(app, "connectors").stdout
    assert "sendgrid: waiting after 1 failures (answer 503); 1 entries behind" in line
    assert "0 pushes, 1 failures" in line
    assert "last error TryLater" in line
    assert {name: metrics(app)[name] for name in ("lag_entries", "failures", "paused")} == {
        "lag_entries": 1,
        "failures": 1,
        "paused": 0,
    }

    services.database.save(cursors.resume, "sendgrid")
    pass_(app)

    line = run(app, "connectors").stdout
    assert "sendgrid: running; 0 entries behind, 0 s; 0 contacts refused; 1 pushes, 1 failures" in line
    assert "last error none; drift unknown" in line
    now = metrics(app)
    assert "drift" not in now
    assert (now["pushes"], now["lag_entries"], now["lag_seconds"]) == (1, 0, 0)


def test_its_lag_is_the_age_of_the_oldest_entry_it_has_not_read(app: Flask) -> None:
    services = services_of(app)
    services.database.save(cursors.start, "sendgrid", 0)
    later = datetime.now(UTC) + timedelta(minutes=5)
    status = services.database.read(cursors.statuses, later)["sendgrid"]
    assert status.entries_behind == 1
    assert status.seconds_behind == pytest.approx(300, abs=20)


def test_what_a_comparison_found_is_counted(app: Flask, vendor: Fake) -> None:
    vendor.happens(Change("ben@example.org", "asm:18"))
    services_of(app).database.save(cursors.start, "sendgrid")
    result = run(app, "reconcile", "sendgrid", "--dry-run")
    assert "Drift: 2. Nothing was changed." in result.stdout
    assert metrics(app)["drift"] == 2
    result = run(app, "reconcile", "sendgrid")
    assert "Drift: 2. Both sides were mended.\n" in result.stdout
    assert metrics(app)["drift"] == 0, "what is left"
    assert vendor.holds(JANE, "global")
    assert services_of(app).database.read(feed.head_seq) == 2


def test_what_a_repair_cannot_mend_is_what_is_left(app: Flask, vendor: Fake) -> None:
    vendor.refused = {JANE}
    assert "Left: 1, which the provider refuses" in run(app, "reconcile", "sendgrid").stdout
    assert metrics(app)["drift"] == 1
    vendor.refused.clear()
    assert run(app, "reconcile", "sendgrid").exit_code == 0
    assert metrics(app)["drift"] == 0


def test_a_line_of_drift_names_a_contact_that_a_command_can_find(app: Flask, vendor: Fake) -> None:
    vendor.happens(Change("ben@example.org", "asm:18"))
    before = run(app, "reconcile", "sendgrid", "--dry-run").stdout
    contact = add_contact(services_of(app), email(JANE))
    assert f"missing there: {contact}  global" in before
    assert "missing here:  nobody whom we know  asm:18" in before
    after = run(app, "reconcile", "sendgrid").stdout
    found = re.search(r"missing here:  (\S+)  asm:18", after)
    assert found is not None
    for name in (str(contact), found[1]):
        explained = run(app, "explain", name).stdout
        assert f"contact: {name}" in explained
        assert "unsubscribe" in explained
    assert "@" not in before + after
    assert is_refused(run(app, "explain", "01a20aa5-a2d8-7f70-a5ee-e27cc6126578"), "is not there")


class TestTheTruth:
    """What an operator is told while something is wrong."""

    def beats(self, app: Flask, ago: timedelta = timedelta(0)) -> None:
        services_of(app).database.save(workers.beat, "worker-1", datetime.now(UTC) - ago)

    def doctor(self, app: Flask, rule: str) -> list[str]:
        result = run(app, "doctor")
        lines = [line for line in result.stdout.splitlines() if f"  {rule}  " in line]
        assert result.exit_code == 1 or not any(line.startswith("BAD") for line in lines)
        return lines

    def test_entries_that_wait_while_no_worker_is_alive(self, app: Flask) -> None:
        services_of(app).database.save(cursors.start, "sendgrid", 0)
        self.beats(app, timedelta(minutes=2))
        (line,) = self.doctor(app, "WORKER")
        assert re.fullmatch(
            r"BAD   WORKER  no worker is alive since \S+ and 1 entries wait: start `flask worker`", line
        )
        (line,) = self.doctor(app, "CONN-RUN")
        assert "in step" not in line
        shown = run(app, "connectors").stdout
        assert "sendgrid: stopped, since no worker is alive" in shown
        assert "running" not in shown
        assert "No worker is alive; the last was seen at" in shown

        self.beats(app)
        (line,) = self.doctor(app, "WORKER")
        assert line == "ok    WORKER  1 worker alive"

    def test_letters_that_wait_while_no_worker_is_alive(self, app: Flask) -> None:
        app.test_client().post("/link", data={"address": JANE})
        (line,) = self.doctor(app, "WORKER")
        assert line.startswith("BAD ")
        assert "letters wait" in line

    def test_nothing_waits_and_no_worker_is_alive(self, app: Flask) -> None:
        (line,) = self.doctor(app, "WORKER")
        assert line.startswith("warn  WORKER  no worker is alive now")

    def test_a_provider_that_fails_for_the_fifth_time(self, app: Flask, vendor: Fake) -> None:
        database = services_of(app).database
        database.save(cursors.start, "sendgrid", 0)
        self.beats(app)
        for _ in range(5):
            vendor.faults = [Fault.DOWN]
            with time_machine.travel(datetime.now(UTC) + timedelta(minutes=9)):
                pass_(app)
            database.save(_due_now)
        (line,) = self.doctor(app, "CONN-RUN")
        assert line.startswith(
            "BAD   CONN-RUN  sendgrid has failed 5 times in a row: answer 503; it is 1 entries behind"
        )
        assert "sendgrid: failing, 5 times in a row (answer 503)" in run(app, "connectors").stdout
        assert metrics(app)["failures_in_a_row"] == 5

    def test_an_entry_that_has_waited_for_long(self, app: Flask) -> None:
        services_of(app).database.save(cursors.start, "sendgrid", 0)
        with time_machine.travel(datetime.now(UTC) + timedelta(minutes=6)):
            self.beats(app)
            (line,) = self.doctor(app, "CONN-RUN")
        assert re.match(r"BAD   CONN-RUN  sendgrid is 1 entries behind, the oldest of them 3[67]\d s old", line)

    def test_a_list_that_cannot_be_read_any_more(self, app: Flask, vendor: Fake) -> None:
        services = services_of(app)
        connector = make_connector(services.connectors["sendgrid"])
        worker = Worker(services.database, [connector], services.fingerprints)
        worker.pass_over_all()
        self.beats(app)
        start = datetime.now(UTC) + timedelta(days=1, minutes=1)
        for number in range(5):
            vendor.faults = [Fault.DOWN]
            with time_machine.travel(start + timedelta(minutes=2 * number)):
                worker.pass_over_all()
        (line,) = self.doctor(app, "CONN-COMPARE")
        assert line.startswith("BAD   CONN-COMPARE  sendgrid could not be compared 5 times in a row")
        assert "and 5 comparisons failed since" in run(app, "connectors").stdout

    def test_a_worker_says_that_it_is_alive_and_that_it_has_left(self, app: Flask) -> None:
        services = services_of(app)
        worker = Worker(services.database, [], services.fingerprints)
        thread = threading.Thread(target=worker.run)
        thread.start()
        deadline = datetime.now(UTC) + timedelta(seconds=20)
        while not services.database.read(workers.count_alive, datetime.now(UTC)) and datetime.now(UTC) < deadline:
            thread.join(0.05)
        assert "preferences_workers_alive 1.0" in app.test_client().get("/metrics").text
        worker.stop()
        thread.join()
        assert services.database.read(workers.last_seen) is None


def _due_now(save: Save) -> None:
    save.execute(update(connector_cursor).values(due_at=None))


def test_without_the_database_metrics_lack_the_figures_of_connectors(app: Flask) -> None:
    with database_away(app):
        answer = app.test_client().get("/metrics")
        assert answer.status_code == 200
        assert "preferences_connector_" not in answer.text


def test_a_look_at_one_that_is_right(app: Flask) -> None:
    result = run(app, "connectors", "check", "sendgrid")
    assert result.exit_code == 0
    for rule in ("CONN-KIND", "CONN-SECRET", "CONN-MAP", "CONN-CALL"):
        assert f"ok    {rule}  " in result.stdout


def test_a_look_at_one_names_all_that_is_wrong(app: Flask, vendor: Fake) -> None:
    vendor.breaks()
    result = run(app, "connectors", "check", "sendgrid")
    assert result.exit_code == 1
    assert "BAD   CONN-CALL  there is no unsubscribe group asm:17" in result.stdout
    vendor.faults = [Fault.DOWN]
    assert (
        "BAD   CONN-CALL  the provider answered a dry call with: answer 503"
        in run(app, "connectors", "check", "sendgrid").stdout
    )


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"options": {"region": "eu"}}, "BAD   CONN-KIND  connector sendgrid: options.region"),
        ({"webhook_secrets": ()}, "warn  CONN-SECRET  sendgrid has no webhook secret"),
        ({"topics": {"*": "global"}}, "warn  CONN-MAP  sendgrid has no list for topic offers"),
        ({"topics": {"offers": "global"}}, "BAD   CONN-KIND  connector sendgrid: offers maps to global"),
        ({"brand": "acme"}, "BAD   CONN-MAP  sendgrid maps offers, a topic of brand default, and is of acme"),
    ],
)
def test_a_look_at_the_settings(tmp_path: Path, vendor: Fake, change: dict[str, object], line: str) -> None:
    config_file = tmp_path / "config.toml"
    config_file.write_text(as_toml(SendGridContract().settings(name="sendgrid", base_url=vendor.url, **change)))
    app = new_app(new_sqlite(tmp_path), config_file=config_file)
    assert line in run(app, "connectors", "check", "sendgrid").stdout
    close(app)


def test_while_its_settings_are_wrong_the_provider_is_asked_to_wait(tmp_path: Path, vendor: Fake) -> None:
    config_file = tmp_path / "config.toml"
    settings = SendGridContract().settings(name="sendgrid", base_url=vendor.url, options={"region": "eu"})
    config_file.write_text(as_toml(settings))
    app = new_app(new_sqlite(tmp_path), config_file=config_file)
    assert app.test_client().post("/webhooks/sendgrid", data=b"[]").status_code == 503
    close(app)


@pytest.mark.parametrize("command", [["reconcile", "sendgrid"], ["backfill", "sendgrid"], ["worker"]])
def test_a_mapping_that_names_another_brand_s_topic_is_refused(
    tmp_path: Path, vendor: Fake, command: list[str]
) -> None:
    config_file = tmp_path / "config.toml"
    settings = SendGridContract().settings(name="sendgrid", base_url=vendor.url, brand="acme")
    config_file.write_text(as_toml(settings))
    app = new_app(new_sqlite(tmp_path), config_file=config_file)
    assert is_refused(run(app, *command), "sendgrid", "is a topic of brand default", "make a connector for each")
    assert vendor.asked == []
    close(app)
