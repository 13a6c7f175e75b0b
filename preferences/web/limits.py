"""Limits on how often, and how an address on the network is shortened before anything remembers it.

Owns the counters. Invariant: a signed link's first opt-out is never limited, by anything.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import Final

from flask import request
from flask_limiter import Limiter
from limits import parse

from preferences.domain.errors import PreferencesError

MOST_TOKENS: Final = 100_000

ADDRESS_BOX: Final = "60 per minute; 600 per hour"
"""For each network. A person types one or two addresses; a program that types a thousand stops other people's mail."""


def network() -> str:
    """The network that the request at hand comes from."""
    return shorten_ip(request.remote_addr or "")


# Counted in this process when the shared counter (`RATE_LIMIT_URL`) is away: a limit must not become an outage.
limiter = Limiter(key_func=network, in_memory_fallback_enabled=True)


class TooOften(PreferencesError):
    """Asked again and again. What was asked first has been done."""


def check_api_limit(limit: str, key_name: str) -> None:
    """Count one more call with this key, whichever of its texts it came with. Raises TooOften beyond the limit."""
    try:
        fits = limiter.limiter.hit(parse(limit), "api", key_name)
    except Exception:  # noqa: BLE001 - any failure of the shared counter is the same: it is away
        return  # a limit must not become an outage
    if not fits:
        raise TooOften("too many calls with one key")


class TokenLimit:
    """So many posts a minute for each link. Mail programs repeat themselves a few times; nobody does so 120 times.

    Per link and never per network: Google and Yahoo send everybody's clicks from a handful of addresses.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._lock = threading.Lock()
        self._minute = 0
        self._counts: dict[str, int] = {}

    def check(self, token: str) -> None:
        """Count one more. Raises TooOften beyond the limit: by then this link's choice was recorded many times."""
        minute = int(time.monotonic() // 60)
        with self._lock:
            if minute != self._minute or len(self._counts) > MOST_TOKENS:
                self._minute, self._counts = minute, {}
            count = self._counts[token] = self._counts.get(token, 0) + 1
        if count > self._per_minute:
            raise TooOften("the same link, too many times in a minute")


def shorten_ip(text: str) -> str:
    """The network an address belongs to: /24 for IPv4, /48 for IPv6; empty for what is not an address."""
    for family, kept, length in ((socket.AF_INET, 3, 24), (socket.AF_INET6, 6, 48)):
        try:
            packed = socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
        return f"{socket.inet_ntop(family, packed[:kept].ljust(len(packed), bytes(1)))}/{length}"
    return ""
