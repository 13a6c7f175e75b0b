"""What the demo offers: the preference center takes every command of it, twice, and the company writes what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from flask import Flask
from markupsafe import escape

from preferences.current import services_of
from preferences.domain.vocabulary import LANGUAGES, MessageClass
from preferences.store.catalog import Catalog, read_catalog
from sandbox import offers
from sandbox.app import SandboxServer
from sandbox.mailer import LETTERS
from tests.sandbox.conftest import Client, config_for
from tests.sandbox.stub import StubCenter
from tests.servers import free_port
from tests.support import close, new_app


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Flask]:
    """The application on a database without brands and topics, as the demo's is at first."""
    app = new_app(f"sqlite:///{tmp_path / 'demo.db'}")
    assert app.test_cli_runner().invoke(args=["db", "upgrade"]).exit_code == 0
    yield app
    close(app)


def prepared(app: Flask) -> Catalog:
    for words in offers.commands():
        result = app.test_cli_runner().invoke(args=words)
        assert (result.exit_code, result.stderr) == (0, ""), words
    return services_of(app).database.read(read_catalog)


def test_every_command_is_taken_and_may_be_given_again(empty: Flask) -> None:
    first = prepared(empty)
    assert prepared(empty) == first
    assert list(first.brands) == ["default", "outlet"]
    assert first.brands["outlet"].path == offers.OUTLET_FOLDER
    assert first.topics.keys() == offers.TOPICS.keys()


def test_the_page_has_something_of_every_kind_to_show(empty: Flask) -> None:
    topics = prepared(empty).topics.values()
    assert {channel for topic in topics for channel in topic.channels} >= {"email", "sms", "post"}
    marketing = [topic for topic in topics if topic.message_class is MessageClass.MARKETING]
    assert {topic.basis for topic in marketing} == {"consent", "legitimate_interest", "soft_opt_in"}
    assert sum(topic.brand == "default" for topic in topics if topic not in marketing) == 2
    assert all("sms" not in topic.channels or topic.basis == "consent" for topic in marketing)
    assert all({language for language, _ in topic.texts} == {*LANGUAGES} - {"en"} for topic in topics)


def test_each_letter_is_about_a_topic_of_its_brand() -> None:
    for letter in LETTERS.values():
        topic = offers.TOPICS[letter.topic]
        assert (letter.topic_name, letter.message_class) == (topic["name"], topic["class"])
        assert letter.brand == offers.BRANDS[str(topic.get("brand", "default"))]["name"]


def test_the_start_page_leads_to_sign_up_and_sign_in_of_both_brands(sandbox: Client, center: StubCenter) -> None:
    page = requests.get(sandbox.url, timeout=10).text
    leads = re.findall(rf'href="{center.url}([^"]*)"', page)
    assert {"/sign-up", "/sign-in", "/link", "/finch-outlet/sign-up", "/finch-outlet/optout"} <= set(leads)


def test_somebody_new_gets_a_mailbox_with_the_first_letter(center: StubCenter) -> None:
    with SandboxServer(config_for(center.url), free_port()) as server:
        sandbox = Client(server)
        box = f"{sandbox.url}/mailbox?person={len(server.sandbox.company.people) + 1}"
        assert "New Person" not in requests.get(box, timeout=10).text
        raw = (
            b"From: a@example.com\r\nTo: new.person@example.com\r\nSubject: Please confirm\r\n"
            b"Content-Type: text/html\r\n\r\n<a href='https://preferences.example.com/confirm/x'>Yes</a>\r\n"
        )
        mail_id = server.sandbox.mailbox.deliver("new.person@example.com", raw)
        page = requests.get(box, timeout=10).text
        body = requests.get(f"{sandbox.url}/mailbox/{mail_id}/body", timeout=10)
    assert "<h1>New Person</h1>" in page
    assert str(escape("Please confirm")) in page
    assert "href='https://preferences.example.com/confirm/x'" in body.text
    assert 'target="_blank"' in body.text
    assert "allow-popups" in body.headers["Content-Security-Policy"]
