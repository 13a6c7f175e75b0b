"""Reading what providers send: JSON, and batches in which one row may be odd.

Owns how a body of JSON becomes events. Invariants: a row that cannot be read is counted apart from those that are
nothing for us, and never takes a row beside it along; a body that holds nothing else is BadPayload; and a mistake of
our own is never taken for a row that cannot be read.
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
"""What reading a document raises when it is not as documented."""

REPLACED: Final = "\N{REPLACEMENT CHARACTER}"
"""What stands in the place of bytes that are no UTF-8."""

LONGEST_NUMBER: Final = 300
"""Digits of a whole number that is read as one: it fits a float, and Python's own bound is far above it."""


def read_json(body: bytes) -> Any:
    """The document. Raises BadPayload.

    Vendors cut subjects and names between the two halves of an emoji, and JavaScript writes such a half. `orjson` does
    not read it and `json` does, at several times the cost: so only where that is needed. What a mail server or a sender
    put into one row, such as bytes that are no UTF-8, a bare control character or a number of thousands of digits, must
    not cost the rows beside it either: the one is replaced, the next let in, and the last read as text.
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
    """The object at the end of a path; an empty one where there is none."""
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else {}


def objects(rows: Any) -> list[dict[str, Any]]:
    """The objects in a list; what else is there is left out."""
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def text_in(row: Mapping[str, Any], name: str) -> str:
    """The text of this name, which every row of its kind has, whole. Raises BadPayload."""
    found = row.get(name)
    if not isinstance(found, str) or REPLACED in found:
        raise BadPayload(f"without {name}")
    return found


def each_row(rows: Iterable[Any], read: Callable[[Any], Iterable[ProviderEvent]], *, of: type = dict) -> Parsed:
    """The events in each row, which is an object, or what `of` says. Raises BadPayload where none can be read.

    A row without any is counted as ignored. One that `read` raises BadPayload for is counted as unreadable, and so is
    one that is nested too deeply. Whatever else `read` raises is a mistake of ours, and goes up.
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
