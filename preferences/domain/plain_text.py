"""Texts that a company gives once and that then stand in headers, links and pages.

Owns what such a text may hold. Invariant: none ends a header field or adds one, turns the direction of what stands
behind it, or gives a `mailto:` link more than its address.
"""

from __future__ import annotations

import re
from typing import Final

_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Control characters, ends of lines and paragraphs, marks that turn the direction of all that follows (UAX #9), and
halves of characters. Marks within a word, which some languages need, are none of these."""


def is_one_line(text: str) -> bool:
    """Whether it is one line of plain text."""
    return not _CONTROLS.search(text)
