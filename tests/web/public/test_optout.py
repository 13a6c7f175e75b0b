"""The address box: whoever types an address stops its marketing mail, at once, and learns nothing about anybody."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from preferences.current import services_of
from preferences.domain.records import Act
from preferences.domain.vocabulary import Actor, Channel, Origin, Status, SuppressionReason, Verb
from preferences.ledger import record as ledger
from preferences.services import Services
from preferences.store import contact_state, feed
from preferences.web.shared.limits import limiter
from tests.processes import contents
from tests.support import add_contact, api_headers, email

KNOWN, UNKNOWN = "jane.doe@example.com", "nobody.we.know@example.org"


@pytest.fixture(autouse=True)
def _fresh_counters(request: pytest.FixtureRequest) -> None:
    """The counters of the network are the process's own: each test begins with none."""
    app = request.getfixturevalue("app" if "app" in request.fixturenames else "sqlite_app")
    with app.app_context():
        limiter.reset()


def type_in(client: FlaskClient, address: str, **headers: str) -> TestResponse:
    return client.post("/optout", data={"address": address}, headers=headers)


def decision(app: Flask, address: str, message_class: str = "marketing", topic: str = "product-news") -> dict[str, Any]:
    name = f"test-{secrets.token_hex(4)}"
    question = {"channel": "email", "class": message_class, "topic": topic, "addresses": [address]}
    answer = app.test_client().post("/api/v1/decisions", json=question, headers=api_headers(services_of(app), name))
    assert answer.json is not None
    return answer.json["decisions"][0]


def rows(app: Flask) -> dict[str, list[str]]:
    return contents(services_of(app).settings.database_url)


def erase(services: Services, address: str) -> None:
    """Somebody was erased: a suppression stays, and nothing else."""
    act = Act(
        verb=Verb.SUPPRESS,
        channel=Channel.EMAIL,
        who=email(address),
        reason=SuppressionReason.ERASED,
        origin=Origin.IMPORT,
        actor=Actor.STAFF,
        occurred_at=datetime.now(UTC),
    )
    services.database.write(ledger.record, [act], fingerprints=services.fingerprints, now=datetime.now(UTC))
    with services.database.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM address")
        connection.exec_driver_sql("DELETE FROM contact")


@pytest.mark.parametrize("address", [KNOWN, UNKNOWN])
def test_typing_an_address_stops_its_marketing_at_once_and_no_receipts(app: Flask, address: str) -> None:
    add_contact(services_of(app), email(KNOWN))
    assert decision(app, address)["allowed"]

    page = type_in(app.test_client(), address)

    assert page.status_code == 200
    assert "<h1>You are unsubscribed from all marketing email</h1>" in page.text
    assert "This takes effect immediately." in page.text
    assert "You will still get messages about your orders and your account." in page.text
    assert decision(app, address)["reason"] == decision(app, address, topic="offers")["reason"] == "unsubscribed_all"
    assert decision(app, address, "transactional", "receipts")["allowed"]


def test_the_answer_is_the_same_to_the_byte_for_everybody(app: Flask) -> None:
    client, services = app.test_client(), services_of(app)
    add_contact(services, email("gone@example.com"))
    erase(services, "gone@example.com")
    add_contact(services, email(KNOWN))

    answers = [type_in(client, address) for address in (KNOWN, UNKNOWN, KNOWN, UNKNOWN, "gone@example.com")]

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.data for answer in answers}) == 1
    assert len({tuple(sorted(answer.headers)) for answer in answers}) == 1


def test_nobody_else_is_touched(app: Flask) -> None:
    add_contact(services_of(app), email(KNOWN))
    type_in(app.test_client(), UNKNOWN)
    assert decision(app, KNOWN)["allowed"]


def test_an_erased_address_is_not_stored_again_by_its_own_opt_out(app: Flask) -> None:
    services = services_of(app)
    add_contact(services, email(KNOWN))
    erase(services, KNOWN)

    assert type_in(app.test_client(), KNOWN).status_code == 200

    assert rows(app)["address"] == rows(app)["contact"] == []
    assert decision(app, KNOWN)["reason"] == "erased"


def test_a_mailed_link_of_the_same_person_knows_of_it(app: Flask) -> None:
    services = services_of(app)
    contact_id = add_contact(services, email(KNOWN))
    type_in(app.test_client(), KNOWN)
    wishes = services.reader.channel_preferences(contact_state.ChannelKey(contact_id, Channel.EMAIL, "default"))
    assert wishes.preferences["*"].status is Status.UNSUBSCRIBED


@pytest.mark.parametrize(
    "typed",
    [
        "jane.doe@example.com",
        "  jane.doe@example.com  ",
        "Jane.Doe@EXAMPLE.com",
        "jane.doe@example.com\n",
        "\tJANE.DOE@EXAMPLE.COM",
    ],
)
def test_however_it_is_typed_it_is_the_same_address(sqlite_app: Flask, typed: str) -> None:
    type_in(sqlite_app.test_client(), typed)
    assert decision(sqlite_app, KNOWN)["reason"] == "unsubscribed_all"


@pytest.mark.parametrize("typed", ["jane+news@example.com", "janedoe@example.com"])
def test_another_mailbox_is_another_address(sqlite_app: Flask, typed: str) -> None:
    type_in(sqlite_app.test_client(), typed)
    assert decision(sqlite_app, KNOWN)["allowed"]


def test_an_address_in_another_script_is_read(sqlite_app: Flask) -> None:
    assert type_in(sqlite_app.test_client(), "jörg@bücher.example").status_code == 200
    assert decision(sqlite_app, "JÖRG@xn--bcher-kva.example")["reason"] == "unsubscribed_all"


def test_the_box_is_one_field_and_one_button_and_no_second_step(sqlite_app: Flask) -> None:
    page = sqlite_app.test_client().get("/optout")
    assert page.status_code == 200
    assert page.text.count("<input") == page.text.count("<button") == page.text.count("<form") == 1
    assert 'autocomplete="email"' in page.text
    assert "<script" not in page.text


@pytest.mark.parametrize("typed", ["", "jane", "jane@", "jane doe@example.com"])
def test_a_mistake_is_explained_beside_its_field_and_the_input_kept(sqlite_app: Flask, typed: str) -> None:
    before = rows(sqlite_app)

    page = type_in(sqlite_app.test_client(), typed)

    assert page.status_code == 400
    assert "<title>Error: Unsubscribe" in page.text
    assert "There is a problem" in page.text
    assert page.text.count("Enter an email address, like name@example.com") == 2, "in the summary and at the field"
    assert 'href="#address"' in page.text
    assert 'aria-invalid="true"' in page.text
    assert f'value="{typed}"' in page.text
    assert rows(sqlite_app) == before


def test_what_was_typed_is_shown_as_text_and_never_run(sqlite_app: Flask) -> None:
    page = type_in(sqlite_app.test_client(), '"><script>alert(1)</script>')
    assert page.status_code == 400
    assert "<script" not in page.text
    assert "&lt;script&gt;" in page.text


def test_it_needs_neither_cookie_nor_token_and_sets_none(sqlite_app: Flask) -> None:
    client = sqlite_app.test_client(use_cookies=False)
    headers = {"Origin": "null", "Cookie": "session=of.somebody.else", "Sec-Fetch-Site": "cross-site"}
    for page in (client.get("/optout"), type_in(client, UNKNOWN, **headers), client.get("/")):
        assert page.status_code == 200
        assert "Set-Cookie" not in page.headers
    assert decision(sqlite_app, UNKNOWN)["reason"] == "unsubscribed_all"


def test_the_address_is_never_in_an_address_line(sqlite_app: Flask) -> None:
    page = type_in(sqlite_app.test_client(), UNKNOWN)
    assert "Location" not in page.headers
    assert UNKNOWN not in page.text


def test_typing_the_same_twice_changes_one_thing(app: Flask) -> None:
    client = app.test_client()
    for _ in range(2):
        type_in(client, UNKNOWN)
    entries = services_of(app).database.read(feed.entries_after, 0, 10)
    assert [entry.changed for entry in entries] == [True, False]


def test_the_home_page_leads_to_the_box(sqlite_app: Flask) -> None:
    page = sqlite_app.test_client().get("/")
    assert page.status_code == 200
    assert 'href="/optout"' in page.text
    assert "Maple &amp; Finch" in page.text
