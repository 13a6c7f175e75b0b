"""What providers report.

Owns `/webhooks/<connector>`: verify on the raw bytes, parse, record, answer. Invariants: 2xx only after the commit;
every answer is one that this provider understands (`busy_code`, `refused_code`), also to a mistake of ours, so that the
report is kept and comes again.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Final

import structlog
from flask import Blueprint, abort, current_app, request
from werkzeug.exceptions import ClientDisconnected, HTTPException, NotFound, RequestEntityTooLarge
from werkzeug.wrappers import Response

from preferences import metrics
from preferences.connectors import find_kind, make_connector, require_own_topics
from preferences.connectors.base import Connector, Parsed
from preferences.current import current_services
from preferences.domain.acts import bears_on_permission, provider_event
from preferences.domain.errors import BadPayload, BadSignature, Misconfigured, Rejected, StoreBusy, TryLater
from preferences.store import webhook_tokens
from preferences.sync import soft_bounces
from preferences.web.shared.errors import count_failure
from preferences.web.shared.render import plain
from preferences.web.slow_bodies import NoTurn

blueprint = Blueprint("webhooks", __name__)
log = structlog.get_logger(__name__)

MADE: Final = "webhook-connectors"


@blueprint.get("/webhooks/<name>")
@blueprint.get("/webhooks/<name>/")
def exists(name: str) -> Response:
    """Some providers look whether anybody is there before they accept the address."""
    if not _connector(name).takes_webhooks:
        raise NotFound
    return plain("ready\n")


@blueprint.post("/webhooks/<name>")
@blueprint.post("/webhooks/<name>/")
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
    except (NoTurn, StoreBusy, TryLater, Rejected, Misconfigured) as failure:
        if isinstance(failure, Misconfigured):
            log.error("connector misconfigured", connector=name, why=str(failure))
        metrics.EVENTS.labels(name, "busy").inc()
        return plain("try again\n", connector.busy_code)
    except HTTPException:
        raise
    except Exception as failure:  # noqa: BLE001 - counted and logged; a bare 500 is the end of a report at some providers
        count_failure(failure, 500)
        return plain("try again\n", connector.busy_code)


def _take(connector: Connector) -> Response:
    headers = {key.lower(): value for key, value in request.headers.items()}
    if not connector.signs_body:
        connector.verify(headers, b"", url=_address(connector.name))
    body = _body(connector)
    if connector.signs_body:
        connector.verify(headers, body, url=_address(connector.name))
    if connector.is_handshake(headers, body):
        return plain("ready\n")
    parsed = connector.parse(headers, body)
    require_own_topics(connector.settings, current_services().catalog.get().topics)
    if parsed.token is not None:
        _bind(connector.name, parsed, body)
    _record(connector.name, parsed)
    text, media_type = connector.accepted
    answer = plain(text)
    answer.mimetype = media_type
    return answer


def _record(name: str, parsed: Parsed) -> None:
    events = [event for event in parsed.events if bears_on_permission(event)]
    current_services().writer.record([provider_event(event, name) for event in events])
    counted = soft_bounces.count(current_services(), name, parsed.events)
    if parsed.unreadable:
        log.warning("webhook rows not understood", connector=name, rows=parsed.unreadable)
    metrics.EVENTS.labels(name, "unreadable").inc(parsed.unreadable)
    metrics.EVENTS.labels(name, "recorded").inc(len(events))
    metrics.EVENTS.labels(name, "counted").inc(counted)
    metrics.EVENTS.labels(name, "ignored").inc(parsed.ignored + len(parsed.events) - len(events) - counted)


def _body(connector: Connector) -> bytes:
    """The raw bytes. Raises BadSignature when there are more than this provider ever sends, and BadPayload when there
    are fewer than were announced.

    What says that it is longer is not read at all. A server may end a body without a word where the sender went away
    (`wsgi.input_terminated`: granian does, seen 2026-11-30), and one without a length is cut at the limit.
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


def _address(name: str) -> str:
    """This very address as the provider has it: from the settings, since a proxy may have changed what came here."""
    query, slash = request.query_string.decode("latin-1"), "/" if request.path.endswith("/") else ""
    return f"{current_services().settings.public_url}/webhooks/{name}{slash}{'?' if query else ''}{query}"


def _bind(name: str, parsed: Parsed, body: bytes) -> None:
    """A signed token goes with the first body it came with, at the connector where it came first; with another, or at
    another that has the same key, it proves nothing. Raises BadSignature."""
    digest = hashlib.sha256(name.encode() + b"\n" + body).hexdigest()
    services, now = current_services(), datetime.now(UTC)
    if not services.database.save(webhook_tokens.bind, parsed.token_of, str(parsed.token), digest=digest, now=now):
        raise BadSignature("the token came with another body before")


def _connector(name: str) -> Connector:
    """The connector of this name, made once: some keys take long to read. 404 where there is none."""
    made: dict[str, Connector] = current_app.extensions.setdefault(MADE, {})
    if name not in made:
        settings = current_services().connectors.get(name)
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
