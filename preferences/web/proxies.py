"""Client address and scheme behind reverse proxies.

Invariant: `REMOTE_ADDR` is a canonical IP address if known; for an unreadable proxy header, that of the proxy.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class BehindProxies:
    """Middleware that trusts `hops` proxies.

    Each appends to `X-Forwarded-For`, so the client's address is that many values from the right; values before it are
    the client's own.
    """

    def __init__(self, behind: WSGIApplication, hops: int) -> None:
        self._behind = behind
        self._hops = hops

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        peer: str = environ.get("REMOTE_ADDR", "")
        if self._hops:
            peer = read_address(self._forwarded(environ, "HTTP_X_FORWARDED_FOR")) or peer
            scheme = self._forwarded(environ, "HTTP_X_FORWARDED_PROTO").lower()
            if scheme in {"http", "https"}:
                environ["wsgi.url_scheme"] = scheme
        environ["REMOTE_ADDR"] = read_address(peer)
        return self._behind(environ, start_response)

    def _forwarded(self, environ: WSGIEnvironment, name: str) -> str:
        values: list[str] = environ.get(name, "").split(",")
        return values[-self._hops].strip() if len(values) >= self._hops else ""


def read_address(text: str) -> str:
    """Parse an IP address with port, brackets or quotes, or IPv4 as IPv6. Empty if invalid."""
    try:
        socket.inet_pton(socket.AF_INET, text)
    except (OSError, ValueError):
        return _read_other_form(text)
    return text


def _read_other_form(text: str) -> str:
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
