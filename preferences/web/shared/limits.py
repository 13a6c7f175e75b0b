"""Flask-Limiter: rate limits per network and API key, stored at `RATE_LIMIT_URL`.

Invariant: opt-outs are never limited here. Limits per process: `people.rate_limits`.
"""

from __future__ import annotations

from typing import Final

from flask import request
from flask_limiter import Limiter
from limits import parse

from preferences.domain.errors import TooOften
from preferences.web.shared.evidence import shorten_ip

GUESSES: Final = "60 per minute; 600 per hour"
"""Per network: tried codes, and sign-ins begun at a provider."""

UNKNOWN_NETWORK: Final = "unknown"
"""Requests without an address, as from a local socket, share a limit."""


def network() -> str:
    """The request's network. Never empty: an empty key would disable the limit."""
    return shorten_ip(request.remote_addr or "") or UNKNOWN_NETWORK


# Without the shared storage, counts in this process: a limit must not cause an outage.
limiter = Limiter(key_func=network, in_memory_fallback_enabled=True)


def check_api_limit(limit: str, key_name: str) -> None:
    """Count a call by key name, which survives rotation. Raises TooOften beyond the limit."""
    try:
        is_within = limiter.limiter.hit(parse(limit), "api", key_name)
    except Exception:  # noqa: BLE001 - any failure means that the storage is away
        return
    if not is_within:
        raise TooOften("too many calls with one key")
