"""One piece of a file, sorted: the rows whose addresses may be written to, and the others with the reason.

Owns what a row becomes. Invariants: a row that is kept is as it was, octet for octet; a row that cannot be understood
is never kept.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from typing import Final

from preferences.address_parsing import PLAIN_EMAIL, SHORT, read_address
from preferences.domain.addresses import Fingerprints
from preferences.domain.errors import BadAddress
from preferences.domain.permission import Reason
from preferences.domain.vocabulary import Channel, MessageClass
from preferences.files.spreadsheets import harmless_cell
from preferences.sending.scrub.table import Encoding, Layout, Piece, cells_of, rows_of, text_of
from preferences.sending.scrub.verdicts import Meaning, Verdicts, keys_of, precedence

ADDED: Final = (b"reason", b"rule")
"""The columns that a removed row gets. For one that cannot be read, the rule is its line and what is wrong there."""

GZIP_LEVEL: Final = 3
"""Three times as fast as the usual 6, for files that are read once."""


@dataclass(frozen=True, slots=True)
class Sorted:
    """What became of a piece: rows kept, rows removed with their reasons, how many of each, how it was read."""

    kept: bytes
    number: int
    removed: bytes
    reasons: Counter[str]
    encodings: frozenset[Encoding] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorter:
    """Sorts the rows of one piece. Made before the processes are forked, so that all of them have it."""

    layout: Layout
    channel: Channel
    message_class: MessageClass
    verdicts: Verdicts
    fingerprints: Fingerprints
    compressed: bool = False
    for_spreadsheets: bool = False

    def __call__(self, piece: Piece, hashed: Hashed | None = None) -> Sorted:
        """Most rows are a stranger's, so everything here is done for all rows at once, or only for the few others."""
        rows = rows_of(piece, self.layout)
        keys, bad = hashed or hashed_rows(
            piece, rows, layout=self.layout, channel=self.channel, fingerprints=self.fingerprints
        )
        out = self._out(len(rows), self._unlike_strangers(keys), bad)
        lines = _lines_of(piece, rows) if bad else []
        cells_for = cache(self._cells_for)
        blank = b' \t\r\n"' + self.layout.delimiter
        removed: list[bytes] = []
        reasons: Counter[str] = Counter()
        for number, reason in out:
            if number not in bad:
                removed.append(with_cells(rows[number], cells_for(reason)))
            elif not rows[number].strip(blank):
                continue  # a row with nothing in it is none
            else:
                told = f"line {lines[number]}: {bad[number]}"
                removed.append(with_cells(rows[number], added_cells(self.layout, (reason.encode(), told.encode()))))
            reasons[reason] += 1
        kept = _without(rows, [number for number, _ in out])
        return Sorted(self._text(kept), len(kept), self._text(removed), reasons, _encodings(piece, self.layout))

    def _cells_for(self, reason: str) -> bytes:
        return added_cells(self.layout, (reason.encode(), f"{self.message_class}.{reason}".encode()))

    def _out(self, rows: int, unlike: Mapping[int, Meaning], bad: Mapping[int, str]) -> list[tuple[int, str]]:
        """The rows to be removed, in order, each with its reason."""
        allowed, reason = self.verdicts.stranger
        found = {} if allowed else dict.fromkeys(range(rows), reason)
        for number, (is_kept, why) in unlike.items():
            if is_kept:
                found.pop(number, None)
            else:
                found[number] = why
        return sorted((found | dict.fromkeys(bad, Reason.BAD_ADDRESS.value)).items())

    def _unlike_strangers(self, keys: Sequence[Sequence[int]]) -> dict[int, Meaning]:
        """The answers that are not a stranger's, by row. Under one of several keys a no counts, as anywhere."""
        found: dict[int, Meaning] = {}
        for under_one_key in keys:
            for number, meaning in self.verdicts.look_up(under_one_key):
                if number not in found or precedence(meaning) < precedence(found[number]):
                    found[number] = meaning
        return found

    def _text(self, rows: list[bytes]) -> bytes:
        if not rows:
            return b""
        if self.for_spreadsheets:
            rows = [harmless_row(row, self.layout) for row in rows]
        text = b"\n".join(rows) + b"\n"
        # Compressed files one behind the other are one compressed file (RFC 1952 §2.2).
        return gzip.compress(text, GZIP_LEVEL, mtime=0) if self.compressed else text


Hashed = tuple[list[Sequence[int]], dict[int, str]]
"""For each fingerprint key, what the rows of a piece are looked up by; and by row what is wrong with some."""


def hashed_rows(
    piece: Piece, rows: Sequence[bytes], *, layout: Layout, channel: Channel, fingerprints: Fingerprints
) -> Hashed:
    """Half of the work on a piece: all that can be done before the answers are known."""
    values, bad = addresses_of(piece, rows, layout=layout, channel=channel)
    return [keys_of(digests) for digests in fingerprints.digests(channel, values)], bad


def _without(rows: list[bytes], out: Sequence[int]) -> list[bytes]:
    kept: list[bytes] = []
    start = 0
    for number in out:
        kept += rows[start:number]
        start = number + 1
    return kept + rows[start:]


def addresses_of(
    piece: Piece, rows: Sequence[bytes], *, layout: Layout, channel: Channel
) -> tuple[list[bytes], dict[int, str]]:
    """The address of each row in normal form, and by row what is wrong with those that have none."""
    values = _plain_addresses(piece, rows, layout) if channel is Channel.EMAIL else [b""] * len(rows)
    bad = _torn_rows(piece, rows, layout)
    for number in bad:
        values[number] = b""
    if all(values):
        return values, bad
    for number in [number for number, value in enumerate(values) if not value and number not in bad]:
        cells = cells_of(rows[number], layout)
        if len(cells) != layout.columns:
            bad[number] = f"the row has {len(cells)} columns and the header {layout.columns}"
            continue
        values[number], wrong = _normal(cells[layout.place], layout, channel)
        if wrong:
            bad[number] = wrong
    return values, bad


def _torn_rows(piece: Piece, rows: Sequence[bytes], layout: Layout) -> dict[int, str]:
    """Rows with a carriage return in them, outside of quotes: to other programs one row ends there, and a second one
    begins, with an address that is not looked up here."""
    if b"\r" not in piece.octets or piece.octets.count(b"\r") == piece.octets.count(b"\r\n"):
        return {}
    quoted = _quoted_cells(layout.delimiter)
    torn = [number for number, row in enumerate(rows) if b"\r" in quoted.sub(b"", row.rstrip(b"\r"))]
    return dict.fromkeys(torn, "a carriage return outside of quotes; end lines with a line feed, or quote the cell")


@cache
def _quoted_cells(delimiter: bytes) -> re.Pattern[bytes]:
    """Cells that are quoted from their begin to their end."""
    stop = re.escape(delimiter)
    return re.compile(rb'(?:^|(?<=%b))"(?:[^"]++|"")*+"(?=%b|$)' % (stop, stop))


def _plain_addresses(piece: Piece, rows: Sequence[bytes], layout: Layout) -> list[bytes]:
    """The address of each row that is plainly one; nothing for the others, which must be looked at."""
    if piece.is_quoted:
        found = [_plain_cell(cells_of(row, layout), layout) for row in rows]
    else:
        found = _plain_rows(layout).findall(piece.octets)
    if max(map(len, found), default=0) > SHORT:
        return [one if len(one) <= SHORT else b"" for one in found]
    return found


def _plain_cell(cells: Sequence[bytes], layout: Layout) -> bytes:
    value = cells[layout.place] if len(cells) == layout.columns else b""
    return value if _is_plain(value) else b""


_is_plain: Final = re.compile(PLAIN_EMAIL.encode()).fullmatch


@cache
def _plain_rows(layout: Layout) -> re.Pattern[bytes]:
    """Matches every row of a piece without quotes once, and finds the address if it is a plain one. Much is read at
    once: it takes a fifth of the time of looking at each cell."""
    cell, stop = rb"%b*+" % _all_but(layout.delimiter + b"\n"), re.escape(layout.delimiter)
    before = (cell + stop) * layout.place
    after = (stop + cell) * (layout.columns - layout.place - 1)
    return re.compile(rb"%b(%b)%b\r?\n|[^\n]*+\n" % (before, PLAIN_EMAIL.encode(), after))


def _all_but(octets: bytes) -> bytes:
    """A set for patterns. All that is in it is named: that is looked up in a table, `[^...]` compared one by one."""
    return b"[%b]" % b"".join(re.escape(bytes([one])) for one in range(256) if one not in octets)


def _normal(cell: bytes, layout: Layout, channel: Channel) -> tuple[bytes, str]:
    """The address, or what is wrong with it."""
    text = text_of(cell, layout.encoding)
    if text is None:
        return b"", f"not in {layout.encoding}"
    try:
        return read_address(channel, text).value.encode(), ""
    except BadAddress as error:
        return b"", str(error).partition(",")[0]


def with_cells(row: bytes, added: bytes) -> bytes:
    """The row with `added_cells` at its end."""
    return row[:-1] + added + b"\r" if row.endswith(b"\r") else row + added


def added_cells(layout: Layout, cells: Sequence[bytes]) -> bytes:
    """Cells for the end of a row; they hold no quote, and no delimiter but in what is quoted here."""
    quoted = [b'"%b"' % one if layout.delimiter in one else one for one in cells]
    return layout.delimiter + layout.delimiter.join(quoted)


def harmless_row(row: bytes, layout: Layout) -> bytes:
    """The row written anew, with no cell that a spreadsheet program would calculate; as it is if it has none."""
    cells = [cell.decode(errors="surrogateescape") for cell in cells_of(row.removesuffix(b"\r"), layout)]
    safe = [harmless_cell(cell) for cell in cells]
    if safe == cells:
        return row
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=layout.delimiter.decode(), lineterminator="").writerow(safe)
    return text.getvalue().encode(errors="surrogateescape") + (b"\r" if row.endswith(b"\r") else b"")


def header_with(layout: Layout, names: Sequence[bytes]) -> bytes:
    """The header with columns added, and a line's end."""
    return with_cells(layout.header.removesuffix(b"\n"), added_cells(layout, names)) + b"\n"


def _lines_of(piece: Piece, rows: Sequence[bytes]) -> list[int]:
    """The number of the line that each row begins on."""
    return list(accumulate((row.count(b"\n") + 1 for row in rows), initial=piece.line))


def _encodings(piece: Piece, layout: Layout) -> frozenset[Encoding]:
    """In what the letters beyond ASCII are written, if there are any."""
    if layout.encoding is not Encoding.AUTO or piece.octets.isascii():
        return frozenset()
    try:
        piece.octets.decode()
    except UnicodeDecodeError:
        return frozenset({Encoding.LATIN_1})
    return frozenset({Encoding.UTF_8})
