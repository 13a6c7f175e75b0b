"""`/api/v1/scrubs`: a file in, the same rows with answers out."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from preferences.domain.vocabulary import Verb
from preferences.sending.scrub.annotate import MOST_ROWS
from preferences.services import Services
from preferences.web.api.scrubs import MOST_BYTES
from tests.sending.lists import act, tell
from tests.support import api_headers, email


@pytest.fixture
def headers(services: Services) -> dict[str, str]:
    return api_headers(services) | {"Content-Type": "text/csv"}


def post(client: FlaskClient, headers: dict[str, str], body: bytes, **query: str) -> TestResponse:
    asked: dict[str, Any] = {"topic": "product-news", "channel": "email"} | query
    return client.post("/api/v1/scrubs", data=body, headers=headers, query_string=asked)


def test_rows_come_back_as_they_were_with_the_answers_of_the_decisions(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    tell(services, act(email(), Verb.UNSUBSCRIBE, "*"))
    body = b'id;E-Mail\r\n1;jane.doe@example.com\r\n"a;\nb";JOHN@example.com\r\n3;nobody\r\n4\r\n\r\n5;a@example.com'
    for packed in (False, True):
        encoding = {"Content-Encoding": "gzip"} if packed else {}
        answer = post(client, headers | encoding, gzip.compress(body) if packed else body)
        assert (answer.status_code, answer.mimetype) == (200, "text/csv")
        assert answer.data == (
            b"id;E-Mail;allowed;reason\r\n"
            b"1;jane.doe@example.com;no;unsubscribed_all\r\n"
            b'"a;\nb";JOHN@example.com;yes;ok\r\n'
            b"3;nobody;no;bad_address\r\n"
            b"4;no;bad_address\r\n"
            b"5;a@example.com;yes;ok\n"
        )


def test_consent_class_column_and_purpose_are_heard(client: FlaskClient, headers: dict[str, str]) -> None:
    def reasons(**query: str) -> bytes:
        return post(client, headers, b"email,other\n,jane.doe@example.com\n", column="Other", **query).data

    assert reasons(topic="offers").endswith(b"no,no_consent\n")
    assert reasons(topic="offers", **{"class": "transactional"}).endswith(b"no,no_consent\n")
    assert reasons(topic="receipts").endswith(b"yes,ok\n")
    assert reasons(topic="@location").endswith(b"no,no_consent\n")


@pytest.mark.parametrize(
    ("query", "body", "field"),
    [
        ({"topic": "gone"}, b"email\n", "topic"),
        ({"topic": "offers", "channel": "sms"}, b"email\n", "channel"),
        ({"brand": "gone"}, b"email\n", "brand"),
        ({"class": "spam"}, b"email\n", "class"),
        ({"colour": "red"}, b"email\n", "colour"),
        ({}, b"name\njane.doe@example.com\n", "body"),
        ({}, b'email\n"jane.doe@example.com\n', "body"),
        ({}, b"\n", "body"),
    ],
)
def test_what_is_wrong_is_named_and_never_repeated(
    client: FlaskClient, headers: dict[str, str], query: dict[str, str], body: bytes, field: str
) -> None:
    answer = post(client, headers, body, **query)
    assert (answer.status_code, answer.mimetype) == (422, "application/problem+json")
    assert [error["field"] for error in answer.get_json()["errors"]] == [field]
    assert b"jane" not in answer.data


def test_a_body_of_any_kind_is_refused_before_it_takes_memory(client: FlaskClient, headers: dict[str, str]) -> None:
    packed = headers | {"Content-Encoding": "gzip"}
    assert post(client, headers, b"x" * (MOST_BYTES + 1)).status_code == 413
    assert post(client, packed, gzip.compress(b"email\n" * MOST_BYTES)).status_code == 413
    assert post(client, headers, b"email\n" + b"x\n" * (MOST_ROWS + 1)).status_code == 413
    assert post(client, packed, b"email\n").status_code == 422
    assert post(client, packed, gzip.compress(b"email\nx\n")[:-4]).status_code == 422
    assert post(client, headers | {"Content-Type": "application/json"}, b"[]").status_code == 415


def test_as_many_rows_as_may_be_are_answered(client: FlaskClient, headers: dict[str, str]) -> None:
    body = b"email\n" + b"".join(b"person-%d@example.com\n" % number for number in range(20_000))
    assert post(client, headers, body).data.count(b",yes,ok\n") == 20_000
