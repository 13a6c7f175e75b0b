"""A retired topic: nothing more is sent about it, its links work, and what was chosen comes back with it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from preferences.current import services_of
from preferences.domain.permission import Decision, may_send
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel, MessageClass
from preferences.sending.scrub.run import question_about
from preferences.services import Services
from preferences.store import contact_state
from preferences.store.catalog import read_catalog, restore_topic, retire_topic
from preferences.store.decision_facts import facts_for
from preferences.store.scrub import answers
from tests.commands import CONFIG, is_refused, run
from tests.support import (
    add_contact,
    api_headers,
    close,
    email,
    link_for,
    manage_link_for,
    message_about,
    new_app,
    new_sqlite,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MARKETING = MessageClass.MARKETING


@pytest.fixture
def connected(tmp_path: Path) -> Iterator[Flask]:
    """The application with a connector that maps topics, on SQLite."""
    config_file = tmp_path / "config.toml"
    config_file.write_text(CONFIG)
    app = new_app(new_sqlite(tmp_path), config_file=config_file)
    yield app
    close(app)


def retire(app: Flask, slug: str) -> None:
    assert run(app, "topic", "retire", slug).exit_code == 0
    services_of(app).catalog.get("not-there")  # read it again now, not in two seconds


def restore(app: Flask, slug: str) -> None:
    assert run(app, "topic", "restore", slug).exit_code == 0
    services_of(app).catalog.get("not-there")


def decide(services: Services, address: Address, slug: str, message_class: MessageClass = MARKETING) -> Decision:
    about = services.database.read(read_catalog).topics[slug]
    facts = services.database.read(
        facts_for, [address], channel=Channel.EMAIL, about=about, fingerprints=services.fingerprints, now=NOW
    )
    return may_send(message_class, facts[address])


# The command.


def test_a_topic_is_retired_once_and_restored_once(app: Flask) -> None:
    assert run(app, "topic", "retire", "offers").stdout == "Retired topic offers.\n"
    first = services_of(app).database.read(read_catalog).topics["offers"].retired_at
    assert run(app, "topic", "retire", "offers").stdout == "Topic offers is retired already.\n"
    assert services_of(app).database.read(read_catalog).topics["offers"].retired_at == first
    assert run(app, "topic", "restore", "offers").stdout == "Restored topic offers.\n"
    assert run(app, "topic", "restore", "offers").stdout == "Topic offers is not retired.\n"


@pytest.mark.parametrize("verb", ["retire", "restore"])
def test_a_topic_that_is_not_there_is_refused_in_one_line(sqlite_app: Flask, verb: str) -> None:
    assert is_refused(run(sqlite_app, "topic", verb, "nothing"), "no topic nothing", "flask topic list")
    assert is_refused(run(sqlite_app, "topic", verb, "No Slug"), "SLUG")


def test_retiring_warns_of_each_connector_that_still_maps_the_topic(connected: Flask) -> None:
    result = run(connected, "topic", "retire", "offers")
    assert (result.exit_code, result.stdout) == (0, "Retired topic offers.\n")
    assert len(result.stderr.splitlines()) == 1
    assert all(word in result.stderr for word in ("connector shop", "maps offers", "config.toml"))
    assert run(connected, "topic", "retire", "receipts").stderr == ""


def test_doctor_names_a_mapping_of_a_retired_topic_and_misses_none_for_it(connected: Flask) -> None:
    run(connected, "topic", "retire", "offers")
    mapped = [line for line in run(connected, "doctor").stdout.splitlines() if "CONN-MAP" in line]
    assert len(mapped) == 1
    assert "maps offers, which is retired" in mapped[0]


def test_the_list_says_which_topics_are_retired(sqlite_app: Flask) -> None:
    run(sqlite_app, "topic", "retire", "offers")
    lines = run(sqlite_app, "topic", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines if "  retired  " in line] == ["offers"]


def test_the_slug_of_a_retired_topic_is_taken(sqlite_app: Flask) -> None:
    run(sqlite_app, "topic", "retire", "offers")
    again = ("topic", "add", "offers", "--class", "marketing", "--basis", "consent")
    assert is_refused(run(sqlite_app, *again), "offers already", "flask topic restore offers")


# Decisions.


def test_marketing_about_a_retired_topic_is_refused_and_a_receipt_goes_out(app: Flask) -> None:
    services = services_of(app)
    add_contact(services)
    assert decide(services, email(), "product-news").allowed
    retire(app, "product-news")
    retire(app, "receipts")
    for address in (email(), email("stranger@example.com")):
        refused = decide(services, address, "product-news")
        assert (refused.allowed, refused.rule) == (False, "marketing.retired")
        sent = decide(services, address, "receipts", MessageClass.TRANSACTIONAL)
        assert (sent.allowed, sent.degraded, sent.rule) == (True, True, "transactional.retired")


def test_the_api_and_a_scrub_refuse_a_retired_topic_for_everybody(app: Flask, client: FlaskClient) -> None:
    services, asked = services_of(app), {"channel": "email", "class": "marketing", "topic": "product-news"}
    add_contact(services)
    retire(app, "product-news")
    answer = client.post(
        "/api/v1/decisions",
        json={**asked, "addresses": ["jane.doe@example.com", "b@x.example"]},
        headers=api_headers(services),
    )
    assert answer.json is not None
    assert [one["reason"] for one in answer.json["decisions"]] == ["retired", "retired"]
    sorted_by = question_about(message_about(services, "product-news"), NOW)
    assert sorted_by.default_decision.rule == "marketing.retired"
    found = services.database.snapshot(lambda snapshot: list(answers(snapshot, sorted_by, services.fingerprints)))
    assert not any(decision.allowed for _, decision in found)


def test_the_list_of_noes_to_a_retired_topic_holds_those_who_said_no_alone(app: Flask, client: FlaskClient) -> None:
    services = services_of(app)
    add_contact(services, email("silent@example.com"))
    client.post(link_for(services, add_contact(services)))
    retire(app, "product-news")
    answer = client.get("/api/v1/suppressions?channel=email&topic=product-news", headers=api_headers(services))
    assert answer.json is not None
    assert [one["address"] for one in answer.json["suppressions"]] == ["jane.doe@example.com"]


# Links in old mails, and pages.


def test_an_old_link_names_a_retired_topic_and_stops_it(app: Flask, client: FlaskClient) -> None:
    services = services_of(app)
    services.database.save(lambda save: save.exec_driver_sql("UPDATE brand SET one_click = 'topic'"))
    path = link_for(services, add_contact(services), "offers")
    retire(app, "offers")
    assert "Offers" in client.get(path).text
    assert client.post(path, data={"List-Unsubscribe": "One-Click"}).status_code == 200
    assert "Offers" in client.get(path).text
    restore(app, "offers")
    assert decide(services, email(), "offers").rule == "marketing.unsubscribed"


def test_no_page_offers_a_retired_topic(app: Flask, client: FlaskClient) -> None:
    services = services_of(app)
    path = manage_link_for(services, add_contact(services))
    shown = (client.get(path).text, client.get("/sign-up").text, run(app, "sign-up-form").stdout)
    assert all('value="offers"' in page or "email.offers." in page for page in shown)
    retire(app, "offers")
    shown = (client.get(path).text, client.get("/sign-up").text, run(app, "sign-up-form").stdout)
    assert not any('value="offers"' in page or "email.offers." in page for page in shown)


def test_stop_everything_reaches_the_channels_of_retired_topics(app: Flask, client: FlaskClient) -> None:
    services = services_of(app)
    contact_id = add_contact(services)
    retire(app, "product-news")  # the only one by SMS
    client.post(manage_link_for(services, contact_id), data={"intent": "all"})
    held = services.database.read(contact_state.state_of, contact_id).preferences
    assert {channel for channel, _, topic in held if topic == "*"} == {Channel.EMAIL, Channel.SMS}


@pytest.mark.parametrize("meanwhile", [False, True])
def test_restoring_a_topic_brings_back_what_people_chose(app: Flask, client: FlaskClient, meanwhile: bool) -> None:
    services = services_of(app)
    gone, stays = add_contact(services, email("gone@example.com")), add_contact(services, email("stays@example.com"))
    if not meanwhile:
        client.post(link_for(services, gone), data={"intent": "topic"}, headers={"Accept": "text/html"})
    before = services.database.read(contact_state.state_of, stays)
    retire(app, "product-news")
    if meanwhile:
        client.post(link_for(services, gone), data={"intent": "topic"}, headers={"Accept": "text/html"})
    restore(app, "product-news")
    assert decide(services, email("gone@example.com"), "product-news").rule == "marketing.unsubscribed"
    assert decide(services, email("stays@example.com"), "product-news").allowed
    assert services.database.read(contact_state.state_of, stays) == before


# By API.


def test_the_api_retires_and_restores_and_says_so(app: Flask, client: FlaskClient) -> None:
    headers = api_headers(services_of(app))
    words = {"slug": "offers", "name": "Offers", "class": "marketing", "basis": "consent"}

    def put(**changes: object) -> dict[str, bool]:
        answer = client.put("/api/v1/topics", json={"topics": [words | changes]}, headers=headers)
        assert answer.json is not None
        return {one["slug"]: one["retired"] for one in answer.json["topics"]}

    all_there = {"product-news": False, "offers": False, "receipts": False}
    assert put() == all_there
    assert put(retired=True) == all_there | {"offers": True}
    assert put() == all_there | {"offers": True}, "what is left out stays"
    assert put(retired=False) == all_there


@pytest.mark.parametrize(("retired", "expected"), [(True, "retired"), (False, "no_consent")])
def test_the_store_says_whether_something_changed(services: Services, retired: bool, expected: str) -> None:
    assert services.database.save(retire_topic, "offers", NOW)
    assert not services.database.save(retire_topic, "offers", NOW)
    if not retired:
        assert services.database.save(restore_topic, "offers")
        assert not services.database.save(restore_topic, "offers")
    assert decide(services, email(), "offers").reason == expected
