"""Validates operators' texts for headers, links and pages.

Invariant: a valid text cannot add a header field or reverse the direction of later text.
"""

from __future__ import annotations

import re
from typing import Final

_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Control characters, line and paragraph ends, direction marks (UAX #9) and surrogates. Not marks within words, which
some languages need."""


def is_one_line(text: str) -> bool:
    return not _CONTROLS.search(text)
