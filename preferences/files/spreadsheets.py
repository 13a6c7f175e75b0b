"""Neutralises cells that spreadsheet programs calculate (OWASP, "CSV injection").

Invariant: only files for people are altered, since other programs would read the mark.
"""

from __future__ import annotations

from typing import Final

STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Start characters of formulas, including full-width forms."""


def harmless_cell(text: str) -> str:
    """Prefix a formula with a quote, which makes it text."""
    return f"'{text}" if text.startswith(STARTS) else text
