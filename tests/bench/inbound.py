"""What comes in from a provider, beside an import of as many rows: events a second, on one core, in one process.

A batch is a signed webhook of SendGrid's with a thousand events about people whom nobody knows yet, through the whole
of our door. Beside it in the same round: `flask import` of as many rows, and verifying and parsing the same batches
alone.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

from flask import Flask
from flask.testing import FlaskClient

from preferences.current import services_of
from preferences.importing import check, import_file
from preferences.services import Services
from preferences.store import feed
from preferences.store.catalog import read_catalog
from tests.connectors.contract import NAME, as_toml
from tests.connectors.test_sendgrid import TestTheContract as SendGridContract
from tests.connectors.test_sendgrid import signed
from tests.support import close, new_app

EVENTS: Final = 1_000
BATCHES: Final = 10


@dataclass(slots=True)
class Rates:
    """Events or rows a second, of each round."""

    door: list[float] = field(default_factory=list)
    rows: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)


def measure(url: str, folder: Path, rounds: int) -> Rates:
    """Each of the three once a round, on the database at `url`."""
    config_file = folder / "sendgrid.toml"
    config_file.write_text(as_toml(SendGridContract().settings()))
    app = new_app(url, config_file=config_file)
    rates = Rates()
    # The first round warms up, and is not counted.
    for number in range(rounds + 1):
        found = _round(app, folder, number)
        if number:
            rates.door.append(found[0])
            rates.rows.append(found[1])
            rates.alone.append(found[2])
    close(app)
    return rates


def _round(app: Flask, folder: Path, number: int) -> tuple[float, float, float]:
    bodies = list(_bodies(f"d{number}"))
    file = _file(folder, f"i{number}")
    client, services = app.test_client(), services_of(app)
    before = services.database.read(feed.head_seq)
    door = _per_second(lambda: _post_all(client, bodies))
    rows = _per_second(lambda: _import(services, file))
    alone = _per_second(lambda: _verify_and_parse(bodies))
    recorded = services.database.read(feed.head_seq) - before
    assert recorded == 2 * EVENTS * BATCHES, f"{recorded} entries, and that is not all"
    return door, rows, alone


def _per_second(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return EVENTS * BATCHES / (time.perf_counter() - start)


def _bodies(word: str) -> Iterator[bytes]:
    now = int(datetime.now(UTC).timestamp())
    for batch in range(BATCHES):
        events = [
            {
                "email": f"{word}-{batch}-{number}@example.com",
                "timestamp": now,
                "event": "group_unsubscribe",
                "asm_group_id": 17,
                "category": ["weekly"],
                "sg_event_id": f"{word}-{batch}-{number}-c2VuZGdyaWQ",
                "sg_message_id": f"{number}.recvd-7c9d-1.0",
                "ip": "192.0.2.20",
                "useragent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36",
            }
            for number in range(EVENTS)
        ]
        yield (json.dumps(events) + "\r\n").encode()


def _file(folder: Path, word: str) -> Path:
    path = folder / f"{word}.csv"
    now = datetime.now(UTC).isoformat()
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["address", "channel", "topic", "status", "occurred_at", "source"])
        for number in range(EVENTS * BATCHES):
            writer.writerow([f"{word}-{number}@example.com", "email", "product-news", "unsubscribed", now, "old shop"])
    return path


def _post_all(client: FlaskClient, bodies: list[bytes]) -> None:
    for body in bodies:
        assert client.post(f"/webhooks/{NAME}", data=body, headers=signed(body)).status_code == 200


def _import(services: Services, file: Path) -> None:
    """All that `flask import` does: it looks at every row before it writes the first."""
    catalog = services.database.read(read_catalog)
    check(file, catalog)
    import_file(
        file, catalog, database=services.database, fingerprints=services.fingerprints, progress=lambda _rows: None
    )


def _verify_and_parse(bodies: list[bytes]) -> None:
    connector = SendGridContract().connector()
    for body in bodies:
        connector.verify(signed(body), body)
        assert len(connector.parse({}, body).events) == EVENTS


def describe(name: str, rates: Rates) -> str:
    """One line."""
    door, rows, alone = median(rates.door), median(rates.rows), median(rates.alone)
    return (
        f"{name}: {door:,.0f} events/s in signed batches of {EVENTS:,} ({min(rates.door):,.0f}–{max(rates.door):,.0f}),"
        f" {door / rows:.2f} of `flask import` ({rows:,.0f} rows/s);"
        f" verifying and parsing alone {alone:,.0f} events/s"
    )
