"""Verified provider reports.

Invariant: no byte of a body is parsed before verification.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog
from flask import Flask, abort
from werkzeug.exceptions import ClientDisconnected, NotFound, RequestEntityTooLarge
from werkzeug.wrappers import Request

from preferences.connectors import find_kind, make_connector
from preferences.connectors.base import Connector
from preferences.current import services_of
from preferences.domain.errors import BadPayload, BadSignature, Misconfigured
from preferences.web.shared.render import plain

log = structlog.get_logger(__name__)

MADE: Final = "webhook-connectors"


@dataclass(frozen=True, slots=True)
class Report:
    """A verified request: headers with lower-case names, and body."""

    headers: Mapping[str, str]
    body: bytes


def get_connector(app: Flask, name: str) -> Connector:
    """The connector, created once, because some keys load slowly. Raises NotFound."""
    made: dict[str, Connector] = app.extensions.setdefault(MADE, {})
    if name not in made:
        settings = services_of(app).connectors.get(name)
        kind = find_kind(settings.kind) if settings else None
        if settings is None or kind is None:
            raise NotFound
        try:
            made[name] = make_connector(settings)
        except Misconfigured as error:
            # Providers keep reports until the settings are fixed.
            log.error("connector misconfigured", connector=name, why=str(error))
            abort(plain("try again\n", kind.busy_code))
    if not made[name].takes_webhooks:
        raise NotFound
    return made[name]


def read_verified(connector: Connector, request: Request, *, public_url: str) -> Report:
    """Raises BadSignature, BadPayload and NoThreadFree."""
    headers = {key.lower(): value for key, value in request.headers.items()}
    url = _url(connector.name, request, public_url)
    if not connector.signs_body:
        connector.verify(headers, b"", url=url)
    body = _read_body(connector, request)
    if connector.signs_body:
        connector.verify(headers, body, url=url)
    return Report(headers, body)


def _read_body(connector: Connector, request: Request) -> bytes:
    """Raises BadSignature for a body above the provider's maximum, and BadPayload for a truncated one.

    A body with too large a length is not read. Servers may end a body silently when the client disconnects
    (`wsgi.input_terminated`: granian, seen 2026-11-30); one without a length is cut at the limit.
    """
    length, most = request.content_length, connector.longest_body
    if length is None and connector.needs_length:
        raise BadPayload("without a length")
    request.max_content_length = most
    try:
        body = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise BadSignature("too long") from None
    except ClientDisconnected:
        raise BadPayload("cut off") from None
    if len(body) >= most:
        raise BadSignature("too long")
    if len(body) < (length or 0):
        raise BadPayload("cut off")
    return body


def _url(name: str, request: Request, public_url: str) -> str:
    """The webhook's URL as configured at the provider; a proxy may have changed the request's."""
    query, slash = request.query_string.decode("latin-1"), "/" if request.path.endswith("/") else ""
    return f"{public_url}/webhooks/{name}{slash}{'?' if query else ''}{query}"
