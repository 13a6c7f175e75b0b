"""Limits for each network and each API key, in the shared storage of `RATE_LIMIT_URL`.

Owns Flask-Limiter and its keys. Invariant: no opt-out is ever limited here; limits within one process are in
`people.rate_limits`.
"""

from __future__ import annotations

from typing import Final

from flask import request
from flask_limiter import Limiter
from limits import parse

from preferences.domain.errors import TooOften
from preferences.web.shared.evidence import shorten_ip

GUESSES: Final = "60 per minute; 600 per hour"
"""For each network: sign-in codes that are tried, and sign-ins at a provider that are begun."""

UNKNOWN_NETWORK: Final = "unknown"
"""The network of requests without an address, such as those by a local socket: they share one limit."""


def network() -> str:
    """The network of the current request. Never empty: without a key there would be no limit."""
    return shorten_ip(request.remote_addr or "") or UNKNOWN_NETWORK


# Counted in this process when the shared storage is away: a limit must not become an outage.
limiter = Limiter(key_func=network, in_memory_fallback_enabled=True)


def check_api_limit(limit: str, key_name: str) -> None:
    """Count a call with this key, by its name, which is the same after a rotation. Raises TooOften beyond the limit."""
    try:
        is_within = limiter.limiter.hit(parse(limit), "api", key_name)
    except Exception:  # noqa: BLE001 - any failure means that the shared storage is away
        return  # a limit must not become an outage
    if not is_within:
        raise TooOften("too many calls with one key")
