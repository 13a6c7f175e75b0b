"""Our own email: what each kind says, byte for byte, and who gets it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask

from preferences.current import services_of
from preferences.domain.colours import contrast, ink_on
from preferences.domain.outbox import WARNINGS, EmailKind
from preferences.domain.vocabulary import LANGUAGES, Channel
from preferences.i18n import Spoken
from preferences.services import Services
from preferences.store.catalog import save_brand
from preferences.tokens import ManageLink
from tests.mail.orders import ITEMS, JANE, order, waiting
from tests.mail_sink import MailSink, Received
from tests.support import BRAND, PUBLIC_URL, add_contact, close, new_app, new_sqlite, send_emails

LONG_URL = f"{PUBLIC_URL}/{'a' * 250}"


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


def test_the_mail_sink_reads_what_a_mail_program_shows(posting: Flask, mail: MailSink) -> None:
    """The tools of these tests: the text's one link, and the code to type."""
    order(services_of(posting), EmailKind.SIGN_IN)
    send_emails(services_of(posting))
    assert isinstance(mail.messages[0], Received)
    assert re.fullmatch(r"\d{6}", mail.messages[0].code)
