"""The outbox worker: no email is lost or sent twice, the log names nobody, and doctor reports what waits."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from flask import Flask

from preferences.current import services_of
from preferences.domain.backoff import Bounds
from preferences.domain.outbox import EMAIL_LIFE, EmailKind
from preferences.factory import configure_logging
from preferences.mail import outbox as worker_module
from preferences.mail.outbox import OutboxWorker
from preferences.services import Services
from preferences.store import outbox
from preferences.store.outbox import LEASE
from tests.mail.orders import JANE, order, waiting
from tests.mail_sink import MailSink
from tests.servers import free_port
from tests.support import close, new_app, new_sqlite, send_emails

# Nothing is lost, and nothing comes twice.


def test_a_refused_recipient_is_given_up_and_the_others_are_not(mailing_app: Flask, mail: MailSink) -> None:
    services = services_of(mailing_app)
    mail.refusals.add("gone@example.com")
    for address in ("gone@example.com", JANE):
        order(services, address=address)
    send_emails(services)
    assert [message.recipients for message in mail.messages] == [[JANE]]
    assert waiting(services) == 0


def test_nothing_is_lost_while_the_mail_server_is_away(database_url: str) -> None:
    sink = MailSink()
    app = new_app(database_url, smtp_url=sink.url)
    services = services_of(app)
    people = [f"person-{number}@example.com" for number in range(30)]
    for address in people:
        order(services, address=address)
    send_emails(services)
    assert waiting(services) == 30

    with sink:
        _make_due(services)
        send_emails(services)

    assert sorted(message.recipients[0] for message in sink.messages) == sorted(people)
    assert waiting(services) == 0
    close(app)


def test_a_hanging_mail_server_is_tried_once_and_not_per_email(posting: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preferences.mail.smtp.TIMEOUT", 0.3)
    monkeypatch.setattr(worker_module, "WAITS", Bounds(first=60.0, longest=60.0))
    calls = 0
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"smtp://127.0.0.1:{silent.getsockname()[1]}"
        services = services_of(posting)
        services = replace(services, settings=services.settings.model_copy(update={"smtp_url": url}))
        for number in range(5):
            order(services, address=f"person-{number}@example.com")
        OutboxWorker(services)()
        silent.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                calls += 1
    assert calls == 1
    assert waiting(services) == 5


def test_a_greylisted_mailbox_delays_no_other(posting: Flask, mail: MailSink) -> None:
    class Greylisting(MailSink):
        async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
            self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
        ) -> str:
            if address == "grey@example.com":
                return "450 come back later"
            return await super().handle_RCPT(server, session, envelope, address, options)

    services = services_of(posting)
    with Greylisting(port=mail.port + 1 if mail.port < 65_000 else free_port()) as sink:
        services = replace(services, settings=services.settings.model_copy(update={"smtp_url": sink.url}))
        for address in ("grey@example.com", JANE):
            order(services, address=address)
        OutboxWorker(services)()
    assert [message.recipients for message in sink.messages] == [[JANE]]
    assert waiting(services) == 1


def test_a_late_email_is_not_sent_but_a_late_warning_is(posting: Flask, mail: MailSink) -> None:
    services, now = services_of(posting), datetime.now(UTC)
    order(services, now=now - timedelta(hours=25))
    order(services, EmailKind.SIGN_UP, now=now - timedelta(hours=23))
    order(services, EmailKind.SIGN_IN, now=now - timedelta(minutes=11))
    order(services, EmailKind.ADDRESS_CHANGED, now=now - timedelta(days=6))
    send_emails(services)
    assert sorted(message.message["Subject"] for message in mail.messages) == [
        "Please confirm your sign-up",
        "Your address was changed",
    ]
    assert waiting(services) == 0


def test_an_email_is_given_up_after_a_day(posting: Flask) -> None:
    services = services_of(posting)
    services = replace(
        services, settings=services.settings.model_copy(update={"smtp_url": f"smtp://127.0.0.1:{free_port()}"})
    )
    order(services, now=datetime.now(UTC) - EMAIL_LIFE - timedelta(seconds=1))
    order(services, address="newer@example.com")
    OutboxWorker(services)()
    assert waiting(services) == 1


def test_a_killed_worker_loses_no_email(mailing_app: Flask, mail: MailSink) -> None:
    services = services_of(mailing_app)
    now = datetime.now(UTC)
    order(services, now=now - timedelta(hours=1))
    assert len(services.database.save(outbox.claim, now, 20)) == 1  # and here it is killed

    send_emails(services)
    assert mail.messages == [], "it may be at work yet"
    assert services.database.save(outbox.claim, now + LEASE - timedelta(seconds=1), 20) == []

    assert len(services.database.save(outbox.claim, now + LEASE + timedelta(seconds=1), 20)) == 1
    _make_due(services)
    send_emails(services)
    assert len(mail.messages) == 1
    assert waiting(services) == 0


def test_two_workers_never_send_the_same_email(mailing_app: Flask, mail: MailSink) -> None:
    services = services_of(mailing_app)
    people = [f"person-{number}@example.com" for number in range(60)]
    for address in people:
        order(services, address=address)
    threads = [threading.Thread(target=send_emails, args=[services]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(message.recipients[0] for message in mail.messages) == sorted(people)


def test_a_slow_mail_server_does_not_outlast_the_lease(
    posting: Flask, mail: MailSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = services_of(posting)
    for number in range(5):
        order(services, address=f"person-{number}@example.com")
    took = timedelta(seconds=1)
    send = worker_module.send

    def slowly(services: Services, server: Any, queued: Any, now: datetime) -> None:
        send(services, server, queued, now)
        monkeypatch.setattr(worker_module, "LONGEST_PASS", -took)

    monkeypatch.setattr(worker_module, "send", slowly)
    OutboxWorker(services)()
    assert len(mail.messages) == 1
    assert len(services.database.save(outbox.claim, datetime.now(UTC), 20)) == 4, "the others are free again at once"


def test_without_a_mail_server_emails_wait(tmp_path: Path) -> None:
    app = new_app(new_sqlite(tmp_path))
    services = services_of(app)
    order(services)
    assert OutboxWorker(services)() is False
    assert waiting(services) == 1
    close(app)


def _make_due(services: Services) -> None:
    with services.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE letter SET due_at = created_at")


# What is said of them.


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """What is logged, as the worker writes it."""
    configure_logging()
    yield lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    structlog.reset_defaults()


def test_no_outcome_of_an_email_logs_an_address(
    posting: Flask, mail: MailSink, lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = services_of(posting)
    monkeypatch.setattr(worker_module, "log", structlog.get_logger("preferences.mail.outbox"))
    mail.refusals.add("gone@example.com")
    for address in ("gone@example.com", JANE):
        order(services, address=address)
    order(services, EmailKind.SIGN_UP, "broken@example.com", items=["not an item of ours for broken@example.com"])
    send_emails(services)
    away = replace(
        services, settings=services.settings.model_copy(update={"smtp_url": f"smtp://127.0.0.1:{free_port()}"})
    )
    order(services, address="late@example.com")
    order(services, address="too.late@example.com", now=datetime.now(UTC) - EMAIL_LIFE - timedelta(minutes=1))
    OutboxWorker(away)()

    said = lines()
    assert {line["event"] for line in said} == {"email sent", "email refused", "email put off", "email given up"}
    assert "@" not in json.dumps(said)
    assert "example.com" not in json.dumps(said)


# The doctor.


@dataclass(frozen=True)
class Said:
    """What the doctor says of outgoing mail."""

    exit_code: int
    lines: list[str]


def doctor(app: Flask) -> Said:
    result = app.test_cli_runner().invoke(args=["doctor"])
    return Said(result.exit_code, [line for line in result.stdout.splitlines() if "MAIL-OUT" in line])


def test_doctor_reports_a_missing_mail_server(tmp_path: Path) -> None:
    app = new_app(new_sqlite(tmp_path))
    said = doctor(app)
    assert said.exit_code == 1
    assert said.lines[0].startswith("BAD ")
    assert "SMTP_URL is not set" in said.lines[0]
    close(app)


def test_doctor_reports_emails_that_wait_for_long(posting: Flask) -> None:
    services = services_of(posting)
    order(services, now=datetime.now(UTC) - timedelta(minutes=14))
    assert [line[:4] for line in doctor(posting).lines] == ["ok  "]

    order(services, address="other@example.com", now=datetime.now(UTC) - timedelta(minutes=16))
    said = doctor(posting)
    assert said.exit_code == 1
    assert "1 of our own letters" in said.lines[0]
