"""The sign-up form: it asks, it never signs anybody up, and it cannot be used against anybody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from preferences.current import services_of
from preferences.domain.outbox import EmailKind
from preferences.domain.records import Act
from preferences.domain.vocabulary import Actor, Channel, Origin, SuppressionReason, Verb
from preferences.ledger import record as ledger
from preferences.services import Services
from preferences.store import feed, outbox
from preferences.store.catalog import add_topic, save_brand
from preferences.web.shared.limits import limiter
from tests.mail_sink import MailSink
from tests.processes import contents
from tests.support import BRAND, PUBLIC_URL, TOPICS, add_contact, close, email, new_app, send_emails

JANE, STRANGER = "jane.doe@example.com", "nobody.we.know@example.org"
WORDING = "I want Offers by email from Maple &amp; Finch. Reduced prices. Once a week. I can unsubscribe at any time."


@pytest.fixture(autouse=True)
def _fresh_counters(request: pytest.FixtureRequest) -> None:
    """The counters of the network are the process's own: each test begins with none."""
    for name in ("app", "sqlite_app", "mailing_app", "many_networks"):
        if name in request.fixturenames:
            with request.getfixturevalue(name).app_context():
                limiter.reset()


@pytest.fixture
def many_networks(database_url: str, mail: MailSink) -> Iterator[Flask]:
    """The application behind a proxy that tells where a call comes from."""
    app = new_app(database_url, smtp_url=mail.url, trusted_proxies=1)
    yield app
    close(app)


def sign_up(client: FlaskClient, address: str = JANE, *topics: str, **headers: str) -> TestResponse:
    return client.post("/sign-up", data={"address": address, "topic": list(topics or ["offers"])}, headers=headers)


def count_waiting(services: Services) -> int:
    return services.database.read(outbox.count_waiting, datetime.now(UTC) + timedelta(days=9))


class Form(HTMLParser):
    """A form as a browser reads it: where it goes, and its fields."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.action = ""
        self.fields: list[dict[str, str | None]] = []
        self.labelled: set[str | None] = set()
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        self.tags.append(tag)
        self.action = named.get("action") or self.action
        if tag == "input":
            self.fields.append(named)
        if tag == "label":
            self.labelled.add(named.get("for"))


# What it shows.


def test_nothing_is_ticked_beforehand_and_each_box_stands_beside_its_words(sqlite_app: Flask) -> None:
    page = sqlite_app.test_client().get("/sign-up")
    form = Form(page.text)

    assert page.status_code == 200
    assert [one["value"] for one in form.fields if one.get("type") == "checkbox"] == ["offers", "product-news"]
    assert not [one for one in form.fields if "checked" in one]
    assert WORDING in page.text
    assert page.text.count('type="email"') == page.text.count("<button") == page.text.count("<form") == 1
    assert "Receipts" not in page.text, "what is always sent is nobody's to sign up for"


def test_it_says_who_sends_how_to_stop_what_is_kept_and_that_nobody_has_to(sqlite_app: Flask) -> None:
    page = sqlite_app.test_client().get("/sign-up")
    assert "From Maple &amp; Finch." in page.text
    assert "Every email has an unsubscribe link." in page.text
    assert 'id="kept"' in page.text
    assert "You can buy from us without signing up." in page.text
    assert "<script" not in page.text
    assert len(page.data) < 50_000


def test_a_brand_that_sends_no_marketing_says_so(sqlite_app: Flask) -> None:
    services = services_of(sqlite_app)
    quiet = replace(BRAND, slug="quiet", name="Quiet", path="quiet-brand")
    services.database.save(save_brand, quiet, datetime.now(UTC))
    page = sqlite_app.test_client().get("/quiet-brand/sign-up")
    assert "Quiet sends no marketing at the moment" in page.text
    assert "<button" not in page.text


def test_each_brand_offers_its_own(mailing_app: Flask, mail: MailSink) -> None:
    services, now = services_of(mailing_app), datetime.now(UTC)
    other = replace(BRAND, slug="other", name="Other Shop", path="other-shop")
    services.database.save(save_brand, other, now)
    services.database.save(add_topic, replace(TOPICS[1], slug="other-deals", brand="other", name="Deals"), now)
    client = mailing_app.test_client()

    assert "offers" not in Form(client.get("/other-shop/sign-up").text).fields[0].values()
    assert client.post("/other-shop/sign-up", data={"address": JANE, "topic": ["offers"]}).status_code == 400
    assert client.post("/other-shop/sign-up", data={"address": JANE, "topic": ["other-deals"]}).status_code == 200
    send_emails(services)

    assert "I want Deals by email from Other Shop." in mail.to(JANE)[0].text
    assert mail.to(JANE)[0].url.startswith(f"{PUBLIC_URL}/other-shop/confirm/")


# What it does.


def test_it_orders_one_email_and_signs_nobody_up(mailing_app: Flask, mail: MailSink) -> None:
    services = services_of(mailing_app)
    page = sign_up(mailing_app.test_client(), JANE, "offers", "product-news")

    assert page.status_code == 200
    assert "<title>Check your email" in page.text
    assert services.database.read(feed.head_seq) == 0, "nothing is recorded"
    assert contents(services.settings.database_url)["contact"] == [], "and nobody is known yet"
    send_emails(services)
    (letter,) = mail.messages
    assert letter.recipients == [JANE]
    token = urlsplit(letter.url).path.split("/")[2]
    items = services.links.read_confirm(token, datetime.now(UTC)).items
    assert items == ("email.offers.status=on", "email.product-news.status=on")
    assert services.database.read(feed.head_seq) == 0


def test_the_answer_is_the_same_to_the_byte_for_everybody(app: Flask) -> None:
    services, client = services_of(app), app.test_client()
    add_contact(services, email(JANE))
    answers = [sign_up(client, one) for one in (JANE, STRANGER, JANE, STRANGER)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.data for answer in answers}) == 1
    assert len({tuple(sorted(answer.headers)) for answer in answers}) == 1
    assert JANE not in answers[0].text


def test_the_email_speaks_the_language_of_the_page(mailing_app: Flask, mail: MailSink) -> None:
    client = mailing_app.test_client()
    page = client.post("/sign-up?lang=ar", data={"address": JANE, "topic": "offers"})
    assert 'lang="ar" dir="rtl"' in page.text
    send_emails(services_of(mailing_app))
    assert mail.messages[0].message["Content-Language"] == "ar"
    assert mail.messages[0].url.endswith("?lang=ar")


def test_an_erased_contact_gets_no_email_and_is_not_stored_again(mailing_app: Flask, mail: MailSink) -> None:
    services = services_of(mailing_app)
    act = Act(
        verb=Verb.SUPPRESS,
        channel=Channel.EMAIL,
        who=email(JANE),
        reason=SuppressionReason.ERASED,
        origin=Origin.IMPORT,
        actor=Actor.STAFF,
        occurred_at=datetime.now(UTC),
    )
    services.database.write(ledger.record, [act], fingerprints=services.fingerprints, now=datetime.now(UTC))
    with services.database.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM address")
        connection.exec_driver_sql("DELETE FROM contact")

    assert sign_up(mailing_app.test_client()).status_code == 200
    send_emails(services)

    assert mail.messages == []
    assert contents(services.settings.database_url)["address"] == []


# Against those who would fill a stranger's mailbox.


def test_a_thousand_posts_for_one_address_from_everywhere_make_one_email(many_networks: Flask, mail: MailSink) -> None:
    def post(number: int) -> int:
        network = f"10.{number // 250}.{number % 250}.1"
        return sign_up(many_networks.test_client(), JANE, **{"X-Forwarded-For": network}).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(post, range(1000)))
    send_emails(services_of(many_networks))

    assert set(statuses) == {200}
    assert len(mail.messages) == 1


def test_a_day_later_one_may_ask_again(app: Flask) -> None:
    services, client = services_of(app), app.test_client()
    with time_machine.travel(datetime.now(UTC) - timedelta(days=1, minutes=1)):
        sign_up(client)
        sign_up(client)
    sign_up(client)
    assert count_waiting(services) == 2


def test_a_program_on_one_network_is_stopped_and_nobody_else(many_networks: Flask) -> None:
    client = many_networks.test_client()
    with time_machine.travel(datetime.now(UTC), tick=False):
        answers = [
            sign_up(client, f"p{number}@example.com", **{"X-Forwarded-For": "192.0.2.7"}) for number in range(21)
        ]
        other = sign_up(client, JANE, **{"X-Forwarded-For": "198.51.100.7"})
    assert {answer.status_code for answer in answers[:20]} == {200}
    assert answers[20].status_code == 429
    assert other.status_code == 200
    assert client.get("/sign-up", headers={"X-Forwarded-For": "192.0.2.7"}).status_code == 200, "looking is free"


def test_a_program_that_fills_in_the_honeypot_gets_no_email(sqlite_app: Flask) -> None:
    client = sqlite_app.test_client()
    usual = sign_up(client, STRANGER)
    form = Form(client.get("/sign-up").text)
    (trap,) = [str(one["name"]) for one in form.fields if one.get("name") not in {"topic", "address"}]

    caught = client.post("/sign-up", data={"address": JANE, "topic": "offers", trap: "https://spam.example"})

    assert caught.data == usual.data
    assert caught.status_code == 200
    assert count_waiting(services_of(sqlite_app)) == 1


def test_no_person_meets_the_trap(sqlite_app: Flask) -> None:
    page = sqlite_app.test_client().get("/sign-up").text
    (trap,) = re.findall(r'<div hidden aria-hidden="true">(.*?)</div>', page, re.DOTALL)
    assert 'tabindex="-1"' in trap
    assert 'autocomplete="off"' in trap
    assert "Leave this empty" in trap, "for the rare program that shows everything"


# Mistakes.


@pytest.mark.parametrize(
    ("data", "problems"),
    [
        ({"address": JANE}, ["Choose at least one"]),
        ({"topic": "offers"}, ["Enter an email address, like name@example.com"]),
        ({"topic": "offers", "address": "jane@"}, ["Enter an email address, like name@example.com"]),
        ({"topic": "receipts", "address": JANE}, ["Choose at least one"]),
        ({"topic": "*", "address": JANE}, ["Choose at least one"]),
        ({}, ["Choose at least one", "Enter an email address, like name@example.com"]),
    ],
)
def test_a_mistake_is_explained_beside_its_field_and_the_input_kept(
    sqlite_app: Flask, data: dict[str, str], problems: list[str]
) -> None:
    page = sqlite_app.test_client().post("/sign-up", data=data)
    form = Form(page.text)

    assert page.status_code == 400
    assert "<title>Error: Sign up for email" in page.text
    assert "There is a problem" in page.text
    for problem in problems:
        assert page.text.count(problem) == 2, "in the summary and at the field"
    (address,) = [one for one in form.fields if one.get("name") == "address"]
    assert address["value"] == data.get("address", "")
    ticked = [one["value"] for one in form.fields if "checked" in one]
    assert ticked == [one for one in [data.get("topic")] if one == "offers"]
    for link in re.findall(r'<a href="#([^"]+)">', page.text):
        assert f'id="{link}"' in page.text
    assert count_waiting(services_of(sqlite_app)) == 0


def test_what_was_typed_is_shown_as_text_and_never_run(sqlite_app: Flask) -> None:
    page = sign_up(sqlite_app.test_client(), '"><script>alert(1)</script>')
    assert page.status_code == 400
    assert "<script" not in page.text


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"topic=offers&address=%ff", b"[1]"])
def test_whatever_is_posted_the_answer_is_a_page(sqlite_app: Flask, body: bytes) -> None:
    client = sqlite_app.test_client()
    for kind in ("application/x-www-form-urlencoded", "application/json", "multipart/form-data", "text/plain"):
        assert client.post("/sign-up", data=body, content_type=kind).status_code == 400


# The form on a page of the company's own.


def printed(app: Flask, *options: str) -> Any:
    return app.test_cli_runner().invoke(args=["sign-up-form", *options])


def test_the_printed_form_works_from_anywhere_without_cookie_or_script(mailing_app: Flask, mail: MailSink) -> None:
    html = printed(mailing_app).stdout
    form = Form(html)
    names = {one["name"] for one in form.fields if one.get("type") in {"checkbox", "email"}}
    assert names == {"topic", "address"}
    assert {one["id"] for one in form.fields} == form.labelled, "each field has its label"
    assert not {"script", "style", "link", "img", "iframe"} & set(form.tags)
    assert " style=" not in html
    assert not [one for one in form.fields if "checked" in one]
    assert WORDING in html

    headers = {
        "Origin": "https://shop.example.com",
        "Sec-Fetch-Site": "cross-site",
        "Referer": "https://shop.example.com/",
    }
    place = urlsplit(form.action)
    assert f"{place.scheme}://{place.netloc}" == PUBLIC_URL
    client = mailing_app.test_client(use_cookies=False)
    page = client.post(f"{place.path}?{place.query}", data={"topic": ["offers"], "address": JANE}, headers=headers)

    assert page.status_code == 200
    assert "Set-Cookie" not in page.headers
    assert "Location" not in page.headers
    send_emails(services_of(mailing_app))
    assert len(mail.to(JANE)) == 1


def test_the_printed_form_may_offer_some_topics_in_another_language(sqlite_app: Flask) -> None:
    html = printed(sqlite_app, "--language", "ar", "--topic", "product-news").stdout
    form = Form(html)
    assert [one["value"] for one in form.fields if one.get("type") == "checkbox"] == ["product-news"]
    assert 'lang="ar" dir="rtl"' in html
    assert form.action == f"{PUBLIC_URL}/sign-up?lang=ar"


def test_an_old_form_with_a_removed_topic_works_for_the_others(sqlite_app: Flask) -> None:
    assert sign_up(sqlite_app.test_client(), JANE, "retired-news", "offers").status_code == 200
    (letter,) = services_of(sqlite_app).database.save(outbox.claim, datetime.now(UTC), 10)
    assert letter.kind is EmailKind.SIGN_UP
    assert letter.details == {"items": ["email.offers.status=on"]}


@pytest.mark.parametrize(
    "options",
    [("--brand", "nobody"), ("--topic", "receipts"), ("--topic", "no-such-topic"), ("--language", "tlh")],
)
def test_a_form_for_what_is_not_there_is_refused_in_one_line(sqlite_app: Flask, options: tuple[str, ...]) -> None:
    result = printed(sqlite_app, *options)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
