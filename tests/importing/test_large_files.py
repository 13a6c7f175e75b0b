"""Files of an import that are large, odd, or come twice: read in chunks by several processes, stopped, repeated."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from flask import Flask
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import func, select

from preferences.current import services_of
from preferences.files import tables
from preferences.files.process_pool import HelperLost
from preferences.files.tables import table_of
from preferences.importing import Counts, import_file, preparing, run
from preferences.ledger import verify
from preferences.services import Services
from preferences.store import feed
from preferences.store.catalog import read_catalog
from preferences.store.tables import contact
from tests.processes import ROOT, as_environment
from tests.profiles import scaled
from tests.support import close, new_app, settings

pytestmark = pytest.mark.slow

PATIENCE = 60
PEOPLE = 60_000
CELLS = st.sampled_from(["a", "", '"', '""', '"b"', '"c,d"', '"e\nf"', '"g\r\nh', " ", "ü", 'i"j'])
TEXTS = st.lists(st.lists(CELLS, min_size=1, max_size=3).map(",".join), max_size=12).flatmap(
    lambda lines: st.sampled_from(["\n", "\r\n"]).map(lambda end: end.join(lines))
)


def by_the_library(path: Path) -> list[tuple[int, list[str] | None]]:
    """The rows of a whole file, one after the other."""
    found: list[tuple[int, list[str] | None]] = []
    with path.open(newline="") as file:
        reader = csv.reader(file, strict=True)
        while True:
            try:
                values = next(reader)
            except csv.Error:
                found.append((reader.line_num, None))
            except StopIteration:
                return found
            else:
                found += [(reader.line_num, values)] if any(map(str.strip, values)) else []


@examples(max_examples=scaled(300), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS, size=st.integers(1, 5))
def test_a_file_in_chunks_has_the_rows_and_the_line_numbers_that_it_has_in_one(
    text: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.csv"
    path.write_text(f"header\n{text}", newline="")
    monkeypatch.setattr(tables, "CHUNK", size)
    with table_of(path, "utf-8-sig") as table:
        assert list(table.rows()) == by_the_library(path)[1:]


def write_people(path: Path, people: int = PEOPLE) -> Path:
    """More than one process would read alone."""
    lines = (f"person-{number}@example.com,unsubscribed,offers,2026-01-01T00:00:00Z,a shop" for number in range(people))
    path.write_text("\n".join(["address,status,topic,occurred_at,source", *lines, ""]))
    return path


def import_in(services: Services, path: Path) -> Counts:
    catalog = services.database.read(read_catalog)
    return import_file(
        path, catalog, database=services.database, fingerprints=services.fingerprints, progress=lambda _rows: None
    )


def people_in(services: Services) -> int:
    return services.database.read(
        lambda read: int(read.execute(select(func.count()).select_from(contact)).scalar_one())
    )


def wait_until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_an_import_that_is_killed_in_the_middle_is_finished_by_the_same_command(
    services: Services, tmp_path: Path
) -> None:
    path = write_people(tmp_path / "people.csv")
    assert path.stat().st_size > preparing.LARGE
    command = [sys.executable, "-m", "flask", "--app", "app", "import", str(path)]
    url = services.database.engine.url.render_as_string(hide_password=False)
    environment = {**os.environ, **as_environment(settings(url))}
    running = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until("nothing was recorded", lambda: services.database.read(feed.head_seq) > 0)
        family = psutil.Process(running.pid).children(recursive=True)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait(PATIENCE)
    assert psutil.wait_procs(family, timeout=PATIENCE)[1] == []
    recorded = services.database.read(feed.head_seq)
    assert 0 < recorded < PEOPLE
    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert (
        f"{PEOPLE} rows: {PEOPLE - recorded} new contacts, {PEOPLE - recorded} changes, {recorded} that" in again.stdout
    )
    assert services.database.read(feed.head_seq) == people_in(services) == PEOPLE
    assert services.database.snapshot(verify.verify, lambda _entries: None).problems == []


def test_a_process_that_the_machine_has_no_memory_for_stops_the_import_with_one_line(
    sqlite_app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services, path = services_of(sqlite_app), write_people(tmp_path / "people.csv", 20)
    monkeypatch.setattr(preparing, "LARGE", 0)
    for kind, work in ((preparing.Parser, "parse"), (run._Blocks, "next")):
        with monkeypatch.context() as patching:
            patching.setattr(kind, work, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            with pytest.raises(HelperLost, match="start it again"):
                import_in(services, path)
        assert services.database.read(feed.head_seq) == 0
    assert import_in(services, path).created == 20


def test_after_a_new_fingerprint_key_the_same_file_still_changes_nothing(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("address,status\nann@example.com,unsubscribed\nben@example.com,complaint\ncat@example.com,\n")
    old, new = "fingerprint-key-of-tests", "another-fingerprint-key-1"
    for keys in ((old,), (old, new), (old, new)):
        app = new_app(database_url, fingerprint_keys=keys)
        counts = import_in(services_of(app), path)
        assert (services_of(app).database.read(feed.head_seq), people_in(services_of(app))) == (2, 3)
        assert (counts.created, counts.changed, counts.unchanged) in {(3, 2, 0), (0, 0, 2)}
        close(app)
