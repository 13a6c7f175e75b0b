"""What a company's systems tell of people: recorded once, durable before it is acknowledged, and never swallowed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from preferences.current import services_of
from preferences.domain.records import Act
from preferences.domain.vocabulary import Actor, Channel, KeyScope, Origin, Purpose, SuppressionReason, Verb
from preferences.ledger import record as ledger
from preferences.ledger.group_commit import BLOCK
from preferences.sending.reported_acts import MOST_SHARED
from preferences.services import Services
from preferences.store import contacts, feed
from preferences.store.api_keys import create_key, rotate_key
from preferences.store.tables import address
from tests.processes import database_away
from tests.support import add_contact, api_headers, email, link_for

ACTS, DECISIONS = "/api/v1/acts", "/api/v1/decisions"
JANE = "jane.doe@example.com"
NOW = datetime.now(UTC)


@pytest.fixture
def headers(services: Services) -> dict[str, str]:
    return api_headers(services)


def act(**changes: Any) -> dict[str, Any]:
    return {"address": JANE, "verb": "unsubscribe", "origin_ref": "shop-1"} | changes


def yes(**changes: Any) -> dict[str, Any]:
    said = {"verb": "subscribe", "topic": "product-news", "basis": "consent", "evidence": {"source": "checkout"}}
    return act(**said, occurred_at=datetime.now(UTC).isoformat()) | changes


def tell(client: FlaskClient, headers: dict[str, str], *acts: dict[str, Any]) -> TestResponse:
    return client.post(ACTS, json=list(acts), headers=headers)


def told(client: FlaskClient, headers: dict[str, str], *acts: dict[str, Any]) -> list[dict[str, Any]]:
    answer = tell(client, headers, *acts)
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    return answer.json["entries"]


def reason(client: FlaskClient, headers: dict[str, str], address: str = JANE, **changes: Any) -> str:
    asked = {"channel": "email", "class": "marketing", "topic": "product-news", "addresses": [address]} | changes
    answer = client.post(DECISIONS, json=asked, headers=headers).json
    assert answer is not None
    return answer["decisions"][0]["reason"]


def faults(answer: TestResponse) -> dict[str, str]:
    assert answer.status_code in {409, 422}, answer.text
    assert answer.json is not None
    return {one["field"]: one["detail"] for one in answer.json["errors"]}


def test_a_told_opt_out_counts_as_soon_as_it_is_answered(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    (entry,) = told(client, headers, act())
    assert entry == {"seq": 1, "changed": True, "repeated": False, "recorded_at": entry["recorded_at"]}
    assert reason(client, headers) == "unsubscribed_all"
    (recorded,) = services.database.read(feed.entries_after, 0, 10)
    assert (recorded.origin, recorded.origin_ref, recorded.topic) == ("api.shop", "shop-1", "*")


def test_told_again_it_counts_once_and_says_so(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    first = told(client, headers, act(), act(address="new@example.com", origin_ref="shop-2"))
    again = told(client, headers, act(), act(address="new@example.com", origin_ref="shop-2"))
    assert [one["repeated"] for one in first] == [False, False]
    assert again == [{**one, "repeated": True} for one in first]
    assert services.database.read(feed.head_seq) == 2


def test_a_rotated_key_still_knows_what_was_told(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    told(client, headers, act())
    key = services.database.save(rotate_key, "shop", NOW, timedelta(days=7))
    (again,) = told(client, {"Authorization": f"Bearer {key}"}, act())
    assert again["repeated"]


def test_thousands_of_acts_are_recorded_in_their_order(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    acts = [act(address=f"person-{number}@example.com", origin_ref=f"ref-{number}") for number in range(1_200)]
    entries = told(client, headers, *acts)
    assert [one["seq"] for one in entries] == list(range(1, 1_201))
    assert reason(client, headers, "person-1199@example.com") == "unsubscribed_all"


@pytest.mark.parametrize(
    "another",
    [{"address": "other@example.com"}, {"topic": "product-news"}, yes(), {"verb": "suppress", "reason": "complaint"}],
)
def test_a_reference_of_another_act_is_refused(
    client: FlaskClient, services: Services, headers: dict[str, str], another: dict[str, Any]
) -> None:
    told(client, headers, act())
    answer = tell(client, headers, act(address="last@example.com", origin_ref="shop-2"), act(**another))
    assert answer.status_code == 409
    assert list(faults(answer)) == ["[1].origin_ref"]
    assert services.database.read(feed.head_seq) == 1


def test_the_same_reference_for_two_acts_of_one_call_is_refused(client: FlaskClient, headers: dict[str, str]) -> None:
    answer = tell(client, headers, act(), act(address="other@example.com"))
    assert list(faults(answer)) == ["[1].origin_ref"]
    assert answer.status_code == 409


@pytest.mark.parametrize("company", [0, MOST_SHARED])
def test_two_concurrent_opt_outs_with_one_reference_are_both_kept(
    app: Flask, headers: dict[str, str], company: int
) -> None:
    """However they meet, in one transaction or one after the other: each is recorded, or its caller is told so."""
    for number in range(6):
        acts = [act(address=f"{who}-{number}@example.com", origin_ref=f"same-{number}") for who in ("a", "b")]
        others = [
            [act(address=f"{who}-{one}@example.com", origin_ref=f"{who}-{number}-{one}") for one in range(company)]
            for who in ("c", "d")
        ]
        with ThreadPoolExecutor(2) as pool:
            calls = zip(acts, others, strict=True)
            answers = list(pool.map(lambda call: tell(app.test_client(), headers, call[0], *call[1]), calls))
        taken = [one.json["entries"][0] for one in answers if one.status_code == 200 and one.json]
        refused = [one for one in answers if one.status_code == 409]
        assert taken
        assert len(taken) + len(refused) == 2
        assert len({entry["seq"] for entry in taken}) == len(taken), "no entry stands for two opt-outs"
        assert all(entry["changed"] and not entry["repeated"] for entry in taken)
        assert all(list(faults(one)) == ["[0].origin_ref"] for one in refused)


def test_a_call_that_ended_half_way_is_completed_by_its_repetition(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    acts = [act(address=f"person-{number}@example.com", origin_ref=f"ref-{number}") for number in range(BLOCK + 10)]
    told(client, headers, *acts[:BLOCK])
    entries = told(client, headers, *acts)
    assert [one["repeated"] for one in entries] == [True] * BLOCK + [False] * 10
    assert services.database.read(feed.head_seq) == len(acts)


def test_for_an_erased_address_only_an_opt_out_is_kept(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    erased = Act(
        verb=Verb.SUPPRESS,
        channel=Channel.EMAIL,
        who=email(),
        reason=SuppressionReason.ERASED,
        origin=Origin.IMPORT,
        actor=Actor.STAFF,
        occurred_at=NOW,
    )
    services.database.write(ledger.record, [erased], fingerprints=services.fingerprints, now=NOW)
    with services.database.engine.begin() as connection:
        connection.execute(address.delete())

    told(
        client,
        headers,
        act(origin_ref="1"),
        yes(origin_ref="2", topic="offers"),
        act(origin_ref="3", verb="suppress", reason="complaint"),
    )
    recorded = services.database.read(feed.entries_after, 1, 10)
    assert [(one.contact_id, one.changed) for one in recorded] == [(None, False), (None, False), (None, True)]
    assert services.database.read(contacts.find_addresses, [email()], services.fingerprints) == {}
    assert reason(client, headers, topic="offers") == "erased"
    assert told(client, headers, act(origin_ref="1"))[0]["repeated"]


# A yes.


def test_a_yes_starts_a_subscription(client: FlaskClient, headers: dict[str, str]) -> None:
    assert reason(client, headers, topic="offers") == "no_consent"
    told(client, headers, yes(topic="offers"))
    assert reason(client, headers, topic="offers") == "ok"


def test_a_yes_never_revives_a_no_unless_the_key_may(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    told(client, headers, act(topic="product-news"))
    (entry,) = told(client, headers, yes(origin_ref="shop-2"))
    assert not entry["changed"]
    assert reason(client, headers) == "unsubscribed"

    key = services.database.save(create_key, "counter", NOW, frozenset(KeyScope))
    (entry,) = told(client, {"Authorization": f"Bearer {key}"}, yes(origin_ref="till-1"))
    assert entry["changed"]
    assert reason(client, headers) == "ok"


@pytest.mark.parametrize(
    ("without", "field"), [("basis", "basis"), ("evidence", "evidence"), ("occurred_at", "occurred_at")]
)
def test_a_yes_needs_its_proof(client: FlaskClient, headers: dict[str, str], without: str, field: str) -> None:
    one = yes()
    del one[without]
    assert list(faults(tell(client, headers, one))) == [f"[0].{field}"]


@pytest.mark.parametrize(
    "changes",
    [
        yes(),
        {"verb": "lift", "reason": "hard_bounce", "evidence": {"because": "She wrote to us."}},
        {"verb": "pause", "topic": "product-news"},
        {"verb": "cap", "topic": "product-news"},
    ],
)
def test_what_needs_its_instant_is_refused_with_one_before_such_mail(
    client: FlaskClient, services: Services, headers: dict[str, str], changes: dict[str, Any]
) -> None:
    key = services.database.save(create_key, "counter", NOW, frozenset(KeyScope))
    one = act(**changes) | {"occurred_at": "1985-06-01T00:00:00Z"}
    found = faults(tell(client, {"Authorization": f"Bearer {key}"}, one))
    assert list(found) == ["[0].occurred_at"]
    assert "before 1990" in found["[0].occurred_at"]
    assert services.database.read(feed.head_seq) == 0


def test_an_opt_out_dated_before_such_mail_counts_from_its_receipt(
    client: FlaskClient, headers: dict[str, str]
) -> None:
    told(client, headers, act(occurred_at="1985-06-01T00:00:00Z"))
    assert reason(client, headers) == "unsubscribed_all"


def test_a_yes_to_everything_is_refused(client: FlaskClient, headers: dict[str, str]) -> None:
    assert list(faults(tell(client, headers, yes(topic="*")))) == ["[0].topic"]


# Other things that can be told.


def test_a_purpose_is_kept_under_email_whichever_address_was_named(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    told(client, headers, act(address="+12025550123", channel="sms", topic="@tracking"))
    (entry,) = services.database.read(feed.entries_after, 0, 10)
    assert (entry.channel, entry.topic) == (Channel.EMAIL, Purpose.TRACKING)
    assert reason(client, headers, "+12025550123", channel="sms", topic="@tracking") == "unsubscribed"


def test_a_pause_and_a_cap_slow_a_topic_down_and_are_taken_away_again(
    client: FlaskClient, headers: dict[str, str]
) -> None:
    until = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    told(client, headers, act(verb="pause", topic="product-news", until=until))
    assert reason(client, headers) == "paused"
    now = datetime.now(UTC).isoformat()
    told(client, headers, act(verb="pause", topic="product-news", origin_ref="2", occurred_at=now))
    assert reason(client, headers) == "ok"
    told(client, headers, act(verb="cap", topic="product-news", per_week=1, origin_ref="3"))
    assert [reason(client, headers) for _ in range(2)] == ["ok", "over_cap"]


def test_a_bounce_of_your_own_mail_server_can_be_told(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    told(client, headers, act(verb="suppress", reason="hard_bounce"))
    assert reason(client, headers, **{"class": "transactional"}) == "hard_bounce"
    (entry,) = services.database.read(feed.entries_after, 0, 10)
    assert (entry.verb, entry.reason, entry.brand) == (Verb.SUPPRESS, SuppressionReason.HARD_BOUNCE, "")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"address": "nobody"}, "address"),
        ({"channel": "fax"}, "channel"),
        ({"topic": "no-such"}, "topic"),
        ({"topic": "receipts"}, "topic"),
        ({"topic": "@nothing"}, "topic"),
        ({"topic": "offers", "channel": "sms", "address": "+12025550123"}, "channel"),
        ({"brand": "no-such"}, "brand"),
        ({"verb": "erase"}, "verb"),
        ({"verb": "pause", "topic": "*", "until": NOW.isoformat()}, "topic"),
        ({"verb": "pause", "topic": "product-news"}, "occurred_at"),
        ({"verb": "cap", "topic": "@tracking", "per_week": 1}, "topic"),
        ({"verb": "suppress"}, "reason"),
        ({"verb": "suppress", "reason": "erased"}, "reason"),
        ({"verb": "suppress", "reason": "invalid", "topic": "offers"}, "topic"),
        ({"reason": "complaint"}, "reason"),
        ({"until": NOW.isoformat()}, "until"),
        ({"per_week": 3}, "per_week"),
        ({"occurred_at": "2026-11-25T10:00:00"}, "occurred_at"),
        ({"occurred_at": "0001-01-01T00:00:00+14:00"}, "occurred_at"),
        ({"verb": "pause", "topic": "product-news", "until": "9999-12-31T23:59:59-14:00"}, "until"),
        ({"origin_ref": ""}, "origin_ref"),
        ({"origin_ref": "two words"}, "origin_ref"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_act_names_its_field_and_stops_the_call(
    client: FlaskClient, services: Services, headers: dict[str, str], changes: dict[str, Any], field: str
) -> None:
    answer = tell(client, headers, act(address="first@example.com", origin_ref="first"), act(**changes))
    assert answer.status_code == 422
    assert list(faults(answer)) == [f"[1].{field}"]
    assert services.database.read(feed.head_seq) == 0


def test_nothing_is_acknowledged_while_the_database_is_away(
    sqlite_app: Flask,
) -> None:
    client, headers = sqlite_app.test_client(), api_headers(services_of(sqlite_app))
    with database_away(sqlite_app):
        assert tell(client, headers, act()).status_code == 503
    assert told(client, headers, act())[0]["changed"]


def test_a_newer_no_by_link_beats_a_told_yes(client: FlaskClient, services: Services, headers: dict[str, str]) -> None:
    client.post(link_for(services, add_contact(services, email())))
    told(client, headers, yes(occurred_at=(NOW - timedelta(days=1)).isoformat()))
    assert reason(client, headers) == "unsubscribed_all"
    assert {one.origin for one in services.database.read(feed.entries_after, 0, 10)} == {Origin.ONE_CLICK, "api.shop"}
