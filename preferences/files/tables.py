"""Reading tables: CSV variants, encodings, gzip.

Invariant: any bytes give a header and rows, or BadFile with the line and the remedy, never a value.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, cast

from preferences.domain.errors import PreferencesError
from preferences.domain.vocabulary import Channel

GZIP: Final = b"\x1f\x8b"
ZIP: Final = b"PK\x03\x04"
BOM: Final = b"\xef\xbb\xbf"
DELIMITERS: Final = ",;\t|"

LONGEST_ROW: Final = 1 << 22
"""Bytes in a row; an unclosed quote would join the rest of the file."""

CHUNK: Final = 4_000
"""Lines read and parsed at a time."""

_EMAIL: Final = (
    *("address", "email", "e mail", "email address", "e mail address", "emailaddress", "mail"),
    *("e mail adresse", "emailadresse", "adresse e mail", "adresse email", "adresse mail", "adresse électronique"),
    *("courriel", "correo electrónico", "dirección de correo electrónico", "correo", "correu electrònic"),
    *("endereço de e mail", "endereço de email", "indirizzo e mail", "indirizzo email", "posta elettronica"),
    *("e mailadres", "emailadres", "e postadress", "e postadresse", "e mailadresse", "e post", "adres e mail"),
    *("e posta", "sähköposti", "sähköpostiosoite", "e mailová adresa", "e mail cím", "adresă de e mail", "meil"),
    *("surel", "электронная почта", "электронная пошта", "адрес электронной почты", "електронна поща"),
    *("електронна пошта", "البريد الإلكتروني", "عنوان البريد الإلكتروني", "پست الکترونیکی", "אימייל", 'דוא"ל'),
    *("อีเมล", "địa chỉ email", "メール", "メールアドレス", "eメール", "邮件地址", "電子郵件", "电子邮件", "邮箱"),
    *("郵件地址", "이메일"),
)

ADDRESS_NAMES: Final = {
    Channel.EMAIL: _EMAIL,
    Channel.SMS: ("address", "phone", "phone number", "mobile", "mobile number", "mobile phone", "telephone", "sms"),
    Channel.VOICE: ("address", "phone", "phone number", "telephone", "telephone number", "mobile"),
    Channel.POST: ("address", "postal address"),
}
"""Names of the address column, normalised by `plain_name`, in the languages of exporting programs."""


class BadFile(PreferencesError):
    """The message has line and column, never a value."""


class Opened(NamedTuple):
    """The text of a file, whether it is packed, and whether it was translated to UTF-8."""

    text: IO[bytes]
    packed: bool
    translated: bool = False


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Raises BadFile."""
    try:
        raw = path.open("rb")
    except OSError as error:
        raise BadFile(f"{path.name} cannot be read ({error.strerror})") from None
    with raw:
        yield raw


def open_table(raw: IO[bytes], codec: str = "") -> Opened:
    """The text of a file, unpacked from gzip and translated from UTF-16 (Excel's "Unicode text"). Raises BadFile.

    A `codec` in which a comma is not one byte is also translated to UTF-8.
    """
    magic = read_bytes(raw, 4)
    raw.seek(0)
    if magic == ZIP:
        raise BadFile("a .zip or .xlsx file: unpack it, or save the table as CSV (UTF-8)")
    packed = magic.startswith(GZIP)
    text = cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if packed else raw
    wide = _wide_codec(read_bytes(text, 4), codec)
    text.seek(0)
    if not wide:
        return Opened(text, packed)
    return Opened(cast("IO[bytes]", io.BufferedReader(_AsUtf8(text, wide), 1 << 18)), packed, translated=True)


def _wide_codec(start: bytes, codec: str) -> str:
    """The encoding, if its characters take more than one byte."""
    if start in {codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE}:
        return "utf-32"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if len(start) == 4 and start.count(0) == 2:
        return "utf-16-le" if start[1] == start[3] == 0 else "utf-16-be" if start[0] == start[2] == 0 else ""
    return codec if codec and b"a,\n" not in "a,\n".encode(codec) else ""


class _AsUtf8(io.RawIOBase):
    """Reads a file in another encoding as UTF-8 with BOM; invalid bytes become U+FFFD."""

    def __init__(self, source: IO[bytes], codec: str) -> None:
        self._source, self._codec = source, codec
        self._begin()

    def _begin(self) -> None:
        self._decoder = codecs.getincrementaldecoder(self._codec)(errors="replace")
        self._rest, self._place, self._ended = BOM, 0, False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest and not self._ended:
            block = read_bytes(self._source, 1 << 16)
            self._ended = not block
            self._rest = self._decoder.decode(block, self._ended).removeprefix("\ufeff").encode(errors="replace")
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest, self._place = self._rest[count:], self._place + count
        return count

    def tell(self) -> int:
        return self._place

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation
        if place < self._place:
            self._source.seek(0)
            self._begin()
        while self._place < place and self.read(min(place - self._place, 1 << 16)):
            pass
        return self._place


def read_bytes(file: IO[bytes], size: int) -> bytes:
    """Raises BadFile."""
    return _guarded(lambda: file.read(size))


def _guarded(read: Callable[[], bytes]) -> bytes:
    try:
        return read()
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise BadFile("line 1: the packed file is damaged or not whole; make it again") from None
    except OSError as error:
        raise BadFile(f"the file cannot be read ({error.strerror})") from None


@dataclass(frozen=True, slots=True)
class Head:
    """The header: its bytes with all lines before it, the delimiter, the column names."""

    raw: bytes
    delimiter: str
    names: tuple[str, ...]

    @property
    def lines(self) -> int:
        return max(1, self.raw.count(b"\n"))


_SEPARATOR: Final = re.compile(rb'"?sep=(.)"?\s*', re.IGNORECASE | re.DOTALL)
"""Excel's line for the delimiter."""

_STARTS_CELL: Final = rb"(?:^|(?<=[,;\t|]))"
_QUOTED: Final = re.compile(_STARTS_CELL + rb'"(?:[^"]++|"")*+"')
_OPEN: Final = re.compile(_STARTS_CELL + rb'"')


def read_head(file: IO[bytes], decode: Callable[[bytes], str | None], encoding: str) -> Head:
    """Read the header, the first non-empty row. Raises BadFile."""
    raw, row, told = b"", b"", ""
    while not row:
        line = _line(file)
        if not line:
            raise BadFile("line 1 is empty, and so are all others; the first one must name the columns")
        raw += line
        text = line.removeprefix(BOM)
        if separator := _SEPARATOR.fullmatch(text):
            told = separator[1].decode("latin-1")
        elif text.strip(b' \t\r\n,;|"'):
            row = text
        _check_length(raw)
    while _OPEN.search(_QUOTED.sub(b"", row)):
        more = _line(file)
        if not more:
            raise BadFile("line 1: a quote is opened in the header and never closed")
        raw, row = raw + more, row + more
        _check_length(raw)
    return Head(raw, *_names(row, told, decode, encoding))


def _line(file: IO[bytes]) -> bytes:
    return _guarded(lambda: file.readline(LONGEST_ROW))


def _check_length(raw: bytes) -> None:
    if len(raw) >= LONGEST_ROW:
        raise BadFile(f"line 1: a row longer than {LONGEST_ROW:,} bytes; is a quote in it not closed?")


def _names(row: bytes, told: str, decode: Callable[[bytes], str | None], encoding: str) -> tuple[str, tuple[str, ...]]:
    text = decode(row.rstrip(b"\r\n"))
    if text is None:
        raise BadFile(f"line 1: not {encoding}; say what it is with --encoding")
    if "\x00" in text or "\r" in _QUOTED.sub(b"", row.rstrip(b"\r\n")).decode("latin-1"):
        raise BadFile("line 1: not the header of a CSV file whose lines end with a line feed")
    outside = _QUOTED.sub(b"", row).decode("latin-1")
    delimiter = told or max(DELIMITERS, key=outside.count)
    names = tuple(cells(text, delimiter))
    if not names:
        raise BadFile("line 1: not a well-formed CSV row, so no header")
    return delimiter, names


def cells(text: str, delimiter: str) -> list[str]:
    """The cells of a row; empty if malformed."""
    try:
        return next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:
        return []


def plain_name(name: str) -> str:
    """A column name in lower case, with single spaces."""
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def place_of_address(names: Sequence[str], channel: Channel, column: str | None) -> int:
    """The index of the address column: the named one, or the first usual name. Raises BadFile."""
    found = [plain_name(name) for name in names]
    wanted = [plain_name(column)] if column else list(ADDRESS_NAMES[channel])
    name = next((name for name in wanted if name in found), None)
    if name is None and column:
        raise BadFile(f"line 1: there is no column of the name that --column gives; {told_columns(names)}")
    if name is None:
        raise BadFile(
            f"line 1: no column is called {', '.join(wanted[:3])} or the like; {told_columns(names)};"
            " name the one with the addresses with --column"
        )
    if found.count(name) > 1:
        raise BadFile("line 1: two columns of that name may hold the addresses; give one of them another name")
    return found.index(name)


_MOST_TOLD: Final = 30


def told_columns(names: Sequence[str]) -> str:
    """The columns for a message. A line with an address or number is no header, and personal data are not repeated."""
    if any("@" in name or re.search(r"\d{4}", name) or len(name) > 60 for name in names):
        return "the first line seems to be no header"
    shown = ", ".join(" ".join(name.split()) or "(no name)" for name in names[:_MOST_TOLD])
    return f"the file has {shown}{' and more' if len(names) > _MOST_TOLD else ''}"


Chunk = tuple[int, list[str]]
"""Whole rows: the number of the first line, and the lines."""

Numbered = tuple[int, Sequence[str] | None]


def text_decoder(encoding: str) -> Callable[[bytes], str | None]:
    def decode(octets: bytes) -> str | None:
        try:
            return octets.decode(encoding)
        except UnicodeDecodeError:
            return None

    return decode


@dataclass(slots=True)
class Table:
    head: Head
    chunks: Iterator[Chunk]

    def rows(self) -> Iterator[Numbered]:
        """Numbered rows; None for a malformed one."""
        for chunk in self.chunks:
            yield from rows_of(chunk, self.head.delimiter)


@contextmanager
def table_of(path: Path, encoding: str) -> Iterator[Table]:
    """Raises BadFile."""
    name = "UTF-8" if encoding.startswith("utf-8") else encoding
    with opened(path) as raw:
        found = open_table(raw, encoding)
        codec = "utf-8" if found.translated else encoding.removesuffix("-sig")
        head = read_head(found.text, text_decoder(codec), name)
        text = io.TextIOWrapper(cast("Any", found.text), encoding=codec, newline="")
        try:
            yield Table(head, _chunks(text, head, name))
        finally:
            text.detach()


def rows_of(chunk: Chunk, delimiter: str) -> Iterator[Numbered]:
    """Numbered rows of a chunk; None for a malformed one. Empty rows are skipped."""
    first, lines = chunk
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        try:
            values = next(reader)
        except csv.Error:
            yield first - 1 + reader.line_num, None
        except StopIteration:
            return
        else:
            if any(map(str.strip, values)):
                yield first - 1 + reader.line_num, values


def _chunks(file: io.TextIOWrapper, head: Head, encoding: str) -> Iterator[Chunk]:
    first = head.lines + 1
    while lines := _take(file, first, head.delimiter, encoding=encoding):
        yield first, lines
        first += len(lines)


def _take(file: io.TextIOWrapper, first: int, delimiter: str, *, encoding: str) -> list[str]:
    """A chunk of lines, extended to the end of its last row."""
    lines: list[str] = []
    try:
        lines.extend(_lines(file, CHUNK))
        if any('"' in line for line in lines):
            _end_row(lines, file, delimiter)
    except UnicodeDecodeError:
        raise BadFile(f"line {first + len(lines)}: not {encoding}; say what it is with --encoding") from None
    except _TooLong:
        raise BadFile(f"line {first + len(lines)}: longer than {LONGEST_ROW:,} characters") from None
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise BadFile(f"line {first + len(lines)}: the packed file is damaged here") from None
    except OSError as error:
        raise BadFile(f"the file cannot be read ({error.strerror})") from None
    return lines


class _TooLong(Exception):
    pass


def _lines(file: io.TextIOWrapper, most: int) -> Iterator[str]:
    readline = file.readline
    for _ in range(most):
        line = readline(LONGEST_ROW)
        if len(line) >= LONGEST_ROW:
            raise _TooLong
        if not line:
            return
        yield line


def _end_row(lines: list[str], file: io.TextIOWrapper, delimiter: str) -> None:
    """Add lines until the last row is complete: quotes may contain line ends."""
    taken = len(lines)
    reader = csv.reader(chain(tuple(lines), _kept(file, lines)), delimiter=delimiter, strict=True)
    while reader.line_num < taken:
        with suppress(csv.Error):
            next(reader, None)


def _kept(file: io.TextIOWrapper, lines: list[str]) -> Iterator[str]:
    for line in _lines(file, LONGEST_ROW):
        lines.append(line)
        yield line
