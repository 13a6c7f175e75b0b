"""Adds decisions to a table of addresses in memory.

Invariant: decisions equal those of `sending.decide` without reservations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from typing import Final

from preferences.domain.errors import PreferencesError
from preferences.domain.permission import Decision, Message
from preferences.domain.records import Address
from preferences.sending.decide import decide
from preferences.sending.scrub.rows import added_cells, addresses_of, header_with, with_cells
from preferences.sending.scrub.table import Layout, pieces, read_layout, rows_of
from preferences.services import Services

MOST_ROWS: Final = 100_000
BLOCK: Final = 10_000
"""Rows per call of `decide`."""


class TooManyRows(PreferencesError):
    """More than `MOST_ROWS` rows."""


@dataclass(frozen=True, slots=True)
class Annotated:
    """The table with columns `allowed` and `reason`, and each row's decision."""

    table: bytes
    decisions: Sequence[Decision]


def annotate(services: Services, message: Message, table: bytes, *, column: str | None) -> Annotated:
    """Decide about each row. `column` names the address column if the header is ambiguous.

    Raises BadFile, TooManyRows and StoreBusy.
    """
    file = BytesIO(table)
    layout = read_layout(file, message.channel, column)
    rows = list(islice(_rows(file, layout, message), MOST_ROWS + 1))
    if len(rows) > MOST_ROWS:
        raise TooManyRows(f"more than {MOST_ROWS:,} rows")
    written, decisions = [header_with(layout, (b"allowed", b"reason"))], list[Decision]()
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        decided = decide(services, message, [address for _, address in block]).decisions
        written += [_annotated(row, decision, layout) for (row, _), decision in zip(block, decided, strict=True)]
        decisions += decided
    return Annotated(b"".join(written), decisions)


def _rows(file: BytesIO, layout: Layout, message: Message) -> Iterator[tuple[bytes, Address | None]]:
    """Non-blank rows with their address, or None."""
    for piece in pieces(file, layout):
        rows = rows_of(piece, layout)
        values, bad = addresses_of(piece, rows, layout=layout, channel=message.channel)
        for number, row in enumerate(rows):
            if row.strip():
                yield row, None if number in bad else Address(message.channel, values[number].decode())


def _annotated(row: bytes, decision: Decision, layout: Layout) -> bytes:
    cells = b"yes" if decision.allowed else b"no", decision.reason.encode()
    return with_cells(row, added_cells(layout, cells)) + b"\n"
