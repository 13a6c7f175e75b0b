"""Parsing of reports: JSON, rows, addresses, ids and times.

Invariants: an unreadable row is counted and does not affect the others; a body of unreadable rows alone is
BadPayload; our own errors are never taken for unreadable rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from preferences.address_parsing import read_address, read_mailbox
from preferences.connectors.base import Parsed
from preferences.domain.acts import ProviderEvent
from preferences.domain.errors import BadAddress, BadPayload
from preferences.domain.records import Address
from preferences.domain.vocabulary import Channel

LONGEST_ID: Final = 200
"""In characters."""

ODD: Final = (LookupError, TypeError, ValueError, AttributeError, RecursionError, OverflowError)
"""Raised by reading a malformed document."""

REPLACED: Final = "\N{REPLACEMENT CHARACTER}"

LONGEST_NUMBER: Final = 300
"""In digits; longer integers are read as text."""


def read_json(body: bytes) -> Any:
    """The document. Raises BadPayload.

    `json` reads what `orjson` refuses (lone surrogates, invalid UTF-8, control characters, long integers), since such a
    row must not cost the others.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        text = body.decode(json.detect_encoding(body), "replace")
        return json.loads(text, strict=False, parse_int=_whole_number)
    except (ValueError, RecursionError):
        raise BadPayload("not JSON") from None


def _whole_number(digits: str) -> int | str:
    return int(digits) if len(digits) <= LONGEST_NUMBER else digits


def part(document: Any, *path: str) -> dict[str, Any]:
    """The object at the end of a path, else an empty object."""
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else {}


def objects(rows: Any) -> list[dict[str, Any]]:
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def text_in(row: Mapping[str, Any], name: str) -> str:
    """Raises BadPayload if the text is missing or damaged."""
    found = row.get(name)
    if not isinstance(found, str) or REPLACED in found:
        raise BadPayload(f"without {name}")
    return found


def each_row(rows: Iterable[Any], read: Callable[[Any], Iterable[ProviderEvent]], *, of: type = dict) -> Parsed:
    """The events of all rows of type `of`. Raises BadPayload if no row can be read.

    Rows without events are ignored; rows that raise BadPayload or RecursionError are unreadable. Other exceptions
    propagate.
    """
    events: list[ProviderEvent] = []
    ignored = unreadable = 0
    for row in rows:
        try:
            found = _events_of(row, read, of)
        except (BadPayload, RecursionError):
            unreadable += 1
        else:
            events += found
            ignored += not found
    if unreadable and not events and not ignored:
        raise BadPayload("no row is as documented")
    return Parsed(events, ignored, unreadable=unreadable)


def _events_of(row: Any, read: Callable[[Any], Iterable[ProviderEvent]], of: type) -> list[ProviderEvent]:
    if not isinstance(row, of):
        raise BadPayload("not a row")
    return list(read(row))


def find_address(channel: Channel, text: object) -> Address | None:
    """The address in a text, with or without a name, or None."""
    if not isinstance(text, str):
        return None
    try:
        return read_mailbox(text) if channel is Channel.EMAIL else read_address(channel, text)
    except BadAddress:
        return None


def event_id(text: object) -> str | None:
    """The provider's event id; its digest if it is too long to store."""
    if not isinstance(text, str) or not text:
        return None
    plain = text.isascii() and text.isprintable() and len(text) <= LONGEST_ID
    return text if plain else hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def instant(value: Any) -> datetime | None:
    """A time in Unix seconds or ISO 8601 with a zone, else None (the time of receipt counts)."""
    try:
        if isinstance(value, str) and not value.replace(".", "", 1).isdecimal():
            at = datetime.fromisoformat(value)
            return at.astimezone(UTC) if at.tzinfo else None
        return None if isinstance(value, bool) else datetime.fromtimestamp(float(value), UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        return None
