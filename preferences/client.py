"""A client for sending systems: one file to copy, for Python 3.11 and `requests`.

    client = Client("https://preferences.example.com", "pref_…")
    if client.may_send("jane@example.com", topic="product-news").allowed:
        …

Invariants: a repeated call counts once; without an answer, marketing is not sent and a transactional message is; no
address, key or link is in an exception or a log line. Threads may share a client; each keeps its own connection open.
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
"""Addresses, contacts or acts in a call."""

LARGEST: Final = 3_500_000
"""Characters in a call; the center reads 4 MB."""

LONGEST_WAIT: Final = 120.0
"""Maximum seconds before a retry, whatever `Retry-After` says."""

LIST_HEADERS: Final = ("List-Unsubscribe", "List-Unsubscribe-Post", "List-Id")
LONGEST_LINE: Final = 998
"""Characters (RFC 5322 §2.1.1)."""

_PRINTABLE: Final = re.compile(r"[ -~]*[!-~]")
_LIST_HEADER: Final = re.compile(r"List-[A-Za-z-]+")

Channel = Literal["email", "sms", "voice", "post"]
MessageClass = Literal["marketing", "transactional", "notice"]
T = TypeVar("T")


class About(TypedDict, total=False):
    """The message that a decision is about.

    Defaults: `message_class` is marketing, `channel` is email. `message_ref` names the mailing, which counts once
    against a contact's frequency limit. `count=False` does not count.
    """

    message_class: MessageClass
    topic: str | None
    channel: Channel
    brand: str | None
    message_ref: str | None
    count: bool


log = logging.getLogger(__name__)


# Answers.


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`entry` is the ledger entry behind a refusal; `degraded` means that a fact was unknown."""

    address: str
    allowed: bool
    reason: str
    rule: str
    entry: int | None
    degraded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """For a message to `address`. The URLs are None and the headers empty if it must not have any."""

    address: str
    unsubscribe_url: str | None
    manage_url: str | None  # also None until a contact confirms an address that a system added
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOff:
    """Where to send the browser of a logged-in customer, and until when."""

    url: str
    expires_at: datetime


# Errors.


class ApiError(Exception):
    """A call failed. `status` is the HTTP status, or None without an answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class TryLater(ApiError):
    """No answer after every retry. It is safe to repeat the call later."""


class Unauthorized(ApiError):
    """The key is wrong or expired: create another."""


class NotAllowed(ApiError):
    """The key lacks the scope for this call."""


class Refused(ApiError):
    """The call, or its URL, is wrong."""


@dataclass(frozen=True, slots=True)
class WrongField:
    """Indices, as in `addresses[10003]`, are those of your own list."""

    field: str
    detail: str


class BadFields(Refused):
    """Correct `fields`. Earlier calls for the same list took effect."""

    def __init__(self, fields: Sequence[WrongField], status: int = 422) -> None:
        some = ", ".join(wrong.field for wrong in fields[:3])
        super().__init__(f"wrong: {some}{' …' if len(fields) > 3 else ''} (see .fields)", status)
        self.fields = tuple(fields)


class Client:
    """Calls the preference center at `url` with a key.

    `timeout` is in seconds, to connect and again for each answer. After no connection, 429 or 5xx, a call is repeated
    `retries` times at most, after `Retry-After` or about 0.5, 1, 2, 4 … seconds. Repeating is safe.
    """

    def __init__(self, url: str, key: str, *, timeout: float = 30.0, retries: int = 4) -> None:
        self._root = f"{url.rstrip('/')}/api/v1"
        self._auth = _Bearer(key)
        self._timeout = timeout
        self._retries = retries
        self._local = threading.local()
        self._sessions: list[requests.Session] = []
        self.unanswered = 0
        """How many times `may_send` decided alone: monitor it."""

    def close(self) -> None:
        while self._sessions:
            self._sessions.pop().close()
        self._local = threading.local()

    def may_send(self, address: str, **about: Unpack[About]) -> Decision:
        """May we send this message now? Always answers, within about twice the timeout.

        If the center is unreachable, the reason is `unavailable`: no to marketing, yes (`degraded`) to a transactional
        message or notice, even with an invalid key. For marketing, an invalid key raises Unauthorized or NotAllowed.
        Raises BadFields.
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
        """May we send? An answer for each address, in order, 10,000 per call, streamed.

        Raises TryLater if the center is unreachable. Give a `message_ref`, so that a restart does not count twice;
        without it, each use of this method is a new mailing.
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
        """Links and headers for a message to each address, in order. New contacts are created."""
        asked = _without_none(channel=channel, topic=topic, brand=brand, message_ref=message_ref)
        for first, batch in _batches(addresses):
            answer = self._call("POST", "/links", {**asked, "addresses": batch}, first=first)
            yield from (_picked(Links, links) for links in answer["links"])

    def hand_off(self, address: str, *, channel: Channel = "email", brand: str | None = None) -> HandOff:
        """A sign-in URL for a customer who is logged in with you: single use, two minutes."""
        answer = self._call("POST", "/hand-offs", _without_none(address=address, channel=channel, brand=brand))
        return HandOff(url=answer["url"], expires_at=datetime.fromisoformat(answer["expires_at"]))

    def put_contacts(self, contacts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Add contacts or addresses, 10,000 per call. Returns a result for each, in order."""
        done: list[dict[str, Any]] = []
        for first, batch in _batches(contacts):
            done += self._call("PUT", "/contacts", {"contacts": batch}, first=first)["contacts"]
        return done

    def get_contact(self, contact_id: str) -> dict[str, Any] | None:
        """A contact's data, or None."""
        return self._found("/contacts/" + quote(contact_id, safe=""))

    def find_contact(self, address: str, *, channel: Channel = "email") -> dict[str, Any] | None:
        """Like `get_contact`, by address."""
        return self._found("/contacts", {"address": address, "channel": channel})

    def record(self, acts: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Record acts in order, 10,000 per call, durably. Returns their entries.

        Each needs your own `origin_ref` (see `stable_ref`), so repetitions count once: after an error, send the same
        acts again. Raises BadFields for wrong acts, or another act's reference.
        """
        done: list[dict[str, Any]] = []
        for first, batch in _batches(acts):
            done += self._call("POST", "/acts", batch, first=first)["entries"]
        return done

    def suppressions(
        self, *, channel: Channel = "email", topic: str | None = None, brand: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Addresses that opted out of this topic, or are undeliverable; without a topic, of all the brand's."""
        asked = _without_none(channel=channel, topic=topic, brand=brand)
        while True:
            page = self._call("GET", "/suppressions", query=asked)
            yield from page["suppressions"]
            if page["next"] is None:
                return
            asked["after"] = page["next"]

    def entries(self, after: int = 0) -> Iterator[dict[str, Any]]:
        """The ledger after this position, to its end. Store the `seq` of the last entry processed and continue there:
        nothing is skipped or repeated."""
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
        """Add or update topics, all or none. Returns every topic."""
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
        """Adds `allowed` and `reason` to a CSV file of at most 8 MB and 100,000 rows. Does not count."""
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

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | list[Any] | None = None, *, first: int = 0, **how: Any
    ) -> Any:
        """The JSON answer. `first` is the index of the batch in the caller's list."""
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
        """Raises TryLater."""
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
        """The answer or None, and a description without the URL, which `requests` errors contain."""
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
    """As `auth`, so that `.netrc` does not replace it."""

    def __init__(self, key: str) -> None:
        self._header = f"Bearer {key}"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._header
        return request


def stable_ref(*parts: object) -> str:
    """An `origin_ref` from your own words, as in `stable_ref("unsubscribe form", 4711)`. Hashed, so addresses are
    allowed."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:32]


def _question(about: About) -> dict[str, Any]:
    fields = {"channel": "email", "count": True, **about}
    fields["class"] = fields.pop("message_class", "marketing")
    if fields["count"] and not fields.get("message_ref"):
        # Made once, so that a retry does not count twice.
        fields["message_ref"] = uuid.uuid4().hex
    return _without_none(**fields)


def _without_none(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _batches(items: Iterable[T]) -> Iterator[tuple[int, list[T]]]:
    """Batches, each with the index of its first item."""
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
    """Ignores fields that a newer center adds."""
    return kind(**{name: answer[name] for name in kind.__slots__})  # type: ignore[attr-defined]


def _decision_alone(address: str, message_class: str) -> Decision:
    allowed, rule = message_class in {"transactional", "notice"}, f"{message_class}.unavailable"
    return Decision(address=address, allowed=allowed, reason="unavailable", rule=rule, entry=None, degraded=True)


def _read(response: requests.Response, first: int) -> Any:
    """The JSON of an answer. Raises the error for its status."""
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
    """With the index in the caller's list."""
    field = re.sub(r"\[(\d+)\]", lambda found: f"[{int(found[1]) + first}]", error["field"], count=1)
    return WrongField(field, error["detail"])


def _wait(response: requests.Response | None, pause: float, longest: float) -> float:
    """Seconds until a retry: `Retry-After` or `pause`, randomised to spread clients."""
    text = response.headers.get("Retry-After", "") if response is not None else ""
    least = float(text) if text.isdecimal() else pause / 2
    return min(random.uniform(least, least + pause / 2), longest)  # noqa: S311 - spreads load, hides nothing


# List headers.


class BadHeader(ValueError):
    """A message cannot carry this header. The value is not shown."""


def put_list_headers(message: Message[Any, Any], headers: Mapping[str, str]) -> None:
    """Set the `headers` of a `Links` on a message, each on a single line, replacing its list headers; `{}` removes
    them.

    Python's usual policies encode a long `List-Unsubscribe` so that mail programs cannot read it
    (python/cpython#85725); these pass every policy unchanged. Read one with `str(message["List-Id"])`.

    Raises BadHeader, before any change, for a header that is too long or not plain ASCII.
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
    """A header that the policies of `email` write unchanged: they fold a `str`, but call `fold` of a named object, or
    `encode` in the oldest policy."""

    def __init__(self, name: str, value: str) -> None:
        super().__init__(value)
        self.name = name

    def fold(self, *, policy: Policy) -> str:
        return f"{self.name}: {self.data}{policy.linesep}"

    def encode(self, *_: object, **__: object) -> str:  # type: ignore[override]
        return self.data
