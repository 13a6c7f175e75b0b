"""The scrub of one file: what is asked, what is read and written, and what came of it.

Owns the two files that come of one, and the counts. Invariant: a file that is not whole never stands under its name.
"""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from preferences.domain.addresses import Fingerprints
from preferences.domain.permission import Message
from preferences.files.atomic import atomic_write
from preferences.files.process_pool import nothing_collected
from preferences.files.tables import BOM, open_table, opened
from preferences.sending.scrub.rows import ADDED, GZIP_LEVEL, Sorter, header_with
from preferences.sending.scrub.shares import (
    Job,
    Places,
    Told,
    hashed_meanwhile,
    processes_for,
    sort_alone,
    sort_together,
    state_of,
)
from preferences.sending.scrub.table import Encoding, read_layout
from preferences.sending.scrub.verdicts import Verdicts
from preferences.services import Services
from preferences.store.feed import head_seq
from preferences.store.scrub import Question, answers
from preferences.store.transactions import Snapshot

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
    replace: bool = False
    for_spreadsheets: bool = False


@dataclass(slots=True)
class Counts:
    """Rows kept, and rows removed by reason, as things stood at entry `as_of` of the ledger; how the file was read, and
    whether it was in UTF-16, so that what is written is in UTF-8."""

    as_of: int = 0
    kept: int = 0
    removed: Counter[str] = field(default_factory=Counter)
    encodings: set[Encoding] = field(default_factory=set)
    translated: bool = False


def scrub(services: Services, files: Files, message: Message, *, progress: Progress) -> Counts:
    """Sort the rows of a file into two files. Raises BadFile or CannotWrite, and then leaves neither."""
    fingerprints = services.fingerprints
    with ExitStack() as stack:
        stack.enter_context(nothing_collected())
        raw = stack.enter_context(opened(files.source))
        state = state_of(files.source)
        text, compressed, translated = open_table(raw)
        layout = read_layout(text, message.channel, files.column, files.encoding)
        processes = files.processes or processes_for(files.source)
        with hashed_meanwhile(
            files.source, layout, message.channel, fingerprints=fingerprints, wanted=processes > 1
        ) as ahead:
            as_of, verdicts = services.database.snapshot(_verdicts, message, fingerprints)
            hashed = ahead()
        sorter = Sorter(
            layout=layout,
            channel=message.channel,
            message_class=message.message_class,
            verdicts=verdicts,
            fingerprints=fingerprints,
            compressed=compressed,
            for_spreadsheets=files.for_spreadsheets,
        )
        # The first one entered gets its name last: what will be sent to is there only when all is.
        keep = stack.enter_context(atomic_write(files.kept, replace=files.replace))
        remove = stack.enter_context(atomic_write(files.removed, replace=files.replace))
        begin = (
            _begun(keep, _packed(layout.header.rstrip(b"\r\n") + _end(layout.header), compressed)),
            _begun(remove, _packed(header_with(layout, ADDED), compressed)),
        )
        counts = Counts(
            as_of=as_of,
            encodings={Encoding.UTF_8} if layout.header.startswith(BOM) else set(),
            translated=translated,
        )
        place_of = _places(counts, begin, progress)
        job = Job(source=files.source, state=state, sorter=sorter, hashed=hashed, outputs=(keep, remove))
        if processes == 1:
            sort_alone(job, raw, text, place_of=place_of)
        else:
            sort_together(job, processes, place_of=place_of)
    return counts


def _begun(output: IO[bytes], header: bytes) -> int:
    """Where the rows begin."""
    output.write(header)
    output.flush()
    return len(header)


def _places(counts: Counts, begin: Places, progress: Progress) -> Callable[[Told], Places]:
    """Gives each piece its places, one behind the other, and counts what is in it."""
    read, (keep, remove) = 0, begin

    def place_of(told: Told) -> Places:
        nonlocal read, keep, remove
        counts.kept += told.kept
        counts.removed += told.reasons
        counts.encodings |= told.encodings
        progress(told.end - read)
        places = keep, remove
        read, keep, remove = told.end, keep + told.sizes[0], remove + told.sizes[1]
        return places

    return place_of


def _end(header: bytes) -> bytes:
    return b"\r\n" if header.endswith(b"\r\n") else b"\n"


def _packed(text: bytes, compressed: bool) -> bytes:
    return gzip.compress(text, GZIP_LEVEL, mtime=0) if compressed else text


def _verdicts(snapshot: Snapshot, message: Message, fingerprints: Fingerprints) -> tuple[int, Verdicts]:
    question = question_about(message, datetime.now(UTC))
    return head_seq(snapshot), Verdicts(question.default_decision, answers(snapshot, question, fingerprints))


def question_about(message: Message, now: datetime) -> Question:
    """What is read about everybody. Raises ValueError for a message without a topic."""
    if message.topic is None:
        raise ValueError("a scrub needs a topic")
    return Question(channel=message.channel, message_class=message.message_class, about=message.topic, now=now)
