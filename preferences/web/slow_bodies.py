"""Request bodies that arrive slowly: how many threads may wait for them.

Owns the middleware around every request's body. Invariant: however many clients send their bodies slowly or never, at
least half of the threads that a process has been seen to use never wait for one.

A WSGI server hands over the body as a stream whose `read` blocks until the client has sent it. granian offers no
timeout for it, and no way to give up a read that has begun, so the number of threads inside such a read is limited
instead. A reverse proxy that collects the body first (docs/operator.md) is what makes slow bodies harmless.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from werkzeug.exceptions import ClientDisconnected, RequestTimeout

if TYPE_CHECKING:
    from _typeshed.wsgi import InputStream, StartResponse, WSGIApplication, WSGIEnvironment

SECONDS_FOR_A_TURN: Final = 0.1
"""How long a request waits for its turn to read. Reading a body that has arrived takes far less."""

Result = TypeVar("Result")


class NoTurn(RequestTimeout):
    """Too many other requests are waiting for their bodies, so this one was not read."""


class Turns:
    """Which requests may read their body now: half as many as were ever at work at the same time, and at least one.

    The number of threads is the server's setting, and the most requests at work at once is how it shows here.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._at_work = 0
        self._most_at_work = 0
        self._reading = 0

    @contextmanager
    def request(self) -> Iterator[None]:
        """A request is at work."""
        with self._changed:
            self._at_work += 1
            self._most_at_work = max(self._most_at_work, self._at_work)
        try:
            yield
        finally:
            with self._changed:
                self._at_work -= 1

    def take(self, read: Callable[[], Result]) -> Result:
        """Call `read` when it is this request's turn. Raises NoTurn."""
        with self._changed:
            if not self._changed.wait_for(self._is_free, SECONDS_FOR_A_TURN):
                raise NoTurn
            self._reading += 1
        try:
            return read()
        finally:
            with self._changed:
                self._reading -= 1
                self._changed.notify()

    def _is_free(self) -> bool:
        return self._reading < max(1, self._most_at_work // 2)


class _Body:
    """The body of one request. Raises NoTurn, and ClientDisconnected for one that ends before its announced length."""

    def __init__(self, stream: InputStream, turns: Turns, length: int | None) -> None:
        self._stream = stream
        self._turns = turns
        self._missing = length

    def read(self, size: int = -1, /) -> bytes:
        """As of any binary stream; nothing here uses its other methods."""
        if self._missing is not None:
            size = self._missing if size < 0 else min(size, self._missing)
            if size == 0:
                return b""
        return self._count(self._turns.take(lambda: self._stream.read(size) if size >= 0 else self._stream.read()))

    def _count(self, data: bytes) -> bytes:
        if self._missing is not None:
            if not data:
                raise ClientDisconnected
            self._missing -= len(data)
        return data


class SlowBodies:
    """Middleware: requests read their bodies in turns."""

    def __init__(self, behind: WSGIApplication) -> None:
        self._behind = behind
        self._turns = Turns()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with self._turns.request():
            if environ["REQUEST_METHOD"] not in {"GET", "HEAD", "OPTIONS"}:
                environ["wsgi.input"] = _Body(environ["wsgi.input"], self._turns, _length(environ))
            return self._behind(environ, start_response)


def _length(environ: WSGIEnvironment) -> int | None:
    """The announced length. None where the server itself finds the end: a chunked body."""
    text = environ.get("CONTENT_LENGTH", "")
    if environ.get("HTTP_TRANSFER_ENCODING"):
        return None
    return int(text) if text.isdecimal() else 0
