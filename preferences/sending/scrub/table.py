"""A CSV file as bytes: header, and pieces of rows for parallel processing.

Invariant: joined pieces equal the file, byte for byte, plus an end of the last line; rows are never split.
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
"""Approximate bytes per piece: fifteen thousand rows."""


class Encoding(StrEnum):
    """Encoding of non-ASCII text. AUTO is UTF-8 if valid, else Latin-1."""

    AUTO = "auto"
    UTF_8 = "utf-8"
    LATIN_1 = "latin-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Row format. `place` is the address column, from 0."""

    header: bytes
    delimiter: bytes
    columns: int
    place: int
    encoding: Encoding


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole rows, and the first line number."""

    line: int
    data: bytes

    @property
    def is_quoted(self) -> bool:
        return b'"' in self.data


def read_layout(file: IO[bytes], channel: Channel, column: str | None, encoding: Encoding = Encoding.AUTO) -> Layout:
    """Read the header and preceding lines. Raises BadFile."""
    head = read_head(file, lambda data: text_of(data, encoding), encoding)
    return Layout(
        header=head.raw,
        delimiter=head.delimiter.encode(),
        columns=len(head.names),
        place=place_of_address(head.names, channel, column),
        encoding=encoding,
    )


def text_of(data: bytes, encoding: Encoding) -> str | None:
    """Decoded text, or None if invalid."""
    if encoding is Encoding.LATIN_1:
        return data.decode("latin-1")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1") if encoding is Encoding.AUTO else None


def pieces(file: IO[bytes], layout: Layout) -> Iterator[Piece]:
    """Rows after the header in pieces of about `PIECE`. Raises BadFile for an unclosed quote."""
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
    """Pattern of one row. A quote counts only at the start of a cell; inside, it is doubled."""
    stop = re.escape(delimiter)
    cell = rb'(?:"(?:[^"]++|"")*+"[^%b\n]*+|(?!")[^%b\n]*+)' % (stop, stop)
    return rb"%b(?:%b%b)*+\n" % (cell, stop, cell)


def _end_of_rows(data: bytes, delimiter: bytes) -> int:
    """The end of the last whole row, or 0."""
    found = re.compile(rb"(?:%b)*+" % _row(delimiter)).match(data)
    return found.end() if found else 0


def rows_of(piece: Piece, layout: Layout) -> list[bytes]:
    if piece.is_quoted:
        return [row[:-1] for row in re.compile(_row(layout.delimiter)).findall(piece.data)]
    rows = piece.data.split(b"\n")
    rows.pop()
    return rows


def cells_of(row: bytes, layout: Layout) -> list[bytes]:
    """Cells of a row; empty if unparsable."""
    if b'"' not in row:
        return row.split(layout.delimiter)
    # Latin-1 maps every byte to a character and back.
    found = cells(row.decode("latin-1").removesuffix("\r"), layout.delimiter.decode())
    return [cell.encode("latin-1") for cell in found]
