"""What providers report, by Standard Webhooks: only what is authentic counts, and nothing sent in can break us."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import re
import secrets
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import time_machine
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from standardwebhooks.webhooks import Webhook
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from preferences.connectors import require_own_topics
from preferences.current import services_of
from preferences.domain.errors import Misconfigured
from preferences.domain.records import Brand
from preferences.domain.vocabulary import OneClick
from preferences.ledger.verify import verify
from preferences.store import catalog, feed
from preferences.web.signatures import MADE
from tests.processes import Installation, contents, database_away
from tests.profiles import scaled
from tests.support import add_contact, api_headers, close, email, link_for, new_app, new_sqlite

SECRET = "whsec_" + base64.b64encode(b"the secret of the shop's platform").decode()
NEXT_SECRET = "whsec_" + base64.b64encode(b"the one that comes after it, soon").decode()
STRANGERS = "whsec_" + base64.b64encode(b"what somebody else once made up..").decode()

CONFIG = f"""
[connectors.shop]
kind = "webhook"
base_url = "https://shop.example.test"
webhook_secrets = ["{SECRET}", "{NEXT_SECRET}"]
[connectors.shop.topics]
"product-news" = "list-17"
"*" = "global"

[connectors.deaf]
kind = "webhook"
base_url = "https://deaf.example.test"
"""
PATH = "/webhooks/shop"
ADDRESS = "jane.doe@example.com"


@pytest.fixture
def app(database_url: str, tmp_path: Path) -> Iterator[Flask]:
    """The application with its connectors, on both engines."""
    yield from opened(database_url, tmp_path)


@pytest.fixture
def sqlite_app(tmp_path: Path) -> Iterator[Flask]:
    """The same on SQLite alone."""
    yield from opened(new_sqlite(tmp_path), tmp_path)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """One for all examples of a property."""
    folder = tmp_path_factory.mktemp("lasting")
    yield from opened(new_sqlite(folder), folder)


def opened(database_url: str, folder: Path) -> Iterator[Flask]:
    config_file = folder / "config.toml"
    config_file.write_text(CONFIG)
    app = new_app(database_url, config_file=config_file)
    yield app
    close(app)


def event(kind: str = "unsubscribe", list_ref: str | None = "list-17", **more: Any) -> bytes:
    """The body of a report, as docs/connectors.md describes it."""
    data = {"channel": "email", "address": ADDRESS} | ({} if list_ref is None else {"list": list_ref}) | more
    return json.dumps({"type": kind, "timestamp": datetime.now(UTC).isoformat(), "data": data}).encode()


def signed(body: bytes, secret: str = SECRET, message_id: str = "", at: datetime | None = None) -> dict[str, str]:
    """The headers of a report, signed by the standard's own library."""
    at, message_id = at or datetime.now(UTC), message_id or f"msg_{secrets.token_hex(8)}"
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, at, body.decode()),
    }


def signed_by_hand(body: bytes, secret: str = SECRET) -> dict[str, str]:
    """The same, written down from the standard: HMAC-SHA-256 over id, time and body, with points between them."""
    message_id, at = f"msg_{secrets.token_hex(8)}", str(int(datetime.now(UTC).timestamp()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, b".".join((message_id.encode(), at.encode(), body)), hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": at,
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }


def send(app: Flask, body: bytes, headers: dict[str, str], path: str = PATH) -> TestResponse:
    return app.test_client().post(path, data=body, headers=headers)


def report(app: Flask, body: bytes, secret: str = SECRET) -> TestResponse:
    """Sign and send."""
    return send(app, body, signed(body, secret))


def reason(app: Flask, topic: str = "product-news", message_class: str = "marketing", address: str = ADDRESS) -> str:
    """Why we may or may not write."""
    name = f"test-{secrets.token_hex(4)}"
    question = {"channel": "email", "class": message_class, "topic": topic, "addresses": [address]}
    answer = app.test_client().post("/api/v1/decisions", json=question, headers=api_headers(services_of(app), name))
    assert answer.json is not None
    return answer.json["decisions"][0]["reason"]


def rows(app: Flask) -> dict[str, list[str]]:
    return contents(services_of(app).settings.database_url)


def count_entries(app: Flask) -> int:
    return services_of(app).database.read(feed.head_seq)


def counter(outcome: str) -> float:
    labels = {"connector": "shop", "outcome": outcome}
    return REGISTRY.get_sample_value("preferences_provider_events_total", labels) or 0


def refused(app: Flask, body: bytes, headers: dict[str, str]) -> bool:
    """401, and no row has changed."""
    before = rows(app)
    answer = send(app, body, headers)
    return answer.status_code == 401 and rows(app) == before


# What is authentic counts.


@pytest.mark.parametrize("sign", [signed, signed_by_hand], ids=["by the library", "by hand"])
def test_an_unsubscribe_is_in_force_when_it_is_acknowledged(app: Flask, sign: Any) -> None:
    add_contact(services_of(app), email(ADDRESS))
    assert reason(app) == "ok"

    body = event()
    answer = send(app, body, sign(body))

    assert (answer.status_code, answer.text) == (200, "recorded\n")
    assert reason(app) == "unsubscribed"
    assert reason(app, "offers") == "no_consent", "the other topic is as it was"
    assert reason(app, "receipts", "transactional") == "ok"


def test_an_unsubscribe_from_the_global_list_stops_all_marketing(app: Flask) -> None:
    report(app, event(list_ref="global"))
    assert reason(app) == reason(app, "offers") == "unsubscribed_all"


@pytest.mark.parametrize("kind", ["bounce.hard", "complaint", "invalid"])
def test_a_bounce_or_complaint_supsubmissions_the_address_and_no_other(app: Flask, kind: str) -> None:
    report(app, event(kind, list_ref=None))
    word = {"bounce.hard": "hard_bounce"}.get(kind, kind)
    assert reason(app) == word
    assert reason(app, "receipts", "transactional") == ("ok" if kind == "complaint" else word)
    assert reason(app, address="somebody.else@example.com") == "ok"


def test_both_secrets_count_while_one_replaces_the_other(app: Flask) -> None:
    for secret in (SECRET, NEXT_SECRET):
        assert report(app, event(), secret).status_code == 200
    assert count_entries(app) == 2


def test_one_good_signature_among_others_is_enough(app: Flask) -> None:
    body = event()
    headers = signed(body)
    others = f"v1,{base64.b64encode(b'x' * 32).decode()} v2,whatever v1a,{'A' * 88}"
    headers["webhook-signature"] = f"{others} {headers['webhook-signature']}"
    assert send(app, body, headers).status_code == 200
    assert count_entries(app) == 1


def test_header_names_may_be_written_in_any_case(sqlite_app: Flask) -> None:
    body = event()
    assert send(sqlite_app, body, {name.upper(): value for name, value in signed(body).items()}).status_code == 200


def test_the_same_report_again_is_acknowledged_and_changes_nothing(app: Flask) -> None:
    body = event()
    headers = signed(body, message_id="msg_again")
    assert send(app, body, headers).status_code == 200
    before = rows(app)

    again = [send(app, body, headers), send(app, body, signed(body, NEXT_SECRET, "msg_again"))]

    assert [(answer.status_code, answer.text) for answer in again] == [(200, "recorded\n")] * 2
    assert rows(app) == before


def test_the_same_report_many_times_at_once_is_recorded_once(app: Flask) -> None:
    body = event()
    headers = signed(body, message_id="msg_at_once")
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: send(app, body, headers), range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert count_entries(app) == 1
    assert services_of(app).database.snapshot(verify, lambda _: None).problems == []


def test_two_long_ids_that_begin_alike_are_two_reports(app: Flask) -> None:
    for ending in ("first", "second"):
        body = event(address=f"{ending}@example.com")
        assert send(app, body, signed(body, message_id="m" * 300 + ending)).status_code == 200
    assert reason(app, address="first@example.com") == reason(app, address="second@example.com") == "unsubscribed"


def test_an_undo_restores_no_older_opt_out_reported_later(app: Flask) -> None:
    client, services = app.test_client(), services_of(app)
    path = link_for(services, add_contact(services, email(ADDRESS)))
    done = client.post(path, data={"intent": "topic"}, headers={"Accept": "text/html"})
    (undo,) = re.findall(r'name="undo" value="([^"]+)"', done.text)
    older = (datetime.now(UTC) - timedelta(minutes=3)).isoformat()
    client.post(f"{path}/undo", data={"undo": undo})

    opt_out = json.dumps({"type": "unsubscribe", "timestamp": older, "data": {"address": ADDRESS, "list": "list-17"}})

    assert report(app, opt_out.encode()).status_code == 200
    assert reason(app) == "unsubscribed"


def test_a_report_from_the_future_counts_from_receipt(app: Flask) -> None:
    later = (datetime.now(UTC) + timedelta(days=400)).isoformat()
    body = json.dumps({"type": "unsubscribe", "timestamp": later, "data": {"address": ADDRESS, "list": "list-17"}})
    assert report(app, body.encode()).status_code == 200
    (entry,) = services_of(app).database.read(feed.entries_after, 0, 10)
    assert entry.occurred_at == entry.recorded_at


@pytest.mark.parametrize(
    "timestamp",
    ["", "yesterday", None, 7, [], "2026-13-45", "2026-11-23T22:14:59", "0001-01-01T00:00:00+23:59", "9" * 50],
)
def test_an_opt_out_whose_time_cannot_be_read_counts_from_receipt(sqlite_app: Flask, timestamp: Any) -> None:
    body = json.dumps(
        {"type": "unsubscribe", "timestamp": timestamp, "data": {"address": ADDRESS, "list": "list-17"}}
    ).encode()
    assert send(sqlite_app, body, signed(body)).status_code == 200
    assert reason(sqlite_app) == "unsubscribed"


def test_an_unknown_address_is_reported_without_a_fault(app: Flask) -> None:
    assert report(app, event(address="never.seen@example.com")).status_code == 200
    assert reason(app, address="never.seen@example.com") == "unsubscribed"


# What is not authentic does not.


def test_any_changed_byte_of_the_body_is_refused(lasting: Flask) -> None:
    body = event()
    headers = signed(body)
    before = rows(lasting)
    for place in range(len(body)):
        changed = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
        assert send(lasting, changed, headers).status_code == 401, place
    for changed in (b"", body + b" ", body[:-1], b" " + body, body.upper()):
        assert send(lasting, changed, headers).status_code == 401
    assert rows(lasting) == before


def test_any_changed_bit_of_the_signature_is_refused(lasting: Flask) -> None:
    body = event()
    headers = signed(body)
    digest = bytearray(base64.b64decode(headers["webhook-signature"].removeprefix("v1,")))
    before = rows(lasting)
    for bit in range(len(digest) * 8):
        changed = bytearray(digest)
        changed[bit // 8] ^= 1 << bit % 8
        headers["webhook-signature"] = "v1," + base64.b64encode(changed).decode()
        assert send(lasting, body, headers).status_code == 401, bit
    assert rows(lasting) == before


def test_another_id_or_time_than_the_signed_one_is_refused(sqlite_app: Flask) -> None:
    body = event()
    headers = signed(body, message_id="msg_1")
    assert refused(sqlite_app, body, headers | {"webhook-id": "msg_2"})
    assert refused(sqlite_app, body, headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)})


def test_another_contacts_key_is_refused(app: Flask) -> None:
    body = event()
    assert refused(app, body, signed(body, STRANGERS))


@pytest.mark.parametrize("minutes", [-6, 6, -60 * 24, 60 * 24 * 365 * 50])
def test_a_report_from_long_ago_or_from_the_future_is_refused(sqlite_app: Flask, minutes: int) -> None:
    body = event()
    assert refused(sqlite_app, body, signed(body, at=datetime.now(UTC) + timedelta(minutes=minutes)))


def test_a_report_that_is_kept_and_sent_again_later_is_refused(sqlite_app: Flask) -> None:
    body = event()
    headers = signed(body)
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=6)):
        assert refused(sqlite_app, body, headers)


@pytest.mark.parametrize("minutes", [-4, 4])
def test_clocks_may_differ_by_a_few_minutes(sqlite_app: Flask, minutes: int) -> None:
    body = event()
    at = datetime.now(UTC) + timedelta(minutes=minutes)
    assert send(sqlite_app, body, signed(body, at=at)).status_code == 200


MALFORMED = {
    "no id": ("webhook-id", None),
    "an empty id": ("webhook-id", ""),
    "no time": ("webhook-timestamp", None),
    "an empty time": ("webhook-timestamp", ""),
    "a time in words": ("webhook-timestamp", "now"),
    "a time that is no number": ("webhook-timestamp", "nan"),
    "a time without end": ("webhook-timestamp", "inf"),
    "a time with too many digits": ("webhook-timestamp", "9" * 400),
    "a negative time": ("webhook-timestamp", "-1"),
    "a date": ("webhook-timestamp", "2026-11-23T22:15:00Z"),
    "no signature": ("webhook-signature", None),
    "an empty signature": ("webhook-signature", ""),
    "a signature without a version": ("webhook-signature", "abcdef"),
    "a version alone": ("webhook-signature", "v1,"),
    "too many commas": ("webhook-signature", "v1,a,b,c"),
    "no base64": ("webhook-signature", "v1,!!!!"),
    "half of base64": ("webhook-signature", "v1,abc"),
    "another version": ("webhook-signature", "v2," + "A" * 44),
    "letters of another script": ("webhook-signature", "v1,\xe9\xff"),
    "spaces": ("webhook-signature", "     "),
    "very many": ("webhook-signature", "v1,AAAA " * 500),
}


@pytest.mark.parametrize(("name", "value"), MALFORMED.values(), ids=MALFORMED)
def test_headers_that_are_missing_or_malformed_are_refused(sqlite_app: Flask, name: str, value: str | None) -> None:
    body = event()
    headers = {other: text for other, text in signed(body).items() if other != name}
    assert refused(sqlite_app, body, headers if value is None else headers | {name: value})


def test_what_is_refused_is_counted_and_logged_without_what_was_sent(sqlite_app: Flask) -> None:
    before = counter("refused")
    with capture_logs() as logged:
        report(sqlite_app, event(), STRANGERS)
    assert counter("refused") == before + 1
    assert logged == [{"event": "webhook refused", "connector": "shop", "log_level": "warning"}]


# Authentic, and still not for us.


@pytest.mark.parametrize("kind", ["delivered", "opened", "clicked", "bounce.soft", "subscribe", "resubscribe", ""])
def test_a_type_that_we_do_not_record_is_counted_and_acknowledged(sqlite_app: Flask, kind: str) -> None:
    before, ignored = rows(sqlite_app), counter("ignored")
    answer = report(sqlite_app, event(kind))
    assert answer.status_code == 200
    assert counter("ignored") == ignored + 1
    assert rows(sqlite_app) == before


@pytest.mark.parametrize("list_ref", [None, "", "list-99", "LIST-17", "*", "product-news", "GLOBAL", "global "])
def test_a_list_that_is_not_mapped_never_becomes_everything(sqlite_app: Flask, list_ref: str | None) -> None:
    add_contact(services_of(sqlite_app), email(ADDRESS))
    before, ignored = rows(sqlite_app), counter("ignored")
    answer = report(sqlite_app, event(list_ref=list_ref))
    assert answer.status_code == 200
    assert counter("ignored") == ignored + 1, "reported, and not swallowed"
    assert rows(sqlite_app) == before


UNREADABLE = {
    "nothing": b"",
    "no JSON": b"unsubscribe jane",
    "half of it": b'{"type": "unsubscribe"',
    "a list": b"[]",
    "null": b"null",
    "a number": b"7",
    "no type": b"{}",
    "a type that is a list": b'{"type": []}',
    "no data": b'{"type": "unsubscribe"}',
    "data that is a word": b'{"type": "unsubscribe", "data": "jane"}',
    "data that is a list": b'{"type": "complaint", "data": []}',
    "no address": b'{"type": "complaint", "data": {}}',
    "an address that is a number": b'{"type": "complaint", "data": {"address": 7}}',
    "an address that is an object": b'{"type": "complaint", "data": {"address": {}}}',
    "no address at all": b'{"type": "complaint", "data": {"address": "jane"}}',
    "an address with a NUL": b'{"type": "complaint", "data": {"address": "a\\u0000@example.com"}}',
    "half a character": b'{"type": "complaint", "data": {"address": "\\ud800@example.com"}}',
    "half a character by post": b'{"type": "complaint", "data": {"channel": "post", "address": "\\ud800"}}',
    "an unknown channel": b'{"type": "complaint", "data": {"channel": "fax", "address": "a@example.com"}}',
    "a channel that is a list": b'{"type": "complaint", "data": {"channel": [], "address": "a@example.com"}}',
    "a list that is an object": b'{"type": "unsubscribe", "data": {"list": {}, "address": "a@example.com"}}',
    "too deep": b"[" * 50_000,
    "an address of too many digits": b'{"type": "complaint", "data": {"address": ' + b"9" * 5_000 + b"}}",
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_authentic_but_not_as_described_is_asked_for_again(sqlite_app: Flask, body: bytes) -> None:
    unreadable = counter("unreadable")
    with capture_logs() as logged:
        assert send(sqlite_app, body, signed(body)).status_code == 503
    assert counter("unreadable") == unreadable + 1
    assert logged == [{"event": "webhook not understood", "connector": "shop", "log_level": "warning"}]


def test_bytes_that_are_no_text_are_refused(sqlite_app: Flask) -> None:
    body = b"\xff\xfe\x00"
    assert refused(sqlite_app, body, signed_by_hand(body))


# Doors.


@pytest.mark.parametrize("name", ["Jane Doe", '"Doe, Jane"', ""])
def test_a_name_beside_the_address_loses_no_opt_out(app: Flask, name: str) -> None:
    assert report(app, event(address=f"{name} <{ADDRESS}>")).status_code == 200
    assert reason(app) == "unsubscribed"


def test_with_a_slash_behind_it_is_the_same_webhook(sqlite_app: Flask) -> None:
    body = event()
    assert sqlite_app.test_client().get(f"{PATH}/").text == "ready\n"
    assert send(sqlite_app, body, signed(body), f"{PATH}/").status_code == 200
    assert reason(sqlite_app) == "unsubscribed"


@pytest.mark.parametrize("terminated", [True, False])
@pytest.mark.parametrize("missing", [1, 40])
def test_a_body_that_ends_early_is_asked_for_again(sqlite_app: Flask, missing: int, *, terminated: bool) -> None:
    body = event()
    answer = sqlite_app.test_client().post(
        PATH,
        input_stream=io.BytesIO(body),
        headers=signed(body),
        environ_overrides={"CONTENT_LENGTH": str(len(body) + missing), "wsgi.input_terminated": terminated},
    )
    assert (answer.status_code, count_entries(sqlite_app)) == (503, 0)


def test_a_mapping_to_another_brands_topic_keeps_the_report(sqlite_app: Flask) -> None:
    services, now = services_of(sqlite_app), datetime.now(UTC)
    acme = Brand(
        slug="acme", name="Acme", postal_address="", contact_email="", one_click=OneClick.EVERYTHING, path="acme"
    )
    services.database.save(catalog.save_brand, acme, now)
    deals = replace(services.catalog.get().topics["product-news"], slug="deals", brand="acme")
    services.database.save(catalog.add_topic, deals, now)
    settings = services.connectors["shop"]
    mixed = settings.model_copy(update={"topics": {**settings.topics, "deals": "list-99"}})
    with pytest.raises(Misconfigured, match="deals is a topic of brand acme"):
        require_own_topics(mixed, services.catalog.get("deals").topics)
    body = event()
    assert report(sqlite_app, body).status_code == 200, "its own are taken"
    cast(dict[str, Any], services.connectors)["shop"] = mixed
    sqlite_app.extensions[MADE].clear()
    with capture_logs() as logged:
        assert report(sqlite_app, event(list_ref="list-99")).status_code == 503
    assert "deals" in str(logged)
    assert count_entries(sqlite_app) == 1


@pytest.mark.parametrize("path", ["/webhooks/deaf", "/webhooks/nobody", "/webhooks/SHOP", "/webhooks/shop/more"])
def test_without_a_secret_there_is_no_webhook(sqlite_app: Flask, path: str) -> None:
    body = event()
    assert sqlite_app.test_client().get(path).status_code == 404
    assert send(sqlite_app, body, signed(body), path).status_code == 404
    assert count_entries(sqlite_app) == 0


def test_somebody_answers_where_a_provider_looks_first(sqlite_app: Flask) -> None:
    answer = sqlite_app.test_client().get(PATH)
    assert (answer.status_code, answer.text) == (200, "ready\n")


def test_nothing_is_acknowledged_without_the_database(sqlite_app: Flask) -> None:
    body, busy = event(), counter("busy")
    headers = signed(body, message_id="msg_patience")
    assert send(sqlite_app, b"", {}).status_code == 401
    with database_away(sqlite_app):
        answer = send(sqlite_app, body, headers)
        assert (answer.status_code, answer.text) == (503, "try again\n")
        assert send(sqlite_app, body, signed(body, STRANGERS)).status_code == 401, "a stranger is one all the same"
    assert counter("busy") == busy + 1
    assert count_entries(sqlite_app) == 0

    assert send(sqlite_app, body, headers).status_code == 200
    assert reason(sqlite_app) == "unsubscribed"


def test_more_than_eight_megabytes_are_refused(sqlite_app: Flask) -> None:
    body = event(padding="x" * (8 * 1024 * 1024))
    assert send(sqlite_app, body, signed(body)).status_code == 401, "in the provider's own word for no"
    assert count_entries(sqlite_app) == 0


@pytest.mark.parametrize("padding", [10, 8 * 1024 * 1024])
def test_a_body_without_a_length_is_read_to_its_end_or_refused(sqlite_app: Flask, padding: int) -> None:
    body = event(padding="x" * padding)
    answer = sqlite_app.test_client().post(
        PATH,
        input_stream=io.BytesIO(body),
        headers=signed(body),
        environ_overrides={"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"},
    )
    assert (answer.status_code, count_entries(sqlite_app)) == ((200, 1) if padding == 10 else (401, 0))


@pytest.mark.parametrize(("length", "code"), [("-1", 401), ("many", 401), ("9" * 20, 401), ("", 401)])
def test_a_length_that_is_none_is_refused(sqlite_app: Flask, length: str, code: int) -> None:
    body = event()
    answer = sqlite_app.test_client().post(
        PATH, input_stream=io.BytesIO(body), headers=signed(body), environ_overrides={"CONTENT_LENGTH": length}
    )
    assert (answer.status_code, count_entries(sqlite_app)) == (code, 0)


# Anything at all.


HEADER = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=80)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["unsubscribe", "complaint", "bounce.hard", "invalid", "opened"]) | ANYTHING,
        "timestamp": st.datetimes().map(str) | ANYTHING,
        "data": st.fixed_dictionaries(
            {},
            optional={
                "channel": st.sampled_from(["email", "sms", "post", "fax"]) | ANYTHING,
                "address": st.sampled_from(["a@example.com", "+12025550123"]) | ANYTHING,
                "list": st.sampled_from(["list-17", "global", "list-99"]) | ANYTHING,
            },
        )
        | ANYTHING,
    },
)
many = settings(max_examples=scaled(250), suppress_health_check=[HealthCheck.function_scoped_fixture])


@many
@given(body=st.binary(max_size=200), id_=HEADER, at=HEADER, signature=HEADER)
def test_no_bytes_without_a_secret_get_more_than_a_refusal(
    lasting: Flask, body: bytes, id_: str, at: str, signature: str
) -> None:
    before = count_entries(lasting)
    now = str(int(datetime.now(UTC).timestamp()))
    for timestamp in (at, now):
        for sign in (signature, f"v1,{signature}"):
            headers = {"webhook-id": id_, "webhook-timestamp": timestamp, "webhook-signature": sign}
            assert send(lasting, body, headers).status_code == 401
    assert count_entries(lasting) == before


@many
@given(message=NEARLY)
def test_no_signed_message_gets_anything_but_a_record_or_a_refusal(lasting: Flask, message: dict[str, Any]) -> None:
    body = json.dumps(message).encode()
    before = count_entries(lasting)

    answer = send(lasting, body, signed(body))

    assert answer.status_code in {200, 503}
    if answer.status_code == 503:
        assert count_entries(lasting) == before


def test_after_all_that_the_ledger_still_verifies(lasting: Flask) -> None:
    assert services_of(lasting).database.snapshot(verify, lambda _: None).problems == []


# Through the server that is used in production.

FORM_CONFIG = """
[connectors.chimp]
kind = "mailchimp"
base_url = "https://us1.api.mailchimp.com"
webhook_secrets = ["a-long-secret-for-mailchimp"]
[connectors.chimp.topics]
"product-news" = "list:a6b5da1054"
"""
HALF = b"type=unsubscribe&data%5Baction%5D=unsub&data%5Blist_id%5D=a6b5da1054&data%5Bemail%5D=jane.doe%40example.co"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s" % (len(HALF), HALF)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installation, Flask]]:
    """A running granian, and an application on the same database to look in from the side."""
    folder = tmp_path_factory.mktemp("real")
    with Installation(folder, new_sqlite(folder), connectors=FORM_CONFIG) as installation:
        installation.web.start()
        app = new_app(installation.settings.database_url)
        yield installation, app
        close(app)


@pytest.mark.parametrize(
    "rest", [b"Content-Length: %d\r\n\r\n%s" % (len(HALF) + 1, HALF), CHUNKED, CHUNKED + b"\r\n5\r\nm"]
)
def test_half_a_form_is_never_taken_for_a_whole_one(real: tuple[Installation, Flask], rest: bytes) -> None:
    installation, app = real
    before = count_entries(app)
    with socket.create_connection(("127.0.0.1", installation.port), timeout=20) as connection:
        head = b"POST /webhooks/chimp?secret=a-long-secret-for-mailchimp HTTP/1.1\r\nHost: localhost\r\n"
        connection.sendall(head + b"Content-Type: application/x-www-form-urlencoded\r\n" + rest)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(1_000)
    assert b" 200 " not in answer.partition(b"\r\n")[0]
    assert count_entries(app) == before


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_whole_form_is_taken(real: tuple[Installation, Flask], slash: str) -> None:
    installation, app = real
    before = count_entries(app)
    connection = installation.connect()
    path = f"/webhooks/chimp{slash}?secret=a-long-secret-for-mailchimp"
    connection.request(
        "POST", path, HALF + b"m&fired_at=" + slash.encode(), {"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert connection.getresponse().status == 200
    connection.close()
    assert count_entries(app) == before + 1
