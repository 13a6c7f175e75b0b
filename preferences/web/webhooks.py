"""Provider reports: `/webhooks/<connector>`, after `guards.by_signature`.

Invariants: 2xx only after the commit; every other answer, errors included, makes this provider keep the report.
"""

from __future__ import annotations

import structlog
from flask import Blueprint, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from preferences import metrics
from preferences.connectors import require_own_topics
from preferences.connectors.base import Connector, Parsed
from preferences.current import current_services
from preferences.domain.errors import BadPayload, BadSignature, Misconfigured, Rejected, StoreBusy, TryLater
from preferences.sync import inbound
from preferences.web.shared import errors
from preferences.web.shared.render import plain
from preferences.web.slow_bodies import NoThreadFree

blueprint = Blueprint("webhooks", __name__)
log = structlog.get_logger(__name__)


@blueprint.get("/webhooks/<name>")
@blueprint.get("/webhooks/<name>/")
def exists(name: str) -> Response:  # noqa: ARG001 - the guard has read it
    """Some providers open the URL first."""
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
        inbound.bind_token(services, name, parsed, body=g.report.body)
    _count(name, inbound.record(services, name, parsed), parsed)
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
    """Never final: the provider sends the report again until the parser is fixed."""
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
    """Some providers drop a report after a bare 500."""
    connector: Connector | None = g.get("connector")
    if isinstance(error, HTTPException) or connector is None:
        return errors.page_for(current_services(), request, error)
    errors.count_failure(error, 500)
    return plain("try again\n", connector.busy_code)


def _count(name: str, done: inbound.Recorded, parsed: Parsed) -> None:
    if parsed.unreadable:
        log.warning("webhook rows not understood", connector=name, rows=parsed.unreadable)
    metrics.EVENTS.labels(name, "unreadable").inc(parsed.unreadable)
    metrics.EVENTS.labels(name, "recorded").inc(done.recorded)
    metrics.EVENTS.labels(name, "counted").inc(done.counted)
    metrics.EVENTS.labels(name, "ignored").inc(done.ignored)
