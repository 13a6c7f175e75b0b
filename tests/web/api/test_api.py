"""The machines' door: may we send, and links and headers that mail programs really understand."""

from __future__ import annotations

import base64
import re
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import listunsub
import pytest
import time_machine
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event

from preferences.address_parsing import read_address
from preferences.current import services_of
from preferences.domain.records import Act, Address, Entry, Topic
from preferences.domain.vocabulary import Actor, Channel, MessageClass, Origin, Purpose, SuppressionReason, Verb
from preferences.ledger import record as ledger
from preferences.metrics import DECISIONS as DECISIONS_COUNTED
from preferences.services import Services
from preferences.store import contacts, feed
from preferences.store.catalog import add_topic, save_brand
from tests.processes import contents, database_away
from tests.support import (
    BRAND,
    PUBLIC_URL,
    TOPICS,
    add_contact,
    api_headers,
    close,
    email,
    link_for,
    new_app,
    new_sqlite,
)

DECISIONS, LINKS = "/api/v1/decisions", "/api/v1/links"
MANY = [f"person-{number}@example.com" for number in range(10_000)]


@pytest.fixture
def headers(services: Services) -> dict[str, str]:
    return api_headers(services)


def ask(client: FlaskClient, headers: dict[str, str], *addresses: str, **changes: Any) -> dict[str, Any]:
    """The whole answer to "may we send?"."""
    question = {"channel": "email", "class": "marketing", "topic": "product-news", "addresses": list(addresses)}
    answer = client.post(DECISIONS, json=question | changes, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    return answer.json


def links(client: FlaskClient, headers: dict[str, str], *addresses: str, **changes: Any) -> list[dict[str, Any]]:
    """What there is for each address."""
    question = {"channel": "email", "topic": "product-news", "addresses": list(addresses)}
    answer = client.post(LINKS, json=question | changes, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    return answer.json["links"]


def suppress(services: Services, address: Address, reason: SuppressionReason) -> None:
    act = Act(
        verb=Verb.SUPPRESS,
        channel=address.channel,
        who=address,
        reason=reason,
        origin=Origin.IMPORT,
        actor=Actor.STAFF,
        occurred_at=datetime.now(UTC),
    )
    services.database.write(ledger.record, [act], fingerprints=services.fingerprints, now=datetime.now(UTC))


# Decisions.


def test_an_answer_has_the_promised_shape(client: FlaskClient, services: Services, headers: dict[str, str]) -> None:
    client.post(link_for(services, add_contact(services)))

    answer = ask(client, headers, "jane.doe@example.com", "new@example.com")

    assert set(answer) == {"as_of", "seq", "decisions"}
    as_of = datetime.fromisoformat(answer["as_of"])
    assert as_of.utcoffset() == timedelta(0)
    assert datetime.now(UTC) - as_of < timedelta(minutes=1)
    assert answer["seq"] == services.database.read(feed.head_seq) == 1
    assert answer["decisions"] == [
        {
            "address": "jane.doe@example.com",
            "allowed": False,
            "reason": "unsubscribed_all",
            "rule": "marketing.unsubscribed_all",
            "entry": 1,
            "degraded": False,
        },
        {
            "address": "new@example.com",
            "allowed": True,
            "reason": "ok",
            "rule": "marketing.ok",
            "entry": None,
            "degraded": False,
        },
    ]


def test_answers_come_in_the_order_of_the_addresses_as_written(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    client.post(link_for(services, add_contact(services)))
    asked = ["z@example.com", "Jane.DOE@example.com", "not an address", " jane.doe@example.com ", "z@example.com"]

    decisions = ask(client, headers, *asked)["decisions"]

    assert [one["address"] for one in decisions] == asked
    assert [one["reason"] for one in decisions] == ["ok", "unsubscribed_all", "bad_address", "unsubscribed_all", "ok"]


def test_nobody_asked_about_is_nobody_answered(client: FlaskClient, headers: dict[str, str]) -> None:
    assert ask(client, headers)["decisions"] == []


def test_asking_writes_nothing_and_makes_no_contact(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    before = contents(services.settings.database_url)
    ask(client, headers, "new@example.com", "jane.doe@example.com")
    assert contents(services.settings.database_url) == before


def test_ten_thousand_are_answered_in_one_call_and_one_more_is_refused(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    client.post(link_for(services, add_contact(services, email(MANY[7_000]))))
    began = time.monotonic()

    decisions = ask(client, headers, *MANY)["decisions"]

    assert time.monotonic() - began < 10
    assert [one["address"] for one in decisions] == MANY
    assert [place for place, one in enumerate(decisions) if not one["allowed"]] == [7_000]
    question = {"channel": "email", "class": "marketing", "topic": "product-news", "addresses": [*MANY, "x@x.com"]}
    refused = client.post(DECISIONS, json=question, headers=headers)
    assert refused.status_code == 422
    assert [error["field"] for error in refused.get_json()["errors"]] == ["addresses"]


@pytest.mark.parametrize(
    ("reason", "marketing", "transactional", "notice"),
    [
        (SuppressionReason.HARD_BOUNCE, False, False, False),
        (SuppressionReason.INVALID, False, False, False),
        (SuppressionReason.COMPLAINT, False, True, True),
        (SuppressionReason.REPLACED, False, True, True),
        (SuppressionReason.ERASED, False, True, True),
        (SuppressionReason.CHILD, False, False, True),
        (SuppressionReason.LEGAL, False, False, True),
    ],
)
def test_each_suppression_is_answered_by_the_table(
    client: FlaskClient,
    services: Services,
    headers: dict[str, str],
    reason: SuppressionReason,
    marketing: bool,
    transactional: bool,
    notice: bool,
) -> None:
    suppress(services, email(), reason)
    for message_class, topic, expected in (
        ("marketing", "product-news", marketing),
        ("transactional", "receipts", transactional),
        ("notice", None, notice),
    ):
        (one,) = ask(client, headers, "jane.doe@example.com", topic=topic, **{"class": message_class})["decisions"]
        assert one["allowed"] is expected, message_class
        assert one["reason"] == ("ok" if expected else reason.value), "a yes never tells what else is known"


def test_a_promotion_sent_as_transactional_is_decided_as_marketing(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    client.post(link_for(services, add_contact(services)))
    (one,) = ask(client, headers, "jane.doe@example.com", **{"class": "transactional"})["decisions"]
    assert (one["allowed"], one["rule"]) == (False, "marketing.unsubscribed_all")


def test_without_a_topic_marketing_is_refused_and_receipts_are_not(
    client: FlaskClient, headers: dict[str, str]
) -> None:
    (one,) = ask(client, headers, "jane.doe@example.com", topic=None)["decisions"]
    assert (one["allowed"], one["reason"]) == (False, "unknown_topic")
    (one,) = ask(client, headers, "jane.doe@example.com", topic=None, **{"class": "transactional"})["decisions"]
    assert (one["allowed"], one["reason"], one["degraded"]) == (True, "ok", False)


def test_consent_is_needed_where_it_is_the_ground(client: FlaskClient, headers: dict[str, str]) -> None:
    (one,) = ask(client, headers, "jane.doe@example.com", topic="offers")["decisions"]
    assert (one["allowed"], one["reason"]) == (False, "no_consent")


def test_a_topic_that_was_added_a_moment_ago_is_known(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    assert ask(client, headers, "a@example.com", topic="brand-new")["decisions"][0]["reason"] == "unknown_topic"
    new = Topic(
        slug="brand-new",
        brand="default",
        name="Brand new",
        description="",
        frequency="",
        message_class=MessageClass.MARKETING,
        basis=TOPICS[0].basis,
        channels=(Channel.EMAIL,),
    )
    services.database.save(add_topic, new, datetime.now(UTC))
    assert ask(client, headers, "a@example.com", topic="brand-new")["decisions"][0]["allowed"]


def test_what_counts_for_one_channel_does_not_for_another(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    client.post(link_for(services, add_contact(services)))
    (one,) = ask(client, headers, "+1 (202) 555-0123", channel="sms")["decisions"]
    assert (one["allowed"], one["address"]) == (True, "+1 (202) 555-0123")


# Links.


def test_each_address_gets_its_links_and_its_headers(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    asked = ["Jane.Doe@example.com", "new@example.com", "jane.doe@example.com"]

    given = links(client, headers, *asked, message_ref="2026-48")

    assert [one["address"] for one in given] == asked
    for one in given:
        assert set(one) == {"address", "unsubscribe_url", "manage_url", "headers"}
        assert one["unsubscribe_url"].startswith(f"{PUBLIC_URL}/u/")
        assert one["manage_url"].startswith(f"{PUBLIC_URL}/p/")
        assert one["headers"] == {
            "List-Unsubscribe": f"<{one['unsubscribe_url']}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            "List-Id": "<product-news.default.list-id.preferences.example.test>",
        }
        for url in (one["unsubscribe_url"], one["manage_url"]):
            assert client.get(urlsplit(url).path).status_code == 200
    read = [services.links.read_unsubscribe(urlsplit(one["unsubscribe_url"]).path[3:]) for one in given]
    assert [(link.topic, link.message_ref, link.channel) for link in read] == [
        ("product-news", "2026-48", Channel.EMAIL)
    ] * 3
    assert read[0].contact_id == read[2].contact_id != read[1].contact_id


def test_a_contact_is_made_once_however_often_it_is_asked_for(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    for _ in range(3):
        links(client, headers, "new@example.com", "NEW@example.com ", "other@example.com")
    assert len(contents(services.settings.database_url)["contact"]) == 2
    assert services.database.read(feed.head_seq) == 0, "a link is no act"


def test_a_contact_is_made_once_though_many_ask_at_the_same_time(app: Flask) -> None:
    services = services_of(app)
    headers = api_headers(services)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: links(app.test_client(), headers, *MANY[:50]), range(12)))
    assert len(contents(services.settings.database_url)["contact"]) == 50
    ids = {
        services.links.read_unsubscribe(urlsplit(answer[0]["unsubscribe_url"]).path[3:]).contact_id
        for answer in answers
    }
    assert len(ids) == 1


def test_ten_thousand_new_contacts_get_links_in_one_call(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    began = time.monotonic()
    given = links(client, headers, *MANY)
    assert time.monotonic() - began < 20
    assert [one["address"] for one in given] == MANY
    assert len({one["unsubscribe_url"] for one in given}) == 10_000
    refused = client.post(
        LINKS, json={"channel": "email", "topic": "offers", "addresses": [*MANY, "x@x.com"]}, headers=headers
    )
    assert refused.status_code == 422
    assert [error["field"] for error in refused.get_json()["errors"]] == ["addresses"]


def test_a_link_for_everything_needs_no_topic(client: FlaskClient, headers: dict[str, str]) -> None:
    answer = client.post(LINKS, json={"channel": "email", "addresses": ["new@example.com"]}, headers=headers)
    (one,) = answer.get_json()["links"]
    assert one["headers"]["List-Id"] == "<default.list-id.preferences.example.test>"
    assert ">Unsubscribe</button>" in client.get(urlsplit(one["unsubscribe_url"]).path).text


def test_a_message_that_is_no_mail_gets_links_and_no_mail_headers(client: FlaskClient, headers: dict[str, str]) -> None:
    (one,) = links(client, headers, "+12025550123", channel="sms")
    assert one["headers"] == {}
    assert client.get(urlsplit(one["unsubscribe_url"]).path).status_code == 200


def test_a_receipt_gets_no_list_headers_and_no_unsubscribe_link(client: FlaskClient, headers: dict[str, str]) -> None:
    (one,) = links(client, headers, "new@example.com", topic="receipts")
    assert one["headers"] == {}
    assert one["unsubscribe_url"] is None
    assert client.get(urlsplit(one["manage_url"]).path).status_code == 200


@pytest.mark.parametrize("reason", [SuppressionReason.ERASED, SuppressionReason.CHILD])
def test_who_must_not_be_stored_gets_no_link_and_is_not_stored(
    client: FlaskClient, services: Services, headers: dict[str, str], reason: SuppressionReason
) -> None:
    suppress(services, email(), reason)
    with services.database.engine.begin() as connection:
        for table in ("address", "contact"):
            connection.exec_driver_sql(f"DELETE FROM {table}")

    gone, fine = links(client, headers, "jane.doe@example.com", "new@example.com")

    assert gone == {"address": "jane.doe@example.com", "unsubscribe_url": None, "manage_url": None, "headers": {}}
    assert fine["unsubscribe_url"]
    assert len(contents(services.settings.database_url)["address"]) == 1


# The headers, as bytes on the wire (the numbers are those of the requirements).


@pytest.fixture
def mail(tmp_path: Any) -> Iterator[bytes]:
    """A mail with our headers, of the longest kind, as Python sends it when told to as docs/api.md says."""
    app = new_app(new_sqlite(tmp_path))
    (one,) = links(app.test_client(), api_headers(services_of(app)), "jane.doe@example.com", message_ref="r" * 64)
    message = EmailMessage(policy=policy.SMTP.clone(max_line_length=998))
    message["From"] = "Maple & Finch <news@maple-and-finch.example>"
    message["To"] = "jane.doe@example.com"
    message["Subject"] = "What is new"
    for name, value in one["headers"].items():
        message[name] = value
    message.set_content(f"News.\n\nUnsubscribe: {one['unsubscribe_url']}\n")
    yield message.as_bytes()
    close(app)


def raw(mail: bytes, name: str) -> list[bytes]:
    """Every raw line, unfolded only where the mail itself folds it, of a header of this name."""
    head = mail.partition(b"\r\n\r\n")[0] + b"\r\n"
    return re.findall(rb"(?im)^" + name.encode() + rb":.*?\r\n(?![ \t])", head, re.DOTALL)


def test_m01_there_is_exactly_one_of_each_field(mail: bytes) -> None:
    assert len(raw(mail, "List-Unsubscribe")) == len(raw(mail, "List-Unsubscribe-Post")) == 1


def test_m02_exactly_one_https_address_and_no_http(mail: bytes) -> None:
    (line,) = raw(mail, "List-Unsubscribe")
    schemes = [urlsplit(uri).scheme for uri in re.findall(r"<([^>]*)>", line.decode())]
    assert schemes.count("https") == 1
    assert set(schemes) <= {"https", "mailto"}


def test_m03_the_post_field_is_exactly_what_the_standard_says(mail: bytes) -> None:
    (line,) = raw(mail, "List-Unsubscribe-Post")
    assert re.fullmatch(rb"List-Unsubscribe-Post: ?List-Unsubscribe=One-Click\r\n", line)


def test_m04_the_fields_are_plain_ascii_not_encoded_and_not_too_long(mail: bytes) -> None:
    for name in ("List-Unsubscribe", "List-Unsubscribe-Post", "List-Id"):
        (line,) = raw(mail, name)
        assert line.isascii()
        assert b"=?" not in line
        assert line.count(b"\r\n") == 1, "not folded inside the address"
        assert len(line) <= 998 + 2
    (line,) = raw(mail, "List-Unsubscribe")
    assert len(line) > 120, "long enough to be broken by a careless policy"


def test_m05_a_second_checker_misses_nothing_but_the_signature(mail: bytes) -> None:
    message = message_from_bytes(mail, policy=policy.compat32)
    fields = [message.get_all(name) for name in ("List-Unsubscribe", "List-Unsubscribe-Post")]
    assert listunsub.audit(*fields) == []
    assert [problem.code for problem in listunsub.audit(*fields, dkim_signatures=[])] == ["missing-dkim"]


@pytest.mark.parametrize("form", ["multipart", "urlencoded"])
def test_m05_what_an_independent_client_makes_of_the_header_opts_out(
    client: FlaskClient, services: Services, headers: dict[str, str], form: Any
) -> None:
    (one,) = links(client, headers, "jane.doe@example.com")
    request = listunsub.one_click_request(one["unsubscribe_url"], form=form)

    answer = client.post(urlsplit(request.url).path, data=request.body, headers=dict(request.headers))

    assert answer.status_code == 200
    assert ask(client, headers, "jane.doe@example.com")["decisions"][0]["reason"] == "unsubscribed_all"


def test_m06_the_url_says_nothing_about_the_person_and_is_unguessable(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    given = links(client, headers, *MANY[:200])
    tokens = [urlsplit(one["unsubscribe_url"]).path.removeprefix("/u/") for one in given]
    for number, token in enumerate(tokens):
        payload, signature = token.split(".")
        decoded = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        assert "@" not in token
        assert f"person-{number}".encode() not in decoded
        assert b"example.com" not in decoded
        assert len(signature) * 6 >= 128, "bits that nobody can guess"
    flipped = tokens[0][:-1] + ("A" if tokens[0][-1] != "A" else "B")
    assert client.post(f"/u/{flipped}").status_code == 404
    assert services.database.read(feed.head_seq) == 0


def test_m07_the_two_kinds_of_mail_differ_in_their_headers(client: FlaskClient, headers: dict[str, str]) -> None:
    for topic in TOPICS:
        (one,) = links(client, headers, "new@example.com", topic=topic.slug)
        expected = {"List-Unsubscribe", "List-Unsubscribe-Post", "List-Id"}
        assert set(one["headers"]) == (expected if topic.message_class is MessageClass.MARKETING else set())


def test_m08_the_list_id_is_stable_under_a_new_name(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    (before,) = links(client, headers, "new@example.com")
    with services.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE topic SET name = 'Something else'")
    (after,) = links(client, headers, "new@example.com")
    assert before["headers"]["List-Id"] == after["headers"]["List-Id"]
    assert len(after["headers"]["List-Id"]) <= 255


# Problems.


def test_every_problem_names_its_field_and_echoes_no_value(client: FlaskClient, headers: dict[str, str]) -> None:
    private = secrets.token_hex(8)
    answer = client.post(
        DECISIONS,
        json={
            "channel": private,
            "class": [private],
            "topic": {"x": private},
            "addresses": [f"{private}@example.com", 7, None, [private], "y" * 2_000 + private],
        },
        headers=headers,
    )
    assert answer.status_code == 422
    assert answer.mimetype == "application/problem+json"
    assert private not in answer.text
    problem = answer.get_json()
    assert problem["title"] == "Some fields are wrong"
    assert {error["field"] for error in problem["errors"]} == {
        "channel",
        "class",
        "topic",
        "addresses[1]",
        "addresses[2]",
        "addresses[3]",
        "addresses[4]",
    }
    assert all(error["detail"] for error in problem["errors"])


def test_an_unknown_field_is_refused_and_named_only_if_plain(client: FlaskClient, headers: dict[str, str]) -> None:
    body = {"channel": "email", "class": "notice", "addresses": [], "topik": "offers", "jane@example.com": 1}
    answer = client.post(DECISIONS, json=body, headers=headers)
    assert answer.status_code == 422
    detail = "an extra field, which this call does not know; leave it out"
    assert {(one["field"], one["detail"]) for one in answer.get_json()["errors"]} == {("topik", detail), ("…", detail)}


def test_of_ten_thousand_wrong_addresses_the_first_hundred_are_named(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    body = {"channel": "email", "topic": "offers", "addresses": ["nobody at all"] * 10_000}
    answer = client.post(LINKS, json=body, headers=headers)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.get_json()["errors"]] == [f"addresses[{n}]" for n in range(100)]
    assert contents(services.settings.database_url)["contact"] == []


# Pauses and caps, which are enforced here.


NOW = datetime.now(UTC)


@contextmanager
def statements_of(services: Services) -> Iterator[list[str]]:
    """Every statement that reaches the database meanwhile."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        seen.append(statement)

    event.listen(services.database.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(services.database.engine, "before_cursor_execute", note)


def choose(services: Services, verb: Verb, who: UUID | Address, topic: str = "product-news", **more: Any) -> Entry:
    """The person's own choice, through a door that is trusted."""
    act = Act(
        verb=verb,
        channel=Channel.EMAIL,
        who=who,
        brand="default",
        topic=topic,
        origin=Origin.ACCOUNT,
        actor=Actor.RECIPIENT,
        occurred_at=datetime.now(UTC),
        trusted=True,
        **more,
    )
    return services.database.write(ledger.record, [act], fingerprints=services.fingerprints, now=datetime.now(UTC))[0]


def reasons(client: FlaskClient, headers: dict[str, str], **changes: Any) -> str:
    """What is said of Jane."""
    (one,) = ask(client, headers, "jane.doe@example.com", **changes)["decisions"]
    assert one["allowed"] is (one["reason"] == "ok")
    return str(one["reason"])


def sendings(services: Services) -> list[str]:
    return contents(services.settings.database_url)["sending"]


def test_a_paused_topic_is_refused_until_its_day_and_no_other_topic_is(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    entry = choose(services, Verb.PAUSE, email(), until=NOW + timedelta(days=7))
    (one,) = ask(client, headers, "jane.doe@example.com")["decisions"]
    assert (one["allowed"], one["reason"], one["entry"]) == (False, "paused", entry.seq)
    assert reasons(client, headers, topic="receipts", **{"class": "transactional"}) == "ok"
    choose(services, Verb.SUBSCRIBE, email(), "offers")
    assert reasons(client, headers, topic="offers") == "ok"
    with time_machine.travel(NOW + timedelta(days=7, seconds=1), tick=True):
        assert reasons(client, headers) == "ok"


def test_a_pause_that_is_taken_away_is_over(client: FlaskClient, services: Services, headers: dict[str, str]) -> None:
    choose(services, Verb.PAUSE, email(), until=NOW + timedelta(days=7))
    choose(services, Verb.PAUSE, email(), until=None)
    assert reasons(client, headers) == "ok"


def test_whoever_wants_two_a_week_gets_two_in_any_seven_days(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    entry = choose(services, Verb.CAP, email(), per_week=2)
    with time_machine.travel(NOW, tick=True) as clock:
        assert [reasons(client, headers) for _ in range(3)] == ["ok", "ok", "over_cap"]
        (one,) = ask(client, headers, "jane.doe@example.com")["decisions"]
        assert (one["rule"], one["entry"], one["degraded"]) == ("marketing.over_cap", entry.seq, False)
        clock.shift(timedelta(days=6, hours=23))
        assert reasons(client, headers) == "over_cap"
        clock.shift(timedelta(hours=2))
        assert [reasons(client, headers) for _ in range(3)] == ["ok", "ok", "over_cap"]


def test_a_mailing_with_a_reference_counts_once_against_a_limit(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    choose(services, Verb.CAP, email(), per_week=2)
    assert [reasons(client, headers, message_ref="2026-48") for _ in range(4)] == ["ok"] * 4
    assert reasons(client, headers, message_ref="2026-49") == "ok"
    assert reasons(client, headers, message_ref="2026-50") == "over_cap"
    assert reasons(client, headers, message_ref="2026-48") == "ok", "it has its place already"
    assert len(sendings(services)) == 2


def test_a_name_that_is_used_again_in_another_week_is_another_mailing(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    choose(services, Verb.CAP, email(), per_week=1)
    assert reasons(client, headers, message_ref="newsletter") == "ok"
    with time_machine.travel(NOW + timedelta(days=8), tick=True):
        assert reasons(client, headers, message_ref="newsletter") == "ok"
        assert reasons(client, headers, message_ref="offer") == "over_cap", "it took a place of this week"


def test_looking_takes_no_place(client: FlaskClient, services: Services, headers: dict[str, str]) -> None:
    choose(services, Verb.CAP, email(), per_week=1)
    assert [reasons(client, headers, count=False) for _ in range(3)] == ["ok"] * 3
    assert sendings(services) == []
    assert reasons(client, headers) == "ok"
    assert reasons(client, headers, count=False) == "over_cap"


def test_only_an_allowed_marketing_message_takes_a_place(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    for topic in ("product-news", "offers"):
        choose(services, Verb.CAP, email(), topic, per_week=1)
    assert reasons(client, headers, topic="offers") == "no_consent"
    assert reasons(client, headers, topic="receipts", **{"class": "transactional"}) == "ok"
    assert reasons(client, headers, topic="receipts", **{"class": "notice"}) == "ok"
    assert sendings(services) == []
    assert reasons(client, headers, **{"class": "transactional"}) == "ok", "the topic is marketing, so it is counted"
    assert len(sendings(services)) == 1


def test_topics_have_caps_of_their_own(client: FlaskClient, services: Services, headers: dict[str, str]) -> None:
    choose(services, Verb.SUBSCRIBE, email(), "offers")
    for topic in ("product-news", "offers"):
        choose(services, Verb.CAP, email(), topic, per_week=1)
    assert [reasons(client, headers, topic=topic) for topic in ("product-news", "offers")] == ["ok", "ok"]
    assert [reasons(client, headers, topic=topic) for topic in ("product-news", "offers")] == ["over_cap"] * 2


def test_in_one_call_each_is_counted_by_their_own_cap(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    choose(services, Verb.CAP, email("one@example.com"), per_week=1)
    choose(services, Verb.CAP, email("two@example.com"), per_week=2)
    everybody = ["one@example.com", "two@example.com", "free@example.com", "ONE@example.com"]
    answers = [[one["reason"] for one in ask(client, headers, *everybody)["decisions"]] for _ in range(3)]
    assert answers == [
        ["ok", "ok", "ok", "ok"],
        ["over_cap", "ok", "ok", "over_cap"],
        ["over_cap", "over_cap", "ok", "over_cap"],
    ]


def test_concurrent_senders_never_exceed_a_frequency_limit(app: Flask) -> None:
    services = services_of(app)
    headers = api_headers(services)
    choose(services, Verb.CAP, email(), per_week=3)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: reasons(app.test_client(), headers), range(12)))
    assert sorted(answers) == ["ok"] * 3 + ["over_cap"] * 9


@pytest.fixture
def cached_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalog is read once in this test, however long it takes."""
    monkeypatch.setattr("preferences.services.CATALOG_SECONDS", 3_600.0)


@pytest.mark.usefixtures("cached_catalog")
def test_without_a_cap_a_decision_takes_three_reads_and_writes_nothing(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    choose(services, Verb.SUBSCRIBE, email())
    ask(client, headers, "jane.doe@example.com")
    with statements_of(services) as statements:
        ask(client, headers, "jane.doe@example.com", "new@example.com", message_ref="2026-48")
    about_people = [one for one in statements if "api_key" not in one]
    assert len(about_people) <= 3, about_people
    assert all(one.lstrip().upper().startswith(("SELECT", "WITH FOUND AS")) for one in statements), statements


@pytest.mark.usefixtures("cached_catalog")
def test_a_cap_takes_a_fixed_number_of_statements_however_many_have_one(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    for name in MANY[:20]:
        choose(services, Verb.CAP, email(name), per_week=3)
    counted = []
    for names in (MANY[:1], MANY[:20]):
        ask(client, headers, *names)
        with statements_of(services) as statements:
            ask(client, headers, *names)
        counted.append(len(statements))
    assert counted[0] == counted[1]


def test_a_failed_reservation_refuses_as_degraded(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    choose(services, Verb.CAP, email(), per_week=3)
    ask(client, headers, "free@example.com")
    before = DECISIONS_COUNTED.labels("marketing", False, True)._value.get()
    with refusing_writes(services):
        one, free = ask(client, headers, "jane.doe@example.com", "free@example.com")["decisions"]
    assert (one["allowed"], one["reason"], one["degraded"]) == (False, "unavailable", True)
    assert (free["allowed"], free["reason"]) == (True, "ok")
    assert DECISIONS_COUNTED.labels("marketing", False, True)._value.get() == before + 1
    assert reasons(client, headers) == "ok"


@contextmanager
def refusing_writes(services: Services) -> Iterator[None]:
    """The database can be read, and takes nothing: as a standby, or with a full disk."""

    def make_read_only(connection: Any, *_more: Any) -> None:
        cursor = connection.cursor()
        only = "PRAGMA query_only = ON" if services.database.is_sqlite else "SET default_transaction_read_only = on"
        cursor.execute(only)
        cursor.close()
        if not services.database.is_sqlite:
            connection.commit()

    services.database.engine.dispose()
    event.listen(services.database.engine, "connect", make_read_only)
    try:
        yield
    finally:
        event.remove(services.database.engine, "connect", make_read_only)
        services.database.engine.dispose()


@pytest.mark.parametrize(
    "wrong", [{"message_ref": "jane@example.com"}, {"message_ref": ""}, {"count": "perhaps"}, {"brand": "nobody's"}]
)
def test_a_wrong_name_of_a_mailing_is_refused(
    client: FlaskClient, headers: dict[str, str], wrong: dict[str, Any]
) -> None:
    question = {"channel": "email", "class": "marketing", "topic": "product-news", "addresses": []}
    answer = client.post(DECISIONS, json=question | wrong, headers=headers)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.get_json()["errors"]] == list(wrong)


# Purposes.


def test_without_an_answer_only_the_place_where_somebody_is_may_not_be_used(
    client: FlaskClient, headers: dict[str, str]
) -> None:
    assert {purpose.value: reasons(client, headers, topic=purpose.value) for purpose in Purpose} == {
        "@tracking": "ok",
        "@profiling": "ok",
        "@location": "no_consent",
        "@new-topics": "ok",
    }


@pytest.mark.parametrize("purpose", Purpose)
def test_an_objection_is_answered_on_every_channel_and_a_yes_as_well(
    client: FlaskClient, services: Services, headers: dict[str, str], purpose: Purpose
) -> None:
    contact_id = add_contact(services)
    phone = read_address(Channel.SMS, "+12025550123")
    services.database.write(contacts.attach, contact_id, phone, services.fingerprints, NOW)

    def answers() -> list[str]:
        return [
            reasons(client, headers, topic=purpose.value),
            ask(client, headers, phone.value, channel="sms", topic=purpose.value)["decisions"][0]["reason"],
        ]

    entry = choose(services, Verb.UNSUBSCRIBE, contact_id, purpose.value)
    assert answers() == ["unsubscribed"] * 2
    (one,) = ask(client, headers, "jane.doe@example.com", topic=purpose.value)["decisions"]
    assert (one["entry"], one["rule"]) == (entry.seq, "marketing.unsubscribed")
    choose(services, Verb.SUBSCRIBE, contact_id, purpose.value)
    assert answers() == ["ok"] * 2


def test_whoever_stopped_everything_has_said_no_to_each_purpose(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    choose(services, Verb.SUBSCRIBE, email(), "@location")
    choose(services, Verb.UNSUBSCRIBE, email(), "*")
    assert {reasons(client, headers, topic=purpose.value) for purpose in Purpose} == {"unsubscribed_all"}


def test_an_objection_to_one_brand_says_nothing_about_another(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    services.database.save(save_brand, replace(BRAND, slug="second", name="Second"), datetime.now(UTC))
    choose(services, Verb.UNSUBSCRIBE, email(), "@profiling")
    services.catalog.get("a topic that makes it read again")
    assert reasons(client, headers, topic="@profiling") == "unsubscribed"
    assert reasons(client, headers, topic="@profiling", brand="default") == "unsubscribed"
    assert reasons(client, headers, topic="@profiling", brand="second") == "ok"


@pytest.mark.parametrize("message_class", ["marketing", "transactional", "notice"])
def test_a_purpose_is_decided_alike_in_every_class(
    client: FlaskClient, services: Services, headers: dict[str, str], message_class: str
) -> None:
    choose(services, Verb.UNSUBSCRIBE, email(), "@profiling")
    assert reasons(client, headers, topic="@profiling", **{"class": message_class}) == "unsubscribed"
    assert reasons(client, headers, topic="@selling", **{"class": message_class}) == "unknown_topic"


def test_a_brand_that_does_not_fit_is_named(client: FlaskClient, headers: dict[str, str]) -> None:
    for topic in ("@tracking", "product-news"):
        question: dict[str, Any] = {"channel": "email", "class": "marketing", "topic": topic, "brand": "gone"}
        answer = client.post(DECISIONS, json=question | {"addresses": []}, headers=headers)
        assert answer.status_code == 422
        assert [error["field"] for error in answer.get_json()["errors"]] == ["brand"]


@pytest.mark.parametrize("message_class", ["marketing", "transactional"])
def test_a_purpose_fails_closed_when_the_database_is_away(sqlite_app: Flask, message_class: str) -> None:
    headers = api_headers(services_of(sqlite_app))
    client = sqlite_app.test_client()
    reasons(client, headers)
    with database_away(sqlite_app):
        for topic in ("@tracking", "@new-topics", "@selling"):
            (one,) = ask(client, headers, "jane.doe@example.com", topic=topic, **{"class": message_class})["decisions"]
            assert (one["allowed"], one["reason"], one["degraded"]) == (False, "unavailable", True)


# New kinds of mail, and addresses that were replaced.


def test_an_opt_out_of_new_topics_covers_only_later_topics(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    entry = choose(services, Verb.UNSUBSCRIBE, email(), "@new-topics")
    new = replace(TOPICS[0], slug="podcast", name="Podcast")
    services.database.save(add_topic, new, datetime.now(UTC))

    (one,) = ask(client, headers, "jane.doe@example.com", topic="podcast")["decisions"]
    assert (one["allowed"], one["reason"], one["entry"]) == (False, "unsubscribed", entry.seq)
    assert reasons(client, headers, topic="product-news") == "ok"
    assert ask(client, headers, "somebody@example.com", topic="podcast")["decisions"][0]["allowed"]

    stop = choose(services, Verb.UNSUBSCRIBE, add_contact(services), "podcast")
    assert stop.contact_id
    services.database.write(ledger.undo, stop.seq, contact_id=stop.contact_id, now=datetime.now(UTC), details={})
    assert reasons(client, headers, topic="podcast") == "unsubscribed", "an undo is not a yes"
    choose(services, Verb.SUBSCRIBE, email(), "podcast")
    assert reasons(client, headers, topic="podcast") == "ok"


def test_a_yes_to_new_kinds_of_mail_is_consent_to_none(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    choose(services, Verb.SUBSCRIBE, email(), "@new-topics")
    services.database.save(add_topic, replace(TOPICS[1], slug="podcast"), datetime.now(UTC))
    assert reasons(client, headers, topic="podcast") == "no_consent"
