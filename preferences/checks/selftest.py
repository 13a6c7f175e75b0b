"""Calls the one-click URL of a live site as mail programs do (RFC 8058).

Invariants: calls only the given base URL, follows no redirect, sends only to a canary's link, and quotes no link.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

SECONDS: Final = 15.0
PAIR: Final = b"List-Unsubscribe=One-Click"
FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}
MULTIPART: Final = b'--x\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--x--\r\n'
TAKEN: Final = (200, 202)
TOGETHER: Final = 20
"""Concurrent posts of one link."""

SLOW: Final = 40
"""Connections stalled in the middle of a body during a click."""

HALF_A_POST: Final = (("Content-Type", FORM["Content-Type"]), ("Content-Length", "100"))

PAGE_HEADERS: Final = {
    "Cache-Control": ("no-store",),
    "X-Robots-Tag": ("noindex",),
    "Content-Security-Policy": ("default-src",),
    "Referrer-Policy": ("same-origin", "no-referrer"),
    "X-Content-Type-Options": ("nosniff",),
}


@dataclass(frozen=True, slots=True)
class Canary:
    """A test contact: its link's token and the site's decisions, None for a link that was given."""

    token: str
    has_left: Callable[[], bool] | None = None
    gets_transactional: Callable[[], bool] | None = None


@dataclass(frozen=True, slots=True)
class Check:
    rule: str
    title: str
    trouble: str = ""

    @property
    def passed(self) -> bool:
        return not self.trouble


@dataclass(frozen=True, slots=True)
class Answer:
    """Status 0 means no answer; `body` is then the reason."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A kind of call. `acts`: whether the mail must stop; None if a refusal is also right."""

    rule: str
    title: str
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=lambda: FORM)
    body: bytes | None = PAIR
    ending: str = ""
    in_chunks: bool = False
    version: int = 11
    acts: bool | None = True


SHAPES: Final = (
    Shape(rule="O-01", title="POST, urlencoded"),
    Shape(
        rule="O-02",
        title="POST, multipart",
        headers={"Content-Type": "multipart/form-data; boundary=x"},
        body=MULTIPART,
    ),
    Shape(rule="O-03", title="POST with Origin: null", headers={**FORM, "Origin": "null"}),
    Shape(
        rule="O-03",
        title="POST with another site's Origin and Referer",
        headers={**FORM, "Origin": "https://mail.example", "Referer": "https://mail.example/inbox"},
    ),
    Shape(rule="O-03", title="POST with a cookie of somebody else", headers={**FORM, "Cookie": "session=abc.def.ghi"}),
    Shape(rule="O-04", title="POST with a slash at the end", ending="/"),
    Shape(rule="O-04", title="POST with the host in capitals", headers={**FORM, "Host": ""}),
    Shape(rule="O-04", title="POST with X-Forwarded-Proto: http", headers={**FORM, "X-Forwarded-Proto": "http"}),
    Shape(rule="O-04", title="POST with Accept-Language: ar", headers={**FORM, "Accept-Language": "ar"}),
    Shape(rule="O-04", title="POST with Accept: text/html", headers={**FORM, "Accept": "text/html"}),
    Shape(rule="O-04", title="POST by HTTP/1.0", version=10),
    Shape(rule="O-04", title="POST in chunks", in_chunks=True),
    Shape(rule="O-04", title="POST with Expect: 100-continue", headers={**FORM, "Expect": "100-continue"}),
    Shape(rule="O-07", title="GET changes nothing", method="GET", headers={}, body=None, acts=False),
    Shape(rule="O-07", title="HEAD changes nothing", method="HEAD", headers={}, body=None, acts=False),
    Shape(rule="O-07", title="OPTIONS changes nothing", method="OPTIONS", headers={}, body=None, acts=False),
    Shape(
        rule="O-07",
        title="GET ahead of a click changes nothing",
        method="GET",
        headers={"Purpose": "prefetch", "Sec-Purpose": "prefetch;prerender", "X-Moz": "prefetch"},
        body=None,
        acts=False,
    ),
    Shape(rule="O-09", title="POST without Content-Type", headers={}),
    Shape(rule="O-09", title="POST with an empty body", headers={}, body=b"", acts=None),
    Shape(rule="O-09", title="POST with an unknown body", headers={"Content-Type": "a/b"}, body=b"\x00\xff", acts=None),
    Shape(rule="O-16", title="POST with a body of 1 MB", body=b"x=" + b"a" * 1_000_000, acts=None),
    Shape(rule="O-16", title="PUT is refused", method="PUT", acts=False),
    Shape(rule="O-16", title="DELETE is refused", method="DELETE", headers={}, body=None, acts=False),
    Shape(rule="O-16", title="PATCH is refused", method="PATCH", acts=False),
)


class Prober:
    """Calls the site at `url`. `canary` creates a contact, reused while it still gets mail."""

    def __init__(self, url: str, canary: Callable[[], Canary]) -> None:
        self._base = urlsplit(url)
        self._canary = canary
        self._last: Canary | None = None
        self._answers: list[Answer] = []

    def checks(self) -> Iterator[Check]:
        for shape in SHAPES:
            yield self._check(shape)
        yield self._page()
        yield self._page_headers()
        yield self._bad_links()
        yield self._many_times()
        yield self._scope()
        yield self._slow_bodies()
        yield Check(
            "O-04", "No answer was a redirect", self._all(lambda answer: not 300 <= answer.status < 400, "redirected")
        )
        yield Check(
            "O-05", "No answer set a cookie", self._all(lambda answer: "set-cookie" not in answer.headers, "set one")
        )
        yield Check(
            "O-15",
            "No answer was 429, all coming from one place",
            self._all(lambda answer: answer.status != 429, "did"),
        )

    def _unspent(self) -> Canary:
        """A canary that still gets mail."""
        if self._last is None or self._last.has_left is None or self._last.has_left():
            self._last = self._canary()
        return self._last

    def _check(self, shape: Shape) -> Check:
        canary = self._unspent()
        answer = self._send(shape, canary.token)
        trouble = _status_trouble(shape, answer)
        left = canary.has_left() if canary.has_left else None
        if not trouble and left is not None:
            trouble = _effect_trouble(shape, answer, left=left)
        return Check(shape.rule, shape.title, trouble)

    def _page(self) -> Check:
        answer = self._send(Shape(rule="", title="", method="GET", headers={}, body=None), self._unspent().token)
        is_html = answer.headers.get("content-type", "").startswith("text/html")
        right = answer.status == 200 and is_html and b"<form" in answer.body
        trouble = "" if right else f"{_said(answer)}: it must be 200, HTML, with a form"
        return Check("O-08", "GET shows the page with its form", trouble)

    def _page_headers(self) -> Check:
        answer = self._send(Shape(rule="", title="", method="GET", headers={}, body=None), self._unspent().token)
        missing = [
            name
            for name, accepted in PAGE_HEADERS.items()
            if not any(value in answer.headers.get(name.lower(), "") for value in accepted)
        ]
        return Check("H-04", "The page's headers", f"missing or wrong: {', '.join(missing)}" if missing else "")

    def _many_times(self) -> Check:
        canary = self._unspent()
        with ThreadPoolExecutor(TOGETHER) as pool:
            answers = list(pool.map(lambda _: self._send(SHAPES[0], canary.token), range(TOGETHER)))
        answers.append(self._send(SHAPES[0], canary.token))
        wrong = [answer for answer in answers if answer.status not in TAKEN]
        trouble = f"{len(wrong)} of {len(answers)} failed, one with {_said(wrong[0])}" if wrong else ""
        if not trouble and canary.has_left and not canary.has_left():
            trouble = "the mail is not stopped"
        return Check("O-06", f"{TOGETHER} POSTs at once, and one more", trouble)

    def _slow_bodies(self) -> Check:
        title = f"{SLOW} bodies that never end do not hold up a click"
        slow = self._unspent().token
        self._last = None  # the stalled posts may still take effect on their link
        with ExitStack() as stack:
            try:
                for _ in range(SLOW):
                    connection = self._connection(11)
                    stack.callback(connection.close)
                    self._begin_post(connection, slow)
            except OSError as error:
                return Check("O-17", title, f"no connection ({type(error).__name__})")
            canary = self._unspent()
            answer = self._send(SHAPES[0], canary.token)
            left = canary.has_left() if canary.has_left else None
        trouble = _status_trouble(SHAPES[0], answer)
        if trouble:
            trouble += ". The proxy must collect a body before it passes a request on: see docs/operator.md, section 3"
        elif left is False:
            trouble = "the mail is not stopped"
        return Check("O-17", title, trouble)

    def _begin_post(self, connection: http.client.HTTPConnection, token: str) -> None:
        connection.putrequest("POST", f"{self._base.path.rstrip('/')}/u/{token}")
        for name, value in HALF_A_POST:
            connection.putheader(name, value)
        connection.endheaders(PAIR[:1])

    def _scope(self) -> Check:
        canary = self._unspent()
        self._send(SHAPES[0], canary.token)
        title = "Marketing stops at once, and transactional messages go on"
        if canary.has_left is None or canary.gets_transactional is None:
            return Check("O-12", f"{title} (not looked at: the link is not a canary's)")
        if not canary.has_left():
            return Check("O-12", title, "marketing is not stopped")
        return Check("O-12", title, "" if canary.gets_transactional() else "transactional messages are stopped too")

    def _bad_links(self) -> Check:
        token = self._unspent().token
        middle = len(token) // 2
        bad = (
            token[:-1] + ("A" if token[-1] != "A" else "B"),
            token[:middle] + ("A" if token[middle] != "A" else "B") + token[middle + 1 :],
            token[:middle],
            "A" * len(token),
        )
        answers = [self._send(SHAPES[0], url) for url in bad]
        if len({(answer.status, answer.body) for answer in answers}) > 1:
            return Check(
                "O-10", "Bad links are answered alike", "answers differ between a changed, a cut and a made-up one"
            )
        right = 400 <= answers[0].status < 500
        return Check("O-10", "Bad links are answered alike", "" if right else f"{_said(answers[0])}: it must be 4xx")

    def _all(self, is_right: Callable[[Answer], bool], what: str) -> str:
        wrong = sum(not is_right(answer) for answer in self._answers)
        return f"{wrong} of {len(self._answers)} answers {what}" if wrong else ""

    def _send(self, shape: Shape, token: str) -> Answer:
        try:
            answer = self._answer(shape, token)
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, body=type(error).__name__.encode())  # not its text, which may quote the link
        self._answers.append(answer)
        return answer

    def _answer(self, shape: Shape, token: str) -> Answer:
        connection = self._connection(shape.version)
        try:
            headers = dict(shape.headers)
            if "Host" in headers:
                headers["Host"] = self._base.netloc.upper()
            elif shape.version == 10:
                headers["Host"] = self._base.netloc  # Python omits it for HTTP/1.0; mail programs do not
            if shape.in_chunks:
                headers["Transfer-Encoding"] = "chunked"
            path = f"{self._base.path.rstrip('/')}/u/{token}{shape.ending}"
            body = iter([shape.body[:5], shape.body[5:]]) if shape.in_chunks and shape.body else shape.body
            connection.request(shape.method, path, body, headers, encode_chunked=shape.in_chunks)
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read(1_000_000))
        finally:
            connection.close()

    def _connection(self, version: int) -> http.client.HTTPConnection:
        host, port = self._base.hostname or "", self._base.port
        if self._base.scheme == "https":
            kind: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=SECONDS, context=ssl.create_default_context()
            )
        else:
            kind = http.client.HTTPConnection(host, port, timeout=SECONDS)
        if version == 10:
            vars(kind).update(_http_vsn=10, _http_vsn_str="HTTP/1.0")  # the only way to send HTTP/1.0
        return kind


def _said(answer: Answer) -> str:
    return f"status {answer.status}" if answer.status else f"no answer ({answer.body.decode()})"


def _status_trouble(shape: Shape, answer: Answer) -> str:
    status = answer.status
    if shape.title.endswith("is refused"):
        right = status == 405 and "POST" in answer.headers.get("allow", "")
        return "" if right else f"{_said(answer)}: it must be 405, with POST in Allow"
    if shape.acts is False:
        return "" if 200 <= status < 300 else f"{_said(answer)}: it must be 2xx"
    if status in TAKEN or (shape.acts is None and 400 <= status < 500):
        return ""
    return f"{_said(answer)}: it must be 200 or 202"


def _effect_trouble(shape: Shape, answer: Answer, *, left: bool) -> str:
    if shape.acts is False:
        return "it stopped the mail" if left else ""
    if left == (answer.status in TAKEN):
        return ""
    return "it was refused, and stopped the mail" if left else "it was answered as done, and the mail is not stopped"
