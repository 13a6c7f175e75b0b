"""The work on one file, shared by several processes: of its pieces each takes every second, or third, or so on.

Owns the processes, and what they say to each other. Each of them reads the whole file and writes to both outputs by
itself, which takes less time than to send rows to and fro. Invariants: rows stand in the order of the file; memory
does not grow with it.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice, repeat
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, Final

from preferences.domain.addresses import Fingerprints
from preferences.domain.vocabulary import Channel
from preferences.files.process_pool import can_fork, cores
from preferences.files.tables import BadFile, open_table, opened
from preferences.sending.scrub.rows import Hashed, Sorted, Sorter, hashed_rows
from preferences.sending.scrub.table import Encoding, Layout, Piece, pieces, rows_of

AHEAD: Final = 3
"""Sorted pieces that a process holds until it is told their places: enough to keep it busy, and little memory."""

MOST_HASHED: Final = 500
"""Pieces that are hashed before the answers are there; of each an eighth of a million octets are kept."""

SMALL: Final = 4 << 20
"""Octets of a file that is sorted before other processes would have started."""

Places = tuple[int, int]
"""Where the rows of a piece go in the two outputs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What became of a piece: rows kept, the others by reason, how it was read, the octets that are added to each
    output; and where in the source it ends."""

    kept: int
    reasons: Counter[str]
    encodings: frozenset[Encoding]
    sizes: tuple[int, int]
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A file in the `state` in which it was found, what is known already of its first pieces, and where rows go."""

    source: Path
    state: object
    sorter: Sorter
    hashed: Sequence[Hashed]
    outputs: tuple[IO[bytes], IO[bytes]]


def state_of(source: Path) -> object:
    """Something that is different when the file is, or is gone."""
    try:
        state = source.stat()
    except OSError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


def processes_for(source: Path) -> int:
    """How many processes are worth their while."""
    return 1 if source.stat().st_size < SMALL or not can_fork() else cores()


Work = tuple[Piece, int, Hashed | None]
"""A piece, where it ends in the source, and if it was hashed before, what came of that."""


def sort_alone(job: Job, raw: IO[bytes], text: IO[bytes], *, place_of: Callable[[Told], Places]) -> None:
    """Sort what is behind the header of an open file. `place_of` is called for each piece in order."""
    places: deque[Places] = deque()
    _sort(job, _work(job, raw, text), tell=lambda told: places.append(place_of(told)), place=places.popleft)


def sort_together(job: Job, processes: int, *, place_of: Callable[[Told], Places]) -> None:
    """Sort a file. `place_of` is called for each piece in order. Raises BadFile."""
    forking = multiprocessing.get_context("fork")
    workers, desks = [], []
    try:
        for share in range(processes):
            ours, theirs = forking.Pipe()
            desks.append(ours)
            worker = forking.Process(target=_sort_share, args=(job, share, processes, theirs, desks), daemon=True)
            workers.append(worker)
            worker.start()
            theirs.close()
        _give_places(desks, place_of)
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
    if state_of(job.source) != job.state:
        raise BadFile("the file was changed while it was read; do it again")


def _give_places(desks: Iterable[Connection[Places, Any]], place_of: Callable[[Told], Places]) -> None:
    """Ends when each process has said that it is done."""
    at_work = deque(desks)
    try:
        while at_work:
            desk = at_work.popleft()
            told = desk.recv()
            if isinstance(told, Exception):
                raise told
            if told is not None:
                desk.send(place_of(told))
                at_work.append(desk)
    except (EOFError, ConnectionError):
        raise BadFile("a process that sorted the file was stopped; is there memory for it? do it again") from None


def _sort_share(
    job: Job, share: int, processes: int, desk: Connection[Any, Places], others: Iterable[Connection[Any, Any]]
) -> None:
    for one in others:
        one.close()  # else whoever is at the other end would not be missed
    try:
        with opened(job.source) as raw:
            text = open_table(raw).text
            text.seek(len(job.sorter.layout.header))
            work = islice(_work(job, raw, text), share, None, processes)
            _sort(job, work, tell=desk.send, place=desk.recv)
        desk.send(None)
    except (BadFile, OSError) as error:
        desk.send(error)
        with suppress(EOFError):  # until that is read, places may come
            deque(iter(desk.recv, None), maxlen=0)


def _work(job: Job, raw: IO[bytes], text: IO[bytes]) -> Iterator[Work]:
    for piece, hashed in zip(pieces(text, job.sorter.layout), chain(job.hashed, repeat(None)), strict=False):
        yield piece, raw.tell(), hashed


def _sort(job: Job, work: Iterable[Work], *, tell: Callable[[Told], None], place: Callable[[], Places]) -> None:
    """Of each piece is told what became of it, and in the same order, a little later, its place is asked for."""
    held: deque[Sorted] = deque()
    for piece, end, hashed in work:
        done = job.sorter(piece, hashed)
        sizes = len(done.kept), len(done.removed)
        tell(Told(kept=done.number, reasons=done.reasons, encodings=done.encodings, sizes=sizes, end=end))
        held.append(done)
        if len(held) > AHEAD:
            _put(job, held.popleft(), place())
    for done in held:
        _put(job, done, place())


def _put(job: Job, done: Sorted, places: Places) -> None:
    for file, octets, place in zip(job.outputs, (done.kept, done.removed), places, strict=True):
        _write_at(file, place, memoryview(octets))


def _write_at(file: IO[bytes], place: int, octets: memoryview) -> None:
    """Leaves the file's position alone, which processes that are forked share."""
    while octets:
        written = os.pwrite(file.fileno(), octets, place)
        octets, place = octets[written:], place + written


@contextmanager
def hashed_meanwhile(
    source: Path, layout: Layout, channel: Channel, *, fingerprints: Fingerprints, wanted: bool
) -> Iterator[Callable[[], list[Hashed]]]:
    """While the answers are read, which keeps one core busy, another begins with the file. Ends when it is asked for
    what it has."""
    if not wanted:
        yield list
        return
    forking = multiprocessing.get_context("fork")
    enough, (ours, theirs) = forking.Event(), forking.Pipe(duplex=False)

    def hash_pieces() -> None:
        done: list[Hashed] = []
        with suppress(BadFile), opened(source) as raw:  # whoever sorts the file comes to the same place
            text = open_table(raw).text
            text.seek(len(layout.header))
            for piece in islice(pieces(text, layout), MOST_HASHED):
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
