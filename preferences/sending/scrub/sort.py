"""Splits one piece of a file into kept and removed rows.

Invariants: kept rows are unchanged, byte for byte; unreadable rows are never kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Final

from preferences.domain.addresses import Fingerprints
from preferences.domain.permission import Decision, Reason
from preferences.domain.vocabulary import Channel, MessageClass
from preferences.sending.scrub.index import ALLOWED, Index, code_of, keys_of_digests, reason_of
from preferences.sending.scrub.rows import added_cells, addresses_of, harmless_row, with_cells
from preferences.sending.scrub.table import Layout, Piece, rows_of

ADDED: Final = (b"reason", b"rule")
"""Columns added to removed rows. For an unreadable row, the rule is its line and fault."""

BAD_ADDRESS: Final = code_of(Decision(allowed=False, reason=Reason.BAD_ADDRESS, rule=""))

Hashed = tuple[list[Sequence[int]], dict[int, str]]
"""Row keys under each fingerprint key, and faults of rows."""


@dataclass(frozen=True, slots=True)
class Hasher:
    """The part that runs in other processes, before decisions are known."""

    layout: Layout
    channel: Channel
    fingerprints: Fingerprints

    def __call__(self, piece: Piece) -> Hashed:
        values, bad = addresses_of(piece, rows_of(piece, self.layout), layout=self.layout, channel=self.channel)
        return [keys_of_digests(digests) for digests in self.fingerprints.digests(self.channel, values)], bad


@dataclass(frozen=True, slots=True)
class Sorted:
    kept: bytes
    number: int
    removed: bytes
    reasons: Counter[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorter:
    layout: Layout
    message_class: MessageClass
    index: Index
    for_spreadsheets: bool = False

    def __call__(self, piece: Piece, hashed: Hashed) -> Sorted:
        keys, bad = hashed
        rows = rows_of(piece, self.layout)
        out = self._out(len(rows), keys, bad)
        removed, reasons = self._removed(piece, rows, out, bad)
        kept = _without(rows, out)
        return Sorted(self._text(kept), len(kept), self._text(removed), reasons)

    def _out(self, rows: int, keys: Sequence[Sequence[int]], bad: Iterable[int]) -> dict[int, int]:
        """Codes of removed rows, in order; the smallest code of an address counts."""
        found: dict[int, int] = {}
        for under_one_key in keys:
            for number, code in self.index.look_up(under_one_key):
                found[number] = min(code, found.get(number, code))
        if self.index.default < ALLOWED:
            found = dict.fromkeys(range(rows), self.index.default) | found
        found |= dict.fromkeys(bad, BAD_ADDRESS)
        return {number: code for number, code in sorted(found.items()) if code < ALLOWED}

    def _removed(
        self, piece: Piece, rows: Sequence[bytes], codes: Mapping[int, int], bad: Mapping[int, str]
    ) -> tuple[list[bytes], Counter[str]]:
        lines = list(accumulate((row.count(b"\n") + 1 for row in rows), initial=piece.line)) if bad else []
        blank = b' \t\r\n"' + self.layout.delimiter
        rules, removed, reasons = cache(self._cells), list[bytes](), Counter[str]()
        for number, code in codes.items():
            cells = rules(code)
            if number in bad:
                if not rows[number].strip(blank):
                    continue  # a blank line is not a row
                cells = self._added(Reason.BAD_ADDRESS, f"line {lines[number]}: {bad[number]}")
            removed.append(with_cells(rows[number], cells))
            reasons[reason_of(code).value] += 1
        return removed, reasons

    def _cells(self, code: int) -> bytes:
        return self._added(reason_of(code), f"{self.message_class}.{reason_of(code)}")

    def _added(self, reason: Reason, rule: str) -> bytes:
        return added_cells(self.layout, (reason.encode(), rule.encode()))

    def _text(self, rows: list[bytes]) -> bytes:
        if self.for_spreadsheets:
            rows = [harmless_row(row, self.layout) for row in rows]
        return b"\n".join(rows) + b"\n" if rows else b""


def _without(rows: list[bytes], out: Iterable[int]) -> list[bytes]:
    kept: list[bytes] = []
    start = 0
    for number in out:
        kept += rows[start:number]
        start = number + 1
    return kept + rows[start:]
