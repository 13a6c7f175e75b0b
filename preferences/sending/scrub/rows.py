"""Rows of a piece: addresses, added cells, encodings.

Invariant: only the address of a row is decoded; the rest stays bytes.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from functools import cache
from typing import Final

from preferences.address_parsing import PLAIN_EMAIL, SHORT, read_address
from preferences.domain.errors import BadAddress
from preferences.domain.vocabulary import Channel
from preferences.files.spreadsheets import harmless_cell
from preferences.sending.scrub.table import Encoding, Layout, Piece, cells_of, text_of


def addresses_of(
    piece: Piece, rows: Sequence[bytes], *, layout: Layout, channel: Channel
) -> tuple[list[bytes], dict[int, str]]:
    """Normalised addresses, and faults by row."""
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
    """Rows with an unquoted carriage return, which other programs split in two."""
    if b"\r" not in piece.data or piece.data.count(b"\r") == piece.data.count(b"\r\n"):
        return {}
    quoted = _quoted_cells(layout.delimiter)
    torn = [number for number, row in enumerate(rows) if b"\r" in quoted.sub(b"", row.rstrip(b"\r"))]
    return dict.fromkeys(torn, "a carriage return outside of quotes; end lines with a line feed, or quote the cell")


@cache
def _quoted_cells(delimiter: bytes) -> re.Pattern[bytes]:
    stop = re.escape(delimiter)
    return re.compile(rb'(?:^|(?<=%b))"(?:[^"]++|"")*+"(?=%b|$)' % (stop, stop))


def _plain_addresses(piece: Piece, rows: Sequence[bytes], layout: Layout) -> list[bytes]:
    """Addresses of plain rows; empty for rows that need parsing by cell."""
    if piece.is_quoted:
        found = [_plain_cell(cells_of(row, layout), layout) for row in rows]
    else:
        found = _plain_rows(layout).findall(piece.data)
    if max(map(len, found), default=0) > SHORT:
        return [address if len(address) <= SHORT else b"" for address in found]
    return found


def _plain_cell(cells: Sequence[bytes], layout: Layout) -> bytes:
    value = cells[layout.place] if len(cells) == layout.columns else b""
    return value if _is_plain(value) else b""


_is_plain: Final = re.compile(PLAIN_EMAIL.encode()).fullmatch


@cache
def _plain_rows(layout: Layout) -> re.Pattern[bytes]:
    """Captures plain addresses of unquoted rows: five times faster than splitting."""
    cell, stop = rb"%b*+" % _all_but(layout.delimiter + b"\n"), re.escape(layout.delimiter)
    before = (cell + stop) * layout.place
    after = (stop + cell) * (layout.columns - layout.place - 1)
    return re.compile(rb"%b(%b)%b\r?\n|[^\n]*+\n" % (before, PLAIN_EMAIL.encode(), after))


def _all_but(data: bytes) -> bytes:
    """A character set that lists its members: faster in `re` than `[^...]`."""
    return b"[%b]" % b"".join(re.escape(bytes([byte])) for byte in range(256) if byte not in data)


def _normal(cell: bytes, layout: Layout, channel: Channel) -> tuple[bytes, str]:
    text = text_of(cell, layout.encoding)
    if text is None:
        return b"", f"not in {layout.encoding}"
    try:
        return read_address(channel, text).value.encode(), ""
    except BadAddress as error:
        return b"", str(error).partition(",")[0]


def with_cells(row: bytes, added: bytes) -> bytes:
    return row[:-1] + added + b"\r" if row.endswith(b"\r") else row + added


def added_cells(layout: Layout, cells: Sequence[bytes]) -> bytes:
    """Encode cells for the end of a row. They contain no quotes."""
    quoted = [b'"%b"' % cell if layout.delimiter in cell else cell for cell in cells]
    return layout.delimiter + layout.delimiter.join(quoted)


def harmless_row(row: bytes, layout: Layout) -> bytes:
    """The row with spreadsheet formulas disarmed."""
    cells = [cell.decode(errors="surrogateescape") for cell in cells_of(row.removesuffix(b"\r"), layout)]
    safe = [harmless_cell(cell) for cell in cells]
    if safe == cells:
        return row
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=layout.delimiter.decode(), lineterminator="").writerow(safe)
    return text.getvalue().encode(errors="surrogateescape") + (b"\r" if row.endswith(b"\r") else b"")


def header_with(layout: Layout, names: Sequence[bytes]) -> bytes:
    return with_cells(layout.header.removesuffix(b"\n"), added_cells(layout, names)) + b"\n"


def encodings_of(piece: Piece, layout: Layout) -> frozenset[Encoding]:
    """Encodings found in a piece under AUTO."""
    if layout.encoding is not Encoding.AUTO or piece.data.isascii():
        return frozenset()
    try:
        piece.data.decode()
    except UnicodeDecodeError:
        return frozenset({Encoding.LATIN_1})
    return frozenset({Encoding.UTF_8})
