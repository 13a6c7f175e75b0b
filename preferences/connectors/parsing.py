"""Parsing of reports: JSON, batches of rows, addresses, ids and times.

Invariants: a row that cannot be read is counted apart and does not affect the others; a body of such rows alone is
BadPayload; an error of our own is never taken for an unreadable row.
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
"""Characters of an event's id."""

ODD: Final = (LookupError, TypeError, ValueError, AttributeError, RecursionError, OverflowError)
"""What is raised by reading a document that is not as documented."""

REPLACED: Final = "\N{REPLACEMENT CHARACTER}"
"""Replaces bytes that are not UTF-8."""

LONGEST_NUMBER: Final = 300
"""Digits of an integer; longer ones are read as text."""


def read_json(body: bytes) -> Any:
    """The document. Raises BadPayload.

    What `orjson` refuses is read by the slower `json`: lone surrogates, where a provider truncated a text inside an
    emoji; bytes that are not UTF-8 (replaced); control characters; integers of thousands of digits (read as text). One
    such row must not cost the others.
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
    """The object at the end of a path, or an empty object."""
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else {}


def objects(rows: Any) -> list[dict[str, Any]]:
    """The objects in a list. Everything else is left out."""
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def text_in(row: Mapping[str, Any], name: str) -> str:
    """A required text. Raises BadPayload if it is missing or damaged."""
    found = row.get(name)
    if not isinstance(found, str) or REPLACED in found:
        raise BadPayload(f"without {name}")
    return found


def each_row(rows: Iterable[Any], read: Callable[[Any], Iterable[ProviderEvent]], *, of: type = dict) -> Parsed:
    """The events of all rows, each of type `of`. Raises BadPayload where no row can be read.

    A row without events counts as ignored; a row for which `read` raises BadPayload, or that is nested too deeply, as
    unreadable. Other exceptions are ours and are raised.
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
    """The address in a provider's text, with or without a name beside it, or None."""
    if not isinstance(text, str):
        return None
    try:
        return read_mailbox(text) if channel is Channel.EMAIL else read_address(channel, text)
    except BadAddress:
        return None


def event_id(text: object) -> str | None:
    """The provider's id of an event. An id that is too long to store is replaced by its digest."""
    if not isinstance(text, str) or not text:
        return None
    plain = text.isascii() and text.isprintable() and len(text) <= LONGEST_ID
    return text if plain else hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def instant(value: Any) -> datetime | None:
    """A time in Unix seconds, or in ISO 8601 with a zone. None for anything else, which counts from receipt."""
    try:
        if isinstance(value, str) and not value.replace(".", "", 1).isdecimal():
            at = datetime.fromisoformat(value)
            return at.astimezone(UTC) if at.tzinfo else None
        return None if isinstance(value, bool) else datetime.fromtimestamp(float(value), UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        return None
