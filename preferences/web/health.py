"""`/healthz` (process), `/readyz` (database and migrations), `/metrics`. No personal data."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from flask import Blueprint, Response

from preferences import metrics
from preferences.current import current_services
from preferences.domain.errors import StoreBusy
from preferences.store import cursors, workers
from preferences.store.migrations import pending
from preferences.store.transactions import StoreFault

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def process() -> Response:
    return Response("ok\n", mimetype="text/plain")


@blueprint.get("/readyz")
def ready() -> Response:
    try:
        missing = current_services().database.read(pending)
    except StoreBusy:
        return Response("the database cannot be reached\n", 503, mimetype="text/plain")
    if missing:
        return Response("the database needs `flask db upgrade`\n", 503, mimetype="text/plain")
    return Response("ok\n", mimetype="text/plain")


@blueprint.get("/metrics")
def prometheus() -> Response:
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Response(metrics.exposition(folder) + _connector_metrics(), mimetype="text/plain; version=0.0.4")


def _connector_metrics() -> bytes:
    """Empty while the database is away; process counters are still exposed."""
    services = current_services()
    known = {*services.connectors, *(feed.cursor for feed in services.feeds.values())}
    try:
        statuses = services.database.read(cursors.statuses, datetime.now(UTC))
        alive = services.database.read(workers.count_alive, datetime.now(UTC))
    except (StoreBusy, StoreFault):
        return b""
    ours = {name: status for name, status in statuses.items() if name in known}
    return metrics.of_connectors(ours, workers_alive=alive)
