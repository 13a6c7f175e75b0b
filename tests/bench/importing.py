"""An import of a large file beside a bare COPY of the same file with the same digests, while people click.

The COPY reads the file, makes the three digests that an entry has of each row (the address's fingerprint, the line's
SHA-256 that knows it again, and the one that chains it to the row before), and puts columns and digests into one table
without an index, in one transaction: what any import of this file has to do at least. The import is `flask import` as
an operator runs it, in a process of its own, and the clicks go to a web process as it runs in production.
"""

from __future__ import annotations

import csv
import hashlib
import http.client
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles
from typing import Final

import psutil
import psycopg

from preferences.current import services_of
from preferences.domain.addresses import Fingerprints
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel
from preferences.ledger import verify
from tests.bench.machine import ROOT, pss
from tests.support import close, new_app

ROWS: Final = 1_000_000
CLICKERS: Final = 4
BETWEEN_CLICKS: Final = 0.02
"""Seconds that a clicker rests, so that people click and do not storm."""

HEADER: Final = ("address", "channel", "topic", "status", "occurred_at", "source")


def write_file(path: Path, rows: int) -> None:
    """All new people: nine of ten left, one came."""
    start = datetime(2025, 1, 1, tzinfo=UTC)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for number in range(rows):
            at = (start + timedelta(seconds=13 * number)).isoformat()
            status = "subscribed" if number % 10 == 0 else "unsubscribed"
            name = hashlib.sha256(str(number).encode()).hexdigest()[:12]
            writer.writerow([f"{name}{number}@example.com", "email", "product-news", status, at, "old shop"])


def copy_bare(path: Path, url: str, key: str) -> float:
    """Rows a second of the COPY."""
    columns = ", ".join(f"{name} text" for name in (*HEADER, "fingerprint", "digest", "hash"))
    url = url.replace("postgresql+psycopg", "postgresql")
    started = time.perf_counter()
    with psycopg.connect(url) as connection:
        connection.execute(f"CREATE TABLE bare ({columns})".encode())
        with connection.cursor().copy("COPY bare FROM STDIN") as copy:
            count = 0
            for block in _copy_text(path, Fingerprints([key.encode()])):
                copy.write(block)
                count += block.count("\n")
    seconds = time.perf_counter() - started
    with psycopg.connect(url) as connection:
        connection.execute("DROP TABLE bare")
    return count / seconds


def _copy_text(path: Path, fingerprints: Fingerprints) -> Iterator[str]:
    lines: list[str] = []
    chained = ""
    with path.open(newline="") as file:
        reader = csv.reader(file)
        next(reader)
        for row in reader:
            printed = fingerprints.of(Address(Channel.EMAIL, row[0]))
            digest = hashlib.sha256("\x1f".join(row).encode()).hexdigest()
            chained = hashlib.sha256("\x1f".join([chained, *row, printed, digest]).encode()).hexdigest()
            lines.append("\t".join([*row, printed, digest, chained]) + "\n")
            if len(lines) == 5_000:
                yield "".join(lines)
                lines = []
    yield "".join(lines)


@dataclass(slots=True)
class Clicks:
    """One-click POSTs by a few connections until told to stop, and how long each answer took."""

    port: int
    paths: Sequence[str]
    seconds: list[float] = field(default_factory=list)
    wrong: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._click, args=(number,)) for number in range(CLICKERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _click(self, first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        for path in self.paths[first::CLICKERS]:
            if self._stop.wait(BETWEEN_CLICKS):
                return
            started = time.perf_counter()
            connection.request("POST", path, b"List-Unsubscribe=One-Click")
            answer = connection.getresponse()
            answer.read()
            self.seconds.append(time.perf_counter() - started)
            self.wrong += answer.status != 200


@dataclass(frozen=True, slots=True)
class Imported:
    """One import: its speed, its peak of memory, and what the clicks beside it took."""

    rate: float
    memory: int
    p50: float
    p99: float
    slowest: float
    clicks: int
    wrong: int
    problems: Sequence[str]


def measure(path: Path, rows: int, *, url: str, environment: Mapping[str, str], clicks: Clicks) -> Imported:
    """`flask import` of the file, with clicks beside it; the ledger is verified afterwards."""
    command = [sys.executable, "-m", "flask", "--app", "app", "import", str(path)]
    with clicks.going_on():
        started = time.perf_counter()
        running = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
        os.sched_setaffinity(running.pid, range(os.cpu_count() or 1))
        memory = 0
        while running.poll() is None:
            memory = max(memory, _memory_of(running.pid))
            time.sleep(0.5)
        seconds = time.perf_counter() - started
    if running.returncode:
        raise RuntimeError("the import failed")
    cuts = quantiles(clicks.seconds, n=100)
    problems = _problems(url)
    return Imported(
        rate=rows / seconds,
        memory=memory,
        p50=cuts[49] * 1e3,
        p99=cuts[98] * 1e3,
        slowest=max(clicks.seconds) * 1e3,
        clicks=len(clicks.seconds),
        wrong=clicks.wrong,
        problems=problems,
    )


def _memory_of(pid: int) -> int:
    try:
        main = psutil.Process(pid)
        return sum(pss(process) for process in [main, *main.children(recursive=True)])
    except psutil.NoSuchProcess:
        return 0


def _problems(url: str) -> list[str]:
    app = new_app(url)
    report = services_of(app).database.snapshot(verify.verify, lambda _: None)
    close(app)
    return report.problems


def describe(name: str, one: Imported, bare: float) -> str:
    """Two lines."""
    verdict = "the ledger adds up" if not one.problems else f"THE LEDGER DOES NOT ADD UP: {one.problems[0]}"
    return (
        f"{name}: {one.rate:,.0f} rows/s, {one.rate / bare:.2f} of the COPY ({bare:,.0f} rows/s);"
        f" {one.memory / 2**20:.0f} MB at most; {verdict}.\n"
        f"  {one.clicks:,} clicks meanwhile: p50 {one.p50:.0f} ms, p99 {one.p99:.0f} ms, the slowest"
        f" {one.slowest:.0f} ms, {one.wrong} not answered with 200."
    )
