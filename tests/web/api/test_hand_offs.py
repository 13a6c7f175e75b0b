"""The hand-off: a company's own logged-in page leads somebody straight to their page here, once, within two minutes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from preferences.current import services_of
from preferences.domain.records import Act, Brand
from preferences.domain.vocabulary import Actor, Channel, KeyScope, OneClick, Origin, SuppressionReason, Verb
from preferences.ledger import record as ledger
from preferences.services import Services
from preferences.store.catalog import save_brand
from preferences.tokens import Ticket
from tests.processes import contents
from tests.support import PUBLIC_URL, add_contact, api_headers, email

KNOWN = "jane.doe@example.com"


@pytest.fixture
def headers(services: Services) -> dict[str, str]:
    """The shop's key."""
    return api_headers(services, scopes={KeyScope.HAND_OFFS})


def hand_off(client: FlaskClient, headers: dict[str, str], **body: Any) -> TestResponse:
    return client.post("/api/v1/hand-offs", json={"address": KNOWN} | body, headers=headers)


def path_from(answer: TestResponse) -> str:
    assert answer.status_code == 200
    assert answer.json is not None
    url: str = answer.json["url"]
    assert url.startswith(f"{PUBLIC_URL}/sign-in/hand-off/")
    return url.removeprefix(PUBLIC_URL)


def is_signed_in(visitor: FlaskClient) -> bool:
    return visitor.get("/account/").status_code == 200


def fields_of(answer: TestResponse) -> list[str]:
    assert answer.status_code == 422
    assert answer.json is not None
    return [one["field"] for one in answer.json["errors"]]


def test_a_hand_off_leads_to_the_persons_page(app: Flask, services: Services, headers: dict[str, str]) -> None:
    jane, shop, visitor = add_contact(services, email(KNOWN)), app.test_client(), app.test_client()
    path = path_from(hand_off(shop, headers))

    page = visitor.get(path)
    assert page.status_code == 200
    assert page.text.count("<button") == page.text.count("<form") == 1
    assert "jane" not in page.text.lower()

    answer = visitor.post(path)
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/account/"
    assert is_signed_in(visitor)
    with visitor.session_transaction() as session:
        assert (session["contact"], session["way"]) == (str(jane), "hand_off")


def test_opening_it_writes_nothing_and_signs_nobody_in(app: Flask, services: Services, headers: dict[str, str]) -> None:
    visitor = app.test_client()
    path = path_from(hand_off(visitor, headers))
    before = contents(services.settings.database_url)
    for method in ("GET", "HEAD", "OPTIONS"):
        page = visitor.open(path, method=method)
        assert page.status_code == 200
        assert "Set-Cookie" not in page.headers
    assert contents(services.settings.database_url) == before
    assert not is_signed_in(visitor)


def test_it_says_when_it_ends_and_ends_then(app: Flask, headers: dict[str, str]) -> None:
    visitor = app.test_client()
    with time_machine.travel(datetime(2026, 11, 25, 12, 0, 0, 700_000, tzinfo=UTC), tick=False) as clock:
        first, second = (hand_off(visitor, headers) for _ in range(2))
        assert first.json is not None
        assert first.json["expires_at"] == "2026-11-25T12:02:00+00:00"
        clock.move_to(datetime(2026, 11, 25, 12, 1, 59, tzinfo=UTC))
        assert visitor.post(path_from(first)).status_code == 303
        clock.move_to(datetime(2026, 11, 25, 12, 2, 0, tzinfo=UTC))
        for page in (visitor.get(path_from(second)), visitor.post(path_from(second))):
            assert page.status_code == 410
            assert "This link has expired" in page.text
            assert "Get a new code" in page.text


def test_it_works_once(app: Flask, headers: dict[str, str]) -> None:
    path = path_from(hand_off(app.test_client(), headers))
    assert app.test_client().post(path).status_code == 303
    stranger = app.test_client()
    again = stranger.post(path)
    assert again.status_code == 409
    assert "This link was already used" in again.text
    assert not is_signed_in(stranger)


def test_many_presses_at_once_sign_in_one(app: Flask, headers: dict[str, str]) -> None:
    path = path_from(hand_off(app.test_client(), headers))
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: app.test_client().post(path), range(6)))
    assert sorted(answer.status_code for answer in answers) == [303, *[409] * 5]


def test_two_hand_offs_of_one_second_are_two(app: Flask, headers: dict[str, str]) -> None:
    with time_machine.travel(datetime.now(UTC), tick=False):
        paths = [path_from(hand_off(app.test_client(), headers)) for _ in range(2)]
        assert [app.test_client().post(path).status_code for path in paths] == [303, 303]


def test_somebody_new_is_made_a_contact_and_nothing_is_chosen_for_them(
    app: Flask, services: Services, headers: dict[str, str]
) -> None:
    visitor = app.test_client()
    path = path_from(hand_off(visitor, headers, address="New.Person@Example.com"))
    rows = contents(services.settings.database_url)
    assert len(rows["contact"]) == len(rows["address"]) == 1
    assert rows["preference"] == rows["ledger_entry"] == []
    assert visitor.post(path).status_code == 303
    assert is_signed_in(visitor)
    path_from(hand_off(visitor, headers, address="new.person@example.com"))
    assert len(contents(services.settings.database_url)["contact"]) == 1


@pytest.mark.parametrize("reason", [SuppressionReason.ERASED, SuppressionReason.CHILD])
def test_an_address_that_is_not_stored_again_is_a_wrong_field(
    app: Flask, services: Services, headers: dict[str, str], reason: SuppressionReason
) -> None:
    now = datetime.now(UTC)
    act = Act(
        verb=Verb.SUPPRESS,
        channel=Channel.EMAIL,
        who=email(KNOWN),
        reason=reason,
        origin=Origin.IMPORT,
        actor=Actor.STAFF,
        occurred_at=now,
    )
    services.database.write(ledger.record, [act], fingerprints=services.fingerprints, now=now)
    with services.database.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM address")
        connection.exec_driver_sql("DELETE FROM contact")

    answer = hand_off(app.test_client(), headers)

    assert fields_of(answer) == ["address"]
    assert answer.content_type == "application/problem+json"
    assert contents(services.settings.database_url)["contact"] == []


def test_a_telephone_number_can_be_handed_over(app: Flask, headers: dict[str, str]) -> None:
    visitor = app.test_client()
    path = path_from(hand_off(visitor, headers, channel="sms", address="+1 202 555 0123"))
    assert visitor.post(path).status_code == 303


def test_it_leads_to_the_pages_of_the_brand_that_is_named(
    app: Flask, services: Services, headers: dict[str, str]
) -> None:
    acme = Brand(
        slug="acme", name="Acme", postal_address="", contact_email="", one_click=OneClick.EVERYTHING, path="acme"
    )
    services.database.save(save_brand, acme, datetime.now(UTC))
    visitor = app.test_client()
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=5)):
        answer = hand_off(visitor, headers, brand="acme")
        assert answer.json is not None
        path = answer.json["url"].removeprefix(PUBLIC_URL)
        assert path.startswith("/acme/sign-in/hand-off/")
        assert "Choose what Acme sends you." in visitor.get(path).text
        assert visitor.post(path).headers["Location"] == "/acme/account/"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "address"),
        ({"address": "jane at nowhere"}, "address"),
        ({"address": ["jane.doe@example.com"]}, "address"),
        ({"address": KNOWN, "channel": "pigeon"}, "channel"),
        ({"address": KNOWN, "brand": "no-such-brand"}, "brand"),
        ({"address": KNOWN, "next": "https://evil.example"}, "next"),
    ],
)
def test_a_wrong_field_is_named_and_not_repeated(
    client: FlaskClient, headers: dict[str, str], body: dict[str, Any], field: str
) -> None:
    answer = client.post("/api/v1/hand-offs", json=body, headers=headers)
    assert fields_of(answer) == [field]
    assert "nowhere" not in answer.text
    assert "evil" not in answer.text


@pytest.mark.parametrize("key", [{}, {"Authorization": "Bearer pref_wrong"}])
def test_without_a_key_nobody_is_handed_over(client: FlaskClient, services: Services, key: dict[str, str]) -> None:
    assert hand_off(client, key).status_code == 401
    assert contents(services.settings.database_url)["contact"] == []


def test_a_ticket_of_another_kind_is_none(app: Flask, services: Services) -> None:
    ticket, visitor = Ticket(add_contact(services), datetime.now(UTC)), app.test_client()
    for token in (services.links.sign_sign_in(ticket), services.links.sign_address(ticket), "junk"):
        for page in (visitor.get(f"/sign-in/hand-off/{token}"), visitor.post(f"/sign-in/hand-off/{token}")):
            assert page.status_code == 404
    assert not is_signed_in(visitor)


def test_neither_address_nor_token_is_logged(app: Flask, headers: dict[str, str]) -> None:
    with capture_logs() as events:
        path = path_from(hand_off(app.test_client(), headers))
        for _ in range(2):
            app.test_client().post(path)
    assert path.rpartition("/")[2] not in str(events)
    assert "jane" not in str(events)


def test_the_session_of_a_contact_that_is_gone_by_then_is_none(
    services: Services, app: Flask, headers: dict[str, str]
) -> None:
    visitor = app.test_client()
    path = path_from(hand_off(visitor, headers))
    with services_of(app).database.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM address")
        connection.exec_driver_sql("DELETE FROM contact")
    visitor.post(path)
    assert not is_signed_in(visitor)
    assert contents(services.settings.database_url)["contact"] == []
