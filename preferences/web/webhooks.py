"""Webhooks: what providers report.

Owns `/webhooks/<connector>`: parse, record, answer (`guards.by_signature` has verified). Invariants: 2xx only after the
commit; every answer, also to an error of ours, is one that makes this provider keep a report that was not recorded.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import structlog
from flask import Blueprint, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from preferences import metrics
from preferences.connectors import require_own_topics
from preferences.connectors.base import Connector, Parsed
from preferences.current import current_services
from preferences.domain.acts import bears_on_permission, provider_event
from preferences.domain.errors import BadPayload, BadSignature, Misconfigured, Rejected, StoreBusy, TryLater
from preferences.services import Services
from preferences.store import webhook_tokens
from preferences.sync import soft_bounces
from preferences.web.shared import errors
from preferences.web.shared.render import plain
from preferences.web.slow_bodies import NoThreadFree

blueprint = Blueprint("webhooks", __name__)
log = structlog.get_logger(__name__)


@blueprint.get("/webhooks/<name>")
@blueprint.get("/webhooks/<name>/")
def exists(name: str) -> Response:  # noqa: ARG001 - the guard has read it
    """Some providers open the URL before they accept it."""
    return plain("ready\n")


@blueprint.post("/webhooks/<name>")
@blueprint.post("/webhooks/<name>/")
def report(name: str) -> Response:
    connector, services = g.connector, current_services()
    if connector.is_handshake(g.report.headers, g.report.body):
        return plain("ready\n")
    parsed = connector.parse(g.report.headers, g.report.body)
    require_own_topics(connector.settings, services.catalog.get().topics)
    if parsed.token is not None:
        _bind(services, name, parsed, g.report.body)
    _record(services, name, parsed)
    text, media_type = connector.accepted
    answer = plain(text)
    answer.mimetype = media_type
    return answer


@blueprint.errorhandler(BadSignature)
def refuse(_error: BadSignature) -> Response:
    metrics.EVENTS.labels(g.connector.name, "refused").inc()
    log.warning("webhook refused", connector=g.connector.name)
    return plain("not authentic\n", g.connector.refused_code)


@blueprint.errorhandler(BadPayload)
def unreadable(_error: BadPayload) -> Response:
    """Never final: the provider keeps the report and sends it again while somebody looks."""
    metrics.EVENTS.labels(g.connector.name, "unreadable").inc()
    log.warning("webhook not understood", connector=g.connector.name)
    return plain("not understood\n", g.connector.busy_code)


@blueprint.errorhandler(NoThreadFree)
@blueprint.errorhandler(StoreBusy)
@blueprint.errorhandler(TryLater)
@blueprint.errorhandler(Rejected)
@blueprint.errorhandler(Misconfigured)
def busy(error: Exception) -> Response:
    if isinstance(error, Misconfigured):
        log.error("connector misconfigured", connector=g.connector.name, why=str(error))
    metrics.EVENTS.labels(g.connector.name, "busy").inc()
    return plain("try again\n", g.connector.busy_code)


@blueprint.errorhandler(Exception)
def failed(error: Exception) -> Response:
    """Counted and logged. A bare 500 would be the end of a report at some providers."""
    connector: Connector | None = g.get("connector")
    if isinstance(error, HTTPException) or connector is None:
        return errors.page_for(current_services(), request, error)
    errors.count_failure(error, 500)
    return plain("try again\n", connector.busy_code)


def _record(services: Services, name: str, parsed: Parsed) -> None:
    events = [event for event in parsed.events if bears_on_permission(event)]
    services.writer.record([provider_event(event, name) for event in events])
    counted = soft_bounces.count(services, name, parsed.events)
    if parsed.unreadable:
        log.warning("webhook rows not understood", connector=name, rows=parsed.unreadable)
    metrics.EVENTS.labels(name, "unreadable").inc(parsed.unreadable)
    metrics.EVENTS.labels(name, "recorded").inc(len(events))
    metrics.EVENTS.labels(name, "counted").inc(counted)
    metrics.EVENTS.labels(name, "ignored").inc(parsed.ignored + len(parsed.events) - len(events) - counted)


def _bind(services: Services, name: str, parsed: Parsed, body: bytes) -> None:
    """Bind a signed token to the body and the connector that it came with first: with another body, or at another
    connector that has the same key, it proves nothing. Raises BadSignature."""
    digest = hashlib.sha256(name.encode() + b"\n" + body).hexdigest()
    now = datetime.now(UTC)
    if not services.database.save(webhook_tokens.bind, parsed.token_of, str(parsed.token), digest=digest, now=now):
        raise BadSignature("the token came with another body before")
