"""The handles of transactions, as mypy sees them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parents[2]

SNIPPET = """
from datetime import datetime

from sqlalchemy import insert, select, text

from preferences.ledger.head import set_head
from preferences.ledger.verify import verify
from preferences.store import feed, workers
from preferences.store.tables import worker
from preferences.store.transactions import Database, Read, Save, Snapshot, Write


def use(read: Read, snapshot: Snapshot, save: Save, write: Write, database: Database, now: datetime) -> None:
    feed.head_seq(read), feed.head_seq(snapshot), feed.head_seq(save), feed.head_seq(write)
    workers.beat(save, "name", now)
    workers.beat(write, "name", now)
    verify(snapshot, print), verify(write, print)
    set_head(write, 1, "hash")
    read.execute(select(worker)).one().name
    save.execute(insert(worker)).rowcount
    database.read(feed.head_seq), database.snapshot(feed.head_seq), database.write(feed.head_seq)
    database.save(workers.beat, "name", now), database.write(workers.beat, "name", now)
    workers.beat(read, "name", now)  # error
    workers.beat(snapshot, "name", now)  # error
    verify(read, print)  # error
    verify(save, print)  # error
    set_head(read, 1, "hash")  # error
    set_head(save, 1, "hash")  # error
    read.execute(insert(worker))  # error
    snapshot.execute(text("DELETE FROM worker"))  # error
    database.read(workers.beat, "name", now)  # error
    database.snapshot(workers.beat, "name", now)  # error
    database.save(set_head, 1, "hash")  # error
    database.read(lambda read: read.execute(insert(worker)))  # error
"""


@pytest.mark.slow
def test_mypy_tells_the_handles_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    snippet = tmp_path / "handles.py"
    snippet.write_text(SNIPPET)
    report, problems, _ = api.run(["--no-pretty", str(snippet)])
    assert problems == ""
    expected = {number for number, line in enumerate(SNIPPET.splitlines(), start=1) if line.endswith("# error")}
    assert {int(line) for line in re.findall(r"handles.py:(\d+): error:", report, re.MULTILINE)} == expected, report
