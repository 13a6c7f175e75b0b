"""Evidence of web acts: shortened IP address, user agent, message reference.

Invariant: never a full IP address.
"""

from __future__ import annotations

import socket
from typing import Final

from werkzeug.wrappers import Request

MAPPED: Final = bytes(10) + b"\xff\xff"
"""IPv4-mapped prefix (RFC 4291 §2.5.5.2)."""

LONGEST_USER_AGENT: Final = 200


def evidence_of(request: Request, message_ref: str = "") -> dict[str, str]:
    """Evidence to store with entries, without empty values."""
    evidence = {}
    if network := shorten_ip(request.remote_addr or ""):
        evidence["network"] = network
    # `request.headers` costs four calls.
    if user_agent := request.environ.get("HTTP_USER_AGENT"):
        evidence["user_agent"] = user_agent[:LONGEST_USER_AGENT]
    if message_ref:
        evidence["message_ref"] = message_ref
    return evidence


def shorten_ip(text: str) -> str:
    """The network of an address: /24 of IPv4, /48 of IPv6; empty if invalid."""
    for family, kept, length in ((socket.AF_INET, 3, 24), (socket.AF_INET6, 6, 48)):
        try:
            packed = socket.inet_pton(family, text)
        except (OSError, ValueError):
            continue
        if packed.startswith(MAPPED):
            return shorten_ip(socket.inet_ntop(socket.AF_INET, packed[-4:]))
        return f"{socket.inet_ntop(family, packed[:kept].ljust(len(packed), bytes(1)))}/{length}"
    return ""
