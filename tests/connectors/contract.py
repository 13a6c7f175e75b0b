"""What sync and the webhook door rely on, whatever the provider.

A connector's own tests subclass `ConnectorContract` and say what is that provider's: its settings, its codes, how it
signs, and some genuine reports. The provider's side is a real HTTP server that answers as it is told.
"""

from __future__ import annotations

import json
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Self
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as example_settings
from hypothesis import strategies as st
from sqlalchemy import select

from preferences.config import ConnectorSettings
from preferences.connectors import make_connector
from preferences.connectors.base import Connector, Parsed, Push
from preferences.domain.acts import EventKind, ProviderEvent
from preferences.domain.addresses import Fingerprints
from preferences.domain.errors import BadPayload, BadSignature, Misconfigured, PreferencesError, Rejected, TryLater
from preferences.domain.terms import Address, Channel, Status
from preferences.site import site_of
from preferences.store.contacts import new_id
from preferences.store.tables import ledger_entry
from tests.servers import free_port
from tests.support import close, email, new_app, new_sqlite

NAME: Final = "mailer"
TOPICS: Final = {"product-news": "list-17", "offers": "list-18", "*": "global"}
JANE: Final = "jane.doe@example.com"

# The same tests run for every connector, and each example costs a call over the network at most.
examples = example_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow]
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider answers. `seconds` late; `cut` off in the middle of the body."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that the provider got, byte for byte. Names of headers are in small letters."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


class Provider:
    """An HTTP server that remembers what it was asked, and answers as it is told.

    `answers` are given one by one; after the last, `otherwise` is.
    """

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: list[Answer] = []
        self.otherwise = Answer()
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"provider": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        answer = self.answers.pop(0) if self.answers else self.otherwise
        self._closing.wait(answer.seconds)
        return answer


class _Handler(BaseHTTPRequestHandler):
    provider: Provider
    protocol_version = "HTTP/1.1"
    # One packet for each answer; in two, the second would wait for the first to be acknowledged.
    wbufsize = -1
    disable_nagle_algorithm = True

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        answer = self.provider.answer(
            Asked(
                method=self.command,
                path=parts.path,
                query={name: values[0] for name, values in parse_qs(parts.query).items()},
                headers={name.lower(): value for name, value in self.headers.items()},
                body=self.rfile.read(int(self.headers.get("Content-Length", 0))),
            )
        )
        self.close_connection = answer.cut
        try:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.status not in {204, 304}:
                self.send_header("Content-Length", str(len(answer.body) + (100 if answer.cut else 0)))
            self.end_headers()
            if answer.status not in {204, 304}:
                self.wfile.write(answer.body)
        except OSError:
            self.close_connection = True  # whoever asked did not wait

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815 - the library's names

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def provider_of(maker: Any, **changes: Any) -> Iterator[tuple[Provider, Connector]]:
    """A provider that runs, and the connector to it. `maker` is the test class, or anything with its `connector`."""
    with Provider() as provider:
        yield provider, maker.connector(base_url=provider.url, **changes)


def push_of(address: str | Address = JANE, **changes: Any) -> Push:
    """A push: an unsubscribe from product news, unless `changes` say otherwise."""
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "contact_id": new_id(now),
        "address": address if isinstance(address, Address) else email(address),
        "list_ref": TOPICS["product-news"],
        "status": Status.UNSUBSCRIBED,
        "reason": None,
        "since": now,
        "entry": 4711,
    }
    return Push(**(values | changes))


def as_toml(settings: ConnectorSettings) -> str:
    """The settings as an operator writes them."""
    values = settings.model_dump(exclude={"name", "topics"})
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    topics = [f"{json.dumps(topic)} = {json.dumps(list_ref)}" for topic, list_ref in settings.topics.items()]
    table = f"connectors.{settings.name}"
    return "\n".join([f"[{table}]", *lines, f"[{table}.topics]", *topics])


def as_printed(error: BaseException) -> str:
    """All that a log could ever show of an error: its text and its whole trace with the errors behind it."""
    return "".join(traceback.format_exception(error)) + str(error) + repr(error)


NUMBERS: Final = st.integers() | st.floats() | st.sampled_from([10**400, -(10**400)])
WORDS: Final = st.text(st.characters(), max_size=12)  # with lone surrogates, which JSON can write and UTF-8 cannot
EDGES: Final = st.sampled_from(
    [
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2026-05-31",
        "\ud800 Harbour Lane",
        "post",
        "a@b",
        "unsubscribe",
        "bounce.hard",
        "global",
        "\x00",
    ]
)
ANY_JSON: Final = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS | EDGES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)

ANSWERS: Final = st.builds(
    Answer,
    status=st.sampled_from([200, 200, 200, 204, 302, 400, 429, 500]) | st.integers(200, 599),
    body=st.binary(max_size=40)
    | ANY_JSON.map(lambda value: json.dumps(value).encode())
    | ANY_JSON.map(lambda value: json.dumps({"rejected": value, "suppressions": value}).encode()),
)


@st.composite
def tampered_json(draw: st.DrawFn, genuine: Sequence[bytes]) -> bytes:
    """A genuine JSON document in which up to three values are replaced, or taken out."""
    document = json.loads(draw(st.sampled_from(genuine)))
    for _ in range(draw(st.integers(1, 3))):
        at = document
        while isinstance(at, dict) and at:
            key = draw(st.sampled_from(sorted(at)))
            if isinstance(at[key], dict) and draw(st.booleans()):
                at = at[key]
                continue
            if draw(st.booleans()):
                at[key] = draw(ANY_JSON)
            else:
                del at[key]
            break
    return json.dumps(document).encode()


class ConnectorContract:
    """Subclass it as `TestTheContract`, and fill in what is the provider's own."""

    kind: str
    busy_code: int
    """What the provider takes for "send it again" (PROVIDERS: each vendor's own rule)."""
    refused_code: int
    own_settings: ClassVar[Mapping[str, Any]]
    """Keys and secrets."""
    genuine: Sequence[bytes]
    """Bodies as the provider sends them, at least one with an event that we record."""

    def sign(self, body: bytes) -> dict[str, str]:
        """The headers with which the provider sends this body now. Names in small letters."""
        raise NotImplementedError

    def variations(self) -> st.SearchStrategy[bytes]:
        """Bodies that are nearly genuine."""
        return tampered_json(self.genuine)

    def connector(self, **changes: Any) -> Connector:
        """The connector, with settings as an operator writes them."""
        return make_connector(self.settings(**changes))

    def settings(self, **changes: Any) -> ConnectorSettings:
        values: dict[str, Any] = {
            "name": NAME,
            "kind": self.kind,
            "base_url": "http://127.0.0.1:9",
            "topics": TOPICS,
            **self.own_settings,
        }
        return ConnectorSettings(**(values | changes))

    # Codes.

    def test_its_codes_are_those_that_its_provider_understands(self) -> None:
        connector = self.connector()
        assert (connector.busy_code, connector.refused_code) == (self.busy_code, self.refused_code)
        assert 400 <= connector.busy_code < 600
        assert 400 <= connector.refused_code < 500
        assert connector.refused_code != 410  # which makes several providers stop for good

    # Verify.

    def test_a_genuine_report_is_authentic(self) -> None:
        for body in self.genuine:
            self.connector().verify(self.sign(body), body)

    @given(data=st.data())
    @examples
    def test_verify_says_no_to_whatever_bears_no_signature(self, data: st.DataObject) -> None:
        genuine = self.sign(self.genuine[0])
        names = st.sampled_from(sorted(genuine)) | st.text(max_size=20)
        values = st.text(st.characters(), max_size=60) | st.sampled_from(["v1,", "v1,!", "v1", ",,", "v1,AAAA", "nan"])
        headers = data.draw(st.dictionaries(names, values, max_size=6))
        body = data.draw(st.binary(max_size=200) | st.sampled_from(self.genuine))
        with pytest.raises(BadSignature):
            self.connector().verify(headers, body)

    @given(data=st.data())
    @examples
    def test_verify_says_no_to_a_genuine_report_that_was_altered(self, data: st.DataObject) -> None:
        body = data.draw(st.sampled_from(self.genuine))
        headers = self.sign(body)
        at = data.draw(st.integers(0, len(body)))
        altered = data.draw(
            st.sampled_from([body[:at], body[:at] + b"\n" + body[at:], body[:at] + b"\xff" + body[at + 1 :]])
        )
        if altered == body:
            self.connector().verify(headers, altered)
        else:
            with pytest.raises(BadSignature):
                self.connector().verify(headers, altered)

    @given(data=st.data())
    @examples
    def test_verify_knows_no_other_way_to_say_no(self, data: st.DataObject) -> None:
        body = self.genuine[0]
        headers = self.sign(body)
        name = data.draw(st.sampled_from(sorted(headers)))
        garbled = data.draw(st.text(st.characters(), max_size=8).map(lambda text: headers[name] + text) | WORDS)
        try:
            self.connector().verify(headers | {name: garbled}, body)
        except BadSignature as error:
            assert garbled not in str(error) or len(garbled) < 3  # noqa: PT017 - it may also pass

    def test_without_a_secret_nothing_is_authentic_and_there_is_no_door(self) -> None:
        connector = self.connector(webhook_secrets=[])
        assert not connector.takes_webhooks
        with pytest.raises(BadSignature):
            connector.verify(self.sign(self.genuine[0]), self.genuine[0])

    # Parse.

    def test_a_genuine_report_is_understood(self) -> None:
        parsed = [self.connector().parse(self.sign(body), body) for body in self.genuine]
        assert any(one.events for one in parsed)
        for one in parsed:
            assert_can_be_recorded(one)

    @given(data=st.data())
    @examples
    def test_parse_reads_any_bytes_or_says_that_they_are_bad(self, data: st.DataObject) -> None:
        body = data.draw(self.variations() | ANY_JSON.map(lambda value: json.dumps(value).encode()) | st.binary())
        try:
            parsed = self.connector().parse(self.sign(body), body)
        except BadPayload as error:
            assert error.__cause__ is None  # noqa: PT017 - it may also be readable
        else:
            assert_can_be_recorded(parsed)

    def test_parse_is_not_brought_down_by_depth(self) -> None:
        deep = b"[" * 100_000
        with pytest.raises(BadPayload):
            self.connector().parse(self.sign(deep), deep)

    # Push and list.

    def test_any_answer_to_a_push_is_an_acceptance_or_a_failure_of_a_known_class(self) -> None:
        with provider_of(self) as (provider, connector):

            @given(answer=ANSWERS)
            @examples
            def holds(answer: Answer) -> None:
                provider.otherwise = answer
                push = push_of()
                try:
                    refusals = connector.push([push])
                except (TryLater, Rejected, Misconfigured):
                    return
                assert 200 <= answer.status < 300
                assert {refusal.contact_id for refusal in refusals} <= {push.contact_id}

            holds()

    def test_any_answer_to_a_listing_is_a_list_or_a_failure_of_a_known_class(self) -> None:
        with provider_of(self) as (provider, connector):

            @given(answer=ANSWERS)
            @examples
            def holds(answer: Answer) -> None:
                provider.otherwise = answer
                try:
                    rows = list(connector.list_suppressed())
                except (TryLater, Rejected, Misconfigured):
                    return
                assert 200 <= answer.status < 300
                assert rows == []

            holds()

    @pytest.mark.parametrize("status", [301, 400, 401, 404, 422, 429, 500, 503])
    def test_no_failure_names_an_address(self, status: int) -> None:
        quoting = Answer(status, json.dumps({"errors": [f"{JANE} is not right"]}).encode(), {"Location": f"/{JANE}"})
        with provider_of(self) as (provider, connector):
            provider.otherwise = quoting
            for call in (lambda: connector.push([push_of()]), lambda: list(connector.list_suppressed())):
                with pytest.raises(PreferencesError) as caught:
                    call()
                assert "jane" not in as_printed(caught.value)

    def test_no_failure_to_connect_names_an_address(self) -> None:
        with pytest.raises(TryLater) as caught:
            self.connector(base_url=f"http://127.0.0.1:{free_port()}/{JANE}").push([push_of()])
        assert "jane" not in str(caught.value)

    def test_no_refusal_of_a_report_names_an_address(self) -> None:
        body = self.genuine[0]
        with pytest.raises(BadSignature) as unsigned:
            self.connector().verify({}, body)
        with pytest.raises(BadPayload) as unreadable:
            self.connector().parse(self.sign(body), body + b"jane.doe@example.com")
        assert "@" not in str(unsigned.value) + str(unreadable.value)
        assert unreadable.value.__suppress_context__

    # The door.

    def test_the_door_records_a_genuine_report_once_however_often_it_comes(self, tmp_path: Path) -> None:
        with self.door(tmp_path, new_sqlite(tmp_path)) as client:
            for body in self.genuine:
                headers = self.sign(body)
                for _ in range(3):
                    assert client.post(f"/webhooks/{NAME}", data=body, headers=headers).status_code == 200
            expected = sum(len(self.connector().parse(self.sign(body), body).events) for body in self.genuine)
            database = site_of(client.application).database
            origins = database.read(
                lambda connection: list(connection.execute(select(ledger_entry.c.origin)).scalars())
            )
        assert origins == [f"connector.{NAME}"] * expected

    def test_the_door_refuses_in_the_provider_s_own_code(self, tmp_path: Path) -> None:
        nonsense = b'{"nonsense": true'
        with self.door(tmp_path, new_sqlite(tmp_path)) as client:
            unsigned = client.post(f"/webhooks/{NAME}", data=self.genuine[0])
            unreadable = client.post(f"/webhooks/{NAME}", data=nonsense, headers=self.sign(nonsense))
        assert (unsigned.status_code, unreadable.status_code) == (self.refused_code, self.refused_code)

    def test_the_door_is_busy_in_the_provider_s_own_code_while_the_database_is_away(self, tmp_path: Path) -> None:
        body = next(one for one in self.genuine if self.connector().parse(self.sign(one), one).events)
        with self.door(tmp_path, f"postgresql://nobody@127.0.0.1:{free_port()}/none") as client:
            answer = client.post(f"/webhooks/{NAME}", data=body, headers=self.sign(body))
        assert answer.status_code == self.busy_code

    @contextmanager
    def door(self, folder: Path, database_url: str) -> Iterator[FlaskClient]:
        """The site with this connector."""
        config_file = folder / "connectors.toml"
        config_file.write_text(as_toml(self.settings()))
        app = new_app(database_url, config_file=config_file)
        yield app.test_client()
        close(app)


def assert_can_be_recorded(parsed: Parsed) -> None:
    """Whatever parse lets through, the ledger can store: nothing sent in can cause a 500."""
    assert parsed.ignored >= 0
    for event in parsed.events:
        _assert_event(event)


def _assert_event(event: ProviderEvent) -> None:
    assert Fingerprints([b"fingerprint-key-of-tests"]).of(event.address)
    assert isinstance(event.address.channel, Channel)
    assert event.occurred_at is None or event.occurred_at.tzinfo is UTC
    assert event.event_id is None or len(event.event_id.encode()) <= 800
    if event.kind is EventKind.UNSUBSCRIBE:
        assert event.topic in TOPICS  # an opt-out of a list that maps to nothing never comes through as another
