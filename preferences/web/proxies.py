"""The client's address and scheme behind reverse proxies.

Owns `REMOTE_ADDR` and `wsgi.url_scheme` as the application sees them. Invariant: `REMOTE_ADDR` is an IP address in its
usual form whenever one is known; where a proxy's header cannot be read, it is the address of that proxy.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class BehindProxies:
    """Middleware. `hops` is the number of proxies in front: what the outermost of them wrote is trusted.

    Each proxy appends to `X-Forwarded-For`, so the client's address is that many values from the right. Anything left
    of it was written by the client.
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
    """An IP address as proxies write it: with a port, in brackets, in quotes, or IPv4 as IPv6. Empty for none."""
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
