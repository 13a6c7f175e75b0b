"""A list of ten million against a million opted-out and ten thousand erased, beside DuckDB's anti-join of two files.

Both are given the same list on the same two cores, one after the other in every round, and write the rows that may be
written to. DuckDB is given those who said no as a second file, in the clear; we find them in our own database, where of
the erased there is only a fingerprint, and write the removed rows with their reasons too. What is measured is the whole
command, from its start to its end.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final
from uuid import UUID

import psutil
import psycopg
from sqlalchemy.engine import make_url

from preferences.current import services_of
from preferences.services import Services
from preferences.store.contacts import new_id
from tests.bench.machine import ROOT, pss
from tests.support import close, email, new_app

ROWS: Final = 10_000_000
CORES: Final = 2
_STEP: Final = 7_654_321
"""A prime: so many numbers further each time, and every one comes once."""

_TABLES: Final = {
    "contact": ("id", "created_at"),
    "address": ("id", "contact_id", "channel", "value", "fingerprint", "created_at"),
    "preference": ("contact_id", "channel", "brand", "topic", "status", "at", "since", "seq", "trusted"),
    "suppression": ("fingerprint", "channel", "reason", "active", "at", "since", "seq"),
}

_DUCKDB: Final = """
import sys, duckdb
source, gone, kept = sys.argv[1:]
duckdb.sql("SET threads = 2")
duckdb.sql(f"COPY (FROM '{source}' AS a ANTI JOIN '{gone}' AS b ON a.email = b.email) TO '{kept}' (HEADER)")
"""


@dataclass(slots=True)
class Side:
    """Seconds of each round, and the most memory that was ever seen, in octets."""

    seconds: list[float] = field(default_factory=list)
    memory: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """Both sides, how many rows were read, and whether both kept the same number of them."""

    ours: Side
    duckdb: Side
    rows: int
    agree: bool


def measure(url: str, environment: Mapping[str, str], folder: Path, rows: int, rounds: int) -> Result:
    """Both in turn, on a list in which one row in ten is somebody who left."""
    app = new_app(url)
    _fill(services_of(app), url, rows // 10, rows // 1000)
    close(app)
    source, gone, kept = folder / "list.csv", folder / "gone.csv", folder / "list.kept.csv"
    _write(source, rows, gone, rows // 10 + rows // 1000)
    scrub = [*("-m", "flask", "scrub", str(source), "--topic", "product-news", "--channel", "email", "--force")]
    other = ["-c", _DUCKDB, str(source), str(gone), str(folder / "duckdb.csv")]
    result = Result(Side(), Side(), rows, True)
    for _ in range(rounds):
        _run(other, {}, result.duckdb)
        _run(scrub, environment, result.ours)
    return Result(result.ours, result.duckdb, rows, _lines(kept) == _lines(folder / "duckdb.csv"))


def _run(arguments: Sequence[str], environment: Mapping[str, str], side: Side) -> None:
    cores = set(sorted(range(os.cpu_count() or 1))[:CORES])
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "FLASK_APP": "app", **environment},
        stdout=subprocess.DEVNULL,
    )
    os.sched_setaffinity(process.pid, cores)
    watch = threading.Thread(target=_watch, args=(process, side))
    watch.start()
    code = process.wait()
    side.seconds.append(time.perf_counter() - started)
    watch.join()
    if code:
        raise RuntimeError(f"{arguments[1]} ended with {code}")


def _watch(process: subprocess.Popen[bytes], side: Side) -> None:
    main = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            side.memory = max(side.memory, sum(pss(process) for process in [main, *main.children(recursive=True)]))
        except psutil.NoSuchProcess:
            return
        time.sleep(0.2)


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def _write(source: Path, rows: int, gone: Path, left: int) -> None:
    with source.open("w") as file:
        file.write("id,email,name\n")
        file.writelines(f"{row},{_address(row * _STEP % rows)},Name {row}\n" for row in range(rows))
    with gone.open("w") as file:
        file.write("email\n")
        file.writelines(f"{_address(number)}\n" for number in range(left))


def _address(number: int) -> str:
    return f"person-{number}@example.com"


def _fill(services: Services, url: str, left: int, erased: int) -> None:
    """Straight into the tables: setting up is not what is measured."""
    if services.database.is_sqlite:
        with closing(sqlite3.connect(make_url(url).database or "")) as connection, connection:
            for table, rows in _rows(services, left, erased):
                marks = ", ".join("?" * len(_TABLES[table]))
                sql = f"INSERT INTO {table} ({', '.join(_TABLES[table])}) VALUES ({marks})"
                connection.executemany(
                    sql, [[value.hex if isinstance(value, UUID) else value for value in row] for row in rows]
                )
            connection.execute("ANALYZE")
        return
    with psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://"), autocommit=True) as server:
        for table, rows in _rows(services, left, erased):
            with server.cursor().copy(f"COPY {table} ({', '.join(_TABLES[table])}) FROM STDIN".encode()) as copy:
                for row in rows:
                    copy.write_row(row)
        server.execute("VACUUM ANALYZE")


def _rows(services: Services, left: int, erased: int, block: int = 20_000) -> Iterator[tuple[str, list[Sequence[Any]]]]:
    now = datetime.now(UTC)
    said = now.replace(tzinfo=None).isoformat(sep=" ") if services.database.is_sqlite else now
    for start in range(0, left, block):
        made = [(number, new_id(now), new_id(now)) for number in range(start, min(start + block, left))]
        yield "contact", [(who, said) for _, who, _ in made]
        yield "address", [(own, who, "email", _address(n), _print(services, n), said) for n, who, own in made]
        yield "preference", [(who, "email", "default", "*", "unsubscribed", said, said, 1, True) for _, who, _ in made]
    gone = range(left, left + erased)
    yield "suppression", [(_print(services, number), "email", "erased", True, said, said, 1) for number in gone]


def _print(services: Services, number: int) -> str:
    return services.fingerprints.of(email(_address(number)))


def describe(name: str, result: Result) -> str:
    """One line for each side, and how they compare."""
    ours, other = median(result.ours.seconds), median(result.duckdb.seconds)
    sides = [
        f"  {title:<8} {median(side.seconds):6.1f} s ({min(side.seconds):.1f}–{max(side.seconds):.1f}),"
        f" {result.rows / median(side.seconds):>10,.0f} rows/s, {side.memory / 1e6:,.0f} MB at most"
        for title, side in (("scrub", result.ours), ("DuckDB", result.duckdb))
    ]
    agree = "both keep the same number" if result.agree else "THEY DO NOT AGREE"
    return "\n".join([f"{name}, {result.rows:,} rows: {ours / other:.1f} times DuckDB's time; {agree}", *sides])
