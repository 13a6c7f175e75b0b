"""Reports as `application/x-www-form-urlencoded`.

Invariant: a body that is no form is BadPayload; a field that is not UTF-8 does not affect the others.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

from preferences.domain.errors import BadPayload

MOST_FIELDS: Final = 500


def read_pairs(body: bytes) -> list[tuple[str, str]]:
    """The names and values, in order. Raises BadPayload."""
    try:
        text = body.decode("utf-8", "replace")
        return parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), errors="replace", max_num_fields=MOST_FIELDS
        )
    except ValueError:
        raise BadPayload("not a form") from None


def read_form(body: bytes) -> dict[str, str]:
    """The fields by name; the first of a repeated name counts."""
    return dict(reversed(read_pairs(body)))
