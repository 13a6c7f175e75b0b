"""`flask links mint`: copies a table of addresses and adds links.

Invariants: memory is bounded by one block; every row is checked before any contact is created.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, TextIO

from preferences.address_parsing import read_address
from preferences.domain.errors import BadAddress
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel
from preferences.files.spreadsheets import harmless_cell
from preferences.files.tables import BadFile, Table, place_of_address, table_of
from preferences.sending.links import BLOCK, MessageLinks, make_links
from preferences.sending.scope import Scope
from preferences.services import Services

ADDED: Final = ("unsubscribe_url", "manage_url", "list_unsubscribe", "list_unsubscribe_post", "list_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class MintOptions:
    """`column` names the address column if the header is ambiguous."""

    column: str | None = None
    encoding: str = "utf-8-sig"
    for_spreadsheets: bool = False


def count_rows(path: Path, channel: Channel, options: MintOptions) -> int:
    """Raises BadFile for the first invalid row."""
    with table_of(path, options.encoding) as table:
        return sum(1 for _ in _rows(table, channel, options))


def mint(
    services: Services,
    path: Path,
    scope: Scope,
    *,
    options: MintOptions,
    out: TextIO,
    progress: Callable[[int], None],
) -> None:
    with table_of(path, options.encoding) as table:
        writer = csv.writer(out, delimiter=table.head.delimiter)
        writer.writerow([*table.head.names, *ADDED])
        rows = _rows(table, scope.channel, options)
        while block := list(islice(rows, BLOCK)):
            links = make_links(services, scope, [address for _, address in block])
            written = ([*row, *_cells(made)] for (row, _), made in zip(block, links, strict=True))
            writer.writerows(map(_harmless, written) if options.for_spreadsheets else written)
            progress(len(block))


def _harmless(row: list[str]) -> list[str]:
    return list(map(harmless_cell, row))


def _cells(links: MessageLinks) -> list[str]:
    return [links.unsubscribe_url or "", links.manage_url or "", *(links.headers.values() or ("", "", ""))]


def _rows(table: Table, channel: Channel, options: MintOptions) -> Iterator[tuple[Sequence[str], Address]]:
    """Raises BadFile at the first invalid row."""
    names = table.head.names
    if set(ADDED) & set(names):
        raise BadFile("line 1: the file has links already; remove those columns first")
    place = place_of_address(names, channel, options.column)
    for line, row in table.rows():
        if row is None:
            raise BadFile(f"line {line}: not a well-formed CSV row")
        if len(row) != len(names):
            raise BadFile(f"line {line}: the row has {len(row)} columns and the header {len(names)}")
        try:
            yield row, read_address(channel, row[place])
        except BadAddress as error:
            raise BadFile(f"line {line}, column {names[place].strip()}: {error}") from None
