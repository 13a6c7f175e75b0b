"""The second half of an import: record a checked file in blocks.

Invariants: a block locks the ledger for about MOMENT, and others can lock it between blocks; a reported block is
durable; a repeated import continues where it stopped.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from preferences.domain.addresses import Fingerprints
from preferences.files.atomic import atomic_write
from preferences.files.process_pool import can_fork, helpers, nothing_collected
from preferences.files.spreadsheets import harmless_cell
from preferences.importing.files import Source
from preferences.importing.preparing import Prepared, Progress, Reject, prepared
from preferences.ledger import bulk
from preferences.ledger.bulk import Block, FileRow, Outcome
from preferences.store.bulk_copy import expect_much, move_log
from preferences.store.catalog import Catalog
from preferences.store.transactions import Database, Write

BLOCK: Final = 500
"""Rows of the first block."""

LARGEST: Final = 6_000
OTHERS: Final = 200
"""Rows per transaction of `record_others`."""

MOMENT: Final = 0.1
"""Seconds a block may lock the ledger, while one-click requests wait."""

PAUSE: Final = 0.005
"""Seconds between blocks."""

OURS: Final = Source()


@dataclass(slots=True)
class Counts:
    """Rows read, contacts created, entries with and without a change."""

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
    """Check a file without writing. Raises BadRow for the first wrong row, unless `reject` takes it."""
    with prepared(path, catalog, source=source, fingerprint_of=lambda _: "-", progress=progress, reject=reject) as laid:
        return Counts(rows=laid.rows, rejected=laid.rejects)


def import_file(
    path: Path, catalog: Catalog, *, database: Database, fingerprints: Fingerprints, progress: Progress
) -> Counts:
    """Can be repeated after an interruption."""
    with prepared(
        path, catalog, source=OURS, fingerprint_of=fingerprints.of, progress=lambda _rows: None, reject=None
    ) as laid:
        return record(laid, database, fingerprints=fingerprints, progress=progress)


@contextmanager
def rejects_to(
    path: Path | None, *, replace: bool = False, for_spreadsheets: bool = False
) -> Iterator[Callable[[Reject], None] | None]:
    """A CSV of line, column, reason, and the row's values."""
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
    """Prepare each block while the previous one is written."""
    counts, size = Counts(rejected=laid.rejects), BLOCK
    dialect = database.engine.dialect
    blocks = _Blocks(laid.rows_in_order(), lambda rows: bulk.prepare(rows, fingerprints, dialect, datetime.now(UTC)))
    with nothing_collected(), _prepared_meanwhile(blocks, laid) as next_block:
        coming = next_block(size)
        while (made := coming.result()).rows:
            coming = next_block(size)
            outcome, held = _write(database, made.block)
            _count(outcome, counts)
            for start in range(0, len(outcome.left), OTHERS):
                rows = outcome.left[start : start + OTHERS]
                time.sleep(PAUSE)
                _count(database.write(bulk.record_others, rows, fingerprints, datetime.now(UTC)), counts)
            counts.rows += made.rows
            progress(made.rows)
            size = _next_size(made.rows, held)
            database.read(move_log)
            time.sleep(PAUSE)
    return counts


class _Made(NamedTuple):
    """With the number of file rows in it."""

    rows: int
    block: Block


@dataclass(frozen=True, slots=True)
class _Blocks:
    rows: Iterator[FileRow]
    prepare: Callable[[Sequence[FileRow]], Block]

    def next(self, wanted: int) -> _Made:
        rows = list(islice(self.rows, wanted))
        return _Made(len(rows), self.prepare(rows))


@contextmanager
def _prepared_meanwhile(blocks: _Blocks, laid: Prepared) -> Iterator[Callable[[int], Future[_Made]]]:
    """Prepare blocks in the background, for a large file in another process.

    Yields a function that starts the next block of so many rows.
    """
    if laid.large and can_fork():
        with helpers(1, _use_blocks, blocks) as process:
            yield lambda wanted: process.submit(_next_block, wanted)
    else:
        with ThreadPoolExecutor(1) as thread:
            yield lambda wanted: thread.submit(blocks.next, wanted)


_blocks: _Blocks


def _use_blocks(blocks: _Blocks) -> None:
    global _blocks  # noqa: PLW0603 - a pool's process has no other place to keep it
    _blocks = blocks


def _next_block(wanted: int) -> _Made:
    return _blocks.next(wanted)


def _write(database: Database, block: Block) -> tuple[Outcome, float]:
    """The outcome, and for how many seconds the lock was held."""
    outcome, locked_at = database.write(_write_block, block)
    return outcome, time.monotonic() - locked_at


def _write_block(write: Write, block: Block) -> tuple[Outcome, float]:
    locked_at = time.monotonic()
    expect_much(write)
    return bulk.record_new(write, block), locked_at


def _next_size(rows: int, held: float) -> int:
    """At most double: a fast database may slow down again."""
    return max(BLOCK // 5, min(int(rows * MOMENT / max(held, 0.001)), 2 * rows, LARGEST))


def _count(outcome: Outcome, counts: Counts) -> None:
    counts.created += outcome.created
    counts.changed += outcome.changed
    counts.unchanged += outcome.unchanged
