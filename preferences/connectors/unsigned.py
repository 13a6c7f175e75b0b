"""Providers that sign nothing: their webhooks prove themselves by a secret that they were given with the address.

Owns where that secret may stand, and its comparison. Not the parsing. Invariant: without a configured secret nothing is
authentic, and comparing takes as long for a wrong secret as for the right one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import parse_qs, urlsplit

from preferences.connectors.base import Connector
from preferences.domain.errors import BadSignature

HEADER: Final = "x-webhook-secret"
PARAMETER: Final = "secret"


class UnsignedConnector(Connector):
    """A provider whose webhooks bear a secret: as the password of basic authentication (or as `user:password` whole),
    as a bearer token, in `X-Webhook-Secret`, or as `?secret=` of the address. Header where the vendor can: an address
    ends up in logs."""

    signs_body = False

    def verify(self, headers: Mapping[str, str], body: bytes, *, url: str = "") -> None:
        given = [_digest(one) for one in _secrets_given(headers, url)]
        known = [_digest(one) for one in self.settings.webhook_secrets if one]
        # All pairs, without an early end: how long it takes says nothing about which of them came close.
        if not sum(hmac.compare_digest(one, other) for one in given for other in known):
            raise BadSignature("no secret fits")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _secrets_given(headers: Mapping[str, str], url: str) -> Iterator[str]:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield value.strip()
    if scheme.lower() == "basic":
        yield from _basic(value.strip())
    if HEADER in headers:
        yield headers[HEADER]
    yield from _in_address(url)


def _basic(value: str) -> Iterator[str]:
    try:
        pair = base64.b64decode(value, validate=True).decode()
    except ValueError:
        return
    yield pair
    yield pair.partition(":")[2]


def _in_address(url: str) -> Iterator[str]:
    try:
        yield from parse_qs(urlsplit(url).query, max_num_fields=20).get(PARAMETER, [])
    except ValueError:
        return
