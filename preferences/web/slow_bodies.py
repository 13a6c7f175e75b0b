"""Limits threads that wait for slow request bodies.

Invariant: slow clients never block more than half of the threads that a process has used.

A WSGI stream's `read` blocks until the client sends, granian has no timeout for it, and a begun read cannot be
cancelled. A buffering reverse proxy (docs/operator.md) prevents slow bodies altogether.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, TypeVar

from werkzeug.exceptions import ClientDisconnected, RequestTimeout

if TYPE_CHECKING:
    from _typeshed.wsgi import InputStream, StartResponse, WSGIApplication, WSGIEnvironment

LONGEST_WAIT: Final = 0.1
"""Seconds that a request waits for permission to read."""

Result = TypeVar("Result")


class NoThreadFree(RequestTimeout):
    """Too many requests are waiting for their bodies; this one was not read."""


class BodyReadLimit:
    """At most half as many concurrent reads as the peak of concurrent requests, and at least one.

    The server's number of threads is not visible here; the peak stands in for it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free = threading.Condition(self._lock)
        self._handled = 0
        self._most_handled = 0
        self._reading = 0

    def enter(self) -> None:
        """Count a request. Each call needs one of `leave`."""
        with self._lock:
            self._handled += 1
            self._most_handled = max(self._most_handled, self._handled)

    def leave(self) -> None:
        with self._lock:
            self._handled -= 1

    def read(self, read: Callable[[], Result]) -> Result:
        """Call `read` when a thread may wait. Raises NoThreadFree."""
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
    """A request's body. Raises NoThreadFree, and ClientDisconnected if truncated."""

    def __init__(self, stream: InputStream, limit: BodyReadLimit, length: int | None) -> None:
        self._stream = stream
        self._limit = limit
        self._missing = length

    def read(self, size: int = -1, /) -> bytes:
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
    """The stated length; None if chunked."""
    text = environ.get("CONTENT_LENGTH", "")
    if environ.get("HTTP_TRANSFER_ENCODING"):
        return None
    return int(text) if text.isdecimal() else 0
