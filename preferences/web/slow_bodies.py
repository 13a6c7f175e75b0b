"""A limit on how many threads wait for slow request bodies.

Owns the middleware around every request's body. Invariant: however many clients send their bodies slowly or never, at
least half of the threads that a process has been seen to use never wait for one.

A WSGI server hands over the body as a stream whose `read` blocks until the client has sent it. granian has no timeout
for it, and a read that has begun cannot be cancelled, so the number of threads inside such a read is limited instead. A
reverse proxy that buffers the body (docs/operator.md) is what makes slow bodies harmless.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, TypeVar

from werkzeug.exceptions import ClientDisconnected, RequestTimeout

if TYPE_CHECKING:
    from _typeshed.wsgi import InputStream, StartResponse, WSGIApplication, WSGIEnvironment

LONGEST_WAIT: Final = 0.1
"""Seconds that a request waits before it may read. Reading a body that has arrived takes far less."""

Result = TypeVar("Result")


class NoThreadFree(RequestTimeout):
    """Too many other requests are waiting for their bodies, so this body was not read."""


class BodyReadLimit:
    """At most half as many requests read their body as were ever handled at the same time, and at least one.

    The number of threads is a setting of the server; the most requests handled at once is how it shows here.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free = threading.Condition(self._lock)
        self._handled = 0
        self._most_handled = 0
        self._reading = 0

    def enter(self) -> None:
        """Count a request that begins. Each call is followed by one of `leave`."""
        with self._lock:
            self._handled += 1
            self._most_handled = max(self._most_handled, self._handled)

    def leave(self) -> None:
        """Count a request that ends."""
        with self._lock:
            self._handled -= 1

    def read(self, read: Callable[[], Result]) -> Result:
        """Call `read` once a thread may wait for it. Raises NoThreadFree."""
        with self._lock:
            if not self._is_free() and not self._free.wait_for(self._is_free, LONGEST_WAIT):
                raise NoThreadFree
            self._reading += 1
        try:
            return read()
        finally:
            with self._lock:
                self._reading -= 1
                self._free.notify()

    def _is_free(self) -> bool:
        return self._reading < max(1, self._most_handled // 2)


class _Body:
    """The body of one request. Raises NoThreadFree, and ClientDisconnected where it ends before its stated length."""

    def __init__(self, stream: InputStream, limit: BodyReadLimit, length: int | None) -> None:
        self._stream = stream
        self._limit = limit
        self._missing = length

    def read(self, size: int = -1, /) -> bytes:
        """As of any binary stream, whose other methods are not used here."""
        if self._missing is None:
            return self._limit.read(lambda: self._stream.read(size) if size >= 0 else self._stream.read())
        size = self._missing if size < 0 else min(size, self._missing)
        if size == 0:
            return b""
        data = self._limit.read(lambda: self._stream.read(size))
        if not data:
            raise ClientDisconnected
        self._missing -= len(data)
        return data


class SlowBodies:
    """Middleware that puts every request body behind the limit."""

    def __init__(self, behind: WSGIApplication) -> None:
        self._behind = behind
        self._limit = BodyReadLimit()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self._limit.enter()
        try:
            if environ["REQUEST_METHOD"] not in {"GET", "HEAD", "OPTIONS"}:
                environ["wsgi.input"] = _Body(environ["wsgi.input"], self._limit, _length(environ))
            return self._behind(environ, start_response)
        finally:
            self._limit.leave()


def _length(environ: WSGIEnvironment) -> int | None:
    """The stated length. None where the server itself finds the end: a chunked body."""
    text = environ.get("CONTENT_LENGTH", "")
    if environ.get("HTTP_TRANSFER_ENCODING"):
        return None
    return int(text) if text.isdecimal() else 0
