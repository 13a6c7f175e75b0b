"""Our own email: what each kind says, byte for byte, and that none is lost, sent twice or sent to the wrong address."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import structlog
from flask import Flask

from preferences.current import services_of
from preferences.domain.addresses import mailbox_of
from preferences.domain.backoff import Bounds
from preferences.domain.colours import contrast, ink_on
from preferences.domain.outbox import EMAIL_LIFE, WARNINGS, EmailKind
from preferences.domain.vocabulary import LANGUAGES, Channel
from preferences.factory import configure_logging
from preferences.i18n import Spoken
from preferences.mail import outbox as sender
from preferences.mail.outbox import OutboxWorker
from preferences.services import Services
from preferences.store import outbox, sign_ins
from preferences.store.catalog import save_brand
from preferences.store.outbox import LEASE, Order
from preferences.tokens import ManageLink
from tests.mail_sink import MailSink, Received
from tests.servers import free_port
from tests.support import BRAND, PUBLIC_URL, add_contact, close, email, new_app, new_sqlite, send_emails

JANE = "jane.doe@example.com"
LONG_URL = f"{PUBLIC_URL}/{'a' * 250}"
ITEMS = ["email.offers.status=on", "email.product-news.status=on"]


@pytest.fixture
def posting(tmp_path: Path, mail: MailSink) -> Iterator[Flask]:
    """The application with a mail server, on SQLite."""
    app = new_app(new_sqlite(tmp_path), smtp_url=mail.url)
    yield app
    close(app)


def details_for(services: Services, kind: EmailKind, address: str) -> dict[str, Any]:
    """What the kind needs to be written to somebody whom we know."""
    contact_id = add_contact(services, email(address))
    if kind is EmailKind.SIGN_IN:
        fingerprint = services.fingerprints.of(email(address))
        return {"sign_in": str(services.database.save(sign_ins.begin, fingerprint, datetime.now(UTC)))}
    details: dict[EmailKind, dict[str, Any]] = {
        EmailKind.SIGN_UP: {"items": ITEMS},
        EmailKind.OPT_IN: {"contact": str(contact_id), "items": ITEMS},
        EmailKind.MANAGE_LINK: {},
        EmailKind.NEW_ADDRESS: {"request": str(uuid4())},
        EmailKind.ADDRESS_CHANGED: {"new": "n•••@example.com", "request": str(uuid4())},
        EmailKind.ADDRESS_ADDED: {"new": "n•••@example.com", "confirmed": True},
    }
    return details[kind]


def order(
    services: Services,
    kind: EmailKind = EmailKind.MANAGE_LINK,
    address: str = JANE,
    *,
    language: str = "en",
    now: datetime | None = None,
    **details: Any,
) -> bool:
    """Order an email to a contact."""
    wanted = Order(
        kind=kind,
        address=address,
        mailbox=services.fingerprints.of(mailbox_of(email(address))),
        brand="default",
        language=language,
        details=details or details_for(services, kind, address),
    )
    return services.database.save(outbox.enqueue, wanted, now or datetime.now(UTC))


def waiting(services: Services) -> int:
    return services.database.read(outbox.count_waiting, datetime.now(UTC) + timedelta(minutes=1))


def brand_with(services: Services, **changes: Any) -> None:
    services.database.save(save_brand, replace(BRAND, **changes), datetime.now(UTC))


def text_of(received: Received) -> str:
    return received.text.replace("\r\n", "\n")


# What they say.


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", list(EmailKind))
def test_each_kind_arrives_complete_in_each_language(
    tmp_path: Path, mail: MailSink, kind: EmailKind, language: str
) -> None:
    app = new_app(new_sqlite(tmp_path), smtp_url=mail.url, public_url=LONG_URL)
    services = services_of(app)
    assert order(services, kind, language=language)
    send_emails(services)
    (received,) = mail.messages

    names = [name.lower() for name in received.message]
    for name in ("from", "to", "subject", "date", "message-id", "auto-submitted", "content-language"):
        assert names.count(name) == 1, name
    assert not [name for name in names if name.startswith("list-")]
    assert received.message["Content-Language"] == language
    assert received.message["Subject"].strip()
    assert received.raw.partition(b"\r\n\r\n")[0].isascii()
    assert max(len(line) for line in received.raw.split(b"\r\n")) <= 998
    assert f'lang="{language}" dir="{Spoken(language).direction}"' in received.html
    assert len(LONG_URL) > 280
    assert received.url.startswith(f"{LONG_URL}/")
    assert received.url.endswith(f"?lang={language}")
    assert received.html.count(f'href="{received.url}"') == 1
    assert waiting(services) == 0
    close(app)


@pytest.mark.parametrize("kind", [EmailKind.ADDRESS_CHANGED, EmailKind.ADDRESS_ADDED])
def test_a_warning_names_its_own_address_in_full_and_the_other_masked(
    posting: Flask, mail: MailSink, kind: EmailKind
) -> None:
    """Two addresses that begin alike look the same when both are masked."""
    order(services_of(posting), kind, "nora@example.com")
    send_emails(services_of(posting))
    (received,) = mail.messages
    assert "nora@example.com" in received.text
    assert "n•••@example.com" in received.text


@pytest.mark.parametrize("kind", list(EmailKind))
def test_plain_text_separates_its_paragraphs(posting: Flask, mail: MailSink, kind: EmailKind) -> None:
    services = services_of(posting)
    order(services, kind)
    send_emails(services)
    text = text_of(mail.messages[0])

    assert text.startswith(mail.messages[0].message["Subject"] + "\n\n")
    assert "\n\n\n" not in text
    assert "&" not in text.replace("Maple & Finch", "")
    assert re.search(r"\n\n.+\nhttps://\S+\n\n", text, re.MULTILINE), "the link stands on a line of its own"
    assert text.endswith(f"\n\n-- \n{BRAND.name}\n{BRAND.postal_address}\n{BRAND.contact_email}\n")
    unasked = "If you did not ask for this, you do not need to do anything."
    assert (unasked in text) == (unasked in mail.messages[0].html) == (kind not in WARNINGS)


def test_an_email_repeats_the_wording_beside_the_box(posting: Flask, mail: MailSink) -> None:
    order(services_of(posting), EmailKind.SIGN_UP)
    send_emails(services_of(posting))
    wording = "I want Offers by email from Maple & Finch. Reduced prices. Once a week. I can unsubscribe at any time."
    assert f"\n- {wording}\n" in text_of(mail.messages[0])
    assert wording.replace("&", "&amp;") in mail.messages[0].html


def test_an_email_is_small_and_loads_nothing(posting: Flask, mail: MailSink) -> None:
    order(services_of(posting), EmailKind.SIGN_UP)
    send_emails(services_of(posting))
    html = mail.messages[0].html
    assert len(mail.messages[0].raw) < 10_000
    assert "prefers-color-scheme:dark" in html
    assert re.findall(r"<(?:script|img|link|iframe|form)\b", html) == []
    assert set(re.findall(r"https?://[^/\"]+", html)) == {PUBLIC_URL}


@pytest.mark.parametrize("colour", ["#000000", "#ffffff", "#767676", "#ffd400", "#0b57d0", "#14594d", "#ff0000"])
def test_the_button_has_the_brands_colour_and_enough_contrast(posting: Flask, mail: MailSink, colour: str) -> None:
    services = services_of(posting)
    brand_with(services, colour=colour)
    order(services)
    send_emails(services)
    ((paper, ink),) = re.findall(r"<a href=[^>]*background:(#\w+);color:(#\w+)", mail.messages[0].html)
    assert paper == colour
    assert contrast(paper, ink) >= 4.5


def test_black_or_white_has_enough_contrast_on_every_colour() -> None:
    steps = range(0, 256, 15)
    colours = [f"#{red:02x}{green:02x}{blue:02x}" for red in steps for green in steps for blue in steps]
    assert min(contrast(colour, ink_on(colour)) for colour in colours) >= 4.5
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_a_brand_name_in_any_script_arrives_and_adds_no_header(posting: Flask, mail: MailSink) -> None:
    services = services_of(posting)
    names = ["متجر القيقب", "Maple\r\nBcc: victim@example.org", 'Finch, "Maple" <evil@example.org>', "<b>Finch</b>"]
    for number, name in enumerate(names):
        brand_with(services, name=name)
        services.catalog._catalog = None
        order(services, address=f"reader-{number}@example.com")
        send_emails(services)

        received = mail.wait_for(f"reader-{number}@example.com", seconds=1)
        assert received.message["From"].addresses[0].addr_spec == BRAND.contact_email
        assert received.message["From"].addresses[0].display_name == " ".join(name.split())
        assert len(received.message["From"].addresses) == 1
        assert "Bcc" not in received.message
        assert received.recipients == [f"reader-{number}@example.com"]
        assert "<b>Finch" not in received.html


def test_a_brand_with_a_broken_address_sends_nothing(posting: Flask, mail: MailSink) -> None:
    services = services_of(posting)
    brand_with(services, contact_email="hello@example.com\r\nBcc: victim@example.org")
    order(services)
    send_emails(services)
    assert mail.messages == []
    assert waiting(services) == 1, "and it can still be mended"


# Who gets one.


def test_a_manage_link_is_sent_to_known_addresses_alone(mailing_app: Flask, mail: MailSink) -> None:
    services = services_of(mailing_app)
    order(services)
    for kind in (EmailKind.MANAGE_LINK, EmailKind.SIGN_IN):
        order(services, kind, "nobody.we.know@example.org", sign_in=str(uuid4()))
    send_emails(services)

    assert [message.recipients for message in mail.messages] == [[JANE]]
    token = mail.messages[0].url.partition("/p/")[2].partition("?")[0]
    link = services.links.read_manage(token, datetime.now(UTC))
    assert link == ManageLink(add_contact(services), Channel.EMAIL, "default", link.issued_at)
    assert waiting(services) == 0


def test_retired_topics_are_left_out_and_no_empty_email_is_sent(posting: Flask, mail: MailSink) -> None:
    services = services_of(posting)
    order(services, EmailKind.SIGN_UP, items=["email.retired.status=on", *ITEMS])
    order(services, EmailKind.SIGN_UP, "other@example.com", items=["email.retired.status=on"])
    send_emails(services)
    (received,) = mail.messages
    token = received.url.partition("/confirm/")[2].partition("?")[0]
    assert services.links.read_confirm(token, datetime.now(UTC)).items == tuple(ITEMS)
    assert waiting(services) == 0


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
    monkeypatch.setattr(sender, "WAITS", Bounds(first=60.0, longest=60.0))
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
    send = sender.send

    def slowly(services: Services, server: Any, queued: Any, now: datetime) -> None:
        send(services, server, queued, now)
        monkeypatch.setattr(sender, "LONGEST_PASS", -took)

    monkeypatch.setattr(sender, "send", slowly)
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
    monkeypatch.setattr(sender, "log", structlog.get_logger("preferences.mail.outbox"))
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


def test_the_mail_sink_reads_what_a_mail_program_shows(posting: Flask, mail: MailSink) -> None:
    """The tools of these tests: the text's one link, and the code to type."""
    order(services_of(posting), EmailKind.SIGN_IN)
    send_emails(services_of(posting))
    assert isinstance(mail.messages[0], Received)
    assert re.fullmatch(r"\d{6}", mail.messages[0].code)
