"""An import's file: its tool, header and rows. `preferences.files.tables` reads all but JSON.

Invariant: unreadable rows are reported by line number, and later rows read where possible.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from preferences.files import tables
from preferences.files.tables import BOM, BadFile, Numbered, open_table, opened, read_bytes, table_of, text_decoder
from preferences.importing.columns import BadRow
from preferences.importing.formats import BadExport, Options, read_json

LARGEST_JSON: Final = 512 << 20
"""Bytes, read into memory."""

Chunk = tuple[int, list[str] | list[list[str]]]
"""The first line's number, and whole lines or JSON values."""


@dataclass(frozen=True, slots=True)
class Source:
    """Without `tool` the columns are ours.

    `options.topic` applies to rows without a topic. `column` names the address column, if not ours.
    """

    tool: str = ""
    options: Options = field(default_factory=Options)
    encoding: str = "utf-8-sig"
    column: str = ""


@dataclass(frozen=True, slots=True)
class Rows:
    """Column names, delimiter, and rows in chunks."""

    names: Sequence[str]
    delimiter: str
    chunks: Iterator[Chunk]


@contextmanager
def read_file(path: Path, source: Source) -> Iterator[Rows]:
    """Raises BadFile or BadRow."""
    if source.tool and (text := _json_in(path, source.encoding)):
        names, records = _records(text)
        yield Rows(names, ",", records)
        return
    with table_of(path, source.encoding) as table:
        yield Rows(table.head.names, table.head.delimiter, cast("Iterator[Chunk]", table.chunks))


def rows_of(chunk: Chunk, delimiter: str) -> Iterator[Numbered]:
    """Numbered rows, None for a malformed one. Empty rows are omitted."""
    first, lines = chunk
    if lines and not isinstance(lines[0], str):
        yield from enumerate(lines, first)
        return
    yield from tables.rows_of(cast("tables.Chunk", chunk), delimiter)


def _json_in(path: Path, encoding: str) -> str:
    """Empty for other files."""
    with opened(path) as raw:
        found = open_table(raw, encoding)
        start = read_bytes(found.text, 4096).removeprefix(BOM).lstrip()
        if not start.startswith((b"[", b"{")):
            return ""
        found.text.seek(0)
        octets = read_bytes(found.text, LARGEST_JSON + 1)
    if len(octets) > LARGEST_JSON:
        raise BadFile(f"a JSON file of more than {LARGEST_JSON:,} bytes; make it in several, or as CSV")
    codec = "utf-8" if found.translated else encoding.removesuffix("-sig")
    text = text_decoder(codec)(octets.removeprefix(BOM))
    if text is None:
        raise BadFile(f"not {'UTF-8' if codec == 'utf-8' else codec}; say what it is with --encoding")
    return text


def _records(text: str) -> tuple[Sequence[str], Iterator[Chunk]]:
    """JSON records as numbered rows."""
    try:
        names, records = read_json(text)
    except BadExport as error:
        raise BadRow(1, error.column, error.why) from None
    size = tables.CHUNK
    starts = range(0, len(records), size)
    return names, (
        (start + 2, [[record.get(name, "") for name in names] for record in records[start : start + size]])
        for start in starts
    )
