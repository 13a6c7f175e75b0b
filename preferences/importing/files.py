"""The file of an import: what program wrote it, how it is encoded and packed, and its rows.

Owns reading lines, and where a row ends. Invariant: a row that cannot be read is told by its line's number, and the
ones after it are still read where that is possible.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Final, cast

from preferences.importing.columns import BadRow
from preferences.importing.formats import BadExport, Options, read_json

GZIP: Final = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Source:
    """How a file is to be read. Without `tool` the columns are ours; rows that name no topic mean `options.topic`."""

    tool: str = ""
    options: Options = field(default_factory=Options)
    encoding: str = "utf-8-sig"


def open_text(path: Path, encoding: str) -> io.TextIOWrapper:
    """The file as text, unpacked if it is gzip."""
    with path.open("rb") as file:
        packed = file.read(len(GZIP)) == GZIP
    raw = gzip.open(path) if packed else path.open("rb")  # noqa: SIM115 - whoever closes the text closes it
    return io.TextIOWrapper(raw, encoding=encoding, newline="")


CHUNK: Final = 4_000
"""Lines that are read, and parsed, at a time."""

Chunk = tuple[int, list[str] | list[list[str]]]
"""Whole rows: the number of the first line; and the lines, or of a JSON file the values."""

Numbered = tuple[int, Sequence[str] | None]


def read_file(path: Path, source: Source) -> Iterator[Chunk]:
    """The file chunk by chunk, of which the first that is not empty holds only the header."""
    if source.tool:
        with open_text(path, source.encoding) as file:
            if file.read(1) in {"[", "{"}:
                return _records(path, source.encoding)
    return _chunks(path, source.encoding)


def rows_of(chunk: Chunk) -> Iterator[Numbered]:
    """The numbered rows of a chunk; None for one that is not well formed. Empty lines are left out."""
    first, lines = chunk
    if lines and not isinstance(lines[0], str):
        yield from enumerate(lines, first)
        return
    reader = csv.reader(cast("list[str]", lines), strict=True)
    while True:
        try:
            values = next(reader)
        except csv.Error:
            yield first - 1 + reader.line_num, None
        except StopIteration:
            return
        else:
            if values:
                yield first - 1 + reader.line_num, values


def _records(path: Path, encoding: str) -> Iterator[Chunk]:
    """The records of a JSON file, as if each were a line below the names of the columns."""
    with open_text(path, encoding) as file:
        try:
            names, records = read_json(file.read())
        except BadExport as error:
            raise BadRow(1, error.column, error.why) from None
    yield 1, [list(names)]
    for start in range(0, len(records), CHUNK):
        yield start + 2, [[record.get(name, "") for name in names] for record in records[start : start + CHUNK]]


def _chunks(path: Path, encoding: str) -> Iterator[Chunk]:
    first, wanted = 1, 1
    with open_text(path, encoding) as file:
        while lines := _take(file, wanted, first=first, encoding=encoding):
            yield first, lines
            first += len(lines)
            if any(line.strip("\r\n") for line in lines):
                wanted = CHUNK


def _take(file: io.TextIOWrapper, wanted: int, *, first: int, encoding: str) -> list[str]:
    """So many lines, and what is left of the row in which they end."""
    lines: list[str] = []
    try:
        lines.extend(islice(file, wanted))
        if any('"' in line for line in lines):
            _end_row(lines, file)
    except UnicodeDecodeError:
        name = "UTF-8" if encoding.startswith("utf-8") else encoding
        raise BadRow(first + len(lines), "", f"not {name}; say what it is with --encoding") from None
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise BadRow(first + len(lines), "", "the packed file is damaged here") from None
    return lines


def _end_row(lines: list[str], file: io.TextIOWrapper) -> None:
    """Take more lines, until the row in which these end is whole: there may be line ends between quotes."""
    taken = len(lines)
    reader = csv.reader(chain(tuple(lines), _kept(file, lines)), strict=True)
    while reader.line_num < taken:
        with suppress(csv.Error):
            next(reader, None)


def _kept(file: io.TextIOWrapper, lines: list[str]) -> Iterator[str]:
    for line in file:
        lines.append(line)
        yield line
