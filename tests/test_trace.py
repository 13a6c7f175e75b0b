"""One click, one decision, one report and one push, followed call by call: no room calls a room above it.

Each Python call of the package is recorded with the room that made it. A library in between (Flask, Jinja, SQLAlchemy)
calls for the room that called it. So does what runs work that is handed to it (`RUNNERS`): the work runs in the room
that wrote it, as the body of a `with` statement would. Then two rules hold, of which the second follows from the first,
since `MAY_IMPORT` has no circle: a room is called by no room below it, and by none that is on the stack below another.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest
from flask import Flask
from standardwebhooks.webhooks import Webhook

import preferences
from preferences.connectors import make_connector
from preferences.connectors.base import Connector
from preferences.current import services_of
from preferences.domain.vocabulary import BLANKET
from preferences.services import Services
from preferences.store import cursors, reasons
from preferences.sync.push import run_once
from tests.connectors.fake import FakeConnector, FakeProvider
from tests.support import add_contact, api_headers, close, email, link_for, new_app, new_sqlite
from tests.test_architecture import MAY_IMPORT

FOLDER: Final = str(Path(preferences.__file__).parent) + "/"
SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CONFIG: Final = f"""
[connectors.shop]
kind = "webhook"
base_url = "http://127.0.0.1:9"
webhook_secrets = ["{SECRET}"]
signing_secrets = ["{SECRET}"]
[connectors.shop.topics]
"*" = "everything"
"""
LISTS: Final = {BLANKET: "everything"}

RUNNERS: Final = {
    "store/transactions.py": None,
    "store/batching.py": None,
    "ledger/group_commit.py": {"run"},
}
"""Modules, or functions of them, that run work which is handed to them: transactions, and batches of calls."""


class Trace:
    """The calls between rooms, by `from -> to`, and the rooms in the order of their first call."""

    def __init__(self) -> None:
        self.calls: dict[tuple[str, str], str] = {}
        self.rooms: list[str] = []

    def __enter__(self) -> Trace:
        sys.setprofile(self._record)
        return self

    def __exit__(self, *_error: object) -> None:
        sys.setprofile(None)

    def _record(self, frame: FrameType, event: str, _argument: object) -> None:
        room = room_of(frame) if event == "call" else None
        if room is None:
            return
        if room not in self.rooms:
            self.rooms.append(room)
        caller = calling_room(frame)
        if caller is not None and caller != room:
            self.calls.setdefault((caller, room), f"{frame.f_code.co_filename.removeprefix(FOLDER)}:{frame.f_lineno}")

    @property
    def upward(self) -> dict[tuple[str, str], str]:
        """Calls into a room that the calling room does not stand above."""
        return {(one, other): where for (one, other), where in self.calls.items() if other not in MAY_IMPORT[one]}


def room_of(frame: FrameType) -> str | None:
    """The room whose code a frame runs. None for a library, and for what runs another room's work."""
    path = frame.f_code.co_filename
    if not path.startswith(FOLDER):
        return None
    name = path.removeprefix(FOLDER)
    functions = RUNNERS.get(name, set())
    if functions is None or frame.f_code.co_name in functions:
        return None
    return name.partition("/")[0].removesuffix(".py")


def calling_room(frame: FrameType) -> str | None:
    caller = frame.f_back
    while caller is not None:
        room = room_of(caller)
        if room is not None:
            return room
        caller = caller.f_back
    return None


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    config_file = tmp_path / "config.toml"
    config_file.write_text(CONFIG)
    app = new_app(new_sqlite(tmp_path), config_file=config_file)
    yield app
    close(app)


def followed(act: Callable[[], Any]) -> Trace:
    with Trace() as trace:
        act()
    assert trace.upward == {}
    return trace


def push(services: Services, connector: Connector) -> None:
    run_once(services.database, connector, owner="worker", now=datetime.now(UTC))


def test_one_click_calls_no_room_above_it(app: Flask) -> None:
    services, client = services_of(app), app.test_client()
    link = link_for(services, add_contact(services))
    services.catalog.get()
    trace = followed(lambda: client.post(link, data=b"List-Unsubscribe=One-Click"))
    assert trace.rooms == ["web", "tokens", "people", "services", "domain", "ledger", "store"]


def test_the_pages_of_a_link_call_no_room_above_them(app: Flask) -> None:
    services, client = services_of(app), app.test_client()
    link = link_for(services, add_contact(services))
    for act in (
        lambda: client.get(link),
        lambda: client.post(link, data={"intent": "topic"}, headers={"Accept": "text/html"}),
        lambda: client.post(f"{link}/reason", data={"reason": "other"}),
        lambda: client.post("/optout", data={"address": "jane.doe@example.com"}),
    ):
        followed(act)


def test_one_decision_calls_no_room_above_it(app: Flask) -> None:
    services, client = services_of(app), app.test_client()
    add_contact(services)
    headers = api_headers(services)
    question = {"channel": "email", "class": "marketing", "topic": "product-news", "addresses": [email().value]}
    trace = followed(lambda: client.post("/api/v1/decisions", json=question, headers=headers))
    order = [room for room in trace.rooms if room in {"web", "sending", "domain"}]
    assert order == ["web", "sending", "domain"]
    assert "store" in trace.rooms


def test_one_report_calls_no_room_above_it(app: Flask) -> None:
    services, client, at = services_of(app), app.test_client(), datetime.now(UTC)
    add_contact(services)
    data = {"channel": "email", "address": email().value, "list": "everything"}
    body = json.dumps({"type": "unsubscribe", "timestamp": at.isoformat(), "data": data})
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("msg_1", at, body),
    }
    trace = followed(lambda: client.post("/webhooks/shop", data=body, headers=headers))
    assert {"web", "connectors", "domain", "ledger", "store"} <= set(trace.rooms)


def test_one_push_calls_no_room_above_it(app: Flask) -> None:
    services = services_of(app)
    provider = FakeProvider()
    away, taking = make_connector(services.connectors["shop"]), FakeConnector(provider, LISTS, name="fake")
    for connector in (away, taking):
        services.database.save(cursors.start, connector.name)
    app.test_client().post(link_for(services, add_contact(services)))
    for connector in (away, taking):
        trace = followed(partial(push, services, connector))
        assert {"sync", "store", "connectors"} <= set(trace.rooms)
    assert len(provider.rows) == 1


def test_a_call_from_below_would_be_noticed(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    services = services_of(app)
    link = link_for(services, add_contact(services))
    app.test_client().post(link)
    monkeypatch.setattr(reasons, "insert_rows", lambda *_rows, **_options: services.catalog.get())
    with Trace() as trace:
        app.test_client().post(f"{link}/reason", data={"reason": "other"})
    assert ("store", "services") in trace.upward
