"""Reading what providers send: JSON, and batches in which one row may be odd.

Owns how a body of JSON becomes events. Invariant: a row that cannot be read is counted, and never takes a row beside it
along; only a body that holds no rows at all is BadPayload.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson

from preferences.connectors.base import Parsed
from preferences.domain.acts import ProviderEvent
from preferences.domain.errors import BadPayload

ODD: Final = (LookupError, TypeError, ValueError, AttributeError, RecursionError, OverflowError)
"""What reading a document raises when it is not as documented."""


def read_json(body: bytes) -> Any:
    """The document. Raises BadPayload.

    Vendors cut subjects and names between the two halves of an emoji, and JavaScript writes such a half. `orjson` does
    not read it and `json` does, at several times the cost: so only where that is needed.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise BadPayload("not JSON") from None


def part(document: Any, *path: str) -> dict[str, Any]:
    """The object at the end of a path; an empty one where there is none."""
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else {}


def objects(rows: Any) -> list[dict[str, Any]]:
    """The objects in a list; what else is there is left out."""
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def each_row(rows: Iterable[Any], read: Callable[[Any], Iterable[ProviderEvent]]) -> Parsed:
    """The events in each row. A row without any, or that is not as documented, is counted as ignored."""
    events: list[ProviderEvent] = []
    ignored = 0
    for row in rows:
        try:
            found = list(read(row))
        except ODD:
            found = []
        events += found
        ignored += not found
    return Parsed(events, ignored)
