"""What providers report.

Owns `/webhooks/<connector>`: verify on the raw bytes, parse, record, answer. Invariants: 2xx only after the commit;
every answer is one that this provider understands (`busy_code`, `refused_code`); nothing sent in can cause a 500.
"""

from __future__ import annotations

import structlog
from flask import Blueprint, request
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from preferences.connectors import make_connector
from preferences.connectors.base import Connector
from preferences.domain.acts import provider_event
from preferences.domain.errors import BadPayload, BadSignature, StoreBusy
from preferences.site import current_site
from preferences.web import metrics
from preferences.web.pages import plain

blueprint = Blueprint("webhooks", __name__)
log = structlog.get_logger(__name__)


@blueprint.get("/webhooks/<name>")
def exists(name: str) -> Response:
    """Some providers look whether anybody is there before they accept the address."""
    _connector(name)
    return plain("ready\n")


@blueprint.post("/webhooks/<name>")
def report(name: str) -> Response:
    """Record what a provider reports."""
    connector = _connector(name)
    body = request.get_data()
    headers = {key.lower(): value for key, value in request.headers.items()}
    try:
        connector.verify(headers, body)
    except BadSignature:
        metrics.EVENTS.labels(name, "refused").inc()
        log.warning("webhook refused", connector=name)
        return plain("not authentic\n", connector.refused_code)
    try:
        parsed = connector.parse(headers, body)
    except BadPayload:
        # Refused and not swallowed: the provider keeps it and tries again while somebody looks.
        metrics.EVENTS.labels(name, "unreadable").inc()
        log.warning("webhook not understood", connector=name)
        return plain("not understood\n", connector.refused_code)
    try:
        current_site().writer.record([provider_event(event, name) for event in parsed.events])
    except StoreBusy:
        metrics.EVENTS.labels(name, "busy").inc()
        return plain("try again\n", connector.busy_code)
    metrics.EVENTS.labels(name, "recorded").inc(len(parsed.events))
    metrics.EVENTS.labels(name, "ignored").inc(parsed.ignored)
    return plain("recorded\n")


def _connector(name: str) -> Connector:
    settings = current_site().connectors.get(name)
    connector = make_connector(settings) if settings else None
    if connector is None or not connector.takes_webhooks:
        raise NotFound
    return connector
