"""A ledger of an earlier version: it upgrades, verifies, and answers as it did, and its links still stop mail."""

from __future__ import annotations

import csv
import io
import itertools
import json
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_migrate import upgrade

from preferences.cli.database import MIGRATIONS
from preferences.current import services_of
from preferences.domain.vocabulary import KeyScope
from preferences.importing import export
from preferences.ledger import archive, verify
from preferences.store import feed
from preferences.store.api_keys import create_key
from preferences.store.transactions import Write
from tests.servers import PostgresServer
from tests.support import PUBLIC_URL, close, new_app

GOLDEN = Path(__file__).parent / "golden"
ANSWERS: dict[str, Any] = json.loads((GOLDEN / "answers.json").read_text())
WRITTEN_AT = "0004"
ENTRIES = 31

RIGHTED = {
    # An opt-out that a provider dated 1970 counts from its receipt.
    ("impossible@example.com", "offers"): [False, "unsubscribed"],
    # After the undo the import of March counts again, and not a yes of the undo's own moment: the opt-out of May wins.
    ("undone.import@example.com", "offers"): [False, "unsubscribed"],
}
"""Answers that were wrong then."""

_names = itertools.count(1)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Flask]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'old.db'}"
    else:
        postgres: PostgresServer = request.getfixturevalue("postgres")
        url = postgres.create_database(f"old_{next(_names)}_{id(postgres)}")
    app = new_app(url)
    with app.app_context():
        yield app
    close(app)


@pytest.fixture(params=["upgraded", "restored"])
def old(request: pytest.FixtureRequest, empty_app: Flask) -> Flask:
    """The site after `flask db upgrade` of the old tables, and after `flask import` of the old export."""
    if request.param == "restored":
        upgrade(directory=str(MIGRATIONS))
        export.restore(GOLDEN / "ledger.zip", services_of(empty_app).database, progress=lambda _count: None)
        return empty_app
    upgrade(directory=str(MIGRATIONS), revision=WRITTEN_AT)
    services_of(empty_app).database.write(_load)
    upgrade(directory=str(MIGRATIONS))
    return empty_app


def _load(write: Write) -> None:
    """Put the rows of the export into the tables of their own day."""
    archive.begin_restore(write)
    with zipfile.ZipFile(GOLDEN / "ledger.zip") as zipped:
        head = json.loads(zipped.read("manifest.json"))["head"]
        for part in archive.PARTS:
            if part.file not in zipped.namelist():
                continue
            text = zipped.read(part.file).decode()
            if part.file == archive.ENTRIES:
                added_since = {"evidence_digest"}
                lines = [archive.row_of_line(line.encode()) for line in text.splitlines()]
                rows = [{name: row[name] for name in row.keys() - added_since} for row in lines]
            else:
                names, *cells = csv.reader(io.StringIO(text, newline=""))
                rows = [archive.row_of_cells(part, names, row) for row in cells]
            if rows:
                write.execute(part.table.insert(), rows)
    archive.end_restore(write, head["seq"], head["hash"])


def decisions(app: Flask, topic: str, message_class: str) -> dict[str, list[Any]]:
    key = services_of(app).database.save(create_key, topic, datetime.now(UTC), scopes=[KeyScope.DECISIONS])
    answer = app.test_client().post(
        "/api/v1/decisions",
        json={
            "channel": "email",
            "class": message_class,
            "topic": topic,
            "addresses": list(ANSWERS["decisions"]),
        },
        headers={"Authorization": f"Bearer {key}"},
        base_url=PUBLIC_URL,
    )
    assert answer.status_code == 200
    return {one["address"]: [one["allowed"], one["reason"]] for one in answer.get_json()["decisions"]}


def test_an_old_ledger_verifies(old: Flask) -> None:
    report = services_of(old).database.snapshot(verify.verify, lambda _entries: None)
    assert report.problems == []
    assert report.entries == ENTRIES
    assert report.unsealed > 10
    assert report.evidence == report.erased == 0


@pytest.mark.parametrize(
    ("topic", "message_class"),
    [("offers", "marketing"), ("product-news", "marketing"), ("receipts", "transactional")],
)
def test_an_old_ledger_answers_as_it_did(old: Flask, topic: str, message_class: str) -> None:
    then = {address: answers[topic] for address, answers in ANSWERS["decisions"].items()}
    righted = {address: answer for (address, about), answer in RIGHTED.items() if about == topic}
    assert decisions(old, topic, message_class) == then | righted


def test_links_made_then_still_stop_mail_and_the_chain_goes_on(old: Flask) -> None:
    client, database = old.test_client(), services_of(old).database
    for token in ANSWERS["links"].values():
        assert client.post(f"/u/{token}", data={"List-Unsubscribe": "One-Click"}).status_code == 200
    stopped = [allowed for allowed, _ in decisions(old, "product-news", "marketing").values()]
    assert stopped.count(True) == 1, "the one of whom nobody has heard"
    report = database.snapshot(verify.verify, lambda _entries: None)
    assert report.problems == []
    assert report.entries == database.read(feed.head_seq) > ENTRIES
    assert report.evidence == len(ANSWERS["links"])
