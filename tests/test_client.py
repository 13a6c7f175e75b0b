"""The client that sending systems copy: its list headers arrive as they are, its calls are answered or safely not."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import smtplib
import string
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.headerregistry import HeaderRegistry
from email.message import EmailMessage, Message
from email.mime.text import MIMEText
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import listunsub
import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.serving import make_server

import preferences.client
from preferences.client import (
    LIST_HEADERS,
    BadFields,
    BadHeader,
    Client,
    MessageClass,
    NotAllowed,
    Refused,
    TryLater,
    Unauthorized,
    put_list_headers,
    stable_ref,
)
from preferences.current import services_of
from preferences.domain.vocabulary import KeyScope
from preferences.store.api_keys import create_key
from tests.mail_sink import MailSink
from tests.servers import free_port

POLICIES = (
    policy.default,
    policy.SMTP,
    policy.SMTPUTF8,
    policy.HTTP,
    policy.strict,
    policy.compat32,
    policy.SMTP.clone(refold_source="all"),
    policy.SMTP.clone(max_line_length=40),
    policy.EmailPolicy(header_factory=HeaderRegistry(), refold_source="none"),
)


def headers_of(length: int) -> dict[str, str]:
    """List headers whose URL has so many characters."""
    start = "https://preferences.example.com/u/"
    return {
        "List-Unsubscribe": f"<{start}{'aB3-_.' * length}"[: length + 1] + ">",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "List-Id": f"<{'news.' * 30}list-id.preferences.example.com>",
    }


def a_message(of_policy: policy.Policy = policy.default) -> Message:
    message = EmailMessage(policy=of_policy)
    message["From"], message["To"], message["Subject"] = "shop@example.com", "jane@example.com", "News"
    message.set_payload("Hello\n")
    return message


def lines_of(raw: bytes, headers: dict[str, str]) -> list[bytes]:
    """The lines of the head that begin with one of these names, in their order there."""
    head = raw.replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    names = tuple(f"{name.lower()}:".encode() for name in headers)
    return [line for line in head.split(b"\n") if line.lower().startswith(names)]


def as_lines(headers: dict[str, str]) -> list[bytes]:
    return [f"{name}: {value}".encode("ascii") for name, value in headers.items()]


# Headers.


@pytest.mark.parametrize("of_policy", POLICIES, ids=range(len(POLICIES)))
@pytest.mark.parametrize("written_by", [None, *POLICIES], ids=range(len(POLICIES) + 1))
def test_list_headers_are_written_raw_on_one_line_by_every_policy(
    of_policy: policy.Policy, written_by: policy.Policy | None
) -> None:
    for length in (50, 76, 78, 200, 500, 900):
        headers, message = headers_of(length), a_message(of_policy)
        put_list_headers(message, headers)
        for one in (message, copy.deepcopy(message), pickle.loads(pickle.dumps(message))):
            assert lines_of(one.as_bytes(policy=written_by), headers) == as_lines(headers)


def test_messages_of_the_old_kind_carry_them_too() -> None:
    message, headers = MIMEText("Hello"), headers_of(900)
    put_list_headers(message, headers)
    assert lines_of(message.as_bytes(), headers) == as_lines(headers)
    assert lines_of(message.as_string().encode(), headers) == as_lines(headers)


def test_python_alone_breaks_such_a_header() -> None:
    """When this fails, Python has learned it, and the helper's reason is gone."""
    headers, message = headers_of(200), a_message()
    for name, value in headers.items():
        message[name] = value
    assert lines_of(message.as_bytes(), headers) != as_lines(headers)


URL_LETTERS = string.ascii_letters + string.digits + "-._~:/?#[]@!$&'()*+,;=%"


@given(st.text(URL_LETTERS, min_size=20, max_size=900), st.sampled_from(POLICIES), st.sampled_from(POLICIES))
def test_any_url_arrives_as_it_is(path: str, of_policy: policy.Policy, written_by: policy.Policy) -> None:
    headers = {"List-Unsubscribe": f"<https://preferences.example.com/{path}>, <mailto:out@example.com>"}
    message = a_message(of_policy)
    put_list_headers(message, headers)
    assert lines_of(message.as_bytes(policy=written_by), headers) == as_lines(headers)


@pytest.fixture(scope="module")
def sink() -> Iterator[MailSink]:
    with MailSink() as one:
        yield one


def test_headers_arrive_unchanged_and_another_program_reads_them(sink: MailSink) -> None:
    with smtplib.SMTP("127.0.0.1", sink.port) as server:
        for length in range(50, 901, 50):
            message, headers = a_message(), headers_of(length)
            put_list_headers(message, headers)
            server.send_message(message)
            raw = sink.messages[-1].raw
            assert lines_of(raw, headers) == as_lines(headers)
            read = message_from_bytes(raw, policy=policy.default)
            fields = [read.get_all(name) for name in LIST_HEADERS[:2]]
            assert listunsub.audit(*fields) == []
            assert listunsub.parse(read["List-Unsubscribe"]) == [headers["List-Unsubscribe"][1:-1]]


def test_there_is_one_of_each_whatever_was_there_before() -> None:
    message, headers = a_message(), headers_of(100)
    for name in (*LIST_HEADERS, "list-unsubscribe", "LIST-ID"):
        message[name] = "<https://old.example/u/x>"
    put_list_headers(message, headers)
    put_list_headers(message, headers)
    assert lines_of(message.as_bytes(), headers) == as_lines(headers)
    assert message["list-id"] == headers["List-Id"]
    assert str(message["List-Unsubscribe"]).startswith("<https://")


def test_a_transactional_message_is_left_without_any() -> None:
    message = a_message()
    put_list_headers(message, headers_of(100))
    put_list_headers(message, {})
    assert not set(LIST_HEADERS) & set(message.keys())


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("List-Unsubscribe", headers_of(980)["List-Unsubscribe"], "998"),
        ("List-Unsubscribe", "<https://x.example/é>", "ASCII"),
        ("List-Unsubscribe", "<https://x.example/u>\r\nBcc: all@x.example", "one line"),
        ("List-Unsubscribe", "<https://x.example/u>\n", "one line"),
        ("List-Id", "", "ASCII"),
        ("List-Id", "<a\tb>", "ASCII"),
        ("Bcc", "all@x.example", "List-"),
        ("List-Id\r\nBcc", "all@x.example", "List-"),
    ],
)
def test_what_a_message_cannot_carry_is_refused_and_the_message_left_alone(name: str, value: str, words: str) -> None:
    message, headers = a_message(), headers_of(100)
    put_list_headers(message, headers)
    with pytest.raises(BadHeader, match=words) as raised:
        put_list_headers(message, {"List-Unsubscribe-Post": "List-Unsubscribe=One-Click", name: value})
    assert "x.example" not in str(raised.value)
    assert lines_of(message.as_bytes(), headers) == as_lines(headers)


def test_the_longest_line_there_may_be_is_written() -> None:
    message = a_message(policy.SMTP)
    headers = {"List-Unsubscribe": headers_of(998 - len("List-Unsubscribe: <>"))["List-Unsubscribe"]}
    put_list_headers(message, headers)
    (line,) = lines_of(message.as_bytes(), headers)
    assert len(line) == 998


# Calls, to a real server.

KEYS = itertools.count()


@pytest.fixture
def center(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def shop(app: Flask, center: str) -> Iterator[Client]:
    key = services_of(app).database.save(create_key, f"shop-{next(KEYS)}", datetime.now(UTC), frozenset(KeyScope))
    with closing(Client(center, key)) as one:
        yield one


def test_the_client_makes_every_call(shop: Client) -> None:
    """In the order in which a new system makes them."""
    (made,) = shop.put_contacts([{"addresses": [{"address": "jane@example.com"}]}])
    assert made["outcome"] == "created"
    found = shop.find_contact("jane@example.com")
    assert found is not None
    assert found == shop.get_contact(made["id"])
    assert shop.find_contact("nobody@example.com") is None
    assert shop.may_send("jane@example.com", topic="product-news").allowed
    (links,) = shop.links(["jane@example.com"], topic="product-news", message_ref="2026-48")
    message = a_message()
    put_list_headers(message, links.headers)
    assert len(lines_of(message.as_bytes(), headers_of(50))) == 3
    act = {"address": "jane@example.com", "verb": "unsubscribe", "origin_ref": stable_ref("shop", "jane@example.com")}
    told = [shop.record([act])[0] for _ in range(2)]
    assert [(one["changed"], one["repeated"]) for one in told] == [(True, False), (True, True)]
    decision = shop.may_send("jane@example.com", topic="product-news")
    assert (decision.allowed, decision.reason, decision.degraded) == (False, "unsubscribed_all", False)
    assert shop.may_send("jane@example.com", message_class="transactional", topic="receipts").allowed
    assert [one["address"] for one in shop.suppressions()] == ["jane@example.com"]
    assert [one["seq"] for one in shop.entries()] == [told[0]["seq"]]
    assert list(shop.entries(after=told[0]["seq"])) == []
    assert {one["slug"] for one in shop.topics()} == {"product-news", "offers", "receipts"}
    evenings = {"slug": "evenings", "name": "Evenings", "class": "marketing", "basis": "consent", "channels": ["email"]}
    assert "evenings" in {one["slug"] for one in shop.put_topics([evenings])}
    scrubbed = shop.scrub(b"email\njane@example.com\n", topic="product-news")
    assert b"jane@example.com,no,unsubscribed_all" in scrubbed
    allowed = shop.scrub(b"email\njane@example.com\n", topic="receipts", message_class="transactional", brand="default")
    assert b"jane@example.com,yes," in allowed
    assert "/sign-in/hand-off/" in shop.hand_off("jane@example.com").url
    assert shop.unanswered == 0


def test_an_endless_list_is_asked_in_calls_of_ten_thousand_as_it_is_read(shop: Client) -> None:
    given: list[int] = []

    def endless() -> Iterator[str]:
        for number in itertools.count():
            given.append(number)
            yield f"p{number}@example.com"

    decisions = list(itertools.islice(shop.decisions(endless(), topic="product-news"), 10_001))
    assert [one.address for one in decisions[::5_000]] == ["p0@example.com", "p5000@example.com", "p10000@example.com"]
    assert len(given) <= 20_001


def test_what_is_wrong_is_named_by_its_place_in_the_callers_own_list(shop: Client) -> None:
    addresses = [f"p{number}@example.com" for number in range(10_002)]
    addresses[10_001] = "no address"
    with pytest.raises(BadFields) as raised:
        list(shop.links(addresses))
    assert [one.field for one in raised.value.fields] == ["addresses[10001]"]
    assert raised.value.fields[0].detail
    with pytest.raises(BadFields, match="topic"):
        list(shop.links(["jane@example.com"], topic="nothing"))


def test_a_reference_of_another_act_is_refused_and_named(shop: Client) -> None:
    act = {"address": "jane@example.com", "verb": "unsubscribe", "origin_ref": "1"}
    with pytest.raises(BadFields) as raised:
        shop.record([act, {**act, "address": "john@example.com"}])
    assert (raised.value.status, raised.value.fields[0].field) == (409, "[1].origin_ref")


def test_a_wrong_key_is_told_and_stops_no_receipt(center: str) -> None:
    stranger = Client(center, "pref_wrong")
    for call in (stranger.topics, lambda: stranger.may_send("jane@example.com", topic="offers")):
        with pytest.raises(Unauthorized):
            call()
    decision = stranger.may_send("jane@example.com", message_class="transactional", topic="receipts")
    assert (decision.allowed, decision.reason, decision.degraded) == (True, "unavailable", True)
    assert stranger.unanswered == 1


def test_a_key_without_the_scope_is_told(app: Flask, center: str) -> None:
    key = services_of(app).database.save(create_key, "asker", datetime.now(UTC), frozenset({KeyScope.DECISIONS}))
    with pytest.raises(NotAllowed):
        Client(center, key).topics()


# Trouble.


@dataclass
class Stub:
    """A server that answers with these, one after another: a status, its Retry-After and its body; or hangs up."""

    answers: list[tuple[int, str, bytes]]
    bodies: list[bytes] = field(default_factory=list)
    url: str = ""

    def __enter__(self) -> Stub:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                stub.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                status, wait, body = stub.answers.pop(0)
                if not status:
                    self.close_connection = True
                    return
                self.send_response(status)
                if wait:
                    self.send_header("Retry-After", wait)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


ALLOWED = {"address": "a@example.com", "allowed": True, "reason": "ok", "rule": "x", "entry": None, "degraded": False}
YES = (200, "", json.dumps({"decisions": [ALLOWED | {"newer": 1}]}).encode())


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr("preferences.client.time.sleep", slept.append)
    return slept


def test_a_call_is_repeated_as_it_was_until_it_is_answered(waits: list[float]) -> None:
    with Stub([(503, "30", b""), (0, "", b""), (429, "", b"{}"), (502, "", b"<html>"), YES]) as stub:
        with closing(Client(stub.url, "pref_x")) as client:
            assert [one.allowed for one in client.decisions(["a@example.com"], topic="offers")] == [True]
        assert len(set(stub.bodies)) == 1
        assert "message_ref" in json.loads(stub.bodies[0])
    assert waits[0] >= 30
    assert all(0.25 <= one <= 8 for one in waits[1:])


@pytest.mark.parametrize("answer", [(503, "", b""), (500, "", b"a@example.com"), (0, "", b"")])
def test_without_an_answer_marketing_is_not_sent_and_receipts_are(
    waits: list[float], answer: tuple[int, str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    with Stub([answer] * 12) as stub, closing(Client(stub.url, "pref_x")) as client:
        kinds: tuple[MessageClass, ...] = ("marketing", "transactional", "notice")
        asked = [client.may_send("a@example.com", message_class=kind) for kind in kinds]
        assert [(one.allowed, one.reason, one.degraded) for one in asked] == [
            (False, "unavailable", True),
            (True, "unavailable", True),
            (True, "unavailable", True),
        ]
        assert client.unanswered == 3
        assert len(stub.bodies) <= 6 or answer[0] == 0
        assert sum(waits) <= 3
        with pytest.raises(TryLater) as raised:
            list(client.decisions(["a@example.com"]))
    said = str(raised.value) + caplog.text
    assert "a@example.com" not in said
    assert "pref_x" not in said
    assert raised.value.__context__ is None


def test_a_closed_port_is_no_answer(waits: list[float]) -> None:
    client = Client(f"http://127.0.0.1:{free_port()}", "pref_x")
    with pytest.raises(TryLater) as raised:
        client.find_contact("jane@example.com")
    assert "jane" not in str(raised.value)
    assert (raised.value.__cause__, raised.value.__context__) == (None, None)
    assert not client.may_send("jane@example.com", topic="offers").allowed


def test_what_is_no_preference_center_is_said_to_be_none() -> None:
    with Stub([(302, "", b""), (200, "", b"<html>")]) as stub:
        for words in ("elsewhere", "not a preference center"):
            with pytest.raises(Refused, match=words):
                list(Client(stub.url, "pref_x").decisions(["a@example.com"]))


def test_a_reference_is_the_same_for_the_same_parts_and_tells_nothing() -> None:
    assert stable_ref("form", 4711) == stable_ref("form", "4711") != stable_ref("form4711")
    assert "jane" not in stable_ref("jane@example.com")


def test_the_client_needs_nothing_of_this_package(tmp_path: Path) -> None:
    copied = tmp_path / "center_client.py"
    copied.write_text(Path(preferences.client.__file__).read_text())
    code = "import center_client, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert "center_client" in loaded
    assert [name for name in loaded.split() if name.startswith(("preferences", "flask"))] == []
