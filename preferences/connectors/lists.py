"""A provider's lists: names, pushes, pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from preferences.config import ConnectorSettings
from preferences.connectors.base import Push, Refusal
from preferences.domain.errors import Misconfigured, Rejected, TryLater
from preferences.domain.vocabulary import BLANKET


def require_lists(settings: ConnectorSettings, pattern: re.Pattern[str], *, example: str, everything: str = "") -> None:
    """Raises Misconfigured for an invalid list name, or a topic mapped to the list for everything."""
    for topic, list_ref in settings.topics.items():
        if everything and list_ref == everything and topic != BLANKET:
            raise Misconfigured(f"connector {settings.name}: {topic} maps to {everything}, which stops everything")
        if not pattern.fullmatch(list_ref):
            raise Misconfigured(f"connector {settings.name}: {topic} must map to a list such as {example}")


def by_list(pushes: Sequence[Push]) -> dict[tuple[str, bool], list[Push]]:
    groups: dict[tuple[str, bool], list[Push]] = {}
    for push in pushes:
        groups.setdefault((push.list_ref, push.is_lift), []).append(push)
    return groups


def push_each(pushes: Iterable[Push], call: Callable[[Push], None]) -> list[Refusal]:
    """Push with one call each. Rejected becomes a Refusal; the rest continue."""
    refusals = []
    for push in pushes:
        try:
            call(push)
        except Rejected as failure:
            refusals.append(Refusal(push.contact_id, str(failure)))
    return refusals


def pages(fetch: Callable[[int], Sequence[Any]]) -> Iterator[Any]:
    """Read a list by offset up to the first empty page. Raises TryLater if a page repeats.

    A short page is not the end.
    """
    offset, before = 0, None
    while page := fetch(offset):
        if page == before:
            raise TryLater("a list that does not end")
        yield from page
        offset, before = offset + len(page), page


def rows_of(page: Any) -> list[Mapping[str, Any]]:
    """Raises TryLater unless the page is a list of objects."""
    if not isinstance(page, list) or not all(isinstance(row, dict) for row in page):
        raise TryLater("a list that is not as documented")
    return page
