"""A client for sending systems, in one file to copy: it needs Python 3.11 and `requests`, and nothing of this package.

Owns the calls of the API, their batches and their retries, and the list headers of a message. Invariants: a call that
is repeated counts once; when no answer can be had, marketing is not sent and a transactional message is; no address,
key or link stands in an exception or a log line.

    client = Client("https://preferences.example.com", "pref_…")
    if client.may_send("jane@example.com", topic="product-news").allowed:
        …

A client may be shared between threads: each gets a connection of its own, which stays open from call to call.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import re
import threading
import time
import uuid
from collections import UserString
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import Message
from email.policy import Policy
from typing import Any, Final, Literal, TypedDict, TypeVar, Unpack
from urllib.parse import quote

import requests

BATCH: Final = 10_000
"""How many addresses, contacts or acts one call takes."""

LARGEST: Final = 3_500_000
"""Characters of them in one call. The center reads 4 MB."""

LONGEST_WAIT: Final = 120.0
"""Seconds to wait before a repetition at the most, whatever the center asks for."""

LIST_HEADERS: Final = ("List-Unsubscribe", "List-Unsubscribe-Post", "List-Id")
LONGEST_LINE: Final = 998
"""Characters in a line of a message, without its end (RFC 5322 §2.1.1)."""

_PRINTABLE: Final = re.compile(r"[ -~]*[!-~]")
_LIST_HEADER: Final = re.compile(r"List-[A-Za-z-]+")

Channel = Literal["email", "sms", "voice", "post"]
MessageClass = Literal["marketing", "transactional", "notice"]
T = TypeVar("T")


class About(TypedDict, total=False):
    """The message that a decision is about.

    Left out, `message_class` is marketing and `channel` is email. `message_ref` names the mailing: asked again under
    the same one, nobody's cap per week is counted twice. With `count=False` a decision only looks.
    """

    message_class: MessageClass
    topic: str | None
    channel: Channel
    brand: str | None
    message_ref: str | None
    count: bool


log = logging.getLogger(__name__)


# What is answered.


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """May we send to this address? `entry` is the ledger entry behind a no, `degraded` says that not all was known."""

    address: str
    allowed: bool
    reason: str
    rule: str
    entry: int | None
    degraded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """What a message to one address needs. The URLs are None, and the headers empty, where it must have none."""

    address: str
    unsubscribe_url: str | None
    manage_url: str | None  # None, too, for an address that a system added, until its contact has confirmed it
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOff:
    """Where to send the browser of somebody who is logged in with you, and until when."""

    url: str
    expires_at: datetime


# What goes wrong, by what to do next.


class ApiError(Exception):
    """The center did not do what was asked. `status` is the HTTP status, None when there was no answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class TryLater(ApiError):
    """No answer, or none now, after every retry. The same call again, later, does no harm."""


class Unauthorized(ApiError):
    """The key is wrong, or no longer valid: make another one."""


class NotAllowed(ApiError):
    """The key is right and lacks the scope for this call."""


class Refused(ApiError):
    """The call is wrong as a whole, or its address is."""


@dataclass(frozen=True, slots=True)
class WrongField:
    """A field and what is wrong with it. A place in a list, as in `addresses[10003]`, is that in your own list."""

    field: str
    detail: str


class BadFields(Refused):
    """Some of what was sent is wrong: correct `fields`. Of a list of many calls, those before it were done."""

    def __init__(self, fields: Sequence[WrongField], status: int = 422) -> None:
        some = ", ".join(wrong.field for wrong in fields[:3])
        super().__init__(f"wrong: {some}{' …' if len(fields) > 3 else ''} (see .fields)", status)
        self.fields = tuple(fields)


# The client.


class Client:
    """Calls one preference center, `url`, with one key.

    `timeout` is the time in seconds to connect, and again to wait for each answer; `retries` how often a call is
    repeated after an error that may pass: no connection, 429, or a 5xx. It waits as long as the center asks for, else
    about 0.5, 1, 2, 4 … seconds. That is safe because every call may be made twice.
    """

    def __init__(self, url: str, key: str, *, timeout: float = 30.0, retries: int = 4) -> None:
        self._root = f"{url.rstrip('/')}/api/v1"
        self._auth = _Bearer(key)
        self._timeout = timeout
        self._retries = retries
        self._local = threading.local()
        self._sessions: list[requests.Session] = []
        self.unanswered = 0
        """How many times `may_send` had to answer by itself: watch it."""

    def close(self) -> None:
        """Close the connections of all threads."""
        while self._sessions:
            self._sessions.pop().close()
        self._local = threading.local()

    def may_send(self, address: str, **about: Unpack[About]) -> Decision:
        """May we send this one message now? Always answers, within about twice the timeout.

        When the center cannot be reached it answers by itself: no to marketing, yes (`degraded`) to a transactional
        message or a notice, with the reason `unavailable`. A key that is not accepted stops no such message either; for
        marketing it raises Unauthorized or NotAllowed. Raises BadFields for a call that is wrong.
        """
        question = _question(about)
        try:
            answer = self._call("POST", "/decisions", {**question, "addresses": [address]}, retries=1, longest_wait=1.0)
        except (TryLater, Unauthorized, NotAllowed) as error:
            if question["class"] == "marketing" and not isinstance(error, TryLater):
                raise
            self.unanswered += 1
            log.warning("%s: a %s message was decided without it", error, question["class"])
            return _decision_alone(address, question["class"])
        return _picked(Decision, answer["decisions"][0])

    def decisions(self, addresses: Iterable[str], **about: Unpack[About]) -> Iterator[Decision]:
        """May we send? One answer for each address, in their order, 10,000 to a call, read as you go.

        Raises TryLater when the center cannot be reached: a list can wait. Name the mailing in `message_ref`, so that
        starting over takes no second place of anybody's week; without one, this whole list is a mailing of its own.
        """
        question = _question(about)
        for first, batch in _batches(addresses):
            answer = self._call("POST", "/decisions", {**question, "addresses": batch}, first=first)
            yield from (_picked(Decision, decision) for decision in answer["decisions"])

    def links(
        self,
        addresses: Iterable[str],
        *,
        topic: str = "*",
        channel: Channel = "email",
        brand: str | None = None,
        message_ref: str | None = None,
    ) -> Iterator[Links]:
        """Links and headers for one message to each address, in their order. Contacts that are new are made."""
        asked = _without_none(channel=channel, topic=topic, brand=brand, message_ref=message_ref)
        for first, batch in _batches(addresses):
            answer = self._call("POST", "/links", {**asked, "addresses": batch}, first=first)
            yield from (_picked(Links, links) for links in answer["links"])

    def hand_off(self, address: str, *, channel: Channel = "email", brand: str | None = None) -> HandOff:
        """Where to send the browser of somebody who is logged in with you: it works once, for two minutes."""
        answer = self._call("POST", "/hand-offs", _without_none(address=address, channel=channel, brand=brand))
        return HandOff(url=answer["url"], expires_at=datetime.fromisoformat(answer["expires_at"]))

    def put_contacts(self, contacts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Bring in contacts, or give them more addresses, 10,000 to a call: what became of each, in their order."""
        done: list[dict[str, Any]] = []
        for first, batch in _batches(contacts):
            done += self._call("PUT", "/contacts", {"contacts": batch}, first=first)["contacts"]
        return done

    def get_contact(self, contact_id: str) -> dict[str, Any] | None:
        """What is on record for a contact, or None when there is none."""
        return self._found("/contacts/" + quote(contact_id, safe=""))

    def find_contact(self, address: str, *, channel: Channel = "email") -> dict[str, Any] | None:
        """What is on record for whoever has this address, or None when nobody has."""
        return self._found("/contacts", {"address": address, "channel": channel})

    def record(self, acts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Record what people did, in this order, 10,000 acts to a call: the entry of each. All is durable by then.

        Each act needs your own `origin_ref` (see `stable_ref`): told again, it counts once, so after any error the same
        acts can be told again. Raises BadFields for acts that are wrong, or whose reference is another act's.
        """
        done: list[dict[str, Any]] = []
        for first, batch in _batches(acts):
            done += self._call("POST", "/acts", batch, first=first)["entries"]
        return done

    def suppressions(
        self, *, channel: Channel = "email", topic: str | None = None, brand: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Every address that said no to this topic, or cannot be reached; without a topic, to all of the brand's."""
        asked = _without_none(channel=channel, topic=topic, brand=brand)
        while True:
            page = self._call("GET", "/suppressions", query=asked)
            yield from page["suppressions"]
            if page["next"] is None:
                return
            asked["after"] = page["next"]

    def entries(self, after: int = 0) -> Iterator[dict[str, Any]]:
        """The ledger after this position, to its end. Keep the `seq` of the last entry you have dealt with, and go on
        from there next time: nothing is skipped, and nothing told twice."""
        while True:
            page = self._call("GET", "/entries", query={"after": after})
            yield from page["entries"]
            after = page["next"]
            if not page["entries"] or after >= page["head"]:
                return

    def topics(self) -> list[dict[str, Any]]:
        """Every topic, with its brand."""
        return list(self._call("GET", "/topics")["topics"])

    def put_topics(self, topics: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Add those that are not there and reword those that are, all or none. Answers with every topic."""
        return list(self._call("PUT", "/topics", {"topics": [dict(topic) for topic in topics]})["topics"])

    def scrub(
        self,
        rows: bytes,
        *,
        topic: str,
        channel: Channel = "email",
        message_class: MessageClass | None = None,
        brand: str | None = None,
        column: str | None = None,
    ) -> bytes:
        """A CSV file of at most 8 MB and 100,000 rows, with `allowed` and `reason` added to each row. It only looks."""
        query = _without_none(topic=topic, channel=channel, brand=brand, column=column, **{"class": message_class})
        response = self._send("POST", "/scrubs", rows, content_type="text/csv", query=query)
        return response.content if response.status_code == 200 else bytes(_read(response, 0))

    def _found(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        try:
            return dict(self._call("GET", path, query=query))
        except Refused as error:
            if error.status == 404:
                return None
            raise

    # Calls.

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | list[Any] | None = None, *, first: int = 0, **how: Any
    ) -> Any:
        """The JSON answer to a JSON body. `first` is the place in the caller's list of the first that is sent."""
        data = None if body is None else json.dumps(body).encode()
        return _read(self._send(method, path, data, **how), first)

    def _send(
        self,
        method: str,
        path: str,
        data: bytes | None,
        *,
        content_type: str = "application/json",
        query: Mapping[str, Any] | None = None,
        retries: int | None = None,
        longest_wait: float = LONGEST_WAIT,
    ) -> requests.Response:
        """The first answer that is one. Raises TryLater when there is none."""
        request = requests.Request(method, self._root + path, data=data, params=query, auth=self._auth)
        if data is not None:
            request.headers = {"Content-Type": content_type}
        left = self._retries if retries is None else min(retries, self._retries)
        pause = 0.5
        while True:
            response, trouble = self._once(request)
            if response is not None and response.status_code < 500 and response.status_code != 429:
                return response
            if left == 0:
                break
            left -= 1
            time.sleep(_wait(response, pause, longest_wait))
            pause = min(2 * pause, longest_wait)
        raise TryLater(f"the preference center does not answer ({trouble})", getattr(response, "status_code", None))

    def _once(self, request: requests.Request) -> tuple[requests.Response | None, str]:
        """The answer, or None, and what is to be said of it. What `requests` says of an error would repeat the URL."""
        session = self._session()
        prepared = session.prepare_request(request)
        how = session.merge_environment_settings(prepared.url, {}, None, None, None)
        try:
            response = session.send(prepared, timeout=self._timeout, allow_redirects=False, **how)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            return None, type(error).__name__
        return response, f"status {response.status_code}"

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            self._sessions.append(session)
        return session


class _Bearer(requests.auth.AuthBase):
    """The key, on each call. As `auth`, so that no `.netrc` of the machine takes its place."""

    def __init__(self, key: str) -> None:
        self._header = f"Bearer {key}"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._header
        return request


def stable_ref(*parts: object) -> str:
    """An `origin_ref` that is the same whenever it is made of the same parts: your own words for what happened.

    `stable_ref("unsubscribe form", 4711)`: what the parts say cannot be read from it, so an address may be one of them.
    """
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:32]


def _question(about: About) -> dict[str, Any]:
    fields = {"channel": "email", "count": True, **about}
    fields["class"] = fields.pop("message_class", "marketing")
    if fields["count"] and not fields.get("message_ref"):
        # Made here and once, so that a repeated call takes no second place of a week.
        fields["message_ref"] = uuid.uuid4().hex
    return _without_none(**fields)


def _without_none(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _batches(items: Iterable[T]) -> Iterator[tuple[int, list[T]]]:
    """The items in lists of a call's size, each with the place of its first."""
    batch: list[T] = []
    first = size = 0
    for item in items:
        length = len(json.dumps(item))
        if batch and (len(batch) == BATCH or size + length > LARGEST):
            yield first, batch
            first, size, batch = first + len(batch), 0, []
        batch.append(item)
        size += length + 2
    if batch:
        yield first, batch


def _picked(kind: type[T], answer: Mapping[str, Any]) -> T:
    """The answer as this class. A field that a newer center adds is left out."""
    return kind(**{name: answer[name] for name in kind.__slots__})  # type: ignore[attr-defined]


def _decision_alone(address: str, message_class: str) -> Decision:
    allowed, rule = message_class in {"transactional", "notice"}, f"{message_class}.unavailable"
    return Decision(address=address, allowed=allowed, reason="unavailable", rule=rule, entry=None, degraded=True)


def _read(response: requests.Response, first: int) -> Any:
    """What the answer holds. Raises what its status means."""
    status = response.status_code
    if status == 401:
        raise Unauthorized("the key is not valid; `flask api-key create NAME` makes one", status)
    if status == 403:
        raise NotAllowed("the key lacks the scope for this call", status)
    if 300 <= status < 400:
        raise Refused("this address leads elsewhere: is the URL the one in PUBLIC_URL?", status)
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if status in {409, 422} and isinstance(answer, dict):
        raise BadFields([_wrong(error, first) for error in answer.get("errors", ())], status)
    if status >= 400:
        raise Refused(f"the call was refused with status {status}", status)
    if not isinstance(answer, dict):
        raise Refused("what answers at this address is not a preference center", status)
    return answer


def _wrong(error: Mapping[str, str], first: int) -> WrongField:
    """A wrong field, its place counted in the caller's own list."""
    field = re.sub(r"\[(\d+)\]", lambda found: f"[{int(found[1]) + first}]", error["field"], count=1)
    return WrongField(field, error["detail"])


def _wait(response: requests.Response | None, pause: float, longest: float) -> float:
    """Seconds until the next try: what `Retry-After` asks for, or a pause; not for all clients at the same moment."""
    text = response.headers.get("Retry-After", "") if response is not None else ""
    least = float(text) if text.isdecimal() else pause / 2
    return min(random.uniform(least, least + pause / 2), longest)  # noqa: S311 - spreads load, hides nothing


# List headers.


class BadHeader(ValueError):
    """A list header that a message cannot carry as it is. Names the header, never its value."""


def put_list_headers(message: Message[Any, Any], headers: Mapping[str, str]) -> None:
    """Put the `headers` of a `Links` on a message, each once, on one line, exactly as they are.

    Whatever the message had of them before is taken away, so none (`{}`) leaves it without list headers. With its usual
    policies, Python encodes a `List-Unsubscribe` of more than 75 characters into something that mail programs do not
    read (python/cpython#85725); what is put here passes every policy untouched. `str(message["List-Id"])` reads one.

    Raises BadHeader, and leaves the message alone, for a header that would not fit or is not plain ASCII.
    """
    for name, value in headers.items():
        _check_header(name, value)
    for name in {*LIST_HEADERS, *headers}:
        del message[name]
    for name, value in headers.items():
        message[name] = _AsItIs(name, value)


def _check_header(name: str, value: str) -> None:
    if not _LIST_HEADER.fullmatch(name):
        raise BadHeader("only List-… headers are put here")
    if not _PRINTABLE.fullmatch(value):
        raise BadHeader(f"{name} must be one line of printable ASCII")
    if len(name) + len(": ") + len(value) > LONGEST_LINE:
        raise BadHeader(f"{name} is longer than the {LONGEST_LINE} characters of a line; shorten PUBLIC_URL")


class _AsItIs(UserString):
    """A header that the policies of `email` write as it is. They fold what is a `str`; this is not one, but reads like
    one. They ask it to fold itself if it has a name, and the oldest of them to encode itself."""

    def __init__(self, name: str, value: str) -> None:
        super().__init__(value)
        self.name = name

    def fold(self, *, policy: Policy) -> str:
        return f"{self.name}: {self.data}{policy.linesep}"

    def encode(self, *_: object, **__: object) -> str:  # type: ignore[override]
        return self.data
