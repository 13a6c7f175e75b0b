"""What providers report.

Owns `/webhooks/<connector>`: verify on the raw bytes, parse, record, answer. Invariants: 2xx only after the commit;
every answer is one that this provider understands (`busy_code`, `refused_code`); nothing sent in can cause a 500.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Final

import structlog
from flask import Blueprint, abort, current_app, request
from werkzeug.exceptions import ClientDisconnected, NotFound, RequestEntityTooLarge
from werkzeug.wrappers import Response

from preferences.connectors import find_kind, make_connector
from preferences.connectors.base import Connector, Parsed
from preferences.domain.acts import bears_on_permission, provider_event
from preferences.domain.errors import BadPayload, BadSignature, Misconfigured, Rejected, StoreBusy, TryLater
from preferences.site import current_site
from preferences.store import webhook_tokens
from preferences.web import metrics
from preferences.web.pages import plain
from preferences.web.slow_bodies import NoTurn

blueprint = Blueprint("webhooks", __name__)
log = structlog.get_logger(__name__)

MADE: Final = "webhook-connectors"


@blueprint.get("/webhooks/<name>")
def exists(name: str) -> Response:
    """Some providers look whether anybody is there before they accept the address."""
    if not _connector(name).takes_webhooks:
        raise NotFound
    return plain("ready\n")


@blueprint.post("/webhooks/<name>")
def report(name: str) -> Response:
    """Record what a provider reports."""
    connector = _connector(name)
    if not connector.takes_webhooks:
        raise NotFound
    try:
        return _take(connector)
    except BadSignature:
        metrics.EVENTS.labels(name, "refused").inc()
        log.warning("webhook refused", connector=name)
        return plain("not authentic\n", connector.refused_code)
    except BadPayload:
        # Never the provider's last word: it keeps the report and tries again while somebody looks.
        metrics.EVENTS.labels(name, "unreadable").inc()
        log.warning("webhook not understood", connector=name)
        return plain("not understood\n", connector.busy_code)
    except (NoTurn, StoreBusy, TryLater, Rejected, Misconfigured):
        metrics.EVENTS.labels(name, "busy").inc()
        return plain("try again\n", connector.busy_code)


def _take(connector: Connector) -> Response:
    body = _body()
    headers = {key.lower(): value for key, value in request.headers.items()}
    connector.verify(headers, body, url=_address(connector.name))
    if connector.is_handshake(headers, body):
        return plain("ready\n")
    parsed = connector.parse(headers, body)
    if parsed.token is not None:
        _bind(connector.name, parsed.token, body)
    _record(connector.name, parsed)
    text, media_type = connector.accepted
    answer = plain(text)
    answer.mimetype = media_type
    return answer


def _record(name: str, parsed: Parsed) -> None:
    events = [event for event in parsed.events if bears_on_permission(event)]
    current_site().writer.record([provider_event(event, name) for event in events])
    metrics.EVENTS.labels(name, "recorded").inc(len(events))
    metrics.EVENTS.labels(name, "ignored").inc(parsed.ignored + len(parsed.events) - len(events))


def _body() -> bytes:
    """The raw bytes. Raises BadPayload when there are more than we take, or fewer than were announced."""
    most = current_app.config["MAX_CONTENT_LENGTH"]
    try:
        body = request.get_data()
    except (RequestEntityTooLarge, ClientDisconnected):
        raise BadPayload("too long, or cut off") from None
    # A body without a length is cut at the limit without a word, and half a form can look like a whole one.
    if len(body) >= most:
        raise BadPayload("too long")
    return body


def _address(name: str) -> str:
    """This very address as the provider has it: from the settings, since a proxy may have changed what came here."""
    query = request.query_string.decode("latin-1")
    return f"{current_site().settings.public_url}/webhooks/{name}{'?' if query else ''}{query}"


def _bind(name: str, token: str, body: bytes) -> None:
    """A signed token goes with the first body it came with; with another it proves nothing. Raises BadSignature."""
    digest = hashlib.sha256(body).hexdigest()
    if not current_site().database.save(webhook_tokens.bind, name, token, digest=digest, now=datetime.now(UTC)):
        raise BadSignature("the token came with another body before")


def _connector(name: str) -> Connector:
    """The connector of this name, made once: some keys take long to read. 404 where there is none."""
    made: dict[str, Connector] = current_app.extensions.setdefault(MADE, {})
    if name not in made:
        settings = current_site().connectors.get(name)
        kind = find_kind(settings.kind) if settings else None
        if settings is None or kind is None:
            raise NotFound
        try:
            made[name] = make_connector(settings)
        except Misconfigured as error:
            # What is sent meanwhile must not be lost: the provider keeps it while somebody mends the settings.
            log.error("connector misconfigured", connector=name, why=str(error))
            abort(plain("try again\n", kind.busy_code))
    return made[name]
