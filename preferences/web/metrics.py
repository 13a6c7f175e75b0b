"""What is counted, for `/metrics`. Invariant: no label ever holds anything about a person."""

from __future__ import annotations

from typing import Final

from prometheus_client import REGISTRY as PROCESS_REGISTRY
from prometheus_client import CollectorRegistry, Counter, generate_latest, multiprocess

RECORDED: Final = Counter("preferences_acts", "Acts recorded, by the door they came through", ["origin"])
DECISIONS: Final = Counter(
    "preferences_decisions", "Answers to 'may I send?'", ["message_class", "allowed", "degraded"]
)
EVENTS: Final = Counter("preferences_provider_events", "Events that providers reported", ["connector", "outcome"])
FAILURES: Final = Counter("preferences_failures", "Requests not served, by what went wrong", ["kind"])


def exposition(multiprocess_folder: str | None) -> bytes:
    """All counters in the Prometheus text format: of every web process where they share a folder, else of this one."""
    if not multiprocess_folder:
        return generate_latest(PROCESS_REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, path=multiprocess_folder)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
