"""The feed, and the list of those who must not be written to: complete, in order, and never at odds with a decision."""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from standardwebhooks.webhooks import Webhook
from werkzeug.test import TestResponse

from preferences.current import services_of
from preferences.domain.records import Act, Address
from preferences.domain.vocabulary import Actor, Channel, Origin, SuppressionReason, Verb
from preferences.importing import import_file
from preferences.ledger import record as ledger
from preferences.ledger.addresses import add_address
from preferences.ledger.seal import GENESIS
from preferences.services import Services
from preferences.store import contact_state, contacts, feed
from preferences.store.catalog import read_catalog
from preferences.store.tables import address
from preferences.tokens import ConfirmLink
from tests.support import add_contact, api_headers, close, email, link_for, manage_link_for, new_app

ENTRIES, SUPPRESSIONS = "/api/v1/entries", "/api/v1/suppressions"
JANE = "jane.doe@example.com"
SECRET = "whsec_" + base64.b64encode(b"a key that this test made up....").decode()
CONFIG = f"""
[connectors.mailer]
kind = "webhook"
base_url = "https://mailer.example.test"
webhook_secrets = ["{SECRET}"]
"""


@pytest.fixture
def headers(services: Services) -> dict[str, str]:
    return api_headers(services)


def get(client: FlaskClient, path: str, headers: dict[str, str], **query: Any) -> dict[str, Any]:
    answer = client.get(path, query_string=query, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    return answer.json


def followed(client: FlaskClient, headers: dict[str, str], limit: int) -> list[dict[str, Any]]:
    """Every entry, page by page."""
    found: list[dict[str, Any]] = []
    after = 0
    while True:
        page = get(client, ENTRIES, headers, after=after, limit=limit)
        found += page["entries"]
        if page["next"] == page["head"]:
            return found
        after = page["next"]


def record(services: Services, *acts: Act) -> None:
    services.database.write(ledger.record, acts, fingerprints=services.fingerprints, now=datetime.now(UTC))


def act(verb: Verb, who: UUID | Address, **changes: Any) -> Act:
    values: dict[str, Any] = {"brand": "default", "topic": "product-news", "occurred_at": datetime.now(UTC)}
    values |= {"origin": Origin.ACCOUNT, "actor": Actor.RECIPIENT, "trusted": True, "channel": Channel.EMAIL}
    return Act(verb=verb, who=who, **(values | changes))


def suppression(reason: SuppressionReason, who: Address) -> Act:
    return act(Verb.SUPPRESS, who, reason=reason, brand="", topic="", origin="connector.mailer")


@pytest.fixture
def connected_app(database_url: str, tmp_path: Path) -> Iterator[Flask]:
    """The application with one connector, on both engines."""
    config_file = tmp_path / "config.toml"
    config_file.write_text(CONFIG)
    app = new_app(database_url, config_file=config_file)
    yield app
    close(app)


def report(client: FlaskClient, now: datetime) -> TestResponse:
    """What the connector's other end tells: a bounce."""
    told = {"channel": "email", "address": "bounced@example.com"}
    body = json.dumps({"type": "bounce.hard", "timestamp": now.isoformat(), "data": told})
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp()))}
    headers["webhook-signature"] = Webhook(SECRET).sign("msg_1", now, body)
    return client.post("/webhooks/mailer", data=body, headers=headers | {"Content-Type": "application/json"})


def change_address(services: Services, contact_id: UUID) -> None:
    now = datetime.now(UTC)
    (old,) = services.database.read(contact_state.addresses_of, contact_id)
    services.database.write(
        add_address,
        contact_id,
        email("new@example.com"),
        replaces=old.id,
        fingerprints=services.fingerprints,
        now=now,
        evidence={},
    )


def bring_in(services: Services, folder: Path) -> None:
    path = folder / "contacts.csv"
    path.write_text("address,topic,status\nfile@example.com,*,unsubscribed\n")
    catalog = services.database.read(read_catalog)
    import_file(
        path, catalog, database=services.database, fingerprints=services.fingerprints, progress=lambda _rows: None
    )


def test_whatever_door_a_change_came_through_the_feed_tells_it_once(connected_app: Flask, tmp_path: Path) -> None:
    services, client = services_of(connected_app), connected_app.test_client()
    headers, jane, told = api_headers(services), add_contact(services), {"address": JANE, "verb": "unsubscribe"}
    link = link_for(services, jane)
    html, now = {"Accept": "text/html"}, datetime.now(UTC)
    confirm = ConfirmLink(jane, "default", ("email.offers.status=on",), datetime.now(UTC) - timedelta(hours=1))
    doors: dict[str, Callable[[], object]] = {
        "confirmation": lambda: client.post(f"/confirm/{services.links.sign_confirm(confirm)}"),
        "page": lambda: client.post(manage_link_for(services, jane), data={"intent": "all"}, headers=html),
        "one_click": lambda: client.post(link, data="List-Unsubscribe=One-Click"),
        "address_box": lambda: client.post("/optout", data={"address": "box@example.com"}),
        "import": lambda: bring_in(services, tmp_path),
        "connector.mailer": lambda: report(client, now),
        "api.shop": lambda: client.post("/api/v1/acts", json=[told | {"origin_ref": "1"}], headers=headers),
        "address_change": lambda: change_address(services, jane),
    }
    seen: list[dict[str, Any]] = []
    for origin, change in doors.items():
        for again in (False, True) if origin in {"connector.mailer", "api.shop", "import"} else (False,):
            change()
            page = get(client, ENTRIES, headers, after=len(seen))
            assert bool(page["entries"]) is not again, origin
            assert {one["origin"] for one in page["entries"]} <= {origin}
            seen += page["entries"]
    assert [one["seq"] for one in seen] == list(range(1, len(seen) + 1))
    assert followed(client, headers, 3) == followed(client, headers, 1_000)
    assert services.database.read(feed.head_seq) == len(seen)


def test_an_undo_is_in_the_feed_with_what_it_undoes(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    link = link_for(services, add_contact(services))
    done = client.post(link, data={"intent": "topic"}, headers={"Accept": "text/html"})
    found = re.search(r'name="undo" value="([^"]+)"', done.text)
    assert found is not None
    client.post(f"{link}/undo", data={"undo": found.group(1)})
    stopped, undone = followed(client, headers, 10)
    assert (undone["verb"], undone["origin"], undone["undoes"]) == ("undo", "undo", stopped["seq"])


def test_a_suppression_never_shows_another_address_of_its_owner(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    """Only the fingerprint is left of one that is gone; a wish is the contact's, and shows the one in use."""
    gone, kept = email("gone@example.com"), email("kept@example.com")
    group = [gone, kept]
    services.database.write(contacts.upsert, [group], services.fingerprints, datetime.now(UTC))
    record(services, suppression(SuppressionReason.HARD_BOUNCE, gone), act(Verb.UNSUBSCRIBE, gone))
    with services.database.engine.begin() as connection:
        connection.execute(address.delete().where(address.c.value == gone.value))
    assert [one["address"] for one in followed(client, headers, 10)] == [None, kept.value]


def test_however_it_is_paged_the_feed_has_every_entry_once_with_its_address(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    jane = add_contact(services)
    client.post(link_for(services, jane))
    client.post("/optout", data={"address": "box@example.com"})
    told = {"address": "told@example.com", "verb": "unsubscribe", "origin_ref": "1"}
    client.post("/api/v1/acts", json=[told], headers=headers)
    record(services, suppression(SuppressionReason.HARD_BOUNCE, email("bounced@example.com")))
    record(services, act(Verb.PAUSE, jane, until=datetime.now(UTC) + timedelta(days=3)))
    record(services, act(Verb.UNSUBSCRIBE, jane, topic="@tracking"))
    client.post(link_for(services, jane))

    for limit in (1, 3, 1_000):
        entries = followed(client, headers, limit)
        assert [one["seq"] for one in entries] == list(range(1, 8))
        assert [one["origin"] for one in entries] == [
            *("one_click", "address_box", "api.shop", "connector.mailer", "account", "account", "one_click"),
        ]
        assert [one["address"] for one in entries] == [
            *(JANE, "box@example.com", "told@example.com", "bounced@example.com", JANE, JANE, JANE),
        ]
        # Whoever stopped everything is not tracked any more either.
        assert [one["changed"] for one in entries] == [True] * 5 + [False, False]
    assert {one["contact"] for one in entries if one["address"] == JANE} == {str(jane)}
    assert len({one["hash"] for one in entries} | {GENESIS}) == 8


def test_the_feed_of_an_empty_ledger_is_empty(client: FlaskClient, headers: dict[str, str]) -> None:
    assert get(client, ENTRIES, headers) == {"entries": [], "next": 0, "head": 0}


def test_an_entry_without_an_address_shows_the_one_in_use(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    jane, old, new = add_contact(services), email(), email("new@example.com")
    services.database.write(
        add_address,
        jane,
        new,
        replaces=_id_of(services, jane),
        fingerprints=services.fingerprints,
        now=datetime.now(UTC),
        evidence={},
    )
    client.post(link_for(services, jane))
    entries = followed(client, headers, 10)
    assert entries[-1]["address"] == new.value
    assert [one["address"] for one in entries if one["reason"] == "replaced"] == [old.value]


def _id_of(services: Services, contact_id: UUID) -> UUID:
    return services.database.read(contact_state.addresses_of, contact_id)[0].id


# Suppressions.


def listed(client: FlaskClient, headers: dict[str, str], **query: Any) -> dict[str, str]:
    """All pages, each address with its reason."""
    found: dict[str, str] = {}
    after: str | None = None
    while True:
        more = {} if after is None else {"after": after}
        page = get(client, SUPPRESSIONS, headers, channel="email", **query, **more)
        assert not found.keys() & {one["address"] for one in page["suppressions"]}
        found |= {one["address"]: one["reason"] for one in page["suppressions"]}
        after = page["next"]
        if after is None:
            return found


def people(services: Services) -> None:
    """One address for each thing that can bear on a message, and two about which nothing is known."""
    by_name = {name: email(f"{name}@example.com") for name in ("left", "topic", "yes", "paused", "bounced", "none")}
    for one in (*by_name.values(), email("more@example.com")):
        add_contact(services, one)
    record(
        services,
        act(Verb.UNSUBSCRIBE, by_name["left"], topic="*"),
        act(Verb.UNSUBSCRIBE, by_name["topic"], topic="product-news"),
        act(Verb.SUBSCRIBE, by_name["yes"], topic="offers"),
        act(Verb.PAUSE, by_name["paused"], until=datetime.now(UTC) + timedelta(days=3)),
        suppression(SuppressionReason.HARD_BOUNCE, by_name["bounced"]),
    )


@pytest.mark.parametrize("limit", [1, 2, 10_000])
def test_the_list_is_of_those_who_said_no_or_cannot_be_reached(
    client: FlaskClient, services: Services, headers: dict[str, str], limit: int
) -> None:
    people(services)
    everywhere = {"left@example.com": "unsubscribed_all", "bounced@example.com": "hard_bounce"}
    assert listed(client, headers, limit=limit) == everywhere
    assert listed(client, headers, limit=limit, topic="offers") == everywhere
    assert listed(client, headers, limit=limit, topic="product-news") == {
        **everywhere,
        "topic@example.com": "unsubscribed",
    }


def test_the_list_never_differs_from_a_decision(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    people(services)
    names = ["left", "topic", "yes", "paused", "bounced", "none", "more"]
    asked = {"channel": "email", "class": "marketing", "addresses": [f"{name}@example.com" for name in names]}
    for topic in ("product-news", "offers"):
        answer = client.post("/api/v1/decisions", json=asked | {"topic": topic}, headers=headers).json
        assert answer is not None
        refused = {one["address"]: one["reason"] for one in answer["decisions"] if not one["allowed"]}
        lasting = {address: why for address, why in refused.items() if why not in {"paused", "no_consent"}}
        assert listed(client, headers, topic=topic) == lasting


def test_on_any_history_the_list_never_differs_from_the_decisions(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    chance = random.Random(8058)
    everybody = [f"person-{number}@example.com" for number in range(60)]
    acts = [_any_act(chance, number, chance.choice(everybody[:50])) for number in range(200)]
    answer = client.post("/api/v1/acts", json=acts, headers=headers)
    assert answer.status_code == 200, answer.text
    for topic in ("product-news", "offers", "receipts", "@tracking"):
        kind = "transactional" if topic == "receipts" else "marketing"
        question = {"channel": "email", "class": kind, "topic": topic, "addresses": everybody, "count": False}
        decided = client.post("/api/v1/decisions", json=question, headers=headers).json
        assert decided is not None
        refused = {one["address"]: one["reason"] for one in decided["decisions"] if not one["allowed"]}
        lasting = {address: why for address, why in refused.items() if why not in {"paused", "no_consent"}}
        assert lasting
        assert listed(client, headers, topic=topic, limit=7) == lasting


def _any_act(chance: random.Random, number: int, address: str) -> dict[str, Any]:
    at = (datetime.now(UTC) - timedelta(minutes=chance.randrange(1_000))).isoformat()
    said = {"basis": "consent", "evidence": {"source": "form"}}
    until = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    kinds: list[dict[str, Any]] = [
        {"verb": "unsubscribe", "topic": chance.choice(["*", "product-news", "offers", "@tracking", "@new-topics"])},
        {"verb": "subscribe", "topic": chance.choice(["product-news", "offers", "@tracking"]), **said},
        {"verb": "pause", "topic": chance.choice(["product-news", "offers"]), "until": until},
        {"verb": "suppress", "reason": chance.choice(["hard_bounce", "complaint", "invalid", "legal"])},
    ]
    (one,) = chance.choices(kinds, weights=(5, 4, 2, 1))
    return {"address": address, "origin_ref": f"ref-{number}", "occurred_at": at, **one}


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        (ENTRIES, {"after": "-1"}, "after"),
        (ENTRIES, {"limit": "0"}, "limit"),
        (ENTRIES, {"after": "x"}, "after"),
        (SUPPRESSIONS, {}, "channel"),
        (SUPPRESSIONS, {"channel": "email", "topic": "no-such"}, "topic"),
        (SUPPRESSIONS, {"channel": "email", "brand": "no-such"}, "brand"),
        (SUPPRESSIONS, {"channel": "sms", "topic": "offers"}, "channel"),
        (SUPPRESSIONS, {"channel": "email", "after": "é"}, "after"),
        (SUPPRESSIONS, {"channel": "email", "after": "AAAA"}, "after"),
    ],
)
def test_a_wrong_question_names_its_parameter(
    client: FlaskClient, headers: dict[str, str], path: str, query: dict[str, str], field: str
) -> None:
    answer = client.get(path, query_string=query, headers=headers)
    assert answer.status_code == 422
    assert answer.json is not None
    assert [one["field"] for one in answer.json["errors"]] == [field]
