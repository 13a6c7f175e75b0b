"""Scrubs one file into two: kept and removed rows.

Other processes hash addresses; this one looks them up and writes. Invariants: rows keep their order; memory is
constant; an incomplete output never gets its final name.
"""

from __future__ import annotations

import gzip
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, Final, cast

from preferences.domain.addresses import Fingerprints
from preferences.domain.permission import Message
from preferences.files.atomic import atomic_write
from preferences.files.process_pool import can_fork, cores, helpers, nothing_collected
from preferences.files.tables import BOM, BadFile, open_table, opened
from preferences.sending.scrub.index import Index
from preferences.sending.scrub.rows import encodings_of, header_with
from preferences.sending.scrub.sort import ADDED, Hashed, Hasher, Sorter
from preferences.sending.scrub.table import Encoding, Piece, pieces, read_layout
from preferences.services import Services
from preferences.store.feed import head_seq
from preferences.store.scrub import Question, answers
from preferences.store.transactions import Snapshot

Progress = Callable[[int], None]

SMALL: Final = 4 << 20
"""Bytes that one process sorts before others would have started."""

HASHED_AHEAD: Final = 64
"""Pieces hashed while decisions are read: about 40 MB."""

GZIP_LEVEL: Final = 3
"""Three times faster than the default, 6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    source: Path
    kept: Path
    removed: Path
    column: str | None = None
    encoding: Encoding = Encoding.AUTO
    processes: int | None = None
    replace: bool = False
    for_spreadsheets: bool = False


@dataclass(slots=True)
class Counts:
    """Rows kept, and rows removed by reason, as of entry `as_of`.

    `encodings` are those of non-ASCII rows; `translated`: the input was UTF-16, the output is UTF-8.
    """

    as_of: int = 0
    kept: int = 0
    removed: Counter[str] = field(default_factory=Counter)
    encodings: set[Encoding] = field(default_factory=set)
    translated: bool = False


def scrub(services: Services, files: Files, message: Message, *, progress: Progress) -> Counts:
    """Split a file. Raises BadFile, HelperLost or CannotWrite, and then leaves no output."""
    with ExitStack() as stack:
        stack.enter_context(nothing_collected())
        raw = stack.enter_context(opened(files.source))
        state = _state_of(files.source)
        text, compressed, translated = open_table(raw)
        layout = read_layout(text, message.channel, files.column, files.encoding)
        hasher = Hasher(layout, message.channel, services.fingerprints)
        submit = stack.enter_context(_hashing(hasher, files.processes or _processes_for(files.source)))
        work = _Work(raw, pieces(text, layout), submit)
        work.begin(HASHED_AHEAD)
        as_of, index = services.database.snapshot(_read_index, message, services.fingerprints)
        sorter = Sorter(
            layout=layout,
            message_class=message.message_class,
            index=index,
            for_spreadsheets=files.for_spreadsheets,
        )
        encodings = {Encoding.UTF_8} if layout.header.startswith(BOM) else set()
        counts = Counts(as_of=as_of, encodings=encodings, translated=translated)
        # The first output, the list to send to, is renamed last, when both are complete.
        outputs = (
            stack.enter_context(_output(files.kept, replace=files.replace, compressed=compressed)),
            stack.enter_context(_output(files.removed, replace=files.replace, compressed=compressed)),
        )
        _write(outputs, work, sorter, counts=counts, progress=progress)
        if _state_of(files.source) != state:
            raise BadFile("the file was changed while it was read; do it again")
    return counts


def _write(
    outputs: tuple[IO[bytes], IO[bytes]], work: _Work, sorter: Sorter, *, counts: Counts, progress: Progress
) -> None:
    keep, remove = outputs
    header = sorter.layout.header
    keep.write(header.rstrip(b"\r\n") + (b"\r\n" if header.endswith(b"\r\n") else b"\n"))
    remove.write(header_with(sorter.layout, ADDED))
    for piece, read, hashed in work:
        done = sorter(piece, hashed)
        keep.write(done.kept)
        remove.write(done.removed)
        counts.kept += done.number
        counts.removed += done.reasons
        counts.encodings |= encodings_of(piece, sorter.layout)
        progress(read)


@contextmanager
def _output(path: Path, *, replace: bool, compressed: bool) -> Iterator[IO[bytes]]:
    with atomic_write(path, replace=replace) as file:
        if not compressed:
            yield file
            return
        with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=GZIP_LEVEL, mtime=0) as packed:
            yield cast("IO[bytes]", packed)


def _read_index(snapshot: Snapshot, message: Message, fingerprints: Fingerprints) -> tuple[int, Index]:
    question = question_about(message, datetime.now(UTC))
    return head_seq(snapshot), Index(question.default_decision, answers(snapshot, question, fingerprints))


def question_about(message: Message, now: datetime) -> Question:
    """The query for all addresses. Raises ValueError for a message without a topic."""
    if message.topic is None:
        raise ValueError("a scrub needs a topic")
    return Question(channel=message.channel, message_class=message.message_class, about=message.topic, now=now)


def _state_of(source: Path) -> object:
    """A value that changes with the file."""
    try:
        state = source.stat()
    except OSError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


Submit = Callable[[Piece], "Future[Hashed]"]


class _Work:
    """Pieces in order, with bytes read and hashes. A few are submitted ahead."""

    def __init__(self, raw: IO[bytes], found: Iterator[Piece], submit: Submit) -> None:
        self._raw, self._pieces, self._submit = raw, found, submit
        self._waiting: deque[tuple[Piece, int, Future[Hashed]]] = deque()
        self._read = 0

    def begin(self, count: int) -> None:
        for piece in islice(self._pieces, max(count - len(self._waiting), 0)):
            read, self._read = self._raw.tell() - self._read, self._raw.tell()
            self._waiting.append((piece, read, self._submit(piece)))

    def __iter__(self) -> Iterator[tuple[Piece, int, Hashed]]:
        self.begin(2 * cores())
        while self._waiting:
            piece, read, hashed = self._waiting.popleft()
            yield piece, read, hashed.result()
            self.begin(2 * cores())


def _processes_for(source: Path) -> int:
    return 1 if source.stat().st_size < SMALL or not can_fork() else cores()


@contextmanager
def _hashing(hasher: Hasher, processes: int) -> Iterator[Submit]:
    if processes == 1:
        yield lambda piece: _done(hasher(piece))
        return
    with helpers(processes, _become, hasher) as pool:
        yield lambda piece: pool.submit(_hash, piece)
        pool.shutdown(cancel_futures=True)


def _done(hashed: Hashed) -> Future[Hashed]:
    future: Future[Hashed] = Future()
    future.set_result(hashed)
    return future


_hasher: Hasher


def _become(hasher: Hasher) -> None:
    global _hasher  # noqa: PLW0603 - pool processes have no other place for it
    _hasher = hasher


def _hash(piece: Piece) -> Hashed:
    return _hasher(piece)
