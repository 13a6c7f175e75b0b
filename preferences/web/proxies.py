"""Where a request comes from: the client's address and scheme, behind so many reverse proxies.

Owns `REMOTE_ADDR` and `wsgi.url_scheme` as the application sees them. Invariant: `REMOTE_ADDR` is an IP address in its
usual form whenever one is known; what a proxy wrote and cannot be read leaves the address of the proxy itself.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class BehindProxies:
    """Middleware. `hops` is how many proxies in a row stand in front: what the outermost of them wrote is believed.

    Each of them appends to `X-Forwarded-For`, so the client's address is that many places from the right; whatever
    stands left of it was written by the client.
    """

    def __init__(self, behind: WSGIApplication, hops: int) -> None:
        self._behind = behind
        self._hops = hops

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        peer: str = environ.get("REMOTE_ADDR", "")
        address = read_address(self._written(environ, "HTTP_X_FORWARDED_FOR"))
        environ["REMOTE_ADDR"] = address or read_address(peer)
        scheme = self._written(environ, "HTTP_X_FORWARDED_PROTO").lower()
        if scheme in {"http", "https"}:
            environ["wsgi.url_scheme"] = scheme
        return self._behind(environ, start_response)

    def _written(self, environ: WSGIEnvironment, name: str) -> str:
        values = environ.get(name, "").split(",") if self._hops else []
        return values[-self._hops].strip() if len(values) >= self._hops > 0 else ""


def read_address(text: str) -> str:
    """An IP address as proxies write it: with a port, in brackets, in quotes, or of IPv4 as IPv6. Empty for none."""
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
