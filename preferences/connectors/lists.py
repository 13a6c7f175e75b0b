"""Help with a provider's lists: their names in the mapping, pushes to them, and reading them page by page."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from preferences.config import ConnectorSettings
from preferences.connectors.base import Push, Refusal
from preferences.domain.errors import Misconfigured, Rejected, TryLater
from preferences.domain.vocabulary import BLANKET


def require_lists(settings: ConnectorSettings, pattern: re.Pattern[str], *, example: str, everything: str = "") -> None:
    """Raises Misconfigured for a list that cannot be this provider's, and for a topic mapped to the list for
    everything."""
    for topic, list_ref in settings.topics.items():
        if everything and list_ref == everything and topic != BLANKET:
            raise Misconfigured(f"connector {settings.name}: {topic} maps to {everything}, which stops everything")
        if not pattern.fullmatch(list_ref):
            raise Misconfigured(f"connector {settings.name}: {topic} must map to a list such as {example}")


def by_list(pushes: Sequence[Push]) -> dict[tuple[str, bool], list[Push]]:
    """`{(list_ref, is_lift): pushes}`, in order."""
    groups: dict[tuple[str, bool], list[Push]] = {}
    for push in pushes:
        groups.setdefault((push.list_ref, push.is_lift), []).append(push)
    return groups


def push_each(pushes: Iterable[Push], call: Callable[[Push], None]) -> list[Refusal]:
    """Push each with a call of its own. A push that is Rejected becomes a Refusal, and the rest go on."""
    refusals = []
    for push in pushes:
        try:
            call(push)
        except Rejected as failure:
            refusals.append(Refusal(push.contact_id, str(failure)))
    return refusals


def pages(fetch: Callable[[int], Sequence[Any]]) -> Iterator[Any]:
    """The rows of a list that is read by offset, up to the first empty page. Raises TryLater for a page that repeats.

    A short page is not the end: providers may give fewer rows than requested.
    """
    offset, before = 0, None
    while page := fetch(offset):
        if page == before:
            raise TryLater("a list that does not end")
        yield from page
        offset, before = offset + len(page), page


def rows_of(page: Any) -> list[Mapping[str, Any]]:
    """The objects in an answer. Raises TryLater when it is not a list of objects."""
    if not isinstance(page, list) or not all(isinstance(row, dict) for row in page):
        raise TryLater("a list that is not as documented")
    return page
