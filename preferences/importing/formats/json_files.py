"""JSON exports as lines, with the CSV's column names.

Invariant: any text gives lines or BadExport.
"""

from __future__ import annotations

import json
from typing import Any, Final

from preferences.importing.formats.base import BadExport

_LISTS: Final = ("items", "Suppressions", "SuppressedDestinationSummaries", "Contacts")
"""Members that hold the list."""


def read_json(text: str) -> tuple[list[str], list[dict[str, str]]]:
    """Column names and lines. Raises BadExport."""
    try:
        found = json.loads(text, object_pairs_hook=_record)
    except (ValueError, RecursionError):
        raise BadExport("", "not well-formed JSON") from None
    if isinstance(found, dict):
        _check_whole(found)
        found = next((found[name] for name in _LISTS if name in found), found)
    if not isinstance(found, list) or not all(isinstance(record, dict) for record in found):
        raise BadExport("", "the JSON is not a list of records, and has none under a name that is known")
    lines = [_line(record) for record in found]
    return list(dict.fromkeys(name for line in lines for name in line)), lines


def _check_whole(document: dict[str, Any]) -> None:
    """Refuse a page that is not the last. (Mailgun's last page has no records.)"""
    paging = document.get("paging")
    follows = isinstance(paging, dict) and paging.get("next") and document.get("items")
    if document.get("NextToken") or follows:
        raise BadExport(
            "",
            "only one page of a list, and more may follow (NextToken, or paging.next); put the records of all pages"
            " into one list, as docs/moving-in.md shows",
        )


def _record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise BadExport("", "a record of the JSON has two values under one name; make the file again")
    return record


def _line(record: dict[str, Any]) -> dict[str, str]:
    line: dict[str, str] = {}
    for name, value in record.items():
        if name == "TopicPreferences" and isinstance(value, list):
            line |= _preferences(value)
        else:
            line[name] = _text(value)
    return line


def _preferences(values: list[Any]) -> dict[str, str]:
    """By topic, under the column names of the CSV."""
    pairs = [
        (f"topicPreferences.{preference.get('TopicName')}", _text(preference.get("SubscriptionStatus")))
        for preference in values
        if isinstance(preference, dict)
    ]
    return _record(pairs)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
