"""May we send? Ten thousand addresses in one call, beside a bare look-up of the same keys in the same database.

The call is all that a sending system waits for inside our program: JSON in, addresses read and fingerprinted, facts
looked up, decided, JSON out. The look-up is one indexed statement through the bare driver, its keys ready beforehand:
whose address each is, and nothing else.
"""

from __future__ import annotations

import gc
import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median
from typing import Any, Final
from uuid import UUID

import psycopg
from flask.testing import FlaskClient
from sqlalchemy.engine import make_url
from werkzeug.test import TestResponse

from preferences.current import services_of
from preferences.domain.vocabulary import MOST_ADDRESSES
from preferences.services import Services
from preferences.store.contacts import new_id
from tests.support import api_headers, close, email, new_app

CONTACTS: Final = 1_000_000
LEFT: Final = 10
"""One in so many has left everything."""

QUESTION: Final = {"channel": "email", "class": "marketing", "topic": "product-news"}


@dataclass(slots=True)
class Times:
    """Milliseconds for ten thousand addresses, of each round."""

    call: list[float] = field(default_factory=list)
    lookup: list[float] = field(default_factory=list)


def measure(url: str, contacts: int, rounds: int) -> Times:
    """Both, on other addresses in each round, after one round that warms up."""
    app = new_app(url)
    services, client = services_of(app), app.test_client()
    _fill(services, url, contacts)
    headers = api_headers(services)
    look_up = _lookup(url)
    gc.freeze()  # as app.py does
    times = Times()
    for number in range(rounds + 1):
        asked = random.Random(number).sample(range(contacts), MOST_ADDRESSES)
        keys = [services.fingerprints.of(email(_address(number))) for number in asked]
        body = json.dumps(QUESTION | {"addresses": list(map(_address, asked))}).encode()
        found = _timed(times.lookup, look_up, keys)
        answer = _timed(times.call, _ask, client, body, headers)
        refused = sum(not decision["allowed"] for decision in answer.json["decisions"])
        assert len(found) == MOST_ADDRESSES
        assert refused == sum(number % LEFT == 0 for number in asked)
    close(app)
    return Times(call=times.call[1:], lookup=times.lookup[1:])


def _ask(client: FlaskClient, body: bytes, headers: dict[str, str]) -> TestResponse:
    return client.post("/api/v1/decisions", data=body, content_type="application/json", headers=headers)


def _timed(into: list[float], work: Callable[..., Any], *args: Any) -> Any:
    start = time.perf_counter()
    result = work(*args)
    into.append((time.perf_counter() - start) * 1000)
    return result


def _address(number: int) -> str:
    return f"person-{number}@example.com"


def _lookup(url: str) -> Callable[[Sequence[str]], list[Any]]:
    if url.startswith("sqlite"):
        connection = sqlite3.connect(make_url(url).database or "", check_same_thread=False)
        marks = ",".join("?" * MOST_ADDRESSES)
        sql = f"SELECT fingerprint, contact_id FROM address WHERE fingerprint IN ({marks}) AND channel = 'email'"
        return lambda keys: connection.execute(sql, keys).fetchall()
    server = psycopg.connect(_plain(url), autocommit=True)
    bare = "SELECT fingerprint, contact_id FROM address WHERE fingerprint = ANY(%s) AND channel = 'email'"
    return lambda keys: server.execute(bare, [list(keys)]).fetchall()


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")


_TABLES: Final = {
    "contact": ("id", "created_at"),
    "address": ("id", "contact_id", "channel", "value", "fingerprint", "created_at"),
    "preference": ("contact_id", "channel", "brand", "topic", "status", "at", "since", "seq", "trusted"),
}


def _fill(services: Services, url: str, contacts: int) -> None:
    """Contacts straight into the tables, one in ten of whom has left: setting up is not what is measured."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(make_url(url).database or "")) as connection, connection:
            for table, rows in _rows(services, contacts):
                connection.executemany(_insert(table), [list(map(_for_sqlite, row)) for row in rows])
            connection.execute("ANALYZE")
        return
    with psycopg.connect(_plain(url), autocommit=True) as server:
        for table, rows in _rows(services, contacts):
            with server.cursor().copy(f"COPY {table} ({', '.join(_TABLES[table])}) FROM STDIN".encode()) as copy:
                for row in rows:
                    copy.write_row(row)
        server.execute("VACUUM ANALYZE")


def _insert(table: str) -> str:
    columns = _TABLES[table]
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def _for_sqlite(value: Any) -> Any:
    return value.hex if isinstance(value, UUID) else value


def _rows(services: Services, contacts: int, block: int = 20_000) -> Iterator[tuple[str, list[Sequence[Any]]]]:
    now = datetime.now(UTC)
    said = now.replace(tzinfo=None).isoformat(sep=" ") if services.database.is_sqlite else now
    for start in range(0, contacts, block):
        made = [(number, new_id(now), new_id(now)) for number in range(start, min(start + block, contacts))]
        left = [who for number, who, _ in made if number % LEFT == 0]
        yield "contact", [(who, said) for _, who, _ in made]
        yield "address", [(own, who, "email", *_known(services, number), said) for number, who, own in made]
        yield "preference", [(who, "email", "default", "*", "unsubscribed", said, said, 1, True) for who in left]


def _known(services: Services, number: int) -> tuple[str, str]:
    return _address(number), services.fingerprints.of(email(_address(number)))


def describe(name: str, times: Times) -> str:
    """One line."""
    call, lookup = median(times.call), median(times.lookup)
    return (
        f"{name}: {MOST_ADDRESSES:,} decisions in one call {call:,.0f} ms"
        f" ({min(times.call):,.0f}–{max(times.call):,.0f}), the bare look-up of their keys {lookup:,.0f} ms"
        f" ({min(times.lookup):,.0f}–{max(times.lookup):,.0f}):"
        f" {lookup / call:.2f} of its speed"
    )
