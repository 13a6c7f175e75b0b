"""Providers that sign nothing: their webhooks carry a secret.

Invariant: without a configured secret nothing is authentic; comparison takes constant time.
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
    """The secret is the basic-auth password (or `user:password`), a bearer token, `X-Webhook-Secret`, or `?secret=`.

    Use `?secret=` only for providers that set no headers, since URLs end up in logs.
    """

    signs_body = False

    def verify(self, headers: Mapping[str, str], body: bytes, *, url: str = "") -> None:
        given = [_digest(secret) for secret in _secrets_given(headers, url)]
        known = [_digest(secret) for secret in self.settings.webhook_secrets if secret]
        # Compare all pairs, for constant time.
        if not sum(hmac.compare_digest(secret, other) for secret in given for other in known):
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
