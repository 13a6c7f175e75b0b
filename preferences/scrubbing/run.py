"""The scrub of one file: pieces of it to several processes, and what they make of them, in order, to two files.

Owns the processes and the files. Invariants: memory does not grow with the file; a file that is not whole never stands
under its name.
"""

from __future__ import annotations

import gc
import gzip
import multiprocessing
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice, starmap, zip_longest
from multiprocessing.pool import AsyncResult
from pathlib import Path
from typing import IO, Final

from sqlalchemy import Connection

from preferences.domain.addresses import Fingerprints
from preferences.domain.terms import Channel
from preferences.scrubbing.rows import ADDED, GZIP_LEVEL, Hashed, Sorted, Sorter, hashed_rows, header_with
from preferences.scrubbing.table import BOM, BadFile, Encoding, Layout, Piece, open_table, pieces, read_layout, rows_of
from preferences.scrubbing.verdicts import Verdicts
from preferences.store.db import Database
from preferences.store.queries import head_seq
from preferences.store.scrub import Question, answers
from preferences.whole_files import whole_file

AHEAD: Final = 3
"""Pieces that each process has in hand or in waiting: enough to keep it busy, and little memory."""

MOST_HASHED: Final = 220
"""Pieces that are hashed before the answers are there; of each a quarter of a million octets are kept."""

SMALL: Final = 4 << 20
"""Octets of a file that is sorted before other processes would have started."""

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What is read, and how; and what is written."""

    source: Path
    kept: Path
    removed: Path
    column: str | None = None
    encoding: Encoding = Encoding.AUTO
    processes: int | None = None


@dataclass(slots=True)
class Counts:
    """Rows kept, and rows removed by reason, as things stood at entry `as_of` of the ledger."""

    as_of: int = 0
    kept: int = 0
    removed: Counter[str] = field(default_factory=Counter)
    encodings: set[Encoding] = field(default_factory=set)


def scrub(
    files: Files, asked: Question, *, database: Database, fingerprints: Fingerprints, progress: Progress
) -> Counts:
    """Sort the rows of a file into two. Raises BadFile, and then leaves neither."""
    counts = Counts()
    with ExitStack() as stack:
        raw = stack.enter_context(_opened(files.source))
        text, compressed = open_table(raw)
        layout = read_layout(text, asked.channel, files.column, files.encoding)
        if layout.header.startswith(BOM):
            counts.encodings.add(Encoding.UTF_8)
        processes = _processes(files)
        # Of a compressed file nothing is hashed beforehand: it would have to be unpacked twice.
        several = processes > 1 and not compressed
        with _hashed_meanwhile(files, layout, asked.channel, fingerprints=fingerprints, wanted=several) as ahead:
            counts.as_of, verdicts = database.snapshot(_verdicts, asked, fingerprints)
            hashed = ahead()
        sorter = Sorter(
            layout=layout,
            channel=asked.channel,
            message_class=asked.message_class,
            verdicts=verdicts,
            fingerprints=fingerprints,
            compressed=compressed,
        )
        # The first one entered gets its name last: what will be sent to is there only when all is.
        keep = stack.enter_context(_whole(files.kept))
        remove = stack.enter_context(_whole(files.removed))
        keep.write(_packed(layout.header.rstrip(b"\r\n") + _end(layout.header), compressed))
        remove.write(_packed(header_with(layout, ADDED), compressed))
        work = zip_longest(_told(pieces(text, layout), raw, progress), hashed)
        for one in _sorted(sorter, work, processes):
            keep.write(one.kept)
            remove.write(one.removed)
            counts.kept += one.number
            counts.removed += one.reasons
            counts.encodings |= one.encodings
    return counts


def _end(header: bytes) -> bytes:
    return b"\r\n" if header.endswith(b"\r\n") else b"\n"


def _packed(text: bytes, compressed: bool) -> bytes:
    return gzip.compress(text, GZIP_LEVEL, mtime=0) if compressed else text


def _verdicts(connection: Connection, asked: Question, fingerprints: Fingerprints) -> tuple[int, Verdicts]:
    return head_seq(connection), Verdicts(asked.stranger, answers(connection, asked, fingerprints))


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        raw = path.open("rb")
    except OSError as error:
        raise BadFile(f"{path.name} cannot be read ({error.strerror})") from None
    with raw:
        yield raw


def _processes(files: Files) -> int:
    if files.processes is not None:
        return files.processes
    if files.source.stat().st_size < SMALL or "fork" not in multiprocessing.get_all_start_methods():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


Work = tuple[Piece, Hashed | None]
"""A piece, and if it was hashed before, what came of that."""


@contextmanager
def _hashed_meanwhile(
    files: Files, layout: Layout, channel: Channel, *, fingerprints: Fingerprints, wanted: bool
) -> Iterator[Callable[[], list[Hashed]]]:
    """While the answers are read, which keeps one core busy, another begins with the file. Ends when it is asked for
    what it has."""
    if not wanted:
        yield list
        return
    forking = multiprocessing.get_context("fork")
    enough, (ours, theirs) = forking.Event(), forking.Pipe(duplex=False)

    def hash_pieces() -> None:
        gc.disable()
        done: list[Hashed] = []
        with suppress(BadFile), _opened(files.source) as raw:  # whoever sorts the file comes to the same place
            raw.seek(len(layout.header))
            for piece in islice(pieces(raw, layout), MOST_HASHED):
                if enough.is_set():
                    break
                rows = rows_of(piece, layout)
                done.append(hashed_rows(piece, rows, layout=layout, channel=channel, fingerprints=fingerprints))
        for one in done:
            theirs.send(one)
        theirs.send(None)

    def stop() -> list[Hashed]:
        enough.set()
        found: list[Hashed] = []
        with suppress(EOFError):  # it was killed; then the rest of its work is done again
            found.extend(iter(ours.recv, None))
        return found

    helper = forking.Process(target=hash_pieces, daemon=True)
    helper.start()
    theirs.close()
    try:
        yield stop
    finally:
        helper.terminate()
        helper.join()


_sorter: Sorter | None = None


def _begin(sorter: Sorter) -> None:
    global _sorter  # noqa: PLW0603 - one for each process, handed over by the fork
    _sorter = sorter
    gc.disable()  # nothing here refers to itself, and to look for it takes a tenth of the time


def _sort(piece: Piece, hashed: Hashed | None) -> Sorted:
    if _sorter is None:
        raise RuntimeError("a process without its table")
    return _sorter(piece, hashed)


def _sorted(sorter: Sorter, found: Iterable[Work], processes: int) -> Iterator[Sorted]:
    """Each piece's result in the order of the file. Few are ahead of it at any time."""
    if processes == 1:
        yield from starmap(sorter, found)
        return
    gc.freeze()  # what is there already is the same in every process, and need not be looked through and so copied
    gc.disable()
    try:
        with multiprocessing.get_context("fork").Pool(processes, _begin, (sorter,)) as pool:
            waiting: deque[AsyncResult[Sorted]] = deque()
            for one in found:
                waiting.append(pool.apply_async(_sort, one))
                if len(waiting) > AHEAD * processes:
                    yield waiting.popleft().get()
            while waiting:
                yield waiting.popleft().get()
    finally:
        gc.enable()
        gc.unfreeze()


def _told(found: Iterator[Piece], raw: IO[bytes], progress: Progress) -> Iterator[Piece]:
    told = 0
    for piece in found:
        progress(raw.tell() - told)
        told = raw.tell()
        yield piece


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name when it is whole and on the disk. Raises BadFile."""
    try:
        with whole_file(path) as file:
            yield file
    except OSError as error:
        raise BadFile(f"{path.name} cannot be written ({error.strerror})") from None
