"""Cells that spreadsheet programs would take for formulas.

Owns which they are (OWASP, "CSV injection") and how they are made harmless. Invariant: nothing is altered unless
somebody asked for a file for people to look at, since another program would read the mark as part of the value.
"""

from __future__ import annotations

from typing import Final

STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a cell that is calculated begins with, full-width forms included."""


def harmless_cell(text: str) -> str:
    """The cell with a quote before it if it would be calculated: spreadsheet programs show it as text."""
    return f"'{text}" if text.startswith(STARTS) else text
