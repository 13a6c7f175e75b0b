"""The feed, and the list of those who must not be written to: complete, in order, and never at odds with a decision."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from preferences.domain.terms import Act, Actor, Address, Channel, Origin, SuppressionReason, Verb
from preferences.site import Site
from preferences.store import addresses, ledger, queries
from preferences.store.rows import GENESIS
from tests.support import add_contact, api_headers, email, link_for

ENTRIES, SUPPRESSIONS = "/api/v1/entries", "/api/v1/suppressions"
JANE = "jane.doe@example.com"


@pytest.fixture
def headers(site: Site) -> dict[str, str]:
    return api_headers(site)


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


def record(site: Site, *acts: Act) -> None:
    site.database.write(ledger.record, acts, fingerprints=site.fingerprints, now=datetime.now(UTC))


def act(verb: Verb, who: UUID | Address, **changes: Any) -> Act:
    values: dict[str, Any] = {"brand": "default", "topic": "product-news", "occurred_at": datetime.now(UTC)}
    values |= {"origin": Origin.ACCOUNT, "actor": Actor.RECIPIENT, "trusted": True, "channel": Channel.EMAIL}
    return Act(verb=verb, who=who, **(values | changes))


def suppression(reason: SuppressionReason, who: Address) -> Act:
    return act(Verb.SUPPRESS, who, reason=reason, brand="", topic="", origin="connector.mailer")


def test_every_door_is_in_the_feed_once_and_in_order(client: FlaskClient, site: Site, headers: dict[str, str]) -> None:
    jane = add_contact(site)
    client.post(link_for(site, jane))
    client.post("/optout", data={"address": "box@example.com"})
    told = {"address": "told@example.com", "verb": "unsubscribe", "origin_ref": "1"}
    client.post("/api/v1/acts", json=[told], headers=headers)
    record(site, suppression(SuppressionReason.HARD_BOUNCE, email("bounced@example.com")))
    record(site, act(Verb.PAUSE, jane, until=datetime.now(UTC) + timedelta(days=3)))
    record(site, act(Verb.UNSUBSCRIBE, jane, topic="@tracking"))
    client.post(link_for(site, jane))

    for limit in (1, 3, 1_000):
        entries = followed(client, headers, limit)
        assert [one["seq"] for one in entries] == list(range(1, 8))
        assert [one["origin"] for one in entries] == [
            *("one_click", "address_box", "api.shop", "connector.mailer", "account", "account", "one_click"),
        ]
        assert [one["address"] for one in entries] == [
            *(JANE, "box@example.com", "told@example.com", "bounced@example.com", JANE, JANE, JANE),
        ]
        assert [one["changed"] for one in entries] == [True] * 6 + [False]
    assert {one["contact"] for one in entries if one["address"] == JANE} == {str(jane)}
    assert len({one["hash"] for one in entries} | {GENESIS}) == 8


def test_the_feed_of_an_empty_ledger_is_empty(client: FlaskClient, headers: dict[str, str]) -> None:
    assert get(client, ENTRIES, headers) == {"entries": [], "next": 0, "head": 0}


def test_an_entry_without_an_address_shows_the_one_in_use(
    client: FlaskClient, site: Site, headers: dict[str, str]
) -> None:
    jane, old, new = add_contact(site), email(), email("new@example.com")
    request = site.database.save(
        addresses.request, jane, wanted=new, replaces=_id_of(site, jane), now=datetime.now(UTC)
    )
    site.database.write(addresses.confirm, request, fingerprints=site.fingerprints, now=datetime.now(UTC), evidence={})
    client.post(link_for(site, jane))
    entries = followed(client, headers, 10)
    assert entries[-1]["address"] == new.value
    assert [one["address"] for one in entries if one["reason"] == "replaced"] == [old.value]


def _id_of(site: Site, contact_id: UUID) -> UUID:
    return site.database.read(queries.addresses_of, contact_id)[0].id


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


def people(site: Site) -> None:
    """One address for each thing that can bear on a message, and two about which nothing is known."""
    by_name = {name: email(f"{name}@example.com") for name in ("left", "topic", "yes", "paused", "bounced", "none")}
    for one in (*by_name.values(), email("more@example.com")):
        add_contact(site, one)
    record(
        site,
        act(Verb.UNSUBSCRIBE, by_name["left"], topic="*"),
        act(Verb.UNSUBSCRIBE, by_name["topic"], topic="product-news"),
        act(Verb.SUBSCRIBE, by_name["yes"], topic="offers"),
        act(Verb.PAUSE, by_name["paused"], until=datetime.now(UTC) + timedelta(days=3)),
        suppression(SuppressionReason.HARD_BOUNCE, by_name["bounced"]),
    )


@pytest.mark.parametrize("limit", [1, 2, 10_000])
def test_the_list_is_of_those_who_said_no_or_cannot_be_reached(
    client: FlaskClient, site: Site, headers: dict[str, str], limit: int
) -> None:
    people(site)
    everywhere = {"left@example.com": "unsubscribed_all", "bounced@example.com": "hard_bounce"}
    assert listed(client, headers, limit=limit) == everywhere
    assert listed(client, headers, limit=limit, topic="offers") == everywhere
    assert listed(client, headers, limit=limit, topic="product-news") == {
        **everywhere,
        "topic@example.com": "unsubscribed",
    }


def test_the_list_never_differs_from_a_decision(client: FlaskClient, site: Site, headers: dict[str, str]) -> None:
    people(site)
    names = ["left", "topic", "yes", "paused", "bounced", "none", "more"]
    asked = {"channel": "email", "class": "marketing", "addresses": [f"{name}@example.com" for name in names]}
    for topic in ("product-news", "offers"):
        answer = client.post("/api/v1/decisions", json=asked | {"topic": topic}, headers=headers).json
        assert answer is not None
        refused = {one["address"]: one["reason"] for one in answer["decisions"] if not one["allowed"]}
        lasting = {address: why for address, why in refused.items() if why not in {"paused", "no_consent"}}
        assert listed(client, headers, topic=topic) == lasting


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        (ENTRIES, {"after": "-1"}, "after"),
        (ENTRIES, {"limit": "0"}, "limit"),
        (ENTRIES, {"after": "x"}, "after"),
        (SUPPRESSIONS, {}, "channel"),
        (SUPPRESSIONS, {"channel": "email", "topic": "no-such"}, "topic"),
        (SUPPRESSIONS, {"channel": "email", "brand": "no-such"}, "brand"),
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
