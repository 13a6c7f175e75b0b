"""A CSV file as bytes: its header, and its rows in pieces that can be processed in parallel.

Invariant: the pieces together are the file, byte for byte, in any encoding; a row is never cut. Only a last line that
has no end gets one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import IO, Final

from preferences.domain.vocabulary import Channel
from preferences.files.tables import LONGEST_ROW, BadFile, cells, place_of_address, read_bytes, read_head

PIECE: Final = 1 << 19
"""Bytes in a piece, about: fifteen thousand rows."""


class Encoding(StrEnum):
    """How non-ASCII text is encoded. AUTO is UTF-8 where it is valid, and Latin-1 elsewhere."""

    AUTO = "auto"
    UTF_8 = "utf-8"
    LATIN_1 = "latin-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the rows are written. `place` is the column of the address, from 0."""

    header: bytes
    delimiter: bytes
    columns: int
    place: int
    encoding: Encoding


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole rows with their line ends, and the line number of the first."""

    line: int
    data: bytes

    @property
    def is_quoted(self) -> bool:
        return b'"' in self.data


def read_layout(file: IO[bytes], channel: Channel, column: str | None, encoding: Encoding = Encoding.AUTO) -> Layout:
    """Read the header, and lines before it. Raises BadFile."""
    head = read_head(file, lambda data: text_of(data, encoding), encoding)
    return Layout(
        header=head.raw,
        delimiter=head.delimiter.encode(),
        columns=len(head.names),
        place=place_of_address(head.names, channel, column),
        encoding=encoding,
    )


def text_of(data: bytes, encoding: Encoding) -> str | None:
    """The decoded text, or None where it is not valid in the encoding."""
    if encoding is Encoding.LATIN_1:
        return data.decode("latin-1")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1") if encoding is Encoding.AUTO else None


def pieces(file: IO[bytes], layout: Layout) -> Iterator[Piece]:
    """The rows after the header, about `PIECE` data at a time. Raises BadFile for a quote that is not closed."""
    rest, line = b"", 1 + layout.header.count(b"\n")
    while block := read_bytes(file, PIECE):
        rest += block
        cut = rest.rfind(b"\n") + 1 if b'"' not in rest else _end_of_rows(rest, layout.delimiter)
        if cut:
            yield Piece(line, rest[:cut])
            line += rest.count(b"\n", 0, cut)
            rest = rest[cut:]
        if len(rest) > LONGEST_ROW:
            raise BadFile(f"line {line}: a row longer than {LONGEST_ROW:,} data; is a quote in it not closed?")
    if rest and _end_of_rows(rest + b"\n", layout.delimiter) <= len(rest):
        raise BadFile(f"line {line}: a quote is opened in this row and never closed")
    if rest:
        yield Piece(line, rest + b"\n")


@cache
def _row(delimiter: bytes) -> bytes:
    """A pattern for one row. A quote means something only where a cell begins, and there two are one inside."""
    stop = re.escape(delimiter)
    cell = rb'(?:"(?:[^"]++|"")*+"[^%b\n]*+|(?!")[^%b\n]*+)' % (stop, stop)
    return rb"%b(?:%b%b)*+\n" % (cell, stop, cell)


def _end_of_rows(data: bytes, delimiter: bytes) -> int:
    """Where the last whole row ends, or 0."""
    found = re.compile(rb"(?:%b)*+" % _row(delimiter)).match(data)
    return found.end() if found else 0


def rows_of(piece: Piece, layout: Layout) -> list[bytes]:
    """The rows, without their line ends."""
    if piece.is_quoted:
        return [row[:-1] for row in re.compile(_row(layout.delimiter)).findall(piece.data)]
    rows = piece.data.split(b"\n")
    rows.pop()
    return rows


def cells_of(row: bytes, layout: Layout) -> list[bytes]:
    """The cells of a row; empty for a row that cannot be parsed."""
    if b'"' not in row:
        return row.split(layout.delimiter)
    # Latin-1 takes every octet for a character and back, so what a cell holds comes through as it is.
    found = cells(row.decode("latin-1").removesuffix("\r"), layout.delimiter.decode())
    return [cell.encode("latin-1") for cell in found]
