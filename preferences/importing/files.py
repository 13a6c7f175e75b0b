"""The file of an import: what program wrote it, how it is encoded and packed, and its lines.

Owns reading lines. Invariant: a line that cannot be read is told by its number, and the ones after it are still read
where that is possible.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

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


Numbered = tuple[int, Sequence[str] | None]


def read_lines(path: Path, source: Source) -> Iterator[Numbered]:
    """The numbered lines, the header first; None for one that is not well formed. Empty lines are left out."""
    if source.tool:
        with open_text(path, source.encoding) as file:
            if file.read(1) in {"[", "{"}:
                return _records(path, source.encoding)
    return _lines(path, source.encoding)


def _records(path: Path, encoding: str) -> Iterator[Numbered]:
    """The records of a JSON file, as if each were a line below the names of the columns."""
    with open_text(path, encoding) as file:
        try:
            names, records = read_json(file.read())
        except BadExport as error:
            raise BadRow(1, error.column, error.why) from None
    yield 1, names
    for number, record in enumerate(records, start=2):
        yield number, [record.get(name, "") for name in names]


def _lines(path: Path, encoding: str) -> Iterator[Numbered]:
    with open_text(path, encoding) as file:
        reader = csv.reader(file, strict=True)
        try:
            while True:
                try:
                    values = next(reader)
                except csv.Error:
                    yield reader.line_num, None
                except StopIteration:
                    return
                else:
                    if values:
                        yield reader.line_num, values
        except UnicodeDecodeError:
            name = "UTF-8" if encoding.startswith("utf-8") else encoding
            raise BadRow(reader.line_num + 1, "", f"not {name}; say what it is with --encoding") from None
        except (EOFError, gzip.BadGzipFile):
            raise BadRow(reader.line_num + 1, "", "the packed file is damaged here") from None
