"""Prometheus metrics, for `/metrics`. Invariant: no label contains personal data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import REGISTRY as PROCESS_REGISTRY
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, multiprocess

from preferences.store.cursors import ConnectorStatus

RECORDED: Final = Counter("preferences_acts", "Acts recorded, by origin", ["origin"])
DECISIONS: Final = Counter(
    "preferences_decisions", "Answers to 'may I send?'", ["message_class", "allowed", "degraded"]
)
API_CALLS: Final = Counter(
    "preferences_api_calls", "Calls of the API, by key, and whether by one that was rotated", ["key", "call", "old_key"]
)
EVENTS: Final = Counter("preferences_provider_events", "Events that providers reported", ["connector", "outcome"])
FAILURES: Final = Counter("preferences_failures", "Requests not served, by what went wrong", ["kind"])


_OF_CONNECTORS: Final[Mapping[str, tuple[str, Callable[[ConnectorStatus], float | None]]]] = {
    "preferences_connector_lag_entries": (
        "Entries of the ledger it has not read",
        lambda status: status.entries_behind,
    ),
    "preferences_connector_lag_seconds": ("Age of the oldest of them", lambda status: status.seconds_behind),
    "preferences_connector_drift": ("Rows that differ since the last comparison", lambda status: status.cursor.drift),
    "preferences_connector_refused": ("Contacts it does not take", lambda status: status.parked),
    "preferences_connector_paused": ("Waits for somebody to fix it", lambda status: status.state == "paused"),
    "preferences_connector_pushes": ("Pushes so far", lambda status: status.cursor.pushed),
    "preferences_connector_failures": ("Passes that failed so far", lambda status: status.cursor.failed),
    "preferences_connector_failures_in_a_row": (
        "Passes that failed since the last success",
        lambda status: status.cursor.failures,
    ),
    "preferences_connector_comparisons_failed_in_a_row": (
        "Comparisons that failed since the last one that did not",
        lambda status: status.cursor.compare_failures,
    ),
}


def of_connectors(statuses: Mapping[str, ConnectorStatus], *, workers_alive: int) -> bytes:
    """The connectors' state from the database, since workers have no `/metrics`."""
    registry = CollectorRegistry()
    Gauge("preferences_workers_alive", "Workers seen in the last minute", registry=registry).set(workers_alive)
    for name, (text, value) in _OF_CONNECTORS.items():
        gauge = Gauge(name, text, ["connector"], registry=registry)
        for connector, status in statuses.items():
            number = value(status)
            if number is not None:
                gauge.labels(connector).set(number)
    return generate_latest(registry)


def exposition(multiprocess_folder: str | None) -> bytes:
    """All counters; of every web process if they share a folder."""
    if not multiprocess_folder:
        return generate_latest(PROCESS_REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, path=multiprocess_folder)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
