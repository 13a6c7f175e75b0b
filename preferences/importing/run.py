"""The second half of an import: what a file tells, recorded block by block.

Owns the size of a block. Invariants: no block holds the ledger's lock for much longer than a moment, and between two
blocks whoever waits comes first; a block that was told is durable; run again, it goes on where it stopped.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from preferences.domain.addresses import Fingerprints
from preferences.files.atomic import atomic_write
from preferences.files.process_pool import can_fork, helpers, nothing_collected
from preferences.files.spreadsheets import harmless_cell
from preferences.importing.files import Source
from preferences.importing.preparing import Prepared, Progress, Reject, prepared
from preferences.ledger import bulk
from preferences.ledger.bulk import Block, Outcome
from preferences.ledger.bulk_rows import Told
from preferences.store.bulk_copy import Form, expect_much, form_of, move_log
from preferences.store.catalog import Catalog
from preferences.store.transactions import Database, Write

BLOCK: Final = 500
"""Rows of the first block, before it is known how fast the database is."""

LARGEST: Final = 6_000
PLAIN: Final = 200
"""Rows at a time of those that take the long way."""

MOMENT: Final = 0.1
"""Seconds for which a block may hold the ledger's lock: clicks wait for it."""

PAUSE: Final = 0.005
"""Seconds between two blocks, in which those who wait take the lock."""

OURS: Final = Source()


@dataclass(slots=True)
class Counts:
    """What an import did: rows read, contacts made, entries that changed something, and those that did not."""

    rows: int = 0
    created: int = 0
    changed: int = 0
    unchanged: int = 0
    rejected: int = 0


def check(
    path: Path,
    catalog: Catalog,
    *,
    source: Source = OURS,
    progress: Progress = lambda _rows: None,
    reject: Callable[[Reject], None] | None = None,
) -> Counts:
    """Read the whole file and write nothing. Raises BadRow for the first wrong row, unless `reject` takes them."""
    with prepared(path, catalog, source=source, fingerprint_of=lambda _: "-", progress=progress, reject=reject) as laid:
        return Counts(rows=laid.rows, rejected=laid.rejects)


def import_file(
    path: Path, catalog: Catalog, *, database: Database, fingerprints: Fingerprints, progress: Progress
) -> Counts:
    """Check a whole file, then record it, block by block. Safe to repeat after an interruption."""
    with prepared(
        path, catalog, source=OURS, fingerprint_of=fingerprints.of, progress=lambda _rows: None, reject=None
    ) as laid:
        return record(laid, database, fingerprints=fingerprints, progress=progress)


@contextmanager
def rejects_to(
    path: Path | None, *, replace: bool = False, for_spreadsheets: bool = False
) -> Iterator[Callable[[Reject], None] | None]:
    """What takes wrong rows: a CSV file with the line, the column and the reason before the row's own values."""
    if path is None:
        yield None
        return
    cell = harmless_cell if for_spreadsheets else str
    with atomic_write(path, replace=replace) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text)
        writer.writerow(["line", "column", "why"])
        yield lambda bad: writer.writerow([bad.line, bad.column, bad.why, *map(cell, bad.values)])
        text.detach()


def record(laid: Prepared, database: Database, *, fingerprints: Fingerprints, progress: Progress) -> Counts:
    """Record what was prepared. While one block is written, the next one is made ready."""
    counts, size = Counts(rejected=laid.rejects), BLOCK
    making = _Making(laid.told(), fingerprints, form_of(database.engine.dialect.name))
    with nothing_collected(), _made_meanwhile(making, laid) as following:
        coming = following(size)
        while True:
            rows, block = coming.result()
            if not rows:
                return counts
            coming = following(size)
            outcome, held = _write(database, block)
            _count(outcome, counts)
            for some in _pieces(outcome.left):
                time.sleep(PAUSE)
                _count(database.write(bulk.record_plainly, some, fingerprints, datetime.now(UTC)), counts)
            counts.rows += rows
            progress(rows)
            size = _next_size(rows, held)
            database.read(move_log)
            time.sleep(PAUSE)


_Follow = Callable[[int], Future[tuple[int, Block]]]
"""Asks for the next block of about so many rows; its answer says how many they are."""


@dataclass(frozen=True, slots=True)
class _Making:
    """Makes the blocks, one after the other."""

    told: Iterator[Told]
    fingerprints: Fingerprints
    form: Form

    def following(self, wanted: int) -> tuple[int, Block]:
        rows = list(islice(self.told, wanted))
        return len(rows), bulk.prepare(rows, self.fingerprints, self.form, datetime.now(UTC))


@contextmanager
def _made_meanwhile(making: _Making, laid: Prepared) -> Iterator[_Follow]:
    """Has blocks made in the background: of a large file by another process, which leaves this one to the database."""
    with ExitStack() as stack:
        following = making.following
        if laid.large and can_fork():
            following = partial(_received, stack.enter_context(helpers(1, _become, making)))
        thread = stack.enter_context(ThreadPoolExecutor(1))
        yield lambda wanted: thread.submit(following, wanted)


_making: _Making


def _become(making: _Making) -> None:
    """In the process that makes blocks: out of what."""
    global _making  # noqa: PLW0603 - a pool's process has no other place to keep it
    _making = making


def _packed(wanted: int) -> tuple[int, bytes]:
    rows, block = _making.following(wanted)
    return rows, block.packed()


def _received(process: ProcessPoolExecutor, wanted: int) -> tuple[int, Block]:
    rows, packed = process.submit(_packed, wanted).result()
    return rows, Block.unpacked(packed)


def _write(database: Database, block: Block) -> tuple[Outcome, float]:
    """What became of a block, and for how long it held the lock."""
    outcome, locked_at = database.write(_write_block, block)
    return outcome, time.monotonic() - locked_at


def _write_block(write: Write, block: Block) -> tuple[Outcome, float]:
    locked_at = time.monotonic()
    expect_much(write)
    return bulk.record_new(write, block), locked_at


def _next_size(rows: int, held: float) -> int:
    """Never more than twice as many at once: a database that sped up may slow down again."""
    return max(BLOCK // 5, min(int(rows * MOMENT / max(held, 0.001)), 2 * rows, LARGEST))


def _count(outcome: Outcome, counts: Counts) -> None:
    counts.created += outcome.created
    counts.changed += outcome.changed
    counts.unchanged += outcome.unchanged


def _pieces(rows: Sequence[Told]) -> Iterator[Sequence[Told]]:
    for start in range(0, len(rows), PLAIN):
        yield rows[start : start + PLAIN]
