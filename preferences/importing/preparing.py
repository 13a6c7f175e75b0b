"""The first half of an import: read and check the file, without writing to the database.

Owns the parsing processes and the folder of parsed rows. Invariant: an address's rows keep their order. A large file is
sorted by fingerprint, because adjacent keys touch fewer index pages.
"""

from __future__ import annotations

import pickle
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Final

from preferences.domain.vocabulary import Channel
from preferences.files.process_pool import can_fork, cores, helpers
from preferences.files.tables import ADDRESS_NAMES, place_of_address, plain_name
from preferences.importing.columns import BadRow, FingerprintOf, Reader, column_names
from preferences.importing.files import Chunk, Source, read_file, rows_of
from preferences.importing.formats import FORMATS, BadExport, Kind, kind_of, recognise
from preferences.ledger.bulk import FileRow
from preferences.store.catalog import Catalog

LARGE: Final = 4_000_000
"""Bytes from which a file is sorted, and parsed in several processes."""

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Reject:
    line: int
    column: str
    why: str
    values: Sequence[str]


@dataclass(frozen=True, slots=True)
class Parser:
    names: Sequence[str]
    delimiter: str
    kind: Kind | None
    source: Source
    reader: Reader
    sorted: bool

    def parse(self, chunk: Chunk) -> tuple[dict[str, bytes], int, list[Reject]]:
        """Pickled rows by the fingerprint's first character, their number, and rejects."""
        parts: dict[str, list[tuple[str | None, ...]]] = {}
        rejects: list[Reject] = []
        count = 0
        for number, values in rows_of(chunk, self.delimiter):
            try:
                told = self._line(number, values)
            except BadRow as bad:
                rejects.append(Reject(bad.line, bad.column, bad.why, values or ()))
                continue
            count += len(told)
            for row in told:
                parts.setdefault(row[0][0] if self.sorted else "-", []).append(tuple(row))
        return {key: pickle.dumps(part) for key, part in parts.items()}, count, rejects

    def _line(self, number: int, values: Sequence[str] | None) -> list[FileRow]:
        if values is None:
            raise BadRow(number, "", "not a well-formed CSV row")
        if len(values) != len(self.names):
            raise BadRow(number, "", "the number of columns differs from the header's")
        fields = {name: value.strip() for name, value in zip(self.names, values, strict=True)}
        return [self.reader.read(row, number) for row in self._rows(number, fields)]

    def _rows(self, number: int, fields: dict[str, str]) -> list[dict[str, str]]:
        options = self.source.options
        if self.kind is not None:
            try:
                return self.kind.rows(fields, options)
            except BadExport as error:
                raise BadRow(number, error.column, error.why) from None
        return [fields if fields.get("topic") or not options.topic else fields | {"topic": options.topic}]


@dataclass(slots=True)
class Prepared:
    """A folder of checked rows, and their number."""

    folder: Path
    large: bool
    rows: int = 0
    rejects: int = 0
    keys: set[str] = field(default_factory=set)

    def add(self, parts: Mapping[str, bytes]) -> None:
        for key, packed in parts.items():
            self.keys.add(key)
            with (self.folder / str(ord(key))).open("ab") as file:
                file.write(packed)

    def rows_in_order(self) -> Iterator[FileRow]:
        """An address's rows are in file order."""
        for key in sorted(self.keys):
            rows = list(chain.from_iterable(_loads(self.folder / str(ord(key)))))
            if len(self.keys) > 1:
                rows.sort(key=itemgetter(0))
            yield from map(FileRow._make, rows)


def _loads(path: Path) -> Iterator[list[tuple[str, ...]]]:
    with path.open("rb") as file, suppress(EOFError):
        while True:
            yield pickle.load(file)  # noqa: S301 - written by `Parser.parse`, into a folder of this process alone


@contextmanager
def prepared(
    path: Path,
    catalog: Catalog,
    *,
    source: Source,
    fingerprint_of: FingerprintOf,
    progress: Progress,
    reject: Callable[[Reject], None] | None,
) -> Iterator[Prepared]:
    """Raises BadFile, and BadRow for the first wrong line unless `reject` takes it."""
    with read_file(path, source) as found, tempfile.TemporaryDirectory(prefix="import-") as folder:
        names, kind = _columns(found.names, source)
        large = path.stat().st_size > LARGE
        parser = Parser(names, found.delimiter, kind, source, Reader(catalog, fingerprint_of), sorted=large)
        laid = Prepared(Path(folder), large)
        for parts, count, rejects in _parsed(parser, found.chunks, several=large):
            if rejects and reject is None:
                raise BadRow(rejects[0].line, rejects[0].column, rejects[0].why)
            for rejected in rejects:
                if reject is not None:
                    reject(rejected)
            laid.add(parts)
            laid.rows += count
            laid.rejects += len(rejects)
            progress(count + len(rejects))
        yield laid


def _columns(header: Sequence[str], source: Source) -> tuple[Sequence[str], Kind | None]:
    if source.column:
        header = _with_addresses_in(header, place_of_address(header, Channel.EMAIL, source.column))
    if not source.tool:
        if tool := recognise(header):
            raise BadRow(1, "", f"the columns are those of an export of {FORMATS[tool].title}; say --from {tool}")
        return column_names(header), None
    try:
        kind = kind_of(source.tool, header)
        names = kind.columns(header)
        kind.check_columns(names, source.options)
    except BadExport as error:
        raise BadRow(1, error.column, error.why) from None
    return names, kind


def _with_addresses_in(header: Sequence[str], place: int) -> list[str]:
    """Name only this column as the address."""
    names = [f"not {name}" if plain_name(name) in ADDRESS_NAMES[Channel.EMAIL] else name for name in header]
    names[place] = "email"
    return names


_Parsed = tuple[dict[str, bytes], int, list[Reject]]


def _parsed(parser: Parser, chunks: Iterator[Chunk], *, several: bool) -> Iterator[_Parsed]:
    if not several or not can_fork():
        yield from map(parser.parse, chunks)
        return
    workers = cores()
    with helpers(workers, _become, parser) as pool:
        waiting: deque[Future[_Parsed]] = deque()
        for chunk in chunks:
            waiting.append(pool.submit(_parse, chunk))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_parser: Parser


def _become(parser: Parser) -> None:
    global _parser  # noqa: PLW0603 - a pool's process has no other place to keep it
    _parser = parser


def _parse(chunk: Chunk) -> _Parsed:
    return _parser.parse(chunk)
