"""What a page says of the channel that it acts on: an SMS link speaks of text messages, and a number can be typed."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from preferences.current import services_of
from preferences.domain.records import Address, Topic
from preferences.domain.vocabulary import Basis, Channel, MessageClass
from preferences.services import Services
from preferences.store.catalog import save_topics
from preferences.store.contacts import find_or_create
from preferences.tokens import UnsubscribeLink
from tests.support import api_headers

NUMBER = "+12025550123"
ADDRESSES = {
    Channel.EMAIL: "jane@example.com",
    Channel.SMS: NUMBER,
    Channel.VOICE: NUMBER,
    Channel.POST: "12 harbour lane, portland",
}
WORDS = {
    Channel.EMAIL: r"\bemail\b",
    Channel.SMS: r"\btext messages?\b",
    Channel.VOICE: r"\bcalls?\b|\bby phone\b",
    Channel.POST: r"\b[Pp]ost\b",
}
"""What names a channel, in whatever form a sentence needs."""

every_channel = pytest.mark.parametrize("channel", list(Channel))


@pytest.fixture
def services(app: Flask) -> Services:
    """A site that reaches people on every channel."""
    services = services_of(app)
    topic = Topic(
        slug="everywhere",
        brand="default",
        name="Everywhere",
        description="On each channel.",
        frequency="",
        message_class=MessageClass.MARKETING,
        basis=Basis.LEGITIMATE_INTEREST,
        channels=tuple(Channel),
    )
    services.database.save(save_topics, [topic], datetime.now(UTC))
    services.catalog.get("read it again")
    return services


@pytest.fixture
def client(app: Flask, services: Services) -> FlaskClient:
    return app.test_client()


def contact_of(services: Services, channel: Channel) -> UUID:
    address = Address(channel, ADDRESSES[channel])
    found = services.database.write(find_or_create, [address], services.fingerprints, datetime.now(UTC))
    contact_id = found[address].contact_id
    assert contact_id
    return contact_id


def link_of(services: Services, channel: Channel, topic: str = "everywhere") -> str:
    link = UnsubscribeLink(contact_of(services, channel), channel, "default", topic)
    return f"/u/{services.links.sign_unsubscribe(link)}"


def is_allowed(client: FlaskClient, services: Services, channel: Channel, topic: str = "everywhere") -> bool:
    question = {"channel": channel, "class": "marketing", "topic": topic, "addresses": [ADDRESSES[channel]]}
    headers = api_headers(services, f"test-{secrets.token_hex(4)}")
    answer = client.post("/api/v1/decisions", json=question, headers=headers)
    assert answer.json is not None
    return bool(answer.json["decisions"][0]["allowed"])


def said(page: TestResponse) -> str:
    """The title and the main part as they are read, without what leads to the preferences, which are mailed."""
    title = re.search(r"<title>(.*?)</title>", page.text)
    main = re.search(r"<main>(.*?)</main>", page.text, re.DOTALL)
    assert title
    assert main
    told = re.sub(r"<a [^>]*/link\b[^>]*>.*?</a>", "", main[1])
    return f"{title[1]} {' '.join(re.sub('<[^>]+>', ' ', told).split())}"


def names_only(channel: Channel, text: str) -> bool:
    others = (word for other, word in WORDS.items() if other is not channel)
    return bool(re.search(WORDS[channel], text)) and not any(re.search(word, text) for word in others)


@every_channel
@pytest.mark.parametrize("intent", ["topic", "all"])
def test_every_page_behind_a_link_names_its_own_channel_alone(
    client: FlaskClient, services: Services, channel: Channel, intent: str
) -> None:
    path = link_of(services, channel)
    asked = said(client.get(path))
    done = client.post(path, data={"intent": intent}, headers={"Accept": "text/html"})
    token = re.search(r'name="undo" value="([^"]+)"', done.text)
    assert token
    stopped = said(client.get(path))
    undone = said(client.post(f"{path}/undo", data={"undo": token[1]}))

    for text in (asked, said(done), stopped, undone):
        assert names_only(channel, text), text


@every_channel
def test_the_answer_to_one_click_names_the_channel(client: FlaskClient, services: Services, channel: Channel) -> None:
    answer = client.post(link_of(services, channel), data="List-Unsubscribe=One-Click")
    assert re.search(WORDS[channel].replace("s?", "") + "|phone", answer.text), answer.text
    assert not is_allowed(client, services, channel)


def test_a_link_stops_its_own_channel_alone(client: FlaskClient, services: Services) -> None:
    client.post(link_of(services, Channel.SMS))
    assert not is_allowed(client, services, Channel.SMS)
    assert is_allowed(client, services, Channel.EMAIL)


# The address box.


def type_in(client: FlaskClient, typed: str, field: str = "address") -> TestResponse:
    return client.post("/optout", data={field: typed})


@pytest.mark.parametrize("typed", [NUMBER, "+1 (202) 555-0123", " +1 202 555 01 23 "])
def test_a_number_typed_into_the_address_box_stops_texts_and_calls(
    client: FlaskClient, services: Services, typed: str
) -> None:
    page = type_in(client, typed)
    assert "You are unsubscribed from all marketing text messages and calls" in page.text
    assert not re.search(WORDS[Channel.EMAIL], said(page))
    assert not is_allowed(client, services, Channel.SMS)
    assert not is_allowed(client, services, Channel.VOICE)
    assert is_allowed(client, services, Channel.EMAIL)


def test_an_address_typed_where_numbers_are_taken_stops_email_alone(client: FlaskClient, services: Services) -> None:
    page = type_in(client, ADDRESSES[Channel.EMAIL])
    assert names_only(Channel.EMAIL, said(page)), said(page)
    assert not is_allowed(client, services, Channel.EMAIL)
    assert is_allowed(client, services, Channel.SMS)


def test_the_answer_is_the_same_for_known_and_unknown_numbers(client: FlaskClient, services: Services) -> None:
    contact_of(services, Channel.SMS)
    answers = [type_in(client, number) for number in (NUMBER, "+12025550199", NUMBER)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.data for answer in answers}) == 1


@pytest.mark.parametrize("typed", ["2025550123", "12", "+1", "+999999999999", "jane@"])
def test_what_is_neither_address_nor_number_is_explained(client: FlaskClient, services: Services, typed: str) -> None:
    page = type_in(client, typed)
    assert page.status_code == 400
    assert "or a phone number with its country code, like +1 202 555 0123" in page.text
    assert f'value="{typed}"' in page.text


def test_a_postal_address_stops_post_alone(client: FlaskClient, services: Services) -> None:
    page = type_in(client, "12 Harbour Lane,\r\nPortland", "postal")
    assert names_only(Channel.POST, said(page)), said(page)
    assert not is_allowed(client, services, Channel.POST)
    assert is_allowed(client, services, Channel.SMS)
    assert type_in(client, " ", "postal").status_code == 400


def test_the_box_says_what_it_takes(client: FlaskClient, services: Services) -> None:
    page = client.get("/optout").text
    assert "Email address or phone number" in page
    assert "Postal address" in page


def test_where_nothing_is_sent_to_phones_the_box_takes_email_alone(sqlite_app: Flask) -> None:
    services, client = services_of(sqlite_app), sqlite_app.test_client()
    with services.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE topic SET channels = '[\"email\"]'")
    services.catalog.get("read it again")
    assert "phone number" not in client.get("/optout").text
    answer = type_in(client, NUMBER)
    assert answer.status_code == 400
    assert "phone number" not in answer.text
