"""Reports that come as a form, and not as JSON.

Owns the reading of `application/x-www-form-urlencoded`. Invariant: what it cannot read as such is BadPayload, two
readers of the same bytes see the same names and values, and a field that is no UTF-8 takes no other along.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

from preferences.domain.errors import BadPayload

MOST_FIELDS: Final = 500


def read_pairs(body: bytes) -> list[tuple[str, str]]:
    """The names and values of a form, in order. Raises BadPayload."""
    try:
        text = body.decode("utf-8", "replace")
        return parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), errors="replace", max_num_fields=MOST_FIELDS
        )
    except ValueError:
        raise BadPayload("not a form") from None


def read_form(body: bytes) -> dict[str, str]:
    """The same by name; of a name that comes twice, the first counts. Raises BadPayload."""
    return dict(reversed(read_pairs(body)))
