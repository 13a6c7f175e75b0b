"""A CSV file as it comes: its header, and its rows in pieces that can be worked on side by side.

Owns where one row ends and the next begins. Invariant: the pieces together are the file, octet for octet, whatever it
is written in, and a last line without an end gets one; a row is never cut.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import IO, Final, cast

from preferences.domain.errors import PreferencesError
from preferences.domain.terms import Channel

PIECE: Final = 1 << 19
"""Octets in a piece, about: fifteen thousand rows."""

LONGEST_ROW: Final = 1 << 22
"""Octets in one row. A quote that is never closed would make one of the rest of the file."""

DELIMITERS: Final = b",;\t|"
BOM: Final = b"\xef\xbb\xbf"

COLUMNS: Final = {
    Channel.EMAIL: ("address", "email", "e mail", "email address", "e mail address", "emailaddress", "mail"),
    Channel.SMS: ("address", "phone", "phone number", "mobile", "mobile number", "mobile phone", "telephone", "sms"),
    Channel.VOICE: ("address", "phone", "phone number", "telephone", "telephone number", "mobile"),
    Channel.POST: ("address", "postal address"),
}
"""What the column of the addresses is called, in small letters and with spaces, here and by other programs."""


class Encoding(StrEnum):
    """How letters beyond ASCII are written. AUTO is UTF-8 wherever it can be that, and Latin-1 elsewhere."""

    AUTO = "auto"
    UTF_8 = "utf-8"
    LATIN_1 = "latin-1"


class BadFile(PreferencesError):
    """The file cannot be used. Says the line and the column, never a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the rows are written, and in which of the columns (from 0) the address stands."""

    header: bytes
    delimiter: bytes
    columns: int
    place: int
    encoding: Encoding


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole rows, each with its line's end, and the number of the first one's line."""

    line: int
    octets: bytes

    @property
    def is_quoted(self) -> bool:
        """Whether a cell may be quoted."""
        return b'"' in self.octets


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file as it lies. Raises BadFile."""
    try:
        raw = path.open("rb")
    except OSError as error:
        raise BadFile(f"{path.name} cannot be read ({error.strerror})") from None
    with raw:
        yield raw


def open_table(raw: IO[bytes]) -> tuple[IO[bytes], bool]:
    """The text of a file, and whether the file is compressed, which its first octets say."""
    magic = raw.read(2)
    raw.seek(0)
    if magic == b"\x1f\x8b":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=raw)), True
    return raw, False


def read_layout(file: IO[bytes], channel: Channel, column: str | None, encoding: Encoding = Encoding.AUTO) -> Layout:
    """Read the header. Raises BadFile."""
    header = _read(file, line=True)
    if header.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadFile("the file is in UTF-16; save it as UTF-8")
    text = text_of(header.removeprefix(BOM).rstrip(b"\r\n"), encoding)
    if text is None:
        raise BadFile(f"line 1: not in {encoding}; name another --encoding")
    if not text.strip():
        raise BadFile("line 1 is empty; it must name the columns")
    if set(text) & set("\r\x00"):
        raise BadFile("line 1: not the header of a CSV file whose lines end with a line feed")
    delimiter = max(DELIMITERS, key=text.encode().count)
    names = _cells(text, chr(delimiter))
    return Layout(
        header=header,
        delimiter=bytes([delimiter]),
        columns=len(names),
        place=_place(names, channel, column),
        encoding=encoding,
    )


def _place(names: Sequence[str], channel: Channel, column: str | None) -> int:
    """The first of the usual names that is there; a name that is there twice says nothing."""
    found = [_plain(name) for name in names]
    wanted = [_plain(column)] if column else list(COLUMNS[channel])
    name = next((one for one in wanted if one in found), None)
    if name is None and column:
        raise BadFile("line 1: there is no column of the name that --column gives")
    if name is None:
        raise BadFile(f"line 1: no column is called {', '.join(wanted)}; name yours with --column")
    if found.count(name) > 1:
        raise BadFile("line 1: two columns of that name may hold the addresses; give one of them another name")
    return found.index(name)


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def text_of(octets: bytes, encoding: Encoding) -> str | None:
    """What is written there, or None where it cannot be read so."""
    if encoding is Encoding.LATIN_1:
        return octets.decode("latin-1")
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1") if encoding is Encoding.AUTO else None


def pieces(file: IO[bytes], layout: Layout) -> Iterator[Piece]:
    """The rows after the header, about `PIECE` octets at a time. Raises BadFile for a quote that is not closed."""
    rest, line = b"", 1 + layout.header.count(b"\n")
    while block := _read(file):
        rest += block
        cut = rest.rfind(b"\n") + 1 if b'"' not in rest else _end_of_rows(rest, layout.delimiter)
        if cut:
            yield Piece(line, rest[:cut])
            line += rest.count(b"\n", 0, cut)
            rest = rest[cut:]
        if len(rest) > LONGEST_ROW:
            raise BadFile(f"line {line}: a row longer than {LONGEST_ROW:,} octets; is a quote in it not closed?")
    if rest and _end_of_rows(rest + b"\n", layout.delimiter) <= len(rest):
        raise BadFile(f"line {line}: a quote is opened in this row and never closed")
    if rest:
        yield Piece(line, rest + b"\n")


def _read(file: IO[bytes], *, line: bool = False) -> bytes:
    try:
        return file.readline(LONGEST_ROW) if line else file.read(PIECE)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise BadFile("the compressed file is damaged or not whole; make it again") from None
    except OSError as error:
        raise BadFile(f"the file cannot be read ({error.strerror})") from None


@cache
def _row(delimiter: bytes) -> bytes:
    """A pattern for one row. A quote means something only where a cell begins, and there two are one inside."""
    stop = re.escape(delimiter)
    cell = rb'(?:"(?:[^"]++|"")*+"[^%b\n]*+|(?!")[^%b\n]*+)' % (stop, stop)
    return rb"%b(?:%b%b)*+\n" % (cell, stop, cell)


def _end_of_rows(octets: bytes, delimiter: bytes) -> int:
    """Where the last whole row ends, or 0."""
    found = re.compile(rb"(?:%b)*+" % _row(delimiter)).match(octets)
    return found.end() if found else 0


def rows_of(piece: Piece, layout: Layout) -> list[bytes]:
    """Each row as it stands, without its line's end."""
    if piece.is_quoted:
        return [row[:-1] for row in re.compile(_row(layout.delimiter)).findall(piece.octets)]
    rows = piece.octets.split(b"\n")
    rows.pop()
    return rows


def cells_of(row: bytes, layout: Layout) -> list[bytes]:
    """The cells of one row; none for one that is no row."""
    if b'"' not in row:
        return row.split(layout.delimiter)
    # Latin-1 takes every octet for a character and back, so what a cell holds comes through as it is.
    cells = _cells(row.decode("latin-1").removesuffix("\r"), layout.delimiter.decode())
    return [cell.encode("latin-1") for cell in cells]


def _cells(text: str, delimiter: str) -> list[str]:
    """The cells of one row; none for one that is no row."""
    try:
        return next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:
        return []
