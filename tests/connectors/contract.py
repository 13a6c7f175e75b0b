"""What sync and the webhook door rely on, whatever the provider.

A connector's own tests subclass `ConnectorContract` and say what is that provider's: its settings, its codes and how it
signs. Its genuine reports are files in `payloads/<kind>/`, and `expected.json` beside them says what each means:

    {"unsubscribe.json": [["unsubscribe", "jane.doe@example.com", "product-news"]], "opened.json": []}

The provider's side is a real HTTP server that answers as it is told.
"""

from __future__ import annotations

import io
import json
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Self
from urllib.parse import parse_qs, quote_plus, urlsplit

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as example_settings
from hypothesis import strategies as st
from sqlalchemy import select
from structlog.testing import capture_logs

from preferences.config import ConnectorSettings
from preferences.connectors import make_connector
from preferences.connectors.base import Connector, Parsed, Push
from preferences.connectors.lifts import may_lift
from preferences.current import services_of
from preferences.domain.acts import PREFERENCE_VERBS, RECORDED, ProviderEvent, bears_on_permission
from preferences.domain.addresses import Fingerprints
from preferences.domain.errors import BadPayload, BadSignature, Misconfigured, PreferencesError, Rejected, TryLater
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel, Status
from preferences.store import cursors
from preferences.store.contacts import new_id
from preferences.store.tables import ledger_entry
from preferences.sync.push import Outcome, run_once
from tests.profiles import scaled
from tests.servers import free_port
from tests.support import PUBLIC_URL, close, email, new_app, new_sqlite

NAME: Final = "mailer"
TOPICS: Final = {"product-news": "list-17", "offers": "list-18", "*": "global"}
JANE: Final = "jane.doe@example.com"
PAYLOADS: Final = Path(__file__).parent / "payloads"

# The same tests run for every connector, and each example costs a call over the network at most.
examples = example_settings(
    max_examples=scaled(150), suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow]
)


few_examples = example_settings(examples, max_examples=scaled(40))


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
                query={name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()},
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
    values = settings.model_dump(exclude={"name", "topics", "options"})
    table = f"connectors.{settings.name}"
    parts = {table: values, f"{table}.topics": settings.topics, f"{table}.options": settings.options}
    lines = [
        [f"[{name}]", *(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in part.items())]
        for name, part in parts.items()
    ]
    return "\n".join(line for part in lines for line in part)


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


@st.composite
def tampered_bytes(draw: st.DrawFn, genuine: Sequence[bytes]) -> bytes:
    """A genuine body of any format with some bytes replaced, or taken out."""
    body = bytearray(draw(st.sampled_from(genuine)))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 12)))
        body[start:end] = draw(st.binary(max_size=6) | WORDS.map(lambda text: text.encode("utf-8", "replace")))
    return bytes(body)


class Untouched(io.BytesIO):
    """A body that counts how often it is read."""

    reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self.reads += 1
        return super().read(size)


class ConnectorContract:
    """Subclass it as `TestTheContract`, and fill in what is the provider's own."""

    kind: str
    busy_code: int
    """What the provider takes for "send it again": each vendor has a rule of its own."""
    refused_code: int
    own_settings: ClassVar[Mapping[str, Any]]
    """Keys and secrets."""
    topics: ClassVar[Mapping[str, str]] = TOPICS
    """The provider's own names of its lists; the topics are always these three."""
    signs_body: ClassVar[bool] = True
    """Whether a changed byte of the body is noticed by `verify`."""
    query: ClassVar[str] = ""
    """What the provider has behind our address, with its question mark."""
    form: ClassVar[bool] = False
    """Whether bodies are forms and no JSON."""
    proof_stands_apart: ClassVar[bool] = True
    """Whether the proof stands in headers or the address, so that a body that cannot be read can be authentic."""
    nothing_to_do: ClassVar[frozenset[int]] = frozenset()
    """Failures of a push that say that what it asks for is so: 404 for whom the provider does not know."""

    @cached_property
    def payloads(self) -> Mapping[str, bytes]:
        """The files in the provider's folder, byte for byte."""
        folder = PAYLOADS / self.kind
        return {path.name: path.read_bytes() for path in sorted(folder.glob("*")) if path.name != "expected.json"}

    @cached_property
    def genuine(self) -> Sequence[bytes]:
        """Bodies as the provider sends them, at least one with an event that we record."""
        return tuple(self.payloads.values())

    @property
    def url(self) -> str:
        """Our address as the provider has it."""
        return f"{PUBLIC_URL}/webhooks/{NAME}{self.query}"

    def sign(self, body: bytes) -> dict[str, str]:
        """The headers with which the provider sends this body now. Names in small letters.

        The same for the same body, but for the time: a signature that is bound to a token must bear one of the body's.
        """
        raise NotImplementedError

    def travelling(self, body: bytes) -> bytes:
        """The body as the provider sends it now: the file's, unless its signature stands in it."""
        return body

    def push_of(self, address: str | Address = JANE, **changes: Any) -> Push:
        """A push to the provider's own list of product news, unless `changes` say otherwise."""
        return push_of(address, **{"list_ref": self.topics["product-news"], **changes})

    def variations(self) -> st.SearchStrategy[bytes]:
        """Bodies that are nearly genuine."""
        return tampered_bytes(self.genuine) if self.form else tampered_json(self.genuine)

    def connector(self, **changes: Any) -> Connector:
        """The connector, with settings as an operator writes them, and without its pace."""
        made = make_connector(self.settings(**changes))
        made.calls_per_second = 0.0
        return made

    def settings(self, **changes: Any) -> ConnectorSettings:
        values: dict[str, Any] = {
            "name": NAME,
            "kind": self.kind,
            "base_url": "http://127.0.0.1:9",
            "topics": self.topics,
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
        for body in map(self.travelling, self.genuine):
            self.connector().verify(self.sign(body), body, url=self.url)

    @given(data=st.data())
    @examples
    def test_verify_says_no_to_whatever_bears_no_signature(self, data: st.DataObject) -> None:
        genuine = self.sign(self.genuine[0])
        names = st.sampled_from([*sorted(genuine), "authorization"]) | st.text(max_size=20)
        values = st.text(st.characters(), max_size=60) | st.sampled_from(["v1,", "v1,!", "v1", ",,", "v1,AAAA", "nan"])
        headers = data.draw(st.dictionaries(names, values, max_size=6))
        body = data.draw(st.binary(max_size=200) | st.sampled_from(self.genuine))
        if genuine and headers.items() >= genuine.items():
            return
        with pytest.raises(BadSignature):
            self.connector().verify(headers, body)

    @given(data=st.data())
    @examples
    def test_verify_says_no_to_a_genuine_report_that_was_altered(self, data: st.DataObject) -> None:
        if not self.signs_body:
            pytest.skip("this provider's signature does not cover the body")
        body = self.travelling(data.draw(st.sampled_from(self.genuine)))
        headers = self.sign(body)
        at = data.draw(st.integers(0, len(body)))
        altered = data.draw(
            st.sampled_from([body[:at], body[:at] + b"\n" + body[at:], body[:at] + b"\xff" + body[at + 1 :]])
        )
        if altered == body:
            self.connector().verify(headers, altered, url=self.url)
        else:
            with pytest.raises(BadSignature):
                self.connector().verify(headers, altered, url=self.url)

    @given(data=st.data())
    @examples
    def test_verify_reads_any_bytes_or_says_that_they_are_not_authentic(self, data: st.DataObject) -> None:
        body = data.draw(self.variations() | ANY_JSON.map(lambda value: json.dumps(value).encode()) | st.binary())
        with suppress(BadSignature):
            self.connector().verify(self.sign(self.genuine[0]), body, url=self.url)

    @given(data=st.data())
    @examples
    def test_verify_knows_no_other_way_to_say_no(self, data: st.DataObject) -> None:
        body = self.travelling(self.genuine[0])
        headers = self.sign(body)
        name = data.draw(st.sampled_from([*sorted(headers), "authorization"]))
        given_ = headers.get(name, "")
        garbled = data.draw(st.text(st.characters(), max_size=8).map(lambda text: given_ + text) | WORDS)
        try:
            self.connector().verify(headers | {name: garbled}, body, url=self.url)
        except BadSignature as error:
            assert garbled not in str(error) or len(garbled) < 3  # noqa: PT017 - it may also pass

    def test_without_a_secret_nothing_is_authentic_and_there_is_no_door(self) -> None:
        connector = self.connector(webhook_secrets=[])
        assert not connector.takes_webhooks
        body = self.travelling(self.genuine[0])
        with pytest.raises(BadSignature):
            connector.verify(self.sign(body), body, url=self.url)

    # Parse.

    def test_each_report_means_what_its_folder_says(self) -> None:
        expected_file = PAYLOADS / self.kind / "expected.json"
        expected = json.loads(expected_file.read_bytes()) if expected_file.exists() else {}
        assert expected.keys() == self.payloads.keys(), f"{expected_file.name} has a line for each file beside it"
        for name, body in self.payloads.items():
            events = self.connector().parse(self.sign(body), body).events
            found = [
                [event.kind.value, event.address.value, *([event.topic] if event.kind in PREFERENCE_VERBS else [])]
                for event in events
            ]
            assert found == expected[name], name

    def test_a_genuine_report_is_understood(self) -> None:
        parsed = [self.connector().parse(self.sign(body), body) for body in self.genuine]
        assert any(event.kind in RECORDED for report in parsed for event in report.events)
        for report in parsed:
            assert_can_be_recorded(report)

    @given(data=st.data())
    @examples
    def test_parse_reads_any_bytes_or_says_that_they_are_bad(self, data: st.DataObject) -> None:
        body = data.draw(self.variations() | ANY_JSON.map(lambda value: json.dumps(value).encode()) | st.binary())
        try:
            parsed = self.connector().parse(self.sign(body), body)
        except (BadPayload, TryLater) as error:
            assert error.__cause__ is None  # noqa: PT017 - it may also be readable
        else:
            assert_can_be_recorded(parsed)

    @pytest.mark.parametrize("name", ["Jane Doe", '"Doe, Jane (\\"J>\\")"', "Doe, Jane", "Jane (at: home <work>)", ""])
    def test_a_name_beside_an_address_loses_no_report(self, name: str) -> None:
        for file, body in self.payloads.items():
            assert self._meant_by(self._renamed(body, f"{name} <{JANE}>")) == self._meant_by(body), file

    def _renamed(self, body: bytes, written: str) -> bytes:
        """The report with our contact's address written in another way."""
        if self.form:
            return body.replace(quote_plus(JANE).encode(), quote_plus(written).encode())
        return json.dumps(replaced(json.loads(body), written)).encode()

    def _meant_by(self, body: bytes) -> list[tuple[Any, ...]]:
        events = self.connector().parse(self.sign(body), body).events
        return [(event.kind, event.address, event.topic, event.occurred_at) for event in events]

    @given(junk=st.lists(ANY_JSON, min_size=1, max_size=4), data=st.data())
    @examples
    def test_an_odd_row_takes_no_other_with_it(self, junk: Sequence[Any], data: st.DataObject) -> None:
        batches = [body for body in self.genuine if not self.form and self.with_junk(json.loads(body), []) is not None]
        if not batches:
            pytest.skip("this provider sends one report at a time")
        body = data.draw(st.sampled_from(batches))
        mixed = json.dumps(self.with_junk(json.loads(body), junk)).encode()
        found = self.connector().parse(self.sign(mixed), mixed)
        assert_can_be_recorded(found)
        genuine = self._meant_by(body)
        among = [(event.kind, event.address, event.topic, event.occurred_at) for event in found.events]
        assert [event for event in among if event in genuine] == genuine

    def with_junk(self, document: Any, junk: Sequence[Any]) -> Any:
        """The report with odd rows before its own, or None where this provider sends one thing at a time."""
        return [*junk, *document] if isinstance(document, list) else None

    def test_parse_is_not_brought_down_by_depth(self) -> None:
        deep = b"[" * 100_000
        with pytest.raises(BadPayload):
            self.connector().parse(self.sign(deep), deep)

    # Push and list.

    def test_any_answer_to_a_push_is_success_or_a_failure_of_a_known_class(self) -> None:
        with provider_of(self) as (provider, connector):

            @given(answer=ANSWERS)
            @examples
            def holds(answer: Answer) -> None:
                provider.otherwise = answer
                push = self.push_of()
                try:
                    refusals = connector.push([push])
                except (TryLater, Rejected, Misconfigured):
                    return
                assert 200 <= answer.status < 300 or refusals or answer.status in self.nothing_to_do
                assert {refusal.contact_id for refusal in refusals} <= {push.contact_id}

            holds()

    def test_any_answer_to_a_listing_is_a_list_or_a_failure_of_a_known_class(self) -> None:
        if not self.connector().can_list:
            pytest.skip("this provider cannot list")
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

    def test_any_answer_about_an_address_is_read_or_a_failure_of_a_known_class(self) -> None:
        if not self.connector().can_lift:
            pytest.skip("nothing is lifted at this provider")
        with provider_of(self) as (provider, connector):
            lift = self.push_of(status=Status.SUBSCRIBED)

            @given(answer=ANSWERS)
            @examples
            def holds(answer: Answer) -> None:
                provider.otherwise = answer
                try:
                    held = list(connector.held([lift]))
                except (TryLater, Rejected, Misconfigured):
                    return
                assert not may_lift(lift, held)

            holds()

    @pytest.mark.parametrize("status", [301, 400, 401, 404, 422, 429, 500, 503])
    def test_no_failure_names_an_address(self, status: int) -> None:
        quoting = Answer(status, json.dumps({"errors": [f"{JANE} is not right"]}).encode(), {"Location": f"/{JANE}"})
        with provider_of(self) as (provider, connector):
            provider.otherwise = quoting
            calls: list[Callable[[], object]] = [lambda: connector.push([self.push_of()])]
            calls += [lambda: list(connector.list_suppressed())] if connector.can_list else []
            for call in calls:
                try:
                    said = repr([(type(row), getattr(row, "why", "")) for row in call() or ()])  # type: ignore[attr-defined]
                    assert "Refusal" in said or status in self.nothing_to_do
                except PreferencesError as error:
                    said = as_printed(error)
                assert "jane" not in said

    def test_no_failure_to_connect_names_an_address(self) -> None:
        with pytest.raises(TryLater) as caught:
            self.connector(base_url=f"http://127.0.0.1:{free_port()}/{JANE}").push([self.push_of()])
        assert "jane" not in str(caught.value)

    def test_no_refusal_of_a_report_names_an_address(self) -> None:
        body = self.genuine[0]
        with pytest.raises(BadSignature) as unsigned:
            self.connector().verify({}, body)
        nonsense = b"\xff\x00{jane.doe@example.com"
        with pytest.raises(BadPayload) as unreadable:
            self.connector().parse(self.sign(body), nonsense)
        assert "@" not in str(unsigned.value) + str(unreadable.value)
        assert unreadable.value.__suppress_context__

    # The door.

    def test_the_door_records_a_genuine_report_once_however_often_it_comes(self, tmp_path: Path) -> None:
        with self.door(tmp_path, new_sqlite(tmp_path)) as client:
            for body in map(self.travelling, self.genuine):
                headers = self.sign(body)
                for _ in range(3):
                    assert self.post(client, body, headers) == 200
            parsed = [self.connector().parse(self.sign(body), body) for body in self.genuine]
            events = [event for report in parsed for event in report.events if bears_on_permission(event)]
            expected = len({event.event_id for event in events})
            assert None not in {event.event_id for event in events}, "what has no identity is recorded twice"
            database = services_of(client.application).database
            origins = database.read(lambda read: list(read.execute(select(ledger_entry.c.origin)).scalars()))
        assert origins == [f"connector.{NAME}"] * expected

    def test_a_mistake_of_ours_acknowledges_no_report(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object) -> None:
            raise AttributeError(JANE)

        telling = [body for body in self.genuine if self.connector().parse(self.sign(body), body).events]
        monkeypatch.setattr(sys.modules[type(self.connector()).__module__], "find_address", broken)
        with self.door(tmp_path, new_sqlite(tmp_path)) as client, capture_logs() as logged:
            for body in map(self.travelling, telling):
                assert self.post(client, body, self.sign(body)) == self.busy_code
        assert len(logged) == len(telling) > 0
        assert JANE not in str(logged)

    def test_what_it_reports_is_not_told_back_to_it(self, tmp_path: Path) -> None:
        with provider_of(self) as (provider, connector):
            with self.door(tmp_path, new_sqlite(tmp_path), base_url=provider.url) as client:
                for body in map(self.travelling, self.genuine):
                    assert self.post(client, body, self.sign(body)) == 200
                asked = len(provider.asked)
                database = services_of(client.application).database
                database.save(cursors.start, NAME, 0)
                assert run_once(database, connector, owner="me", now=datetime.now(UTC)) is Outcome.DONE
            assert len(provider.asked) == asked

    def test_the_door_refuses_a_stranger_in_the_provider_s_own_code(self, tmp_path: Path) -> None:
        with self.door(tmp_path, new_sqlite(tmp_path)) as client:
            codes = [client.post(f"/webhooks/{NAME}", data=self.genuine[0]).status_code]
            codes.append(client.post(f"/webhooks/{NAME}", content_length=None).status_code)
        assert codes == [self.refused_code] * len(codes)

    def test_what_cannot_be_read_is_never_the_provider_s_last_word(self, tmp_path: Path) -> None:
        with self.door(tmp_path, new_sqlite(tmp_path)) as client:
            nonsense = [b'{"nonsense": true', b"x", b"[" * 100_000]
            codes = {self.post(client, body, self.sign(body)) for body in nonsense}
        assert codes <= ({self.busy_code} if self.proof_stands_apart else {self.busy_code, self.refused_code})

    def test_what_is_longer_than_this_provider_ever_sends_is_not_read(self, tmp_path: Path) -> None:
        body = b"x" * (self.connector().longest_body + 1)
        with self.door(tmp_path, new_sqlite(tmp_path)) as client:
            assert self.post(client, body, self.sign(body)) == self.refused_code
            stream = Untouched()
            path, own = f"/webhooks/{NAME}{self.query}", self.sign(self.genuine[0])
            length = {"CONTENT_LENGTH": str(len(body))}
            answer = client.post(path, input_stream=stream, headers=own, environ_overrides=length)
            assert (answer.status_code, stream.reads) == (self.refused_code, 0)

    def test_the_door_answers_whatever_comes_in_words_that_its_provider_knows(self, tmp_path: Path) -> None:
        with self.door(tmp_path, new_sqlite(tmp_path)) as client:

            @given(body=self.variations() | st.binary(max_size=100), signed=st.booleans())
            @examples
            def holds(body: bytes, signed: bool) -> None:
                headers = self.sign(body) if signed else {}
                assert self.post(client, body, headers) in {200, self.busy_code, self.refused_code}

            holds()

    def test_without_the_database_the_provider_s_busy_code_is_answered(self, tmp_path: Path) -> None:
        body = next(
            report
            for report in self.genuine
            if any(bears_on_permission(event) for event in self.connector().parse(self.sign(report), report).events)
        )
        with self.door(tmp_path, f"postgresql://nobody@127.0.0.1:{free_port()}/none") as client:
            body = self.travelling(body)
            code = self.post(client, body, self.sign(body))
        assert code == self.busy_code

    def test_nothing_sent_to_the_door_breaks_it(self, tmp_path: Path) -> None:
        allowed = {200, self.busy_code, self.refused_code}
        with self.door(tmp_path, new_sqlite(tmp_path)) as client:

            @given(data=st.data())
            @few_examples
            def holds(data: st.DataObject) -> None:
                body = data.draw(
                    self.variations() | ANY_JSON.map(lambda value: json.dumps(value).encode()) | st.binary()
                )
                with suppress(ValueError, AttributeError, TypeError, LookupError):  # unsigned then
                    body = self.travelling(body)
                assert self.post(client, body, self.sign(body)) in allowed

            holds()

    def post(self, client: FlaskClient, body: bytes, headers: Mapping[str, str]) -> int:
        """What the door answers to this body, at the provider's own address."""
        kind = "application/x-www-form-urlencoded" if self.form else "application/json"
        own = {"content-type": kind, **headers}
        return client.post(f"/webhooks/{NAME}{self.query}", data=body, headers=own).status_code

    @contextmanager
    def door(self, folder: Path, database_url: str, **changes: Any) -> Iterator[FlaskClient]:
        """The site with this connector."""
        config_file = folder / "connectors.toml"
        config_file.write_text(as_toml(self.settings(**changes)))
        app = new_app(database_url, config_file=config_file)
        yield app.test_client()
        close(app)


def replaced(document: Any, written: str) -> Any:
    """The document with another spelling of our contact's address, also in JSON that stands in a text of it."""
    if isinstance(document, dict):
        return {name: replaced(value, written) for name, value in document.items()}
    if isinstance(document, list):
        return [replaced(value, written) for value in document]
    if isinstance(document, str) and document.startswith("{"):
        return json.dumps(replaced(json.loads(document), written))
    return written if document == JANE else document


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
    if event.kind in PREFERENCE_VERBS:
        assert event.topic in TOPICS  # an opt-out of a list that maps to nothing never comes through as another
