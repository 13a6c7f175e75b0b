"""Whatever is sent, there is a clear answer, a way out, and nothing written that nobody meant."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from preferences.current import services_of
from preferences.domain.vocabulary import Channel
from preferences.services import Services
from preferences.tokens import Links, ManageLink, UndoToken, UnsubscribeLink
from tests.processes import Installation, contents
from tests.servers import PostgresServer
from tests.support import (
    add_contact,
    api_headers,
    close,
    link_for,
    new_app,
    new_postgresql,
    new_sqlite,
)

NOW = datetime.now(UTC)
CONNECTOR = """
[connectors.shop]
kind = "webhook"
base_url = "https://shop.example.test"
webhook_secrets = ["whsec_c2VjcmV0LW9mLXRoZS10ZXN0cw=="]
"""


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    """The application on SQLite, with a connector: what is refused here never gets as far as the engine."""
    config_file = tmp_path / "config.toml"
    config_file.write_text(CONNECTOR)
    app = new_app(new_sqlite(tmp_path), config_file=config_file)
    yield app
    close(app)


@pytest.fixture
def before(app: Flask, headers: dict[str, str], tokens: dict[str, str]) -> dict[str, list[str]]:
    """Every row there is, once the contact and the API key are made."""
    return rows(app)


@pytest.fixture
def headers(services: Services) -> dict[str, str]:
    """The headers of a call with a good key."""
    return api_headers(services)


@pytest.fixture
def tokens(services: Services) -> dict[str, str]:
    """A good token of each kind, all of the same contact."""
    contact_id = add_contact(services)
    return {
        "unsubscribe": link_for(services, contact_id).removeprefix("/u/"),
        "manage": services.links.sign_manage(ManageLink(contact_id, Channel.EMAIL, "default", NOW)),
        "undo": services.links.sign_undo(UndoToken(contact_id, 1, NOW)),
    }


def rows(app: Flask) -> dict[str, list[str]]:
    return contents(services_of(app).settings.database_url)


def offers_a_way_out(page: TestResponse) -> bool:
    """An address box that works as it stands, or a link to it, and somebody to write to."""
    has_box = 'action="/optout"' in page.text and 'name="address"' in page.text
    return (has_box or 'href="/optout"' in page.text) and "mailto:hello@maple-and-finch.example" in page.text


# Links that are not ours.


def forgeries(good: str) -> dict[str, str]:
    """What a good token becomes in the hands of a bad line, a bad copy, or a bad person."""
    payload, signature = good.split(".")
    return {
        "never existed": "never-existed",
        "cut off": good[:-3],
        "cut in half": good[: len(good) // 2],
        "without its signature": payload,
        "with nothing behind the point": f"{payload}.",
        "its signature alone": f".{signature}",
        "one character more": f"{good}A",
        "another payload": f"{'A' * len(payload)}.{signature}",
        "another signature": f"{payload}.{'A' * len(signature)}",
        "in capitals": good.upper(),
        "with a dash too much": good.replace(".", "-."),
        "twice": f"{good}{good}",
    }


def signed_with_another_key() -> str:
    other = Links([b"a-key-that-nobody-has-ever-had"])
    return other.sign_unsubscribe(UnsubscribeLink(UUID(int=1), Channel.EMAIL, "default", "product-news"))


def test_every_forged_link_gets_the_same_bytes(
    app: Flask, tokens: dict[str, str], before: dict[str, list[str]]
) -> None:
    client = app.test_client()
    bad = [*forgeries(tokens["unsubscribe"]).values(), signed_with_another_key(), tokens["manage"], tokens["undo"]]

    answers = [call(f"/u/{token}") for token in bad for call in (client.get, client.post)]

    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.data for answer in answers}) == 1
    assert len({tuple(sorted(answer.headers)) for answer in answers}) == 1
    assert offers_a_way_out(answers[0])
    assert rows(app) == before


def test_every_forged_manage_link_gets_the_same_bytes(
    app: Flask, tokens: dict[str, str], before: dict[str, list[str]]
) -> None:
    client = app.test_client()
    bad = [*forgeries(tokens["manage"]).values(), signed_with_another_key(), tokens["unsubscribe"], tokens["undo"]]

    answers = [client.get(f"/p/{token}") for token in bad]
    answers += [client.post(f"/p/{token}", data={"intent": "all"}) for token in bad]

    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.data for answer in answers}) == 1
    assert offers_a_way_out(answers[0])
    assert rows(app) == before


def test_no_single_character_of_a_link_can_be_changed(app: Flask, tokens: dict[str, str]) -> None:
    client, good = app.test_client(), tokens["unsubscribe"]
    changed = [good[:place] + ("B" if letter == "A" else "A") + good[place + 1 :] for place, letter in enumerate(good)]
    assert {client.get(f"/u/{token}").status_code for token in changed} == {404}


@pytest.mark.parametrize("kind", ["unsubscribe", "manage"])
def test_no_other_token_serves_as_an_undo(
    app: Flask, tokens: dict[str, str], kind: str, before: dict[str, list[str]]
) -> None:
    answer = app.test_client().post(f"/u/{tokens['unsubscribe']}/undo", data={"undo": tokens[kind]})
    assert answer.status_code == 404
    assert rows(app) == before


def test_an_undo_token_is_no_link(app: Flask, tokens: dict[str, str], before: dict[str, list[str]]) -> None:
    client = app.test_client()
    for path in ("/u/{}", "/p/{}", "/u/{}/undo", "/u/{}/reason"):
        assert client.post(path.format(tokens["undo"]), data={"undo": tokens["undo"]}).status_code == 404
    assert rows(app) == before


def test_an_old_manage_link_says_that_it_no_longer_works(
    app: Flask, services: Services, tokens: dict[str, str]
) -> None:
    contact_id = add_contact(services)
    old = services.links.sign_manage(ManageLink(contact_id, Channel.EMAIL, "default", NOW - timedelta(days=31)))
    before = rows(app)

    for page in (app.test_client().get(f"/p/{old}"), app.test_client().post(f"/p/{old}", data={"intent": "all"})):
        assert page.status_code == 410
        assert "This link no longer works" in page.text
        assert offers_a_way_out(page)

    assert rows(app) == before


# Paths.


JUNK = (
    "%00",
    "%FF%FE%FA",
    "%C3%28",
    "%ED%A0%80",
    "%",
    "%%%",
    "%zz",
    "..%2F..%2Fetc%2Fpasswd",
    "....//....//etc/passwd",
    "%E2%80%AE%E2%80%8F",
    "%F0%9F%92%8C",
    "'%20OR%201=1--",
    "%3Cscript%3Ealert(1)%3C/script%3E",
    "{{7*7}}",
    "a" * 5_000,
    "." * 300,
    "a.b.c.d",
    "%0d%0aSet-Cookie:%20a=b",
)


@pytest.mark.parametrize("place", ["/u/", "/p/", "/", "/api/v1/", "/webhooks/", "/static/", "/optout/"])
def test_a_path_of_junk_is_not_found(app: Flask, place: str, before: dict[str, list[str]]) -> None:
    client = app.test_client()
    for junk in JUNK:
        for answer in (client.get(place + junk), client.post(place + junk, data=b"x")):
            assert answer.status_code in {404, 405}, (junk, answer.status)
            assert "Set-Cookie" not in answer.headers, junk
            assert "alert(1)" not in answer.text, junk
    assert rows(app) == before


def raw(installation: Installation, request: bytes) -> bytes:
    """What a real server answers to exactly these bytes."""
    with socket.create_connection(("127.0.0.1", installation.port), timeout=10) as line:
        line.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer and (more := line.recv(65_536)):
            answer += more
    return answer


def test_a_real_server_is_not_upset_by_any_bytes(tmp_path: Path) -> None:
    with Installation(tmp_path, new_sqlite(tmp_path)) as installation:
        installation.web.start()
        before = contents(installation.settings.database_url)
        for junk in ["\xff\xfe", "\x00", "é", " ", *JUNK]:
            for method in ("GET", "POST", "BREW"):
                line = f"{method} /u/{junk} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
                status = raw(installation, line.encode("latin-1")).split(b" ")[1]
                assert status in {b"400", b"404", b"405"}, (method, junk, status)
        for header in ("Content-Length: -1", "Content-Length: x", "Host: \xff", "Cookie: \xff", "X" * 70_000 + ": y"):
            answer = raw(installation, f"GET /u/x HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode("latin-1"))
            assert answer.split(b" ")[1] in {b"400", b"404", b"431"}, (header[:20], answer)
        assert installation.is_ready()
        assert contents(installation.settings.database_url) == before
        assert "Traceback" not in installation.web.output()


def test_no_spelling_of_a_link_is_redirected(app: Flask, tokens: dict[str, str]) -> None:
    client = app.test_client()
    for path in ("//u/{}", "/u//{}", "/./u/{}", "/U/{}", "/u/{}//", "/u/{}/undo//", "///u///{}"):
        answer = client.post("/", environ_overrides={"PATH_INFO": path.format(tokens["unsubscribe"])})
        assert answer.status_code in {200, 404}, path
        assert "Location" not in answer.headers, path


# Bodies.


def path_of(rule: str, tokens: dict[str, str]) -> str:
    """A path that the rule matches: with a good token where a link to stop or to manage mail takes one."""
    token = {"u": tokens["unsubscribe"], "p": tokens["manage"]}.get(rule.split("/")[1], "never-existed")
    filled = {"<token>": token, "<name>": "shop", "<path:filename>": "style.css"}
    for placeholder, value in filled.items():
        rule = rule.replace(placeholder, value)
    rule = re.sub("<uuid:[a-z_]+>", str(UUID(int=1)), rule)
    return re.sub("<[a-z]+>", "nothing", rule)


def posts(app: Flask, tokens: dict[str, str]) -> list[str]:
    """Every path that takes a POST."""
    return [path_of(rule.rule, tokens) for rule in app.url_map.iter_rules() if rule.methods and "POST" in rule.methods]


BODIES = {
    "urlencoded": ("application/x-www-form-urlencoded", b"a=" + b"x" * 1_000_000),
    "many fields": ("application/x-www-form-urlencoded", b"a=1&" * 250_000),
    "multipart": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="undo"\r\n\r\n' + b"x" * 1_000_000 + b"\r\n--b--\r\n",
    ),
    "a file": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="address"; filename="f"\r\n\r\n'
        + b"x" * 1_000_000
        + b"\r\n--b--\r\n",
    ),
    "many parts": (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 15_000 + b"--b--\r\n",
    ),
    "never ends": ("multipart/form-data; boundary=b", b"--b\r\n" + b"x" * 1_000_000),
    "JSON": ("application/json", b"[" * 1_000_000),
    "text": ("text/plain", b"\xff" * 1_000_000),
}


def test_the_list_of_posts_is_not_empty(app: Flask, tokens: dict[str, str]) -> None:
    assert len(posts(app, tokens)) >= 8


@pytest.mark.parametrize(("content_type", "body"), BODIES.values(), ids=BODIES)
def test_a_megabyte_of_noise_is_answered_everywhere_and_written_nowhere(
    app: Flask, headers: dict[str, str], tokens: dict[str, str], content_type: str, body: bytes
) -> None:
    client = app.test_client()
    # Any post to these acts: that is their promise, and tested with them.
    acting = {f"/u/{tokens['unsubscribe']}", f"/p/{tokens['manage']}/revoke"}
    before = rows(app)
    for path in posts(app, tokens):
        if path.removesuffix("/") in acting:
            continue
        answer = client.post(path, data=body, content_type=content_type, headers=headers)
        assert answer.status_code < 500, (path, answer.status)
        if path.startswith(("/api/", "/webhooks/")):
            assert 400 <= answer.status_code < 500, (path, answer.status)
    assert rows(app) == before


def test_a_body_without_end_is_refused_before_it_fills_the_disk(app: Flask, tokens: dict[str, str]) -> None:
    client = app.test_client()
    head = b'--b\r\nContent-Disposition: form-data; name="address"; filename="f"\r\n\r\n'
    body = head + b"x" * 9_000_000
    for path in ("/optout", f"/u/{tokens['unsubscribe']}/undo", f"/p/{tokens['manage']}"):
        answer = client.post(path, data=body, content_type="multipart/form-data; boundary=b")
        assert answer.status_code == 413, path
        assert offers_a_way_out(answer)


# Methods.


def test_a_wrong_method_is_refused_everywhere_and_told_the_right_ones(
    app: Flask, tokens: dict[str, str], before: dict[str, list[str]]
) -> None:
    client, tried = app.test_client(), 0
    offered: dict[str, set[str]] = {}
    for rule in app.url_map.iter_rules():
        offered.setdefault(path_of(rule.rule, tokens), set()).update(rule.methods or ())
    for path, methods in offered.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "NONSENSE"} - methods:
            answer = client.open(path, method=method)
            tried += 1
            assert answer.status_code == 405, (method, path)
            assert set(answer.headers["Allow"].split(", ")) == methods, (method, path)
            if not path.startswith("/api/"):
                assert offers_a_way_out(answer), (method, path)
    assert tried > 50
    assert rows(app) == before


# The API.


DECISIONS, LINKS = "/api/v1/decisions", "/api/v1/links"
GOOD = {
    DECISIONS: {"channel": "email", "class": "marketing", "topic": "product-news", "addresses": ["jane@example.com"]},
    LINKS: {"channel": "email", "topic": "product-news", "addresses": ["new@example.com"]},
}
SECRET = "very-private-value"  # what must not come back


def is_problem(answer: TestResponse, status: int) -> bool:
    """An RFC 9457 document of this status that repeats nothing of what was sent."""
    assert answer.json is not None
    return (
        answer.status_code == answer.json["status"] == status
        and answer.mimetype == "application/problem+json"
        and answer.json["type"] == "about:blank"
        and bool(answer.json["title"])
        and SECRET not in answer.text
        and answer.headers["Cache-Control"] == "no-store"
    )


NOT_JSON = {
    "half of it": b'{"channel": "email"',
    "a list": b'["%s"]' % SECRET.encode(),
    "null": b"null",
    "a word": b'"%s"' % SECRET.encode(),
    "a form": b"channel=email&topic=%s" % SECRET.encode(),
    "bytes that are no text": b"\xff\xfe" + SECRET.encode(),
    "UTF-16": '{"channel": "email"}'.encode("utf-16"),
    "a NUL": b'{"channel": "email\x00"}',
    "too deep": b"[" * 100_000,
    "a number without end": b'{"channel": ' + b"9" * 100_000 + b"}",
    "half a character": b'{"channel": "\\ud800", "addresses": ["\\udfff"]}',
    "not a number": b'{"channel": NaN}',
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_a_body_that_is_not_the_json_we_read_is_refused(
    app: Flask, headers: dict[str, str], before: dict[str, list[str]], body: bytes
) -> None:
    for path in (DECISIONS, LINKS):
        answer = app.test_client().post(path, data=body, content_type="application/json", headers=headers)
        assert is_problem(answer, 422)
    assert rows(app) == before


WRONG = {
    "no channel": ("channel", None),
    "an unknown channel": ("channel", SECRET),
    "a channel in capitals": ("channel", "EMAIL"),
    "a channel that is a list": ("channel", ["email"]),
    "a topic that is a number": ("topic", 7),
    "a topic that is an object": ("topic", {SECRET: SECRET}),
    "an empty topic": ("topic", ""),
    "a long topic": ("topic", "t" * 65),
    "no addresses": ("addresses", None),
    "one address that is no list": ("addresses", "jane@example.com"),
    "addresses by name": ("addresses", {"a": "jane@example.com"}),
    "an address that is a number": ("addresses", [7]),
    "an address that is nothing": ("addresses", [None]),
    "an address that is a list": ("addresses", [["jane@example.com"]]),
    "an address that is too long": ("addresses", ["a" * 1_001]),
    "a field that nobody knows": (SECRET, True),
}


@pytest.mark.parametrize("path", [DECISIONS, LINKS])
@pytest.mark.parametrize(("field", "value"), WRONG.values(), ids=WRONG)
def test_a_wrong_field_is_named_and_its_value_is_not(
    app: Flask, headers: dict[str, str], before: dict[str, list[str]], path: str, field: str, value: object
) -> None:
    body = GOOD[path] | {field: value}
    if value is None:
        del body[field]

    answer = app.test_client().post(path, json=body, headers=headers)

    if field == SECRET:
        assert answer.status_code == 422
        (error,) = answer.get_json()["errors"]
        assert "xtra" in error["detail"], "an unknown field's name is the caller's own and may be repeated"
    else:
        assert is_problem(answer, 422)
        named = {error["field"] for error in answer.get_json()["errors"]}
        assert named <= {field, f"{field}[0]"}
        assert named
    assert rows(app) == before


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"topic": "no-such-topic"}, "topic"),
        ({"topic": "offers", "channel": "sms"}, "channel"),
        ({"addresses": ["fine@example.com", f"{SECRET} at example"]}, "addresses[1]"),
        ({"addresses": ["fine@example.com", "nul\x00@example.com"]}, "addresses[1]"),
        ({"addresses": ["fine@example.com", ""]}, "addresses[1]"),
        ({"message_ref": f"{SECRET}@example.com"}, "message_ref"),
        ({"message_ref": "r" * 65}, "message_ref"),
        ({"message_ref": "line\n"}, "message_ref"),
    ],
)
def test_links_are_made_for_all_or_for_nobody(
    app: Flask, headers: dict[str, str], before: dict[str, list[str]], change: dict[str, Any], field: str
) -> None:
    answer = app.test_client().post(LINKS, json=GOOD[LINKS] | change, headers=headers)
    assert is_problem(answer, 422)
    assert [error["field"] for error in answer.get_json()["errors"]] == [field]
    assert rows(app) == before


def test_what_a_decision_does_not_know_is_an_opt_out_and_not_an_error(app: Flask, headers: dict[str, str]) -> None:
    client = app.test_client()
    for change, reason in (
        ({"topic": "no-such-topic"}, "unknown_topic"),
        ({"class": "newsletter"}, "unknown_class"),
        ({"channel": "sms", "topic": "receipts", "addresses": ["+12025550123"]}, "wrong_channel"),
        ({"addresses": ["not an address"]}, "bad_address"),
        ({"addresses": ["nul\x00@example.com"]}, "bad_address"),
        ({"topic": "nul\x00"}, "unknown_topic"),
    ):
        answer = client.post(DECISIONS, json=GOOD[DECISIONS] | change, headers=headers)
        assert answer.status_code == 200, change
        assert [(one["allowed"], one["reason"]) for one in answer.get_json()["decisions"]] == [(False, reason)]


KEYS = {
    "no key": {},
    "an empty one": {"Authorization": ""},
    "a scheme alone": {"Authorization": "Bearer"},
    "a scheme and space": {"Authorization": "Bearer    "},
    "another scheme": {"Authorization": f"Basic {SECRET}"},
    "a key that was never made": {"Authorization": f"Bearer pref_{SECRET}"},
    "a key of noise": {"Authorization": "Bearer \xff\xfe\x80"},
    "a very long key": {"Authorization": "Bearer " + "k" * 50_000},
    "a key in the wrong place": {"X-API-Key": SECRET},
}


@pytest.mark.parametrize("given", KEYS.values(), ids=KEYS)
def test_nobody_comes_in_without_a_valid_key(app: Flask, before: dict[str, list[str]], given: dict[str, str]) -> None:
    for path in (DECISIONS, LINKS):
        answer = app.test_client().post(path, json=GOOD[path], headers=given)
        assert is_problem(answer, 401)
        assert answer.headers["WWW-Authenticate"].lower().startswith("bearer")
    assert rows(app) == before


def test_a_withdrawn_key_opens_nothing(app: Flask, services: Services, headers: dict[str, str]) -> None:
    with services.database.engine.begin() as connection:
        connection.execute(text("UPDATE api_key SET revoked_at = created_at"))
    assert is_problem(app.test_client().post(DECISIONS, json=GOOD[DECISIONS], headers=headers), 401)


def test_a_good_key_is_read_however_its_scheme_is_written(app: Flask, headers: dict[str, str]) -> None:
    lower = {"Authorization": headers["Authorization"].replace("Bearer ", "bearer   ")}
    assert app.test_client().post(DECISIONS, json=GOOD[DECISIONS], headers=lower).status_code == 200


def test_a_body_without_a_length_is_refused(app: Flask, headers: dict[str, str], before: dict[str, list[str]]) -> None:
    client = app.test_client()
    for path in (DECISIONS, LINKS):
        answer = client.post(path, json=GOOD[path], headers=headers | {"Transfer-Encoding": "chunked"})
        assert is_problem(answer, 411), path
    assert rows(app) == before


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml"])
def test_what_says_it_is_not_json_is_not_read(
    app: Flask, headers: dict[str, str], before: dict[str, list[str]], content_type: str
) -> None:
    for path in (DECISIONS, LINKS):
        answer = app.test_client().post(path, json=GOOD[path], content_type=content_type, headers=headers)
        assert is_problem(answer, 415)
    assert rows(app) == before


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON", ""]
)
def test_json_by_any_of_its_names_is_read(app: Flask, headers: dict[str, str], content_type: str) -> None:
    answer = app.test_client().post(DECISIONS, json=GOOD[DECISIONS], content_type=content_type, headers=headers)
    assert answer.status_code == 200


def test_more_than_four_megabytes_are_refused(
    app: Flask, headers: dict[str, str], before: dict[str, list[str]]
) -> None:
    body = b'{"addresses": ["' + b"x" * (4 * 1024 * 1024) + b'"]}'
    for path in (DECISIONS, LINKS):
        answer = app.test_client().post(path, data=body, content_type="application/json", headers=headers)
        assert is_problem(answer, 413)
    assert rows(app) == before


def test_what_is_not_there_says_so_to_programs_in_their_language(app: Flask) -> None:
    assert is_problem(app.test_client().get("/api/v1/nothing"), 404)
    wrong = app.test_client().get(DECISIONS)
    assert is_problem(wrong, 405)
    assert set(wrong.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}


# The address box.


@pytest.mark.parametrize(
    "typed", ["", " ", "jane", "jane@", "@example.com", "a b@example.com", "a" * 400, "nul\x00@example.com"]
)
def test_what_is_not_an_address_is_asked_for_again(app: Flask, before: dict[str, list[str]], typed: str) -> None:
    page = app.test_client().post("/optout", data={"address": typed})
    assert page.status_code == 400
    assert "Enter an email address, like name@example.com" in page.text
    assert "mailto:" in page.text
    assert rows(app) == before


# The database is away.


@pytest.fixture(scope="module")
def own_server(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A PostgreSQL that these tests may stop."""
    with PostgresServer(postgres.binaries) as server:
        yield server


@pytest.fixture
def server(own_server: PostgresServer) -> Iterator[PostgresServer]:
    """The same, running again after the test."""
    own_server.start()
    yield own_server
    own_server.start()


@pytest.fixture
def mortal(server: PostgresServer, tmp_path: Path) -> Iterator[Flask]:
    """An application whose database can be stopped."""
    config_file = tmp_path / "config.toml"
    config_file.write_text(CONNECTOR)
    app = new_app(new_postgresql(server), config_file=config_file)
    yield app
    close(app)


def test_without_the_database_a_person_is_told_that_nothing_was_saved(mortal: Flask, server: PostgresServer) -> None:
    client, services = mortal.test_client(), services_of(mortal)
    path = link_for(services, add_contact(services))
    manage = services.links.sign_manage(ManageLink(add_contact(services), Channel.EMAIL, "default", NOW))
    assert client.get(path).status_code == 200
    before = contents(services.settings.database_url)

    server.stop("immediate")
    form = {"intent": "all"}
    pages = [
        client.get(path),
        client.post(path, data=form, headers={"Accept": "text/html"}),
        client.post(f"{path}/reason", data={"reason": "other"}),
        client.get(f"/p/{manage}"),
        client.post(f"/p/{manage}", data=form),
        client.post("/optout", data={"address": "somebody@example.com"}),
    ]

    for page in pages:
        assert page.status_code == 503
        assert page.headers["Retry-After"] == "30"
        assert "Your choice was not saved." in page.text
        assert offers_a_way_out(page)
    server.start()
    assert contents(services.settings.database_url) == before


def test_without_the_database_a_page_helps_even_if_it_never_saw_one(mortal: Flask, server: PostgresServer) -> None:
    server.stop("immediate")
    page = mortal.test_client().get("/u/anything")
    assert page.status_code == 404
    assert 'action="/optout"' in page.text
    page = mortal.test_client().get("/optout")
    assert page.status_code == 503
    assert 'href="/optout"' in page.text


def test_one_click_is_not_acknowledged_without_the_database(mortal: Flask, server: PostgresServer) -> None:
    client, services = mortal.test_client(), services_of(mortal)
    path = link_for(services, add_contact(services))
    assert client.get(path).status_code == 200

    server.stop("immediate")
    answer = client.post(path, data={"List-Unsubscribe": "One-Click"})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "30"
    assert "are unsubscribed" not in answer.text

    server.start()
    assert contents(services.settings.database_url)["ledger_entry"] == []
    assert client.post(path, data={"List-Unsubscribe": "One-Click"}).status_code == 200, "and nothing was restarted"
    assert len(contents(services.settings.database_url)["ledger_entry"]) == 1


def asked(client: FlaskClient, headers: dict[str, str], message_class: str, topic: str | None) -> dict[str, Any]:
    question = {"channel": "email", "class": message_class, "topic": topic, "addresses": ["jane@example.com"]}
    answer = client.post(DECISIONS, json=question, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    assert answer.json["seq"] is None
    return answer.json["decisions"][0]


@pytest.mark.parametrize("known", [True, False], ids=["after the catalog was read", "before it ever was"])
def test_without_the_database_marketing_waits_and_receipts_go_out(
    mortal: Flask, server: PostgresServer, known: bool
) -> None:
    client, headers = mortal.test_client(), api_headers(services_of(mortal))
    if known:
        client.post(DECISIONS, json=GOOD[DECISIONS], headers=headers)

    server.stop("immediate")

    marketing = asked(client, headers, "marketing", "product-news")
    assert (marketing["allowed"], marketing["reason"], marketing["degraded"]) == (False, "unavailable", True)
    for message_class, topic in (("transactional", "receipts"), ("notice", None), ("transactional", None)):
        answer = asked(client, headers, message_class, topic)
        assert (answer["allowed"], answer["reason"], answer["degraded"]) == (True, "unavailable", True)
    assert asked(client, headers, "newsletter", "product-news")["allowed"] is False
    if known:
        assert asked(client, headers, "transactional", "product-news")["allowed"] is False, "marketing in disguise"


def test_an_unchecked_key_gets_no_links_without_the_database(mortal: Flask, server: PostgresServer) -> None:
    client, unknown = mortal.test_client(), {"Authorization": "Bearer pref_never-made"}
    server.stop("immediate")

    assert asked(client, unknown, "transactional", "receipts")["allowed"] is True
    assert asked(client, unknown, "marketing", "product-news")["allowed"] is False
    links = client.post(LINKS, json=GOOD[LINKS], headers=unknown)
    assert is_problem(links, 503)
    assert links.headers["Retry-After"] == "30"
    assert is_problem(client.post(DECISIONS, json=GOOD[DECISIONS]), 401), "no key at all is still none"


# An error that nobody foresaw.


def test_an_unforeseen_error_gives_a_helpful_page_and_a_clean_log(app: Flask, services: Services) -> None:
    client, path = app.test_client(), link_for(services, add_contact(services))
    token = path.removeprefix("/u/")
    assert client.get(path).status_code == 200
    with services.database.engine.begin() as connection:
        connection.execute(text("DROP TABLE preference"))

    with capture_logs() as logged:
        pages = [
            client.get(path),
            client.post(path, data={"intent": "all"}, headers={"Accept": "text/html"}),
            client.post("/optout", data={"address": "somebody@example.com"}),
        ]

    for page in pages:
        assert page.status_code == 500
        assert "Your choice may not have been saved." in page.text
        assert offers_a_way_out(page)
        assert "preference." not in page.text
        assert "Error" not in page.text
    assert len(logged) == 3
    for line in logged:
        assert set(line) == {"event", "log_level", "kind", "status", "place"}
        assert line["kind"] == "StoreFault"
        assert re.fullmatch(r"preferences\.[\w.]+:\d+", line["place"])
        assert "@" not in str(line)
        assert token not in str(line)


def test_an_unforeseen_error_is_a_problem_document_for_programs(
    app: Flask, services: Services, headers: dict[str, str]
) -> None:
    with services.database.engine.begin() as connection:
        connection.execute(text("DROP TABLE suppression"))
    with capture_logs() as logged:
        answer = app.test_client().post(DECISIONS, json=GOOD[DECISIONS], headers=headers)
    assert is_problem(answer, 500)
    assert "jane" not in answer.text + str(logged)


def test_a_query_string_is_neither_shown_nor_logged(app: Flask) -> None:
    with capture_logs() as logged:
        page = app.test_client().get("/u/forged?mail=jane@example.com")
    assert page.status_code == 404
    assert "jane" not in page.text
    assert logged == []
